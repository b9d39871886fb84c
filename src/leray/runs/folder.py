"""A run's folder: its configuration, its environment, what happened, and what came out.

::

    config.toml  env.json  status.json  events.jsonl  checkpoints/  samples.parquet
    verdicts.json  figures/  report.html  MANIFEST.sha256
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
import time
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from leray.errors import LerayError
from leray.runs.computation import Computation, State, configuration
from leray.runs.driver import Interrupted, OnStep, drive
from leray.runs.environment import environment
from leray.runs.events import append_event, now
from leray.runs.files import (
    MANIFEST,
    atomic_write,
    cannot_write,
    make_folder,
    remove_leftovers,
    write_manifest,
)
from leray.runs.parquet import write_samples
from leray.runs.progress import Progress, progress_line
from leray.runs.reopening import Before, cannot_go_on, read_config, read_status
from leray.runs.seeds import Key
from leray.runs.store import FolderStore
from leray.runs.toml import to_toml

Result = TypeVar("Result")

COMMAND = re.compile(r"[a-z]+( [a-z]+)*")


class RunFolder:
    """One run of a study; as a context manager it keeps the run's status true.

    On leaving, the status says ``done``, ``interrupted`` or ``failed``; where it is done, the
    samples and then the manifest are written. Made by `create` or `resume`.
    """

    def __init__(self, path: Path, status: dict[str, Any], config: dict[str, Any]) -> None:
        self.path = path
        self.study: str = status["study"]
        self.config = config
        command = status.get("command")
        if not (isinstance(command, str) and COMMAND.fullmatch(command)):
            command = f"study {self.study}"
        self.resume_command = f"leray {command} --resume {shlex.quote(str(path))}"
        self.store = FolderStore(path / "checkpoints", self.resume_command)
        self._status = status
        self._lock: int | None = None
        self._before: Before | None = None  # of a run that is opened again
        self._is_new = False

    @classmethod
    def create(
        cls,
        out: Path | None,
        study: str,
        config: Mapping[str, Any],
        command: str | None = None,
    ) -> RunFolder:
        """A new run in ``out``, or in ``runs/<study>-<UTC>-<hash of the configuration>``.

        Args:
            out: A folder that is empty or does not exist yet.
            study: The name of the study.
            config: Strings, numbers, booleans, lists and tables of these.
            command: What makes such a run; ``study <study>`` unless given.

        Raises:
            LerayError: The folder holds something already, or cannot be written.
        """
        text = to_toml(config)
        path = _new_folder(study, text) if out is None else _empty_folder(out, study)
        status = {"study": study, "state": "running", "started": now(), "finished": None}
        status |= {"command": command or f"study {study}"}
        status["directory"] = str(
            Path.cwd()
        )  # where relative paths of the configuration count from
        run = cls(path, {**status, "seconds": {}}, tomllib.loads(text))
        atomic_write(path / "config.toml", text)
        atomic_write(path / "env.json", json.dumps(environment(), indent=1) + "\n")
        run._write_status()
        run.event("run_created", study=study)
        run._is_new = True
        return run

    @classmethod
    def resume(cls, path: Path) -> RunFolder:
        """The run in a folder, finished or not, with its configuration and its store.

        Raises:
            LerayError: There is no run, or its files cannot be read.
        """
        return cls(path, read_status(path), read_config(path))

    def __enter__(self) -> RunFolder:
        self._lock = _lock(self.path)
        try:
            for folder in (self.path, self.path / "figures", *self.store.folder.glob("*")):
                remove_leftovers(folder)
            self._before = None if self._is_new else Before.of(self.path)
            self._status |= {"state": "running", "finished": None}
            self._write_status()
            (self.path / MANIFEST).unlink(missing_ok=True)
            self.event("run_started")
        except (OSError, LerayError) as error:
            if self._before is not None:
                self._before.restore(self.path)
            os.close(self._lock)
            if self._is_new:
                raise
            raise cannot_go_on(self.path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
            elif self._before is not None and self._before.stands(self.path):
                self._before.restore(self.path)  # what was refused or stopped leaves no trace
            else:
                self._end_in_error(error)
        finally:
            if self._lock is not None:
                os.close(self._lock)
        self._tell_how_to_go_on(error)

    def _finish(self) -> None:
        try:
            write_samples(self.path / "samples.parquet", self.store.recorded())
            self._end("done")
            write_manifest(self.path)
        except (LerayError, KeyboardInterrupt) as error:
            self._end_in_error(error)
            self._tell_how_to_go_on(error)
            raise

    def _tell_how_to_go_on(self, error: BaseException | None) -> None:
        """Say it where the error does not: stopped outside a computation, or no room on the disk.

        Raises:
            Interrupted: With the command, in place of a bare KeyboardInterrupt.
            LerayError: With the command, where the disk was full.
        """
        if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
            raise Interrupted(
                f"stopped; finished steps are saved; continue with: {self.resume_command}",
                self.resume_command,
            ) from error
        cause = None if error is None else error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            said = str(error).removesuffix(" or choose another folder")
            raise LerayError(f"{said}; then continue with: {self.resume_command}") from cause

    def drive(
        self,
        computation: Computation[Result],
        *,
        key: Key,
        workers: int = 1,
        scheduler: str | None = None,
        progress: Progress = progress_line,
        on_step: OnStep | None = None,
    ) -> Result:
        """`leray.runs.drive` with this run's store, its events and the seconds it took."""
        name = computation.name
        steps = {"shards": computation.num_shards, "steps": computation.num_steps}
        self.event("computation_started", computation=name, workers=workers, **steps)
        started = time.monotonic()
        try:
            result = drive(
                computation,
                store=self.store,
                key=key,
                workers=workers,
                scheduler=scheduler,
                progress=progress,
                on_step=on_step,
            )
        finally:
            seconds = time.monotonic() - started
            before = self._status["seconds"].get(name, 0.0)
            self._status["seconds"][name] = round(before + seconds, 3)
        self.event("computation_finished", computation=name, seconds=round(seconds, 3))
        self._write_status()
        return result

    def state_of(self, computation: Computation[Any], *, key: Key, shard: int = 0) -> State | None:
        """The state after the last step of a shard that is stored; None before the first."""
        name = computation.name
        steps = configuration(computation, key.child(name))
        return self.store.load(name, steps, shard, computation.num_steps)[1]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent on each computation, over all interruptions that were not kills."""
        return dict(self._status["seconds"])

    @property
    def directory(self) -> Path | None:
        """Where the run was started, so where its relative paths count from, if that is known."""
        found = self._status.get("directory")
        return Path(found) if isinstance(found, str) else None

    @property
    def state(self) -> str:
        """``running`` (also after a kill), ``done``, ``interrupted`` or ``failed``."""
        return self._status["state"]

    def event(self, event: str, **fields: Any) -> None:
        """Add a line to ``events.jsonl``; never the text of a conversation."""
        append_event(self.path / "events.jsonl", event, **fields)

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file of the run, such as ``report.html`` or ``figures/forest.svg``, whole."""
        path = self.path / name
        make_folder(path.parent)
        atomic_write(path, content)
        return path

    def write_verdicts(self, verdicts: Iterable[Any]) -> None:
        """Write ``verdicts.json``: a list of mappings or dataclasses; NaN is refused."""
        text = json.dumps(list(verdicts), indent=1, allow_nan=False, default=_plain)
        self.write("verdicts.json", text + "\n")

    def _write_status(self) -> None:
        atomic_write(self.path / "status.json", json.dumps(self._status, indent=1) + "\n")

    def _end(self, state: str, **fields: Any) -> None:
        self._status |= {"state": state, "finished": now()}
        self._write_status()
        self.event(f"run_{state}", **fields)

    def _end_in_error(self, error: BaseException) -> None:
        """Say how it ended; where even that cannot be written, the first error matters more."""
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        known = isinstance(error, LerayError | Interrupted)
        reason = str(error) if known else type(error).__name__
        try:
            self._end(state, reason=reason)
        except LerayError:
            return


def _new_folder(study: str, config_text: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    mark = hashlib.sha256(f"{study}\n{config_text}".encode()).hexdigest()[:8]
    make_folder(Path("runs"))
    for attempt in count(1):
        path = Path("runs") / f"{study}-{stamp}-{mark}{'' if attempt == 1 else f'-{attempt}'}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise cannot_write(path, error) from error
        return path
    raise AssertionError("count never ends")


def _empty_folder(out: Path, study: str) -> Path:
    make_folder(out)
    if not any(out.iterdir()):
        return out
    if _study_in(out) == study:
        raise LerayError(
            f"{out} holds a run of {study!r}: go on with it by --resume {shlex.quote(str(out))}, "
            "or give --out an empty or new folder"
        )
    raise LerayError(f"{out} is not empty: give --out an empty or new folder")


def _study_in(path: Path) -> str | None:
    try:
        return json.loads((path / "status.json").read_bytes())["study"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lock(path: Path) -> int:
    """Keep other processes out of this run; the lock ends with the process."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LerayError(
            f"another process is working on {path}: wait for it, or stop it first"
        ) from error
    except OSError:
        return descriptor
    return descriptor


def _plain(value: Any) -> Any:
    """What JSON has no word for: dataclasses and numpy's arrays and numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")

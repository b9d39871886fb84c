"""A run's folder opened again: what it must hold, and how it is put back if nothing came of it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.errors import LerayError
from leray.runs.files import MANIFEST, atomic_write

STATUS, CONFIG, EVENTS = "status.json", "config.toml", "events.jsonl"
STATES = ("running", "done", "interrupted", "failed")


@dataclass(frozen=True, slots=True)
class Before:
    """A run's folder before it was opened again: what opening changes, and the mark of the rest."""

    contents: Mapping[str, bytes | None]
    rest: frozenset[tuple[str, int, int]]

    @classmethod
    def of(cls, path: Path) -> Before:
        files = {name: path / name for name in (STATUS, EVENTS, MANIFEST)}
        contents = {n: f.read_bytes() if f.exists() else None for n, f in files.items()}
        return cls(contents, cls._rest(path))

    def stands(self, path: Path) -> bool:
        """Whether no other file was written since."""
        return self._rest(path) == self.rest

    def restore(self, path: Path) -> None:
        """Put back what opening changed; where that cannot be written, the first error matters."""
        try:
            for name, content in self.contents.items():
                if content is None:
                    (path / name).unlink(missing_ok=True)
                else:
                    atomic_write(path / name, content)
        except (OSError, LerayError):
            return

    @staticmethod
    def _rest(path: Path) -> frozenset[tuple[str, int, int]]:
        own = {path / name for name in (STATUS, EVENTS, MANIFEST)}
        states = ((str(p), p.stat()) for p in path.rglob("*") if p not in own and p.is_file())
        return frozenset((name, s.st_size, s.st_mtime_ns) for name, s in states)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LerayError(
            f"{path.parent} is no run folder, for it has no {path.name}: "
            "name the folder that a run printed"
        ) from error
    except OSError as error:
        raise LerayError(f"cannot read {path}: {error.strerror}") from error


def read_status(path: Path) -> dict[str, Any]:
    """The checked content of ``status.json``."""
    file = path / STATUS
    content = _read(file)
    try:
        status = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"it is not JSON ({error})" if content else "it is empty") from error
    if not isinstance(status, dict):
        raise _damaged(file, "it is no object in braces")
    if not isinstance(status.get("study"), str):
        raise _damaged(file, "'study' is no text")
    if status.get("state") not in STATES:
        raise _damaged(file, f"'state' is not one of {', '.join(STATES)}")
    seconds = status.get("seconds")
    if not isinstance(seconds, dict) or not all(type(s) in (int, float) for s in seconds.values()):
        raise _damaged(file, "'seconds' is no object of numbers")
    return status


def read_config(path: Path) -> dict[str, Any]:
    """The content of ``config.toml``; what its keys mean is the study's to check."""
    file = path / CONFIG
    try:
        return tomllib.loads(_read(file).decode())
    except ValueError as error:
        raise _damaged(file, f"it is not TOML ({error})") from error


def check_config(
    config: Mapping[str, Any], path: Path, types: Mapping[str, type], required: Collection[str]
) -> None:
    """Refuse settings that no run wrote: a key missing, or a value of another type.

    Args:
        config: What ``config.toml`` holds.
        path: The run's folder, for the message.
        types: The type of each key's value.
        required: The keys that must be there.
    """
    file = path / CONFIG
    for key in required:
        if key not in config:
            raise _damaged(file, f"it does not say {key!r}")
    for key, kind in types.items():
        if key in config and type(config[key]) is not kind:
            found, allowed = type(config[key]).__name__, kind.__name__
            raise _damaged(file, f"{key!r} is {found}; allowed: {allowed}")


def _damaged(file: Path, reason: str) -> LerayError:
    mend = "restore it from a copy, or start a new run"
    if file.name == STATUS:
        fresh = {"study": "importance", "state": "interrupted", "seconds": {}}
        mend = f"restore it from a copy, or write {json.dumps(fresh)} into it (with its study)"
    return LerayError(f"{file} is damaged, for {reason}: {mend}")


def cannot_go_on(path: Path, error: OSError | LerayError) -> LerayError:
    """One line for a folder that cannot be written; --out would not help here."""
    reason = error.strerror if isinstance(error, OSError) else str(error).split(": choose")[0]
    return LerayError(
        f"cannot go on with the run in {path} ({reason}): copy the folder to where you may write "
        "and there is space, and give --resume the copy"
    )

"""Where the samples of a computation go, and how much of it is there when it comes back.

A shard's steps are kept in order. Its state is needed only to go on, so the folder keeps the states
of the last two steps: should the last file be torn by a power cut, its step is done again from the
one before.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from leray.errors import LerayError
from leray.runs.computation import (
    Configuration,
    Finished,
    Samples,
    State,
    array_bytes,
    canonical_samples,
    canonical_state,
)
from leray.runs.files import atomic_write, make_folder

STEP_FILE = re.compile(r"(\d+)-(\d+)\.safetensors")


@runtime_checkable
class Store(Protocol):
    """Where the driver keeps finished steps."""

    @property
    def resume_command(self) -> str | None:
        """What a user types to go on; None where nothing outlives the process."""
        ...

    def load(
        self, name: str, configuration: Configuration, shard: int, num_steps: int
    ) -> tuple[list[Samples], State | None]:
        """The samples of a shard's finished steps and the state after them (None before step 0).

        Raises:
            LerayError: They were made with another configuration.
        """
        ...

    def save(self, name: str, configuration: Configuration, finished: Finished) -> None:
        """Keep one step, whole or not at all; steps of a shard come in order."""
        ...


@dataclass(slots=True)
class MemoryStore:
    """Keeps samples as long as the process lives.

    Args:
        resume_command: What goes on after an interruption, where the steps themselves keep what
            they make elsewhere (as embeddings do in their cache).
    """

    steps: dict[tuple[str, int], list[Samples]] = field(default_factory=dict)
    states: dict[tuple[str, int], State] = field(default_factory=dict)
    configurations: dict[str, Configuration] = field(default_factory=dict)
    resume_command: str | None = None

    def load(
        self, name: str, configuration: Configuration, shard: int, num_steps: int
    ) -> tuple[list[Samples], State | None]:
        """What ``save`` was given."""
        _refuse_other(name, self.configurations.get(name, configuration), configuration)
        return list(self.steps.get((name, shard), [])[:num_steps]), self.states.get((name, shard))

    def save(self, name: str, configuration: Configuration, finished: Finished) -> None:
        """Keep the samples, and the state in place of the one before."""
        kept = self.steps.setdefault((name, finished.shard), [])
        assert finished.step == len(kept), "steps of a shard come in order"
        kept.append(finished.samples)
        self.states[name, finished.shard] = finished.state
        self.configurations[name] = configuration


@dataclass(frozen=True, slots=True)
class FolderStore:
    """One safetensors file a step: ``<folder>/<computation>/<shard>-<step>.safetensors``.

    Args:
        folder: The checkpoints of a run.
        resume_command: What a user types to go on with this run.
    """

    folder: Path
    resume_command: str | None = None

    def load(
        self, name: str, configuration: Configuration, shard: int, num_steps: int
    ) -> tuple[list[Samples], State | None]:
        """The longest run of whole files from step 0 on whose last one carries a state.

        Where all steps are there, the state is not needed, and may have been taken out.
        """
        samples: list[Samples] = []
        usable, last_state = 0, None
        for step in range(num_steps):
            record = _read(self._path(name, shard, step))
            if record is None:
                break
            _refuse_other(name, record.configuration, configuration)
            samples.append(record.samples)
            if record.state is not None:
                usable, last_state = step + 1, record.state
        if len(samples) == num_steps:
            return samples, last_state if usable == num_steps else None
        return samples[:usable], last_state

    def save(self, name: str, configuration: Configuration, finished: Finished) -> None:
        """Write the step, then take the state out of the file of two steps before."""
        path = self._path(name, finished.shard, finished.step)
        make_folder(path.parent)
        atomic_write(path, _encode(_Record(configuration, finished.state, finished.samples)))
        if finished.step >= 2 and finished.state:
            self._drop_state(self._path(name, finished.shard, finished.step - 2))

    def recorded(self) -> Iterator[tuple[str, int, int, Samples]]:
        """Every whole step: computation, shard, step and samples, in order."""
        for folder in sorted(p for p in self.folder.glob("*") if p.is_dir()):
            found = (STEP_FILE.fullmatch(path.name) for path in folder.iterdir())
            for shard, step in sorted((int(m[1]), int(m[2])) for m in found if m):
                record = _read(self._path(folder.name, shard, step))
                if record is not None:
                    yield folder.name, shard, step, record.samples

    def _path(self, name: str, shard: int, step: int) -> Path:
        return self.folder / name / f"{shard}-{step}.safetensors"

    def _drop_state(self, path: Path) -> None:
        record = _read(path)
        if record is not None and record.state is not None:
            atomic_write(path, _encode(_Record(record.configuration, None, record.samples)))


@dataclass(frozen=True, slots=True)
class _Record:
    """A step on disk; the state is None where it was taken out."""

    configuration: Configuration
    state: State | None
    samples: Samples


def _encode(record: _Record) -> bytes:
    """A safetensors file; its metadata is one JSON text, so that equal steps give equal files.

    The text holds the configuration, the plain numbers of the state, and a checksum of everything.
    """
    state = record.state or {}
    tensors = {f"state.{k}": v for k, v in state.items() if isinstance(v, np.ndarray)}
    tensors |= {f"samples.{k}": v for k, v in record.samples.items()}
    numbers = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    head: dict[str, Any] = {
        "configuration": record.configuration,
        "numbers": None if record.state is None else numbers,
    }
    head["checksum"] = _checksum(tensors, head)
    return save_tensors(tensors, {"step": json.dumps(head, sort_keys=True)})


def _read(path: Path) -> _Record | None:
    """A step from its file; None where the file is missing or torn."""
    try:
        data = path.read_bytes()
        return _decode(data)
    except FileNotFoundError:
        return None
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise LerayError(f"cannot read {path}: {error.strerror}") from error


def _decode(data: bytes) -> _Record:
    header_size = int.from_bytes(data[:8], "little")
    head: dict[str, Any] = json.loads(json.loads(data[8 : 8 + header_size])["__metadata__"]["step"])
    checksum = head.pop("checksum")
    tensors = load_tensors(data)
    if _checksum(tensors, head) != checksum:
        raise ValueError("the checksum does not match")
    numbers = head["numbers"]
    state = None if numbers is None else canonical_state({**numbers, **_below("state.", tensors)})
    samples = canonical_samples(_below("samples.", tensors))
    return _Record(head["configuration"], state, samples)


def _below(prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a prefix by name; safetensors gives them in another order each time."""
    return {k.removeprefix(prefix): v for k, v in sorted(tensors.items()) if k.startswith(prefix)}


def _checksum(tensors: dict[str, np.ndarray], head: dict[str, Any]) -> str:
    whole = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        whole.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        whole.update(array_bytes(array))
    return whole.hexdigest()


def _refuse_other(name: str, stored: Configuration, asked: Configuration) -> None:
    """Refuse to go on with steps that other settings, data or seed made."""
    other = sorted(k for k in stored | asked if stored.get(k) != asked.get(k))
    if not other:
        return
    pairs = {k: (stored.get(k, "absent"), asked.get(k, "absent")) for k in other}
    hashed = [k for k, pair in pairs.items() if all(v.startswith("sha256:") for v in pair)]
    data = [k for k in hashed if k != "key"]
    settings = [f"{k} was {a}, now {b}" for k, (a, b) in pairs.items() if k not in hashed]
    said = ["the seed differs from that of that run"] if "key" in hashed else []
    if settings:
        said.append(f"the settings differ from those of that run ({'; '.join(settings)})")
    if data:
        said.append(f"the data differ from those of that run ({', '.join(data)})")
    raise LerayError(
        f"the stored steps of {name!r} cannot be used, for {' and '.join(said)}: put back what has "
        "changed, or start a new run"
    )

"""The step contract: what a long computation must be for the driver to run it.

A computation has shards, which are independent of each other, and every shard has steps, which
follow each other::

    state = init(shard, key)
    state, samples = step(state, 0, key of step 0)
    state, samples = step(state, 1, key of step 1)
    ...
    result(all samples, by shard and step)

``init`` and ``step`` are pure: what they return is a function of what they are given. This is why
a step that was lost can be done again, in any process, and give the same bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from leray.runs.seeds import Key

State = dict[str, np.ndarray | int | float]
"""What a shard carries from step to step; empty where steps do not depend on each other."""

Samples = dict[str, np.ndarray]
"""What a step yields, by name."""

Configuration = dict[str, str]
"""What the numbers of a computation depend on, field by field; see `configuration`."""

Result_co = TypeVar("Result_co", covariant=True)

KINDS = "biuf"
"""The kinds of array that are kept: booleans, integers, and floats of at most 64 bits."""


@runtime_checkable
class Computation(Protocol[Result_co]):
    """A long computation, cut into shards and steps; a frozen dataclass implements it.

    Its fields are all that its numbers depend on besides the key, data included: they are sent to
    each worker once, and a resume with other fields is refused. Its module imports at the top what
    a step needs, since the number of threads is fixed once, before the first step.
    """

    @property
    def name(self) -> str:
        """Unique within a run; letters, digits, ``_``, ``-`` and ``.``."""
        ...

    @property
    def num_shards(self) -> int:
        """Independent pieces, which may run in parallel; never a function of the workers."""
        ...

    @property
    def num_steps(self) -> int:
        """Steps in each shard; one step is what Ctrl-C waits for and what a power cut costs."""
        ...

    def init(self, shard: int, key: Key) -> State:
        """The state before a shard's first step."""
        ...

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:
        """The next state and what this step yields; the arrays given are read-only."""
        ...

    def result(self, samples: list[list[Samples]]) -> Result_co:
        """What the samples, by shard and step, say together."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A step that was made: where it belongs, the state after it and what it yielded."""

    shard: int
    step: int
    state: State
    samples: Samples


def canonical_state(state: Mapping[str, Any]) -> State:
    """The state as it is after storing and reading: read-only arrays in C order, or plain numbers.

    Every state passes through here, stored or not, because a sum over an array in Fortran order
    may differ in the last bit from the same sum after a resume.
    """
    return {
        name: value if type(value) in (int, float) else _canonical_array(name, value)
        for name, value in state.items()
    }


def canonical_samples(samples: Mapping[str, Any]) -> Samples:
    """The samples as read-only arrays in C order."""
    return {name: _canonical_array(name, value) for name, value in samples.items()}


def configuration(computation: Computation, key: Key) -> Configuration:
    """All that the numbers of a computation depend on, field by field, as short texts.

    Numbers and options stand as they are; data, and texts that are long, as their SHA-256. Two
    configurations are equal exactly when every field and the key are. A field that a later version
    added, which has ``metadata={"added": True}``, counts only where it is not at its default; one
    with ``metadata={"counts": False}``, such as a device, changes how numbers are rounded, no more.

    Raises:
        TypeError: The computation is no dataclass, or a field holds what cannot be compared.
    """
    if not dataclasses.is_dataclass(computation):
        raise TypeError(f"{type(computation).__name__} must be a dataclass to be driven")
    settings = _settings(computation)
    fields = {
        f.name: getattr(computation, f.name)
        for f in dataclasses.fields(computation)
        if f.metadata.get("counts", True) and (f.name in settings or "added" not in f.metadata)
    }
    described = {name: _described(value) for name, value in fields.items()}
    shape = {"num_shards": str(computation.num_shards), "num_steps": str(computation.num_steps)}
    kind = f"{type(computation).__module__}.{type(computation).__qualname__}"
    return {**described, **shape, "computation": kind, "key": _described(key.path)}


def array_bytes(array: np.ndarray) -> memoryview:
    """The bytes of an array in C order, copied only where it lies otherwise in memory."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _canonical_array(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{name!r} is {type(value).__name__}; steps keep numpy arrays")
    array = np.asarray(value)
    if array.dtype.kind not in KINDS or array.dtype.itemsize > 8:
        raise TypeError(f"{name!r} has dtype {array.dtype}; kept are bool, int and float to 64 bit")
    native = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C").view()
    native.flags.writeable = False
    return native


def _described(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str) and len(value) <= 40:
        return repr(value)
    whole = hashlib.sha256()
    _absorb(whole, value)
    return f"sha256:{whole.hexdigest()[:32]}"


def _absorb(whole: Any, value: Any) -> None:
    """Hash a value with its type and size, so that no two values give the same bytes."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        whole.update(f"array {array.dtype.str} {array.shape} ".encode())
        if array.dtype.hasobject:
            _absorb(whole, array.ravel().tolist())
        else:
            whole.update(array_bytes(array))
    elif isinstance(value, Mapping):
        _absorb(whole, [item for pair in value.items() for item in pair])
    elif isinstance(value, tuple | list):
        whole.update(f"sequence {len(value)} ".encode())
        for item in value:
            _absorb(whole, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _absorb(whole, [type(value).__qualname__, _settings(value)])
    else:
        text = _plain_text(value)
        whole.update(f"{type(value).__name__} {len(text)} ".encode() + text)


def _settings(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults.

    So a run goes on after a later version has given a configuration one more option, as long as
    that is off by default. A default that changes what is computed must not be changed without a
    new name.
    """
    found = {}
    for f in dataclasses.fields(value):
        here = getattr(value, f.name)
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        same = type(here) is type(default) and not isinstance(here, np.ndarray) and here == default
        if not same:
            found[f.name] = here
    return found


def _plain_text(value: Any) -> bytes:
    if value is None or isinstance(value, bool | int | float | str):
        return str(value).encode() if isinstance(value, str) else repr(value).encode()
    if isinstance(value, FunctionType) and "<" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}".encode()
    raise TypeError(
        f"a computation's field holds {type(value).__name__}, which cannot be compared with a "
        "stored one; use numbers, text, arrays, functions of a module, and dataclasses of these"
    )

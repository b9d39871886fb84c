"""Signals that compare a turn with all turns before it, computed once and kept on disk.

Surprise looks at the 50 turns before, habituation at all of them: n²/2 · dim multiplications for
n turns. Both depend on nothing that comes later, so they are kept in spans of turns, each under the
hash of all embeddings up to its end: a history that has grown finds the spans it had before.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from leray.errors import LerayError
from leray.memory import signals
from leray.runs.files import atomic_write, make_folder

Array = np.ndarray
SPAN = 4096  # turns a file; up to so many take a fraction of a second and are not kept
_TILE = 2048  # turns compared with others at a time
_CELLS = 1 << 22  # cosines at a time: 16 MiB
_CHECKSUM = hashlib.sha256().digest_size

Measure = Callable[[Array, int, int], Array]
"""Values of the turns ``start:stop``, from the unit embeddings of all turns."""


def surprise(E: Float[Array, "n dim"], start: int, stop: int) -> Float[Array, " span"]:
    """`leray.memory.signals.surprise` of the turns ``start:stop``."""
    first = max(0, start - signals.SURPRISE_WINDOW)
    some = E[first:stop]
    return signals.surprise(some, some)[start - first :]


def habituation(E: Float[Array, "n dim"], start: int, stop: int) -> Float[Array, " span"]:
    """`leray.memory.signals.habituation` of the turns ``start:stop``."""
    threshold = signals.HABITUATION_COSINE
    some = E[start:stop]
    count = signals.num_echoes(some, some, threshold)
    for a in range(0, stop - start, _TILE):
        rows = some[a : a + _TILE]
        step = _CELLS // len(rows)  # one turn alone is compared with all at once
        for b in range(0, start, step):
            near = rows @ E[b : min(b + step, start)].T >= threshold
            count[a : a + _TILE] += np.count_nonzero(near, axis=1)
    return 1.0 / (1.0 + count)


MEASURES: dict[str, Measure] = {"surprise": surprise, "habituation": habituation}


def look_back(
    name: str,
    E: Float[Array, "n dim"],
    folder: Path | None,
    on_span: Callable[[int], None] | None = None,
) -> Float[Array, " n"]:
    """A signal of all turns, the spans that were computed before read from the folder.

    Args:
        name: ``surprise`` or ``habituation``.
        E: Unit embeddings, float32.
        folder: Where spans are kept; None keeps nothing.
        on_span: Told after each span how many turns are done.

    Warns:
        UserWarning: The folder cannot be written; the values are right even so.
    """
    measure, n = MEASURES[name], len(E)
    spans = _spans(E) if folder is not None and n > SPAN else _unnamed_spans(n)
    values = []
    for start, stop, mark in spans:
        file = None if folder is None or mark is None else folder / f"{name}-{mark}.f32"
        found = None if file is None else _read(file, stop - start)
        if found is None:
            found = measure(E, start, stop).astype("<f4")
            if file is not None and not _keep(file, found):
                folder = None
        values.append(found)
        if on_span is not None:
            on_span(stop)
    return np.concatenate(values) if values else np.zeros(0, np.float32)


def _unnamed_spans(n: int) -> Iterator[tuple[int, int, None]]:
    return ((a, min(a + SPAN, n), None) for a in range(0, n, SPAN))


def _spans(E: Array) -> Iterator[tuple[int, int, str]]:
    """Spans with the hash of all that their values depend on."""
    constants = (signals.SURPRISE_WINDOW, signals.HABITUATION_COSINE, E.shape[1])
    digest = hashlib.sha256(f"leray look back 1 {constants}".encode())
    for start in range(0, len(E), SPAN):
        rows = np.ascontiguousarray(E[start : start + SPAN], dtype="<f4")
        digest.update(rows.data)
        yield start, start + len(rows), digest.hexdigest()


def _read(file: Path, num_turns: int) -> Array | None:
    """The values of a span, where the file is there and undamaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    checksum, values = content[:_CHECKSUM], content[_CHECKSUM:]
    if len(values) != 4 * num_turns or hashlib.sha256(values).digest() != checksum:
        return None
    return np.frombuffer(values, dtype="<f4")


def _keep(file: Path, values: Array) -> bool:
    content = values.tobytes()
    try:
        make_folder(file.parent)
        atomic_write(file, hashlib.sha256(content).digest() + content)
    except LerayError as error:
        warnings.warn(f"signals of the turns are not kept: {error}", stacklevel=4)
        return False
    return True

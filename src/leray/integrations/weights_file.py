"""Weights on disk: one readable JSON file (``docs/memory.md``)."""

from __future__ import annotations

from pathlib import Path

from leray.data.reading import decode, open_bytes
from leray.errors import LerayError
from leray.memory.weights import LinearWeights
from leray.runs.files import atomic_write

MOST_BYTES = 1 << 24  # a weights file has kilobytes; what is larger is something else


def read_weights(path: Path) -> LinearWeights:
    """The weights in a file.

    Raises:
        LerayError: One line with the path and what is wrong.
    """
    with open_bytes(path) as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise LerayError(f"{str(path)!r} has more than {MOST_BYTES >> 20} MiB: no weights file")
    text = decode(raw, path)
    try:
        return LinearWeights.from_json(text)
    except LerayError as error:
        raise LerayError(f"{str(path)!r}: {error}") from None


def write_weights(path: Path, weights: LinearWeights) -> None:
    """Write the weights, the whole file or nothing.

    Raises:
        LerayError: It cannot be written.
    """
    atomic_write(path, weights.to_json())

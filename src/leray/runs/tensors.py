"""Files in safetensors, which hold no code: opened in one way, and refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from leray.errors import LerayError, plain

PICKLED = (b"\x80", b"PK\x03\x04")
"""How a pickle begins, and the archive of pickles that torch.save writes."""


@contextmanager
def open_tensors(path: Path, device: str = "cpu") -> Iterator[Any]:
    """The tensors of a file by name, as ``safetensors.safe_open`` gives them.

    Raises:
        LerayError: The file cannot be read or is not safetensors; a pickle is never loaded.
        FileNotFoundError: There is none.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except (LerayError, FileNotFoundError):
        raise
    except OSError as error:
        raise LerayError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise LerayError(f"cannot read {path}: {_reason(path, error)}") from error


def check_tensors(path: Path) -> None:
    """Refuse a file of weights before another library opens it.

    Raises:
        LerayError: As :func:`open_tensors`.
        FileNotFoundError: There is none.
    """
    with open_tensors(path):
        pass


def _reason(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        begins = file.read(4)
    if begins.startswith(PICKLED):
        return (
            "it is not safetensors but begins as a pickle does, which can run code and is never "
            "loaded; save the weights as safetensors"
        )
    reason = plain(str(error)).removeprefix("Error while deserializing header: ")
    return (
        f"it is no whole safetensors file ({reason}), perhaps a pickle, which is never loaded; "
        "save the weights as safetensors, or take another copy"
    )

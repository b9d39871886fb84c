"""The files that a command writes or draws into: refused before the work where they cannot be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leray.errors import LerayError

if TYPE_CHECKING:
    from leray.figures.style import Picture

KINDS = (".png", ".svg")


def check_output(path: Path | None, option: str = "--figure", kinds: Sequence[str] = KINDS) -> None:
    """Refuse a name that says no kind, or a folder that is not there, before the work.

    Raises:
        LerayError: So it is.
    """
    if path is None:
        return
    if path.suffix.lower() not in kinds:
        raise LerayError(f"{option} must end in {' or '.join(kinds)}; got {str(path)!r}")
    if path.is_dir() or not path.parent.is_dir():
        raise LerayError(f"{option} {str(path)!r} is a folder, or lies in none; give a file in a "
                         "folder that is there")  # fmt: skip


def wants_pixels(path: Path) -> bool:
    """Whether the name asks for a PNG."""
    return path.suffix.lower() == ".png"


def write_figure(path: Path, picture: Picture) -> None:
    """Write the kind that the name says, whole or not at all.

    Raises:
        LerayError: It cannot be written.
    """
    from leray.runs.files import atomic_write

    atomic_write(path, picture.png if wants_pixels(path) else picture.svg)
    print(f"figure: {path}", file=sys.stderr)

"""Simplicial complexes from a text file: one facet a line, its faces implied.

A line holds the vertices of a facet as integers separated by blanks, and may end in ``#`` and a
number, the level at which the facet enters a filtration. Empty lines, and lines that begin with
``#``, are skipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from leray.errors import LerayError, plain

LARGEST_VERTEX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Simplices:
    """The facets of a file and the level of each, None where the file gives none."""

    facets: list[tuple[int, ...]]
    levels: list[float] | None


def read_simplices(path: Path) -> Simplices:
    """Read a file of facets.

    Raises:
        LerayError: The file cannot be read, a line is no facet, some lines have a level and others
            do not, or there is no facet at all. The line is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LerayError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    facets, levels = [], []
    for number, line in enumerate(text.splitlines(), 1):
        vertices, mark, level = line.partition("#")
        if not vertices.strip():
            continue
        facets.append(_facet(vertices, f"{path}, line {number}"))
        if mark:
            levels.append(_level(level, f"{path}, line {number}"))
    if not facets:
        raise LerayError(f"{path} holds no facet: write one a line, such as 0 1 2")
    if levels and len(levels) != len(facets):
        raise LerayError(
            f"{path}: {len(levels)} of {len(facets)} facets have a level after #; give all or none"
        )
    return Simplices(facets, levels or None)


def _facet(text: str, where: str) -> tuple[int, ...]:
    try:
        facet = tuple(map(int, text.split()))
    except ValueError as error:
        raise LerayError(
            f"{where}: {plain(text.strip())!r} is no facet; write integers separated by blanks, "
            "such as 0 1 2"
        ) from error
    if any(abs(v) > LARGEST_VERTEX for v in facet):
        raise LerayError(f"{where}: a vertex is beyond ±{LARGEST_VERTEX}")
    if len(set(facet)) < len(facet):
        raise LerayError(f"{where}: {plain(text.strip())!r} has a vertex twice")
    return facet


def _level(text: str, where: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not math.isfinite(level):
        raise LerayError(f"{where}: {plain(text.strip())!r} after # is no level; write a number")
    return level

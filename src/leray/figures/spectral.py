"""The pages of a spectral sequence: a grid for each, its terms as numbers, its maps as arrows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from leray.figures import numbers
from leray.figures.style import (
    BLUE,
    INK,
    QUIET,
    RULE,
    VERMILLION,
    Picture,
    canvas,
    house_style,
    lines,
    note,
    place,
    smooth,
    to_picture,
)

MOST_PANELS = 24
_WIDEST = 7.0  # inches that the cells of one panel may take with their numbers
_SHADED = 3.2  # inches that they take where there are more: then shaded, without numbers
_ROW = 13.0  # inches that the panels of one row may take together
_LEFT, _BOTTOM, _RIGHT, _TOP = 0.42, 0.34, 0.2, 0.34  # inches about a grid
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class _Grid:
    """Where cells stand: what p and q they have, and the inches from one to the next."""

    p: range
    q: range
    pitch: tuple[float, float]
    box: tuple[float, float]
    numbered: bool

    @property
    def size(self) -> tuple[float, float]:
        """Of a panel with its margins, in inches."""
        width, height = len(self.p) * self.pitch[0], len(self.q) * self.pitch[1]
        return width + _LEFT + _RIGHT, height + _BOTTOM + _TOP


def spectral_pages(result: dict[str, Any]) -> Picture:
    """What `leray algebra pages --json` prints, page by page, E_∞ last."""
    panels, left_out = _panels(result)
    grid = _grid([terms for _, terms, _ in panels], [maps for _, _, maps in panels])
    caption = _caption(result, grid, left_out, panels)
    with house_style():
        figure, corners = _sheet(grid, len(panels), caption)
        for (title, terms, maps), (x, y) in zip(panels, corners, strict=True):
            width, height = figure.get_size_inches()
            axes = place(
                figure,
                x + _LEFT,
                y + _BOTTOM,
                width - x - grid.size[0] + _RIGHT,
                height - y - grid.size[1] + _TOP,
            )
            _panel(axes, grid, title, terms, maps)
        note(figure, caption)
        return to_picture(
            figure,
            name="spectral-pages",
            title="The pages of a spectral sequence",
            caption=caption,
            alt=f"{caption} It stabilises at E_{result['stabilizes_at']}. "
            + " ".join(f"{title}: {_said(terms)}." for title, terms, _ in panels),
            pixels=True,
        )


def _panels(result: dict[str, Any]) -> tuple[list[tuple[str, list[Any], list[Any]]], int]:
    """Title, terms and differentials of what is drawn, and how many pages are not."""
    last = result["stabilizes_at"]
    pages = [page for page in result["pages"] if page["r"] < last]
    kept = pages
    if len(kept) >= MOST_PANELS:
        kept = [page for page in kept if page["differentials"]]
    kept = kept[: MOST_PANELS - 1]
    panels = [(_name(page["r"]), page["terms"], page["differentials"]) for page in kept]
    return [*panels, (f"{_name(last)} = E∞", result["limit"], [])], len(pages) - len(kept)


def _name(r: int) -> str:
    return "E" + str(r).translate(_SUBSCRIPTS)


def _grid(terms: list[list[Any]], maps: list[list[Any]]) -> _Grid:
    found = [term for page in terms for term in page] or [{"p": 0, "q": 0, "dim": 0}]
    p, q = ([term[key] for term in found] for key in "pq")
    across, up = range(min(p), max(p) + 1), range(min(q), max(q) + 1)
    digits = max(len(numbers.count(term["dim"])) for term in found)
    ranks = max((len(numbers.count(m["rank"])) for page in maps for m in page), default=1)
    box = (0.2 + 0.075 * digits, 0.25)
    pitch = (box[0] + 0.24 + 0.1 * ranks, box[1] + 0.32)  # room for a rank beside its arrow
    if max(len(across) * pitch[0], len(up) * pitch[1]) <= _WIDEST:
        return _Grid(across, up, pitch, box, True)
    small = _SHADED / max(len(across), len(up))
    return _Grid(across, up, (small, small), (0.8 * small, 0.8 * small), False)


def _sheet(grid: _Grid, count: int, caption: str) -> tuple[Figure, list[tuple[float, float]]]:
    """The figure, and where in it panels have their lower left corners, in inches."""
    width, height = grid.size
    columns = _columns(grid, count)
    rows = math.ceil(count / columns)
    whole = max(columns * width, 4.2) + 0.2
    foot = 0.2 + 0.15 * (lines(caption, whole - 0.24).count("\n") + 1)
    corners = [
        (0.1 + width * (k % columns), foot + height * (rows - 1 - k // columns))
        for k in range(count)
    ]
    return canvas(foot + rows * height, whole), corners


def _columns(grid: _Grid, count: int) -> int:
    """How many panels stand in a row, so that the sheet is about square."""
    width, height = grid.size

    def apart(columns: int) -> float:
        return abs(math.log(columns * width / (math.ceil(count / columns) * height)))

    allowed = range(1, max(1, min(count, int(_ROW / width))) + 1)
    return min(allowed, key=apart)


def _panel(axes: Axes, grid: _Grid, title: str, terms: list[Any], maps: list[Any]) -> None:
    axes.set_xlim(grid.p.start - 0.5, grid.p.stop - 0.5)
    axes.set_ylim(grid.q.start - 0.5, grid.q.stop - 0.5)
    axes.set_title(title, size=10, fontweight="bold", pad=5)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    for letter, axis, values in (("p", axes.xaxis, grid.p), ("q", axes.yaxis, grid.q)):
        axis.set_ticks([v for v in values if v % max(1, math.ceil(len(values) / 12)) == 0])
        axis.set_label_text(letter, color=QUIET, size=8.5)
    wide, high = len(grid.p) * grid.pitch[0], len(grid.q) * grid.pitch[1]
    axes.yaxis.label.set(rotation=0, ha="right", va="bottom")
    axes.yaxis.set_label_coords(-0.1 / wide, 1.0)
    axes.xaxis.label.set(ha="left", va="top")
    axes.xaxis.set_label_coords(1 + 0.04 / wide, -0.04 / high)
    if grid.numbered:
        here = {(term["p"], term["q"]) for term in terms}
        rest = [(p, q) for p in grid.p for q in grid.q if (p, q) not in here]
        axes.plot(*zip(*rest, strict=True), ".", color=RULE, markersize=3) if rest else None
    for one in maps:
        _arrow(axes, grid, one)
    _boxes(axes, grid, terms)


def _boxes(axes: Axes, grid: _Grid, terms: list[Any]) -> None:
    wide, high = (b / step for b, step in zip(grid.box, grid.pitch, strict=True))
    most = max((math.log1p(term["dim"]) for term in terms), default=1.0)
    for term in terms:
        p, q, dim = term["p"], term["q"], term["dim"]
        fill = "#e6f0f7" if grid.numbered else smooth("Blues")(0.25 + 0.7 * math.log1p(dim) / most)
        axes.add_patch(
            Rectangle((p - wide / 2, q - high / 2), wide, high, facecolor=fill,
                      edgecolor=BLUE if grid.numbered else "none", linewidth=0.7, zorder=3)
        )  # fmt: skip
        if grid.numbered:
            axes.text(p, q, numbers.count(dim), ha="center", va="center_baseline", size=8.5,
                      color=INK, zorder=4)  # fmt: skip


def _arrow(axes: Axes, grid: _Grid, one: dict[str, Any]) -> None:
    """From box to box, under those between; the rank beside the middle, where no box can be."""
    (p, q), (p_end, q_end) = one["from"], one["to"]
    along = ((p_end - p) * grid.pitch[0], (q_end - q) * grid.pitch[1])
    length = math.hypot(*along)
    unit = (along[0] / length, along[1] / length)
    cut = min(
        half / abs(u) for half, u in zip((b / 2 for b in grid.box), unit, strict=True) if abs(u) > 0
    )
    ends = [
        (x + sign * (cut + 0.02) * unit[0] / grid.pitch[0],
         y + sign * (cut + 0.02) * unit[1] / grid.pitch[1])
        for x, y, sign in ((p, q, 1), (p_end, q_end, -1))
    ]  # fmt: skip
    axes.add_patch(
        FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=7 if grid.numbered else 3,
                        color=VERMILLION, linewidth=1.1 if grid.numbered else 0.5, shrinkA=0,
                        shrinkB=0, zorder=2)
    )  # fmt: skip
    if grid.numbered:
        flat = abs(unit[0]) > 0.5
        axes.annotate(
            numbers.count(one["rank"]), ((p + p_end) / 2, (q + q_end) / 2),
            xytext=(0, 4) if unit[1] == 0 else (3.5, 1.5 if flat else 0),
            textcoords="offset points", ha="center" if unit[1] == 0 else "left",
            va="bottom" if flat else "center", size=7.5, color=VERMILLION, zorder=5,
        )  # fmt: skip


def _caption(result: dict[str, Any], grid: _Grid, left_out: int, panels: list[Any]) -> str:
    cells, low = result["dimensions"], result["lowest"]
    words = [
        f"Data: {result['file']}, n = {' + '.join(map(numbers.count, cells))} basis vectors in "
        f"degrees {numbers.count(low)} to {numbers.count(low + len(cells) - 1)}, over "
        f"{result['field']}."
    ]
    if grid.numbered:
        words.append("Boxes: dimensions that are not 0; arrows: differentials that are not 0, with "
                     "their ranks.")  # fmt: skip
    else:
        most = max(term["dim"] for _, terms, _ in panels for term in terms)
        words.append(f"Boxes: terms, darker of larger dimension, to {numbers.count(most)}; arrows: "
                     "differentials that are not 0.")  # fmt: skip
    if left_out:
        words.append(f"Not drawn: {numbers.count(left_out, 'pages')} of those before the last.")
    return " ".join(
        [
            *words,
            "Exact: no confidence intervals."
            if result["exact"]
            else "Every rank decided by its error bound: no confidence intervals.",
        ]
    )


def _said(terms: list[Any]) -> str:
    shown = [f"{term['dim']} at ({term['p']}, {term['q']})" for term in terms[:12]]
    more = f", and {len(terms) - 12} more" if len(terms) > 12 else ""
    return (", ".join(shown) or "zero") + more

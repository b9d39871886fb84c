"""The barcode of a filtration: a bar for every interval, by dimension, an arrow where it stays."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from leray.figures import numbers
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    QUIET,
    RULE,
    SKY,
    VERMILLION,
    WIDTH,
    Picture,
    bare,
    canvas,
    house_style,
    lines,
    note,
    place,
    to_picture,
)

MOST_BARS = 200
"""Of one dimension; the longest are drawn."""
_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_Bar = tuple[float, float | None]
_LINE, _TALLEST = 0.11, 6.0  # inches from bar to bar, where there are few; and of all together
_GAP = 0.2  # inches from one dimension to the next


def barcode(result: dict[str, Any]) -> Picture:
    """What `leray algebra barcode --json` prints."""
    found = enumerate(result["intervals"])
    groups = {n: _longest([(birth, death) for birth, death in bars]) for n, bars in found if bars}
    step = min(_LINE, _TALLEST / sum(map(len, groups.values())))
    heights = {n: max(step * len(bars), 0.14) for n, bars in groups.items()}
    caption = _caption(result, groups)
    foot = 0.68 + 0.15 * (lines(caption, WIDTH - 0.24).count("\n") + 1)
    with house_style():
        tall = sum(heights.values()) + _GAP * len(groups)
        figure = canvas(foot + tall + 0.1)
        axes = place(figure, 0.78, foot, 0.3, 0.1)
        left, right = _frame(groups)
        axes.set(xlim=(left, right), ylim=(tall, 0))
        y = _GAP / 2
        for n, bars in groups.items():
            middle = y + heights[n] / 2
            _bars(axes, bars, middle - step * (len(bars) - 1) / 2, step, right,
                  _COLOURS[n % len(_COLOURS)])  # fmt: skip
            _label(axes, n, len(result["intervals"][n]), middle)
            y += heights[n] + _GAP
            if n != max(groups):
                axes.axhline(y - _GAP / 2, color=RULE, linewidth=0.8)
        bare(axes)
        axes.set_xlabel("level")
        axes.set_yticks([])
        note(figure, caption)
        return to_picture(
            figure,
            name="barcode",
            title="The intervals of persistent cohomology",
            caption=caption,
            alt=f"{caption} " + "; ".join(_said(n, bars) for n, bars in groups.items()) + ".",
            pixels=True,
        )


def _longest(bars: list[_Bar]) -> list[_Bar]:
    """At most so many, by birth and then by length."""
    by_length = sorted(bars, key=lambda bar: -_length(bar))[:MOST_BARS]
    return sorted(by_length, key=lambda bar: (bar[0], _length(bar)))


def _length(bar: _Bar) -> float:
    return math.inf if bar[1] is None else bar[1] - bar[0]


def _frame(groups: dict[int, list[_Bar]]) -> tuple[float, float]:
    """From the first birth to beyond the last end, where the arrows of what stays point."""
    ends = [v for bars in groups.values() for bar in bars for v in bar if v is not None]
    span = max(ends) - min(ends) or 1.0
    return min(ends) - 0.02 * span, max(ends) + 0.09 * span


def _bars(axes: Axes, bars: list[_Bar], top: float, step: float, right: float, colour: str) -> None:
    width = max(0.5, min(3.0, 72 * step * 0.55))
    rows = [
        ((birth, top + k * step), (right if death is None else death, top + k * step))
        for k, (birth, death) in enumerate(bars)
    ]
    axes.add_collection(LineCollection(rows, colors=colour, linewidths=width, capstyle="butt"),
                        autolim=False)  # fmt: skip
    heads = [y for (_, death), (_, (_, y)) in zip(bars, rows, strict=True) if death is None]
    axes.plot([right] * len(heads), heads, ">", color=colour, markersize=max(2.0, 2.2 * width),
              markeredgewidth=0, clip_on=False)  # fmt: skip


def _label(axes: Axes, n: int, count: int, y: float) -> None:
    across = axes.get_yaxis_transform()
    axes.annotate(f"H{str(n).translate(_SUPERSCRIPTS)}", (0, y), xycoords=across, xytext=(-48, 0),
                  textcoords="offset points", va="center", size=9, color=INK)  # fmt: skip
    axes.annotate(numbers.count(count), (0, y), xycoords=across, xytext=(-7, 0), ha="right",
                  textcoords="offset points", va="center", size=7.5, color=QUIET)  # fmt: skip


def _caption(result: dict[str, Any], groups: dict[int, list[_Bar]]) -> str:
    intervals = result["intervals"]
    whole, drawn = sum(map(len, intervals)), sum(map(len, groups.values()))
    words = (
        f"Data: {result['file']}, n = {' + '.join(map(numbers.count, result['faces']))} faces by "
        f"dimension, over {result['field']}. {numbers.count(whole, 'bars')}, counted at the left; "
        "an arrow: never ends. "
    )
    if drawn < whole:
        words += f"Drawn: of each dimension the {MOST_BARS} longest. "
    zero = sum(result["zero_length"])
    return words + (
        f"Left out: {numbers.count(zero, 'pairs')} of one level. Exact: no confidence intervals."
    )


def _said(n: int, bars: list[_Bar]) -> str:
    stay = sum(death is None for _, death in bars)
    return f"in dimension {n} {numbers.count(len(bars), 'bars')}, {stay} of which never end"

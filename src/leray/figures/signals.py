"""The signals themselves: how they are distributed, and how they go together."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from leray.figures import numbers, words
from leray.figures.captions import data_line
from leray.figures.style import (
    BLUE,
    ORANGE,
    QUIET,
    WIDTH,
    Picture,
    canvas,
    house_style,
    place,
    smooth,
    to_picture,
)

_COLUMNS = 2


def distributions(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """For each signal the relevant turns over the irrelevant, each as shares of its own total."""
    panels = details.get("histograms") or {}
    if not panels:
        return None
    num_rows = -(-len(panels) // _COLUMNS)
    width = (WIDTH - 0.75) / _COLUMNS
    with house_style():
        figure = canvas(0.5 + 1.3 * num_rows)
        for k, (name, h) in enumerate(panels.items()):
            row, column = divmod(k, _COLUMNS)
            left = 0.2 + column * (width + 0.35)
            bottom = 0.35 + (num_rows - 1 - row) * 1.3 + 0.25
            axes = place(figure, left, bottom, WIDTH - left - width, 1.3 * row + 0.4)
            _panel(axes, words.signal(name).short, h)
        handles = [
            Patch(color=BLUE, alpha=0.25, linewidth=0, label="irrelevant turns"),
            Line2D([], [], color=ORANGE, linewidth=1.8, label="relevant turns"),
        ]
        figure.legend(handles=handles, loc="lower left", ncols=2, bbox_to_anchor=(0.02, 0.0))
        return to_picture(
            figure,
            name="distributions",
            title="What sets relevant turns apart",
            caption=f"{data_line(result)} Relevant pairs: {result['data']['positives']:,}. Each "
            "area is one, so the shapes can be compared although relevant turns are rare. A signal "
            "helps where the two shapes differ. Distributions of all pairs, no intervals.",
            alt="Histograms of " + ", ".join(words.signal(n).name for n in panels) + " for "
            "relevant and irrelevant turns, each normalised to one.",
        )


def _panel(axes: Axes, title: str, h: dict[str, Any]) -> None:
    for kind in ("irrelevant", "relevant"):
        total = sum(h[kind]) or 1
        shares = [c / total for c in h[kind]]
        if kind == "irrelevant":
            axes.stairs(shares, h["edges"], fill=True, color=BLUE, alpha=0.25, linewidth=0)
        else:
            axes.stairs(shares, h["edges"], color=ORANGE, linewidth=1.8)
    axes.set_title(title, pad=4)
    axes.tick_params(length=0, labelcolor=QUIET)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.margins(x=0.01)


def correlations(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """The correlation of every pair of signals, blue below zero and orange above."""
    field = details.get("correlation") or {}
    names = field.get("signals") or []
    if not names:
        return None
    labels = [words.signal(n).short for n in names]
    with house_style():
        figure = canvas(4.8)
        axes = place(figure, 1.2, 1.1, 0.6, 0.1)
        mesh = axes.pcolormesh(
            range(len(names)), range(len(names)), field["matrix"], shading="nearest",
            cmap=smooth("PuOr_r"), vmin=-1, vmax=1, edgecolors="white", linewidth=0.6,
        )  # fmt: skip
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), labels, fontsize=8)
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        bar = figure.colorbar(mesh, cax=figure.add_axes((0.93, 0.3, 0.02, 0.6)))
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.set_ticks([-1, 0, 1], labels=["−1", "0", "1"])
        bar.ax.tick_params(length=0, labelcolor=QUIET)
        tau = numbers.span(result["weights"]["tau_seconds"])
        return to_picture(
            figure,
            name="correlations",
            title="Which signals say the same",
            caption=f"{data_line(result)} Pearson correlation of the signals over all pairs, decay "
            f"at τ = {tau}. Orange: they rise together; purple: one rises as the other falls. "
            "Estimates, without intervals.",
            alt="Matrix of correlations between " + ", ".join(words.signal(n).name for n in names)
            + "; the numbers stand in the table beside it.",
        )  # fmt: skip

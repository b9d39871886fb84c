"""The fitted weights with their intervals, and r against the decay time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from leray.figures import numbers, words
from leray.figures.captions import data_line, interval_kinds
from leray.figures.style import (
    BLUE,
    INK,
    ORANGE,
    QUIET,
    SKY,
    VERMILLION,
    Picture,
    bare,
    canvas,
    house_style,
    place,
    to_picture,
)
from leray.memory.blocks import FOUR
from leray.memory.methods import OPTIMAL

CLAIMED = dict(zip(FOUR, OPTIMAL, strict=True))
"""The weights that the source calls optimal."""


def weights(result: dict[str, Any], details: dict[str, Any]) -> Picture:
    """A dot and an interval for each signal, over the distribution of the resampled weight."""
    rows = result["weights"]["values"]
    drawn = details.get("resampled_weights") or {}
    with house_style():
        figure = canvas(1.0 + 0.6 * len(rows))
        axes = place(figure, 0.95, 0.85, 0.25, 0.08)
        for y, row in enumerate(rows):
            _density(axes, drawn.get(row["signal"]), y)
            _weight(axes, row, y)
        bare(axes)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.55, -0.65), xlabel="weight")
        axes.set_yticks(range(len(rows)), [words.signal(r["signal"]).short for r in rows])
        _legend(figure, bool(drawn))
        said = "; ".join(_sentence(r) for r in rows)
        return to_picture(
            figure,
            name="weights",
            title="The weights with the largest correlation",
            caption=f"{data_line(result)} {interval_kinds(rows)} Orange diamonds: the weights that "
            "the source calls optimal."
            + (" Light areas: the weight refitted in every bootstrap resample." if drawn else ""),
            alt=f"Weight of each signal. {said}.",
        )


def _density(axes: Axes, counts: Sequence[numbers.Number] | None, y: int) -> None:
    """A histogram on (0, 1) that stands on the line y, as high as its largest bin."""
    if not counts or not max(counts):
        return
    edges = [k / len(counts) for k in range(len(counts) + 1)]
    heights = [y - 0.5 * c / max(counts) for c in counts]
    axes.stairs(heights, edges, baseline=y, fill=True, color=SKY, alpha=0.35, linewidth=0)


def _weight(axes: Axes, row: dict[str, Any], y: int) -> None:
    if row["interval"] is not None:
        axes.plot(row["interval"], (y, y), color=BLUE, linewidth=2.2, solid_capstyle="round")
    axes.plot(row["estimate"], y, "o", color=BLUE, markersize=7, markeredgecolor="white")
    claimed = CLAIMED.get(row["signal"])
    if claimed is not None:
        axes.plot(claimed, y, "D", color=ORANGE, markersize=5.5, markeredgecolor="white")
    axes.text(
        row["estimate"], y + 0.17, numbers.decimal(row["estimate"]), ha="center", va="top", size=8.5
    )


def _legend(figure: Figure, drawn: bool) -> None:
    handles: list[Any] = [
        Line2D([], [], color=BLUE, marker="o", linewidth=2.2, markersize=6, label="fitted here"),
        Line2D(
            [],
            [],
            color=ORANGE,
            marker="D",
            linewidth=0,
            markersize=5.5,
            label="the source's claim",
        ),
    ]
    if drawn:
        handles.append(Patch(color=SKY, alpha=0.35, linewidth=0, label="resampled"))
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.02, 0.0), ncols=3)


def _sentence(row: dict[str, Any]) -> str:
    name = words.signal(row["signal"]).name
    found = f"{name} {numbers.decimal(row['estimate'])}"
    if row["interval"] is not None:
        found += f" ({numbers.between(row['interval'])})"
    claimed = CLAIMED.get(row["signal"])
    return found if claimed is None else f"{found}, claimed {claimed:.2f}"


def decay_times(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """The largest r at each decay time; None where only one was allowed."""
    rows = details.get("taus") or []
    if len(rows) < 2:
        return None
    chosen = result["weights"]["tau_seconds"]
    with house_style():
        figure = canvas(2.6)
        axes = place(figure, 0.75, 0.6, 0.3, 0.3)
        taus = [row["tau_seconds"] for row in rows]
        axes.plot(taus, [row["r"] for row in rows], "o-", color=BLUE, markersize=5, linewidth=1.4)
        for row in rows:
            if row["tau_seconds"] == chosen:
                axes.plot(chosen, row["r"], "o", color=VERMILLION, markersize=9)
                axes.annotate(
                    f"chosen: {numbers.span(chosen)}",
                    (chosen, row["r"]),
                    xytext=(0, 9),
                    textcoords="offset points",
                    ha="center",
                    color=INK,
                    annotation_clip=False,
                )
        axes.set_xscale("log")
        axes.set_xticks(taus, [numbers.span(t, short=True) for t in taus])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="decay time τ (log scale)", ylabel="largest r")
        axes.tick_params(length=0, axis="both", labelcolor=QUIET)
        axes.grid(axis="y")
        axes.margins(0.08, 0.15)
        return to_picture(
            figure,
            name="decay-times",
            title="How fast should memory fade?",
            caption=f"{data_line(result)} At each decay time the weights with the largest r are "
            "fitted anew. Points are estimates; no interval was computed for them one by one.",
            alt="Largest r at each decay time: "
            + "; ".join(f"{numbers.span(r['tau_seconds'])} {numbers.decimal(r['r'])}" for r in rows)
            + f". Chosen: {numbers.span(chosen)}.",
        )

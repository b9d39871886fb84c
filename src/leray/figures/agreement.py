"""Where every method puts the four weights, on one axis."""

from __future__ import annotations

from typing import Any

from leray.figures import numbers, words
from leray.figures.captions import data_line
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    bare,
    canvas,
    house_style,
    place,
    to_picture,
)

SIMULATION = "montecarlo"  # it speaks of other conversations
EXACT = "Exact optimum, bootstrap"
_COLOURS = (INK, BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
_LOOKS = tuple(zip(_COLOURS, "Dos^vPX", strict=True))
_STEP = 0.21  # inches between two methods


def agreement(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:  # noqa: ARG001
    """A dot and an interval for each method and signal; nothing where one method stands alone."""
    groups = by_method(result)
    if len(groups) < 2:
        return None
    signals = list(groups[EXACT])
    block = len(groups) + 1  # a line for the signal's name, then a line a method
    with house_style():
        figure = canvas(0.65 + _STEP * block * len(signals))
        axes = place(figure, 2.05, 0.5, 0.25, 0.1)
        ticks, labels = [], []
        for s, signal in enumerate(signals):
            ticks.append(s * block)
            labels.append(words.signal(signal).short)
            for m, (method, rows) in enumerate(groups.items()):
                _row(axes, rows.get(signal), s * block + 1 + m, *_LOOKS[m % len(_LOOKS)])
                ticks.append(s * block + 1 + m)
                labels.append(method)
        bare(axes)
        axes.set(xlim=(-0.02, 1.02), ylim=(max(ticks) + 0.6, -0.6), xlabel="weight")
        axes.set_yticks(ticks, labels, size=8)
        for label in axes.get_yticklabels()[::block]:
            label.set_fontweight("bold")
        return to_picture(
            figure,
            name="agreement",
            title="Where each method puts the weights",
            caption=f"{data_line(result)} Intervals, one at a time: "
            + "; ".join(f"{name}, {_kind(rows)}" for name, rows in groups.items())
            + ". They answer nearby questions, not one: the optimum has the largest pooled "
            "correlation, a posterior weighs conversations by what they say and adds a prior, and "
            "the logistic model predicts which turns are relevant.",
            alt="; ".join(
                f"{name}: "
                + ", ".join(
                    f"{words.signal(s).short} {numbers.decimal(r['estimate'])} "
                    f"({numbers.between(r['interval'])})"
                    for s, r in rows.items()
                )
                for name, rows in groups.items()
            )
            + ".",
        )


def by_method(result: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Weights with their intervals, by method and signal: the exact optimum first.

    A heavy method that speaks of several models names each as ``signal (model)``.
    """
    groups = {EXACT: {row["signal"]: row for row in result["weights"]["values"]}}
    real = (o for o in result["stack"] if o["name"] != SIMULATION)
    for outcome in real:
        for row in outcome["weights"]:
            signal, _, model = row["signal"].partition(" (")
            name = model.rstrip(")") or outcome["title"]
            groups.setdefault(name, {})[signal] = row
    return groups


def _row(axes: Any, row: dict[str, Any] | None, y: float, colour: str, marker: str) -> None:
    if row is None:
        return
    if row["interval"] is not None:
        axes.plot(row["interval"], (y, y), color=colour, linewidth=2, solid_capstyle="round")
    axes.plot(row["estimate"], y, marker, color=colour, markersize=5.5, markeredgecolor="white")


def _kind(rows: dict[str, dict[str, Any]]) -> str:
    kinds = dict.fromkeys(
        f"{numbers.percent(r['level'])} {r['interval_kind']}" for r in rows.values()
    )
    return " or ".join(kinds)

"""Figures of the protection study: what is forgotten against what is learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from leray.figures import numbers
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
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

LOOKS = {
    "turned zones, SOAP": ("o", BLUE, "-"),
    "MAS, SOAP": ("s", SKY, "--"),
    "EWC": ("^", GREEN, "-."),
    "LoRA": ("v", PURPLE, ":"),
    "1% replay": ("P", ORANGE, "--"),
    "random mask": ("D", VERMILLION, ":"),
    "uniform": ("x", INK, "-"),
    "uniform, SOAP": ("+", QUIET, "-"),
}
"""Marker, colour and line of the methods that are drawn; the table has all."""


def draw(result: dict[str, Any], details: dict[str, Any]) -> dict[str, Picture]:
    """All of them by name."""
    return {p.name: p for p in (courses(result, details), forgotten(result))}


def courses(result: dict[str, Any], details: dict[str, Any]) -> Picture:
    """The old score against the new loss while each method learns: right and up is better."""
    shown = {m: details["runs"][m] for m in LOOKS if m in details["runs"]}
    with house_style():
        figure = canvas(3.8)
        axes = place(figure, 0.75, 1.2, 0.2, 0.15)
        ends = []
        for name, runs in shown.items():
            marker, colour, line = LOOKS[name]
            new = np.mean([r["new"] for r in runs], axis=0)
            score = np.mean([r["score"] for r in runs], axis=0)
            axes.plot(
                new[1:], score[1:], line, marker=marker, markersize=4, color=colour, label=name
            )
            ends.append(f"{name} {new[-1]:.2f} nats with a score of {score[-1]:.3f}")
        axes.axvline(result["target"], color=QUIET, linewidth=0.8)
        axes.invert_xaxis()
        axes.grid(axis="y")
        axes.set(xlabel="new task, nats a byte: further right is better", ylabel="old score")
        figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.05, 0.0))
        return to_picture(
            figure,
            name="courses",
            title="What is kept while the new task is learned",
            caption=f"Means over {result['scale']['num_seeds']} old models, each method at the "
            "setting that was chosen for it, measured at equal steps; the thin line is the target.",
            alt=f"At the end: {'; '.join(ends)}.",
        )


def forgotten(result: dict[str, Any]) -> Picture:
    """What every method has forgotten at the target, every old model a dot."""
    rows = sorted(result["table"], key=lambda r: r["metrics"]["forgotten"]["estimate"])
    with house_style():
        figure = canvas(1.2 + 0.25 * len(rows))
        axes = place(figure, 1.65, 0.85, 0.25, 0.1)
        for y, row in enumerate(rows):
            axes.plot(row["by_seed"], [y] * len(row["by_seed"]), ".", color=QUIET, markersize=4)
            found = row["metrics"]["forgotten"]
            if found["interval"] is not None:
                axes.plot(found["interval"], (y, y), color=BLUE, linewidth=2.4)
            axes.plot(
                found["estimate"], y, "o", color=BLUE, markersize=5.5, markeredgecolor="white"
            )
        axes.axvline(0, color=INK, linewidth=0.8)
        bare(axes)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="forgotten, points of the score")
        axes.set_yticks(range(len(rows)), [row["method"] for row in rows], size=8)
        level = numbers.percent(rows[0]["metrics"]["forgotten"]["level"])
        return to_picture(
            figure,
            name="forgotten",
            title="What each method forgets",
            caption=f"Where the new loss first is {result['target']:.3f} nats a byte, or at the "
            "end of runs that fall short of it and have learned less; dots are old models, lines "
            f"{rows[0]['metrics']['forgotten']['interval_kind']}, {level}.",
            alt="; ".join(
                f"{row['method']} {row['metrics']['forgotten']['estimate']:.4f}" for row in rows
            )
            + ".",
        )

"""The searches for the best weights: how far each stands from the exact optimum, and when."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from leray.figures import numbers
from leray.figures.captions import data_line
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    QUIET,
    VERMILLION,
    Picture,
    bare,
    canvas,
    house_style,
    place,
    to_picture,
)

_FLOOR = 1e-9  # relative regrets below are drawn here: further digits say nothing
_ARRIVED = 1e-6


def genetic(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """Above, regret against evaluations for every search; below, the population by generation."""
    field = details.get("stack", {}).get("genetic")
    if not field:
        return None
    with house_style():
        figure = canvas(4.9)
        _searches(place(figure, 0.75, 2.35, 0.25, 0.35), field)
        _population(place(figure, 0.75, 0.55, 0.25, 3.2), field)
        figure.legend(
            loc="upper left", ncols=4, bbox_to_anchor=(0.0, 1.0), columnspacing=1.2,
            handlelength=1.4,
        )  # fmt: skip
        return to_picture(
            figure,
            name="genetic",
            title="Evolution, and what it was not needed for",
            caption=_caption(result, field),
            alt=f"Regret against evaluations, both logarithmic. {_found(field)}",
        )


def _searches(axes: Axes, field: dict[str, Any]) -> None:
    starts = field["cma"]
    for k, line in enumerate(field["random"]["regret"]):
        _line(axes, field["random"]["evaluations"], line, ORANGE, "random search", k)
    for k, line in enumerate(field["genetic"]["regret"]):
        _line(axes, field["genetic"]["evaluations"], line, BLUE, "genetic algorithm", k)
    for k, start in enumerate(starts):
        _line(axes, start["evaluations"], start["regret"], GREEN, "CMA-ES (library)", k)
    grids = [row for row in field["rows"] if row["search"].startswith("grid")]
    axes.plot(
        [row["evaluations"] for row in grids],
        [max(row["regret"] / field["optimum"], _FLOOR) for row in grids],
        "D", color=VERMILLION, markersize=6, linestyle="none", label="grids", zorder=4,
    )  # fmt: skip
    for row in grids:
        at = (row["evaluations"], max(row["regret"] / field["optimum"], _FLOOR))
        axes.annotate(
            f"{row['evaluations']:,} points", at, xytext=(-7, -4), textcoords="offset points",
            color=VERMILLION, ha="right", bbox={"facecolor": PAPER, "pad": 1, "linewidth": 0},
        )  # fmt: skip
    axes.axhline(_ARRIVED, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        "a millionth", (0.0, _ARRIVED), xycoords=axes.get_yaxis_transform(), xytext=(2, 3),
        textcoords="offset points", color=QUIET,
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", ylim=(_FLOOR / 2, 2))
    axes.set(xlabel="evaluations of r", ylabel="regret, of the best r")
    _logarithmic(axes)


def _population(axes: Axes, field: dict[str, Any]) -> None:
    generations = [g + 1 for g in field["generations"]]  # from 1, for the logarithm
    for lines, color, text in (
        (field["mean_regret"], BLUE, "mean regret of the population"),
        (field["diversity"], INK, "diversity (spread of the weights)"),
    ):
        for line in lines:
            axes.plot(generations, [max(v, 1e-4) for v in line], color=color, linewidth=1)
        axes.annotate(
            text, (generations[-1], lines[0][-1]), ha="right", xytext=(0, 7),
            textcoords="offset points", color=color,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", ylim=(1e-4, 2))
    axes.set(xlabel="generation", ylabel="the population")
    _logarithmic(axes)


def _logarithmic(axes: Axes) -> None:
    """Plain text at the ticks (no formulas), and quiet lines across."""
    bare(axes, grid="y")
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: numbers.count(round(x))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _power(y)))


def _power(value: float) -> str:
    """A power of ten as a tick has it."""
    return "1" if value == 1 else numbers.scientific(value).removeprefix("1.0 × ")


def _line(
    axes: Axes, evaluations: list[int], regret: list[float], color: str, label: str, k: int
) -> None:
    axes.plot(
        evaluations,
        [max(v, _FLOOR) for v in regret],
        color=color,
        linewidth=1.2,
        label=label if k == 0 else None,
    )


def _found(field: dict[str, Any]) -> str:
    parts = []
    for row in field["rows"]:
        regret = numbers.scientific(row["regret"] / field["optimum"])
        parts.append(f"{row['search']}: {numbers.count(row['evaluations'])} evaluations, {regret}")
    return "Regret of each search's best start, as a share of the best r: " + "; ".join(parts) + "."


def _caption(result: dict[str, Any], field: dict[str, Any]) -> str:
    starts = field["rows"][0]["starts"]
    return (
        f"{data_line(result)} Above: how far the best weights found so far stand from the exact "
        f"optimum (r = {numbers.decimal(field['optimum'], 4)}), as a share of it, against the "
        f"number of weights looked at; {starts} starts of each search. Values below 10⁻⁹ are drawn "
        f"there. {_found(field)} Below: the genetic algorithm's population, generations counted "
        "from 1. No intervals: all searches see the same data, and the optimum on them is exact."
    )

"""Synthetic conversations: how an estimate settles, how many find an effect, and two modes."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

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

_COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE)
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
_SPAN = (5, 2.2e6)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def montecarlo(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:  # noqa: ARG001
    """Above, the running estimate with its half-width; below, power against conversations."""
    field = details.get("stack", {}).get("montecarlo")
    if not field:
        return None
    with house_style():
        figure = canvas(5.2)
        _converging(place(figure, 0.7, 3.35, 0.2, 0.35), field)
        _power(place(figure, 0.7, 1.25, 0.2, 2.35), field)
        figure.legend(
            *figure.axes[1].get_legend_handles_labels(), loc="lower left",
            bbox_to_anchor=(0.1, 0.0), ncols=2, handlelength=2.6,
        )  # fmt: skip
        rows = field["convergence"]["rows"]
        return to_picture(
            figure,
            name="montecarlo",
            title="What more synthetic conversations buy",
            caption=_caption(field),
            alt=f"The mean correlation of the document's weights settles at "
            f"{numbers.decimal(rows[-1][1], 4)} ± {numbers.decimal(rows[-1][2], 5)} after "
            f"{numbers.count(rows[-1][0], 'conversations')}. "
            + " ".join(_needed(pair) for pair in field["power"]["pairs"]),
        )


def modes(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:  # noqa: ARG001
    """Every compared number of the two modes, as a difference in its standard errors."""
    field = details.get("stack", {}).get("montecarlo")
    if not field:
        return None
    rows = field["modes"]
    largest = max(abs(row["z"]) for row in rows)
    with house_style():
        figure = canvas(0.9 + 0.15 * len(rows) / 2)
        axes = place(figure, 1.9, 0.5, 0.2, 0.3)
        groups = [r["name"].partition(" ")[2] for r in rows if r["name"].startswith("mean")]
        for what, colour, marker in (("mean", BLUE, "o"), ("sd", ORANGE, "D")):
            z = [r["z"] for r in rows if r["name"].startswith(what)]
            axes.plot(z, range(len(z)), marker, color=colour, markersize=4, linestyle="none",
                      label="mean" if what == "mean" else "standard deviation")  # fmt: skip
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.axvline(0, color=QUIET, linewidth=0.8)
        reach = max(3.5, largest + 0.5)
        axes.set(xlim=(-reach, reach), xlabel="gram minus literal, in standard errors")
        bare(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderpad=0)
        return to_picture(
            figure,
            name="montecarlo-modes",
            title="Embeddings drawn, or only their inner products",
            caption=f"{_data(field)} Each number of the exact Gram-matrix mode minus that of "
            f"{numbers.count(field['num_literal'], 'conversations')} whose embeddings were drawn "
            "literally, divided by its standard error (by conversation for means, by batch for "
            "standard deviations); points, without intervals. If both modes draw from one law, "
            "about 95 of 100 points lie between −2 and 2.",
            alt=f"{len(rows)} differences between the modes; the largest is "
            f"{numbers.decimal(largest, 1)} standard errors.",
        )


def _converging(axes: Axes, field: dict[str, Any]) -> None:
    rows = field["convergence"]["rows"]
    n, estimate, half = zip(*rows, strict=True)
    axes.errorbar(
        n, estimate, yerr=half, fmt="o", color=BLUE, ecolor=SKY, elinewidth=2, markersize=4
    )
    axes.axhline(estimate[-1], color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    by_decade = {int(math.log10(row[0])): row for row in reversed(rows)}
    for row in by_decade.values():  # the first of each, or the words would meet
        axes.annotate(
            f"±{_short(row[2])}", (row[0], row[1] + row[2]), xytext=(0, 3),
            textcoords="offset points", ha="center", color=INK, fontsize=8,
        )  # fmt: skip
    axes.margins(y=0.18)
    axes.set(xscale="log", xlim=_SPAN, ylabel="mean r")
    axes.set_title("The estimate, the document's weights", color=QUIET, pad=6)
    _powers_of_ten(axes)


def _power(axes: Axes, field: dict[str, Any]) -> None:
    for k, pair in enumerate(field["power"]["pairs"]):
        n, power = zip(*pair["curve"], strict=True)
        colour = _COLOURS[k % len(_COLOURS)]
        label = f"{pair['a']} − {pair['b']}, {pair['metric']}"
        axes.plot(n, power, color=colour, linestyle=_DASHES[k % len(_DASHES)], label=label)
        seen = [(s[0], s[2] / s[1]) for s in pair["observed"]]
        if seen:
            axes.plot(*zip(*seen, strict=True), "o", color=colour, markersize=3.5, linestyle="none")
    axes.axhline(0.8, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xscale="log", xlim=_SPAN, ylim=(0, 1.04), xlabel="conversations", ylabel="power")
    axes.set_title("The chance that a study of so many finds the difference", color=QUIET, pad=6)
    _powers_of_ten(axes)


def _powers_of_ten(axes: Axes) -> None:
    bare(axes, grid="y")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _ten(v)))


def _ten(value: float) -> str:
    return f"10{str(round(math.log10(value))).translate(_SUPERSCRIPT)}" if value > 0 else ""


def _short(value: float) -> str:
    """Two significant figures, without an exponent."""
    return numbers.decimal(value, max(2, 1 - math.floor(math.log10(value)))) if value > 0 else "0"


def _caption(field: dict[str, Any]) -> str:
    level = numbers.percent(field["convergence"]["level"])
    studies = max((s[1] for p in field["power"]["pairs"] for s in p["observed"]), default=0)
    return (
        f"{_data(field)} Above: the mean over conversations of the correlation between the "
        f"document's weights and the truth, after so many conversations; intervals: {level}, "
        "normal, by conversation. Below: power of a two-sided paired t test at "
        f"{field['power']['alpha']:g}; lines from the effect size d of the whole, dots the share "
        f"of {numbers.count(studies, 'separate small studies')} that found it (no intervals); the "
        "dashed line is 80%. All of it describes the generator, not people."
    )


def _data(field: dict[str, Any]) -> str:
    return (
        f"Data: synthetic, {numbers.count(field['num_conversations'], 'conversations')} of "
        f"{field['num_turns']} turns."
    )


def _needed(pair: dict[str, Any]) -> str:
    n = "no number" if pair["needed"] is None else numbers.count(pair["needed"])
    return (
        f"{pair['a']} against {pair['b']} ({pair['metric']}): d = {numbers.decimal(pair['d'])}, "
        f"{n} of conversations for 80% power."
    )

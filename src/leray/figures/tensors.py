"""The tensor's patterns: how many there are, where in the list they stand, and what lies beyond."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from leray.figures import numbers
from leray.figures.captions import data_line
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    QUIET,
    RULE,
    VERMILLION,
    Picture,
    bare,
    canvas,
    house_style,
    place,
    to_picture,
)

_COLORS = (BLUE, ORANGE, GREEN)
_CLEAR = 0.05  # the family-wise p below which a term is drawn filled


def tensors(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """Shares and stability by rank, the rank-3 factors by position, the products of signals."""
    field = details.get("stack", {}).get("tensors")
    if not field:
        return None
    row = next(row for row in result["stack"] if row["name"] == "tensors")
    with house_style():
        figure = canvas(7.5)
        _ranks(place(figure, 0.6, 5.5, 2.95, 0.35), field)
        _held_out(place(figure, 3.35, 5.5, 0.25, 0.35), field, row)
        _positions(place(figure, 0.6, 3.15, 1.75, 2.8), field)
        _terms(place(figure, 1.75, 0.5, 0.25, 4.85), field)
        return to_picture(
            figure,
            name="tensors",
            title="Common patterns, and products of signals",
            caption=_caption(result, field, row),
            alt=_alt(field),
        )


def _ranks(axes: Axes, field: dict[str, Any]) -> None:
    ranks = [row["rank"] for row in field["ranks"]]
    fits = [row["fit"] for row in field["ranks"]]
    axes.plot(ranks, fits, "o-", color=BLUE, markersize=4)
    axes.annotate(
        "share explained", (ranks[-1], fits[-1]), ha="right", xytext=(0, 7),
        textcoords="offset points", color=BLUE,
    )  # fmt: skip
    if all(row["agreement"] for row in field["ranks"]):
        least = [row["agreement"][-1] for row in field["ranks"]]
        axes.plot(ranks, least, "s-", color=VERMILLION, markersize=4)
        axes.annotate(
            "weakest factor, halves", (ranks[0], least[0]), va="center", xytext=(8, 0),
            textcoords="offset points", color=VERMILLION,
        )  # fmt: skip
    axes.set(ylim=(0, 1.02), xticks=ranks, xlabel="number of factors")
    axes.set_title("How many patterns?", pad=8)
    bare(axes, grid="y")


def _held_out(axes: Axes, field: dict[str, Any], row: dict[str, Any]) -> None:
    share = next(e for e in row["estimates"] if e["name"] == "M8")
    nulls = field["null_shares"]
    axes.plot(nulls, [0] * len(nulls), "|", color=QUIET, markersize=14)
    if share["interval"]:
        axes.plot(share["interval"], [1, 1], color=BLUE, linewidth=2)
    axes.plot([share["estimate"]], [1], "o", color=BLUE, markersize=6)
    axes.axvline(0.5, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 1), ylim=(-0.6, 1.6), yticks=[0, 1], yticklabels=["shuffled", "observed"])
    axes.set(xlabel="share explained, left out")
    axes.set_title("On conversations left out", pad=8)
    bare(axes)


def _positions(axes: Axes, field: dict[str, Any]) -> None:
    lines = field["factors"]["position"]
    for k, (line, named) in enumerate(zip(lines, field["named"], strict=True)):
        color = _COLORS[k % len(_COLORS)]
        at = [(p + 0.5) / len(line) for p in range(len(line))]
        axes.plot(at, line, color=color, linewidth=1.4)
        axes.annotate(
            f"{k + 1}: {named['signal']},\n{named['outcome']}", (1.02, 0.95 - 0.36 * k),
            xycoords="axes fraction", va="top", color=color,
        )  # fmt: skip
    axes.axhline(0, color=RULE, linewidth=0.8, zorder=0)
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["first turn", "middle", "last"])
    axes.set_title(f"Where in the list the {len(lines)} patterns stand (loadings)", pad=8)
    bare(axes, grid="x")


def _terms(axes: Axes, field: dict[str, Any]) -> None:
    terms = field["terms"][::-1]
    for k, term in enumerate(terms):
        clear = term["p_value"] < _CLEAR
        axes.plot([0, term["statistic"]], [k, k], color=RULE, linewidth=1)
        axes.plot(
            [term["statistic"]], [k], "o", markersize=6, color=INK,
            markerfacecolor=INK if clear else "white", clip_on=False,
        )  # fmt: skip
        axes.annotate(
            f"p = {numbers.probability(term['p_value'])}", (term["statistic"], k), va="center",
            xytext=(8, 0), textcoords="offset points", color=INK if clear else QUIET,
        )  # fmt: skip
    names = [_name(term["signals"]) for term in terms]
    highest = max(term["statistic"] for term in terms)
    axes.set(yticks=range(len(terms)), yticklabels=names, xlim=(0, 1.35 * highest or 1))
    axes.set(ylim=(-0.6, len(terms) - 0.4))
    axes.set(xlabel="|sum| over root of the sum of squares, by conversation")
    axes.set_title("Products and squares beyond the weighted sum", pad=8)
    bare(axes)


def _name(signals: list[str]) -> str:
    first, second = signals
    return f"{first}²" if first == second else f"{first} × {second}"


def _alt(field: dict[str, Any]) -> str:
    named = "; ".join(f"{f['signal']}, {f['position']}, {f['outcome']}" for f in field["named"])
    return (
        f"Rank-{len(field['named'])} factors explain {numbers.decimal(field['share'], 2)} of "
        f"conversations left out, permuted data at most "
        f"{numbers.decimal(max(field['null_shares']), 2)}. Factors: {named}."
    )


def _caption(result: dict[str, Any], field: dict[str, Any], row: dict[str, Any]) -> str:
    consistency = ", ".join(numbers.decimal(r["core_consistency"], 0) for r in field["ranks"])
    share = next(e for e in row["estimates"] if e["name"] == "M8")
    kind = (
        f"{numbers.percent(share['level'])}, {share['interval_kind']}, by conversation"
        if share["interval"]
        else "none, for there is one conversation"
    )
    return (
        f"{data_line(result)} Top left: the share of the tensor's sum of squares that PARAFAC "
        "explains, and the congruence of the factor that agrees least between random halves "
        f"(median; 1 is the same factor). Core consistency by rank, in percent: {consistency}. Top "
        f"right: what rank-{len(field['named'])} factors of other conversations explain, beside "
        f"{numbers.count(len(field['null_shares']))} tensors whose cells were permuted within each "
        f"conversation (ticks); the dashed line is the claim's .5. Interval: {kind}. Middle: "
        "loadings of the factors along the list, with the strongest signal and outcome of each. "
        "Bottom: each term by itself; p by sign flips of conversations, corrected for all "
        f"{len(field['terms'])} by the maximum, filled below .05; no intervals there."
    )

"""How far from the ceiling: the neighbours' estimate by distance, and every number beside it."""

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
    PAPER,
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

_CURVES = (("own", ORANGE, "neighbours in the same conversation"),
           ("other", BLUE, "neighbours in other conversations"))  # fmt: skip
_SHORT = (
    ("held-out r of the linear weights", "linear weights, r", VERMILLION),
    ("held-out r of the best", "best of three, r", GREEN),
    ("ceiling of r, estimated from neighbours, truth L", "ceiling of r, in proportion", BLUE),
    ("ceiling of r, estimated from neighbours, truth t", "ceiling of r, smooth", BLUE),
    ("ceiling of r with the own", "own conversation known, r", ORANGE),
    ("held-out nDCG@10 of the linear", "linear weights, nDCG@10", VERMILLION),
    ("held-out nDCG@10 of the best", "best of three, nDCG@10", GREEN),
    ("nDCG@10 of neighbours", "neighbours, nDCG@10", SKY),
)


def ceiling(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """Above, the correlation ratio by distance to the neighbour; below, all estimates."""
    field = details.get("stack", {}).get("ceiling")
    if not field:
        return None
    rows = _labelled(field["rows"])
    above = 2.8 if field["curves"] else 0.0
    below = 0.2 * len(rows) + 0.15
    with house_style():
        figure = canvas(above + below + 0.85)
        if field["curves"]:
            _by_distance(place(figure, 0.6, below + 1.15, 0.3, 0.55), field)
        _estimates(place(figure, 2.5, 0.5, 0.3, above + 0.25), rows)
        return to_picture(
            figure,
            name="ceiling",
            title="How far from the ceiling",
            caption=_caption(result, field),
            alt="The correlation that neighbours give by their distance, and estimates: "
            + "; ".join(f"{label} {numbers.decimal(row['estimate'])}" for label, row, _ in rows)
            + ".",
        )


def _labelled(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any], str]]:
    """What is drawn below, with a short name and a colour; shares stand in the text."""
    out = []
    for row in rows:
        signals, _, what = row["name"].partition(": ")
        for start, short, color in _SHORT:
            if what.startswith(start):
                out.append((f"{signals}: {short}", row, color))
    return sorted(out, key=lambda row: int(row[0].split()[0]))


def _by_distance(axes: Axes, field: dict[str, Any]) -> None:
    for key, color, label in _CURVES:
        curve = field["curves"].get(key)
        if curve is None:
            continue
        axes.plot(curve["distance"], curve["eta"], "o-", color=color, markersize=4, linewidth=1.2,
                  label=label)  # fmt: skip
        if key == "other":
            _extrapolated(axes, curve, color)
    for value, color, text in (
        (field["linear_r"], VERMILLION, "linear weights"),
        (field["best_r"], GREEN, f"best: {field['best']}"),
    ):
        axes.axhline(value, color=color, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            text, (0.04, value), xycoords=axes.get_yaxis_transform(), va="top", xytext=(0, -2),
            textcoords="offset points", color=color,
        )  # fmt: skip
    axes.set(xlim=(-0.01, None), ylim=(0, None))
    axes.set(xlabel="mean distance to the neighbour (normal scores)", ylabel="correlation")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handlelength=1.4)
    bare(axes, grid="y")


def _extrapolated(axes: Axes, curve: dict[str, Any], color: str) -> None:
    """Where the lines in the distance and in its square end, at distance 0."""
    for power, marker, text in (
        ("Lipschitz", "^", "in proportion"),
        ("differentiable", "v", "smooth"),
    ):
        value = curve[power]
        axes.plot(
            [0], [value], marker, color=color, markersize=7, clip_on=False, zorder=4,
            markerfacecolor=PAPER if power == "differentiable" else color, linestyle="none",
            label=f"at distance 0, {text}",
        )  # fmt: skip


def _estimates(axes: Axes, rows: list[tuple[str, dict[str, Any], str]]) -> None:
    for k, (_, row, color) in enumerate(rows):
        if row["interval"] is not None:
            axes.plot(row["interval"], [k, k], color=color, linewidth=2, alpha=0.6)
        axes.plot([row["estimate"]], [k], "o", color=color, markersize=5)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, None))
    axes.set_xlabel("correlation r, or nDCG@10", color=QUIET)
    axes.tick_params(axis="y", labelcolor=INK)
    bare(axes)


def _caption(result: dict[str, Any], field: dict[str, Any]) -> str:
    levels = " or ".join(dict.fromkeys(numbers.percent(row["level"]) for row in field["rows"]))
    kinds = " or ".join(dict.fromkeys(row["interval_kind"] for row in field["rows"]))
    check = field["check"]
    text = f"{data_line(result)} "
    if field["curves"]:
        ranks = field["curves"]["other"]["ranks"]
        text += (
            "Above (4 signals): the correlation that the ceiling would be, were the truth alike at "
            f"a positive and at its neighbours of ranks 1 to {ranks[-1][1]}; triangles: taken to "
            "distance 0 in proportion to the distance, or to its square (smooth). An estimate "
            "under smoothness, not an upper bound. "
        )
    if field["refused"]:
        text += (
            f"For {' and '.join(field['refused'])} no ceiling is estimated: no pair of another "
            "conversation is near. "
        )
    return (
        f"{text}Below: estimates on conversations left out (the best of three is what the ceiling "
        "is at least; the neighbours' nDCG@10, which knew the own conversation, is no bound). Bars "
        f"are intervals, {levels}, {kinds}, by conversation, one at a time (the best of three: "
        "over all three). On a planted truth "
        f"with ceiling r = {numbers.decimal(check['r'])} and nDCG@10 "
        f"{numbers.decimal(check['ndcg'])}, the model reached {numbers.decimal(check['model r'])} "
        f"and {numbers.decimal(check['model ndcg'])}, the neighbours said "
        f"{numbers.decimal(check['differentiable'])} (smooth) to "
        f"{numbers.decimal(check['Lipschitz'])} (in proportion)."
    )

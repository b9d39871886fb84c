"""What chance alone would give: the largest r under rotated labels, and the one observed."""

from __future__ import annotations

from typing import Any

from leray.figures import numbers
from leray.figures.captions import data_line
from leray.figures.style import (
    QUIET,
    SKY,
    VERMILLION,
    Picture,
    canvas,
    house_style,
    place,
    to_picture,
)

GROUPS = {
    "rotations": (
        "rotations of the labels",
        "rotating each conversation's labels by a random amount",
        "a conversation's turns do not change in kind from start to end",
    ),
    "sign flips": (
        "sign flips by conversation",
        "flipping, at random, the sign of each conversation's covariance with the truth",
        "conversations are independent of each other, nothing more",
    ),
}


def null_distribution(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """The null distribution of the largest r, with the observed value as a line."""
    field = details.get("null")
    if not field or not sum(field["counts"]):
        return None
    fitted = result["weights"]
    observed, p = field["observed"], fitted["p_value"]
    what, how, needs = GROUPS[field["group"]]
    total = numbers.count(field["num_permutations"])
    with house_style():
        figure = canvas(2.4)
        axes = place(figure, 0.2, 0.55, 0.3, 0.3)
        axes.stairs(field["counts"], field["edges"], fill=True, color=SKY, alpha=0.6)
        axes.axvline(observed, color=VERMILLION, linewidth=2)
        middle = sum(axes.get_xlim()) / 2
        side = "right" if observed > middle else "left"
        axes.annotate(
            f"observed r = {numbers.decimal(observed, 4)}",
            (observed, 0.95), xycoords=axes.get_xaxis_transform(), ha=side, va="top",
            xytext=(-6 if side == "right" else 6, 0), textcoords="offset points", color=VERMILLION,
        )  # fmt: skip
        axes.set_title(f"{total} {what}", color=QUIET, pad=6)
        axes.set_xlabel("largest r over all weights searched")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, labelcolor=QUIET)
        return to_picture(
            figure,
            name="null",
            title="Could it be chance?",
            caption=f"{data_line(result)} Blue: the largest r after {how}, {total} times, "
            "the weights chosen anew each time. "
            f"p = {numbers.probability(p)}: {fitted['p_value_is']}. It asks whether there is any "
            f"signal at all, not whether it is large; it assumes that {needs}. A test, without an "
            "interval.",
            alt=f"Histogram of the largest r by chance, from {numbers.decimal(field['edges'][0])} "
            f"to {numbers.decimal(field['edges'][-1])}; the observed value is "
            f"{numbers.decimal(observed, 4)}, p = {numbers.probability(p)}.",
        )

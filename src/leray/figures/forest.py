"""A forest plot: every method's nDCG@10 with its interval, best first."""

from __future__ import annotations

from typing import Any

from matplotlib.lines import Line2D

from leray.figures import numbers, words
from leray.figures.captions import data_line, interval_kinds
from leray.figures.style import (
    BLUE,
    INK,
    QUIET,
    VERMILLION,
    Picture,
    bare,
    canvas,
    house_style,
    place,
    to_picture,
)
from leray.memory.blocks import ALL

METRIC = "ndcg_10"
_KINDS = (  # colour and shape say the same
    ("fitted, judged on conversations left out", VERMILLION, "D"),
    ("published formula or fixed weights", BLUE, "o"),
    ("one signal, or chance", QUIET, "s"),
)
_SINGLE = {*ALL, "random", "bm25"}


def forest(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:  # noqa: ARG001
    """Dot and interval of every method, sorted; what was fitted is told from what was not."""
    table = [row for row in result["table"] if METRIC in row["metrics"]]
    if not table:
        return None
    rows = sorted(table, key=lambda row: -row["metrics"][METRIC]["estimate"])
    with house_style():
        figure = canvas(1.15 + 0.245 * len(rows))
        axes = place(figure, 1.5, 1.05, 0.55, 0.08)
        for y, row in enumerate(rows):
            _, colour, marker = _KINDS[_kind(row)]
            value = row["metrics"][METRIC]
            if value["interval"] is not None:
                axes.plot(
                    value["interval"], (y, y), color=colour, linewidth=2, solid_capstyle="round"
                )
            axes.plot(
                value["estimate"], y, marker, color=colour, markersize=6, markeredgecolor="white"
            )
            axes.text(
                1.02, y, numbers.decimal(value["estimate"]), va="center", size=8.5,
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        bare(axes)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=words.metric(METRIC).name)
        axes.set_xlim(left=0)
        axes.set_yticks(range(len(rows)), [words.method(r["method"]).short for r in rows])
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_color(VERMILLION if row["held_out"] else INK)
        handles = [
            Line2D([], [], marker=marker, color=colour, linewidth=2, markersize=5.5, label=name)
            for name, colour, marker in _KINDS
        ]
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.02, 0.0))
        return to_picture(
            figure,
            name="forest",
            title="How well each method finds what matters",
            caption=f"{data_line(result)} Mean nDCG@10 over queries. "
            + interval_kinds([row["metrics"][METRIC] for row in rows])
            + " Overlapping intervals do not mean that methods are alike: differences are judged "
            "in pairs, on the same conversations.",
            alt="Mean nDCG@10, best first: " + "; ".join(_sentence(r) for r in rows) + ".",
        )


def _kind(row: dict[str, Any]) -> int:
    if row["held_out"]:
        return 0
    return 2 if row["method"] in _SINGLE else 1


def _sentence(row: dict[str, Any]) -> str:
    value = row["metrics"][METRIC]
    ends = "" if value["interval"] is None else f" ({numbers.between(value['interval'])})"
    return f"{words.method(row['method']).name} {numbers.decimal(value['estimate'])}{ends}"

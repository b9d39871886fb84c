"""Calibration: coverage against what was promised, ranks of the truth, false-positive rates."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from leray.figures import numbers
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    QUIET,
    RULE,
    SKY,
    VERMILLION,
    Picture,
    bare,
    canvas,
    house_style,
    place,
    to_picture,
)

Row = dict[str, Any]
_WIDTH = 8.6
_LABELS = 3.75  # inches for the names on the left
_OWN = "own model"
_MANY = {10: (SKY, "v"), 40: (BLUE, "o"), 200: (INK, "D")}
_WRONG = {
    "rows independent": (QUIET, "|"),
    "equal slopes": (QUIET, "|"),
    "serial dependence": (VERMILLION, "s"),
    "slopes that vary": (ORANGE, "^"),
    "serial dependence, slopes that vary": (VERMILLION, "D"),
    "heavy tails": (PURPLE, "X"),
    "neighbouring conversations alike": (GREEN, "P"),
}
_COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, INK)


def coverage(result: dict[str, Any], level: float) -> Picture | None:
    """Each method's coverage, under its own model and beside it where that is wrong."""
    rows = [r for r in result["rows"] if r["level"] == level]
    if not rows:
        return None
    labels = list(dict.fromkeys(_label(r) for r in rows))
    with house_style():
        figure = canvas(1.65 + 0.24 * len(labels), _WIDTH)
        left = place(figure, _LABELS, 1.15, 2.5, 0.35)
        right = place(figure, _WIDTH - 2.3, 1.15, 0.2, 0.35)
        own = [r for r in rows if r["setting"] == _OWN]
        wrong = [r for r in rows if r["setting"] != _OWN]
        for r in own:
            colour, marker = _MANY[r["conversations"]]
            _point(left, labels, r, colour, marker, 0.22 * ([*_MANY].index(r["conversations"]) - 1))
        for r in wrong:
            colour, marker = _WRONG[r["setting"]]
            _point(right, labels, r, colour, marker, 0.11 * ([*_WRONG].index(r["setting"]) - 3))
        for axes, some, title in ((left, own, "own model"), (right, wrong, "other data, 40")):
            _finish(axes, labels, some, level, title)
        right.set_yticklabels([])
        left.legend(
            handles=[
                _handle(left, c, m, f"{n} conversations") for n, (c, m) in _MANY.items()
            ],
            loc="upper left", bbox_to_anchor=(-1.4, -0.45 / (0.24 * len(labels) + 0.15)),
            borderaxespad=0, labelspacing=0.25,
        )  # fmt: skip
        shown = [k for k in _WRONG if any(r["setting"] == k for r in wrong)]
        right.legend(
            handles=[_handle(right, *_WRONG[k], k) for k in shown],
            loc="upper right", bbox_to_anchor=(1.0, -0.45 / (0.24 * len(labels) + 0.15)), ncols=2,
            borderaxespad=0, labelspacing=0.25, columnspacing=1.0, handletextpad=0.2,
        )  # fmt: skip
        name = f"calibration-coverage-{round(100 * level)}"
        judged = [r for r in own if r["met"] is not None]
        missed = [r for r in judged if r["met"] == "missed"]
        return to_picture(
            figure,
            name=name,
            title=f"Does a {numbers.percent(level)} interval hold the truth that often?",
            caption=f"Data: planted, {_sets(rows)} a point, seed {result['seed']}. Bars: 95% Monte "
            "Carlo (Wilson) intervals of the coverage. Grey: 2 points about the level, within "
            f"which {numbers.count(len(judged), 'coverages')} on the left are judged. On the right "
            "a method's model is wrong, or a special case of it; there nothing is asked.",
            alt=f"Of {len(judged)} judged coverages {len(missed)} miss {numbers.percent(level)} by "
            "more than two points: " + ("; ".join(map(_said, missed)) or "none") + ".",
        )


def ranks(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """The distribution function of each parameter's ranks minus the uniform one, and the band."""
    field = details.get("sbc")
    if not field:
        return None
    with house_style():
        figure = canvas(3.0, _WIDTH)
        axes = place(figure, 0.75, 0.55, 2.0, 0.2)
        low, high = field["band"]
        axes.fill_between(field["z"], low, high, color=RULE, alpha=0.6, linewidth=0)
        groups = list(dict.fromkeys(n.partition("[")[0] for n in field["names"]))
        seen = set()
        for name, difference in zip(field["names"], field["differences"], strict=True):
            site = name.partition("[")[0]
            axes.plot(
                field["z"], difference, linewidth=1, color=_COLOURS[groups.index(site)],
                label=None if site in seen else site,
            )  # fmt: skip
            seen.add(site)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.set(xlim=(0, 1), xlabel="rank of the truth among the posterior's draws, as a share",
                 ylabel="share below − uniform")  # fmt: skip
        bare(axes, grid="both")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title="parameters")
        sbc = result["sbc"]
        least = min(p["p_ecdf"] for p in sbc["parameters"])
        return to_picture(
            figure,
            name="calibration-ranks",
            title="Is the posterior right, on average over its prior?",
            caption=f"Data: {field['num_datasets']:,} sets simulated from the prior and the "
            f"Gaussian model, {sbc['conversations']} conversations each; none discarded "
            f"({numbers.count(sbc['by_nuts'])} by NUTS, where importance sampling could not be "
            f"trusted). {len(field['names'])} parameters. Grey: simultaneous 95% band (binomial, "
            "over all ranks) for one parameter of a calibrated posterior.",
            alt=f"The smallest p of {len(field['names'])} parameters is "
            f"{numbers.probability(least)}: {sbc['criterion']}, {sbc['met']}.",
        )


def false_positives(result: dict[str, Any]) -> Picture | None:
    """How often each test rejects where nothing is there, at .05 and .01."""
    rows = result["false_positives"]
    if not rows:
        return None
    labels = list(dict.fromkeys(r["method"] for r in rows))
    kinds = list(dict.fromkeys((r["setting"], r["conversations"]) for r in rows))
    styles = dict(zip(kinds, ((BLUE, "o"), (SKY, "v"), (PURPLE, "X")), strict=False))
    with house_style():
        figure = canvas(1.3 + 0.26 * len(labels), _WIDTH)
        for k, alpha in enumerate(sorted({r["level"] for r in rows}, reverse=True)):
            axes = place(figure, _LABELS + 2.5 * k, 0.85, 2.65 - 2.45 * k, 0.35)
            some = [r for r in rows if r["level"] == alpha]
            for r in some:
                kind = r["setting"], r["conversations"]
                shift = 0.22 * (kinds.index(kind) - 1)
                _point(axes, labels, r, *styles[kind], shift, value="rate")
            axes.axvline(alpha, color=QUIET, linewidth=0.8)
            axes.set_xlim(0, 3 * alpha)
            axes.set_xticks([0, alpha, 2 * alpha, 3 * alpha])
            _beyond(axes, labels, some, 3 * alpha)
            axes.set_yticks(range(len(labels)), labels if k == 0 else [])
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_title(f"at {alpha:g}", color=QUIET)
            axes.set_xlabel("share rejected")
            bare(axes)
            if k == 0:
                axes.legend(
                    handles=[
                        _handle(axes, *styles[kind], f"{kind[0]}, {kind[1]}") for kind in kinds
                    ],
                    loc="upper left", bbox_to_anchor=(-1.4, -0.5 / (0.26 * len(labels))),
                    ncols=3, borderaxespad=0,
                )  # fmt: skip
        worst = max(rows, key=lambda r: r["rate"] / r["level"])
        return to_picture(
            figure,
            name="calibration-false-positives",
            title="How often do the tests cry wolf?",
            caption=f"Data: planted, nothing to find, {_sets(rows)} a point, seed "
            f"{result['seed']}; the number is that of conversations. Bars: 95% Monte Carlo "
            "(Wilson) intervals. Rows permuted freely and rotations of growing lists are what no "
            "study uses; numbers at the edge lie beyond it.",
            alt=f"The largest rate in proportion to its level is {numbers.decimal(worst['rate'])} "
            f"at {worst['level']:g}, of {worst['method']}.",
        )


def draw(result: dict[str, Any], details: dict[str, Any]) -> dict[str, Picture]:
    """Every figure that these results allow, by its name."""
    pictures = (
        coverage(result, 0.95),
        coverage(result, 0.90),
        ranks(result, details),
        false_positives(result),
    )
    return {p.name: p for p in pictures if p is not None}


def _point(
    axes: Axes,
    labels: list[str],
    row: Row,
    colour: str,
    marker: str,
    shift: float,
    value: str = "coverage",
) -> None:
    y = labels.index(_label(row)) + shift
    low, high = row["mc_interval"]
    at = row[value]
    axes.errorbar(
        [at], [y], xerr=[[max(at - low, 0)], [max(high - at, 0)]], fmt=marker, color=colour,
        markersize=3, elinewidth=0.9, alpha=0.85,
    )  # fmt: skip


def _beyond(axes: Axes, labels: list[str], rows: list[Row], edge: float) -> None:
    """Numbers for rates that lie outside the axes."""
    for label in labels:
        outside = sorted(r["rate"] for r in rows if r["method"] == label and r["rate"] > edge)
        if outside:
            text = f"{numbers.decimal(outside[0], 2)} to {numbers.decimal(outside[-1], 2)} →"
            axes.text(edge, labels.index(label), text, ha="right", va="center", color=QUIET,
                      fontsize=8)  # fmt: skip


def _finish(axes: Axes, labels: list[str], rows: list[Row], level: float, title: str) -> None:
    axes.axvspan(level - 0.02, min(level + 0.02, 1), color=RULE, alpha=0.7, linewidth=0)
    axes.axvline(level, color=QUIET, linewidth=0.8)
    least = min([r["mc_interval"][0] for r in rows], default=level)
    axes.set_xlim(max(min(least, level - 0.05) - 0.03, 0), 1.01)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title(title, color=QUIET)
    axes.set_xlabel("share of data sets held")
    bare(axes)


def _handle(axes: Axes, colour: str, marker: str, label: str) -> Any:
    (line,) = axes.plot([], [], marker, color=colour, markersize=4, label=label, linestyle="none")
    return line


def _label(row: Row) -> str:
    quantity = row.get("quantity")
    if quantity is None:
        return row["method"]
    short = row["method"].replace("cluster bootstrap, ", "").replace("exact optimum, ", "")
    return f"{quantity}: {short}"


def _said(row: Row) -> str:
    share = numbers.percent(round(row["coverage"], 3))
    return f"{_label(row)}, {row['conversations']} conversations, {share}"


def _sets(rows: list[Row]) -> str:
    sizes = [r["num_datasets"] for r in rows]
    return f"{min(sizes):,} to {max(sizes):,} data sets"

"""Networks against linear weights: the differences, the candidates, and what the best learned."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from leray.figures import numbers, words
from leray.figures.captions import clusters, data_line
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    QUIET,
    VERMILLION,
    Picture,
    bare,
    canvas,
    house_style,
    place,
    to_picture,
)

NAME = "networks"
_PANELS = (("nDCG@10 difference, ", "nDCG@10"), ("r difference, ", "Pearson's r"))
_RATES = ((0.001, BLUE, "o"), (0.01, ORANGE, "s"), (0.1, GREEN, "^"))
_GOODNESS = {"pearson": "weighted r", "logistic": "minus log-loss"}
_LOSS = {"pearson": "Pearson loss", "logistic": "logistic loss"}


def network_differences(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """Network minus the linear optimum of the same loss, with intervals, for both losses."""
    field = details.get("stack", {}).get(NAME)
    row = next((r for r in result.get("stack", []) if r["name"] == NAME), None)
    if not field or row is None:
        return None
    panels = [
        (title, [e for e in row["estimates"] if e["name"].startswith(prefix)], prefix)
        for prefix, title in _PANELS
    ]
    with house_style():
        figure = canvas(1.75)
        for k, (title, rows, prefix) in enumerate(panels):
            axes = place(figure, 1.05 + 2.2 * k, 0.5, 2.45 - 2.2 * k, 0.3)
            _differences(axes, rows, prefix, labels=k == 0)
            axes.set_title(title)
            axes.set_xlabel("network minus linear")
        kinds = ", ".join(dict.fromkeys(e["interval_kind"] for _, rows, _ in panels for e in rows))
        level = numbers.percent(panels[0][1][0]["level"])
        found = "; ".join(_sentence(e) for _, rows, _ in panels for e in rows)
        return to_picture(
            figure,
            name="networks-differences",
            title="What networks gain over the best linear weights",
            caption=f"{data_line(result)} Each network was chosen and trained on conversations "
            f"other than those it is judged on ({field['num_folds']} folds, "
            f"{numbers.count(field['num_rows'])} rows to train on); the linear rival is the exact "
            f"optimum of the same loss on the same rows. Intervals: {level}, {kinds}, paired by "
            f"conversation ({clusters(result)}); those of nDCG@10 hold together over both losses, "
            "those of r one at a time.",
            alt=f"Dots with intervals around zero: {found}.",
        )


def _differences(axes: Axes, rows: list[dict[str, Any]], prefix: str, *, labels: bool) -> None:
    axes.axvline(0, color=QUIET, linewidth=0.8)
    for y, e in enumerate(rows):
        if e["interval"] is not None:
            axes.plot(e["interval"], (y, y), color=BLUE, linewidth=2, solid_capstyle="round")
        axes.plot(e["estimate"], y, "o", color=BLUE, markersize=6, markeredgecolor="white")
        axes.annotate(
            numbers.decimal(e["estimate"]), (e["estimate"], y), xytext=(0, 7), ha="center",
            textcoords="offset points", size=8.5,
        )  # fmt: skip
    bare(axes)
    axes.set(ylim=(len(rows) - 0.4, -0.75))
    axes.locator_params(axis="x", nbins=3)
    names = [e["name"].removeprefix(prefix) for e in rows] if labels else [""] * len(rows)
    axes.set_yticks(range(len(rows)), names)


def network_candidates(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """How well each candidate did when all were compared, by its hidden layers and rate."""
    field = details.get("stack", {}).get(NAME)
    if not field:
        return None
    losses = field["candidates"]
    with house_style():
        figure = canvas(2.95)
        for k, one in enumerate(losses):
            axes = place(figure, 0.6 + 2.85 * k, 0.98, 2.95 - 2.85 * k, 0.3)
            _strip(axes, one)
            axes.set_title(_LOSS[one["loss"]])
            axes.set_ylabel(_GOODNESS[one["loss"]], labelpad=2)
        handles = [
            Line2D([], [], marker=m, color=c, linestyle="none", markersize=4, label=f"rate {r:g}")
            for r, c, m in _RATES
        ]
        handles.append(Line2D([], [], color=VERMILLION, linewidth=1.4, label="linear optimum"))
        figure.legend(handles=handles, loc="lower left", ncols=4, bbox_to_anchor=(0.02, 0.0))
        epochs = losses[0]["epochs"]
        return to_picture(
            figure,
            name="networks-candidates",
            title=f"The {len(losses[0]['values'])} networks after {epochs:,} epochs",
            caption=f"{data_line(result)} Each dot is one network, trained for {epochs:,} epochs "
            "(all of them; later only the best go on) and compared on conversations that neither "
            "trained it nor judge the winner: a mean over "
            f"{field['num_folds']} folds; higher is better. Dots on the lower edge did worse than "
            "it shows. The line is the exact linear optimum of the same loss on the same rows. "
            "Estimates, without intervals; their best is flattered by being the best.",
            alt=f"Strip plots by hidden layers. {'; '.join(map(_best_of, losses))}.",
        )


def _strip(axes: Axes, one: dict[str, Any]) -> None:
    layers = list(dict.fromkeys(v["hidden"] for v in one["values"]))
    known = [v for v in one["values"] if v["value"] is not None]
    low, high = _frame([v["value"] for v in known], one["linear"])
    axes.axhline(one["linear"], color=VERMILLION, linewidth=1.4)
    for k, (rate, colour, marker) in enumerate(_RATES):
        own = [v for v in known if v["rate"] == rate]
        x = [layers.index(v["hidden"]) + 0.22 * (k - 1) for v in own]
        y = [max(v["value"], low) for v in own]
        axes.plot(
            x, y, marker, color=colour, markersize=3, alpha=0.75, markeredgewidth=0,
            linestyle="none", clip_on=False,
        )  # fmt: skip
    bare(axes, grid="y")
    axes.set(ylim=(low, high), xlim=(-0.6, len(layers) - 0.4))
    axes.locator_params(axis="y", nbins=5)
    axes.set_xticks(range(len(layers)), layers, rotation=35, ha="right", color=INK, size=7.5)


def _frame(values: list[float], linear: float) -> tuple[float, float]:
    """From the tenth percentile, or the linear optimum where that is lower, to the best."""
    ranked = sorted(values)
    low, high = min(ranked[len(ranked) // 10], linear), max(ranked[-1], linear)
    pad = 0.06 * (high - low) or 0.01
    return low - pad, high + pad


def _best_of(one: dict[str, Any]) -> str:
    best = max((v for v in one["values"] if v["value"] is not None), key=lambda v: v["value"])
    return (
        f"{_LOSS[one['loss']]}, {_GOODNESS[one['loss']]}: best {numbers.decimal(best['value'], 4)} "
        f"(hidden layers {best['hidden']}), linear optimum {numbers.decimal(one['linear'], 4)}"
    )


def network_effects(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """Partial dependence on each signal, network and linear, and the pairs' interactions."""
    field = details.get("stack", {}).get(NAME)
    if not field:
        return None
    effects = field["effects"]
    with house_style():
        figure = canvas(3.65)
        for j, signal in enumerate(effects["signals"]):
            axes = place(figure, 0.5 + 1.22 * j, 2.05, 3.78 - 1.22 * j, 0.5)
            _curves(axes, effects, j)
            axes.set_title(words.signal(signal).name, fontsize=8.5)
            if j:
                axes.set_yticklabels([])
            else:
                axes.set_ylabel("mean score (sd)")
        _interactions(place(figure, 1.85, 0.45, 0.35, 2.0), effects)
        handles = [
            Line2D([], [], color=BLUE, linewidth=1.4, label="network, one line a fold"),
            Line2D([], [], color=VERMILLION, linewidth=1.2, linestyle="--", label="linear rival"),
        ]
        figure.legend(handles=handles, loc="upper left", ncols=2, bbox_to_anchor=(0.0, 1.01))
        share = fmean(effects["linear_share"])
        return to_picture(
            figure,
            name="networks-effects",
            title=f"What the best networks learned ({_LOSS[field['loss']]})",
            caption=f"{data_line(result)} Above: the mean score where one signal is set to a "
            f"value and the others stay as they are (partial dependence, every so-many-th row, "
            f"{numbers.count(effects['num_rows'], 'rows')}), in standard deviations of the score, "
            "from the 1st to the 99th percentile of the signal. Below: what each pair does "
            "together that is no sum of two single effects, as a share of the joint effect of the "
            "strongest pair (two-way analysis of variance on a grid of quantiles, a dot a fold). "
            "A linear function of the "
            f"signals accounts for {numbers.percent(round(share, 2))} of these scores' variance. "
            "Descriptions of the fitted networks, without intervals.",
            alt=f"Curves of the score against each of {', '.join(effects['signals'])}, and "
            f"interaction strengths: {'; '.join(map(_pair, effects['interactions']))}.",
        )


def _curves(axes: Axes, effects: dict[str, Any], j: int) -> None:
    x = effects["grid"][j]
    for curve in effects["linear"]:
        axes.plot(x, curve[j], color=VERMILLION, linewidth=1.0, linestyle="--", alpha=0.8)
    for curve in effects["network"]:
        axes.plot(x, curve[j], color=BLUE, linewidth=1.2, alpha=0.8)
    every = [v for c in (*effects["network"], *effects["linear"]) for line in c for v in line]
    pad = 0.05 * (max(every) - min(every)) or 0.1
    axes.set_ylim(min(every) - pad, max(every) + pad)
    bare(axes, grid="y")
    axes.locator_params(axis="x", nbins=2)
    axes.tick_params(labelsize=7.5)


def _interactions(axes: Axes, effects: dict[str, Any]) -> None:
    rows = sorted(effects["interactions"], key=lambda p: -fmean(p["strength"]))
    for y, p in enumerate(rows):
        axes.plot(
            p["strength"],
            [y] * len(p["strength"]),
            "o",
            color=BLUE,
            markersize=4,
            alpha=0.7,
            clip_on=False,
        )
    bare(axes)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="share of the strongest pair's effect")
    axes.set_xlim(0, 1)
    names = [" × ".join(words.signal(s).name for s in p["pair"]) for p in rows]
    axes.set_yticks(range(len(rows)), names)


def _pair(p: dict[str, Any]) -> str:
    return f"{' with '.join(p['pair'])} {numbers.decimal(fmean(p['strength']), 2)}"


def _sentence(e: dict[str, Any]) -> str:
    ends = "" if e["interval"] is None else f" ({numbers.between(e['interval'])})"
    return f"{e['name']}, {numbers.decimal(e['estimate'])}{ends}"

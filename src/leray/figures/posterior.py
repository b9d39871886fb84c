"""The posterior of the weights, the chains behind it, and how near the fast approximation comes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from leray.figures import numbers, words
from leray.figures.captions import data_line
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
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

_LINES = {
    "NUTS": (SKY, "-"),
    "importance sampling": (INK, ":"),
    "NUTS, logistic model": (VERMILLION, "--"),
}
_FAMILIES = {"full-rank": (BLUE, "-"), "mean-field": (ORANGE, "--")}
_CHAINS = (BLUE, ORANGE, GREEN, VERMILLION)
_ROW = 0.78  # inches a signal


def posterior(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """The marginal posterior of each weight: NUTS, importance sampling and the logistic model."""
    field, row = _of("bayes", result, details)
    if field is None or row is None:
        return None
    signals = field["signals"]
    with house_style():
        figure = canvas(0.95 + _ROW * len(signals))
        for k, (axes, signal) in enumerate(zip(_stack(figure, len(signals)), signals, strict=True)):
            for name, (colour, line) in _LINES.items():
                _density(axes, field["densities"][name][k], colour, line, filled=name == "NUTS")
            axes.axvline(field["optimum"][k], color=INK, linewidth=1)
            _label(axes, signal)
        handles = [_handle(name, *look) for name, look in _LINES.items()]
        handles.append(_handle("largest correlation", INK, "-"))
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=2,
                      columnspacing=1.1, handlelength=1.5)  # fmt: skip
        sampled = row["diagnostics"]
        return to_picture(
            figure,
            name="bayes",
            title="Where the weights are, given the data and the prior",
            caption=f"{data_line(result)} Marginal posterior densities, each scaled to its "
            f"highest point: {numbers.count(field['draws'], 'draws')} of NUTS, the reweighted "
            "draws of importance sampling (k-hat "
            f"{numbers.decimal(sampled['importance sampling k-hat'], 2)}), and the logistic model "
            f"on {numbers.count(sampled['logistic: rows'], 'sampled rows')}. Thin lines: the "
            f"weights with the largest correlation. {_intervals(row)}",
            alt="Posterior of each weight. "
            + "; ".join(f"{words.signal(s).name} {_said(row, f'{s} (NUTS)')}" for s in signals)
            + ".",
        )


def ranks(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """How the draws of each chain rank among all: even lines where the chains agree."""
    field, row = _of("bayes", result, details)
    if field is None or row is None:
        return None
    signals = field["signals"]
    with house_style():
        figure = canvas(1.0 + _ROW * len(signals))
        for axes, signal in zip(_stack(figure, len(signals)), signals, strict=True):
            counts = field["ranks"][signal]
            even = sum(map(sum, counts)) / len(counts) / len(counts[0])
            for chain, colour in zip(counts, _CHAINS, strict=False):
                edges = [k / len(chain) for k in range(len(chain) + 1)]
                shares = [c / even for c in chain]
                axes.stairs(shares, edges, baseline=None, color=colour, linewidth=1.2)
            axes.axhline(1, color=INK, linewidth=0.6)
            axes.set(xlim=(0, 1), ylim=(0, 2))
            axes.tick_params(length=0)
            axes.set_yticks([1], [words.signal(signal).short])
        axes = figure.axes[-1]
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("rank among the draws of all chains, as a share")
        found = row["diagnostics"]
        sentence = (
            f"R-hat is at most {numbers.decimal(found['largest R-hat'], 4)}, the smallest effective"
            f" sample size {found['smallest bulk ESS']:,.0f} in the bulk and "
            f"{found['smallest tail ESS']:,.0f} in the tails, with "
            f"{numbers.count(found['divergences'], 'divergences')}."
        )
        return to_picture(
            figure,
            name="bayes-ranks",
            title="Do the chains agree?",
            caption=f"{data_line(result)} A line a chain, "
            f"{numbers.count(field['draws'], 'draws')} in all: how many of its draws have each "
            "rank, against an even share (1). Chains that met give level lines. "
            f"{sentence} Counts, without an interval.",
            alt=f"Rank plots of the four weights by chain. {sentence}",
        )


def variational(result: dict[str, Any], details: dict[str, Any]) -> Picture | None:
    """The variational marginals over those of NUTS, and the lower bound along the way."""
    field, row = _of("variational", result, details)
    if field is None or row is None:
        return None
    signals, families = field["signals"], field["families"]
    with house_style():
        figure = canvas(0.95 + _ROW * len(signals))
        for k, (axes, signal) in enumerate(zip(_stack(figure, len(signals)), signals, strict=True)):
            _density(axes, field["nuts"]["density"][k], SKY, "-", filled=True)
            for name, (colour, line) in _FAMILIES.items():
                _density(axes, families[name]["density"][k], colour, line)
            _label(axes, signal)
            distance = numbers.decimal(families["full-rank"]["distance"][k], 2)
            axes.text(0.995, 0.62, f"{distance} sd", transform=axes.transAxes, ha="right",
                      color=BLUE, size=8.5)  # fmt: skip
        handles = [_handle("NUTS", SKY, "-")]
        handles += [_handle(f"variational, {n}", *look) for n, look in _FAMILIES.items()]
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=3)
        each = {e["name"]: e for e in row["estimates"]}
        largest = each["M6"]
        return to_picture(
            figure,
            name="variational",
            title="The fast approximation beside the slow sampling",
            caption=f"{data_line(result)} Marginal densities of each weight, each scaled to its "
            f"highest point: {numbers.count(field['nuts']['draws'], 'draws')} of NUTS and "
            f"{numbers.count(families['full-rank']['seeds'], 'seeds')} of each fit together. "
            "Numbers: the distance of the full-rank fit from NUTS (1-Wasserstein, in posterior "
            f"standard deviations); the largest is {numbers.decimal(largest['estimate'], 2)} "
            f"({numbers.between(largest['interval'], 2)}, {numbers.percent(largest['level'])} "
            f"{largest['interval_kind']}, of Monte Carlo error only).",
            alt="Distance of the full-rank fit from NUTS, in posterior standard deviations: "
            + "; ".join(
                f"{words.signal(s).short} {numbers.decimal(v, 2)}"
                for s, v in zip(signals, families["full-rank"]["distance"], strict=True)
            )
            + ".",
        )


def _of(
    name: str, result: dict[str, Any], details: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    field = (details.get("stack") or {}).get(name)
    row = next((r for r in result.get("stack") or [] if r["name"] == name), None)
    return field, row


def _stack(figure: Figure, num: int) -> list[Axes]:
    """Axes above each other that share the axis of weights, labelled at the bottom."""
    top = figure.get_size_inches()[1] - 0.1
    out = []
    for k in range(num):
        bottom = top - (k + 1) * _ROW
        axes = place(figure, 0.95, bottom, 0.25, figure.get_size_inches()[1] - bottom - _ROW + 0.1)
        axes.tick_params(length=0, labelbottom=k == num - 1)
        out.append(axes)
    return out


def _density(
    axes: Axes, shares: Sequence[float], colour: str, line: str, *, filled: bool = False
) -> None:
    """A histogram on (0, 1), smoothed by a running mean of bins, scaled to a height of 1."""
    smooth = _running(shares)
    highest = max(smooth)
    x = [(k + 0.5) / len(shares) for k in range(len(shares))]
    y = [v / highest for v in smooth]
    if filled:
        axes.fill_between(x, y, color=colour, alpha=0.35, linewidth=0)
    axes.plot(x, y, line, color=colour, linewidth=1.6)


def _running(shares: Sequence[float], reach: int = 1) -> list[float]:
    total = [0.0, *accumulate(shares)]
    last = len(shares)
    ends = [(max(k - reach, 0), min(k + reach + 1, last)) for k in range(last)]
    return [(total[b] - total[a]) / (b - a) for a, b in ends]


def _label(axes: Axes, signal: str) -> None:
    bare(axes)
    axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.08))
    axes.set_yticks([0.45], [words.signal(signal).short])
    if axes.get_xticklabels() and axes.xaxis.get_tick_params().get("labelbottom"):
        axes.set_xlabel("weight", color=QUIET)


def _handle(label: str, colour: str, line: Any) -> Line2D:

    thin = label == "largest correlation"
    return Line2D([], [], color=colour, linestyle=line, linewidth=1 if thin else 1.8, label=label)


def _said(row: dict[str, Any], name: str) -> str:
    found = next(w for w in row["weights"] if w["signal"] == name)
    return f"{numbers.decimal(found['estimate'])} ({numbers.between(found['interval'])})"


def _intervals(row: dict[str, Any]) -> str:
    rows = [w for w in row["weights"] if w["signal"].endswith("(NUTS)")]
    level = numbers.percent(rows[0]["level"])
    said = "; ".join(
        f"{words.signal(w['signal'].partition(' (')[0]).short} "
        f"{numbers.between(w['interval'])} ({w['interval_kind']})"
        for w in rows
    )
    return f"{level} intervals of NUTS: {said}."

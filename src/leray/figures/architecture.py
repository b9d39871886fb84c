"""Figures of the architecture study: differences, curves against compute, gains by budget."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

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

_LOOKS = (
    ("o", BLUE, "-"),
    ("s", ORANGE, "--"),
    ("^", GREEN, "-."),
    ("v", PURPLE, ":"),
    ("D", VERMILLION, "-"),
    ("P", SKY, "--"),
)
"""Marker, colour and line of the headline models, in their order."""


def draw(result: dict[str, Any], details: dict[str, Any]) -> dict[str, Picture]:
    """All of them by name."""
    pictures = [forest(result), curves(result, details), budgets(result, details), gains(result)]
    if details.get("looks"):
        pictures.append(looks(result, details))
    return {p.name: p for p in pictures}


def forest(result: dict[str, Any]) -> Picture:
    """Every difference with its two intervals; left of zero is better."""
    rows = result["differences"]
    with house_style():
        figure = canvas(1.25 + 0.245 * len(rows))
        axes = place(figure, 2.35, 0.95, 0.6, 0.1)
        for y, row in enumerate(rows):
            for part, colour, width in ((row["crossed"], QUIET, 1), (row, BLUE, 2.4)):
                if part["interval"] is not None:
                    axes.plot(part["interval"], (y, y), color=colour, linewidth=width)
            axes.plot(row["estimate"], y, "o", color=BLUE, markersize=5.5, markeredgecolor="white")
            axes.text(
                1.02, y, f"{row['estimate']:+.3f}", va="center", size=8.5,
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.8)
        bare(axes)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="nats a token; negative is better")
        axes.set_yticks(range(len(rows)), [_pair(row) for row in rows], size=7.5)
        level = numbers.percent(rows[0]["level"])
        return to_picture(
            figure,
            name="differences",
            title="What each ingredient is worth",
            caption=f"{_data(result)} Loss on the report split less that of the model named after "
            f"“–”, paired by seed. Thick: {rows[0]['interval_kind']}; thin: "
            f"{rows[0]['crossed']['interval_kind']}; both {level}, "
            f"n = {rows[0]['n']} seeds; where no line is seen the interval has no end.",
            alt="Differences of loss: "
            + "; ".join(f"{_pair(r)} {r['estimate']:+.3f}" for r in rows)
            + ".",
        )


def curves(result: dict[str, Any], details: dict[str, Any]) -> Picture:
    """The loss while training against the operations spent."""
    scale = result["scale"]
    tokens = scale["num_sequences"] * scale["context"]
    rows = [r for r in result["table"] if r["role"] in ("baseline", "rival", "default")]
    assert len(rows) <= len(_LOOKS), "every model has a look of its own"
    with house_style():
        figure = canvas(3.3)
        axes = place(figure, 0.75, 0.95, 0.2, 0.15)
        for row, (marker, colour, line) in zip(rows, _LOOKS, strict=False):
            curve = details["curves"][row["method"]]
            spent = np.array(curve["steps"]) * tokens * row["flops_per_token"] / 1e12
            axes.plot(
                spent, curve["tune"], line, marker=marker, markersize=4, color=colour,
                label=row["method"],
            )  # fmt: skip
        last = ((r["method"], details["curves"][r["method"]]["tune"][-1]) for r in rows)
        ends = "; ".join(f"{name} {loss:.3f}" for name, loss in last)
        axes.grid(axis="y")
        axes.set(xlabel="training operations, TFLOP", ylabel="nats a token, tuning split")
        figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.05, 0.0))
        return to_picture(
            figure,
            name="curves",
            title="Loss against operations",
            caption=f"{_data(result)} Means over {result['table'][0]['metrics']['loss']['n']} "
            "seeds; the rate falls to zero over the second half of a run, so that only ends of "
            "runs compare.",
            alt=f"Final loss on the tuning split: {ends}.",
        )


def budgets(result: dict[str, Any], details: dict[str, Any]) -> Picture:
    """The final loss of whole runs of several lengths, every seed a dot."""
    scale = result["headline_scale"]
    steps = scale["num_steps"] * scale["num_sequences"] * scale["context"]
    with house_style():
        figure = canvas(3.3)
        axes = place(figure, 0.75, 0.95, 0.2, 0.15)
        for (name, runs), (marker, colour, line) in zip(
            details["budgets"].items(), _LOOKS, strict=False
        ):
            spent = [r["fraction"] * steps * r["flops_per_token"] / 1e12 for r in runs]
            means = [float(np.mean(r["losses"])) for r in runs]
            axes.plot(spent, means, line, marker=marker, markersize=4, color=colour, label=name)
            for x, run in zip(spent, runs, strict=True):
                axes.plot([x] * len(run["losses"]), run["losses"], ".", color=colour, markersize=2)
        axes.grid(axis="y")
        axes.set(xlabel="training operations, TFLOP", ylabel="nats a token, report split")
        whole = steps * details["budgets"]["baseline"][0]["flops_per_token"] / 1e12
        _log_axis(axes, [r["fraction"] * whole for r in details["budgets"]["baseline"]])
        figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.05, 0.0))
        share, other = (result["compute_share"][k] for k in ("flops", "seconds"))
        reached = (
            "The default does not reach the baseline's final loss in every seed."
            if share is None
            else "The default reaches the baseline's final loss with "
            f"{share['estimate']:.0%} of its operations"
            + (f" and {other['estimate']:.0%} of its seconds." if other else ".")
        )
        return to_picture(
            figure,
            name="budgets",
            title="How much training buys",
            caption=f"{_data(result)} Whole runs of several lengths, each with its own schedule; "
            f"dots are seeds, lines their means. {reached}",
            alt=reached,
        )


def gains(result: dict[str, Any]) -> Picture:
    """What the default is better by, against the tokens of training, for every size of model."""
    sizes = sorted({row["parameters"] for row in result["gains"]})
    rivals = [d["against"] for d in result["gains"][0]["differences"]]
    with house_style():
        figure = canvas(3.3)
        axes = place(figure, 0.75, 0.95, 0.2, 0.15)
        for place_of, rival in enumerate(rivals):
            marker, colour, _ = _LOOKS[place_of]
            for size, line in zip(sizes, ("-", "--", ":"), strict=False):
                rows = sorted(
                    (r for r in result["gains"] if r["parameters"] == size),
                    key=lambda r: r["tokens"],
                )
                found = [(r["tokens"], r["differences"][place_of]) for r in rows]
                axes.plot(
                    [t for t, _ in found], [d["estimate"] for _, d in found], line, marker=marker,
                    markersize=4, color=colour, label=f"against {rival}, {size / 1e6:.2f}M",
                )  # fmt: skip
                for tokens, d in found:
                    if d["interval"] is not None:
                        axes.plot([tokens] * 2, d["interval"], color=colour, linewidth=1, alpha=0.5)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.grid(axis="y")
        axes.set(xlabel="tokens of training", ylabel="nats a token; negative is better")
        _log_axis(axes, [float(r["tokens"]) for r in result["gains"]])
        figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.02, 0.0), fontsize=7)
        first = result["gains"][0]["differences"][0]
        last = result["gains"][len(result["gains"]) - 1]["differences"]
        return to_picture(
            figure,
            name="gains",
            title="How the gain goes on with tokens and size",
            caption=f"{_data(result)} Loss of the default less that of each rival; "
            f"{first['interval_kind']}, {numbers.percent(first['level'])}, n = {first['n']} seeds.",
            alt="At the last scale: "
            + "; ".join(f"against {d['against']} {d['estimate']:+.3f}" for d in last)
            + ".",
        )


def looks(result: dict[str, Any], details: dict[str, Any]) -> Picture:
    """How far back every layer of attention looks, a model a panel."""
    models = details["looks"]
    with house_style():
        figure = canvas(2.75)
        panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        figure.subplots_adjust(left=0.13, right=0.98, bottom=0.36, top=0.88, wspace=0.12)
        named: dict[int, Any] = {}
        for axes, (name, look) in zip(panels, models.items(), strict=True):
            for layer, shares in zip(look["layers"], look["shares"], strict=True):
                marker, colour, line = _LOOKS[layer % len(_LOOKS)]
                (named[layer],) = axes.plot(
                    look["within"], shares, line, marker=marker, markersize=3, color=colour
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(look["within"][::3], [str(d) for d in look["within"][::3]])
            axes.set_xticks([], minor=True)
            axes.set_title(name, fontsize=8.5)
            axes.grid(axis="y")
        panels[0].set(ylabel="share of the weight", ylim=(0, 1.03))
        figure.supxlabel("within so many tokens, itself included", fontsize=8.5, y=0.17)
        figure.legend(
            [named[i] for i in sorted(named)], [f"layer {i + 1}" for i in sorted(named)],
            loc="lower left", ncols=6, bbox_to_anchor=(0.05, 0.0), fontsize=7,
        )  # fmt: skip
        half = {
            n: [min((d for d, x in zip(v["within"], s, strict=True) if x >= 0.5), default=None)
                for s in v["shares"]]
            for n, v in models.items()
        }  # fmt: skip
        told = "; ".join(
            f"{n} {', '.join('beyond' if d is None else str(d) for d in v)}"
            for n, v in half.items()
        )
        loads = models.get("routing", {}).get("load", ())
        gates = ", ".join(f"{x:.0%}" for x in loads)
        return to_picture(
            figure,
            name="looks",
            title="Where each layer looks",
            caption=f"{_data(result)} Weight of attention by distance, means over heads and the "
            "second halves of windows of the tuning split; the first seed. Layers without a line "
            "are recurrences."
            + (f" Routing shows its windows; gates to all before: {gates}." if gates else ""),
            alt=f"Distance within which half of the weight lies, by layer: {told}.",
        )


def _log_axis(axes: Axes, values: list[float]) -> None:
    """Logarithmic along x, its marks at these values or at every other of many."""
    marks = sorted(set(values))
    marks = marks[:: 1 + len(marks) // 6] if len(marks) > 6 else marks
    axes.set_xscale("log")
    axes.set_xticks(marks, [_short(x) for x in marks])
    axes.set_xticks([], minor=True)


def _short(x: float) -> str:
    """In three digits: 0.0123, 12.3, 3.07M."""
    return f"{x / 1e6:.3g}M" if x >= 1e4 else f"{x:.3g}"


def _pair(row: dict[str, Any]) -> str:
    return f"{row['method']} – {row['against']}"


def _data(result: dict[str, Any]) -> str:
    scale = result["scale"]
    return (
        f"{result['data']['name']}, {result['data']['documents']['report']} documents for the "
        f"report; width {scale['width']}, {scale['num_layers']} layers."
    )

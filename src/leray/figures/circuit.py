"""A circuit as a person reads it: from the inputs up to the output, edge by edge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from leray.errors import plain
from leray.figures import numbers
from leray.figures.style import (
    BLUE,
    GREEN,
    INK,
    PAPER,
    PURPLE,
    QUIET,
    RULE,
    VERMILLION,
    WIDTH,
    Picture,
    canvas,
    house_style,
    lines,
    note,
    place,
    to_picture,
    xml_text,
)
from leray.figures.wiring import (
    MOST,
    PARTS,
    Box,
    Branch,
    Wire,
    Wiring,
    by_target,
    input_of,
    wires_of,
    wiring_of,
)

NAME = "circuit"
COLOURS = {"query": BLUE, "key": VERMILLION, "value": GREEN, "mlp": PURPLE, "output": INK}
SAID = {"query": "q query", "key": "k key", "value": "v value", "mlp": "into an MLP",
        "output": "into the output"}  # fmt: skip
_WIRE, _BAND, _FAINT = "#c3ccd5", "#f5f7f9", "#8793a0"
_LEFT, _RIGHT, _TOP = 1.0, 0.3, 0.8
_THIN, _THICK = 0.7, 2.6


def circuit_picture(result: dict[str, Any], *, pixels: bool = False) -> Picture:
    """What `leray circuits find --json` prints: its strongest edges, the others counted.

    Args:
        pixels: As a PNG too.
    """
    every = wires_of(result["circuit"])
    weights = _weights(every, result["scored_by"])[:MOST]
    wiring = wiring_of(every[:MOST], result["layers"])
    caption = _caption(result, every, wiring)
    width = max(WIDTH, wiring.width + _LEFT + _RIGHT)
    entries = _entries(wiring, weights, result["scored_by"], width)
    foot = 0.42 + 0.2 * len(entries) + 0.145 * (lines(caption, width - 0.24).count("\n") + 1)
    with house_style():
        figure, axes = _sheet(wiring, width, foot)
        _title(figure, result)
        _bands(axes, wiring)
        _trunks(axes, wiring, weights)
        for branch in sorted(wiring.branches, key=lambda b: weights[b.number]):
            _branch(axes, wiring.wires[branch.number], branch, weights[branch.number])
        for box in wiring.boxes:
            _box(axes, box, wiring)
        _legend(axes, entries)
        note(figure, caption)
        picture = to_picture(
            figure,
            name=NAME,
            title=f"The circuit of {_what(result)}",
            caption=caption,
            alt=f"{_sentence(result)} {caption} {_alt(wiring)}",
            pixels=pixels,
        )
    return replace(picture, svg=_named(picture.svg, wiring))


def _what(result: dict[str, Any], most: int = 200) -> str:
    """The task and the model, whose name loses its beginning where it is too long."""
    model, task = plain(str(result["model"])), plain(result["task"] or "")
    ahead = f"{task} in " if task else ""
    room = max(8, most - len(ahead))
    return ahead + (model if len(model) <= room else f"…{model[1 - room :]}")


def _sentence(result: dict[str, Any]) -> str:
    size, keeps = result["size"], numbers.decimal(result["kept"])
    return (
        f"{numbers.count(size)} of {numbers.count(result['edges'])} edges keep {keeps} of what it "
        f"does; {numbers.count(size)} drawn at random keep "
        f"{numbers.decimal(result['kept_by_chance'])}."
    )


def _weights(wires: list[Wire], scored_by: str) -> list[float]:
    """How strong each wire is, in [0, 1]: by the root of its effect, or by its place."""
    if scored_by == "place":
        return [1 - k / len(wires) for k in range(len(wires))]
    most = max(0.0, *(w.score for w in wires)) or 1.0
    return [(max(w.score, 0.0) / most) ** 0.5 for w in wires]


def _caption(result: dict[str, Any], every: list[Wire], wiring: Wiring) -> str:
    """What is drawn, what is left out, and on how many inputs it was measured."""
    nodes = len({name for w in every for name in (w.source, w.target)})
    left_out = {
        "weaker edges of the circuit": len(every) - len(wiring.wires),
        "nodes that only they touch": nodes - len(wiring.boxes),
        "nodes outside the circuit": result["nodes"] - nodes,
    }
    told = ", ".join(numbers.count(n, what) for what, n in left_out.items() if n)
    said = [
        "Read upwards: what a node writes goes up grey and takes the colour of the input through "
        "which it is read.",
        f"Not drawn: {told}." if told else "",
        f"Data: {numbers.count(result['examples'], 'inputs')}, seed {result['seed']}. Kept is "
        "F\u00a0=\u00a01\u00a0−\u00a0D(all other edges ablated) / D(all ablated), D the squared "
        f"distance of the outputs from the clean ones, ablation {result['ablation']}; no interval.",
        f"{plain(result['weights'])}." if result["weights"] else "",
    ]
    return " ".join(text for text in said if text)


def _alt(wiring: Wiring) -> str:
    read = by_target(wiring.wires)
    return " ".join(
        f"{plain(name)} reads {', '.join(plain(w.source) for w in wires)}."
        for name, wires in read.items()
    )


def _sheet(wiring: Wiring, width: float, foot: float) -> tuple[Figure, Axes]:
    """A figure whose one axes are inches from the lower left corner of the wiring."""
    height = foot + wiring.height + _TOP
    figure = canvas(height, width)
    axes = place(figure, 0.0, 0.0, 0.0, 0.0)
    left = _LEFT + (width - _LEFT - _RIGHT - wiring.width) / 2
    axes.set(xlim=(-left, width - left), ylim=(-foot, height - foot))
    axes.set_axis_off()
    return figure, axes


def _title(figure: Figure, result: dict[str, Any]) -> None:
    width, height = figure.get_size_inches()
    left, what = 0.12 / width, _what(result, int((width - 0.24) / 0.125))
    figure.text(left, 1 - 0.14 / height, what, size=12, va="top", weight="bold")
    figure.text(left, 1 - 0.38 / height, _sentence(result), size=9, va="top", color=QUIET)


def _bands(axes: Axes, wiring: Wiring) -> None:
    """The layers as quiet bands; between them, which layers have no node."""
    low, high = axes.get_xlim()
    for band in wiring.bands:
        y, colour = (band.bottom + band.top) / 2, QUIET
        if band.empty:
            colour = _FAINT
        else:
            axes.add_patch(
                Rectangle((low, band.bottom), high - low, band.top - band.bottom,
                          facecolor=_BAND, edgecolor="none", clip_on=False)
            )  # fmt: skip
        axes.text(low + 0.12, y, band.label, size=8.5 if not band.empty else 7.5, va="center",
                  color=colour)  # fmt: skip


def _trunks(axes: Axes, wiring: Wiring, weights: list[float]) -> None:
    """As wide as the strongest of their edges."""
    strongest: dict[str, float] = {}
    for wire, weight in zip(wiring.wires, weights, strict=True):
        strongest[wire.source] = max(strongest.get(wire.source, 0.0), weight)
    for k, trunk in enumerate(wiring.trunks):
        steps = [
            _curve((x, top), (to, low)) for (x, _, top), (to, low, _) in pairwise(trunk.places)
        ]
        straight = [Path([(x, low), (x, top)]) for x, low, top in trunk.places[1:]]
        patch = PathPatch(
            Path.make_compound_path(*steps, *straight), fill=False, edgecolor=_WIRE,
            linewidth=_width(strongest[trunk.source]), zorder=2, clip_on=False,
        )  # fmt: skip
        patch.set_gid(f"trunk-{k}")
        axes.add_patch(patch)


def _branch(axes: Axes, wire: Wire, branch: Branch, weight: float) -> None:
    patch = PathPatch(
        _curve(branch.start, (branch.end[0], branch.end[1] - 0.05)), fill=False,
        edgecolor=COLOURS[wire.part], linewidth=_width(weight), alpha=0.6 + 0.35 * weight,
        zorder=3, clip_on=False,
    )  # fmt: skip
    patch.set_gid(f"edge-{branch.number}")
    axes.add_patch(patch)


def _width(weight: float) -> float:
    return _THIN + (_THICK - _THIN) * weight


def _curve(start: tuple[float, float], end: tuple[float, float]) -> Path:
    """Upright at both ends."""
    (a, b), (c, d) = start, end
    bend = 0.55 * (d - b)
    return Path([(a, b), (a, b + bend), (c, d - bend), (c, d)], [1, 4, 4, 4])


def _box(axes: Axes, box: Box, wiring: Wiring) -> None:
    left, corners = box.x - box.width / 2, "round,pad=0,rounding_size=0.07"
    axes.add_patch(
        FancyBboxPatch((left, box.y), box.width, box.height, boxstyle=corners, facecolor=PAPER,
                       edgecolor=QUIET, linewidth=0.9, zorder=4, clip_on=False)
    )  # fmt: skip
    middle = box.y + box.height * (0.64 if box.is_head else 0.5)
    axes.text(box.x, middle, plain(box.label), size=8.5, ha="center", va="center", zorder=6)
    for part, at in PARTS.items() if box.is_head else ():
        axes.text(box.x + at, box.y + 0.1, part[0], size=7, ha="center", va="center", zorder=6,
                  color=COLOURS[part] if part in box.read else RULE, weight="bold")  # fmt: skip
    for part in sorted(box.read):
        ends = [
            b.end[0]
            for b in wiring.branches
            if (wiring.wires[b.number].target, wiring.wires[b.number].part) == (box.name, part)
        ]
        _arrow(axes, min(ends), max(ends), box.y, COLOURS[part])


def _arrow(axes: Axes, left: float, right: float, y: float, colour: str) -> None:
    """One head for all that enter an input, as wide as they are."""
    corners = [(left - 0.045, y - 0.08), (right + 0.045, y - 0.08), (right, y), (left, y)]
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor="none", zorder=5, clip_on=False))


Entry = tuple[float, str, list[tuple[str, float]]]
"""Where an entry of the legend begins, its words, its samples: colour and weight."""


def _entries(
    wiring: Wiring, weights: list[float], scored_by: str, width: float
) -> list[list[Entry]]:
    """The legend, in as many lines as it takes."""
    used = {w.part for w in wiring.wires}
    told: list[tuple[str, list[tuple[str, float]]]] = [
        (text, [(COLOURS[part], 0.4)]) for part, text in SAID.items() if part in used
    ]
    if wiring.trunks:
        told.append(("written, not yet read", [(_WIRE, 0.6)]))
    low, high = min(weights), max(weights)
    shown = [low, (low + high) / 2, high] if low < high else [high]
    told.append((_scale(wiring.wires, scored_by), [(QUIET, weight) for weight in shown]))
    found: list[list[Entry]] = [[]]
    x = 0.12
    for text, samples in told:
        wide = 0.26 * len(samples) + 0.062 * len(text) + 0.16
        if found[-1] and x + wide > width:
            found.append([])
            x = 0.12
        found[-1].append((x, text, samples))
        x += wide
    return found


def _scale(wires: Sequence[Wire], scored_by: str) -> str:
    if scored_by == "place":
        return "from the last to the first in order"
    least, most = (f"{k(w.score for w in wires):.3g}" for k in (min, max))
    return f"lost without the edge: {least if least == most else f'{least} to {most}'}"


def _legend(axes: Axes, entries: list[list[Entry]]) -> None:
    left = axes.get_xlim()[0]
    for line, own in enumerate(entries):
        y = -0.36 - 0.2 * line
        for at, text, samples in own:
            x = left + at
            for k, (colour, weight) in enumerate(samples):
                ends = [x + 0.26 * k, x + 0.26 * k + 0.2]
                axes.plot(ends, [y, y], color=colour, linewidth=_width(weight), clip_on=False)
            axes.text(x + 0.26 * len(samples), y, text, size=8, va="center", color=QUIET)


def _named(svg: str, wiring: Wiring) -> str:
    """Edges and trunks with their names, shown where a pointer rests on them."""

    def titled(found: re.Match[str]) -> str:
        k = int(found[2])
        if found[1] == "trunk":
            told = f"what {wiring.trunks[k].source} writes"
        else:
            wire = wiring.wires[k]
            told = f"{wire.source} → {input_of(wire)}: {wire.score:.4g}"
        return f"{found[0]}<title>{xml_text(plain(told))}</title>"

    return re.sub(rf'<g id="{NAME}-(edge|trunk)-(\d+)">', titled, svg)

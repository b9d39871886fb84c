"""Where the nodes and wires of a circuit stand on a sheet, in inches, read upwards.

    rows      the inputs; for every layer its heads, above them its MLP; the output
    trunk     what a node writes, on its way past the rows where it is not yet read
    branch    one edge: from the node or its trunk to the input through which it is read

A node has one trunk, however many nodes read it, so that a circuit of 200 edges is a few dozen
lines. Order and places in a row: :mod:`leray.figures.rows`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from leray.figures.rows import Item, Links, ordered, spread

MOST = 200
"""Edges that are drawn; of more, the weakest are left out and counted."""
PARTS = {"query": -0.19, "key": 0.0, "value": 0.19}
"""The inputs of a head, and how far from its middle they are."""
BOX, WIDE, LANE = 0.72, 1.3, 0.1
"""Inches: width of a node and of the output, room for a trunk."""
HEAD, PLAIN = 0.36, 0.27
"""Inches: height of a head, with the names of its inputs, and of other nodes."""
_CLOSEST, _FAN, _MARGIN = 0.34, 0.035, 0.1
_NODE = re.compile(r"layers\.(\d+)\.(?:heads\.(\d+)|mlp)")
_LAST = 10**9


class Wire(NamedTuple):
    """An edge of the circuit: ``part`` is query, key, value, mlp or output."""

    source: str
    target: str
    part: str
    score: float


@dataclass(frozen=True, slots=True)
class Box:
    """A node: the middle of its lower edge, its size, and which of its inputs are read."""

    name: str
    label: str
    x: float
    y: float
    width: float
    height: float
    read: frozenset[str]

    @property
    def is_head(self) -> bool:
        """Whether it has three inputs, which are named on it."""
        return _is_head(self.name)


@dataclass(frozen=True, slots=True)
class Branch:
    """An edge: its wire's number, and where it leaves and enters."""

    number: int
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Trunk:
    """Up from a node: at each row, its place and the lower and upper end of the row."""

    source: str
    places: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Band:
    """A layer on the sheet, or the place where layers without a node are left out."""

    label: str
    bottom: float
    top: float
    empty: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Wiring:
    """All that is drawn; x and y from 0 on."""

    wires: tuple[Wire, ...]
    boxes: tuple[Box, ...]
    trunks: tuple[Trunk, ...]
    branches: tuple[Branch, ...]
    bands: tuple[Band, ...]
    width: float
    height: float


def wires_of(rows: Iterable[dict[str, Any]]) -> list[Wire]:
    """The edges of a result's ``circuit``, in its order.

    >>> wires_of([{"edge": "token → layers.0.heads.1.key", "score": 2.0}])
    [Wire(source='token', target='layers.0.heads.1', part='key', score=2.0)]
    """
    found = []
    for row in rows:
        source, _, target = row["edge"].rpartition(" → ")
        node, _, part = target.rpartition(".")
        if part in PARTS:
            found.append(Wire(source, node, part, row["score"]))
        else:
            found.append(Wire(source, target, "mlp" if part == "mlp" else "output", row["score"]))
    return found


def input_of(wire: Wire) -> str:
    """The name of what a wire is read through, as the graph has it."""
    return f"{wire.target}.{wire.part}" if wire.part in PARTS else wire.target


def by_target(wires: Sequence[Wire]) -> dict[str, list[Wire]]:
    """The wires into every input, in their order; from the output back to the first layer.

    >>> wires = wires_of([{"edge": "token → layers.0.heads.1.key", "score": 2.0},
    ...                   {"edge": "token → output", "score": 1.0}])
    >>> list(by_target(wires))
    ['output', 'layers.0.heads.1.key']
    """
    parts = list(PARTS)

    def back(wire: Wire) -> tuple[int, int, int, int]:
        layer, kind, head = _place(wire.target)
        return -layer, -kind, head, parts.index(wire.part) if wire.part in parts else 0

    found: dict[str, list[Wire]] = {}
    for wire in sorted(wires, key=back):
        found.setdefault(input_of(wire), []).append(wire)
    return found


def wiring_of(wires: Sequence[Wire], num_layers: int) -> Wiring:
    """Place the nodes that the wires touch, and the wires.

    Args:
        wires: At least one.
        num_layers: Of the model, those without a node included.
    """
    keys = sorted({_row(name) for w in wires for name in (w.source, w.target)})
    number = {key: k for k, key in enumerate(keys)}
    rows, links = _items(wires, number)
    rows = ordered(rows, links)
    x = spread(rows, links)
    heights = _heights(keys, rows, links, x)
    boxes = _boxes(wires, rows, x, heights)
    return Wiring(
        wires=tuple(wires),
        boxes=boxes,
        trunks=_trunks(rows, x, heights),
        branches=_branches(wires, number, x, heights),
        bands=_bands(keys, heights, num_layers),
        width=max(b.x + b.width / 2 for b in boxes),
        height=heights[-1][1],
    )


def _place(name: str) -> tuple[int, int, int]:
    """Layer, heads before the MLP, number of the head; inputs first, the output last."""
    if name == "output":
        return (_LAST, 0, 0)
    found = _NODE.fullmatch(name)
    if found is None:
        return (-1, 0, 0)
    layer, head = found.groups()
    return (int(layer), 1, 0) if head is None else (int(layer), 0, int(head))


def _row(name: str) -> tuple[int, int]:
    return _place(name)[:2]


def _label(name: str) -> str:
    found = _NODE.fullmatch(name)
    if found is None:
        return name
    return "MLP" if found[2] is None else f"head {found[2]}"


def _is_head(name: str) -> bool:
    found = _NODE.fullmatch(name)
    return found is not None and found[2] is not None


def _width(name: str) -> float:
    return WIDE if name == "output" else max(BOX, 0.2 + 0.085 * len(_label(name)))


def _items(
    wires: Sequence[Wire], number: dict[tuple[int, int], int]
) -> tuple[list[list[Item]], Links]:
    """Nodes and passing trunks row by row, and what is to be joined."""
    names = sorted({n for w in wires for n in (w.source, w.target)}, key=lambda n: (_place(n), n))
    rows: list[list[Item]] = [[] for _ in number]
    for name in names:
        rows[number[_row(name)]].append(_node(name, number))
    last: dict[str, int] = {}
    for w in wires:
        last[w.source] = max(last.get(w.source, 0), number[_row(w.target)])
    links: Links = []
    for name in names:
        below = _node(name, number)
        for k in range(below.row + 1, last.get(name, 0)):
            passing = Item(name, k, True, LANE)
            rows[k].append(passing)
            links.append((below, passing, 0.0))
            below = passing
    for w in wires:
        links.append((_below(w, number), _node(w.target, number), PARTS.get(w.part, 0.0)))
    return rows, links


def _node(name: str, number: dict[tuple[int, int], int]) -> Item:
    return Item(name, number[_row(name)], False, _width(name))


def _below(wire: Wire, number: dict[tuple[int, int], int]) -> Item:
    """Where a wire's branch begins: in the row below its target."""
    own, row = _node(wire.source, number), number[_row(wire.target)] - 1
    return own if row == own.row else Item(wire.source, row, True, LANE)


Heights = list[tuple[float, float]]
"""The lower and the upper edge of each row."""


def _heights(
    keys: Sequence[tuple[int, int]], rows: list[list[Item]], links: Links, x: dict[Item, float]
) -> Heights:
    """More room below a row where many wires go far to the side."""
    found: Heights = []
    for k, (layer, _) in enumerate(keys):
        low = 0.0
        if k:
            own = [abs(x[b] + at - x[a]) for a, b, at in links if b.row == k]
            room = _CLOSEST + 0.07 * max(own, default=0.0) + 0.012 * len(own)
            low = found[-1][1] + room + (0.08 if layer != keys[k - 1][0] else 0.0)
        heads = any(_is_head(i.name) for i in rows[k] if not i.passes)
        found.append((low, low + (HEAD if heads else PLAIN)))
    return found


def _boxes(
    wires: Sequence[Wire], rows: list[list[Item]], x: dict[Item, float], heights: Heights
) -> tuple[Box, ...]:
    read: dict[str, set[str]] = {}
    for w in wires:
        read.setdefault(w.target, set()).add(w.part)
    found = []
    for item in (i for row in rows for i in row if not i.passes):
        low, high = heights[item.row]
        parts, label = frozenset(read.get(item.name, ())), _label(item.name)
        found.append(Box(item.name, label, x[item], low, item.width, high - low, parts))
    return tuple(found)


def _trunks(rows: list[list[Item]], x: dict[Item, float], heights: Heights) -> tuple[Trunk, ...]:
    found: dict[str, list[tuple[float, float, float]]] = {}
    for item in (i for row in rows for i in row):
        found.setdefault(item.name, []).append((x[item], *heights[item.row]))
    return tuple(Trunk(name, tuple(own)) for name, own in found.items() if len(own) > 1)


def _branches(
    wires: Sequence[Wire],
    number: dict[tuple[int, int], int],
    x: dict[Item, float],
    heights: Heights,
) -> tuple[Branch, ...]:
    """Wires into one input enter side by side, in the order in which they come."""
    into: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for i, w in enumerate(wires):
        into.setdefault((w.target, w.part), []).append((x[_below(w, number)], i))
    found = []
    for (target, part), own in into.items():
        node = _node(target, number)
        room = 0.13 if part in PARTS else 0.75 * node.width
        step = min(_FAN, room / len(own))
        middle = x[node] + PARTS.get(part, 0.0)
        for k, (at, i) in enumerate(sorted(own)):
            end = middle + step * (k - (len(own) - 1) / 2)
            found.append(Branch(i, (at, heights[node.row - 1][1]), (end, heights[node.row][0])))
    return tuple(sorted(found, key=lambda b: b.number))


def _bands(keys: Sequence[tuple[int, int]], heights: Heights, num_layers: int) -> tuple[Band, ...]:
    ends = {-1: heights[0], _LAST: (heights[-1][1], heights[-1][1])}
    for (layer, kind), (low, high) in zip(keys, heights, strict=True):
        ends[layer] = (ends[layer][0], high) if kind and layer in ends else (low, high)
    found = []
    for below, layer in itertools.pairwise(sorted(ends)):
        first, last = below + 1, min(layer, num_layers) - 1
        if first <= last:
            some = f"no layer {first}" if first == last else f"no layers {first}–{last}"
            found.append(Band(some, ends[below][1], ends[layer][0], True))
        if layer != _LAST:
            low, high = ends[layer]
            found.append(Band(f"layer {layer}", low - _MARGIN, high + _MARGIN))
    return tuple(found)

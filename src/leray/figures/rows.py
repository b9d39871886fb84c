"""Items in rows, joined to the next row: an order with few crossings, places that go straight.

An item is a node, or what passes on its way from a lower row to a higher one. Rows are ordered by
barycentres, and the order with the fewest crossings is kept. Places solve a linear program, the
least way to the side; nodes then go to the middle of their ends.

Source: Sugiyama, Tagawa and Toda 1981, for rows, their order and places on the way.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression, linprog
from scipy.sparse import block_array, csr_array, eye_array

_BETWEEN = 0.14
_SWEEPS, _STRAIGHT, _NEAR, _HELD = 24, 3.0, 0.01, 1e9


class Item(NamedTuple):
    """What has a place in a row, and how much room it takes, in inches."""

    name: str
    row: int
    passes: bool
    width: float


Links = list[tuple[Item, Item, float]]
"""Lower end, upper end, how far from its middle the upper one is reached."""


def ordered(rows: list[list[Item]], links: Links) -> list[list[Item]]:
    """Each row by the mean place of what its items are joined to; the best of some sweeps.

    Args:
        rows: From the lowest; links join an item to one of the next row.
    """
    up, down = _joined(links)
    best, least = [list(row) for row in rows], _crossings(rows, links)
    for sweep in range(_SWEEPS):
        ahead = sweep % 2 == 0
        for k in range(len(rows)) if ahead else reversed(range(len(rows))):
            other = k - 1 if ahead else k + 1
            if not 0 <= other < len(rows):
                continue
            place = {item: (i + 0.5) / len(rows[other]) for i, item in enumerate(rows[other])}
            own = {item: (i + 0.5) / len(rows[k]) for i, item in enumerate(rows[k])}
            joined = down if ahead else up
            rows[k].sort(key=lambda item: _mean(joined.get(item, []), place, own[item]))
        found = _crossings(rows, links)
        if found < least:
            best, least = [list(row) for row in rows], found
    return best


def _joined(links: Links) -> tuple[dict[Item, list[Item]], dict[Item, list[Item]]]:
    up: dict[Item, list[Item]] = {}
    down: dict[Item, list[Item]] = {}
    for low, high, _ in links:
        up.setdefault(low, []).append(high)
        down.setdefault(high, []).append(low)
    return up, down


def _mean(items: list[Item], place: dict[Item, float], otherwise: float) -> float:
    return sum(place[i] for i in items) / len(items) if items else otherwise


def _crossings(rows: list[list[Item]], links: Links) -> int:
    place = {item: i for row in rows for i, item in enumerate(row)}
    total = 0
    for k in range(len(rows) - 1):
        own = [(place[a], place[b] + at) for a, b, at in links if a.row == k]
        low, high = np.array(own).T if own else (np.zeros(0), np.zeros(0))
        total += int(((low[:, None] < low) & (high[:, None] > high)).sum())
    return total


def spread(rows: list[list[Item]], links: Links) -> dict[Item, float]:
    """Places along the rows, from 0 on: nothing too close, what passes straight if it can be."""
    pulls: dict[Item, list[tuple[Item, float, float]]] = {i: [] for row in rows for i in row}
    for low, high, at in links:
        weight = _STRAIGHT if low.passes and high.passes else 1.0
        pulls[low].append((high, at, weight))
        pulls[high].append((low, -at, weight))
    x = _straightest(rows, links)
    apart = [np.cumsum([0.0, *(_apart(a, b) for a, b in itertools.pairwise(r))]) for r in rows]
    for sweep in range(_SWEEPS):
        for k in range(len(rows)) if sweep % 2 == 0 else reversed(range(len(rows))):
            wanted, weights = np.array([_wanted(i, pulls[i], x) for i in rows[k]]).T
            found = isotonic_regression(wanted - apart[k], weights=weights).x + apart[k]
            x.update(zip(rows[k], found.tolist(), strict=True))
    left = min(x[i] - i.width / 2 for i in x)
    return {item: at - left for item, at in x.items()}


def _straightest(rows: list[list[Item]], links: Links) -> dict[Item, float]:
    """Least Σ |how far a link goes to the side|, in the order of the rows: a linear program."""
    number = {item: i for i, item in enumerate(i for row in rows for i in row)}
    num, many = len(number), len(links)
    low, high = [number[link[0]] for link in links], [number[link[1]] for link in links]
    at = np.array([link[2] for link in links])
    ones, each = np.ones(many), np.arange(many)
    side = csr_array((np.r_[ones, -ones], (np.r_[each, each], np.r_[high, low])), (many, num))
    pairs = [pair for row in rows for pair in itertools.pairwise(row)]
    ones, every = np.ones(len(pairs)), np.arange(len(pairs))
    ends = np.array([[number[a], number[b]] for a, b in pairs], dtype=int).reshape(-1, 2).T
    order = csr_array((np.r_[ones, -ones], (np.r_[every, every], ends.ravel())), (len(pairs), num))
    cost = [_STRAIGHT if a.passes and b.passes else 1.0 for a, b, _ in links]
    found = linprog(
        np.r_[np.zeros(num), cost],
        A_ub=block_array([[side, -eye_array(many)], [-side, -eye_array(many)], [order, None]]),
        b_ub=np.r_[-at, at, [-_apart(a, b) for a, b in pairs]],
        bounds=(None, None),
    )
    return dict(zip(number, found.x[:num].tolist(), strict=True))


def _wanted(
    own: Item, pulls: Sequence[tuple[Item, float, float]], x: dict[Item, float]
) -> tuple[float, float]:
    """Where an item would be, and how much that matters: a node near the median of its ends."""
    if own.passes:
        return x[own], _HELD
    ends = [(x[item] + at, weight) for item, at, weight in pulls]
    near = [(end, weight / (abs(end - x[own]) + _NEAR)) for end, weight in ends]
    whole = sum(weight for _, weight in near)
    return sum(end * weight for end, weight in near) / whole, whole


def _apart(a: Item, b: Item) -> float:
    return (a.width + b.width) / 2 + (0.0 if a.passes and b.passes else _BETWEEN)

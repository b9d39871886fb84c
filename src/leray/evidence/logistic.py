"""Logistic regression by Newton's method over streamed blocks: constant memory, exact to rounding.

Minimises Σ log(1 + exp(−ỹ z)) + ½‖w‖² over z = a + Σ_j w_j (x_j − c_j)/s_j, ỹ = ±1, the intercept
a not penalised. The loss is strictly convex in w, so where the gradient vanishes is the one
optimum, wherever the search began. A pass costs d²/2 multiplications and one exponential a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from leray.evidence.compiled import compiled
from leray.evidence.moments import Array, unpack

_TOLERANCE = 1e-8  # of the gradient, a row
_MAX_PASSES = 100


class Rows(NamedTuple):
    """Some rows of a block ``x [signals, rows]``: those of ``span``, their labels, the columns."""

    x: Array
    y: Array
    columns: Array
    span: slice


def fit_logistic(
    rows: Sequence[Rows], centre: Array, scale: Array, start: Array | None = None
) -> Array:
    """The optimum (a, w_1, …, w_d) in standardised units.

    Args:
        rows: Both labels must occur.
        centre, scale: c and s, ``[d]``.
        start: Where to begin; by default at the log-odds.

    Raises:
        ValueError: if only one label occurs.
        ArithmeticError: if it does not converge, which a finite input does not cause.
    """
    n = sum(r.span.stop - r.span.start for r in rows)
    positives = sum(float(r.y[r.span].sum()) for r in rows)
    if not 0 < positives < n:
        raise ValueError(f"a logistic regression needs both labels; {positives:.0f} of {n} are 1")
    beta = np.zeros(len(centre) + 1) if start is None else start.copy()
    if start is None:
        beta[0] = np.log(positives / (n - positives))
    before, step = np.inf, np.zeros_like(beta)
    for _ in range(_MAX_PASSES):
        loss, gradient, hessian = _pass(rows, centre, scale, beta)
        if loss > before + 1e-9 * abs(before):  # too far: go half the way
            step /= 2
            beta -= step
            continue
        if np.abs(gradient).max() <= _TOLERANCE * n:
            return beta
        before, step = loss, -np.linalg.solve(hessian, gradient)
        beta += step
    raise ArithmeticError(f"a logistic regression did not converge in {_MAX_PASSES} passes")


def mean_and_scale(rows: Iterable[Rows]) -> tuple[Array, Array]:
    """Mean and standard deviation of each column (1 where it is constant)."""
    n, total, squares = 0, 0.0, 0.0
    for r in rows:
        x = r.x[r.columns, r.span].astype(np.float64)
        n += x.shape[1]
        total += x.sum(axis=1)
        squares += (x**2).sum(axis=1)
    mean = np.asarray(total) / n
    spread = np.sqrt(np.maximum(np.asarray(squares) / n - mean**2, 0.0))
    return mean, np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1.0), spread, 1.0)


def _pass(
    rows: Sequence[Rows], centre: Array, scale: Array, beta: Array
) -> tuple[float, Array, Array]:
    """Loss, gradient and Hessian at β, the ridge included."""
    v = len(beta)
    gradient, packed = np.zeros(v), np.zeros(v * (v + 1) // 2)
    loss = 0.0
    for r in rows:
        place = (r.columns, r.span.start, r.span.stop)
        loss += _logistic_kernel(r.x, r.y, *place, centre, 1 / scale, beta, gradient, packed)
    ridge = np.append(0.0, beta[1:])
    penalty = np.diag(np.append(0.0, np.ones(v - 1)))
    return loss + 0.5 * float(ridge @ ridge), gradient + ridge, unpack(packed) + penalty


_TILE = 512


@compiled
def _logistic_kernel(x, y, columns, start, stop, centre, inverse, beta, gradient, packed):
    d = len(columns)
    tile = np.empty((d + 1, _TILE))
    tile[0] = 1.0
    z = np.empty(_TILE)
    weight = np.empty(_TILE)
    loss = 0.0
    for first in range(start, stop, _TILE):
        m = min(_TILE, stop - first)
        for t in range(m):
            z[t] = beta[0]
        for j in range(d):
            row = x[columns[j], first : first + m]
            for t in range(m):
                tile[j + 1, t] = (row[t] - centre[j]) * inverse[j]
            for t in range(m):
                z[t] += beta[j + 1] * tile[j + 1, t]
        for t in range(m):
            small = np.exp(-abs(z[t]))
            p = 1.0 / (1.0 + small) if z[t] >= 0 else small / (1.0 + small)
            loss += np.log1p(small) + max(z[t], 0.0) - (z[t] if y[first + t] else 0.0)
            weight[t] = p * (1.0 - p)
            z[t] = p - y[first + t]
        k = 0
        for i in range(d + 1):
            slope = 0.0
            for t in range(m):
                slope += tile[i, t] * z[t]
            gradient[i] += slope
            for j in range(i, d + 1):
                total = 0.0
                for t in range(m):
                    total += tile[i, t] * tile[j, t] * weight[t]
                packed[k] += total
                k += 1
    return loss

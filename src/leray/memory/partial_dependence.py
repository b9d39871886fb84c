"""What a function of the signals has learned: partial dependence, interactions, linearity.

Notation: f: ℝ^d → ℝ, rows x_1 … x_m. The partial dependence of a set J of signals is
F_J(v) = mean_i f(v at J, x_i elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
from jaxtyping import Float

Array = np.ndarray
Predict = Callable[[Array], Array]
"""Scores of rows ``[d, rows]``."""


def quantile_grid(x: Float[Array, "d rows"], num_points: int) -> Float[Array, "d points"]:
    """For each signal, its quantiles from the 1st to the 99th percentile."""
    return np.quantile(x, np.linspace(0.01, 0.99, num_points), axis=1).T


def partial_dependence(
    predict: Predict, x: Float[Array, "d rows"], grid: Float[Array, "d points"]
) -> Float[Array, "d points"]:
    """F_j at every grid point of every signal.

    Cost: d · points · rows evaluations. Source: Friedman, Greedy function approximation (2001).
    """
    return np.stack([_dependence(predict, x, [j], points[None]) for j, points in enumerate(grid)])


def interaction_shares(
    predict: Predict, x: Float[Array, "d rows"], num_points: int
) -> dict[tuple[int, int], float]:
    """How much each pair of signals does together, between 0 and 1, by a two-way ANOVA.

    F_jk is computed on the product of ``num_points`` quantiles of each, where it splits without
    rest: SS_total = SS_j + SS_k + SS_jk. The share is SS_jk over the largest SS_total of all pairs,
    so that pairs can be compared, and a pair which does next to nothing has a share near 0. Points
    of the product may lie where no row does.

    Cost: points² · rows evaluations a pair. Source: Friedman and Popescu, Predictive learning via
    rule ensembles (2008), section 8, whose H² divides by each pair's own F_jk at the rows.
    """
    d = len(x)
    points = np.quantile(x, (np.arange(num_points) + 0.5) / num_points, axis=1).T
    within, total = {}, {}
    for j, k in combinations(range(d), 2):
        values = np.stack([a.ravel() for a in np.meshgrid(points[j], points[k], indexing="ij")])
        F = _dependence(predict, x, [j, k], values).reshape(num_points, num_points)
        F = F - F.mean()
        rest = F - F.mean(axis=1, keepdims=True) - F.mean(axis=0, keepdims=True)
        within[j, k], total[j, k] = float((rest**2).sum()), float((F**2).sum())
    largest = max(total.values())
    return {pair: value / largest if largest > 0 else 0.0 for pair, value in within.items()}


def linear_share(predict: Predict, x: Float[Array, "d rows"]) -> float:
    """R² of the best linear function of the signals for f itself: 1 for a linear f."""
    f = _centred(predict(x))
    centred = (x - x.mean(axis=1, keepdims=True)).astype(np.float64)
    spread = centred.std(axis=1, keepdims=True)
    centred = centred / np.where(spread > 0, spread, 1.0)
    if not f @ f > 0:
        return 1.0
    rest = f - centred.T @ np.linalg.lstsq(centred.T, f, rcond=None)[0]
    return float(1 - (rest @ rest) / (f @ f))


def _dependence(predict: Predict, x: Array, moved: list[int], values: Array) -> Array:
    """F_J at the points ``values [|J|, points]``."""
    m, points = x.shape[1], values.shape[1]
    rows = np.tile(x, points)  # point by point, all rows
    rows[moved] = np.repeat(values, m, axis=1)
    return predict(rows).astype(np.float64).reshape(points, m).mean(axis=1)


def _centred(values: Array) -> Array:
    values = values.astype(np.float64)
    return values - values.mean()

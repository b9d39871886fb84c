"""Partial dependence and interactions of functions whose own are known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import partial_dependence as sklearns

from leray.memory.partial_dependence import (
    interaction_shares,
    linear_share,
    partial_dependence,
    quantile_grid,
)

X = np.random.default_rng(0).normal(size=(3, 150)).astype(np.float32)


def product(rows: np.ndarray) -> np.ndarray:
    """x₀ x₁ + x₂."""
    return rows[0] * rows[1] + rows[2]


def test_partial_dependence_is_scikit_learns() -> None:
    """Oracle: its brute-force method, on a forest."""
    forest = RandomForestRegressor(5, max_depth=4, random_state=0).fit(X.T, product(X))
    grid = quantile_grid(X, 7)
    ours = partial_dependence(lambda rows: forest.predict(rows.T), X, grid)
    for j in range(3):
        theirs = sklearns(forest, X.T, [j], method="brute", custom_values={j: grid[j]})
        np.testing.assert_allclose(ours[j], theirs["average"][0], rtol=1e-6)


def test_interactions_of_a_product() -> None:
    """Oracle: x₀x₁ + x₂ on a product of points; SS of the parts by hand.

    Of the pair (0, 1) the interaction is (u − ū)(v − v̄); the pairs with x₂ are sums.
    """
    shares = interaction_shares(product, X, 9)
    u, v, w = np.quantile(X, (np.arange(9) + 0.5) / 9, axis=1).T
    inner = ((u - u.mean()) ** 2).sum() * ((v - v.mean()) ** 2).sum()
    both = np.outer(u, v)
    whole = [((both - both.mean()) ** 2).sum()]
    for a, other in ((u, X[1]), (v, X[0])):
        table = a[:, None] * other.mean() + w
        whole.append(((table - table.mean()) ** 2).sum())
    assert shares[0, 1] == pytest.approx(inner / max(whole), rel=1e-4)
    assert shares[0, 2] == pytest.approx(0, abs=1e-10)
    assert shares[1, 2] == pytest.approx(0, abs=1e-10)


def test_shares_lie_between_0_and_1_and_a_line_is_linear() -> None:
    """Identity: a sum has none, a product of centred signals is nothing else."""
    additive = interaction_shares(lambda rows: np.sin(rows[0]) + rows[1] ** 2 - rows[2], X, 7)
    assert max(additive.values()) < 1e-8
    bent = interaction_shares(lambda rows: np.tanh(3 * rows[0] * rows[1]), X, 7)
    assert all(0 <= share <= 1 for share in bent.values())
    assert bent[0, 1] > 0.3
    assert linear_share(lambda rows: 2 * rows[0] - rows[2], X) == pytest.approx(1, abs=1e-6)
    assert linear_share(lambda rows: rows[0] * 0, X) == 1.0
    assert set(interaction_shares(lambda rows: rows[0] * 0, X, 5).values()) == {0.0}


def test_the_linear_share_is_r_squared() -> None:
    """Oracle: numpy's least squares."""
    design = np.vstack([np.ones(150), X]).T
    fitted = design @ np.linalg.lstsq(design, product(X), rcond=None)[0]
    expected = np.corrcoef(fitted, product(X))[0, 1] ** 2
    assert linear_share(product, X) == pytest.approx(expected, rel=1e-5)


def test_the_grid_stays_within_the_data() -> None:
    """Identity: rising, from the 1st to the 99th percentile."""
    grid = quantile_grid(X, 11)
    assert (np.diff(grid) > 0).all()
    np.testing.assert_allclose(grid[:, [0, -1]].T, np.quantile(X, [0.01, 0.99], axis=1), rtol=1e-6)

"""Newton's method against other solvers, and at the edges of what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from leray.evidence.logistic import Rows, fit_logistic, mean_and_scale


def planted(seed: int, d: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(d, n))
    y = rng.random(n) < 1 / (1 + np.exp(1 - x[0] - 0.5 * x[-1]))
    y[:2] = (True, False)
    return x, y


def whole(x: np.ndarray, y: np.ndarray) -> list[Rows]:
    return [Rows(x, y, np.arange(len(x)), slice(0, x.shape[1]))]


def test_it_is_the_minimum() -> None:
    """Oracle: scipy's BFGS on the objective as written.

    Ours stops at a gradient of 1e-8 · n, BFGS at 1e-6; the curvature of the intercept and of each
    weight is at least 10 here (n = 300 rows, variance of p about .2), so they differ by < 1e-5.
    """
    x, y = planted(0, 3, 300)
    sign = np.where(y, 1.0, -1.0)

    def objective(beta: np.ndarray) -> float:
        margin = sign * (beta[0] + beta[1:] @ x)
        return float(np.logaddexp(0, -margin).sum() + 0.5 * beta[1:] @ beta[1:])

    expected = minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-6}).x
    found = fit_logistic(whole(x, y), np.zeros(3), np.ones(3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), cut=st.integers(1, 199))
def test_blocks_columns_and_starts_do_not_matter(seed: int, cut: int) -> None:
    """Identity: split rows, reordered columns, another start: the one optimum.

    Two solutions, each with a gradient of at most 1e-8 · 200 and a curvature of at least 1.
    """
    x, y = planted(seed, 3, 200)
    expected = fit_logistic(whole(x, y), np.zeros(3), np.ones(3))
    turned = np.array([2, 0, 1])
    rows = [Rows(x, y, turned, slice(0, cut)), Rows(x, y, turned, slice(cut, 200))]
    found = fit_logistic(rows, np.zeros(3), np.ones(3), start=np.full(4, 3.0))
    np.testing.assert_allclose(found[1:], expected[1:][turned], rtol=0, atol=1e-5)


def test_separable_rows_and_constant_columns_have_an_optimum() -> None:
    """Identity: the ridge keeps weights finite; a constant column gets none."""
    x = np.stack([np.linspace(-1, 1, 50), np.full(50, 3.0)])
    y = x[0] > 0
    rows = whole(x, y)
    beta = fit_logistic(rows, *mean_and_scale(rows))
    assert np.isfinite(beta).all()
    assert beta[1] > 1
    assert beta[2] == 0


def test_one_label_is_refused() -> None:
    """Golden: there is nothing to tell apart."""
    x, _ = planted(0, 2, 10)
    with pytest.raises(ValueError, match="needs both labels; 0 of 10"):
        fit_logistic(whole(x, np.zeros(10, dtype=bool)), np.zeros(2), np.ones(2))


def test_mean_and_scale_are_numpys() -> None:
    """Oracle: float32 columns far from zero, in two pieces."""
    x = (np.random.default_rng(0).normal(size=(2, 100)) + 5).astype(np.float32)
    y = np.zeros(100, dtype=bool)
    rows = [Rows(x, y, np.arange(2), slice(0, 30)), Rows(x, y, np.arange(2), slice(30, 100))]
    mean, scale = mean_and_scale(rows)
    np.testing.assert_allclose(mean, x.astype(float).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(scale, x.astype(float).std(axis=1), rtol=1e-10)

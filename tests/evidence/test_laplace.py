"""Modes and importance sampling against closed forms and scipy's densities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evidence.bell import Bell, bell, bell_model
from leray.evidence.density import value_and_gradient
from leray.evidence.laplace import (
    DEGREES,
    LaplaceImportance,
    Weighted,
    importance_sample,
    log_normal_density,
    student_t,
)
from leray.evidence.mode import Mode, find_mode
from leray.runs import Key


def test_oracle_the_mode_of_a_bell_is_its_mean_and_curvature():
    data = bell()
    mode = find_mode(bell_model, data)
    np.testing.assert_allclose(mode.location, data.mean, atol=1e-6)
    np.testing.assert_allclose(mode.covariance, data.covariance, rtol=1e-5, atol=1e-6)


def test_oracle_held_coordinates_stay_and_the_rest_is_conditional():
    data = bell()
    mode = find_mode(bell_model, data, np.array([0.0, 5.0, 0.0]), np.array([False, True, False]))
    free = [0, 2]
    S = data.covariance
    slope = S[np.ix_(free, [1])] / S[1, 1]
    want = data.mean[free] + slope[:, 0] * (5.0 - data.mean[1])
    np.testing.assert_allclose(mode.location, [want[0], 5.0, want[1]], atol=1e-5)
    conditional = S[np.ix_(free, free)] - slope @ S[np.ix_([1], free)]
    np.testing.assert_allclose(mode.covariance[np.ix_(free, free)], conditional, rtol=1e-4)
    np.testing.assert_allclose(mode.covariance[1], [0, 0.25, 0])


def test_oracle_densities_are_those_of_scipy():
    data, rng = bell(), np.random.default_rng(0)
    root = np.linalg.cholesky(data.covariance)
    z, log_q = student_t(Mode(data.mean, data.covariance), 50, rng)
    t = stats.multivariate_t(*data, df=DEGREES)  # pyright: ignore
    np.testing.assert_allclose(log_q, t.logpdf(z), rtol=1e-10)
    normal = stats.multivariate_normal(*data)  # pyright: ignore
    np.testing.assert_allclose(log_normal_density(z, data.mean, root), normal.logpdf(z), rtol=1e-9)
    value, _ = value_and_gradient(bell_model, data, z[0])
    assert -float(value) == pytest.approx(normal.logpdf(z[0]))


def test_statistical_weighted_draws_have_the_moments_of_the_bell():
    data = bell()
    drawn = importance_sample(
        bell_model, data, find_mode(bell_model, data), 10_000, np.random.default_rng(1)
    )
    w, sd = np.exp(drawn.log_weights), np.sqrt(np.diagonal(data.covariance))
    assert w.sum() == pytest.approx(1)
    assert drawn.k_hat < 0.3
    assert 5_000 < drawn.effective <= 10_000
    standard_error = 1 / np.sqrt(drawn.effective)
    assert (np.abs(w @ drawn.z - data.mean) / sd < 5 * standard_error).all()
    even = drawn.even(20_000)
    assert (np.abs(even.mean(axis=0) - w @ drawn.z) / sd < 5 * standard_error).all()


def test_identity_even_draws_repeat_each_draw_as_often_as_it_weighs():
    weights = np.array([0.5, 0.25, 0.125, 0.125])
    drawn = Weighted(np.arange(4.0)[:, None], np.log(weights), 0.0, 0.0, Mode(*bell()))
    counts = np.bincount(drawn.even(8).ravel().astype(int), minlength=4)
    np.testing.assert_array_equal(counts, 8 * weights)


def test_identity_the_computation_is_the_function_and_a_wrong_mode_shows_in_k_hat():
    data = bell()
    computation = LaplaceImportance(model=bell_model, data=data, num_draws=2_000)
    _, samples = computation.step({}, 0, Key.root(3))
    result = computation.result([[samples]])
    mode = find_mode(bell_model, data)
    same = importance_sample(bell_model, data, mode, 2_000, Key.root(3).generator())
    np.testing.assert_array_equal(result.z, same.z)
    assert result.k_hat == same.k_hat
    far = Mode(data.mean + 20, data.covariance / 100)
    bad = importance_sample(bell_model, data, far, 2_000, np.random.default_rng(0), num_refits=0)
    assert bad.k_hat > 0.7


def test_a_density_without_a_mode_is_refused():
    flat = Bell(np.zeros(3), np.diag([1.0, 1.0, np.inf]))
    with pytest.raises(ArithmeticError):
        find_mode(bell_model, flat)

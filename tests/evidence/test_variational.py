"""Variational fits of a bell, where both families have closed forms; and the comparison."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from evidence.bell import bell, bell_model
from leray.evidence.mode import find_mode
from leray.evidence.variational import VariationalFits, fit_draws, reliability
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.runs.computation import canonical_state


@pytest.fixture(scope="module")
def fitting() -> VariationalFits:
    data = bell()
    return VariationalFits(
        model=bell_model, data=data, mode=find_mode(bell_model, data), num_gradient_steps=3_000,
        gradient_steps_per_step=1_500, num_seeds=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fits(fitting):
    return drive(fitting, store=MemoryStore(), key=Key.root(0), progress=no_progress)


def test_oracle_the_full_rank_fit_is_the_bell(fits):
    data = bell()
    for fit in fits["full-rank"]:
        np.testing.assert_allclose(fit.location, data.mean, atol=0.02)
        np.testing.assert_allclose(fit.root @ fit.root.T, data.covariance, rtol=0.02, atol=0.01)
        z = fit_draws(fit, 4_000, np.random.default_rng(0))
        assert reliability(bell_model, data, fit, z) < 0.5


def test_oracle_the_mean_field_fit_has_the_inverse_of_the_precision(fits):
    data = bell()
    want = 1 / np.diagonal(np.linalg.inv(data.covariance))
    for fit in fits["mean-field"]:
        np.testing.assert_allclose(fit.location, data.mean, atol=0.05)
        np.testing.assert_allclose(np.diagonal(fit.root) ** 2, want, rtol=0.1)
        assert np.count_nonzero(fit.root) == 3


def test_identity_seeds_differ_and_the_bound_rises(fits):
    first, second = fits["full-rank"]
    assert (first.location != second.location).any()
    for fit in fits["full-rank"]:
        assert fit.bound.shape == (30,)
        assert fit.bound[-5:].mean() > fit.bound[:2].mean()
        assert fit.bound[-5:].mean() == pytest.approx(0.0, abs=0.05)  # log of a density's total


def test_identity_a_resumed_fit_is_an_uninterrupted_one(fitting):
    state = fitting.init(1, Key.root(3))
    again = canonical_state(fitting.init(1, Key.root(3)))
    for k in range(2):
        state, one = fitting.step(canonical_state(state), k, Key.root(0))
        again, two = fitting.step(copy.deepcopy(again), k, Key.root(9))
        for name, values in one.items():
            np.testing.assert_array_equal(values, two[name])


def test_chunks_must_divide_the_steps(fitting):
    with pytest.raises(ValueError, match="not a multiple"):
        VariationalFits(
            model=bell_model, data=bell(), mode=fitting.mode, num_gradient_steps=1_000,
            gradient_steps_per_step=300,
        )  # fmt: skip

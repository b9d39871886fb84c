"""Paired differences: oracles by scipy, coverage where it is promised, compute to reach a loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leray.evidence.paired import (
    by_seed,
    compute_to_reach,
    crossed_interval,
    sign_flip_p_value,
    t_interval,
)


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=12), st.floats(0.5, 0.999))
def test_oracle_students_interval_is_scipys(values, level):
    x = np.array(values)
    if x.std() < 1e-6:
        return
    found = t_interval(x, level)
    wanted = stats.ttest_1samp(x, 0.0).confidence_interval(level)
    np.testing.assert_allclose((found.low, found.high), (wanted.low, wanted.high), atol=1e-12)


def test_one_seed_says_nothing():
    found = t_interval(np.array([0.3]), 0.95)
    assert (found.low, found.estimate, found.high) == (-np.inf, 0.3, np.inf)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=8))
def test_oracle_sign_flips_are_scipys_permutation_test(values):
    x = np.array(values, dtype=np.float64)
    wanted = stats.permutation_test(
        (x, np.zeros_like(x)),
        lambda a, b, axis: np.abs((a - b).sum(axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=10**6,
    )
    assert sign_flip_p_value(x) == pytest.approx(wanted.pvalue)


def test_too_many_signs():
    with pytest.raises(ValueError, match="1 to 20 values"):
        sign_flip_p_value(np.zeros(21))


def test_statistical_crossed_intervals_cover_for_few_seeds_too():
    """Seeds and documents both random: 95% intervals hold the truth in 95% or more of data sets.

    200 data sets for 3 and 8 seeds: the rate's standard error at .95 is .015; five of them below
    is .87.
    """
    rng = np.random.default_rng(0)
    tokens = np.full(20, 100)
    for s in (3, 8):
        held = 0
        for _ in range(200):
            seeds, documents = rng.normal(0, 1, (s, 1)), rng.normal(0, 1, (1, 20))
            gap = 2.0 + seeds + documents + rng.normal(0, 1, (s, 20))
            found = crossed_interval(100 * gap, tokens, 0.95, rng, 400)
            held += found.low <= 2.0 <= found.high
        assert held / 200 > 0.87, s


def test_identity_a_difference_is_the_mean_over_tokens():
    gap, tokens = np.arange(6.0).reshape(2, 3), np.array([1, 2, 3])
    assert by_seed(gap, tokens).tolist() == [0.5, 2.0]
    found = crossed_interval(gap, tokens, 0.9, np.random.default_rng(0), 50)
    assert found.estimate == pytest.approx(1.25)


def test_compute_to_reach_a_loss():
    fractions = np.array([0.25, 0.5, 1.0])
    losses = np.array([[2.0, 1.5, 1.0], [2.0, 1.5, 1.0], [2.0, 1.5, 1.0], [2.0, 1.5, 1.0]])
    found = compute_to_reach(fractions, losses, np.array([1.5, 1.25, 0.9, 2.5]))
    np.testing.assert_allclose(found[:2], [0.5, np.sqrt(0.5)])
    assert np.isnan(found[2])
    assert found[3] == 0.25

"""Diagnostics against scipy, ArviZ and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leray.evidence.diagnostics import (
    largest_wasserstein,
    mixing,
    posterior_interval,
    rank_counts,
    reweighted,
    weight_interval,
)

RNG = np.random.default_rng


def test_oracle_the_distance_is_scipys_in_standard_deviations():
    rng = RNG(0)
    chain, fit = rng.normal(size=(4, 1_000, 2)), rng.normal(0.5, 1.5, size=(1, 3_000, 2))
    found = largest_wasserstein(chain, fit, 50, rng)
    want = [
        stats.wasserstein_distance(chain[..., j].ravel(), fit[..., j].ravel()) / chain[..., j].std()
        for j in range(2)
    ]
    np.testing.assert_allclose(found.each, want, rtol=2e-3)
    assert found.largest == found.each.max()
    assert found.resampled.min() < found.largest < found.resampled.max()


def test_statistical_a_shift_of_a_bell_is_its_distance():
    rng = RNG(1)
    found = largest_wasserstein(
        rng.normal(size=(4, 5_000, 1)), 0.3 + rng.normal(size=(3, 20_000, 1)), 200, rng
    )
    # sd of a difference of means of 20,000 and 60,000 draws
    assert found.largest == pytest.approx(0.3, abs=5 * np.sqrt(1 / 20_000 + 1 / 60_000))
    assert found.resampled.std() == pytest.approx(np.sqrt(1 / 20_000), rel=0.5)


def test_statistical_chains_that_met_have_even_ranks_and_r_hat_of_one():
    draws = RNG(2).normal(size=(4, 5_000))
    counts = rank_counts(draws, 20)
    assert counts.sum() == draws.size
    np.testing.assert_array_equal(counts.sum(axis=0), 1_000)
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4
    mixed = mixing(draws)
    assert mixed.r_hat < 1.005
    # independent draws: ESS is the number of draws, to its own error of some per cent
    assert mixed.bulk == pytest.approx(draws.size, rel=0.1)
    assert mixed.tail == pytest.approx(draws.size, rel=0.15)


def test_a_chain_elsewhere_is_seen():
    draws = RNG(3).normal(size=(4, 1_000))
    draws[0] += 2
    assert mixing(draws).r_hat > 1.1
    assert rank_counts(draws, 10)[0, -1] > 3 * 100


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((20, 20), "equal-tailed posterior"), ((1, 50), "upper"), ((50, 1), "lower")],
)
def test_oracle_weights_at_the_edge_get_one_sided_bounds(shape, kind):
    law = stats.beta(*shape)
    draws = law.ppf((np.arange(100_000) + 0.5) / 100_000)
    found = weight_interval(draws, 0.95, 10)
    low, high = law.ppf([0.025, 0.975])
    want = {"upper": (0, high), "lower": (low, 1)}.get(kind, (low, high))
    assert (found.low, found.high) == pytest.approx(want, abs=1e-4)
    assert (found.kind, found.level, found.n) == (kind, 0.95, 10)
    assert posterior_interval(draws, 0.95, 10).estimate == pytest.approx(law.mean(), abs=1e-4)


def test_statistical_another_prior_by_reweighting_is_its_closed_form():
    rng, alpha = RNG(4), np.array([3.0, 2.0, 4.0])
    w = rng.dirichlet(alpha, size=40_000)
    found = reweighted(w, np.log(w).sum(axis=1))  # a prior of 2 for one of 1
    want = (alpha + 1) / (alpha + 1).sum()
    assert found.k_hat < 0.5
    np.testing.assert_allclose(found.mean, want, atol=5 * w.std(axis=0).max() / np.sqrt(20_000))
    np.testing.assert_allclose(found.shift, (found.mean - w.mean(axis=0)) / w.std(axis=0))

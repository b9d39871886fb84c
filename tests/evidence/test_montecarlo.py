"""Streamed moments, effects, power and convergence, against numpy, statsmodels and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from leray.evidence.moments import covariances, pack
from leray.evidence.montecarlo import (
    BatchBootstrap,
    Running,
    Simulated,
    batch_jackknife,
    convergence,
    largest_half_width,
    num_for_power,
    paired_effect,
    paired_power,
    small_studies,
)
from leray.evidence.optimum import simplex_optimum
from leray.runs import Key

RNG = np.random.default_rng


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_merging_any_pieces_is_the_whole(seed, sizes):
    """Identity and oracle: numpy's mean and covariance, whatever the cut, far from the origin."""
    rows = 1e4 + RNG(seed).standard_normal((sum(sizes), 3))
    pieces = [Running.of(p) for p in np.split(rows, np.cumsum(sizes)[:-1])]
    merged = pieces[0]
    for piece in pieces[1:]:
        merged = merged.merge(piece)
    assert merged.n == len(rows)
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(rows.T), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(merged.sd, rows.std(axis=0, ddof=1), rtol=1e-6)


def test_the_interval_of_a_mean_is_students():
    """Oracle: scipy."""
    rows = RNG(1).standard_normal((30, 2))
    got = Running.of(rows).interval(1, 0.9)
    want = stats.ttest_1samp(rows[:, 1], 0.0).confidence_interval(0.9)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_a_paired_effect_is_cohens_d_and_its_error_is_right():
    """Oracle, and statistical: sd of d over 4,000 samples of 200, within 5 of its own errors."""
    rng = RNG(2)
    rows = rng.standard_normal((4_000, 200, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]]) + [0.4, 0.0]
    effects = [paired_effect(Running.of(r), 0, 1) for r in rows]
    difference = rows[0, :, 0] - rows[0, :, 1]
    assert effects[0].d == pytest.approx(difference.mean() / difference.std(ddof=1))
    d = np.array([e.d for e in effects])
    error = d.std(ddof=1) / math.sqrt(2 * len(d))
    # The formula's own error is O(1/n): half a percent at n = 200.
    assert abs(d.std(ddof=1) - np.mean([e.d_se for e in effects])) < 5 * error + 0.005 * d.std()


@pytest.mark.parametrize("d", [-0.8, 0.05, 0.2, 0.5, 1.5])
@pytest.mark.parametrize("n", [2, 5, 34, 1_000])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_power_is_that_of_statsmodels(d, n, alpha):
    """Oracle: statsmodels' two-sided one-sample t test."""
    want = TTestPower().power(d, nobs=n, alpha=alpha, alternative="two-sided")
    assert paired_power(d, n, alpha) == pytest.approx(want, abs=1e-6)


@given(st.floats(0.0, 5.0), st.floats(0.31, 7.0))
def test_power_is_a_number_and_grows(d, log_n):
    """Identity: between the level and 1, and never falling in n, to the library's 10⁻⁹."""
    n = round(10**log_n)
    here, next_ = paired_power(d, n, 0.05), paired_power(d, n + 1, 0.05)
    assert 0.05 - 1e-9 <= here <= next_ + 1e-4 * (n == 19_999) + 1e-9
    assert next_ <= 1 + 1e-9


@pytest.mark.parametrize("d", [5.0, 20.0])
def test_power_with_two_or_three_units(d):
    """Statistical: 200,000 simulated tests, within 5 errors."""
    for n in (2, 3):
        rows = RNG(n).standard_normal((200_000, n)) + d
        t = rows.mean(axis=1) / (rows.std(axis=1, ddof=1) / math.sqrt(n))
        share = (np.abs(t) > stats.t(n - 1).isf(0.025)).mean()
        error = math.sqrt(share * (1 - share) / len(rows))
        assert abs(paired_power(d, n, 0.05) - share) < 5 * error + 1e-5


def test_power_has_no_seam_where_t_becomes_normal():
    for d in (0.005, 0.02, 0.03):
        assert paired_power(d, 19_999, 0.05) == pytest.approx(
            paired_power(d, 20_000, 0.05), abs=1e-4
        )
    assert paired_power(1.0, 1_000_000, 0.05) == 1.0
    assert paired_power(0.0, 1_000_000, 0.05) == pytest.approx(0.05)


@given(st.floats(0.003, 2.0), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_number_needed_is_the_first_that_suffices(d, power):
    n = num_for_power(d, power, 0.05)
    assert n is not None
    assert paired_power(d, n, 0.05) >= power
    assert n == 2 or paired_power(d, n - 1, 0.05) < power


def test_no_number_suffices_for_no_effect():
    assert num_for_power(0.0, 0.8, 0.05) is None


def test_the_batch_jackknife_covers():
    """Statistical: a ratio of means at 90%, 2,000 times with 100 batches; within 4 errors."""
    rng, held = RNG(3), 0
    for _ in range(2_000):
        a = rng.exponential(2.0, (100, 5)).sum(axis=1)
        b = rng.exponential(1.0, (100, 5)).sum(axis=1)
        got = batch_jackknife(lambda s: s[..., 0] / s[..., 1], np.stack([a, b], 1), 500, 0.9)
        held += got.low <= 2.0 <= got.high
    assert abs(held / 2_000 - 0.9) < 4 * math.sqrt(0.09 / 2_000)


def test_the_jackknife_of_a_mean_is_students():
    """Oracle: scipy, on batch means of equal batches."""
    rows = RNG(4).standard_normal(120)
    sums = np.stack([np.full(120, 7.0), 7 * rows], axis=1)
    got = batch_jackknife(lambda s: s[..., 1] / s[..., 0], sums, 840, 0.95)
    want = stats.ttest_1samp(rows, 0.0).confidence_interval(0.95)
    assert (got.low, got.high, got.n) == (pytest.approx(want.low), pytest.approx(want.high), 840)


def _simulated(outcomes, K, m, prefixes, batches):
    """What a simulation keeps of rows of outcomes [n, K + 2m]."""
    parts = [Running.of(p) for p in np.array_split(outcomes, batches)]
    small = [[Running.of(p[:n, K:]) for n in prefixes] for p in np.array_split(outcomes, batches)]
    return Simulated(
        num_configurations=K,
        num_methods=m,
        total=Running.of(outcomes),
        counts=np.array([p.n for p in parts]),
        means=np.stack([p.mean for p in parts]),
        squares=np.stack([np.diagonal(p.M2) for p in parts]),
        moments=np.zeros((batches, 21)),
        prefixes=prefixes,
        prefix_means=np.stack([[q.mean for q in s] for s in small]),
        prefix_products=np.stack([[q.M2 for q in s] for s in small]),
    )


def test_convergence_is_the_running_mean():
    """Oracle: numpy on the first n outcomes."""
    outcomes = RNG(5).standard_normal((5_000, 6)) + 1.0
    s = _simulated(outcomes, 2, 2, (10, 100), 20)
    rows = convergence(s, 3, (100, 1_000, 5_000), 0.95)
    assert [r.n for r in rows] == [10, 100, 1_000, 5_000]
    for r in rows:
        first = outcomes[: r.n, 5]
        assert r.estimate == pytest.approx(first.mean())
        half = stats.norm.isf(0.025) * first.std(ddof=1) / math.sqrt(r.n)
        assert r.half_width == pytest.approx(half)


def test_small_studies_reject_at_their_power():
    """Statistical: 2,000 studies of 10 and 30 pairs, within 4 errors of the power and of .95."""
    d, n = 0.4, (10, 30)
    outcomes = RNG(6).standard_normal((2_000 * 30, 3))
    outcomes[:, 1] = outcomes[:, 2] + d + outcomes[:, 1]
    s = _simulated(outcomes, 1, 1, n, 2_000)
    for study in small_studies(s, 0, 1, 0.95):
        assert study.num_studies == 2_000
        want = paired_power(d, study.n, 0.05)
        error = math.sqrt(want * (1 - want) / 2_000)
        assert abs(study.rejected / 2_000 - want) < 4 * error
        # The "truth" is the mean of the 60,000, itself uncertain by √(n/60,000) of a study's.
        assert abs(study.covered / 2_000 - 0.95) < 4 * math.sqrt(0.05 * 0.95 / 2_000)


def test_the_largest_half_width_covers():
    """Statistical: its simultaneous interval at 95% holds the truth in at least 95% − 4 errors."""
    rng, sd, held = RNG(7), np.array([0.2, 0.25, 0.24, 0.1]), 0
    truth = stats.norm.isf(0.025) * 0.25 / 1_000
    kept = _simulated(np.zeros((2_000, 6)), 4, 1, (10,), 100)
    for _ in range(500):
        outcomes = rng.standard_normal((100, 20, 4)) * sd
        s = replace(kept, squares=19 * outcomes.var(axis=1, ddof=1))
        got = largest_half_width(s, num_units=1_000_000, inner_level=0.95, level=0.95)
        held += got.low <= truth <= got.high
        assert got.low <= got.estimate <= got.high
    assert held / 500 > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 500)


def test_the_batch_bootstrap_refits_the_optimum():
    """Statistical: its spread is the jackknife's, within a fifth (2,000 resamples, 100 batches)."""
    rng = RNG(8)
    x = rng.standard_normal((100, 200, 3))
    y = x @ [0.5, 0.3, 0.2] + rng.standard_normal((100, 200))
    v = np.concatenate([np.ones((100, 200, 1)), x, y[..., None]], axis=2)
    moments = pack(np.einsum("bni,bnj->bij", v, v))
    job = BatchBootstrap(moments=moments, num_resamples=2_000)
    samples = [[job.step({}, 0, Key.root(1).child(s))[1]] for s in range(job.num_shards)]
    drawn = job.result(samples)
    assert drawn.shape == (2_000, 3)
    left = simplex_optimum(covariances(moments.sum(axis=0) - moments)).w
    jackknife = np.sqrt(99 / 100 * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(drawn.std(axis=0), jackknife, rtol=0.2)

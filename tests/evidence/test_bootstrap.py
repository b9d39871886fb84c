"""The cluster bootstrap against scipy's, closed forms and numerical differentiation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leray.evidence.bootstrap import (
    bca_ends,
    correlations,
    jackknife_se,
    jackknife_t_ends,
    leave_one_out,
    percentile_ends,
    ratio_means,
    resample_counts,
    studentised_ends,
)
from leray.evidence.moments import moment_table, pearson

EPS = np.finfo(np.float64).eps
seeds = st.integers(0, 9_999)


def skewed(seed: int, clusters: int = 25) -> np.ndarray:
    """One value a cluster, from a skewed law, so that BCa differs from the percentile."""
    return np.random.default_rng(seed).exponential(1.0, clusters)


def cluster_rows(seed: int, clusters: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Sums [clusters, 2] and sizes of clusters that are unequally large."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, clusters).astype(float)
    return sizes[:, None] * rng.standard_normal((clusters, 2)) + 0.5 * sizes[:, None], sizes


def score_sums(seed: int, clusters: int = 12) -> np.ndarray:
    """Packed moments (1, score, truth) of two scores by cluster, [clusters, 2, 6]."""
    rng = np.random.default_rng(seed)
    tables = []
    for slope in (0.3, -1.0):
        blocks = []
        for k in range(clusters):
            x = rng.standard_normal((1, 40)) + rng.standard_normal()
            blocks.append((str(k), x, slope * x[0] + rng.standard_normal(40)))
        tables.append(moment_table(blocks, ("score",)).sums)
    return np.stack(tables, axis=1)


def gradient(function, point: np.ndarray) -> np.ndarray:
    """Central differences; the step ε^(1/3) of each coordinate leaves a relative error ε^(2/3)."""
    out = np.empty(len(point))
    for j in range(len(point)):
        h = EPS ** (1 / 3) * max(1.0, abs(point[j]))
        up, down = point.copy(), point.copy()
        up[j] += h
        down[j] -= h
        out[j] = (function(up) - function(down)) / (up[j] - down[j])
    return out


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_from_scipys_resamples_are_scipys(method: str, level: float) -> None:
    """Oracle: given scipy's own resamples of a mean, the same ends to rounding."""
    values = skewed(1)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2_000,
        confidence_level=level,
        method=method,
        rng=np.random.default_rng(2),
    )
    samples = np.asarray(theirs.bootstrap_distribution)[:, None]
    if method == "percentile":
        ours = percentile_ends(samples, level)
    else:
        left_out = leave_one_out(values[:, None]) / (len(values) - 1)
        ours = bca_ends(samples, values.mean(keepdims=True), left_out, level)
    np.testing.assert_allclose(np.ravel(ours), theirs.confidence_interval, rtol=1e-9)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_intervals_from_our_resamples_are_scipys(method: str) -> None:
    """Statistical: multinomial counts and scipy's index draws give one law of the ends.

    The p-quantile of B draws has standard error √(p(1−p)/B)/f; B = 20,000 and f is the normal
    density at the ends in units of the standard error of the mean. Five of them, both sides.
    BCa's ends stand further out on this skewed law, where the density is lower still: doubled.
    """
    values, B, level = skewed(3), 20_000, 0.95
    n = len(values)
    counts = resample_counts(B, n, np.random.default_rng(4))
    samples = counts @ values[:, None] / n
    left_out = leave_one_out(values[:, None]) / (n - 1)
    ours = (
        percentile_ends(samples, level)
        if method == "percentile"
        else bca_ends(samples, values.mean(keepdims=True), left_out, level)
    )
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=B, method=method, rng=np.random.default_rng(5)
    ).confidence_interval
    p = (1 - level) / 2
    error = np.sqrt(p * (1 - p) / B) / stats.norm.pdf(stats.norm.ppf(p)) * samples.std()
    widen = 1 if method == "percentile" else 2
    atol = 5 * np.sqrt(2) * error * widen
    np.testing.assert_allclose(np.ravel(ours), theirs, rtol=0, atol=float(atol))


def test_resamples_draw_every_cluster_equally_often() -> None:
    """Statistical: C draws each; counts have mean 1, variance 1 − 1/C, covariance −1/C."""
    B, C = 20_000, 8
    counts = resample_counts(B, C, np.random.default_rng(6))
    np.testing.assert_array_equal(counts.sum(axis=1), np.full(B, C))
    error = np.sqrt((1 - 1 / C) / B)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=5 * error)
    # Var of a product of two centred counts is below their fourth moment, about 4.
    covariance = np.cov(counts.T)
    np.testing.assert_allclose(covariance, np.eye(C) - 1 / C, atol=5 * float(np.sqrt(4 / B)))


@given(seed=seeds, clusters=st.integers(2, 40))
def test_the_jackknife_error_of_a_mean_is_its_standard_error(seed: int, clusters: int) -> None:
    """Oracle: s/√C, in closed form."""
    values = skewed(seed, clusters)
    left_out = leave_one_out(values[:, None]) / (clusters - 1)
    assert jackknife_se(left_out)[0] == pytest.approx(stats.sem(values), rel=1e-9, abs=1e-12)


def test_the_jackknife_interval_of_a_mean_is_students() -> None:
    """Oracle: scipy's t interval of a mean."""
    values = skewed(7)
    left_out = leave_one_out(values[:, None]) / (len(values) - 1)
    ours = jackknife_t_ends(values.mean(keepdims=True), left_out, 0.9)
    theirs = stats.t.interval(0.9, len(values) - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(np.ravel(ours), theirs, rtol=1e-12)


def test_leaving_one_out_is_summing_the_others() -> None:
    """Identity: by a loop."""
    sums = np.random.default_rng(8).standard_normal((5, 3))
    expected = [np.delete(sums, c, axis=0).sum(axis=0) for c in range(5)]
    np.testing.assert_allclose(leave_one_out(sums), expected, atol=20 * EPS)


def test_many_statistics_at_once_are_each_alone() -> None:
    """Identity: the ends of [B, 2, 3] statistics are those of the six columns."""
    rng = np.random.default_rng(9)
    samples, estimate = rng.standard_normal((500, 2, 3)) ** 3, rng.standard_normal((2, 3)) * 0.1
    left_out = rng.standard_normal((11, 2, 3))
    together = np.array(bca_ends(samples, estimate, left_out, 0.9))
    for i, j in np.ndindex(2, 3):
        one = np.s_[..., i, j : j + 1]
        alone = np.array(bca_ends(samples[one], estimate[one], left_out[one], 0.9))
        np.testing.assert_array_equal(together[one], alone)


def test_bca_without_skew_or_bias_is_the_percentile_interval() -> None:
    """Identity: a symmetric jackknife and an estimate at the median leave the quantiles."""
    samples = np.random.default_rng(10).standard_normal((1_001, 1))
    left_out = np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    ours = bca_ends(samples, np.median(samples, axis=0), left_out, 0.9)
    np.testing.assert_allclose(ours, percentile_ends(samples, 0.9), rtol=1e-9)


def test_a_statistic_that_never_changes_has_an_interval_of_one_point() -> None:
    """Identity: no NaN where the resamples and the jackknife are constant."""
    ends = bca_ends(np.full((50, 1), 0.7), np.array([0.7]), np.full((9, 1), 0.7), 0.95)
    np.testing.assert_array_equal(ends, [[0.7], [0.7]])


def test_studentised_ends_invert_the_pivot() -> None:
    """Identity: the upper quantile of the pivot makes the lower end; a normal pivot gives z."""
    quantiles = stats.norm.ppf((np.arange(20_001) + 0.5) / 20_001)[:, None]
    low, high = studentised_ends(quantiles, np.array([2.0]), np.array([0.5]), 0.95)
    z = stats.norm.ppf(0.975)
    # Linear interpolation between neighbouring quantiles: within one spacing, 1/(B φ(z)).
    spacing = float(0.5 / 20_001 / stats.norm.pdf(z))
    np.testing.assert_allclose([low[0], high[0]], [2 - z / 2, 2 + z / 2], atol=2 * spacing)
    skewed_pivot = np.array([[-1.0], [0.0], [3.0]])
    low, high = studentised_ends(skewed_pivot, np.array([2.0]), np.array([0.5]), 1.0)
    assert (low[0], high[0]) == (0.5, 2.5)


@given(seed=seeds)
def test_ratio_means_are_means_with_linearised_errors(seed: int) -> None:
    """Oracle: se² = C/(C−1) Σ n_c (∂θ/∂n_c)², the derivatives taken numerically."""
    sums, sizes = cluster_rows(seed)
    C = len(sizes)
    counts = resample_counts(3, C, np.random.default_rng(seed))
    theta, se = ratio_means(counts, sums, sizes)
    for row, t, e in zip(counts, theta, se, strict=True):
        for k in range(2):
            slopes = gradient(lambda n, k=k: n @ sums[:, k] / (n @ sizes), row)
            np.testing.assert_allclose(t[k], row @ sums[:, k] / (row @ sizes), rtol=1e-12)
            expected = np.sqrt((row * slopes**2).sum() * C / (C - 1))
            np.testing.assert_allclose(e[k], expected, rtol=1e-6)


def test_the_error_of_a_mean_of_equal_clusters_is_its_standard_error() -> None:
    """Oracle: clusters of equal size make the ratio a mean, s/√C."""
    values = skewed(11)
    theta, se = ratio_means(np.ones(25), 7 * values[:, None], np.full(25, 7.0))
    assert theta[0] == pytest.approx(values.mean(), rel=1e-12)
    assert se[0] == pytest.approx(stats.sem(values), rel=1e-9)


@settings(max_examples=10)
@given(seed=seeds)
def test_correlations_are_pearsons_with_linearised_errors(seed: int) -> None:
    """Oracle: r of the weighted sums; se² = C/(C−1) Σ n_c (∂r/∂n_c)², taken numerically.

    In a resample n_c stands for c drawn n_c times, so the derivative is by the weight of one.
    """
    sums = score_sums(seed)
    C = len(sums)
    counts = resample_counts(3, C, np.random.default_rng(seed))
    r, se = correlations(counts, sums)
    for row, value, error in zip(counts, r, se, strict=True):
        for k in range(2):

            def weighted(n: np.ndarray, k: int = k) -> float:
                return float(pearson(n @ sums[:, k], np.ones((1, 1)))[0])

            np.testing.assert_allclose(value[k], weighted(row), atol=1e-12)
            expected = np.sqrt((row * gradient(weighted, row) ** 2).sum() * C / (C - 1))
            np.testing.assert_allclose(error[k], expected, rtol=1e-6)


def test_the_error_of_a_correlation_is_the_jackknifes_for_many_clusters() -> None:
    """Statistical: both estimate one standard error; they differ by O(1/C).

    The jackknife's relative excess over the linearised form is of order 1/C (Efron and Stein 1981
    bound it by the second-order term, here below 3/C).
    """
    C = 300
    sums = score_sums(12, C)
    _, se = correlations(np.ones(C), sums)
    left_out = np.stack(
        [pearson(leave_one_out(sums[:, k]), np.ones((1, 1)))[:, 0] for k in range(2)], axis=1
    )
    np.testing.assert_allclose(se, jackknife_se(left_out), rtol=3 / C)


def test_a_constant_score_has_neither_correlation_nor_error() -> None:
    """Identity: zeros, and no NaN."""
    x = np.full((1, 30), 0.25)
    y = np.random.default_rng(13).standard_normal(30)
    sums = moment_table([("a", x, y), ("b", x, y[::-1])], ("score",)).sums[:, None]
    r, se = correlations(np.ones(2), sums)
    np.testing.assert_array_equal([r, se], np.zeros((2, 1)))

"""What intervals cover and what tests reject, at small numbers; the rest is in benchmarks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leray.evidence.bootstrap import weight_intervals
from leray.evidence.calibration import Criterion, Rate, coverage, rejections
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.calibration import (
    BOUNDARY,
    INTERIOR,
    MEAN_KINDS,
    NOTHING,
    ONE,
    ROW_KINDS,
    TESTS,
    WEIGHT_KINDS,
    EqualMethods,
    FalsePositives,
    PlantedIntervals,
)

KEY = Key.root(2024)
DATASETS = 150


def quietly(computation):
    return drive(computation, store=MemoryStore(), key=KEY, progress=no_progress)


def errors(rate: Rate, nominal: float) -> float:
    """How far a rate lies from what it should be, in Monte Carlo standard errors at nominal."""
    return (rate.value - nominal) / np.sqrt(nominal * (1 - nominal) / rate.trials)


@pytest.fixture(scope="module")
def interior() -> dict[str, np.ndarray]:
    """Intervals of 150 data sets of 40 conversations."""
    return quietly(
        PlantedIntervals(
            population=INTERIOR,
            num_clusters=40,
            with_scores=True,
            num_datasets=DATASETS,
            num_resamples=300,
        )
    )


def test_cluster_intervals_of_r_and_of_weights_cover(interior: dict[str, np.ndarray]) -> None:
    """Statistical: studentised for r, jackknife-t for weights, 4.5 standard errors of 95%."""
    r = coverage(interior["r"][:, MEAN_KINDS.index("studentised")], INTERIOR.pearson(ONE))
    assert abs(errors(r, 0.95)) < 4.5
    for j, truth in enumerate(INTERIOR.optimum):
        ends = interior["weights"][:, WEIGHT_KINDS.index("jackknife-t"), j]
        assert abs(errors(coverage(ends, float(truth)), 0.95)) < 4.5


def test_row_intervals_do_not_cover(interior: dict[str, np.ndarray]) -> None:
    """Statistical: taking rows for independent misses 95% by more than 5 standard errors."""
    for k in range(len(ROW_KINDS)):
        rate = coverage(interior["rows"][:, k], INTERIOR.pearson(ONE))
        assert rate.trials == DATASETS // 10
        assert errors(rate, 0.95) < -5


def test_reported_weights_near_zero_are_covered() -> None:
    """Statistical: a true 0 always, a true .03 not less than 95% by 4.5 standard errors."""
    ends = quietly(
        PlantedIntervals(
            population=BOUNDARY,
            num_clusters=40,
            with_scores=False,
            num_datasets=DATASETS,
            num_resamples=300,
        )
    )
    reported = ends["weights"][:, WEIGHT_KINDS.index("reported")]
    assert ends["one_sided"][:, 0].mean() > 0.9
    assert coverage(reported[:, 0], 0.0).value > 0.98
    assert errors(coverage(reported[:, 1], 0.03), 0.95) > -4.5
    plain = ends["weights"][:, WEIGHT_KINDS.index("jackknife-t"), 1]
    assert errors(coverage(plain, 0.03), 0.95) < -5  # why the boundary needs its own bound


def test_group_tests_keep_their_level_and_free_rows_do_not() -> None:
    """Statistical: 100 data sets without signal; naive permutation in 10 of them."""
    p = quietly(FalsePositives(population=NOTHING, num_clusters=10, num_datasets=100))
    for test in ("rotations", "sign flips of X'y", "sign flips of X'y, growing lists"):
        rate = rejections(p[:, TESTS.index(test)], 0.05)
        assert errors(rate, 0.05) < 4.5
    free = p[:, TESTS.index("rows permuted freely")]
    assert errors(rejections(free[~np.isnan(free)], 0.05), 0.05) > 5


def test_paired_flips_between_equal_methods_keep_their_level() -> None:
    """Statistical: 400 data sets, within 4.5 standard errors of 5%."""
    p = quietly(EqualMethods(num_clusters=10, num_datasets=400))
    assert abs(errors(rejections(p, 0.05), 0.05)) < 4.5


@given(hits=st.integers(0, 60), more=st.integers(0, 60), level=st.floats(0.5, 0.999))
def test_wilson_interval(hits: int, more: int, level: float) -> None:
    """Oracle: scipy."""
    if hits + more == 0:
        return
    want = stats.binomtest(hits, hits + more).proportion_ci(level, method="wilson")
    rate = Rate(hits, hits + more)
    np.testing.assert_allclose(rate.wilson(level), [want.low, want.high], atol=1e-12)


def test_counting() -> None:
    """Identity: ends count, NaN does not, p equal to the level rejects."""
    ends = np.array([[0.0, 1.0], [1.0, 2.0], [1.1, 2.0], [np.nan, 2.0]])
    assert coverage(ends, 1.0) == Rate(2, 4)
    assert rejections(np.array([0.05, 0.051, 0.01]), 0.05) == Rate(2, 3)
    with pytest.raises(ValueError, match="no rate"):
        Rate(1, 0)


def test_criteria() -> None:
    """Identity: two-sided with a tolerance, otherwise not measurably below."""
    within, at_least = (Criterion(nominal=0.95, tolerance=t) for t in (0.02, None))
    assert [within.met(Rate(k, 100)) for k in (92, 93, 97, 98)] == [False, True, True, False]
    assert at_least.met(Rate(100, 100))
    assert [at_least.met(Rate(k, 10_000)) for k in (9450, 9460)] == [False, True]
    assert "95.0% +- 2.0%" in str(within)


def test_forms_of_weight_intervals() -> None:
    """Identity: one-sided at 0 and 1, jackknife-t inside, each holding its estimate."""
    rng = np.random.default_rng(3)
    middle = 0.5 + 0.02 * rng.standard_normal(500)
    resampled = np.stack([np.zeros(500), middle, 1 - middle], axis=1)
    left_out = resampled[:20]
    estimate = np.array([0.0, 0.5, 0.5])
    intervals = weight_intervals(estimate, resampled, left_out, 0.95)
    assert [i.kind for i in intervals] == ["upper", "jackknife-t", "jackknife-t"]
    assert (intervals[0].low, intervals[0].high) == (0.0, 0.0)
    assert all(i.low <= i.estimate <= i.high and i.n == 20 for i in intervals)
    one = np.stack([np.ones(500), np.zeros(500)], axis=1)
    flipped = weight_intervals(np.array([1.0, 0.0]), one, one[:20], 0.95)
    assert [i.kind for i in flipped] == ["lower", "upper"]
    with pytest.raises(ValueError, match="two clusters"):
        weight_intervals(estimate, resampled, resampled[:1], 0.95)


def test_fewer_clusters_give_wider_bounds() -> None:
    """Identity: the same resamples, expanded more where there were fewer clusters."""
    rng = np.random.default_rng(4)
    w = np.maximum(0.02 * rng.standard_normal(5000), 0.0)
    resampled = np.stack([w, 1 - w], axis=1)
    high = [
        weight_intervals(np.array([0.0, 1.0]), resampled, resampled[:C], 0.95)[0].high
        for C in (5, 10, 40, 200)
    ]
    assert sorted(high, reverse=True) == high
    assert high[-1] > np.quantile(w, 0.975)

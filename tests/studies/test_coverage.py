"""Coverage on planted data: the settings' truths, the forms' ends, and what a rate says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leray.evidence.moments import covariances
from leray.evidence.optimum import simplex_optimum
from leray.memory.synthetic import score_moments
from leray.runs import Key, MemoryStore, drive
from leray.studies.calibration import ONE
from leray.studies.coverage_data import HEAVY, INDEPENDENT, NEIGHBOURS, OWN, SERIAL, TrueDifferences
from leray.studies.coverage_methods import (
    FORMS,
    Cell,
    ClusterCoverage,
    MonteCarloCoverage,
    missed_share,
)
from leray.studies.judged_rates import MET, MISSED, UNDECIDED, Bound, Measured
from leray.studies.rejection_rates import TESTS, NullCell, RejectionRates


@pytest.mark.parametrize("setting", [OWN, HEAVY, NEIGHBOURS, INDEPENDENT], ids=lambda s: s.name)
def test_every_setting_has_the_covariances_of_its_population(setting):
    # Statistical: 60 sets of 40 conversations; 5 standard errors from their own spread.
    rng = np.random.default_rng(1)
    each = np.array(
        [
            np.append(c.b, c.s)
            for c in (covariances(setting.draw(40, rng).moments().sum(axis=0)) for _ in range(60))
        ]
    )
    _, b, s = setting.population.covariances
    error = each.std(axis=0) / np.sqrt(len(each))
    # Centring by the sample mean takes a few percent off where conversations share a level.
    assert (np.abs(each.mean(axis=0) - np.append(b, s)) < 5 * error + 0.03).all()


def test_heavy_tails_have_far_more_kurtosis():
    rng = np.random.default_rng(2)
    light, heavy = (stats.kurtosis(s.draw(200, rng).rows()[1]) for s in (INDEPENDENT, HEAVY))
    assert abs(light) < 0.2
    assert heavy > 2


def test_neighbouring_conversations_are_alike():
    # Statistical: the lag-1 correlation of conversation means is far from 0 only where planted.
    rng = np.random.default_rng(3)

    def lag(setting):
        planted = setting.draw(1_000, rng)
        moments = planted.moments()
        means = moments[:, 5] / moments[:, 0]  # Σy/n
        return np.corrcoef(means[:-1], means[1:])[0, 1]

    assert abs(lag(OWN)) < 5 / np.sqrt(1_000) < 0.2 < lag(NEIGHBOURS)


def test_the_row_wise_interval_covers_where_rows_are_independent_and_not_elsewhere():
    # Statistical: 30 data sets, 5 standard errors of a 95% share.
    row_wise = next(k for k, f in enumerate(FORMS) if f.row_wise)

    def held(setting):
        cell = Cell(setting=setting, num_clusters=10, num_datasets=30, true_differences=np.zeros(2))
        computation = ClusterCoverage(cells=(cell,), num_resamples=20, num_steps=1)
        return drive(computation, store=MemoryStore(), key=Key.root(4))[0][:, row_wise, 1]

    independent, serial = held(INDEPENDENT), held(SERIAL)
    error = np.sqrt(0.95 * 0.05 / len(independent))
    assert abs(independent.mean() - 0.95) < 5 * error
    assert serial.mean() < 0.85


def test_coverage_keeps_one_row_a_data_set_whatever_the_level():
    cell = Cell(setting=OWN, num_clusters=12, num_datasets=7, true_differences=np.zeros(2))
    computation = ClusterCoverage(cells=(cell, cell), num_resamples=100, num_steps=2)
    held, other = drive(computation, store=MemoryStore(), key=Key.root(5))
    assert not np.array_equal(held, other)  # shards draw from streams of their own
    assert held.shape == (8, len(FORMS), 2)
    inside = held[:, [not f.quantity.endswith("edge") for f in FORMS]]
    assert (inside[..., 0] <= inside[..., 1] + 1e-12)[:, :4].all()  # 90% lies within 95%
    edge = next(k for k, f in enumerate(FORMS) if f.quantity == "weights at the edge")
    assert np.isnan(held[:, edge]).all()


def test_the_grid_misses_what_it_misses_in_the_study():
    # Oracle: the share is that of the study's own function.
    from leray.studies.stack.genetic import missed_by_grid

    planted = OWN.draw(12, np.random.default_rng(6))
    evidence = _evidence(planted.moments())
    best = simplex_optimum(covariances(planted.moments().sum(axis=0)))
    ours = missed_share(best.r, np.asarray(evidence.grid_r))
    theirs = missed_by_grid(evidence.evidence, float(best.r), 0.9)
    assert float(ours) == pytest.approx(theirs.estimate, abs=1e-12)


def test_the_monte_carlo_mean_is_exact_for_normal_units():
    # Statistical: 2,000 trials, 5 standard errors.
    held = drive(
        MonteCarloCoverage(num_units=40, num_datasets=2_000), store=MemoryStore(), key=Key.root(7)
    )
    for share, level in zip(held.mean(axis=0), (0.90, 0.95), strict=True):
        assert abs(share - level) < 5 * np.sqrt(level * (1 - level) / 2_000)


def test_true_differences_are_ratios_of_means_with_their_errors():
    truth = drive(
        TrueDifferences(settings=(OWN, HEAVY), num_clusters=400, clusters_per_step=100),
        store=MemoryStore(),
        key=Key.root(8),
    )
    assert truth.shape == (2, 2, 2)
    assert (truth[:, 1] > 0).all()


def test_tests_give_p_values_and_do_not_reject_far_too_often():
    cell = NullCell(num_clusters=10, num_datasets=30)
    computation = RejectionRates(cells=(cell,), num_permutations=99, num_steps=2)
    (p,) = drive(computation, store=MemoryStore(), key=Key.root(9))
    assert p.shape == (30, len(TESTS))
    relied_on = p[:, :6]
    assert ((relied_on > 0) & (relied_on <= 1)).all()
    # Statistical: at .2, 5 standard errors of 30 trials.
    assert ((relied_on <= 0.2).mean(axis=0) < 0.2 + 5 * np.sqrt(0.16 / 30)).all()


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.94, 0.96), MET), ((0.90, 0.92), MISSED), ((0.92, 0.94), UNDECIDED),
     ((0.98, 0.99), MISSED)],
)  # fmt: skip
def test_a_rate_is_met_missed_or_undecided(interval, verdict):
    assert Bound(nominal=0.95, tolerance=0.02).verdict(interval) == verdict


def test_a_lower_bound_has_no_upper_end():
    assert Bound(nominal=0.95, tolerance=0.02, at_least=True).verdict((0.99, 1.0)) == MET


def test_the_error_of_a_rate_comes_from_the_spread_of_data_sets():
    # Identity: of single hits it is the binomial one; of equal shares it is smaller.
    hits = np.array([1.0] * 90 + [0.0] * 10)
    assert Measured.of(hits).se == pytest.approx(np.sqrt(0.9 * 0.1 / 100))
    shares = np.array([1.0, 0.8, 0.9, 0.9] * 25)
    assert Measured.of(shares).se < Measured.of(hits).se
    low, high = Measured.of(shares).interval
    assert low < 0.9 < high


def test_scores_of_the_fixed_weights_have_their_known_r():
    # Statistical: the population's r in 200 × 10 conversations, 5 standard errors by data set.
    rng = np.random.default_rng(10)
    r = []
    for _ in range(100):
        moments = score_moments(INDEPENDENT.draw(20, rng).moments(), ONE).sum(axis=0)
        S, b, s = covariances(moments)
        r.append(float(b[0] / np.sqrt(S[0, 0] * s)))
    error = np.std(r) / np.sqrt(len(r))
    assert abs(np.mean(r) - INDEPENDENT.population.pearson(ONE)) < 5 * error


class _Grid:
    def __init__(self, evidence, grid_r):
        self.evidence, self.grid_r = evidence, grid_r


def _evidence(moments):
    """Evidence with what the grid's share reads, and nothing else."""
    from leray.evidence.moments import pearson
    from leray.studies.importance import Evidence, landscape_grid

    grid = landscape_grid()[0]
    evidence = Evidence.__new__(Evidence)
    for name, value in {
        "moments": moments[None],
        "tau": 0,
        "grid": grid,
        "resamples": None,
    }.items():
        object.__setattr__(evidence, name, value)
    return _Grid(evidence, pearson(moments.sum(axis=0), grid).max())

"""Simulation-based calibration: its tests of uniformity, and a small calibration of the model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leray.evidence.sbc import Ranks, SimulationBasedCalibration, ecdf_depth
from leray.runs import Key, MemoryStore, drive, no_progress


def ranks_of(values: np.ndarray) -> Ranks:
    num = len(values)
    return Ranks(("a",), values[:, None], 99, np.zeros(num), np.zeros(num, dtype=bool))


def test_statistical_uniform_ranks_are_rejected_at_the_level():
    rng = np.random.default_rng(0)
    p = np.array(
        [
            [r.chi_square()[0], r.ecdf(200, rng)[0]]
            for r in (ranks_of(rng.integers(100, size=100)) for _ in range(100))
        ]
    )
    # 100 tests at .1: the share of rejections has a standard error of .03
    assert (np.abs((p <= 0.1).mean(axis=0) - 0.1) < 4.5 * np.sqrt(0.09 / 100)).all()


@pytest.mark.parametrize("shape", [(2, 2), (0.6, 0.6), (1.5, 1)])
def test_ranks_that_are_not_uniform_are_found(shape):
    rng = np.random.default_rng(1)
    ranks = ranks_of((100 * rng.beta(*shape, size=300)).astype(int))
    assert ranks.ecdf(500, rng)[0] < 0.01
    assert ranks.chi_square()[0] < 0.01


def test_oracle_the_depth_is_the_smallest_binomial_tail():
    ranks = np.array([[0, 3, 3, 7]])
    tails = []
    for k in range(1, 10):
        below, z = (ranks < k).sum(), k / 10
        tails += [stats.binom.cdf(below, 4, z), stats.binom.sf(below - 1, 4, z)]
    assert ecdf_depth(ranks, 9)[0] == pytest.approx(2 * min(tails))


def test_statistical_the_posterior_is_calibrated_on_its_own_prior():
    computation = SimulationBasedCalibration(
        num_datasets=24, datasets_per_step=6, num_clusters=8, num_rows=30, num_importance=1_000
    )
    ranks = drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)
    assert ranks.ranks.shape == (24, 12)
    assert ranks.ranks.min() >= 0
    assert ranks.ranks.max() <= 99
    assert (ranks.by_nuts == (ranks.k_hat > 0.7)).all()  # none discarded
    # twelve parameters at once: .001 each is .012 together
    assert ranks.ecdf(2_000, np.random.default_rng(0)).min() > 1e-3


def test_identity_nuts_takes_over_where_importance_sampling_fails(monkeypatch):
    computation = SimulationBasedCalibration(
        num_datasets=4, datasets_per_step=1, num_clusters=6, num_rows=20, num_importance=500
    )
    monkeypatch.setattr("leray.evidence.sbc.TRUSTED", -np.inf)
    _, samples = computation.step({}, 0, Key.root(2))
    assert samples["by_nuts"].all()
    assert np.isfinite(samples["k_hat"]).all()
    assert samples["ranks"].shape == (1, 12)
    assert 0 < samples["ranks"].mean() < 99


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="not a multiple"):
        SimulationBasedCalibration(num_datasets=10)
    with pytest.raises(ValueError, match="multiple of 20"):
        SimulationBasedCalibration(num_ranked=98)

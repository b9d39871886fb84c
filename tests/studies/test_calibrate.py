"""The calibration as a command: its request, its ranks, and the posterior's coverage."""

from __future__ import annotations

import numpy as np
import pytest

from leray.cli import main
from leray.errors import LerayError
from leray.evidence.bayes import gaussian_model
from leray.evidence.density import constrained
from leray.evidence.sbc import Ranks, posterior_draws
from leray.runs import RunFolder
from leray.studies.calibrate import Request, coverage_row, request_of, uniformity
from leray.studies.coverage_posterior import LAWS, PosteriorCoverage
from leray.studies.judged_rates import Bound


def test_a_request_comes_back_from_its_configuration():
    assert request_of({"datasets": 100, "seed": 3}) == Request(datasets=100, seed=3)
    with pytest.raises(LerayError, match=r"--datasets must be 40.*got 10$"):
        Request(datasets=10)


def test_resume_refuses_other_studies_and_options_without_effect(tmp_path, capsys):
    with RunFolder.create(tmp_path / "other", "importance", {"seed": 0}):
        pass
    assert main(["calibrate", "--resume", str(tmp_path / "other")]) == 1
    assert "allowed: 'calibrate'" in capsys.readouterr().err
    assert main(["calibrate", "--resume", str(tmp_path / "other"), "--seed", "1"]) == 1
    assert "--seed" in capsys.readouterr().err


def _ranks(values):
    n = len(values)
    return Ranks(("w[0]",), np.asarray(values)[:, None], 199, np.zeros(n), np.zeros(n, dtype=bool))


def test_uniform_ranks_are_met_and_crowded_ones_missed():
    rng = np.random.default_rng(1)
    even, curves = uniformity(_ranks(np.repeat(np.arange(200), 2)), rng)
    crowded, _ = uniformity(_ranks(rng.integers(50, 150, 400)), rng)
    assert (even["met"], crowded["met"]) == ("met", "missed")
    low, high = np.array(curves["band"])
    assert ((low < 0) & (high > 0))[50:150].all()
    assert np.abs(curves["differences"]).max() < 1e-9  # every rank twice: exactly uniform


def test_a_row_says_how_often_and_whether_that_was_asked():
    row = coverage_row(
        "m", "q", "own model", 40, 0.9, np.repeat([1.0, 0.0], [90, 10]),
        Bound(nominal=0.9, tolerance=0.02),
    )  # fmt: skip
    assert row["coverage"] == pytest.approx(0.9)
    assert row["mc_error"] == pytest.approx(0.03)
    assert row["met"] == "undecided"
    assert coverage_row("m", "q", "s", 40, 0.9, np.ones(4), None)["met"] is None


def test_posterior_draws_find_the_truth_of_a_large_data_set():
    # Statistical: 200 conversations of 200 rows; the truth lies within 5 posterior deviations.
    coverage = PosteriorCoverage(num_rounds=2, num_clusters=200, num_rows=200)
    law = LAWS[0]
    truth, data = coverage.dataset(law, np.random.default_rng(2))
    found = posterior_draws(gaussian_model, data, 1_000, np.random.default_rng(3))
    assert np.isfinite(found.k_hat)
    drawn = constrained(gaussian_model, data, found.even(2_000))
    for site, value in (("w", truth.w), ("b", truth.b), ("sigma", truth.sigma)):
        gap = np.abs(drawn[site].mean(axis=0) - value) / drawn[site].std(axis=0)
        assert np.max(gap) < 5


def test_laws_break_what_they_say():
    coverage = PosteriorCoverage(num_rounds=2, num_clusters=300, num_rows=60)
    by_name = {law.name: law for law in LAWS}
    rng = np.random.default_rng(4)
    equal, _ = coverage.dataset(by_name["equal slopes"], rng)
    assert equal.tau[0] > 0
    assert (equal.tau[1:] == 0).all()
    # Statistical: rows that depend leave conversation means of the signals 9 times as variable.
    means = []
    for name in ("slopes that vary", "serial dependence"):
        _, data = coverage.dataset(by_name[name], rng)
        means.append((data.gram[0, 1] / data.rows).var() * 60)
    assert means[0] == pytest.approx(1, abs=5 * np.sqrt(2 / 300))
    assert means[1] > 5

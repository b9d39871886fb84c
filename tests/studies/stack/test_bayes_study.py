"""The Bayesian study on planted conversations: its outcome, its file, its figures (golden).

The conversations carry no times: decay is constant, and the models weigh the other three signals.
"""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import xarray
from arviz_stats.summary import summary

from leray.figures.posterior import posterior, ranks
from leray.memory.blocks import FOUR
from leray.studies.stack.bayes import COMPUTATIONS, run
from leray.studies.stack.posterior import SITES
from studies.stack.posterior_data import CONVERSATIONS, driven, planted, written

VARYING = FOUR[1:]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def ran():
    names = []

    def drive(computation):
        names.append(computation.name)
        return driven(computation)

    prepared, evidence = planted(timeless=True)
    outcome, sampled = run(
        prepared, evidence, drive, num_warmup=200, num_draws=200, logistic_warmup=200,
        logistic_draws=200, level=0.9,
    )  # fmt: skip
    assert tuple(names) == COMPUTATIONS == outcome.computations
    return outcome, sampled, evidence


def test_golden_the_outcome_is_whole_and_ready_for_json(ran):
    outcome, _, _ = ran
    json.dumps([outcome.row(0), outcome.details], allow_nan=False)
    assert outcome.name == "bayes"
    assert {k.partition(" (")[0] for k in outcome.weights} == set(VARYING)
    assert len(outcome.weights) == 3 * len(VARYING)
    for interval in (*outcome.weights.values(), *outcome.estimates.values()):
        assert interval.low <= interval.estimate <= interval.high
        assert (interval.level, interval.n) == (0.9, CONVERSATIONS)


def test_golden_nuts_importance_sampling_and_the_optimum_agree(ran):
    outcome, sampled, evidence = ran
    found = outcome.diagnostics
    assert found["largest R-hat"] < 1.05  # 800 draws
    assert found["logistic: largest R-hat"] < 1.05
    assert found["importance sampling k-hat"] < 0.7
    assert found["largest gap of importance sampling from NUTS, in posterior sds"] < 0.35
    w = sampled.draws["w"].reshape(-1, len(VARYING))
    gap = np.abs(w.mean(axis=0) - evidence.optimum[1:]) / w.std(axis=0)
    assert gap.max() < 2  # the prior pulls towards a third, by less than two deviations here


def test_golden_arviz_opens_the_file(ran):
    outcome, sampled, _ = ran
    tree = xarray.open_datatree(io.BytesIO(outcome.files["posterior.nc"]), engine="h5netcdf")
    assert set(tree["posterior"].data_vars) == set(SITES)
    assert dict(tree["posterior"].sizes) == {"chain": 4, "draw": 200, "signal": 3, "effect": 4}
    np.testing.assert_allclose(tree["posterior"]["w"], sampled.draws["w"], rtol=1e-6)
    assert np.asarray(tree["posterior"]["signal"]).tolist() == list(VARYING)
    table = summary(tree, var_names=["w"])
    assert len(table) == 3
    np.testing.assert_allclose(
        table["mean"].astype(float), sampled.draws["w"].mean(axis=(0, 1)), atol=0.006
    )


@pytest.mark.parametrize("draw", [posterior, ranks])
def test_golden_the_figures_say_what_they_show(ran, draw):
    picture = draw(*written(ran[0]))
    assert picture is not None
    root = ET.fromstring(picture.svg)
    assert root.findtext(f"{SVG}title") == picture.title
    assert "Data: planted, 8 conversations" in picture.caption
    assert "800 draws" in picture.caption
    assert draw({"data": {}, "stack": []}, {}) is None


def test_the_paragraph_is_built_from_the_numbers(ran):
    outcome, sampled, _ = ran
    relevance = sampled.draws["w"][..., VARYING.index("relevance")].mean()
    assert f"relevance {relevance:.2f}" in outcome.paragraph
    assert "cannot show" in outcome.paragraph

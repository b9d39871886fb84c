"""The variational study against weighted draws in the place of chains: claim M6 and its figure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from leray.evidence.bayes import gaussian_data, gaussian_model
from leray.evidence.density import constrained
from leray.evidence.laplace import LaplaceImportance
from leray.evidence.nuts import Chains
from leray.figures.posterior import variational
from leray.memory.blocks import FOUR
from leray.studies.stack.posterior import Posterior
from leray.studies.stack.variational import run
from studies.stack.posterior_data import CONVERSATIONS, driven, planted, written

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def ran():
    _, evidence = planted()
    data, scales = gaussian_data(evidence.moments[0])
    laplace = driven(LaplaceImportance(model=gaussian_model, data=data))
    z = np.random.default_rng(0).permutation(laplace.even(8_000)).reshape(4, 2_000, -1)
    empty = np.zeros(z.shape[:2])
    chains = Chains(z, empty.astype(bool), empty.astype(int), empty, empty)
    sampled = Posterior(
        signals=FOUR, data=data, scales=scales, chains=chains,
        draws=constrained(gaussian_model, data, z), laplace=laplace, num_clusters=CONVERSATIONS,
    )  # fmt: skip
    return run(evidence, sampled, driven, num_steps=3_000, level=0.9), sampled


def test_golden_the_outcome_is_whole_and_ready_for_json(ran):
    outcome, sampled = ran
    json.dumps([outcome.row(0), outcome.details], allow_nan=False)
    assert list(outcome.estimates) == ["M6", "mean field"]
    assert len(outcome.weights) == 2 * len(FOUR)
    m6 = outcome.estimates["M6"]
    assert m6.low <= m6.estimate <= m6.high
    assert (m6.level, m6.n) == (0.9, sampled.draws["b"].size)
    assert f"{m6.estimate:.2f}" in outcome.paragraph
    assert outcome.computations == ("variational", "agreement")


def test_golden_the_fits_are_near_and_full_rank_is_no_further_than_mean_field(ran):
    outcome, _ = ran
    assert outcome.estimates["M6"].high < 0.5
    gap = outcome.estimates["M6"].estimate - outcome.estimates["mean field"].estimate
    assert gap < 0.1
    assert outcome.diagnostics["full-rank: smallest ratio of sds"] > 0.5
    assert outcome.diagnostics["full-rank: largest gap of means, in NUTS sds"] < 0.3


def test_golden_the_figure_says_what_it_shows(ran):
    picture = variational(*written(ran[0]))
    assert picture is not None
    assert ET.fromstring(picture.svg).findtext(f"{SVG}title") == picture.title
    assert "Data: planted, 8 conversations" in picture.caption
    assert "8,000 draws of NUTS" in picture.caption
    assert "block bootstrap percentile" in picture.caption
    assert variational({"data": {}, "stack": []}, {}) is None

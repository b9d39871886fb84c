"""The Monte Carlo study, small: its outcome, its numbers (statistical), its words (golden)."""

from __future__ import annotations

import json
import math

import pytest

from leray.memory.generator import ConversationLaw
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.stack.montecarlo import METHODS, run

LEVEL = 1 - 0.05 / 9


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)


@pytest.fixture(scope="module")
def outcome():
    return run(driven, num_gram=24_000, num_literal=1_600, level=LEVEL, num_pilot=4_000)


def test_the_claims_have_their_intervals(outcome):
    for claim in ("M1", "M2", "M3", "M5", "M7", "M9"):
        i = outcome.estimates[claim]
        assert i.low <= i.estimate <= i.high
        assert i.level == LEVEL
        assert i.n == 24_000
    assert outcome.estimates["M5"].low >= 0.0


def test_the_planted_weights_are_recovered(outcome):
    """Statistical: four intervals of 95% widened to 5 standard errors (by 5/1.96)."""
    assert list(outcome.weights) == ["decay", "surprise", "relevance", "habituation"]
    for w, i in zip(ConversationLaw().weights, outcome.weights.values(), strict=True):
        assert abs(i.estimate - w) < 5 / 1.96 * (i.high - i.low) / 2


def test_r_is_ordered_as_it_must_be(outcome):
    pooled = [
        outcome.estimates[f"pooled r, {m}"].estimate
        for m in ("exact optimum", "best of the 169", "the document's weights")
    ]
    assert pooled[0] >= pooled[1] >= pooled[2]


def test_the_modes_agree(outcome):
    """Statistical: 36 comparisons, at .05 over all of them; the key is fixed."""
    assert outcome.diagnostics["modes agree"] is True
    assert len(outcome.details["modes"]) == 4 * len(METHODS)


def test_half_widths_shrink_as_one_over_root_n(outcome):
    """Statistical: the sd behind each half-width, within 5 errors of the last (κ ≤ 6 allowed)."""
    rows = outcome.details["convergence"]["rows"]
    last = rows[-1][2] * math.sqrt(rows[-1][0])
    for n, _, half in rows[1:]:
        assert abs(half * math.sqrt(n) / last - 1) < 5 * math.sqrt(5 / (4 * n))


def test_the_row_is_json_and_says_what_it_cannot_show(outcome):
    json.dumps(outcome.row(1), allow_nan=False)
    json.dumps(outcome.details, allow_nan=False)
    assert "say nothing about real ones" in outcome.paragraph
    assert "themselves one of the weightings tried" in outcome.paragraph
    assert outcome.computations == (
        "monte carlo pilot", "monte carlo", "monte carlo literal", "monte carlo weights",
    )  # fmt: skip


def test_another_law_gives_other_weights():
    """Statistical: surprise planted at .1 is found below .3; its grid note is gone."""
    law = ConversationLaw(weights=(0.33, 0.11, 0.22, 0.34))
    got = run(
        driven, num_gram=3_200, num_literal=1_600, num_pilot=3_200, level=0.95, law=law,
        num_resamples=200,
    )  # fmt: skip
    assert got.weights["surprise"].estimate < 0.3
    assert "weightings tried, so that nothing" not in got.paragraph
    assert got.diagnostics["planted weights on the grid"] is False

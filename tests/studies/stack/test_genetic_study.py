"""The genetic study on planted moments: its outcome, its claim, its figure (golden, oracle)."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from leray.evidence.moments import covariances, moment_table, pearson
from leray.evidence.optimum import simplex_optimum
from leray.evidence.resampling import ClusterBootstrap
from leray.figures.genetic import genetic
from leray.memory.blocks import FOUR
from leray.memory.methods import landscape_grid
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.importance import Evidence
from leray.studies.outcome import Outcome
from leray.studies.stack.genetic import missed_by_grid, run

CONVERSATIONS = 12


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """What the study reads: moments of 12 conversations at one decay time, and resamples."""
    rng = np.random.default_rng(0)
    blocks = []
    for c in range(CONVERSATIONS):
        x = rng.normal(size=(4, 200))
        blocks.append((f"c{c}", x, np.array([0.05, 0.1, 0.6, 0.25]) @ x + rng.normal(size=200)))
    moments = moment_table(blocks, FOUR).sums[None]
    grid, renormalised = landscape_grid()
    bootstrap = ClusterBootstrap(
        moments=moments, grid=grid, grid_tau=0, scores=np.ones((CONVERSATIONS, 1, 6)),
        sums=np.ones((CONVERSATIONS, 1)), sizes=np.ones(CONVERSATIONS), num_resamples=2_000,
    )  # fmt: skip
    made = object.__new__(Evidence)
    fields = {
        "moments": moments, "tau": 0, "taus": (1.0,), "grid": grid, "renormalised": renormalised,
        "resamples": driven(bootstrap),
    }  # fmt: skip
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


@pytest.fixture(scope="module")
def outcome(evidence) -> Outcome:
    return run(evidence, driven, level=0.9, num_generations=60, population=200)


def test_golden_the_outcome_is_whole_and_ready_for_json(outcome):
    json.dumps([outcome.row(0), outcome.details], allow_nan=False)
    assert outcome.name == "genetic"
    assert outcome.computations == ("genetic", "genetic-random", "genetic-cma")
    assert outcome.diagnostics["genetic algorithm: evaluations"] == 200 + 60 * 100
    assert outcome.diagnostics["random search: evaluations"] == 200 + 60 * 100
    assert outcome.diagnostics["exact optimum, largest violation of its conditions"] < 1e-10
    assert "moot" in outcome.paragraph


def test_oracle_the_claim_is_the_share_that_the_grid_misses(evidence, outcome):
    total = evidence.moments[0].sum(axis=0)
    best = float(simplex_optimum(covariances(total)).r)
    grid = float(pearson(total, evidence.grid).max())
    judged = outcome.estimates["M5"]
    assert judged.estimate == pytest.approx((best - grid) / best, rel=1e-4)
    assert judged.low < judged.estimate < judged.high
    assert (judged.level, judged.kind, judged.n) == (0.9, "jackknife-t of the root", CONVERSATIONS)
    assert outcome.diagnostics["grid of 169: regret, in r"] == pytest.approx(best - grid, rel=1e-9)


def test_identity_what_the_search_misses_shifts_the_claim_by_as_much(evidence):
    total = evidence.moments[0].sum(axis=0)
    best = float(simplex_optimum(covariances(total)).r)
    full = missed_by_grid(evidence, best, 0.9).estimate
    assert full - missed_by_grid(evidence, 0.9 * best, 0.9).estimate == pytest.approx(0.1)


def test_golden_without_the_library_the_rival_is_left_out(evidence, monkeypatch):
    monkeypatch.setattr("leray.studies.stack.genetic.find_spec", lambda _: None)
    outcome = run(evidence, driven, level=0.9, num_generations=5, population=40)
    assert outcome.computations == ("genetic", "genetic-random")
    assert not any("CMA" in name for name in outcome.diagnostics)


def test_golden_one_conversation_has_an_estimate_and_no_interval(evidence):
    alone = replace_field(evidence, moments=evidence.moments[:, :1], resamples=None)
    outcome = run(alone, driven, level=0.9, num_generations=5, population=40)
    assert outcome.row(0)["estimates"][0]["interval"] is None
    assert "no interval" in outcome.paragraph


def test_golden_the_figure_is_a_document_that_names_its_data(outcome):
    result = {
        "data": {
            "name": "planted", "clusters": CONVERSATIONS, "cluster_unit": "conversations",
            "queries": 24, "pairs": 2_400,
        },
        "stack": [outcome.row(0)],
    }  # fmt: skip
    picture = genetic(result, {"stack": {"genetic": json.loads(json.dumps(outcome.details))}})
    assert picture is not None
    ET.fromstring(picture.svg)
    assert "planted, 12 conversations" in picture.caption
    assert "interval" in picture.caption.lower()
    assert "mathdefault" not in picture.svg
    assert genetic(result, {}) is None


def replace_field(evidence: Evidence, **changes: object) -> Evidence:
    """`dataclasses.replace` for an Evidence that holds only some of its fields."""
    made = object.__new__(Evidence)
    for name, value in {**vars(evidence), **changes}.items():
        object.__setattr__(made, name, value)
    return made

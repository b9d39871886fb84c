"""The ceiling study on planted conversations: its outcome, its refusals, its figure (golden)."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from leray.data.preparation import Prepared
from leray.evidence.bootstrap import Interval
from leray.figures.ceiling import ceiling
from leray.memory.blocks import ALL, Block, decay_name
from leray.memory.comparison import compare
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.importance import Evidence
from leray.studies.outcome import Outcome
from leray.studies.stack.ceiling import run
from leray.studies.stack.ceiling_answer import judged

CONVERSATIONS, QUERIES, ROWS = 6, 12, 120
COLUMNS = tuple(decay_name(1.0) if s == "decay" else s for s in ALL)


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """The truth is steep in relevance, so that a straight line falls short of it."""
    rng = np.random.default_rng(0)
    blocks = []
    for c in range(CONVERSATIONS):
        x = rng.normal(size=(len(COLUMNS), QUERIES * ROWS)).astype(np.float32)
        relevance = x[COLUMNS.index("relevance")]
        relevant = rng.random(QUERIES * ROWS) < special.expit(-5 + 2.5 * relevance)
        relevant[::ROWS] = True  # every query has something to find
        blocks.append(
            Block(
                history=f"c{c}", signals=COLUMNS, x=x, relevant=relevant,
                offsets=np.arange(0, QUERIES * ROWS + 1, ROWS), clusters=(f"c{c}",) * QUERIES,
            )
        )  # fmt: skip
    return Prepared(
        blocks=tuple(blocks), clusters=tuple(b.history for b in blocks),
        num_histories=CONVERSATIONS, num_turns=0, num_queries=CONVERSATIONS * QUERIES,
        num_pairs=CONVERSATIONS * QUERIES * ROWS,
        num_positives=int(sum(b.relevant.sum() for b in blocks)), dropped={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def evidence(prepared) -> Evidence:
    """What the study reads of it: the held-out scores of the linear methods."""

    def linear(block, _):
        return block.rows(("relevance",))[0].astype(float)

    methods = ("pearson", "ndcg", "logistic")
    made = object.__new__(Evidence)
    comparison = compare(prepared.blocks, dict.fromkeys(methods, linear), prepared.clusters)
    for name, value in {"comparison": comparison, "taus": (1.0,), "tau": 0}.items():
        object.__setattr__(made, name, value)
    return made


@pytest.fixture(scope="module")
def outcome(prepared, evidence) -> Outcome:
    return run(prepared, evidence, driven, level=0.9, num_neighbours=16, num_controls=1_000)


def test_golden_the_outcome_is_whole_and_ready_for_json(outcome):
    json.dumps([outcome.row(0), outcome.details], allow_nan=False)
    assert len(set(outcome.computations)) == len(outcome.computations) == 7
    assert {i.n for i in outcome.estimates.values()} == {CONVERSATIONS}
    assert outcome.estimates["4 signals: held-out r of the linear weights"].level == 0.9
    best = outcome.estimates["4 signals: held-out r of the best (the ceiling is at least this)"]
    assert best.level == pytest.approx(1 - 0.1 / 3)
    assert "no upper bound" in outcome.paragraph


def test_oracle_the_linear_r_is_that_of_all_pairs(prepared, outcome):
    x = np.concatenate([b.rows(("relevance",))[0] for b in prepared.blocks])
    y = np.concatenate([b.relevant for b in prepared.blocks])
    linear = outcome.estimates["4 signals: held-out r of the linear weights"]
    assert linear.estimate == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-6)
    best = outcome.estimates["4 signals: held-out r of the best (the ceiling is at least this)"]
    share = outcome.estimates[
        "4 signals: linear r as a share of the best's (of the ceiling: at most this)"
    ]
    assert share.estimate == pytest.approx(linear.estimate / best.estimate)


def test_golden_eighteen_signals_are_refused(outcome):
    assert outcome.diagnostics["18 signals: ceiling from neighbours"] == "refused: nothing is near"
    assert not any("18 signals: ceiling" in name for name in outcome.estimates)
    assert outcome.details["refused"] == ["18 signals"]


def test_golden_too_few_conversations_are_told_so(prepared, evidence):
    few = replace(prepared, blocks=prepared.blocks[:2], clusters=prepared.clusters[:2])
    outcome = run(few, evidence, driven, level=0.95)
    assert outcome.estimates == {}
    assert "at least three" in outcome.paragraph


@pytest.mark.parametrize(
    ("most", "share", "said"),
    [
        ((0.4, 0.6), (0.2, 0.5), "denied, whatever"),
        ((0.8, 1.0), (0.5, 0.7), "denied, if"),
        ((0.8, 1.0), (0.7, 0.9), "neither said nor denied, for"),
        ((0.95, 1.0), (0.9, 0.99), "may be said, if"),
        ((0.8, 1.0), None, "neither said nor denied"),
    ],
)
def test_golden_the_sentence_follows_the_intervals(most, share, said):
    def at(ends):
        return Interval(
            estimate=sum(ends) / 2, low=ends[0], high=ends[1], level=0.95, kind="jackknife-t", n=9
        )

    names = (
        "4 signals: linear r as a share of the best's (of the ceiling: at most this)",
        "4 signals: linear r as a share of the estimated ceiling (truth Lipschitz)",
    )
    given = {n: at(e) for n, e in zip(names, (most, share), strict=True) if e is not None}
    assert said in judged(given, "four")


def test_golden_the_figure_is_a_document_that_names_its_data(outcome):
    result = {
        "data": {
            "name": "planted", "clusters": CONVERSATIONS, "cluster_unit": "conversations",
            "queries": 72, "pairs": 8_640,
        },
        "stack": [outcome.row(0)],
    }  # fmt: skip
    picture = ceiling(result, {"stack": {"ceiling": json.loads(json.dumps(outcome.details))}})
    assert picture is not None
    ET.fromstring(picture.svg)
    assert "planted, 6 conversations" in picture.caption
    assert "jackknife-t" in picture.caption
    assert "not an upper bound" in picture.caption
    assert ceiling(result, {}) is None

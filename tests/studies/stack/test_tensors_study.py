"""The tensor study on planted blocks: its outcome, its claim, its figure (golden, oracle)."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from leray.data.preparation import Prepared
from leray.figures.tensors import tensors
from leray.memory.blocks import FOUR, Block, decay_name
from leray.memory.parafac import Parafac
from leray.memory.tensors import RankFit
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.importance import Evidence, four_signal_table
from leray.studies.outcome import Outcome
from leray.studies.stack.tensors import choose_rank, equal_outcomes, run

TAU, CONVERSATIONS = 60.0, 6


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)


def planted_block(c: int) -> Block:
    """Five lists of 60 turns; relevant turns have a high relevance, whatever else."""
    rng = np.random.default_rng(c)
    x = rng.random((5, 300)).astype(np.float32)
    x[4] = 0.5 * x[2] + 0.5 * x[4]
    relevant = x[2] + 0.3 * rng.normal(size=300) > 1.1
    relevant[::60] = True
    return Block(
        history=f"c{c}",
        signals=(decay_name(TAU), *FOUR[1:], "lexical"),
        x=x,
        relevant=relevant,
        offsets=np.arange(0, 301, 60),
        clusters=(f"c{c}",) * 5,
    )


@pytest.fixture(scope="module")
def planted() -> tuple[Prepared, Evidence]:
    blocks = tuple(planted_block(c) for c in range(CONVERSATIONS))
    prepared = Prepared(
        blocks=blocks, clusters=tuple(b.history for b in blocks), num_histories=CONVERSATIONS,
        num_turns=60 * CONVERSATIONS, num_queries=5 * CONVERSATIONS,
        num_pairs=300 * CONVERSATIONS, num_positives=1, dropped={},
    )  # fmt: skip
    evidence = object.__new__(Evidence)
    table = four_signal_table(blocks, (TAU,))
    for name, value in {"taus": (TAU,), "tau": 0, "table": table}.items():
        object.__setattr__(evidence, name, value)
    return prepared, evidence


@pytest.fixture(scope="module")
def outcome(planted) -> Outcome:
    prepared, evidence = planted
    rng = np.random.default_rng(0)
    return run(prepared, evidence, driven, level=0.9, rng=rng, num_restarts=4, num_null=3)


def test_golden_the_outcome_is_whole_and_ready_for_json(outcome):
    json.dumps([outcome.row(0), outcome.details], allow_nan=False)
    assert outcome.name == "tensors"
    assert outcome.computations == ("tensor-ranks", "tensor-held-out", "tensor-equal-outcomes")
    assert outcome.diagnostics["Tucker, ranks"] == "6 × 5 × 3 × 2"
    assert [row["rank"] for row in outcome.details["ranks"]] == [1, 2, 3, 4, 5, 6]
    assert len(outcome.details["terms"]) == 10


def test_golden_the_claim_is_a_share_beyond_its_null(outcome):
    share = outcome.estimates["M8"]
    assert (share.level, share.kind, share.n) == (0.9, "jackknife-t", CONVERSATIONS)
    assert 0 < share.estimate < 1
    beyond = outcome.estimates["share explained beyond permuted tensors"]
    null = outcome.diagnostics["share explained in permuted tensors, mean"]
    assert beyond.estimate == pytest.approx(share.estimate - null)
    assert beyond.low > 0
    assert outcome.diagnostics["share explained in permuted tensors, p"] == 0.25


def test_oracle_tensorly_does_not_better_the_fit(outcome):
    assert abs(outcome.diagnostics["TensorLy improves our rank-3 fit by"]) < 1e-4


def test_golden_the_strongest_factor_is_what_was_planted(outcome):
    assert outcome.details["named"][0]["signal"] == "relevance"
    assert "relevance" in outcome.paragraph


def test_golden_the_figure_is_a_document_that_names_its_data(outcome):
    result = {
        "data": {
            "name": "planted", "clusters": CONVERSATIONS, "cluster_unit": "conversations",
            "queries": 30, "pairs": 1_800,
        },
        "stack": [outcome.row(0)],
    }  # fmt: skip
    picture = tensors(result, {"stack": {"tensors": json.loads(json.dumps(outcome.details))}})
    assert picture is not None
    ET.fromstring(picture.svg)
    assert "planted, 6 conversations" in picture.caption
    assert "90%, jackknife-t" in picture.caption
    assert tensors(result, {}) is None


def test_oracle_outcomes_come_to_one_size():
    values = np.random.default_rng(0).normal(size=(4, 5, 4, 3)) * [1.0, 10.0, 0.0]
    size = (equal_outcomes(values) ** 2).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(size, [1, 1, 0])


def test_oracle_the_rank_does_not_stop_at_the_first_drop():
    def rank_fit(rank: int, consistency: float, agreement: float) -> RankFit:
        fitted = Parafac(
            np.ones(rank), tuple(np.ones((2, rank)) for _ in range(4)), 0.5, np.ones(1)
        )
        return RankFit(fitted, consistency, np.full((3, rank), agreement))

    fits = [
        rank_fit(1, 100, 0.99),
        rank_fit(2, 10, 0.99),
        rank_fit(3, 80, 0.9),
        rank_fit(4, 90, 0.5),
    ]
    assert choose_rank(fits) == 3
    assert choose_rank([rank_fit(1, 100, 0.2)]) == 0


def test_one_conversation_is_refused(planted):
    prepared, evidence = planted
    one = Prepared(
        **{**vars(prepared), "blocks": prepared.blocks[:1], "clusters": prepared.clusters[:1]}
    )
    with pytest.raises(ValueError, match="at least two"):
        run(one, evidence, driven, level=0.9, rng=np.random.default_rng(0))

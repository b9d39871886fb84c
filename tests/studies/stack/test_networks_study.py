"""The network study on planted blocks: its outcome, its claim, its figures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from leray.data.preparation import Prepared
from leray.evidence.moments import moment_table
from leray.figures.networks import network_candidates, network_differences, network_effects
from leray.memory.blocks import DAY, FOUR, Block, with_tau
from leray.memory.networks import Candidate
from leray.memory.retrieval import METRICS, query_metrics
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.importance import Evidence
from leray.studies.outcome import Outcome
from leray.studies.stack.networks import run

SVG = "{http://www.w3.org/2000/svg}"
COLUMNS = tuple(with_tau(FOUR, DAY))
SPACE = tuple(
    Candidate(hidden=h, dropout=0.0, learning_rate=0.01, activation="tanh")
    for h in ((), (16,), (32, 16))
)


def planted_block(c: int, *, product: float, queries: int = 8, turns: int = 50) -> Block:
    """Relevance is linear in x₂, and in x₀ x₁ as far as ``product`` says."""
    rng = np.random.default_rng(c)
    x = rng.normal(size=(4, queries * turns)).astype(np.float32)
    z = x[2] + product * x[0] * x[1] - 3
    relevant = rng.random(queries * turns) < 1 / (1 + np.exp(-z))
    relevant[::turns] = True
    return Block(
        history=f"c{c}",
        signals=COLUMNS,
        x=x,
        relevant=relevant,
        offsets=np.arange(queries + 1) * turns,
        clusters=(f"c{c}",) * queries,
    )


def study(product: float, *, num: int = 6, **options: Any) -> tuple[Prepared, Outcome]:
    blocks = tuple(planted_block(c, product=product) for c in range(num))
    clusters = tuple(b.history for b in blocks)
    prepared = Prepared(
        blocks=blocks, clusters=clusters, num_histories=num, num_turns=50 * num,
        num_queries=8 * num, num_pairs=400 * num, num_positives=0, dropped={},
    )  # fmt: skip
    table = moment_table(((b.history, b.x, b.relevant) for b in blocks), COLUMNS)
    evidence = object.__new__(Evidence)
    for name, value in {"moments": table.sums[None], "tau": 0, "taus": (DAY,)}.items():
        object.__setattr__(evidence, name, value)

    def driven(computation: Any) -> Any:
        return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)

    settings = {"level": 0.9, "num_epochs": 80, "num_resamples": 500, "candidates": SPACE}
    return prepared, run(prepared, evidence, driven, num_rows=1_500, **(settings | options))


@pytest.fixture(scope="module")
def planted() -> tuple[Prepared, Outcome]:
    return study(3.0, exhaustive=True)


def test_the_outcome_is_whole_and_ready_for_json(planted: tuple[Prepared, Outcome]) -> None:
    """Golden run."""
    _, outcome = planted
    json.dumps([outcome.row(0), outcome.details], allow_nan=False)
    assert outcome.computations == ("networks", "networks-bootstrap")
    assert outcome.diagnostics["search"] == "exhaustive"
    assert outcome.diagnostics["candidates"] == 3
    assert len(outcome.details["winners"]) == 10
    assert all(i.level == 0.9 and i.n == 6 for i in outcome.estimates.values())
    assert {i.kind for n, i in outcome.estimates.items() if n.startswith("nDCG@10, ")} == {
        "jackknife-t"
    }


def test_the_claim_is_the_larger_difference(planted: tuple[Prepared, Outcome]) -> None:
    """Identity: of the two losses, with ends that hold for both."""
    _, outcome = planted
    m4 = outcome.estimates["M4"]
    both = [i for n, i in outcome.estimates.items() if n.startswith("nDCG@10 difference")]
    for end in ("estimate", "low", "high"):
        assert getattr(m4, end) == max(getattr(i, end) for i in both)
    for loss in ("Pearson loss", "logistic loss"):
        pair = [outcome.estimates[f"nDCG@10, {m}, {loss}"].estimate for m in ("network", "linear")]
        difference = outcome.estimates[f"nDCG@10 difference, {loss}"].estimate
        assert difference == pytest.approx(pair[0] - pair[1], abs=1e-12)


def test_a_planted_product_is_found_and_named(planted: tuple[Prepared, Outcome]) -> None:
    """Statistical: 48 queries; a query's nDCG@10 varies by at most .5, so 5 errors are .36.

    The gain is of that size or beyond, since linear weights do not see the product.
    """
    _, outcome = planted
    assert outcome.estimates["M4"].estimate > 0.3
    assert outcome.estimates["M4"].low > 0.01
    assert "more than 0.01" in outcome.paragraph
    assert "decay with surprise" in outcome.paragraph
    assert np.mean(outcome.details["effects"]["linear_share"]) < 0.7


def test_a_linear_truth_is_near_the_best_linear() -> None:
    """Statistical: paired differences of two nearly equal rankings; far below the .36 above."""
    prepared, outcome = study(0.0)
    assert abs(outcome.estimates["M4"].estimate) < 0.1
    assert outcome.diagnostics["search"] == "successive halving"
    best = [
        query_metrics(b.x[2], b.relevant, b.offsets)[:, METRICS.index("ndcg_10")]
        for b in prepared.blocks
    ]
    linear = outcome.estimates["nDCG@10, linear, logistic loss"].estimate
    assert linear == pytest.approx(np.concatenate(best).mean(), abs=0.1)  # the planted ranking


def test_with_two_conversations_it_says_why_not() -> None:
    """Golden."""
    _, outcome = study(0.0, num=2)
    assert outcome.estimates == {}
    assert outcome.computations == ()
    assert "at least three; here there are 2" in outcome.paragraph


@pytest.mark.parametrize("draw", [network_differences, network_candidates, network_effects])
def test_figures_say_what_they_show(planted: tuple[Prepared, Outcome], draw: Any) -> None:
    """Golden: XML with a name; captions with data, n and the kind of interval, or that of none."""
    _, outcome = planted
    data = {"name": "planted", "clusters": 6, "cluster_unit": "conversations"}
    result = {"stack": [outcome.row(0)], "data": data | {"queries": 48, "pairs": 2_400}}
    picture = draw(result, {"stack": {"networks": outcome.details}})
    root = ET.fromstring(picture.svg)
    assert root.findtext(f"{SVG}title") == picture.title
    assert root.findtext(f"{SVG}desc") == picture.alt
    assert "Data: planted, 6 conversations" in picture.caption
    assert "interval" in picture.caption.lower()
    assert draw(result, {}) is None

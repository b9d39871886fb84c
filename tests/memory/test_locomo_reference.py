"""The reference values of the design on the real LoCoMo files, signals and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leray.data.locomo import load_locomo
from leray.data.preparation import Prepared, ask
from leray.evidence.moments import MomentTable, covariances, moment_table, pearson
from leray.evidence.optimum import simplex_optimum
from leray.memory.blocks import DAY, FIVE, FOUR, Block, with_tau
from leray.memory.methods import INTUITIVE, OPTIMAL, simplex_grid
from leray.memory.retrieval import METRICS, query_metrics
from leray.memory.signals import Bm25, tokens

TAU = 30 * DAY


@pytest.fixture(scope="module")
def table(locomo: Prepared) -> MomentTable:
    columns = with_tau(FIVE, TAU)
    return moment_table(((b.history, b.rows(columns), b.relevant) for b in locomo.blocks), FIVE)


def mean_metric(blocks: tuple[Block, ...], weights: np.ndarray, metric: str) -> float:
    """The mean over queries of a metric, for weights over the five signals."""
    values = [
        query_metrics(weights @ b.rows(with_tau(FIVE, TAU)), b.relevant, b.offsets) for b in blocks
    ]
    return float(np.concatenate(values)[:, METRICS.index(metric)].mean())


def alone(signal: str) -> np.ndarray:
    return np.eye(5)[FIVE.index(signal)]


def test_the_counts(locomo: Prepared) -> None:
    """Oracle: the counts of the design."""
    assert len(locomo.clusters) == locomo.num_histories == 10
    assert locomo.num_turns == 5_882
    assert locomo.num_queries == 1_982
    assert locomo.num_pairs == 1_192_166
    assert locomo.num_positives == 2_820


@pytest.mark.parametrize(
    ("weights", "r", "ndcg"),
    [
        (alone("relevance"), 0.076, 0.281),
        (alone("lexical"), 0.124, 0.387),
        (alone("surprise"), 0.012, 0.015),
        (alone("decay"), -0.001, 0.011),
        (alone("habituation"), 0.014, 0.011),
        (np.array([*INTUITIVE, 0.0]), 0.022, 0.031),
        (np.array([*OPTIMAL, 0.0]), 0.037, 0.048),
        (np.array([0, 0.050, 0.337, 0.042, 0.571]), 0.136, 0.425),
    ],
    ids=["relevance", "bm25", "surprise", "decay", "habituation", "intuitive", "optimal", "hybrid"],
)
def test_the_reference_values(
    locomo: Prepared, table: MomentTable, weights: np.ndarray, r: float, ndcg: float
) -> None:
    """Oracle: pooled r within .003 and mean nDCG@10 within .01 (.015 with BM25) of the design.

    The design's r of BM25, .133, is that of the scores before each query's are divided by their
    maximum, which changes no ranking: see the next test.
    """
    assert pearson(table.total, weights[None])[0] == pytest.approx(r, abs=0.003)
    tolerance = 0.015 if weights[-1] else 0.01
    assert mean_metric(locomo.blocks, weights, "ndcg_10") == pytest.approx(ndcg, abs=tolerance)


def test_the_reference_value_of_bm25_is_before_dividing(shared_data: Path) -> None:
    """Oracle: r .133 ± .003 of the scores themselves."""
    asked = ask(load_locomo(shared_data / "locomo"))
    scores = [
        Bm25([tokens(t.spoken) for t in a.history.turns]).scores(
            [tokens(q.query.text) for q in a.asks]
        )
        for a in asked
    ]
    x = np.concatenate([s.ravel() for s in scores])
    y = np.concatenate([q.relevant for a in asked for q in a.asks]).astype(float)
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(0.133, abs=0.003)


def test_the_exact_weights(table: MomentTable) -> None:
    """Oracle: (.003, .143, .757, .097) ± .02 with r .0838 ± .002, certified; it beats the grid."""
    four = table.select(FOUR)
    best = simplex_optimum(covariances(four.total))
    np.testing.assert_allclose(best.w, [0.003, 0.143, 0.757, 0.097], atol=0.02)
    assert best.r == pytest.approx(0.0838, abs=0.002)
    assert best.residual < 1e-10
    assert best.r >= pearson(four.total, simplex_grid(4, 0.05)).max()


def test_the_table_is_the_raw_pairs(locomo: Prepared, table: MomentTable) -> None:
    """Oracle: numpy's corrcoef on all 1.19 million pairs, to 1e-10."""
    x = np.concatenate([b.rows(with_tau(FIVE, TAU)) for b in locomo.blocks], axis=1)
    y = np.concatenate([b.relevant for b in locomo.blocks]).astype(np.float64)
    weights = np.vstack([np.eye(5), np.full((1, 5), 0.2)])
    expected = [np.corrcoef(w @ x, y)[0, 1] for w in weights]
    np.testing.assert_allclose(pearson(table.total, weights), expected, rtol=0, atol=1e-10)

"""What is fitted leaving one cluster out never saw that cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from leray.evidence.moments import covariances, moment_table
from leray.evidence.optimum import simplex_optimum
from leray.memory.blocks import ALL, HOUR, Block, decay_name, with_tau
from leray.memory.comparison import compare
from leray.memory.fitting import (
    HeldOutLogistic,
    WeightSearch,
    choose_held_out,
    pearson_held_out,
    training_rows,
)
from leray.memory.methods import Candidates, linear
from leray.memory.retrieval import METRICS, query_metrics
from leray.runs import Key

COLUMNS = (decay_name(HOUR), *ALL[1:])
CLUSTERS = ("a", "b", "c")


def random_block(seed: int, clusters: tuple[str, ...], num_rows: int = 40) -> Block:
    """Queries of ``num_rows`` candidates each, whose truth follows relevance and surprise."""
    rng = np.random.default_rng(seed)
    rows = num_rows * len(clusters)
    x = rng.random((len(COLUMNS), rows)).astype(np.float32)
    chance = 4 * x[COLUMNS.index("relevance")] + 2 * x[COLUMNS.index("surprise")] - 5
    relevant = rng.random(rows) < 1 / (1 + np.exp(-chance))
    relevant[::num_rows] = True
    return Block(
        history=str(seed),
        signals=COLUMNS,
        x=x,
        relevant=relevant,
        offsets=np.arange(len(clusters) + 1) * num_rows,
        clusters=clusters,
    )


BLOCKS = (random_block(1, ("a", "a", "b")), random_block(2, ("b", "c")))


def without(blocks: tuple[Block, ...], cluster: str, seed: int = 9) -> tuple[Block, ...]:
    """The same blocks with everything of one cluster replaced by noise."""
    rng, changed = np.random.default_rng(seed), []
    for b in blocks:
        x, relevant = b.x.copy(), b.relevant.copy()
        for name, _, rows in b.by_cluster():
            if name == cluster:
                x[:, rows] = rng.random(x[:, rows].shape)
                relevant[rows] = rng.random(rows.stop - rows.start) < 0.5
                relevant[rows.start : rows.stop : 40] = True
        changed.append(
            Block(
                history=b.history,
                signals=b.signals,
                x=x,
                relevant=relevant,
                offsets=b.offsets,
                clusters=b.clusters,
            )
        )
    return tuple(changed)


def run(computation: Any) -> Any:
    """One shard, step by step."""
    state, samples = computation.init(0, Key.root(0)), []
    for k in range(computation.num_steps):
        state, made = computation.step(state, k, Key.root(0).child(k))
        samples.append(made)
    return computation.result([samples])


def search(blocks: tuple[Block, ...]) -> tuple[Candidates, np.ndarray]:
    candidates = Candidates(
        method="few",
        signals=("relevance", "surprise"),
        weights=np.array([[k / 8, 1 - k / 8] for k in range(9)]),
        taus=np.full(9, HOUR),
    )
    sums = run(WeightSearch(blocks=blocks, candidates=(candidates,), clusters=CLUSTERS))
    return candidates, sums["few"]


SIZES = np.array([2.0, 2.0, 1.0])


def test_the_search_sums_ndcg_by_cluster() -> None:
    """Oracle: query_metrics of every candidate, added where the query's cluster is."""
    candidates, sums = search(BLOCKS)
    expected = np.zeros_like(sums)
    for b in BLOCKS:
        for k, w in enumerate(candidates.weights):
            scores = w.astype(np.float32) @ b.rows(candidates.signals)
            each = query_metrics(scores, b.relevant, b.offsets)[:, METRICS.index("ndcg_10")]
            for c, value in zip(b.clusters, each, strict=True):
                expected[k, CLUSTERS.index(c)] += value
    # float32 scores of continuous signals differ by rounding, yet no two are that near: same order.
    np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-12)


def test_the_choice_for_a_cluster_is_the_best_on_the_others() -> None:
    """Oracle: a loop over clusters; the last number is the best on all of them."""
    _, sums = search(BLOCKS)
    chosen, best = choose_held_out(sums, SIZES)
    for c in range(3):
        others = [k for k in range(3) if k != c]
        assert chosen[c] == sums[:, others].sum(axis=1).argmax()
    assert best == sums.sum(axis=1).argmax()


def test_ties_go_to_the_first_candidate() -> None:
    """Identity."""
    chosen, best = choose_held_out(np.ones((4, 3)), SIZES)
    assert chosen.tolist() == [0, 0, 0]
    assert best == 0


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_no_choice_sees_the_cluster_it_is_judged_on(cluster: str) -> None:
    """Identity: with that cluster's data replaced by noise its weights are the same."""
    c = CLUSTERS.index(cluster)
    changed = without(BLOCKS, cluster)
    before, after = (choose_held_out(search(b)[1], SIZES)[0][c] for b in (BLOCKS, changed))
    assert before == after
    w_before, w_after = (pearson_held_out(moments_of(b))[0][c] for b in (BLOCKS, changed))
    # Leaving out is a subtraction from the total, which rounds: about ε of sums of 200 rows.
    np.testing.assert_allclose(w_after, w_before, rtol=0, atol=1e-10)


def moments_of(blocks: tuple[Block, ...]) -> np.ndarray:
    """The table of four signals about one origin, clusters in order: ``[1, clusters, packed]``."""
    columns = with_tau(ALL[:4], HOUR)
    table = moment_table(
        ((c, b.rows(columns)[:, r], b.relevant[r]) for b in blocks for c, _, r in b.by_cluster()),
        columns,
    )
    assert table.clusters == CLUSTERS
    return table.sums[None]


def test_pearson_held_out_is_the_optimum_of_the_other_rows() -> None:
    """Oracle: a table streamed from the other clusters' rows alone."""
    weights, tau = pearson_held_out(moments_of(BLOCKS))
    columns = with_tau(ALL[:4], HOUR)
    for c, cluster in enumerate(CLUSTERS):
        rows = [
            ("rest", b.rows(columns)[:, r], b.relevant[r])
            for b in BLOCKS
            for name, _, r in b.by_cluster()
            if name != cluster
        ]
        expected = simplex_optimum(covariances(moment_table(rows, columns).total)).w
        np.testing.assert_allclose(weights[c], expected, rtol=0, atol=1e-10)
    assert tau.tolist() == [0, 0, 0]


def rows_without(left_out: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The training rows as one table, float64, a row a pair, and their labels."""
    rows = training_rows(BLOCKS, left_out, HOUR)
    x = np.concatenate([r.x[r.columns, r.span].T.astype(np.float64) for r in rows])
    return x, np.concatenate([r.y[r.span] for r in rows])


def test_training_rows_are_those_of_the_other_clusters() -> None:
    """Oracle: rows compared; None leaves nothing out."""
    x, y = rows_without("b")
    columns = with_tau(ALL, HOUR)
    expected = [BLOCKS[0].rows(columns).T[:80], BLOCKS[1].rows(columns).T[40:]]
    np.testing.assert_array_equal(x, np.concatenate(expected))
    np.testing.assert_array_equal(y, np.r_[BLOCKS[0].relevant[:80], BLOCKS[1].relevant[40:]])
    assert len(rows_without(None)[1]) == 200


def logistic(blocks: tuple[Block, ...]) -> np.ndarray:
    return run(HeldOutLogistic(blocks=blocks, clusters=CLUSTERS, tau=np.full(4, HOUR)))


# Ours stops at a gradient of 1e-8 a row. The curvature is at least 1/n = 1/200 (the ridge), so the
# standardised weights are within 2e-6, and scales of uniform signals are about .29; the same again
# for the other solver, and twice that for safety.
NEAR = 4 * 2e-6 / 0.25


@pytest.mark.parametrize("fold", range(4))
def test_every_fold_is_scikit_learns(fold: int) -> None:
    """Oracle: LogisticRegression on the fold's rows, standardised by themselves."""
    x, y = rows_without((None, *CLUSTERS)[fold])
    scale = x.std(axis=0)
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10)
    expected = model.fit((x - x.mean(axis=0)) / scale, y).coef_[0] / scale
    np.testing.assert_allclose(logistic(BLOCKS)[fold], expected, rtol=0, atol=NEAR)


def test_no_regression_sees_the_labels_it_is_judged_on() -> None:
    """Identity: with the labels of cluster b turned round its fold's weights stay.

    To the solver's tolerance, since the fold starts at the solution of the whole.
    """
    changed = tuple(
        Block(
            history=b.history,
            signals=b.signals,
            x=b.x,
            relevant=np.concatenate(
                [~b.relevant[r] if c == "b" else b.relevant[r] for c, _, r in b.by_cluster()]
            ),
            offsets=b.offsets,
            clusters=b.clusters,
        )
        for b in BLOCKS
    )
    before, after = logistic(BLOCKS), logistic(changed)
    assert np.abs(after[0] - before[0]).max() > 0.1
    np.testing.assert_allclose(after[2], before[2], rtol=0, atol=NEAR)


def test_a_comparison_sums_metrics_and_moments_by_cluster() -> None:
    """Oracle: query_metrics and corrcoef on the rows, for a scorer that differs by cluster."""
    weights = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    names = ("relevance", "surprise")
    result = compare(
        BLOCKS,
        {"constant": lambda b, _: np.zeros(b.x.shape[1]),
         "own": lambda b, c: linear(b, names, weights[c], HOUR)},
        CLUSTERS,
    )  # fmt: skip
    assert result.methods == ("constant", "own")
    np.testing.assert_array_equal(result.sizes, SIZES)
    for c, cluster in enumerate(CLUSTERS):
        total, scores, truth = np.zeros(len(METRICS)), [], []
        for b in BLOCKS:
            own = linear(b, names, weights[c], HOUR)
            each = query_metrics(own, b.relevant, b.offsets)
            total += sum((e for e, name in zip(each, b.clusters, strict=True) if name == cluster))
            for name, _, rows in b.by_cluster():
                if name == cluster:
                    scores.append(own[rows])
                    truth.append(b.relevant[rows])
        np.testing.assert_allclose(result.metrics[c, 1], total, rtol=1e-12)
        S, b_, s = covariances(result.scores[c, 1])
        expected = np.corrcoef(np.concatenate(scores), np.concatenate(truth))[0, 1]
        assert b_[0] / np.sqrt(S[0, 0] * s) == pytest.approx(expected, abs=1e-10)
    np.testing.assert_array_equal(result.metric("own", "mrr"), result.metrics[:, 1, -1])

"""Retrieval metrics against scikit-learn and against the mean over all orders of the tied."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from leray.memory.retrieval import METRICS, ndcg_search, query_metrics

RECALLS = {"recall_5": 5, "recall_10": 10, "recall_20": 20}
seeds = st.integers(0, 9_999)
# Sums of at most 300 terms, each at most 1, divided by at least the smallest ideal, 1.
ROUNDING = 300 * np.finfo(np.float64).eps


def one_query(scores: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    row = query_metrics(scores, relevant, np.array([0, len(scores)]))[0]
    return dict(zip(METRICS, row.tolist(), strict=True))


def random_query(
    seed: int, n: int, levels: int, share: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of few levels, so that many tie, and a truth with at least one relevant turn."""
    rng = np.random.default_rng(seed)
    relevant = rng.random(n) < share
    relevant[rng.integers(n)] = True
    return rng.integers(0, levels, n) / 4.0, relevant


def of_one_order(relevant_in_order: np.ndarray) -> dict[str, float]:
    """Every metric but AUC where the ranking is determined, from its definition."""
    places = np.flatnonzero(relevant_in_order) + 1
    gains = 1 / np.log2(1 + places[places <= 10])
    ideal = 1 / np.log2(1 + np.arange(1, min(len(places), 10) + 1))
    found = {name: (places <= k).mean() for name, k in RECALLS.items()}
    return found | {"ndcg_10": gains.sum() / ideal.sum(), "mrr": 1 / places[0]}


@given(seed=seeds, n=st.integers(2, 60), levels=st.integers(1, 12))
def test_ndcg_and_auc_are_scikit_learns(seed: int, n: int, levels: int) -> None:
    """Oracle: ndcg_score(k=10) and roc_auc_score, both of which treat ties as we do."""
    scores, relevant = random_query(seed, n, levels)
    found = one_query(scores, relevant)
    expected = ndcg_score(relevant[None].astype(float), scores[None], k=10)
    assert found["ndcg_10"] == pytest.approx(expected, abs=ROUNDING)
    if relevant.all():
        assert np.isnan(found["auc"])
    else:
        assert found["auc"] == pytest.approx(roc_auc_score(relevant, scores), abs=ROUNDING)


@settings(max_examples=25)
@given(seed=seeds, n=st.integers(1, 6), levels=st.integers(1, 3), above=st.integers(0, 19))
def test_ties_are_the_mean_over_all_their_orders(
    seed: int, n: int, levels: int, above: int
) -> None:
    """Oracle: every order of n ≤ 6 turns that the scores allow, each as likely.

    ``above`` irrelevant turns stand before them, so that every depth is cut within a tie.
    """
    scores, relevant = random_query(seed, n, levels, share=0.4)
    scores = np.concatenate([np.arange(above) + 10.0, scores])
    relevant = np.concatenate([np.zeros(above, dtype=bool), relevant])
    allowed = []
    for tail in permutations(range(above, above + n)):
        order = np.array([*range(above), *tail])
        if (np.diff(scores[list(tail)]) <= 0).all():
            allowed.append(of_one_order(relevant[order]))
    found = one_query(scores, relevant)
    for name in ("ndcg_10", "mrr", *RECALLS):
        expected = np.mean([metrics[name] for metrics in allowed])
        assert found[name] == pytest.approx(expected, abs=ROUNDING), name


@given(seed=seeds, n=st.integers(1, 80))
def test_without_ties_the_ranking_decides(seed: int, n: int) -> None:
    """Oracle: the definitions on the sorted list, also where it is shorter than ten."""
    rng = np.random.default_rng(seed)
    _, relevant = random_query(seed, n, 1)
    scores = rng.permutation(n).astype(float)
    found = one_query(scores, relevant)
    for name, expected in of_one_order(relevant[np.argsort(-scores)]).items():
        assert found[name] == pytest.approx(expected, abs=ROUNDING), name


@pytest.mark.parametrize(("n", "num_relevant"), [(30, 3), (4, 2), (12, 11), (200, 1)])
def test_a_constant_score_is_what_random_orders_give(n: int, num_relevant: int) -> None:
    """Statistical: the mean of 4,000 random orders, within 5 of its own standard errors."""
    relevant = np.arange(n) < num_relevant
    rng = np.random.default_rng(n)
    scores = np.concatenate([rng.permutation(n) for _ in range(4_000)]).astype(float)
    drawn = query_metrics(scores, np.tile(relevant, 4_000), np.arange(4_001) * n)
    constant = query_metrics(np.full(n, 0.3), relevant, np.array([0, n]))[0]
    error = drawn.std(axis=0) / np.sqrt(4_000)
    # Where every order gives the same value, there is only the rounding of a mean of 4,000.
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - constant), 5 * error + 1e-12)


@given(seed=seeds, queries=st.integers(1, 6), factor=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_only_the_order_counts_and_queries_stand_alone(
    seed: int, queries: int, factor: float, shift: float
) -> None:
    """Identity: an increasing transform, another order of storage, other queries."""
    rng = np.random.default_rng(seed)
    parts = [random_query(seed + k, int(rng.integers(1, 40)), 6) for k in range(queries)]
    offsets = np.cumsum([0, *(len(s) for s, _ in parts)])
    together = query_metrics(
        np.concatenate([s for s, _ in parts]), np.concatenate([r for _, r in parts]), offsets
    )
    for k, (scores, relevant) in enumerate(parts):
        p = rng.permutation(len(scores))
        alone = query_metrics(
            np.exp(scores[p]) * factor + shift, relevant[p], np.array([0, len(p)])
        )
        np.testing.assert_allclose(alone[0], together[k], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.03, 0.5])
def test_the_search_is_the_metric(dtype: type, share: float) -> None:
    """Oracle: nDCG@10 by query_metrics, for random weights and many ties.

    Signals are eighths and weights quarters, so that every score is exact in both types and ties
    are the same. Few relevant turns (at most 4) are placed by counting, more by the ten best;
    lists run from one turn to 300.
    """
    rng = np.random.default_rng(1)
    sizes = np.concatenate([np.arange(1, 25), rng.integers(25, 300, 40)])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    x = (rng.integers(0, 5, (3, offsets[-1])) / 8).astype(dtype)
    relevant = rng.random(offsets[-1]) < share
    relevant[offsets[:-1]] = True
    counts = np.add.reduceat(relevant, offsets[:-1])
    assert (counts <= 4).any()
    assert (counts > 4).any()
    weights = np.concatenate([rng.integers(0, 5, (12, 3)) / 4, np.zeros((1, 3))])
    found = ndcg_search(x, relevant, offsets, weights)
    column = METRICS.index("ndcg_10")
    expected = [query_metrics(w @ x.astype(float), relevant, offsets)[:, column] for w in weights]
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@given(seed=seeds, n=st.integers(1, 60), share=st.floats(0.0, 1.0), levels=st.integers(1, 8))
def test_both_ways_to_search_agree(seed: int, n: int, share: float, levels: int) -> None:
    """Identity: one query at a time, whichever branch its number of relevant turns chooses."""
    scores, relevant = random_query(seed, n, levels, share)
    found = ndcg_search(scores[None], relevant, np.array([0, n]), np.ones((1, 1)))[0, 0]
    assert found == pytest.approx(one_query(scores, relevant)["ndcg_10"], abs=ROUNDING)


def test_a_query_without_truth_or_with_bad_scores_is_refused() -> None:
    """Golden: NaN, infinity, and nothing relevant."""
    relevant, offsets = np.array([True, False, False, False]), np.array([0, 2, 4])
    with pytest.raises(ValueError, match="at least one relevant"):
        query_metrics(np.zeros(4), relevant, offsets)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            query_metrics(np.array([0, bad]), np.array([True, False]), np.array([0, 2]))

"""Models across conversations, planted truths and neighbours' votes, against direct sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from leray.evidence.moments import pearson
from leray.memory.ceiling import (
    CrossFitted,
    NeighbourVotes,
    PlantedTruth,
    case_control,
    ndcg_by_query,
    num_voters,
    quadratic_logistic,
)
from leray.memory.retrieval import METRICS, query_metrics
from leray.runs import Key, MemoryStore, drive, no_progress

CONVERSATIONS, QUERIES, ROWS = 6, 20, 100


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)


@pytest.fixture(scope="module")
def rows():
    """Two signals; the truth is a product of them, which no linear score can follow."""
    rng = np.random.default_rng(0)
    n = CONVERSATIONS * QUERIES * ROWS
    z = rng.normal(size=(n, 2)).astype(np.float32)
    m = special.expit(-3.5 + 1.5 * z[:, 0] * z[:, 1])
    y = rng.random(n) < m
    query = np.arange(n) // ROWS
    return z, y, m, np.arange(0, n + 1, ROWS), query // QUERIES, query


def test_statistical_a_model_nears_the_ceiling_from_below(rows):
    z, y, m, offsets, conversation, _ = rows
    fit = driven(CrossFitted(z=z, y=y, offsets=offsets, conversation=conversation,
                             fold=np.arange(CONVERSATIONS) % 3, num_controls=3_000))  # fmt: skip
    r = pearson(fit.moments.sum(axis=0), np.ones((1, 1)))[:, 0]
    best = np.corrcoef(m, y)[0, 1]
    error = 1 / np.sqrt(len(y))
    assert r[0] == pytest.approx(best, abs=5 * error)
    assert 0.7 * best < r[1] < best + 5 * error
    known = np.nanmean(ndcg_by_query(m, y, offsets))
    assert fit.ndcg[:, 0].sum() / fit.sizes.sum() == pytest.approx(known, abs=0.03)
    assert fit.sizes.sum() == np.isfinite(ndcg_by_query(m, y, offsets)).sum()


def test_identity_held_out_scores_do_not_know_the_labels_that_they_are_judged_on(rows):
    z, y, _, offsets, conversation, _ = rows
    fold = np.arange(CONVERSATIONS) % 3
    flipped = y.copy()
    judged = np.flatnonzero(fold[conversation] == 0)
    flipped[judged] = y[judged[::-1]]  # other labels, as many
    both = [
        driven(CrossFitted(z=z, y=t, offsets=offsets, conversation=conversation, fold=fold,
                           num_controls=2_000, models=("quadratic logistic",)))
        for t in (y, flipped)
    ]  # fmt: skip
    left = [f.moments[fold == 0, 0] for f in both]
    np.testing.assert_array_equal(left[0][:, [0, 1, 3]], left[1][:, [0, 1, 3]])
    assert (left[0][:, 4] != left[1][:, 4]).any()


def test_oracle_the_quadratic_form_is_scikit_learns_probability(rows):
    z, y, *_ = rows
    z, y = z[:4_000], y[:4_000]
    columns = np.stack([*z.T, z[:, 0] ** 2, z[:, 0] * z[:, 1], z[:, 1] ** 2], axis=1).astype(float)
    columns /= columns.std(axis=0)
    library = LogisticRegression(solver="newton-cholesky", max_iter=200).fit(columns, y)
    ours = quadratic_logistic(z, y, np.ones(4_000))(z)
    np.testing.assert_allclose(ours, library.predict_proba(columns)[:, 1], rtol=1e-3)


def test_identity_a_case_control_sample_weighs_what_it_stands_for(rows):
    _, y, *_ = rows
    drawn, weights = case_control(y, np.arange(1_000), 50, np.random.default_rng(0))
    assert weights.sum() == pytest.approx(1_000)
    assert weights[y[drawn]].sum() == y[:1_000].sum()
    assert len(np.unique(drawn)) == len(drawn)


def test_statistical_a_planted_truth_has_the_share_and_the_ceiling_that_it_states(rows):
    z, y, *_ = rows
    planted = driven(PlantedTruth(z=z, y=y, num_controls=2_000))
    error = np.sqrt(y.mean() / len(y))
    assert planted.m.mean() == pytest.approx(y.mean(), abs=0.02 * y.mean())
    assert planted.y.mean() == pytest.approx(planted.m.mean(), abs=5 * error)
    r = np.corrcoef(planted.m, planted.y)[0, 1]
    assert r == pytest.approx(planted.largest_r, abs=5 / np.sqrt(len(y)))


def test_oracle_votes_are_sums_over_the_positives_of_other_queries(rows):
    z, y, _, _, _, query = rows
    z, y, query = z[:1_500], y[:1_500], query[:1_500]
    (votes,) = driven(NeighbourVotes(z=z, truths=y[None], query=query))
    far = cdist(z[y].astype(float), z.astype(float))
    radius = np.sort(far, axis=1)[:, num_voters(y) - 1][:, None]
    weight = np.maximum(1 - (far / radius) ** 2, 0) * (query[y][:, None] != query)
    np.testing.assert_allclose(votes, weight.sum(axis=0), atol=1e-5)


def test_oracle_ndcg_leaves_out_queries_without_anything_relevant(rows):
    z, y, _, offsets, *_ = rows
    y = y.copy()
    y[:ROWS] = False
    ndcg = ndcg_by_query(z[:, 0].astype(float), y, offsets)
    assert np.isnan(ndcg[0])
    k = int(np.flatnonzero(np.isfinite(ndcg))[3])
    span = slice(offsets[k], offsets[k + 1])
    alone = query_metrics(z[span, 0].astype(float), y[span], np.array([0, ROWS]))
    assert ndcg[k] == alone[0, METRICS.index("ndcg_10")]

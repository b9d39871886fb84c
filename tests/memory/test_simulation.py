"""Synthetic conversations: the library's signals, numpy's own draws, and two modes of one law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leray.evidence.moments import covariances, pearson
from leray.evidence.optimum import simplex_optimum
from leray.memory import signals
from leray.memory.generator import ConversationLaw
from leray.memory.methods import landscape_grid
from leray.memory.retrieval import METRICS, query_metrics
from leray.memory.simulation import (
    MODES,
    MonteCarlo,
    literal_conversation,
    measure,
    planted_sample,
    root_words,
)
from leray.runs import Key

LAW = ConversationLaw()
GRID = landscape_grid()[0]
N = 6_000


@pytest.fixture(scope="module")
def samples():
    """Six thousand conversations in each mode, from different keys."""
    return {
        mode: planted_sample(LAW, N, np.random.default_rng(k), mode=mode)
        for k, mode in enumerate(MODES)
    }


def _library_signals(drawn, law):
    V = drawn.vectors.astype(np.float64)
    e = V / np.linalg.norm(V, axis=1, keepdims=True)
    turns, query = e[:-1], e[-1:]
    return np.stack(
        [
            signals.decay(drawn.ages, law.tau),
            signals.surprise(turns, turns),
            signals.relevance(query, turns)[0],
            signals.habituation(turns, turns),
        ],
        axis=1,
    )


@pytest.mark.parametrize("law", [LAW, ConversationLaw(num_turns=70, dim=128)])
def test_the_kernel_has_the_signals_of_the_library(law):
    """Oracle: leray.memory.signals on the same embeddings, also where the window of 50 binds."""
    words = root_words(np.random.default_rng(5))
    kernel = planted_sample(law, 20, np.random.default_rng(5), mode="literal").signals
    for c in range(20):
        drawn = literal_conversation(law, words, c)
        np.testing.assert_allclose(kernel[c], _library_signals(drawn, law), atol=3e-6)


def _numpy_conversation(law, rng):
    """The law as its docstring states it, with numpy alone."""
    T = law.num_turns
    V, times = np.empty((T + 1, law.dim)), np.zeros(T + 1)
    for t in range(T + 1):
        kind = rng.random()
        p, span, gap = t - 1, law.drift, law.turn_gap
        if t == T:
            p, span, gap = rng.integers(T), law.asking, law.query_gap
        elif kind < law.session_rate:
            p, span, gap = 0, law.reopening, law.session_gap
        elif kind < law.session_rate + law.repeat_rate and t >= 2:
            p, span = rng.integers(t - 1), law.repetition
        a, z = rng.uniform(*span), rng.standard_normal(law.dim)
        V[t] = z if t == 0 else a * V[p] + math.sqrt(1 - a * a) * z
        times[t] = times[t - 1] * (t > 0) + rng.exponential(gap)
    e = V / np.linalg.norm(V, axis=1, keepdims=True)
    x = np.stack(
        [
            signals.decay(times[-1] - times[:-1], law.tau),
            signals.surprise(e[:-1], e[:-1]),
            e[:-1] @ e[-1],
            signals.habituation(e[:-1], e[:-1]),
        ]
    )
    slopes = np.array(law.weights) + law.slope_sd * rng.standard_normal(4)
    noise = rng.standard_normal(T)
    for t in range(1, T):
        noise[t] = law.noise_rho * noise[t - 1] + math.sqrt(1 - law.noise_rho**2) * noise[t]
    y = law.intercept_sd * rng.standard_normal() + slopes @ x + law.noise_sd * noise
    return x.T, y


def _statistics(x, y):
    """Numbers of a conversation that between them see every part of the law."""
    xc, yc = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((xc**2).sum(axis=1) * (yc**2).sum(axis=1)[:, None])
    r = np.einsum("ntj,nt->nj", xc, yc) / np.where(scale > 0, scale, 1.0)
    lag = (yc[:, 1:] * yc[:, :-1]).sum(axis=1) / (yc**2).sum(axis=1)
    columns = [*x.mean(axis=1).T, *x.std(axis=1).T, *r.T, lag, y.mean(axis=1), y.std(axis=1)]
    return np.stack([*columns, x[:, 1:, 1].min(axis=1), x[:, :, 2].max(axis=1)])


def _agree(one, other):
    """KS and the difference of means, each at .001 over all statistics (Bonferroni)."""
    level = 1e-3 / (2 * len(one))
    z = stats.norm.isf(level / 2)
    for a, b in zip(one, other, strict=True):
        assert np.asarray(stats.ks_2samp(a, b))[1] > level
        error = math.sqrt(a.var() / len(a) + b.var() / len(b))
        assert abs(a.mean() - b.mean()) <= z * error


def test_the_two_modes_have_one_law(samples):
    """Statistical: 17 statistics of 6,000 conversations in each mode."""
    gram, literal = (_statistics(samples[m].signals, samples[m].y) for m in ("gram", "literal"))
    _agree(gram, literal)


@pytest.mark.parametrize("mode", MODES)
def test_the_law_is_the_one_that_is_stated(mode, samples):
    """Oracle: 800 conversations that numpy draws by the definition."""
    rng = np.random.default_rng(11)
    drawn = [_numpy_conversation(LAW, rng) for _ in range(800)]
    x, y = np.stack([x for x, _ in drawn]), np.stack([y for _, y in drawn])
    _agree(_statistics(x, y), _statistics(samples[mode].signals, samples[mode].y))


def test_the_planted_weights_are_the_optimum(samples):
    """Statistical: each weight within 5 jackknife errors over 60 batches."""
    x = samples["gram"].signals.reshape(60, -1, 4)
    v = np.concatenate([np.ones_like(x[..., :1]), x, samples["gram"].y.reshape(60, -1, 1)], axis=2)
    i, j = np.triu_indices(6)
    sums = (v[..., i] * v[..., j]).sum(axis=1)
    left = simplex_optimum(covariances(sums.sum(axis=0) - sums)).w
    error = np.sqrt(59 / 60 * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    found = simplex_optimum(covariances(sums.sum(axis=0))).w
    assert (np.abs(found - LAW.weights) < 5 * error).all()
    assert (error < 0.03).all()


def test_relevant_turns_have_the_largest_truth(samples):
    for s in samples.values():
        assert (s.relevant.sum(axis=1) == LAW.num_relevant).all()
        lowest = np.where(s.relevant, s.y, np.inf).min(axis=1)
        assert (lowest > np.where(s.relevant, -np.inf, s.y).max(axis=1)).all()


@pytest.mark.parametrize("mode", MODES)
def test_measures_are_those_of_the_library(mode):
    """Oracle: numpy's correlation, the library's nDCG@10 and moments, on the same conversations."""
    methods = np.concatenate([np.eye(4), [[0.1, 0.6, 0.2, 0.1]]])
    every = np.concatenate([GRID, methods])
    got = measure(LAW, every, 5, root_words(np.random.default_rng(2)), 0, 12, mode=mode)
    s = planted_sample(LAW, 12, np.random.default_rng(2), mode=mode)
    for c in range(12):
        scores = every @ s.signals[c].T
        want = [np.corrcoef(v, s.y[c])[0, 1] if np.ptp(v) > 0 else 0.0 for v in scores]
        np.testing.assert_allclose(got.r[c], want, atol=1e-9)
        for k, score in enumerate(scores[-5:]):
            metrics = query_metrics(score, s.relevant[c], np.array([0, LAW.num_turns]))
            assert got.ndcg[c, k] == pytest.approx(metrics[0, METRICS.index("ndcg_10")], abs=1e-12)
    rows = s.signals.reshape(-1, 4) @ every.T
    pooled = [np.corrcoef(v, s.y.ravel())[0, 1] for v in rows.T]
    np.testing.assert_allclose(pearson(got.moments, every), pooled, atol=1e-9)


@settings(max_examples=10)
@given(st.integers(0, 40), st.integers(1, 20), st.sampled_from(MODES))
def test_a_conversation_does_not_depend_on_the_batch(first, count, mode):
    """Identity: any cut of the conversations gives the same bits."""
    words = root_words(np.random.default_rng(8))
    whole = measure(LAW, GRID[:3], 2, words, 0, 60, mode=mode)
    part = measure(LAW, GRID[:3], 2, words, first, count, mode=mode)
    np.testing.assert_array_equal(part.r, whole.r[first : first + count])
    np.testing.assert_array_equal(part.ndcg, whole.ndcg[first : first + count])


def _driven(computation, key):
    samples = []
    for shard in range(computation.num_shards):
        state, row = computation.init(shard, key.child(shard)), []
        for k in range(computation.num_steps):
            state, kept = computation.step(state, k, key.child(shard).child(k))
            row.append(kept)
        samples.append(row)
    return computation.result(samples)


def test_the_computation_counts_every_conversation_once():
    """Identity: totals are those of the batches; batches differ by one conversation at most."""
    job = MonteCarlo(law=LAW, configurations=GRID, methods=np.eye(4), num_conversations=1_777)
    result = _driven(job, Key.root(1))
    assert result.total.n == result.counts.sum() == 1_777
    assert np.ptp(result.counts) <= 1
    assert len(result.counts) >= 100
    assert result.moments[:, 0].sum() == 1_777 * LAW.num_turns
    mean = result.counts @ result.means / 1_777
    np.testing.assert_allclose(result.total.mean, mean, rtol=1e-12)
    between = result.counts @ (result.means - mean) ** 2
    np.testing.assert_allclose(
        np.diagonal(result.total.M2), result.squares.sum(axis=0) + between, rtol=1e-9
    )
    again = _driven(job, Key.root(1))
    np.testing.assert_array_equal(again.total.M2, result.total.M2)


def test_too_few_conversations_are_refused():
    with pytest.raises(ValueError, match="ask for 1600 or more"):
        MonteCarlo(law=LAW, configurations=GRID, methods=np.eye(4), num_conversations=1_599)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dim": 51}, "num_turns \\+ 2"),
        ({"session_rate": 0.9}, "probabilities"),
        ({"drift": (0.5, 0.2)}, "drift must be a range"),
        ({"tau": 0.0}, "tau must be positive"),
        ({"weights": (0.5, 0.5, 0.5, 0.5)}, "of sum 1"),
        ({"noise_sd": 0.0}, "noise_sd positive"),
        ({"num_relevant": 50}, "num_relevant in 1 .. 49"),
    ],
)
def test_a_law_that_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        ConversationLaw(**wrong)

"""Each signal against a loop that follows its definition, and what must not change it."""

from __future__ import annotations

import math
from collections import Counter

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.memory import signals

DIM = 8
seeds = st.integers(0, 9_999)
# An inner product of unit vectors in float64 loses at most DIM · ε.
ROUNDING = 4 * DIM * np.finfo(np.float64).eps
WORDS = ["cat", "dog", "sun", "sea", "red", "run", "hat", "tea"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=7), min_size=1, max_size=12)


def unit(seed: int, n: int, dim: int = DIM) -> np.ndarray:
    """n unit vectors that lie near each other now and then, so that some echo."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((n, dim)) + 2 * rng.standard_normal((3, dim))[rng.integers(0, 3, n)]
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@given(ages=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=9), tau=st.floats(1, 1e8))
def test_decay_is_the_exponential_of_age(ages: list[float], tau: float) -> None:
    """Oracle: exp(−age/τ); a turn after the query counts as now."""
    expected = [math.exp(-max(a, 0.0) / tau) for a in ages]
    np.testing.assert_allclose(signals.decay(np.array(ages), tau), expected, rtol=1e-13)


@pytest.mark.parametrize("window", [1, 3, 50, 64, 200])
@pytest.mark.parametrize("n", [1, 2, 51, 65, 301])
def test_surprise_looks_at_the_turns_before_in_its_window(n: int, window: int) -> None:
    """Oracle: a loop; n and window on both sides of a tile, which is four windows."""
    A, E = unit(1, n), unit(2, n)
    expected = [1.0]
    for i in range(1, n):
        expected.append(1 - max(A[i] @ E[j] for j in range(max(0, i - window), i)))
    np.testing.assert_allclose(signals.surprise(A, E, window), expected, rtol=0, atol=ROUNDING)


@given(seed=seeds, n=st.integers(2, 90), last=st.integers(1, 89))
def test_later_turns_change_no_surprise_and_no_habituation(seed: int, n: int, last: int) -> None:
    """Identity: both look back only, so a history cut short keeps the values before the cut."""
    E, cut = unit(seed, n), min(last, n)
    for signal in (signals.surprise, signals.habituation):
        np.testing.assert_allclose(signal(E, E)[:cut], signal(E[:cut], E[:cut]), atol=ROUNDING)


@pytest.mark.parametrize("n", [1, 2, 200, 1024, 1030, 2100])
def test_habituation_counts_the_echoes_before(n: int) -> None:
    """Oracle: all pairs j < i at once; n on both sides of the tile's 1,024.

    No cosine of these vectors lies within rounding of the threshold, so counts are exact.
    """
    A, E = unit(3, n), unit(4, n)
    cosine = A @ E.T
    assert (np.abs(cosine - 0.6) > ROUNDING).all()
    echoes = np.tril(cosine >= 0.6, -1).sum(axis=1)
    np.testing.assert_array_equal(signals.num_echoes(A, E, 0.6), echoes)
    np.testing.assert_array_equal(signals.habituation(A, E), 1 / (1 + echoes))


def test_an_echo_at_the_threshold_counts() -> None:
    """Identity: ≥, not >: three equal turns at threshold 1 have 0, 1 and 2 echoes."""
    E = np.tile([[1.0, 0.0]], (3, 1))
    np.testing.assert_array_equal(signals.habituation(E, E, 1.0), [1, 1 / 2, 1 / 3])


@given(seed=seeds)
def test_turning_all_vectors_changes_no_signal(seed: int) -> None:
    """Identity: signals are functions of inner products."""
    E, Q = unit(seed, 70), unit(seed + 1, 3)
    R = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIM, DIM)))[0]
    atol = 10 * ROUNDING
    np.testing.assert_allclose(signals.surprise(E @ R, E @ R), signals.surprise(E, E), atol=atol)
    np.testing.assert_allclose(signals.relevance(Q @ R, E @ R), Q @ E.T, atol=atol)


@given(turns=texts, queries=texts)
def test_bm25_is_its_formula(turns: list[list[str]], queries: list[list[str]]) -> None:
    """Oracle: the sum over the query's tokens, repeated ones as often, by a loop."""
    n = len(turns)
    mean = sum(map(len, turns)) / n
    expected = np.zeros((len(queries), n))
    for k, query in enumerate(queries):
        for w in query:
            held = sum(w in t for t in turns)
            for i, t in enumerate(turns):
                f = Counter(t)[w]
                if f:
                    idf = math.log(1 + (n - held + 0.5) / (held + 0.5))
                    expected[k, i] += idf * f / (f + 1.5 * (0.25 + 0.75 * len(t) / mean))
    np.testing.assert_allclose(signals.Bm25(turns).scores(queries), expected, rtol=1e-12)


def test_bm25_is_that_of_bm25s() -> None:
    """Oracle: bm25s, method "lucene", k1 = 1.5, b = .75, the same tokens, in its float32."""
    rng = np.random.default_rng(5)
    vocabulary = [f"w{k}" for k in range(60)]
    law = 1 / np.arange(1, 61)
    turns, queries = (
        [list(rng.choice(vocabulary, rng.integers(low, 25), p=law / law.sum())) for _ in range(n)]
        for n, low in ((300, 1), (20, 1))
    )
    peer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    peer.index(turns, show_progress=False)
    expected = np.stack([peer.get_scores(q) for q in queries])
    found = signals.Bm25(turns).scores(queries)
    # At most 25 float32 terms a score.
    atol = 25 * float(np.finfo(np.float32).eps) * float(expected.max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_bm25_of_words_nobody_said_is_zero() -> None:
    """Identity: also for a query without tokens, and for a history without any."""
    np.testing.assert_array_equal(
        signals.Bm25([["cat"], []]).scores([["dog"], []]), np.zeros((2, 2))
    )
    np.testing.assert_array_equal(signals.Bm25([[], []]).scores([["dog"]]), np.zeros((1, 2)))


@given(turns=texts, query=st.lists(st.sampled_from(WORDS), max_size=5), seed=seeds)
def test_bm25_does_not_see_the_order_of_words(
    turns: list[list[str]], query: list[str], seed: int
) -> None:
    """Identity: shuffling the tokens of a turn and of the query changes nothing but rounding."""
    rng = np.random.default_rng(seed)
    mixed = [[t[i] for i in rng.permutation(len(t))] for t in turns]
    expected = signals.Bm25(turns).scores([query])
    found = signals.Bm25(mixed).scores([[query[i] for i in rng.permutation(len(query))]])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_lexical_is_bm25_over_the_querys_maximum() -> None:
    """Oracle, by hand; a query that shares no token stays zero."""
    found = signals.lexical(np.array([[1.0, 4.0, 2.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(found, [[0.25, 1.0, 0.5], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("offset", [-3, -2, -1, 1, 2, 3, 9])
def test_a_neighbour_is_the_value_beside(offset: int) -> None:
    """Oracle: a loop over turns, zero outside the history."""
    values = np.random.default_rng(6).random((2, 4))
    expected = [
        [row[i + offset] if 0 <= i + offset < 4 else 0.0 for i in range(4)] for row in values
    ]
    np.testing.assert_array_equal(signals.neighbour(values, offset), expected)


@given(turns=texts)
def test_length_and_surprisal_are_sums_over_tokens(turns: list[list[str]]) -> None:
    """Oracle: ln(1 + tokens), and Σ −ln p(w) with one added to every count and a place for the
    unknown."""
    counts = Counter(w for t in turns[1:] for w in t)
    N = counts.total()
    np.testing.assert_allclose(signals.length(turns), [math.log(1 + len(t)) for t in turns])
    p = {w: (counts[w] + 1) / (N + len(counts) + 1) for w in WORDS}
    expected = [sum(-math.log(p[w]) for w in t) for t in turns]
    np.testing.assert_allclose(
        signals.surprisal(turns, counts, N), expected, rtol=1e-12, atol=1e-12
    )


def test_a_speaker_is_named_by_any_part_of_the_name() -> None:
    """Oracle, by hand."""
    found = signals.named(
        [["did", "ann", "go"], ["lee", "sang"], ["nobody"]], ["Ann Lee", "Bo", "", "ann"]
    )
    np.testing.assert_array_equal(found, [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_a_question_is_told_by_its_mark() -> None:
    """Oracle, by hand; the full-width mark too."""
    found = signals.questioning(["Why?", "Because.", "真的？", ""])
    np.testing.assert_array_equal(found, [1, 0, 1, 0])


@given(
    gaps=st.lists(st.sampled_from([0.0, 60.0, 1800.0, 1801.0, 1e6]), max_size=12),
    jumps=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_the_place_in_a_session_starts_anew_after_silence(
    gaps: list[float], jumps: list[bool]
) -> None:
    """Oracle: a loop; a session ends after more than half an hour, or with its conversation."""
    times = np.cumsum([5.0, *gaps])
    conversation = np.cumsum([0, *jumps[: len(gaps)]])
    expected, place = [1.0], 0
    for gap, jump in zip(gaps, jumps, strict=False):
        place = 0 if gap > 1800 or jump else place + 1
        expected.append(1 / (1 + place))
    np.testing.assert_allclose(signals.session_position(times, conversation), expected)


@given(st.text(max_size=30))
def test_tokens_are_lower_case_runs_of_letters_and_digits(text: str) -> None:
    """Identity: joined again by blanks they are the same tokens; none is empty or has a blank."""
    found = signals.tokens(text)
    assert signals.tokens(" ".join(found)) == found
    assert all(t and not any(c.isspace() for c in t) for t in found)

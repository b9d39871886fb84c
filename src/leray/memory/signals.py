"""The signals: what may tell which past turns matter to a query, each a small function.

Every function takes one history at a time. Notation: n turns in order, with unit embeddings
e_i (rows of ``E [n, dim]``); q queries with unit embeddings (rows of ``Q [q, dim]``). A signal of
the turn alone looks at ``A [n, dim]``, which is E except where the label would leak through a
turn's own rare words: there the words are masked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

Array = np.ndarray
SURPRISE_WINDOW = 50
HABITUATION_COSINE = 0.6
BM25_K1 = 1.5
BM25_B = 0.75
SESSION_GAP = 1800.0  # a silence of half an hour starts a new session
_TILE = 1024
_TOKEN = re.compile(r"\w+")


def decay(ages: Float[Array, "*shape"], tau: float) -> Float[Array, "*shape"]:
    """exp(−(T − t_i)/τ); ages T − t_i and τ in the same unit (seconds here)."""
    return np.exp(-np.maximum(ages, 0.0) / tau)


def surprise(
    A: Float[Array, "n dim"], E: Float[Array, "n dim"], window: int = SURPRISE_WINDOW
) -> Float[Array, " n"]:
    """1 − max of a_i·e_j over the ``window`` turns before i; 1 for the first turn.

    Cost: n · (tile + window) · dim multiplications, in tiles.
    """
    n = len(E)
    nearest = np.full(n, 0.0, dtype=E.dtype)
    step = 4 * window
    for start in range(1, n, step):
        rows = np.arange(start, min(start + step, n))
        first = max(0, start - window)
        cosine = A[rows] @ E[first : rows[-1]].T
        back = rows[:, None] - np.arange(first, rows[-1])[None, :]
        nearest[rows] = np.where((back >= 1) & (back <= window), cosine, -np.inf).max(axis=1)
    return 1.0 - nearest


def habituation(
    A: Float[Array, "n dim"], E: Float[Array, "n dim"], threshold: float = HABITUATION_COSINE
) -> Float[Array, " n"]:
    """1/(1 + #{j < i : a_i·e_j ≥ threshold}): how worn a turn is by what was said before.

    Cost: n²/2 · dim multiplications, in tiles of constant memory.
    """
    return 1.0 / (1.0 + num_echoes(A, E, threshold))


def num_echoes(A: Float[Array, "n dim"], E: Float[Array, "n dim"], threshold: float) -> Array:
    """#{j < i : a_i·e_j ≥ threshold} for every turn i."""
    n = len(E)
    count = np.zeros(n)
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        for first in range(0, stop, _TILE):
            last = min(first + _TILE, stop)
            near = A[start:stop] @ E[first:last].T >= threshold
            if last > start:  # on the diagonal: only turns before i
                near &= np.arange(first, last)[None, :] < np.arange(start, stop)[:, None]
            count[start:stop] += near.sum(axis=1)
    return count


def relevance(Q: Float[Array, "q dim"], E: Float[Array, "n dim"]) -> Float[Array, "q n"]:
    """e_q · e_i."""
    return Q @ E.T


def tokens(text: str) -> list[str]:
    """The tokens that BM25 and lengths count: runs of letters and digits, in lower case.

    >>> tokens("Don't ask: 3 dogs!")
    ['don', 't', 'ask', '3', 'dogs']
    """
    return _TOKEN.findall(text.lower())


class Bm25:
    """Okapi BM25 of queries against the n turns of one history.

    score(q, i) = Σ_{w ∈ q} idf(w) · f_{w,i} / (f_{w,i} + k₁(1 − b + b·|i|/mean|i|)), with
    idf(w) = ln(1 + (n − n_w + ½)/(n_w + ½)); the weights are a sparse matrix [n, vocabulary],
    so that all queries are one sparse product.

    Source: Robertson and Zaragoza (2009); the form of Lucene, which drops the factor k₁ + 1.
    """

    def __init__(self, turns: Sequence[Sequence[str]]) -> None:
        counts = [Counter(t) for t in turns]
        vocabulary = dict.fromkeys(w for c in counts for w in c)
        self.vocabulary = {w: k for k, w in enumerate(vocabulary)}
        lengths = np.array([len(t) for t in turns], dtype=np.float64)
        column = np.array([self.vocabulary[w] for c in counts for w in c], dtype=np.int64)
        row = np.repeat(np.arange(len(turns)), [len(c) for c in counts])
        f = np.array([k for c in counts for k in c.values()], dtype=np.float64)
        held_by = np.bincount(column, minlength=len(self.vocabulary))
        idf = np.log1p((len(turns) - held_by + 0.5) / (held_by + 0.5))
        norm = BM25_K1 * (1 - BM25_B + BM25_B * lengths / max(lengths.mean(), 1e-12))
        weight = idf[column] * f / (f + norm[row])
        shape = (len(turns), len(self.vocabulary))
        self.weights = sparse.csc_matrix((weight, (row, column)), shape=shape)

    def scores(self, queries: Sequence[Sequence[str]]) -> Float[Array, "q n"]:
        """The score of every turn for every query; a token unknown to the history adds nothing."""
        known = [[self.vocabulary[w] for w in q if w in self.vocabulary] for q in queries]
        row = np.repeat(np.arange(len(queries)), [len(k) for k in known])
        column = np.array([w for k in known for w in k], dtype=np.int64)
        shape = (len(queries), len(self.vocabulary))
        ask = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=shape)
        return (ask @ self.weights.T).toarray()


def lexical(scores: Float[Array, "q n"]) -> Float[Array, "q n"]:
    """BM25 divided by the query's maximum; all zero where no token is shared."""
    top = scores.max(axis=1, keepdims=True, initial=0.0)
    return scores / np.where(top > 0, top, 1.0)


def neighbour(values: Float[Array, "q n"], offset: int) -> Float[Array, "q n"]:
    """The value of turn i + offset in the place of turn i; zero outside the history."""
    moved = np.zeros_like(values)
    n = values.shape[1]
    if abs(offset) >= n:
        return moved
    if offset > 0:
        moved[:, :-offset] = values[:, offset:]
    else:
        moved[:, -offset:] = values[:, :offset]
    return moved


def length(turns: Sequence[Sequence[str]]) -> Float[Array, " n"]:
    """ln(1 + number of tokens)."""
    return np.log1p([len(t) for t in turns])


def surprisal(
    turns: Sequence[Sequence[str]], counts: Mapping[str, int], num_words: int
) -> Float[Array, " n"]:
    """Σ −ln p(w) over a turn's tokens, p(w) = (count + 1)/(num_words + types + 1)."""
    total = math.log(num_words + len(counts) + 1)
    bits = {w: total - math.log1p(counts.get(w, 0)) for t in turns for w in t}
    return np.array([sum(map(bits.__getitem__, t)) for t in turns], dtype=np.float64)


def named(queries: Sequence[Sequence[str]], speakers: Sequence[str]) -> Float[Array, "q n"]:
    """1 where the turn's speaker is named in the query (any token of the name)."""
    parts = {s: set(tokens(s)) for s in set(speakers)}
    asked = [set(q) for q in queries]
    by_speaker = {s: np.array([bool(p & a) for a in asked], dtype=float) for s, p in parts.items()}
    return np.stack([by_speaker[s] for s in speakers], axis=1)


def questioning(texts: Sequence[str]) -> Float[Array, " n"]:
    """1 where the turn asks: it holds a question mark."""
    return np.array([float("?" in t or "？" in t) for t in texts])


def session_position(
    times: Float[Array, " n"], conversation: Int[Array, " n"]
) -> Float[Array, " n"]:
    """1/(1 + k) for the k-th turn of its session; a session ends with half an hour of silence."""
    n = len(times)
    starts = np.ones(n, dtype=bool)
    starts[1:] = (np.diff(times) > SESSION_GAP) | (np.diff(conversation) != 0)
    first = np.maximum.accumulate(np.where(starts, np.arange(n), 0))
    return 1.0 / (1.0 + np.arange(n) - first)

"""Retrieval metrics a query, with ties handled exactly.

Where scores tie, a ranking is not determined; every metric here is its expectation over the
random orders of the tied turns, computed in closed form. So a constant score is the baseline
"random", and no method gains by the order in which turns happen to be stored.

Rows are (query, candidate) pairs, all candidates of a query together: query k owns the rows
``offsets[k]:offsets[k + 1]``.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from leray.evidence.compiled import compiled

Array = np.ndarray
METRICS = ("auc", "ndcg_10", "recall_5", "recall_10", "recall_20", "mrr")
_DEPTH = 10
_DISCOUNT = 1.0 / np.log2(np.arange(2, _DEPTH + 2))
_IDEAL = np.concatenate([[0.0], np.cumsum(_DISCOUNT)])


def query_metrics(
    scores: Float[Array, " rows"], relevant: Array, offsets: Array
) -> Float[Array, "queries metrics"]:
    """The metrics of every query, in the order of :data:`METRICS`.

    - auc: the chance that a relevant turn scores above an irrelevant one, ties counted half;
      NaN where a query has no irrelevant candidate;
    - ndcg_10: Σ 1/log₂(1 + rank) over the relevant in the first ten, over its largest value;
    - recall_k: the share of the relevant turns that stand in the first k;
    - mrr: 1 / rank of the first relevant turn.

    Args:
        scores: Higher means ranked earlier; finite.
        relevant: Boolean, at least one True a query.
        offsets: ``[queries + 1]``, from 0 to rows.

    Raises:
        ValueError: for scores that are not finite, or a query with nothing relevant.

    Cost: a sort a query. Source: Järvelin and Kekäläinen (2002) for nDCG; McSherry and Najork
    (2008) for expectations under ties.
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if (np.add.reduceat(relevant.astype(np.int64), offsets[:-1]) == 0).any():
        raise ValueError("every query needs at least one relevant candidate")
    out = np.empty((len(offsets) - 1, len(METRICS)))
    _metrics_kernel(
        np.ascontiguousarray(scores, dtype=np.float64),
        relevant.astype(np.bool_),
        offsets.astype(np.int64),
        _DISCOUNT,
        _IDEAL,
        out,
    )
    return out


def ndcg_search(
    x: Float[Array, "d rows"], relevant: Array, offsets: Array, weights: Float[Array, "m d"]
) -> Float[Array, "m queries"]:
    """nDCG@10 of every query under every row of weights, without sorting.

    A query with few relevant turns counts how many score above each; one with many finds the ten
    best by one threshold. So a configuration costs a multiplication a signal and a few
    comparisons a row.
    """
    out = np.empty((len(weights), len(offsets) - 1))
    longest = int(np.diff(offsets).max())
    _search_kernel(
        np.ascontiguousarray(x),
        relevant.astype(np.bool_),
        offsets.astype(np.int64),
        np.ascontiguousarray(weights, dtype=x.dtype),
        _DISCOUNT,
        _IDEAL,
        np.empty(longest, dtype=x.dtype),
        out,
    )
    return out


@compiled
def _metrics_kernel(scores, relevant, offsets, discount, ideal, out):
    depth = len(discount)
    for k in range(len(offsets) - 1):
        s = scores[offsets[k] : offsets[k + 1]]
        y = relevant[offsets[k] : offsets[k + 1]]
        n = len(s)
        order = np.argsort(-s)
        P = 0
        for i in range(n):
            P += y[i]
        wins, dcg, reciprocal = 0.0, 0.0, 0.0
        recall = np.zeros(3)
        seen = 0
        a = 0
        while a < n:
            e = a
            m = 0
            while e < n and s[order[e]] == s[order[a]]:
                m += y[order[e]]
                e += 1
            g = e - a
            negatives_below = (n - e) - (P - seen - m)
            wins += m * (negatives_below + 0.5 * (g - m))
            if m > 0:
                share = m / g
                for j in range(a, min(e, depth)):
                    dcg += share * discount[j]
                for c in range(3):
                    reach = (5, 10, 20)[c]
                    recall[c] += share * max(0, min(reach, e) - a)
                if seen == 0:
                    p = m / g  # the chance that the first relevant one stands at place j
                    for j in range(g - m + 1):
                        reciprocal += p / (a + j + 1)
                        if j < g - m:
                            p *= (g - m - j) / (g - 1 - j)
            seen += m
            a = e
        out[k, 0] = wins / (P * (n - P)) if n > P else np.nan
        out[k, 1] = dcg / ideal[min(P, depth)]
        for c in range(3):
            out[k, 2 + c] = recall[c] / P
        out[k, 5] = reciprocal


@compiled
def _search_kernel(x, relevant, offsets, weights, discount, ideal, s, out):
    depth = len(discount)
    top = np.empty(depth, dtype=x.dtype)
    hit = np.empty(depth, dtype=np.int64)
    for k in range(len(offsets) - 1):
        start, n = offsets[k], offsets[k + 1] - offsets[k]
        y = relevant[start : start + n]
        P = 0
        for t in range(n):
            P += y[t]
        for c in range(len(weights)):
            _score(x, start, n, weights[c], s)
            if P <= _FEW:
                dcg = _dcg_by_counting(s, n, y, discount)
            else:
                dcg = _dcg(s, n, y, top, hit, discount)
            out[c, k] = dcg / ideal[min(P, depth)]
    return out


_FEW = 4  # so many relevant turns are placed by counting, more by finding the ten best


@compiled
def _score(x, start, n, weights, s):
    first, w = x[0, start : start + n], weights[0]
    for t in range(n):
        s[t] = w * first[t]
    for j in range(1, x.shape[0]):
        row, w = x[j, start : start + n], weights[j]
        if w != 0:
            for t in range(n):
                s[t] += w * row[t]


@compiled
def _dcg_by_counting(s, n, y, discount):
    """Each relevant turn's expected discount: the mean over the places that its ties share."""
    depth = len(discount)
    dcg = 0.0
    for i in range(n):
        if y[i]:
            own = s[i]
            above = np.int32(0)
            level = np.int32(0)
            for t in range(n):
                above += np.int32(s[t] > own)
                level += np.int32(s[t] == own)
            for j in range(above, min(above + level, depth)):
                dcg += discount[j] / level
    return dcg


@compiled
def _dcg(s, n, y, top, hit, discount):
    depth = min(len(discount), n)
    for t in range(depth):
        _insert(top, hit, t, s[t], y[t])
    for t in range(depth, n):
        if s[t] > top[depth - 1]:
            _insert(top, hit, depth - 1, s[t], y[t])
    last = top[depth - 1]  # ties with the last place reach beyond it: count them all
    tied = 0
    for t in range(n):
        tied += s[t] == last
    tied_hits = 0
    for t in range(n):
        if s[t] == last:
            tied_hits += y[t]
    dcg = 0.0
    a = 0
    while a < depth:
        e = a
        m = 0
        while e < depth and top[e] == top[a]:
            m += hit[e]
            e += 1
        g = e - a
        if top[a] == last:
            g, m = tied, tied_hits
        for j in range(a, e):
            dcg += m / g * discount[j]
        a = e
    return dcg


@compiled
def _insert(top, hit, place, value, relevant):
    """Put a value into the sorted ten, dropping what stood at ``place``."""
    j = place
    while j > 0 and top[j - 1] < value:
        top[j] = top[j - 1]
        hit[j] = hit[j - 1]
        j -= 1
    top[j] = value
    hit[j] = relevant

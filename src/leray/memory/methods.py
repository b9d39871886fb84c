"""The methods that are compared: single signals, published formulas, and fitted weights.

Every method gives each (query, candidate) pair a score. *Linear* methods are rows of weights over
columns of a block; where several decay times τ are allowed, each is a further candidate and the
choice is made on the training conversations. *Formula* methods compute their own score. The
fitted ones (``pearson``, ``ndcg``, ``hybrid``, ``logistic``) are fitted leaving one cluster out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from leray.memory.blocks import AGE, FIVE, FOUR, RECENCY, Block, decay_name, with_tau

Array = np.ndarray
INTUITIVE = (0.40, 0.30, 0.20, 0.10)
OPTIMAL = (0.10, 0.60, 0.20, 0.10)
EQUAL = (0.25, 0.25, 0.25, 0.25)
FITTED = ("pearson", "ndcg", "hybrid", "logistic")
ORDER = (
    "random",
    "relevance",
    "bm25",
    "rrf",
    "equal",
    "genagents_paper",
    "genagents_code",
    "langchain",
    "intuitive",
    "optimal",
    "pearson",
    "ndcg",
    "hybrid",
    "logistic",
    "decay",
    "surprise",
    "habituation",
    "length",
)
_SINGLE = {
    "relevance": "relevance",
    "bm25": "lexical",
    "decay": "decay",
    "surprise": "surprise",
    "habituation": "habituation",
    "length": "length",
}
_FIXED = {"equal": EQUAL, "intuitive": INTUITIVE, "optimal": OPTIMAL}


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Weights to choose from, for one method.

    Args:
        method: Its id.
        signals: The block columns.
        weights: ``[m, len(signals)]``, a candidate a row.
        taus: The decay time of each candidate (seconds).
    """

    method: str
    signals: tuple[str, ...]
    weights: Array
    taus: Array


def simplex_grid(d: int, step: float) -> Float[Array, "points d"]:
    """All points of the simplex whose coordinates are multiples of ``step``.

    >>> len(simplex_grid(4, 0.05)), len(simplex_grid(5, 0.1))
    (1771, 1001)
    """
    parts = round(1 / step)
    points = np.zeros((1, 0), dtype=np.int64)
    for _ in range(d - 1):
        left = parts - points.sum(axis=1)
        points = np.concatenate(
            [
                np.column_stack([points[left >= k], np.full((left >= k).sum(), k)])
                for k in range(parts + 1)
            ]
        )
    points = np.column_stack([points, parts - points.sum(axis=1)])
    return points[np.lexsort(points.T[::-1])] / parts


def landscape_grid() -> tuple[Float[Array, "169 4"], Array]:
    """The 13 × 13 grid over decay and surprise (.10, .15, …, .70), the rest 2:1.

    The rest, 1 − decay − surprise, is split 2:1 between relevance and habituation. Where decay
    and surprise exceed 1 together nothing is left and the point is divided by its sum.

    Returns:
        The weights in the order of :data:`FOUR`, and which points were renormalised (boolean).
    """
    decay, surprise = np.meshgrid(np.arange(2, 15) / 20, np.arange(2, 15) / 20, indexing="ij")
    rest = np.maximum(0.0, 1.0 - decay - surprise)
    weights = np.stack([decay, surprise, rest * 2 / 3, rest / 3], axis=-1).reshape(-1, 4)
    total = weights.sum(axis=1, keepdims=True)
    return weights / total, total[:, 0] > 1.0 + 1e-12


def linear_candidates(taus: Sequence[float]) -> list[Candidates]:
    """The candidates of every linear method that is not fitted in closed form.

    The simplex grid of ``ndcg`` has step .05 for one τ, .1 for several (each τ multiplies it).
    """
    fine = 0.05 if len(taus) == 1 else 0.1
    weights: dict[str, tuple[tuple[str, ...], Array]] = {
        m: (FOUR, np.array([w])) for m, w in _FIXED.items()
    }
    weights |= {m: ((s,), np.ones((1, 1))) for m, s in _SINGLE.items()}
    weights["ndcg"] = (FOUR, simplex_grid(4, fine))
    weights["hybrid"] = (FIVE, simplex_grid(5, 0.1))
    return [_with_taus(m, names, w, taus) for m, (names, w) in weights.items()]


def _with_taus(
    method: str, names: Sequence[str], weights: Array, taus: Sequence[float]
) -> Candidates:
    if "decay" not in names:
        return Candidates(
            method=method,
            signals=tuple(names),
            weights=weights,
            taus=np.full(len(weights), taus[0]),
        )
    columns = (*(decay_name(t) for t in taus), *(n for n in names if n != "decay"))
    pieces = []
    for tau in taus:
        wide = np.zeros((len(weights), len(columns)))
        wide[:, [columns.index(c) for c in with_tau(names, tau)]] = weights
        pieces.append(wide)
    return Candidates(
        method=method,
        signals=columns,
        weights=np.concatenate(pieces),
        taus=np.repeat(np.asarray(taus, dtype=np.float64), len(weights)),
    )


def compact(candidates: Candidates, index: int) -> tuple[tuple[str, ...], Array, float]:
    """One candidate as (signal names with ``decay`` for its τ, weights, τ)."""
    tau = float(candidates.taus[index])
    row = dict(zip(candidates.signals, candidates.weights[index], strict=True))
    names = FIVE if candidates.method == "hybrid" else FOUR
    if len(candidates.signals) == 1 or candidates.method in _SINGLE:
        names = (_SINGLE[candidates.method],)
    return names, np.array([row[c] for c in with_tau(names, tau)]), tau


def random(block: Block) -> Array:
    """The same score for every pair: with ties in expectation, a random order."""
    return np.zeros(block.x.shape[1])


def reciprocal_rank_fusion(block: Block) -> Array:
    """Σ 1/(60 + rank) over relevance and BM25; tied turns share their mean rank.

    Source: Cormack, Clarke and Büttcher (SIGIR 2009), k = 60.
    """
    near, shared = block.rows(("relevance", "lexical"))
    return 1.0 / (60.0 + ranks(block, -near)) + 1.0 / (60.0 + ranks(block, -shared))


def generative_agents_paper(block: Block) -> Array:
    """Recency .995^hours, importance and relevance, each min-max scaled a query, added.

    The importance that the paper asks a language model for is not to be had here; surprise stands
    in for it. Source: Park et al., Generative Agents (UIST 2023), section 4.1.
    """
    recency = 0.995 ** block.rows((AGE,))[0]
    importance, near = block.rows(("surprise", "relevance"))
    return sum(
        (_each_query(block, v, _min_max) for v in (recency, importance, near)), start=random(block)
    )


def generative_agents_code(block: Block) -> Array:
    """As the published code does: .5 · recency + 3 · relevance + 2 · importance, min-max scaled.

    Its recency is .99^k for the k-th memory **from the oldest**, so it favours old memories; the
    weights are those of the code. Surprise stands in for importance. Source: the file retrieve.py
    of the repository joonspk-research/generative_agents.
    """
    recency = 0.99 ** ranks(block, block.rows((RECENCY,))[0])
    near, importance = block.rows(("relevance", "surprise"))
    parts = ((0.5, recency), (3.0, near), (2.0, importance))
    return sum((w * _each_query(block, v, _min_max) for w, v in parts), start=random(block))


def langchain(block: Block) -> Array:
    """LangChain's time-weighted retriever: (1 − .01)^hours + cosine.

    Source: TimeWeightedVectorStoreRetriever, default decay rate .01; hours since the turn was
    said, since nothing records when it was last looked up.
    """
    return 0.99 ** block.rows((AGE,))[0] + block.rows(("relevance",))[0]


FORMULAS: dict[str, Callable[[Block], Array]] = {
    "random": random,
    "rrf": reciprocal_rank_fusion,
    "genagents_paper": generative_agents_paper,
    "genagents_code": generative_agents_code,
    "langchain": langchain,
}


def linear(block: Block, signals: Sequence[str], weights: Array, tau: float) -> Array:
    """Σ w_j x_j over the named signals, ``decay`` with the given τ."""
    return np.asarray(weights, dtype=np.float64) @ block.rows(with_tau(signals, tau))


def ranks(block: Block, values: Array) -> Array:
    """The rank of each value within its query, from 1 for the smallest; ties share their mean."""
    query = np.repeat(np.arange(len(block.clusters)), np.diff(block.offsets))
    order = np.lexsort((values, query))
    sorted_values, sorted_query = values[order], query[order]
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = (np.diff(sorted_query) != 0) | (np.diff(sorted_values) != 0)
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(values)) - 1
    group = np.cumsum(starts) - 1
    out = np.empty(len(values))
    out[order] = (first + last)[group] / 2 + 1 - block.offsets[sorted_query]
    return out


def _each_query(block: Block, values: Array, transform: Callable[[Array], Array]) -> Array:
    out = np.empty(len(values))
    for start, stop in zip(block.offsets[:-1], block.offsets[1:], strict=True):
        out[start:stop] = transform(values[start:stop])
    return out


def _min_max(values: Array) -> Array:
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.full(len(values), 0.5)

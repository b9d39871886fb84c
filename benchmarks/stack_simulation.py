"""Monte Carlo for ``benchmarks/stack.py``: a million conversations of one law, drawn three ways.

The naive way draws one conversation at a time and loops over turns, pairs and configurations; the
library's way draws embeddings in batches with NumPy and has no loop but that over turns. Both draw
from ``leray.memory.generator.ConversationLaw`` with their own random numbers, so that means must
agree with ours within the Monte Carlo error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from leray.memory.generator import ConversationLaw
from leray.memory.methods import landscape_grid
from leray.memory.signals import HABITUATION_COSINE, SURPRISE_WINDOW
from leray.memory.simulation import Mode, measure
from stack_costs import Cost, Row, clocked, warmed

Array = np.ndarray
MILLION, METHODS = 1_000_000, 9
BATCHES = (16, 64, 128)
LAW = ConversationLaw()
DISCOUNTS = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, 12)))])
WORK = (
    f"{MILLION:,} conversations of {LAW.num_turns} turns, {LAW.dim} dimensions: mean and standard "
    f"deviation of r of 169 configurations and of nDCG@10 of {METHODS}"
)


def monte_carlo(quick: bool) -> list[Row]:
    """Two rows: by the exact law of the Gram matrix, and with every embedding drawn."""
    grid = landscape_grid()[0]
    weights = np.concatenate([grid[METHODS:], grid[:METHODS]])  # the last ones get their nDCG
    loops, num = (2, 128) if quick else (20, 2_048)
    rng = np.random.default_rng(0)
    by_loop, _ = clocked(lambda: [one_by_one(weights, rng) for _ in range(loops)])
    naive = Cost(seconds=by_loop * MILLION / loops, part=f"{loops} conversations, {by_loop:.2f} s")
    tried = {size: _in_batches(weights, num, size, np.float32) for size in BATCHES}
    best = min(tried, key=lambda size: tried[size][0])
    by_numpy, drawn = tried[best]
    library = Cost(
        seconds=by_numpy * MILLION / num,
        part=f"{num:,} conversations in batches of {best}, the fastest of "
        f"{', '.join(map(str, BATCHES))}; {by_numpy:.2f} s",
    )
    double = _in_batches(weights, num, best, np.float64)[0] * MILLION / num
    sizes: list[tuple[Mode, int]] = [("gram", 20_000), ("literal", 3_000)]
    rows = []
    for mode, full in sizes:
        ours, means = _ours(mode, weights, full // 20 if quick else full)
        error = drawn.std(axis=0) * math.sqrt(1 / len(drawn) + 1 / (full // 20 if quick else full))
        apart = float((np.abs(drawn.mean(axis=0) - means) / error).max())
        rows.append(
            Row(
                name=f"monte carlo, {mode}",
                work=WORK,
                ours=ours,
                naive=naive,
                library=library,
                peer="numpy, in batches",
                notes=(
                    f"the {drawn.shape[1]} means of numpy and ours differ by at most {apart:.1f} "
                    "standard errors",
                    f"numpy in float64, its default: {double:,.0f} s, "
                    f"{double / ours.seconds:.1f} times ours",
                ),
            )
        )
    return rows


def _in_batches(weights: Array, num: int, size: int, dtype: type) -> tuple[float, Array]:
    """Processor seconds of ``num`` conversations in batches of ``size``, and their outcomes."""
    rng = np.random.default_rng(size)
    batched(weights, size, rng, dtype)
    return clocked(
        lambda: np.concatenate([batched(weights, size, rng, dtype) for _ in range(num // size)])
    )


def _ours(mode: Mode, weights: Array, num: int) -> tuple[Cost, Array]:
    words = np.array([1, 2], dtype=np.uint32)

    def work() -> tuple[Array, Array]:
        found = measure(LAW, weights, METHODS, words, 0, num, mode=mode)
        outcomes = np.concatenate([found.r, found.ndcg], axis=1)
        return outcomes.mean(axis=0), outcomes.std(axis=0)

    seconds, once, (means, _) = warmed(work)
    part = f"{num:,} conversations, {seconds:.2f} s"
    return Cost(seconds=seconds * MILLION / num, once=once, part=part), means


def one_by_one(weights: Array, rng: np.random.Generator) -> Array:
    """One conversation in loops over turns, pairs of turns and configurations."""
    T, law = LAW.num_turns, LAW
    V, age, clock = np.zeros((T + 1, law.dim)), np.empty(T), 0.0
    for t in range(T + 1):
        kind, gap, span, parent = rng.random(), law.turn_gap, law.drift, t - 1
        if t == T:
            gap, span, parent = law.query_gap, law.asking, int(rng.integers(T))
        elif kind < law.session_rate:
            gap, span, parent = law.session_gap, law.reopening, 0
        elif kind < law.session_rate + law.repeat_rate and t >= 2:
            span, parent = law.repetition, int(rng.integers(t - 1))
        a = rng.uniform(*span) if t else 0.0
        V[t] = a * V[parent] + math.sqrt(1 - a**2) * rng.standard_normal(law.dim)
        clock += rng.exponential(gap)
        if t < T:
            age[t] = clock
    age = clock - age
    E = V / np.linalg.norm(V, axis=1, keepdims=True)
    x = np.empty((4, T))
    for t in range(T):
        before = [float(E[t] @ E[j]) for j in range(t)]
        x[0, t] = math.exp(-age[t] / law.tau)
        x[1, t] = 1 - max(before[-SURPRISE_WINDOW:], default=0.0)
        x[2, t] = E[T] @ E[t]
        x[3, t] = 1 / (1 + sum(cosine >= HABITUATION_COSINE for cosine in before))
    y, relevant = truth(x[None], rng)
    r = [np.corrcoef(w @ x, y[0])[0, 1] for w in weights]
    return np.append(r, [float(ndcg(w @ x, relevant[0])) for w in weights[-METHODS:]])


def ndcg(score: Array, relevant: Array) -> float:
    """nDCG@10 of one list, in expectation over ties."""
    gain = 0.0
    for t in relevant:
        above, level = int((score > score[t]).sum()), int((score == score[t]).sum())
        if above < 10:
            gain += (DISCOUNTS[min(above + level, 10)] - DISCOUNTS[above]) / level
    return gain / DISCOUNTS[len(relevant)]


def batched(weights: Array, num: int, rng: np.random.Generator, dtype: type) -> Array:
    """A batch of conversations, ``[num, configurations + methods]``; embeddings in ``dtype``."""
    age, parent, a = structure(num, rng)
    T, every = LAW.num_turns, np.arange(num)
    V: Any = rng.standard_normal((num, T + 1, LAW.dim), dtype=dtype)
    a = a.astype(dtype)
    own = np.sqrt(1 - a**2)
    for t in range(1, T + 1):
        V[:, t] = a[:, t, None] * V[every, parent[:, t]] + own[:, t, None] * V[:, t]
    G = V @ V.transpose(0, 2, 1)
    scale = 1 / np.sqrt(np.einsum("ntt->nt", G))
    G *= scale[:, :, None] * scale[:, None, :]
    earlier = np.tril(np.ones((T, T), bool), -1)
    near = earlier & ~np.tril(np.ones((T, T), bool), -1 - SURPRISE_WINDOW)
    turns = G[:, :T, :T]
    surprise = 1 - np.where(near, turns, -np.inf).max(axis=2)
    surprise[:, 0] = 1.0
    echoes = ((turns >= HABITUATION_COSINE) & earlier).sum(axis=2)
    x = np.stack([np.exp(-age / LAW.tau), surprise, G[:, :T, T], 1 / (1 + echoes)], axis=1)
    y, relevant = truth(x, rng)
    centred, y_centred = x - x.mean(axis=2, keepdims=True), y - y.mean(axis=1, keepdims=True)
    S, b = centred @ centred.transpose(0, 2, 1), np.einsum("njt,nt->nj", centred, y_centred)
    variance = ((S @ weights.T) * weights.T).sum(axis=1) * (y_centred**2).sum(axis=1)[:, None]
    r = b @ weights.T / np.sqrt(variance)
    return np.concatenate([r, ndcg_batched(x, weights[-METHODS:], relevant)], axis=1)


def structure(num: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Ages ``[num, T]``, parents and strengths ``[num, T + 1]``."""
    T, law = LAW.num_turns, LAW
    kind, which, how = rng.random((3, num, T + 1))
    parent = np.broadcast_to(np.arange(T + 1) - 1, kind.shape).copy()
    turn = np.arange(T + 1)
    opens = (kind < law.session_rate) & (turn < T)
    repeats = ~opens & (kind < law.session_rate + law.repeat_rate) & (turn >= 2) & (turn < T)
    parent[opens] = 0
    parent[repeats] = (which * np.maximum(turn - 1, 1)).astype(int)[repeats]
    parent[:, T] = (which[:, T] * T).astype(int)
    spans = np.array([law.drift, law.reopening, law.repetition, law.asking])
    case = opens + 2 * repeats
    case[:, T] = 3
    low, high = spans[case, 0], spans[case, 1]
    gaps = np.array([law.turn_gap, law.session_gap, law.turn_gap, law.query_gap])[case]
    clock = np.cumsum(rng.exponential(gaps), axis=1)
    return clock[:, T:] - clock[:, :T], parent, low + how * (high - low)


def truth(x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """The planted truth ``[num, T]`` and the relevant turns ``[num, relevant]``."""
    num, _, T = x.shape
    w = np.array(LAW.weights) + LAW.slope_sd * rng.standard_normal((num, 4))
    e = rng.standard_normal((num, T))
    for t in range(1, T):
        e[:, t] = LAW.noise_rho * e[:, t - 1] + math.sqrt(1 - LAW.noise_rho**2) * e[:, t]
    y: Any = np.einsum("nj,njt->nt", w, x) + LAW.intercept_sd * rng.standard_normal((num, 1))
    y = y + LAW.noise_sd * e
    return y, np.argpartition(-y, LAW.num_relevant, axis=1)[:, : LAW.num_relevant]


def ndcg_batched(x: Array, weights: Array, relevant: Array) -> Array:
    """nDCG@10 of every list and method, in expectation over ties, ``[num, methods]``."""
    scores = weights @ x
    own = np.take_along_axis(scores, relevant[:, None, :], axis=2)[..., None]
    above = (scores[:, :, None] > own).sum(axis=3)
    level = (scores[:, :, None] == own).sum(axis=3)
    last = np.minimum(above + level, 10)
    gain = np.where(above < 10, (DISCOUNTS[last] - DISCOUNTS[np.minimum(above, 10)]) / level, 0)
    return gain.sum(axis=2) / DISCOUNTS[LAW.num_relevant]

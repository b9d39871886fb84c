"""Synthetic conversations, drawn and measured in one pass: a million in constant memory.

:func:`planted_sample` returns them as arrays; :func:`measure` keeps only what is asked of each:
Pearson's r between the truth and every configuration of the four signals over the conversation's
turns, nDCG@10 of a few of them, and the summed moment table. :class:`MonteCarlo` does the latter
for any number, by steps.

Two modes draw from one law: ``literal`` draws the embeddings, ``gram`` their Gram matrix
(:mod:`leray.memory.gram`). In either, conversation c of a root key is a function of (key, c), so
nothing depends on how the work is cut.

Notation: T turns, d = 4 signals, K configurations, m methods (configurations whose nDCG is taken).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from leray.evidence.compiled import compiled
from leray.evidence.moments import pack
from leray.evidence.montecarlo import Running, Simulated
from leray.evidence.resampling import RandomKey, Samples
from leray.memory.blocks import FOUR
from leray.memory.generator import (
    ConversationLaw,
    draw_structure,
    draw_truth,
    signals_of_gram,
)
from leray.memory.gram import (
    F,
    U,
    bartlett_columns,
    gram_of_columns,
    gram_of_rows,
    literal_rows,
    padded,
)

Array = np.ndarray
Mode = Literal["literal", "gram"]
MODES = ("literal", "gram")
NUM_BATCHES = 160  # at least so many, whatever the number of conversations
PREFIXES = (10, 30, 100, 300, 1000)  # studies of these sizes are kept from every batch
KEPT = ("counts", "means", "squares", "moments", "prefix_means", "prefix_products")
_PER_STEP = {"gram": 62_500, "literal": 5_000}
_PACKED = (len(FOUR) + 2) * (len(FOUR) + 3) // 2
_DISCOUNTS = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, 12)))])
_CONSTANT = 1e-12  # a score whose variance over a conversation is below this is constant


class PlantedSample(NamedTuple):
    """Conversations with their truth: signals in the order of ``FOUR``, y, the relevant turns."""

    signals: Float[Array, "conversations turns 4"]
    y: Float[Array, "conversations turns"]
    relevant: Bool[Array, "conversations turns"]


class Measured(NamedTuple):
    """What is kept of a run of conversations: r and nDCG@10 of each, packed moments of all."""

    r: Float[Array, "conversations configurations"]
    ndcg: Float[Array, "conversations methods"]
    moments: Float[Array, " packed"]


class Drawn(NamedTuple):
    """One literal conversation before its signals: raw vectors (the query last) and ages."""

    vectors: Array
    ages: Array
    parent: Array
    strength: Array


def root_words(rng: np.random.Generator) -> Array:
    """Two 32-bit words that key all conversations of a run."""
    return rng.integers(0, 2**32, 2, dtype=np.uint32)


def planted_sample(
    law: ConversationLaw,
    num_conversations: int,
    rng: np.random.Generator,
    *,
    mode: Mode = "gram",
) -> PlantedSample:
    """A batch of conversations as arrays; the first ones do not depend on how many are asked for.

    Cost: about 20 microseconds a conversation in ``gram`` mode, four times that in ``literal``.
    """
    n, T = num_conversations, law.num_turns
    x, y = np.empty((n, len(FOUR), T)), np.empty((n, T))
    relevant = np.zeros((n, T), dtype=np.bool_)
    _sample_kernel(law.parameters, _is_literal(mode), root_words(rng), x, y, relevant)
    return PlantedSample(np.ascontiguousarray(x.transpose(0, 2, 1)), y, relevant)


def literal_conversation(law: ConversationLaw, words: Array, conversation: int) -> Drawn:
    """The vectors and times behind conversation ``conversation`` of literal mode."""
    n, T = law.num_turns + 1, law.num_turns
    V, ages = np.empty((n, law.dim), dtype=F), np.empty(T)
    parent, strength = np.empty(n, dtype=np.int64), np.empty(n)
    k0, k1 = U(words[0]), U(words[1])
    uniforms = np.empty(4 * n)
    draw_structure(law.parameters, k0, k1, U(conversation), uniforms, parent, strength, ages)
    literal_rows(k0, k1, U(conversation), parent, strength, np.empty((4, law.dim // 2), dtype=U), V)
    return Drawn(V, ages, parent, strength)


def measure(
    law: ConversationLaw,
    configurations: Float[Array, "configurations 4"],
    num_methods: int,
    words: Array,
    first: int,
    count: int,
    *,
    mode: Mode,
) -> Measured:
    """Conversations first … first + count − 1, measured; nDCG@10 for the last configurations.

    Args:
        configurations: Weights, a row each.
        num_methods: How many of the last rows get their nDCG@10.
        words: From :func:`root_words`.

    r is 0 where a score is constant over a conversation, as in ``evidence.moments.pearson``.
    """
    if not 0 <= num_methods <= len(configurations):
        raise ValueError(f"num_methods must be in 0 .. {len(configurations)}; got {num_methods}")
    w = np.ascontiguousarray(configurations, dtype=np.float64)
    squares = w[:, :, None] * w[:, None, :]
    doubled = pack(squares * (2.0 - np.eye(w.shape[1])))
    r, ndcg = np.empty((count, len(w))), np.empty((count, num_methods))
    moments = np.zeros(_PACKED)
    _measure_kernel(
        law.parameters,
        _is_literal(mode),
        words,
        first,
        np.ascontiguousarray(w.T),
        np.ascontiguousarray(doubled.T),
        _DISCOUNTS,
        r,
        ndcg,
        moments,
    )
    return Measured(r, ndcg, moments)


@dataclass(frozen=True, kw_only=True)
class MonteCarlo:
    """r of every configuration and nDCG@10 of some methods over many conversations, streamed.

    The outcomes of a conversation are, in order: r of the configurations, r of the methods,
    nDCG@10 of the methods. Of each batch of conversations its means, squares and moment table are
    kept, and of its first 10, 30, … conversations the moments of the methods' outcomes: that many
    separate small studies.

    Args:
        law: What is drawn.
        configurations: ``[K, 4]``; the grid.
        methods: ``[m, 4]``.
        num_conversations: n.
        mode: ``gram`` or ``literal``.

    Cost: constant memory; CPU seconds for 1,000,000 in ``gram`` and 10,000 in ``literal`` mode are
    measured by the study. Result: a :class:`leray.evidence.montecarlo.Simulated`.
    """

    law: ConversationLaw
    configurations: Array
    methods: Array
    num_conversations: int = 1_000_000
    mode: Mode = "gram"
    name: str = "monte carlo"
    num_shards: int = 8

    def __post_init__(self) -> None:
        _is_literal(self.mode)
        least = self.num_shards * self.num_steps * self.batches_per_step * PREFIXES[0]
        if self.num_conversations < least:
            raise ValueError(
                f"{self.num_conversations} conversations are too few for batches of at least "
                f"{PREFIXES[0]}: ask for {least} or more"
            )

    @property
    def num_steps(self) -> int:
        """So many that a step lasts about a second."""
        return max(2, -(-self.num_conversations // (self.num_shards * _PER_STEP[self.mode])))

    @property
    def batches_per_step(self) -> int:
        """So many that all steps together make at least ``NUM_BATCHES``."""
        return -(-NUM_BATCHES // (self.num_shards * self.num_steps))

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        """Which shard it is: with the step it says how many conversations are its own."""
        return {"shard": shard}

    def step(
        self, state: dict[str, Any], step_index: int, key: RandomKey
    ) -> tuple[dict[str, Any], Samples]:
        words = root_words(key.generator())
        every = np.concatenate([self.configurations, self.methods])
        total, batches, first = None, [], 0
        for size in self._sizes(state["shard"] * self.num_steps + step_index):
            drawn = measure(self.law, every, len(self.methods), words, first, size, mode=self.mode)
            outcomes = np.concatenate([drawn.r, drawn.ndcg], axis=1)
            batch = Running.of(outcomes)
            batches.append((batch, drawn.moments, self._prefixes(outcomes)))
            total = batch if total is None else total.merge(batch)
            first += size
        assert total is not None, "a step has at least one batch"
        return state, {
            "counts": np.array([b.n for b, _, _ in batches]),
            "means": np.stack([b.mean for b, _, _ in batches]),
            "squares": np.stack([np.diagonal(b.M2) for b, _, _ in batches]),
            "moments": np.stack([m for _, m, _ in batches]),
            "prefix_means": np.stack([[p.mean for p in q] for _, _, q in batches]),
            "prefix_products": np.stack([[p.M2 for p in q] for _, _, q in batches]),
            "n": np.array(total.n),
            "mean": total.mean,
            "M2": total.M2,
        }

    def result(self, samples: list[list[Samples]]) -> Simulated:
        flat = [s for shard in samples for s in shard]
        total = Running(int(flat[0]["n"]), flat[0]["mean"], flat[0]["M2"])
        for s in flat[1:]:
            total = total.merge(Running(int(s["n"]), s["mean"], s["M2"]))
        return Simulated(
            num_configurations=len(self.configurations),
            num_methods=len(self.methods),
            total=total,
            prefixes=self.prefixes,
            **{k: np.concatenate([s[k] for s in flat]) for k in KEPT},
        )

    @property
    def prefixes(self) -> tuple[int, ...]:
        """The sizes of the small studies that fit into every batch."""
        num_batches = self.num_shards * self.num_steps * self.batches_per_step
        return tuple(p for p in PREFIXES if p <= self.num_conversations // num_batches)

    def _sizes(self, place: int) -> list[int]:
        """How many conversations each batch of a step has: all of them differ by one at most."""
        b = self.batches_per_step
        num_batches = self.num_shards * self.num_steps * b
        first = place * b
        edges = [self.num_conversations * (first + k) // num_batches for k in range(b + 1)]
        return [after - before for before, after in pairwise(edges)]

    def _prefixes(self, outcomes: Array) -> list[Running]:
        """The first 10, 30, … conversations of a batch; the methods' outcomes only."""
        methods = outcomes[:, len(self.configurations) :]
        return [Running.of(methods[:p]) for p in self.prefixes]


def _is_literal(mode: str) -> bool:
    if mode not in MODES:
        raise ValueError(f"mode must be 'literal' or 'gram'; got {mode!r}")
    return mode == "literal"


@compiled
def _sample_kernel(law, literal, words, x, y, relevant):
    room = _room(law, literal)
    for c in range(len(y)):
        _conversation(law, literal, words[0], words[1], U(c), room, x[c], y[c])
        _mark_largest(y[c], law.num_relevant, relevant[c])


@compiled
def _measure_kernel(law, literal, words, first, w, ww, discounts, r, ndcg, moments):
    T, d, m = law.num_turns, len(w), ndcg.shape[1]
    room = _room(law, literal)
    v = np.ones((d + 2, T))
    x, y = v[1 : d + 1], v[d + 1]
    relevant, scores, packed = np.empty(T, dtype=np.bool_), np.empty(T), np.empty(len(moments))
    for c in range(len(r)):
        _conversation(law, literal, words[0], words[1], U(first + c), room, x, y)
        k = 0
        for i in range(d + 2):
            for j in range(i, d + 2):
                total = 0.0
                for t in range(T):
                    total += v[i, t] * v[j, t]
                packed[k] = total
                moments[k] += total
                k += 1
        _correlate(packed, w, ww, r[c])
        _mark_largest(y, law.num_relevant, relevant)
        for q in range(m):
            weights = w[:, w.shape[1] - m + q]
            for t in range(T):
                scores[t] = weights[0] * x[0, t]
            for j in range(1, d):
                for t in range(T):
                    scores[t] += weights[j] * x[j, t]
            ndcg[c, q] = _ndcg(scores, relevant, law.num_relevant, discounts)


@compiled
def _room(law, literal):
    """Memory that every conversation uses anew."""
    n = law.num_turns + 1
    rows = (n + 2) // 3 * 3 if literal else padded(n)
    return (
        np.zeros((rows, law.dim if literal else rows), dtype=F),
        np.empty((rows, rows), dtype=F),
        np.empty((4, law.dim // 2), dtype=U),
        np.empty((n * (n + 1) // 2 + 1) // 2 * 2, dtype=F),
        np.empty(4 * n),
        np.empty(n, dtype=np.int64),
        np.empty(n),
        np.empty(law.num_turns),
    )


@compiled
def _conversation(law, literal, k0, k1, c, room, x, y):
    V, G, state, normals, uniforms, parent, strength, age = room
    n = len(parent)
    draw_structure(law, k0, k1, c, uniforms, parent, strength, age)
    if literal:
        literal_rows(k0, k1, c, parent, strength, state, V)
        gram_of_rows(V, G)
    else:
        even = uniforms[: (n + 1) // 2 * 2]
        bartlett_columns(k0, k1, c, parent, strength, law.dim, normals, even, V)
        gram_of_columns(n, V, G)
    signals_of_gram(G, age, law.tau, law.window, law.threshold, x)
    draw_truth(law, k0, k1, c, x, normals[: (law.num_turns + 6) // 2 * 2], y)


@compiled
def _correlate(packed, w, ww, r):
    """r of every configuration from one conversation's packed sums of (1, x, y)."""
    d = len(w)
    n = packed[0]
    S, b, mean = np.empty(len(ww)), np.empty(d), np.empty(d + 1)
    for i in range(d + 1):
        mean[i] = packed[1 + i] / n
    k, p = d + 2, 0
    for i in range(d):
        for j in range(i, d):
            S[p] = packed[k] / n - mean[i] * mean[j]
            k += 1
            p += 1
        b[i] = packed[k] / n - mean[i] * mean[d]
        k += 1
    variance_y = packed[k] / n - mean[d] ** 2
    for c in range(len(r)):
        variance, covariance = 0.0, 0.0
        for p in range(10):  # d(d + 1)/2, fixed so that the loop over configurations vectorises
            variance += S[p] * ww[p, c]
        for j in range(4):
            covariance += b[j] * w[j, c]
        constant = variance <= _CONSTANT
        product = 1.0 if constant else variance * variance_y
        r[c] = 0.0 if constant else covariance / math.sqrt(product)


@compiled
def _mark_largest(y, count, relevant):
    relevant[:] = False
    for _ in range(count):
        best, place = -np.inf, 0
        for t in range(len(y)):
            if y[t] > best and not relevant[t]:
                best, place = y[t], t
        relevant[place] = True


@compiled
def _ndcg(scores, relevant, count, discounts):
    """nDCG@10 in expectation over ties: a relevant turn shares the places of its equals."""
    depth = len(discounts) - 1
    total = 0.0
    for i in range(len(scores)):
        if relevant[i]:
            own = scores[i]
            above, level = np.int32(0), np.int32(0)
            for t in range(len(scores)):
                above += np.int32(scores[t] > own)
                level += np.int32(scores[t] == own)
            if above < depth:
                last = min(above + level, depth)
                total += (discounts[last] - discounts[above]) / level
    return total / discounts[min(count, depth)]

"""The data tensor: conversations × positions × signals × outcomes, and how low its rank is.

An entry is the mean, over the (query, turn) pairs of one conversation whose turn stands at one
position of its list, of a standardised signal times a centred outcome: a covariance, resolved by
conversation and by position. Weighted by the pairs in each cell it sums to the covariances of the
moment table. The origin is "no association", so shares of variance are shares of the sum of
squares about zero.

The outcomes of a pair, with the list ranked by a score that is given:

- ``importance``: the truth, 1 where the turn is relevant;
- ``retrieval``: 1 where the turn is among the first ten;
- ``usefulness``: relevant / log₂(1 + rank), what it adds to the discounted gain.

Notation: C conversations, P positions, J signals, O outcomes, R factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from leray.evidence.resampling import RandomKey, Samples, Stateless
from leray.memory.blocks import FOUR, Block, with_tau
from leray.memory.parafac import Parafac, congruence, core_consistency, khatri_rao, parafac

Array = np.ndarray
OUTCOMES = ("importance", "retrieval", "usefulness")
NUM_POSITIONS = 50
_TOP = 10


class Lists(NamedTuple):
    """The ranked lists of one conversation: query k owns ``offsets[k]:offsets[k + 1]``.

    ``x [J, rows]`` signals, ``relevant [rows]`` the truth, ``score [rows]`` what ranks.
    """

    cluster: int
    x: Array
    relevant: Array
    score: Array
    offsets: Array


class DataTensor(NamedTuple):
    """``values [C, P, J, O]``, zero where no pair falls; ``counts [C, P]`` of pairs."""

    values: Array
    counts: Array


def lists_of(blocks: Sequence[Block], clusters: Sequence[str], tau: float) -> list[Lists]:
    """The four signals of every conversation, ranked by relevance plus lexical match.

    That score has no fitted weight, so no outcome has seen the truth through it; both parts lie
    within about [0, 1].
    """
    place = {name: k for k, name in enumerate(clusters)}
    return [
        Lists(
            place[cluster],
            b.rows(with_tau(FOUR, tau))[:, rows],
            b.relevant[rows],
            b.rows(("relevance", "lexical"))[:, rows].sum(axis=0),
            b.offsets[queries.start : queries.stop + 1] - b.offsets[queries.start],
        )
        for b in blocks
        for cluster, queries, rows in b.by_cluster()
    ]


def lists_of_arrays(
    signals: Float[Array, "conversations turns j"],
    relevant: Array,
    score: Float[Array, "conversations turns"],
) -> list[Lists]:
    """One list a conversation, as a generator of synthetic conversations has them."""
    turns = signals.shape[1]
    return [
        Lists(c, x.T, relevant[c], score[c], np.array([0, turns])) for c, x in enumerate(signals)
    ]


def data_tensor(
    lists: Sequence[Lists], num_clusters: int, num_positions: int = NUM_POSITIONS
) -> DataTensor:
    """The tensor of these lists.

    The t-th of n turns in a list stands at position ⌊t P / n⌋. Signals are standardised and
    outcomes centred over all pairs together; a constant signal becomes 0.

    Returns:
        Values ``[C, P, J, O]`` with the outcomes in the order of :data:`OUTCOMES`.

    Raises:
        ValueError: without a single pair.

    Cost: a sort a list, and J · O additions a pair.
    """
    results = [outcomes(one) for one in lists]
    n = sum(len(one.relevant) for one in lists)
    if n == 0:
        raise ValueError("no pairs: a data tensor needs at least one")
    mean = _total(one.x.sum(axis=1, dtype=np.float64) for one in lists) / n
    square = _total(((one.x - mean[:, None]) ** 2).sum(axis=1) for one in lists) / n
    scale = np.where(square > 0, 1 / np.sqrt(np.where(square > 0, square, 1.0)), 0.0)
    centre = _total(o.sum(axis=1) for o in results) / n
    sums = np.zeros((num_clusters, num_positions, len(mean), len(OUTCOMES)))
    counts = np.zeros((num_clusters, num_positions))
    for one, result in zip(lists, results, strict=True):
        position = _positions(one.offsets, num_positions)
        counts[one.cluster] += np.bincount(position, minlength=num_positions)
        x = (one.x - mean[:, None]) * scale[:, None]
        y = result - centre[:, None]
        for j in range(len(mean)):
            for o in range(len(OUTCOMES)):
                sums[one.cluster, :, j, o] += np.bincount(position, x[j] * y[o], num_positions)
    values = sums / np.maximum(counts, 1)[:, :, None, None]
    return DataTensor(values, counts)


def outcomes(one: Lists) -> Float[Array, "3 rows"]:
    """The three outcomes of every pair; among equal scores the earlier turn ranks first."""
    rank = np.empty(len(one.relevant))
    for start, end in zip(one.offsets[:-1], one.offsets[1:], strict=True):
        order = np.argsort(-one.score[start:end], kind="stable")
        rank[start + order] = np.arange(1, end - start + 1)
    relevant = one.relevant.astype(np.float64)
    return np.stack([relevant, (rank <= _TOP).astype(np.float64), relevant / np.log2(1 + rank)])


def explained(left_out: Float[Array, "c p j o"], factors: Sequence[Array]) -> Float[Array, " c"]:
    """What given factors of the other modes explain of each conversation's sum of squares.

    Its loadings are refitted by least squares, so any R directions explain something: compare
    with the same on permuted tensors (:func:`permute_cells`).
    """
    directions = np.linalg.qr(khatri_rao(factors))[0]
    flat = left_out.reshape(len(left_out), -1)
    return ((flat @ directions) ** 2).sum(axis=1)


def permute_cells(values: Float[Array, "c p j o"], rng: np.random.Generator) -> Array:
    """Each conversation's (position, signal) cells in an order of its own, outcomes kept whole.

    What conversations share in position and signal is gone; how outcomes hang together stays.
    """
    cells = values.reshape(len(values), -1, values.shape[-1])
    order = rng.permuted(np.tile(np.arange(cells.shape[1]), (len(cells), 1)), axis=1)
    return np.take_along_axis(cells, order[:, :, None], axis=1).reshape(values.shape)


class HeldOut(NamedTuple):
    """Sums of squares by conversation: all, explained, and explained in permuted tensors."""

    total: Array
    explained: Array
    null: Array

    @property
    def share(self) -> float:
        """The share explained, conversations left out together."""
        return float(self.explained.sum() / self.total.sum())

    @property
    def null_shares(self) -> Array:
        """The same for each permuted tensor."""
        return self.null.sum(axis=1) / self.total.sum()


@dataclass(frozen=True, kw_only=True)
class HeldOutFactors(Stateless):
    """How much factors that were fitted on other conversations explain; a step is one tensor.

    Tensor 0 is the observed one, the others are permuted (:func:`permute_cells`). Conversation c
    is left out with all of fold c mod ``num_folds``.

    Args:
        values: The data tensor, ``[C, P, J, O]``, at least two conversations.
        rank: R.
        num_null: Permuted tensors.
    """

    values: Array
    rank: int = 3
    num_folds: int = 10
    num_null: int = 19
    num_restarts: int = 5
    tolerance: float = 1e-7
    name: str = "tensor-held-out"
    num_shards: int = 2

    @property
    def num_steps(self) -> int:
        return -(-(1 + self.num_null) // self.num_shards)

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        """Which shard this is: it takes every ``num_shards``-th tensor."""
        return {"shard": shard}

    def step(
        self, state: dict[str, Any], step_index: int, key: RandomKey
    ) -> tuple[dict[str, Any], Samples]:
        rng = key.generator()
        observed = step_index == 0 and state["shard"] == 0
        values = self.values if observed else permute_cells(self.values, rng)
        fold = np.arange(len(values)) % min(self.num_folds, len(values))
        out = np.zeros(len(values))
        for f in np.unique(fold):
            fitted = parafac(
                values[fold != f], self.rank, rng, num_restarts=self.num_restarts,
                tolerance=self.tolerance,
            )  # fmt: skip
            out[fold == f] = explained(values[fold == f], fitted.factors[1:])
        return state, {"explained": out}

    def result(self, samples: list[list[Samples]]) -> HeldOut:
        each = [step["explained"] for steps in zip(*samples, strict=True) for step in steps]
        total = (self.values**2).sum(axis=(1, 2, 3))
        return HeldOut(total, each[0], np.stack(each[1 : 1 + self.num_null]))


class RankFit(NamedTuple):
    """PARAFAC of one rank: the best fit, its core consistency, and how halves agree.

    ``agreement [splits, R]``: the congruences of factors fitted on two halves.
    """

    fitted: Parafac
    core_consistency: float
    agreement: Array


@dataclass(frozen=True, kw_only=True)
class RankSearch(Stateless):
    """PARAFAC of rank 1, 2, …, each from many starts and on random halves; a step is a rank.

    No rank is left out because a smaller one failed: the core consistency need not fall steadily.

    Args:
        values: The data tensor, ``[C, P, J, O]``.
        max_rank: The largest rank; as many steps.
        num_restarts: Starts of each rank, shared out among the shards.
        num_splits: Random halves of each rank, shared out likewise; none with fewer than four
            conversations. Each half has five starts and a tolerance of a millionth.
    """

    values: Array
    max_rank: int = 6
    num_restarts: int = 20
    num_iterations: int = 500
    num_splits: int = 10
    name: str = "tensor-ranks"
    num_shards: int = 2

    @property
    def num_steps(self) -> int:
        return self.max_rank

    def step(
        self, state: dict[str, Any], step_index: int, key: RandomKey
    ) -> tuple[dict[str, Any], Samples]:
        rng, rank = key.generator(), step_index + 1
        restarts = -(-self.num_restarts // self.num_shards)
        fitted = parafac(
            self.values, rank, rng, num_restarts=restarts, num_iterations=self.num_iterations
        )
        splits = -(-self.num_splits // self.num_shards) if len(self.values) >= 4 else 0
        agreement = np.zeros((splits, rank))
        for row in agreement:
            halves = np.array_split(rng.permutation(len(self.values)), 2)
            a, b = (
                parafac(self.values[half], rank, rng, num_restarts=5, tolerance=1e-6)
                for half in halves
            )
            row[:] = congruence(a.factors[1:], b.factors[1:])
        modes = {f"mode{n}": factor for n, factor in enumerate(fitted.factors)}
        return state, {
            "weights": fitted.weights,
            **modes,
            "fit": np.array(fitted.fit),
            "start_fits": fitted.start_fits,
            "agreement": agreement,
        }

    def result(self, samples: list[list[Samples]]) -> list[RankFit]:
        return [self._of_rank([shard[k] for shard in samples]) for k in range(self.max_rank)]

    def _of_rank(self, shards: list[Samples]) -> RankFit:
        best = max(shards, key=lambda s: float(s["fit"]))
        fitted = Parafac(
            best["weights"],
            tuple(best[f"mode{n}"] for n in range(4)),
            float(best["fit"]),
            np.concatenate([s["start_fits"] for s in shards]),
        )
        agreement = np.concatenate([s["agreement"] for s in shards])
        return RankFit(fitted, core_consistency(self.values, fitted), agreement)


def describe(fitted: Parafac, signals: Sequence[str]) -> list[dict[str, Any]]:
    """Each factor in words: its strongest signal, where in the list it stands, its outcome.

    Where: the third of the list that holds at least half of the squared loadings, if one does.
    """
    out = []
    for r in range(len(fitted.weights)):
        position, signal, outcome = (factor[:, r] for factor in fitted.factors[1:])
        thirds = [float((part**2).sum()) for part in np.array_split(position, 3)]
        names = ("early in the list", "in the middle", "late in the list")
        where = (
            names[int(np.argmax(thirds))]
            if max(thirds) >= 0.5 * sum(thirds)
            else "throughout the list"
        )
        strongest = int(np.abs(signal).argmax())
        out.append(
            {
                "signal": signals[strongest],
                "position": where,
                "outcome": OUTCOMES[int(np.abs(outcome).argmax())],
                "weight": float(fitted.weights[r]),
            }
        )
    return out


def _total(parts: Iterable[Array]) -> Array:
    return np.sum([*parts], axis=0)


def _positions(offsets: Array, num_positions: int) -> Array:
    lengths = np.diff(offsets)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return within * num_positions // np.repeat(lengths, lengths)

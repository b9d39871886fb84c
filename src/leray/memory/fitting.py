"""The fitted methods, leaving one cluster out: what is learnt never saw what it is judged on.

``pearson`` is exact from moments; ``ndcg`` and ``hybrid`` choose among candidates by nDCG@10;
``logistic`` is a logistic regression on all signals. The two long ones are computations under
the step contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from leray.evidence.bootstrap import leave_one_out
from leray.evidence.logistic import Rows, fit_logistic, mean_and_scale
from leray.evidence.resampling import RandomKey, Samples, Stateless, best_over_tau
from leray.memory.blocks import ALL, Block, with_tau
from leray.memory.methods import Candidates
from leray.memory.retrieval import ndcg_search

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class WeightSearch(Stateless):
    """nDCG@10 of every candidate on every cluster; a step is one history.

    Args:
        blocks: One a history.
        candidates: One a method.
        clusters: All cluster ids, in the order of the result.

    Result: for each method the sums over queries, ``[candidates, clusters]``.
    """

    blocks: tuple[Block, ...]
    candidates: tuple[Candidates, ...]
    clusters: tuple[str, ...]
    name: str = "weight search"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return len(self.blocks)

    def step(
        self,
        state: dict[str, Any],
        step_index: int,
        key: RandomKey,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Samples]:
        block = self.blocks[step_index]
        starts = [queries.start for _, queries, _ in block.by_cluster()]
        out = {}
        for c in self.candidates:
            each = ndcg_search(block.rows(c.signals), block.relevant, block.offsets, c.weights)
            out[c.method] = np.add.reduceat(each, starts, axis=1)
        return state, out

    def result(
        self, samples: list[list[Samples]]
    ) -> dict[str, Float[Array, "candidates clusters"]]:
        runs = [cluster for block in self.blocks for cluster, _, _ in block.by_cluster()]
        place = [self.clusters.index(cluster) for cluster in runs]
        sums = {c.method: np.zeros((len(c.weights), len(self.clusters))) for c in self.candidates}
        for method, total in sums.items():
            every = np.concatenate([s[method] for s in samples[0]], axis=1)
            np.add.at(total.T, place, every.T)
        return sums


def choose_held_out(
    sums: Float[Array, "candidates clusters"], sizes: Float[Array, " clusters"]
) -> tuple[Array, int]:
    """The best candidate for each cluster by the mean over the *other* clusters, and over all.

    Ties go to the first candidate.
    """
    others = (sums.sum(axis=1, keepdims=True) - sums) / np.maximum(sizes.sum() - sizes, 1)
    return others.argmax(axis=0), int((sums.sum(axis=1)).argmax())


def pearson_held_out(
    moments: Float[Array, "taus clusters packed"],
) -> tuple[Float[Array, "clusters d"], Array]:
    """The exact Pearson optimum on the other clusters, for each cluster: weights, index of τ."""
    left = np.stack([leave_one_out(m) for m in moments])
    weights, tau, _ = best_over_tau(left)
    return weights, tau


@dataclass(frozen=True, kw_only=True)
class HeldOutLogistic:
    """Logistic regression on all signals, fitted without each cluster in turn; a step a fold.

    The first step leaves nothing out (what a person would use). Signals are standardised by the
    rows that are fitted on; weights come back in the signals' own units.

    Args:
        blocks: One a history.
        clusters: The folds.
        tau: The decay time of the whole, then of each fold (``[1 + clusters]``, seconds).

    Result: the weights, ``[1 + clusters, signals]``.
    """

    blocks: tuple[Block, ...]
    clusters: tuple[str, ...]
    tau: Array
    name: str = "logistic"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return 1 + len(self.clusters)

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        """No solution yet to start from."""
        return {"start": np.zeros(0)}

    def step(
        self,
        state: dict[str, Any],
        step_index: int,
        key: RandomKey,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Samples]:
        left_out = self.clusters[step_index - 1] if step_index else None
        rows = training_rows(self.blocks, left_out, float(self.tau[step_index]))
        centre, scale = mean_and_scale(rows)
        # A fold starts at the solution on everything: it is solved to the same gradient from
        # anywhere, and there from near.
        beta = fit_logistic(rows, centre, scale, state["start"] if step_index else None)
        return state if step_index else {"start": beta}, {"weights": beta[1:] / scale}

    def result(self, samples: list[list[Samples]]) -> Float[Array, "folds signals"]:
        return np.stack([s["weights"] for s in samples[0]])


def training_rows(blocks: Sequence[Block], left_out: str | None, tau: float) -> list[Rows]:
    """The pairs of every cluster but one, where they lie."""
    columns = with_tau(ALL, tau)
    return [
        Rows(b.x, b.relevant, np.array([b.signals.index(c) for c in columns]), span)
        for b in blocks
        for cluster, _, span in b.by_cluster()
        if cluster != left_out
    ]

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
from sklearn.linear_model import LogisticRegression

from leray.evidence.bootstrap import leave_one_out
from leray.evidence.resampling import RandomKey, Samples, Stateless, best_over_tau
from leray.memory.blocks import Block
from leray.memory.methods import Candidates, design
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
        place = np.array([self.clusters.index(c) for c in block.clusters])
        out = {}
        for c in self.candidates:
            each = ndcg_search(block.rows(c.signals), block.relevant, block.offsets, c.weights)
            sums = np.zeros((len(c.weights), len(self.clusters)))
            np.add.at(sums.T, place, each.T)
            out[c.method] = sums
        return state, out

    def result(
        self, samples: list[list[Samples]]
    ) -> dict[str, Float[Array, "candidates clusters"]]:
        return {
            c.method: np.sum([s[c.method] for s in samples[0]], axis=0) for c in self.candidates
        }


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
class HeldOutLogistic(Stateless):
    """Logistic regression on all signals, fitted without each cluster in turn; a step a fold.

    The first step leaves nothing out (what a person would use); every fold starts at its solution
    and is solved to a gradient that no start could reach without stepping. Signals are
    standardised by all rows, which only sets the scale of the ridge (C = 1, next to nothing
    against the number of pairs); weights come back in the signals' own units.

    Args:
        blocks: One a history.
        clusters: The folds.
        tau: The decay time of the whole, then of each fold (``[1 + clusters]``, seconds).
    """

    blocks: tuple[Block, ...]
    clusters: tuple[str, ...]
    tau: Array
    name: str = "logistic"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return 1 + len(self.clusters)

    def step(
        self,
        state: dict[str, Any],
        step_index: int,
        key: RandomKey,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Samples]:
        left_out = self.clusters[step_index - 1] if step_index else None
        x, y = training_rows(self.blocks, left_out, float(self.tau[step_index]))
        if not step_index:
            scale = x.std(axis=0, dtype=np.float64)
            state = {
                "centre": x.mean(axis=0, dtype=np.float64),
                "scale": np.where(scale > 0, scale, 1.0),
            }
        x -= state["centre"].astype(x.dtype)
        x /= state["scale"].astype(x.dtype)
        model = LogisticRegression(solver="newton-cholesky", C=1.0, tol=1e-7, warm_start=True)
        if step_index:
            model.coef_, model.intercept_ = state["coef"].copy(), state["intercept"].copy()
        model.fit(x, y)
        if not step_index:
            state |= {"coef": model.coef_, "intercept": model.intercept_}
        return state, {"weights": model.coef_[0].astype(np.float64) / state["scale"]}

    def result(self, samples: list[list[Samples]]) -> Float[Array, "folds signals"]:
        return np.stack([s["weights"] for s in samples[0]])


def training_rows(
    blocks: Sequence[Block], left_out: str | None, tau: float
) -> tuple[Float[Array, "rows signals"], Array]:
    """The pairs of every cluster but one."""
    x, y = [], []
    for block in blocks:
        rows = design(block, tau)
        for cluster, _, span in block.by_cluster():
            if cluster != left_out:
                x.append(rows[span])
                y.append(block.relevant[span])
    return np.concatenate(x), np.concatenate(y)

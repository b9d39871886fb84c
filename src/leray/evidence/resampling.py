"""Two long computations, cut into steps: the cluster bootstrap and the group test.

Both keep to the step contract (``init``, ``step``, ``result``; pure, keyed), so that any driver
can persist, resume and share them. What they resample is small: sums by cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from leray.evidence.bootstrap import correlations, ratio_means, resample_counts
from leray.evidence.moments import Array, covariances, pearson
from leray.evidence.optimum import fixed_optimum, simplex_optimum
from leray.evidence.permutation import draw_elements, p_value


@runtime_checkable
class RandomKey(Protocol):
    """Where a step's randomness comes from: a fresh generator, the same for the same key."""

    def generator(self) -> np.random.Generator: ...


Samples = dict[str, np.ndarray]


class Resamples(NamedTuple):
    """B resamples of everything that is reported with an interval.

    ``weights [B, d]`` and ``tau [B]`` (an index) are the exact optimum, refitted; ``optimum_r``
    its correlation; ``grid_r [B, configurations]``; ``r``, ``r_se`` ``[B, methods]``; ``means``,
    ``means_se`` ``[B, k]``.
    """

    weights: Array
    tau: Array
    optimum_r: Array
    grid_r: Array
    r: Array
    r_se: Array
    means: Array
    means_se: Array


class Stateless:
    """A computation whose steps carry nothing from one to the next."""

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        """Nothing."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ClusterBootstrap(Stateless):
    """Resample conversations; refit the optimum and recompute every estimate in each resample.

    Args:
        moments: Packed sums by cluster for each decay time, ``[taus, clusters, K]``.
        grid: The configurations, ``[configurations, d]``, evaluated at decay time ``grid_tau``.
        scores: Packed moments (1, score, truth) by cluster and method, ``[clusters, methods, 6]``.
        sums: Sums by cluster of what is averaged over queries, ``[clusters, k]``.
        sizes: Queries in each cluster.
        num_resamples: B, a multiple of ``resamples_per_step``.
    """

    moments: Array
    grid: Array
    grid_tau: int
    scores: Array
    sums: Array
    sizes: Array
    num_resamples: int = 10_000
    resamples_per_step: int = 1_000
    name: str = "bootstrap"
    num_shards: int = 2

    @property
    def num_steps(self) -> int:
        return -(-self.num_resamples // (self.resamples_per_step * self.num_shards))

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        counts = resample_counts(self.resamples_per_step, len(self.sizes), key.generator())
        w, tau, r = best_over_tau(counts @ self.moments)
        r_scores, r_se = correlations(counts, self.scores)
        means, means_se = ratio_means(counts, self.sums, self.sizes)
        grid_r = pearson(counts @ self.moments[self.grid_tau], self.grid)
        drawn = Resamples(w, tau, r, grid_r, r_scores, r_se, means, means_se)
        # Nine digits of a resample are far below its Monte Carlo error; the estimates keep all.
        return state, {
            k: v.astype(np.float32) if v.dtype == np.float64 else v
            for k, v in drawn._asdict().items()
        }

    def result(self, samples: list[list[Samples]]) -> Resamples:
        flat = [s for shard in samples for s in shard]
        return Resamples(*(np.concatenate([s[k] for s in flat]) for k in Resamples._fields))


def best_over_tau(moments: Float[Array, "taus *batch packed"]) -> tuple[Array, Array, Array]:
    """The exact optimum at the best decay time: weights ``[*batch, d]``, index of τ, r."""
    w, r, _ = simplex_optimum(covariances(moments))
    tau = np.asarray(r.argmax(axis=0))
    chosen = np.take_along_axis(w, tau[None, ..., None], axis=0)[0]
    return chosen, tau, np.asarray(r.max(axis=0))


class NullDistribution(NamedTuple):
    """What chance gives: the largest r of every draw, and the one observed."""

    largest_r: Array
    observed: float

    @property
    def p_value(self) -> float:
        """One-sided, corrected for everything that the maximum was taken over; never zero."""
        return p_value(self.largest_r, self.observed, identity_in_null=False)


@dataclass(frozen=True, kw_only=True)
class GroupTest(Stateless):
    """The largest correlation over everything searched, under random elements of a group.

    The group is a product over clusters: rotations of a cluster's labels, or the sign of its
    covariance. Everything: all weights on the simplex (the exact optimum is refitted under every
    element) at every decay time, which includes every grid. One-sided: weights are not negative,
    so the claim is of a positive correlation.

    Args:
        products: For each cluster, Xᵀy under all elements of its group, the identity first,
            ``[elements, columns]``, stacked.
        starts: ``[clusters + 1]``: where each cluster's elements start.
        columns: For each decay time, which columns are its signals, ``[taus, d]``.
        S: Covariance of the signals for each decay time, ``[taus, d, d]``.
        s: Variance of the labels.
        num_rows: n, the divisor of the covariances.
    """

    products: Array
    starts: Array
    columns: Array
    S: Array
    s: float
    num_rows: int
    num_permutations: int = 100_000
    permutations_per_step: int = 10_000
    name: str = "permutation"
    num_shards: int = 2

    @property
    def num_steps(self) -> int:
        return -(-self.num_permutations // (self.permutations_per_step * self.num_shards))

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        elements = np.split(self.products, self.starts[1:-1])
        drawn = draw_elements(elements, self.permutations_per_step, key.generator())
        return state, {"largest_r": self.largest(drawn)}

    def largest(self, products: Float[Array, "draws columns"]) -> Float[Array, " draws"]:
        """max over τ and the simplex of r, for each Xᵀy."""
        b = products / self.num_rows
        each = [
            fixed_optimum(S, b[:, c], self.s) for S, c in zip(self.S, self.columns, strict=True)
        ]
        return np.max(each, axis=0)

    def result(self, samples: list[list[Samples]]) -> NullDistribution:
        identity = self.products[self.starts[:-1]].sum(axis=0, keepdims=True)
        return NullDistribution(
            largest_r=np.concatenate([s["largest_r"] for shard in samples for s in shard]),
            observed=float(self.largest(identity)[0]),
        )

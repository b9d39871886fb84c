"""How much of a truth any function of given signals could explain, from nearest neighbours.

Notation: rows (x, y), signals x ∈ ℝᵈ, truth y ∈ {0, 1}, π = P(y = 1), m(x) = P(y = 1 | x). The
largest correlation of any function of x with y is the correlation ratio

    η = √(Var m(X) / Var y),   reached by m itself.

Let N_k(i) be the k-th nearest row to row i among the rows of *other* groups of conversations. The
labels of i and N_k(i) are independent given x, so E[y_i y_N] = E[m(X_i) m(X_N)] → E[m(X)²], and

    η² = (q − π)/(1 − π),   q = lim P(y_N = 1 | y_i = 1) as the distance goes to 0.

Only the rows with y = 1 need neighbours. This is an **estimate under smoothness, not an upper
bound**. With m Lipschitz (constant L) the error of q is at most L·E[‖X − X_N‖ | y = 1], of either
sign. Where X_N is distributed as X, E[m m_N] = E[m²] − ½E[(m − m_N)²]: the error is then downward
and, with m differentiable, of the second order in the distance. So q is followed over the ranks
k = 1 … K, and the line in the mean of (distance at rank k)^p is taken to distance 0: p = 2 where m
is twice differentiable at the scale of these distances, p = 1 where it is only Lipschitz. On
planted truths p = 2 came out low, and p = 1 about right or high.

Source: Devroye, Györfi, Lugosi and Walk, A nearest neighbor estimate of the residual variance
(Electronic Journal of Statistics 2018); Evans and Jones, Non-parametric estimation of residual
moments and covariance (Proceedings of the Royal Society A 2008). The neighbour of another
conversation, in place of any neighbour, is ours: labels within a conversation depend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special
from scipy.spatial import KDTree

from leray.evidence.bootstrap import Interval, jackknife_t_ends
from leray.evidence.resampling import RandomKey, Samples, Stateless

Array = np.ndarray
REFUSED_BEYOND = 0.15
"""Nearest neighbours further apart than this share of what two random rows are: no estimate.

Set on planted truths: up to it the two extrapolations stand within about 10% of η; with 50,000
rows and normal signals d = 5 passes (0.13) and d = 6 does not (0.17).
"""
_AT_ONCE = 4_096  # positives whose neighbours are sorted together
_EXTRA = 32  # own-conversation neighbours looked at beyond K, since rows of one query are left out


class Neighbours(NamedTuple):
    """The K nearest rows of every positive, in each other group and in its own conversation.

    ``distance, label [groups, positives, K]``: inf and False where there is none, and in the
    positive's own group; ``own_distance, own_label [positives, K]``: of its own conversation, but
    of another query.
    """

    distance: Array
    label: Array
    own_distance: Array
    own_label: Array


@dataclass(frozen=True, kw_only=True)
class NeighbourSearch(Stateless):
    """The neighbours of all positives; a shard is a group of conversations, whose tree it builds.

    Args:
        z: The signals in a common unit (see :func:`normal_scores`), ``[rows, d]``.
        y: The truth, ``[rows]``.
        conversation, query: Of each row.
        group: Of each conversation.
        num_neighbours: K.

    Result: :class:`Neighbours`, positives in the order of the rows.

    Cost: positives × groups × (log rows + K) for small d; every row is looked at from d ≈ 10 on.
    """

    z: Float[Array, "rows d"]
    y: Bool[Array, " rows"]
    conversation: Int[Array, " rows"]
    query: Int[Array, " rows"]
    group: Int[Array, " conversations"]
    num_neighbours: int = 64
    name: str = "ceiling-neighbours"
    num_steps: int = 1

    @property
    def num_shards(self) -> int:
        return int(self.group.max()) + 1

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        return {"group": shard}

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Samples]:
        positives = np.flatnonzero(self.y)
        mine = self.group[self.conversation[positives]] == state["group"]
        rows = np.flatnonzero(self.group[self.conversation] == state["group"])
        distance, row = _nearest(self.z, rows, positives[~mine], self.num_neighbours)
        own_distance, own_label = self._own(positives[mine])
        return state, {
            "distance": distance.astype(np.float32),
            "label": self.y[row] & np.isfinite(distance),
            "own_distance": own_distance.astype(np.float32),
            "own_label": own_label,
        }

    def _own(self, positives: Array) -> tuple[Array, Array]:
        """The K nearest rows of each positive in its conversation, not of its query."""
        K = self.num_neighbours
        distance = np.full((len(positives), K), np.inf)
        label = np.zeros((len(positives), K), bool)
        for c in np.unique(self.conversation[positives]):
            here = np.flatnonzero(self.conversation[positives] == c)
            rows = np.flatnonzero(self.conversation == c)
            far, row = _nearest(self.z, rows, positives[here], K + _EXTRA)
            far[self.query[row] == self.query[positives[here], None]] = np.inf
            order = np.argsort(far, axis=1, kind="stable")[:, :K]
            distance[here] = np.take_along_axis(far, order, axis=1)
            label[here] = self.y[np.take_along_axis(row, order, axis=1)]
        return distance, label & np.isfinite(distance)

    def result(self, samples: list[list[Samples]]) -> Neighbours:
        group = self.group[self.conversation[np.flatnonzero(self.y)]]
        shape = (self.num_shards, len(group), self.num_neighbours)
        found = Neighbours(
            np.full(shape, np.inf, np.float32),
            np.zeros(shape, bool),
            np.full(shape[1:], np.inf, np.float32),
            np.zeros(shape[1:], bool),
        )
        for g, (part,) in enumerate(samples):
            found.distance[g, group != g] = part["distance"]
            found.label[g, group != g] = part["label"]
            found.own_distance[group == g] = part["own_distance"]
            found.own_label[group == g] = part["own_label"]
        return found


def normal_scores(x: Float[Array, "rows d"]) -> Float[Array, "rows d"]:
    """Φ⁻¹ of each signal's rank share, (rank − ½)/n with tied ranks averaged, float32.

    The estimate then depends on the order of each signal only, not on its unit or its scale.
    A constant signal becomes 0.
    """
    n = len(x)
    z = np.empty(x.shape, np.float32)
    for j in range(x.shape[1]):
        order = np.argsort(x[:, j])
        ordered = x[order, j]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        sizes = np.diff(np.append(starts, n))
        z[order, j] = np.repeat(special.ndtri((starts + sizes / 2) / n), sizes)
    return z


def relative_reach(
    z: Float[Array, "rows d"],
    y: Bool[Array, " rows"],
    group: Int[Array, " rows"],
    num_positives: int = 100,
) -> float:
    """How far the nearest row of another group is, as a share of how far two random rows are.

    mean ‖z_i − z_N(i)‖ / √(2 Σ_j var z_j), over positives spread evenly; 0 is touching, and near 1
    nothing is near: in high dimension every row is about as far as any other.

    Args:
        z: The signals in a common unit.
        y: The truth.
        group: The group of each row.
        num_positives: So many positives at most are looked at.

    Cost: num_positives · rows · d.
    """
    positives = np.flatnonzero(y)
    some = positives[
        np.linspace(0, len(positives) - 1, min(num_positives, len(positives)), dtype=int)
    ]
    nearest = np.full(len(some), np.inf)
    for g in np.unique(group):
        rows, others = z[group == g], group[some] != g
        squares = np.einsum("rd,rd->r", rows, rows)
        far = (
            squares
            - 2 * z[some[others]] @ rows.T
            + np.einsum("rd,rd->r", *2 * [z[some[others]]])[:, None]
        )
        nearest[others] = np.minimum(nearest[others], np.maximum(far.min(axis=1), 0.0))
    apart = np.sqrt(2 * z.var(axis=0, dtype=np.float64).sum())
    return float(np.sqrt(nearest).mean() / apart) if apart > 0 else 0.0


class Profile(NamedTuple):
    """By rank of the neighbour, over all groups and then without each, ``[1 + groups, K]``.

    ``rate``: the share of the k-th neighbours of positives that are positive; ``distance``,
    ``squared``: the mean distance and squared distance to them. ``base [1 + groups]``: π.
    """

    rate: Array
    distance: Array
    squared: Array
    base: Array


def other_profile(found: Neighbours, group: Int[Array, " positives"], base: Array) -> Profile:
    """What the neighbours in other groups are; a group left out is left out as neighbour too.

    Args:
        found: The neighbours.
        group: The group of each positive.
        base: π over all rows, then without each group.
    """
    G, P, K = found.distance.shape
    sums = np.zeros((1 + G, 4, K))
    for start in range(0, P, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        far = np.concatenate(found.distance[:, some], axis=1)
        label = np.concatenate(found.label[:, some], axis=1)
        # At most K of the nearest 2K are of one group: without it, K are left.
        order = np.argsort(far, axis=1, kind="stable")[:, : 2 * K]
        far, label = (np.take_along_axis(v, order, axis=1) for v in (far, label))
        for without in range(-1, G):
            first = np.argsort(order // K == without, axis=1, kind="stable")[:, :K]
            positives = group[some] != without
            chosen = (np.take_along_axis(v, first, axis=1)[positives] for v in (far, label))
            sums[1 + without] += _sums_by_rank(*chosen)
    return _profile(sums, base)


def own_profile(found: Neighbours, group: Int[Array, " positives"], base: Array) -> Profile:
    """What the neighbours in the same conversation are, of other queries.

    Labels within a conversation may depend given x (one turn answers several questions), so this
    tells of E[P(y | x, conversation)²]: what a function that knew the conversation could reach.
    """
    sums = [
        _sums_by_rank(found.own_distance[group != g], found.own_label[group != g])
        for g in range(-1, len(found.distance))
    ]
    return _profile(np.stack(sums), base)


def base_rates(y: Array, group: Array) -> Array:
    """π over all rows, then without each group, ``[1 + groups]``."""
    rows, positives = np.bincount(group), np.bincount(group, weights=y)
    return np.append(y.mean(), (positives.sum() - positives) / (rows.sum() - rows))


def correlation_ratio(rate: Array, base: Array) -> Array:
    """η = √((q − π)/(1 − π)); 0 where neighbours of positives are no likelier than any row."""
    return np.sqrt(np.maximum((rate - base) / (1 - base), 0.0))


def at_rank(profile: Profile, k: int) -> Float[Array, " replicates"]:
    """η from the mean over the first k neighbours, no extrapolation: low where m is smooth."""
    return correlation_ratio(profile.rate[:, :k].mean(axis=1), profile.base)


def at_distance_zero(profile: Profile, power: int) -> Float[Array, " replicates"]:
    """η from the intercept of the least-squares line of rate_k on the mean distance_k^power.

    Args:
        profile: By rank.
        power: 1 (m Lipschitz) or 2 (m twice differentiable).

    Raises:
        ValueError: for another power.
    """
    if power not in (1, 2):
        raise ValueError(f"power is {power}; allowed: 1 (Lipschitz) or 2 (twice differentiable)")
    h = profile.distance if power == 1 else profile.squared
    centred = h - h.mean(axis=1, keepdims=True)
    spread = (centred**2).sum(axis=1)
    slope = (centred * profile.rate).sum(axis=1) / np.where(spread > 0, spread, 1.0)
    return correlation_ratio(profile.rate.mean(axis=1) - slope * h.mean(axis=1), profile.base)


def thinned(profile: Profile, share: float) -> Float[Array, " replicates"]:
    """η from the nearest neighbour when each row is kept with this probability.

    The nearest that is left is the k-th of all with probability s(1−s)^(k−1), so that the smaller
    sample needs no drawing; renormalised over the K ranks.
    """
    weights = share * (1 - share) ** np.arange(profile.rate.shape[1])
    return correlation_ratio(profile.rate @ (weights / weights.sum()), profile.base)


def group_jackknife(
    replicates: Float[Array, " replicates"], level: float, num_clusters: int
) -> Interval:
    """jackknife-t from an estimate followed by its values without each group.

    For η no transform is needed: its square is a share of counts, and the root of a count has a
    nearly constant variance.
    """
    (low,), (high,) = jackknife_t_ends(replicates[:1], replicates[1:, None], level)
    return Interval(
        estimate=float(replicates[0]), low=float(low), high=float(high), level=level,
        kind="jackknife-t", n=num_clusters,
    )  # fmt: skip


def _sums_by_rank(distance: Array, label: Array) -> Float[Array, "4 K"]:
    """Over positives at each rank: how many have that neighbour; label, distance, its square."""
    has = np.isfinite(distance)
    far = np.where(has, distance, 0.0).astype(np.float64)
    return np.stack([v.sum(axis=0) for v in (has, label, far, far**2)]).astype(np.float64)


def _profile(sums: Float[Array, "replicates 4 K"], base: Array) -> Profile:
    """Means over the positives that have a neighbour of the rank."""
    num, label, distance, squared = np.moveaxis(sums, 1, 0)
    num = np.maximum(num, 1)
    return Profile(label / num, distance / num, squared / num, base)


def _nearest(z: Array, rows: Array, queries: Array, k: int) -> tuple[Array, Array]:
    """Distances and rows of the k nearest of ``rows`` to each query row; inf where there is none.

    float64 ``[queries, k]`` and the indices of rows.
    """
    kept = min(k, len(rows))
    distance = np.full((len(queries), k), np.inf)
    row = np.zeros((len(queries), k), np.int64)
    if len(queries) and kept:
        tree = KDTree(z[rows], balanced_tree=False, compact_nodes=False)
        far, place = tree.query(z[queries], k=kept)
        shape = (len(queries), kept)
        distance[:, :kept], row[:, :kept] = np.reshape(far, shape), rows[np.reshape(place, shape)]
    return distance, row

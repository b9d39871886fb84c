"""Planted conversations: data like those of the importance study, with a truth that is known.

A conversation c has one to five queries, each looking back on T turns. For query q and turn t

    x_qt = L z_qt,                                LLᵀ = R
    y_qt = a_c + (β + b_c)·x_qt + σ_e e_qt,       a_c ~ N(0, σ_a²), b_cj ~ N(0, σ_bj²)

where every coordinate of z and e is an AR(1) along the turns with variance 1, and a part of it
(the share ``shared`` of its variance) is the same for all queries of the conversation. So rows
depend on their neighbours, on the other queries, and through intercept *and* slope on the
conversation: all that a row-wise interval denies. The relevant turns of a query are the
``num_relevant`` with the largest y.

Every row has the law of a single draw, so the pooled covariances are known:

    S = R,   b = Rβ,   s = σ_a² + βᵀRβ + Σ_j R_jj σ_bj² + σ_e²

(slope deviations are independent of each other, so R's off-diagonal drops out of their part), and
with them Pearson's r of any weights and the best weights.

Notation: d signals, C conversations, Q queries, T turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.signal import lfilter

from leray.evidence.moments import Array, Covariances, pack, unpack
from leray.evidence.optimum import simplex_optimum
from leray.memory.retrieval import METRICS, query_metrics

MAX_QUERIES = 5
_NDCG = METRICS.index("ndcg_10")


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """The law that planted conversations are drawn from.

    Args:
        correlation: R, the covariance of the signals in a row, ``[d, d]``, positive definite.
        slopes: β, ``[d]``.
        slope_sd: σ_b, by how much each slope varies between conversations, ``[d]``.
        intercept_sd: σ_a.
        noise_sd: σ_e.
        rho: The AR(1) coefficient along the turns, in [0, 1).
        shared: The share of the variance of z and e that the queries of a conversation have in
            common, in [0, 1].
        num_turns: T.
        num_relevant: Relevant turns of a query.
    """

    correlation: Float[Array, "d d"]
    slopes: Float[Array, " d"]
    slope_sd: Float[Array, " d"]
    intercept_sd: float = 0.3
    noise_sd: float = 1.0
    rho: float = 0.8
    shared: float = 0.36
    num_turns: int = 50
    num_relevant: int = 3

    def __post_init__(self) -> None:
        d = len(self.slopes)
        if self.correlation.shape != (d, d) or self.slope_sd.shape != (d,):
            raise ValueError(
                f"{d} slopes need a correlation of shape {(d, d)} and slope_sd of shape {(d,)}; "
                f"got {self.correlation.shape} and {self.slope_sd.shape}"
            )
        if not (0 <= self.rho < 1 and 0 <= self.shared <= 1):
            raise ValueError(
                f"rho must be in [0, 1) and shared in [0, 1]: {self.rho}, {self.shared}"
            )
        if not 0 < self.num_relevant < self.num_turns // 4:
            raise ValueError(
                f"num_relevant must be in 1 .. {self.num_turns // 4 - 1}, fewer than a quarter of "
                f"the turns; got {self.num_relevant}"
            )

    @property
    def covariances(self) -> Covariances:
        """S, b and s of a row, in closed form."""
        R, beta = self.correlation, self.slopes
        explained = beta @ R @ beta + np.diagonal(R) @ self.slope_sd**2
        s = self.intercept_sd**2 + explained + self.noise_sd**2
        return Covariances(R, R @ beta, np.asarray(s))

    @property
    def optimum(self) -> Float[Array, " d"]:
        """The weights on the simplex with the largest r."""
        return simplex_optimum(self.covariances).w

    def pearson(self, weights: Float[Array, " d"]) -> float:
        """The population's r between weights·x and y."""
        S, b, s = self.covariances
        return float(weights @ b / np.sqrt(weights @ S @ weights * s))


def planted_optimum(
    population: Population, weights: Float[Array, " d"], gap: Float[Array, " d"], strength: float
) -> Population:
    """The population with slopes such that its best weights are the ones given.

    With z = strength · w and b = Rz − gap, the conditions of optimality (zero slope where
    w_j > 0, slope −gap_j where w_j = 0) hold by construction: β = z − R⁻¹ gap.

    Args:
        population: Everything but the slopes.
        weights: On the simplex.
        gap: Not negative, positive only where the weight is 0: how far from entering it is.
        strength: Σz.
    """
    if (gap < 0).any() or (gap[weights > 0] != 0).any():
        raise ValueError("a gap is not negative, and positive only where the weight is 0")
    slopes = strength * weights - np.linalg.solve(population.correlation, gap)
    return replace(population, slopes=slopes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """A data set: lists stand in rectangles of T turns, of which query q has the first lengths[q].

    Args:
        x: Signals, ``[Q, d, T]``.
        y: Truth, ``[Q, T]``.
        lengths: How many turns each query looks back on.
        starts: Where each conversation's queries begin, ``[C]``; they stand together.
        num_relevant: Relevant turns of a query.
    """

    x: Float[Array, "queries d turns"]
    y: Float[Array, "queries turns"]
    lengths: Int[Array, " queries"]
    starts: Int[Array, " clusters"]
    num_relevant: int

    @property
    def seen(self) -> Bool[Array, "queries turns"]:
        """Which places of the rectangle are rows."""
        return np.arange(self.y.shape[1]) < self.lengths[:, None]

    @property
    def offsets(self) -> Int[Array, " _"]:
        """Where each query's rows begin, ``[Q + 1]``."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @property
    def sizes(self) -> Float[Array, " clusters"]:
        """Queries in each conversation."""
        return np.diff(np.append(self.starts, len(self.lengths))).astype(np.float64)

    @property
    def relevant(self) -> Bool[Array, "queries turns"]:
        """The turns with the largest y of each query."""
        y = np.where(self.seen, self.y, -np.inf)
        k = y.shape[1] - self.num_relevant
        return y >= np.partition(y, k, axis=1)[:, k, None]

    def conversations(self) -> list[range]:
        """The queries of each conversation."""
        stops = np.append(self.starts[1:], len(self.lengths))
        return [range(a, b) for a, b in zip(self.starts, stops, strict=True)]

    def rows(self) -> tuple[Float[Array, "d rows"], Float[Array, " rows"]]:
        """All rows, query after query: x and y."""
        return np.moveaxis(self.x, 1, 0)[:, self.seen], self.y[self.seen]

    def moments(self) -> Float[Array, "clusters packed"]:
        """Packed sums of (1, x, y) by conversation, about the origin 0."""
        ones = np.ones_like(self.y)[:, None]
        v = np.concatenate([ones, self.x, self.y[:, None]], axis=1) * self.seen[:, None]
        return np.add.reduceat(pack(v @ v.transpose(0, 2, 1)), self.starts, axis=0)

    def ndcg(self, weights: Float[Array, " d"]) -> Float[Array, " clusters"]:
        """nDCG@10 of weights·x, summed over the queries of each conversation."""
        scores = np.einsum("j,qjt->qt", weights, self.x)[self.seen]
        each = query_metrics(scores, self.relevant[self.seen], self.offsets)[:, _NDCG]
        return np.add.reduceat(each, self.starts)


def draw(population: Population, num_clusters: int, rng: np.random.Generator) -> Planted:
    """A data set of C conversations.

    Cost: about 25 microseconds a conversation with four signals and 50 turns.
    """
    p, d, C = population, len(population.slopes), num_clusters
    num_queries = rng.integers(1, MAX_QUERIES + 1, C)
    cluster = np.repeat(np.arange(C), num_queries)
    Q = len(cluster)
    common = autoregression((C, d + 1, p.num_turns), p.rho, rng)[cluster]
    own = autoregression((Q, d + 1, p.num_turns), p.rho, rng)
    z = np.sqrt(p.shared) * common + np.sqrt(1 - p.shared) * own
    x = np.linalg.cholesky(p.correlation) @ z[:, :d]
    slopes = p.slopes + p.slope_sd * rng.standard_normal((C, d))
    intercepts = p.intercept_sd * rng.standard_normal(C)
    y = intercepts[cluster, None] + np.einsum("qj,qjt->qt", slopes[cluster], x)
    return Planted(
        x=x,
        y=y + p.noise_sd * z[:, d],
        lengths=np.full(Q, p.num_turns),
        starts=np.cumsum(num_queries) - num_queries,
        num_relevant=p.num_relevant,
    )


def grown(planted: Planted, rng: np.random.Generator) -> Planted:
    """The same conversations with growing lists, as with callbacks: a query sees what came before.

    Every query is asked at a random turn from T/4 to T, independently of everything.
    """
    T = planted.y.shape[1]
    return replace(planted, lengths=rng.integers(T // 4, T + 1, len(planted.lengths)))


def autoregression(
    shape: tuple[int, ...], rho: float, rng: np.random.Generator
) -> Float[Array, "*shape"]:
    """Stationary AR(1) series of variance 1 along the last axis: u_t = ρ u_{t−1} + √(1−ρ²) ε_t."""
    innovations = rng.standard_normal(shape)
    innovations[..., 1:] *= np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], innovations, axis=-1))


def score_moments(
    moments: Float[Array, "clusters packed"], weights: Float[Array, " d"]
) -> Float[Array, "clusters 6"]:
    """Packed moments of (1, weights·x, y) from those of (1, x, y): A M Aᵀ."""
    d = len(weights)
    A = np.zeros((3, d + 2))
    A[0, 0] = A[2, -1] = 1.0
    A[1, 1:-1] = weights
    return pack(A @ unpack(moments) @ A.T)

"""What a simulation by Monte Carlo says: streamed moments, intervals, effects, power, convergence.

Independent units (conversations) i = 1 … n have outcomes u_i in R^C. What streams is (n, mean, M2)
with M2 = Σ (u_i − ū)(u_i − ū)ᵀ, and two such triples merge exactly, so the order and the number of
pieces matter only to rounding. Functions of the outcomes that are not means are estimated from
batches of units: by the jackknife over batches, with Student's t.

Source: Chan, Golub and LeVeque (American Statistician 1983) for merging; Cohen, Statistical Power
Analysis (1988) for d and power; Glynn and Iglehart (1990) for batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from leray.evidence.bootstrap import Interval, jackknife_se, resample_counts
from leray.evidence.moments import covariances
from leray.evidence.optimum import simplex_optimum
from leray.evidence.resampling import RandomKey, Samples, Stateless

Array = np.ndarray
_LARGE = 20_000  # from so many units on, Student's t is taken as normal in a power


@dataclass(frozen=True, slots=True)
class Running:
    """n units, the mean ``[C]`` of their outcomes and M2 ``[C, C]``."""

    n: int
    mean: Float[Array, " outcomes"]
    M2: Float[Array, "outcomes outcomes"]

    @classmethod
    def of(cls, outcomes: Float[Array, "units outcomes"]) -> Running:
        """Of at least one unit. Cost: units · C²/2 multiplications."""
        mean = outcomes.mean(axis=0)
        centred = outcomes - mean
        return cls(len(outcomes), mean, centred.T @ centred)

    def merge(self, other: Running) -> Running:
        """Both together: M2 + M2' + δδᵀ n n'/(n + n'), δ = mean' − mean."""
        n = self.n + other.n
        step = other.mean - self.mean
        M2 = self.M2 + other.M2 + np.outer(step, step) * (self.n * other.n / n)
        return Running(n, self.mean + step * (other.n / n), M2)

    @property
    def covariance(self) -> Float[Array, "outcomes outcomes"]:
        """M2/(n − 1)."""
        return self.M2 / (self.n - 1)

    @property
    def sd(self) -> Float[Array, " outcomes"]:
        """The standard deviation over units."""
        return np.sqrt(np.diagonal(self.covariance))

    def interval(self, outcome: int, level: float) -> Interval:
        """The mean ± t se, se = sd/√n."""
        half = special.stdtrit(self.n - 1, (1 + level) / 2) * self.sd[outcome] / math.sqrt(self.n)
        return _around(float(self.mean[outcome]), float(half), level, "normal", self.n)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What is kept of a simulation of conversations; B batches, C outcomes, p small studies.

    Outcomes stand in the order: r of K configurations, r of m methods, nDCG@10 of m methods.

    Args:
        total: Of all conversations.
        counts: ``[B]``.
        means, squares: The batches' means and diagonals of M2, ``[B, C]``.
        moments: The batches' packed sums of (1, x, y) over all turns, ``[B, 21]``.
        prefixes: Sizes of the small studies.
        prefix_means, prefix_products: Mean and M2 of the methods' 2m outcomes over a batch's first
            conversations, ``[B, p, 2m]`` and ``[B, p, 2m, 2m]``.
    """

    num_configurations: int
    num_methods: int
    total: Running
    counts: Array
    means: Array
    squares: Array
    moments: Array
    prefixes: tuple[int, ...]
    prefix_means: Array
    prefix_products: Array

    @property
    def r(self) -> slice:
        """Where the methods' r stand among the outcomes."""
        return slice(self.num_configurations, self.num_configurations + self.num_methods)

    @property
    def ndcg(self) -> slice:
        """Where the methods' nDCG@10 stand among the outcomes."""
        return slice(self.r.stop, self.r.stop + self.num_methods)


class Effect(NamedTuple):
    """A paired difference: its mean, sd over units, and d = mean/sd with its standard error.

    d is Cohen's d for paired samples (d_z): by how many standard deviations *of the difference
    between two scores on the same conversation* they differ. It describes the population that
    the units are drawn from, here a generator, and does not grow with n; se(d) = √(1/n + d²/2n).
    """

    mean: float
    sd: float
    d: float
    d_se: float
    n: int


def paired_effect(running: Running, a: int, b: int) -> Effect:
    """Outcome a minus outcome b."""
    S = running.covariance
    mean = float(running.mean[a] - running.mean[b])
    sd = math.sqrt(max(float(S[a, a] + S[b, b] - 2 * S[a, b]), 0.0))
    d = mean / sd if sd > 0 else 0.0
    return Effect(mean, sd, d, math.sqrt((1 + d * d / 2) / running.n), running.n)


def paired_power(d: float, n: int, alpha: float) -> float:
    """The chance that a two-sided paired t test of n units rejects at level α, normal differences.

    t has the non-central distribution with n − 1 degrees and non-centrality d√n.

    >>> round(paired_power(0.5, 34, 0.05), 3)
    0.808
    """
    shift = abs(d) * math.sqrt(n)
    if n >= _LARGE:
        q = float(special.ndtri(1 - alpha / 2))
        return float(special.ndtr(shift - q) + special.ndtr(-shift - q))
    q = float(special.stdtrit(n - 1, 1 - alpha / 2))
    if n > 100 and shift > q + 10:  # so far out that the library's series fails
        return 1.0
    above = 1 - float(special.nctdtr(n - 1, shift, q))
    # Rejecting on the wrong side asks for a normal draw below −shift.
    return above + (float(special.nctdtr(n - 1, shift, -q)) if shift < 6 else 0.0)


def num_for_power(d: float, power: float, alpha: float) -> int | None:
    """The smallest n ≥ 2 whose power is at least ``power``; None for d = 0 or beyond 10¹²."""
    low, high = 1, 2
    while paired_power(d, high, alpha) < power:
        low, high = high, 2 * high
        if high > 10**12:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if paired_power(d, middle, alpha) < power:
            low = middle
        else:
            high = middle
    return high


class SmallStudies(NamedTuple):
    """How often separate studies of n units rejected "no difference", and held the true one.

    ``rejected`` and ``covered`` count studies out of ``num_studies``.
    """

    n: int
    num_studies: int
    rejected: int
    covered: int


def small_studies(simulated: Simulated, a: int, b: int, level: float) -> list[SmallStudies]:
    """Paired t tests of a − b in the first conversations of every batch; a, b count methods' rows.

    The "true" difference is that of all conversations together. ``a`` and ``b`` index the 2m
    outcomes of the methods (r, then nDCG).
    """
    shift = simulated.num_configurations
    truth = simulated.total.mean[shift + a] - simulated.total.mean[shift + b]
    found = []
    for k, n in enumerate(simulated.prefixes):
        mean = simulated.prefix_means[:, k, a] - simulated.prefix_means[:, k, b]
        M2 = simulated.prefix_products[:, k]
        square = M2[:, a, a] + M2[:, b, b] - 2 * M2[:, a, b]
        half = special.stdtrit(n - 1, (1 + level) / 2) * np.sqrt(square / (n - 1) / n)
        found.append(
            SmallStudies(
                n, len(mean), int((np.abs(mean) > half).sum()),
                int((np.abs(mean - truth) <= half).sum()),
            )
        )  # fmt: skip
    return found


class Convergence(NamedTuple):
    """The estimate after n units, and its half-width z·sd/√n."""

    n: int
    estimate: float
    half_width: float


def convergence(
    simulated: Simulated, outcome: int, sizes: tuple[int, ...], level: float
) -> list[Convergence]:
    """The running mean of one of the methods' 2m outcomes, at about the sizes that are asked.

    Below a batch from the first batch's small studies, above from whole batches, so a size is the
    next one that was kept.
    """
    column = simulated.num_configurations + outcome
    ends = np.cumsum(simulated.counts)
    rows = {
        n: (float(simulated.prefix_means[0, k, outcome]),
            float(simulated.prefix_products[0, k, outcome, outcome]))
        for k, n in enumerate(simulated.prefixes)
    }  # fmt: skip
    large = [n for n in sizes if max(simulated.prefixes, default=0) < n <= ends[-1]]
    for B in sorted({int(np.searchsorted(ends, n)) + 1 for n in large}):
        merged = _merge_batches(simulated, column, B)
        rows.setdefault(int(ends[B - 1]), merged)
    z = float(special.ndtri((1 + level) / 2))
    return [
        Convergence(n, mean, z * math.sqrt(M2 / (n - 1) / n))
        for n, (mean, M2) in sorted(rows.items())
    ]


def _merge_batches(simulated: Simulated, column: int, B: int) -> tuple[float, float]:
    count, means = simulated.counts[:B], simulated.means[:B, column]
    mean = float(count @ means / count.sum())
    M2 = simulated.squares[:B, column].sum() + count @ (means - mean) ** 2
    return mean, float(M2)


def batch_jackknife(
    statistic: Callable[[Array], Array], sums: Float[Array, "batches k"], n: int, level: float
) -> Interval:
    """A smooth function of sums over independent batches: θ ± t_{B−1} se, se by the jackknife.

    Args:
        statistic: From sums ``[n, k]`` to values ``[n]``.
        sums: A batch a row.
        n: How many units all batches hold.
    """
    total = sums.sum(axis=0)
    se = float(jackknife_se(statistic(total - sums)[:, None])[0])
    B = len(sums)
    half = float(special.stdtrit(B - 1, (1 + level) / 2)) * se
    kind = f"jackknife-t over {B} batches"
    return _around(float(statistic(total[None])[0]), half, level, kind, n)


@dataclass(frozen=True, kw_only=True)
class BatchBootstrap(Stateless):
    """Batches drawn with replacement, the exact optimum refitted in each resample.

    Args:
        moments: The batches' packed sums, ``[B, packed]``.

    Result: the weights, ``[num_resamples or a few more, d]``.
    """

    moments: Array
    num_resamples: int = 2_000
    name: str = "monte carlo weights"
    num_shards: int = 2
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        size = -(-self.num_resamples // (self.num_shards * self.num_steps))
        counts = resample_counts(size, len(self.moments), key.generator())
        return state, {"weights": simplex_optimum(covariances(counts @ self.moments)).w}

    def result(self, samples: list[list[Samples]]) -> Float[Array, "resamples d"]:
        return np.concatenate([s["weights"] for shard in samples for s in shard])


def largest_half_width(
    simulated: Simulated, *, num_units: int, inner_level: float, level: float
) -> Interval:
    """The largest half-width, over the K configurations, of an interval for a mean of units.

    h_k = z sd_k/√num_units. sd_k² is the mean of the batches' variances, and its error that of this
    mean; the K intervals are simultaneous (Bonferroni), so [max low_k, max high_k] holds max h_k.

    Args:
        num_units: Of the study that is spoken of, whatever was simulated.
        inner_level: Of the interval whose half-width it is.
        level: Of the interval that is returned.
    """
    K, B = simulated.num_configurations, len(simulated.counts)
    variances = simulated.squares[:, :K] / (simulated.counts - 1)[:, None]
    mean = variances.mean(axis=0)
    se = variances.std(axis=0, ddof=1) / math.sqrt(B)
    t = float(special.stdtrit(B - 1, 1 - (1 - level) / (2 * K)))
    z = float(special.ndtri((1 + inner_level) / 2))
    h, low, high = (
        float(np.sqrt(np.maximum(v, 0.0)).max()) * z / math.sqrt(num_units)
        for v in (mean, mean - t * se, mean + t * se)
    )
    kind = f"simultaneous over {K}, from {B} batches"
    return Interval(estimate=h, low=low, high=high, level=level, kind=kind, n=simulated.total.n)


def _around(estimate: float, half: float, level: float, kind: str, n: int) -> Interval:
    return Interval(
        estimate=estimate, low=estimate - half, high=estimate + half, level=level, kind=kind, n=n
    )

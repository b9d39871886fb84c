"""Do the intervals cover, and do the tests keep their level? Planted data sets, by the thousand.

Three computations under the step contract: the intervals of planted data sets by every kind, the
p-values of data sets without any signal, and the one truth that has no closed form. The naive
forms, which take rows for independent, are measured beside the others: how far they miss is what
resampling whole conversations is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from leray.evidence.bootstrap import (
    bca_ends,
    correlations,
    jackknife_se,
    jackknife_t_ends,
    leave_one_out,
    percentile_ends,
    ratio_means,
    resample_counts,
    studentised_ends,
    weight_intervals,
)
from leray.evidence.moments import Array, covariances, pack
from leray.evidence.optimum import simplex_optimum
from leray.evidence.permutation import sign_flip_test
from leray.evidence.resampling import Samples
from leray.memory.synthetic import Planted, Population, draw, grown, planted_optimum, score_moments
from leray.runs.seeds import Key
from leray.studies.null_tests import free_p_value, rotation_p_value, score_flip_p_value

CORRELATION = np.array(
    [[1.0, 0.2, 0.1, 0.0], [0.2, 1.0, 0.3, 0.1], [0.1, 0.3, 1.0, 0.2], [0.0, 0.1, 0.2, 1.0]]
)
SLOPES = np.array([0.15, 0.20, 0.30, 0.25])
INTERIOR = Population(correlation=CORRELATION, slopes=SLOPES, slope_sd=SLOPES / 2)
BOUNDARY = planted_optimum(
    replace(INTERIOR, slope_sd=np.array([0.05, 0.10, 0.15, 0.15])),
    weights=np.array([0.0, 0.03, 0.42, 0.55]),
    gap=np.array([0.05, 0.0, 0.0, 0.0]),
    strength=0.9,
)
NOTHING = replace(INTERIOR, slopes=np.zeros(4), slope_sd=np.zeros(4), num_turns=100)
EQUAL = replace(
    INTERIOR,
    correlation=np.full((4, 4), 0.2) + 0.8 * np.eye(4),
    slopes=np.array([0.20, 0.20, 0.30, 0.25]),
    slope_sd=np.array([0.10, 0.10, 0.15, 0.125]),
)
"""The first two signals can be exchanged, so weightings that exchange them are equally good."""
ONE = np.array([0.1, 0.6, 0.2, 0.1])
OTHER = np.array([0.0, 0.0, 1.0, 0.0])
"""The two fixed weightings that are compared; r is that of the first."""

MEAN_KINDS = ("percentile", "bca", "jackknife-t", "studentised")
WEIGHT_KINDS = ("percentile", "bca", "jackknife-t", "reported")
"""``reported``: what :func:`weight_intervals` gives, one-sided where a weight may be 0."""
ROW_KINDS = ("rows, Fisher z", "rows, bootstrap")
TESTS = (
    "rotations",
    "rotations, growing lists",
    "sign flips of X'y",
    "sign flips of X'y, growing lists",
    "paired sign flips of nDCG",
    "rows permuted freely",
)
ROWS_EVERY = 10  # the naive forms cost the most and miss by the most: one data set in ten shows it
_NO_SE = 1e-12


@dataclass(frozen=True, kw_only=True)
class PlantedIntervals:
    """95% intervals of many planted data sets, by every kind.

    Args:
        population: What is planted.
        num_clusters: C.
        with_scores: Also r and the difference of nDCG@10, not only the weights.
        num_datasets: A multiple of ``datasets_per_step``.
        num_resamples: B, of conversations (and of rows, for the naive form).

    Result, ends on the last axis: ``r``, ``ndcg [datasets, kinds, 2]`` in the order of
    ``MEAN_KINDS``; ``weights [datasets, kinds, d, 2]`` of ``WEIGHT_KINDS``, ``one_sided
    [datasets, d]``; ``rows [datasets, kinds, 2]`` of ``ROW_KINDS``, for every tenth data set.
    """

    population: Population
    num_clusters: int
    with_scores: bool
    num_datasets: int
    num_resamples: int = 600
    level: float = 0.95
    datasets_per_step: int = 50
    name: str = "intervals"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return -(-self.num_datasets // self.datasets_per_step)

    def init(self, shard: int, key: Key) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def step(self, state: dict[str, Any], step_index: int, key: Key) -> tuple[Any, Samples]:  # noqa: ARG002
        each = [self._dataset(k, key.child(k)) for k in range(self.datasets_per_step)]
        return state, _stacked(each)

    def result(self, samples: list[list[Samples]]) -> Samples:
        return _joined(samples)

    def _dataset(self, k: int, key: Key) -> Samples:
        rng = key.generator()
        planted = draw(self.population, self.num_clusters, rng)
        moments = planted.moments()
        counts = resample_counts(self.num_resamples, self.num_clusters, rng)
        weights, one_sided = _weight_ends(moments, counts, self.level)
        out = {"weights": weights, "one_sided": one_sided}
        if not self.with_scores:
            return out
        scores = score_moments(moments, ONE)[:, None]
        difference = (planted.ndcg(ONE) - planted.ndcg(OTHER))[:, None]
        out["r"] = _mean_ends(lambda n: correlations(n, scores), counts, self.level)
        out["ndcg"] = _mean_ends(
            lambda n: ratio_means(n, difference, planted.sizes), counts, self.level
        )
        if k % ROWS_EVERY == 0:
            out["rows"] = _row_ends(planted, self.num_resamples, self.level, rng)
        return out


@dataclass(frozen=True, kw_only=True)
class FalsePositives:
    """p-values of tests where nothing is there to be found; ``[datasets, tests]`` by ``TESTS``.

    The statistic of all but the paired test is the largest r over the simplex. Rows are permuted
    freely in every tenth data set only (elsewhere NaN).
    """

    population: Population
    num_clusters: int
    num_datasets: int
    num_permutations: int = 999
    datasets_per_step: int = 50
    name: str = "false positives"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return -(-self.num_datasets // self.datasets_per_step)

    def init(self, shard: int, key: Key) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def step(self, state: dict[str, Any], step_index: int, key: Key) -> tuple[Any, Samples]:  # noqa: ARG002
        each = [self._dataset(k, key.child(k)) for k in range(self.datasets_per_step)]
        return state, {"p": np.array(each)}

    def result(self, samples: list[list[Samples]]) -> Float[Array, "datasets tests"]:
        return _joined(samples)["p"]

    def _dataset(self, k: int, key: Key) -> list[float]:
        rng = key.generator()
        planted = draw(self.population, self.num_clusters, rng)
        growing = grown(planted, rng)
        m = self.num_permutations
        difference = (planted.ndcg(ONE) - planted.ndcg(OTHER))[:, None]
        return [
            rotation_p_value(planted, m, key.child("rotations")),
            rotation_p_value(growing, m, key.child("growing")),
            score_flip_p_value(planted, m, rng),
            score_flip_p_value(growing, m, rng),
            sign_flip_test(difference, m, rng)[0].p_value,
            free_p_value(planted, rng) if k % ROWS_EVERY == 0 else np.nan,
        ]


@dataclass(frozen=True, kw_only=True)
class EqualMethods:
    """p-values of paired sign flips between two methods that are equally good, ``[datasets]``.

    Both retrieve something, so that a difference of exactly 0 is rare. (Where nothing is to be
    found it is common, and with ten conversations too few signs are left to reach .05.)
    """

    num_clusters: int
    num_datasets: int
    population: Population = EQUAL
    num_permutations: int = 999
    datasets_per_step: int = 50
    name: str = "equal methods"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return -(-self.num_datasets // self.datasets_per_step)

    def init(self, shard: int, key: Key) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def step(self, state: dict[str, Any], step_index: int, key: Key) -> tuple[Any, Samples]:  # noqa: ARG002
        each = [self._dataset(key.child(k).generator()) for k in range(self.datasets_per_step)]
        return state, {"p": np.array(each)}

    def result(self, samples: list[list[Samples]]) -> Float[Array, " datasets"]:
        return _joined(samples)["p"]

    def _dataset(self, rng: np.random.Generator) -> float:
        planted = draw(self.population, self.num_clusters, rng)
        difference = (planted.ndcg(ONE) - planted.ndcg(ONE[[1, 0, 2, 3]]))[:, None]
        return sign_flip_test(difference, self.num_permutations, rng)[0].p_value


@dataclass(frozen=True, kw_only=True)
class PlantedDifference:
    """The population's difference of nDCG@10 between the two weightings, by brute force.

    Result: the ratio of means, and its own standard error.
    """

    population: Population
    num_clusters: int = 100_000
    clusters_per_step: int = 1_000
    name: str = "true difference"
    num_shards: int = 1

    @property
    def num_steps(self) -> int:
        return -(-self.num_clusters // self.clusters_per_step)

    def init(self, shard: int, key: Key) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def step(self, state: dict[str, Any], step_index: int, key: Key) -> tuple[Any, Samples]:  # noqa: ARG002
        planted = draw(self.population, self.clusters_per_step, key.generator())
        return state, {"sums": planted.ndcg(ONE) - planted.ndcg(OTHER), "sizes": planted.sizes}

    def result(self, samples: list[list[Samples]]) -> tuple[float, float]:
        all_of = _joined(samples)
        theta, se = ratio_means(
            np.ones(len(all_of["sizes"])), all_of["sums"][:, None], all_of["sizes"]
        )
        return float(theta[0]), float(se[0])


def _mean_ends(
    statistic: Callable[[Array], tuple[Array, Array]], counts: Array, level: float
) -> Float[Array, "kinds 2"]:
    """Every kind of interval for one statistic of weighted clusters."""
    C = counts.shape[1]
    (theta, _), (drawn, drawn_se) = statistic(np.ones(C)), statistic(counts)
    left_out, _ = statistic(1.0 - np.eye(C))
    pivots = (drawn - theta) / np.maximum(drawn_se, _NO_SE)
    ends = (
        percentile_ends(drawn, level),
        bca_ends(drawn, theta, left_out, level),
        jackknife_t_ends(theta, left_out, level),
        studentised_ends(pivots, theta, jackknife_se(left_out), level),
    )
    return np.array(ends)[:, :, 0]


def _weight_ends(
    moments: Float[Array, "clusters packed"], counts: Array, level: float
) -> tuple[Float[Array, "kinds d 2"], Bool[Array, " d"]]:
    """Every kind of interval for the fitted weights, and which are reported one-sided."""
    w, left_out, drawn = (
        simplex_optimum(covariances(m)).w
        for m in (moments.sum(axis=0), leave_one_out(moments), counts @ moments)
    )
    reported = weight_intervals(w, drawn, left_out, level)
    ends = (
        percentile_ends(drawn, level),
        bca_ends(drawn, w, left_out, level),
        jackknife_t_ends(w, left_out, level),
        ([i.low for i in reported], [i.high for i in reported]),
    )
    one_sided = np.array([i.kind in ("upper", "lower") for i in reported])
    return np.moveaxis(np.array(ends), 1, 2), one_sided


def _row_ends(
    planted: Planted, num_resamples: int, level: float, rng: np.random.Generator
) -> Float[Array, "kinds 2"]:
    """Naive intervals of r, as if rows were independent: Fisher's z, and the bootstrap of rows."""
    x, y = planted.rows()
    v = np.stack([np.ones_like(y), ONE @ x, y], axis=1)
    rows = pack(v[:, :, None] * v[:, None])
    n = len(rows)
    drawn = [np.bincount(rng.integers(n, size=n), minlength=n) @ rows for _ in range(num_resamples)]
    sums = np.array([rows.sum(axis=0), *drawn])
    r = correlations(np.eye(len(sums)), sums[:, None])[0][:, 0]
    half = special.ndtri((1 + level) / 2) / np.sqrt(n - 3)
    fisher = np.tanh(np.arctanh(r[0]) + half * np.array([-1, 1]))
    low, high = percentile_ends(r[1:, None], level)
    return np.array([fisher, [low[0], high[0]]])


def _stacked(each: list[Samples]) -> Samples:
    """One array a name; a name may be missing in some."""
    names = dict.fromkeys(name for one in each for name in one)
    return {name: np.stack([one[name] for one in each if name in one]) for name in names}


def _joined(samples: list[list[Samples]]) -> Samples:
    flat = [s for shard in samples for s in shard]
    return {name: np.concatenate([s[name] for s in flat]) for name in flat[0]}

"""Planted data for the coverage of intervals: each setting is a law of conversations.

``OWN`` is what resampling conversations assumes and no more: conversations are independent of each
other, turns within them are not, and intercepts and slopes vary between them. ``INDEPENDENT`` is
what a row-wise interval assumes. Every setting has the same covariances of the signals and the same
expected slopes, and all but ``OWN`` and its kin differ from ``INDEPENDENT`` in one thing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from leray.evidence.bootstrap import ratio_means
from leray.evidence.moments import Array
from leray.evidence.resampling import Samples
from leray.memory.synthetic import Planted, Population, autoregression, draw
from leray.runs.seeds import Key
from leray.studies.calibration import BOUNDARY, INTERIOR, ONE, OTHER

DEGREES = 3
"""Of Student's t, whose variance is 3 and whose fourth moment is infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A law that data sets are drawn from.

    Args:
        name: As a row of the result names it.
        population: The law of the conversations.
        heavy_tails: Noise from Student's t with 3 degrees of freedom, scaled to the same variance
            and independent between turns, in place of the population's.
        neighbours: The AR(1) coefficient along the *conversations* of intercepts and slopes.
    """

    name: str
    population: Population
    heavy_tails: bool = False
    neighbours: float = 0.0

    def draw(self, num_clusters: int, rng: np.random.Generator) -> Planted:
        """A data set of C conversations."""
        p = self.population
        if not (self.heavy_tails or self.neighbours):
            return draw(p, num_clusters, rng)
        noise_sd = 0.0 if self.heavy_tails else p.noise_sd
        bare = replace(p, slope_sd=np.zeros_like(p.slope_sd), intercept_sd=0.0, noise_sd=noise_sd)
        planted = draw(bare, num_clusters, rng)
        cluster = np.repeat(np.arange(num_clusters), planted.sizes.astype(int))
        sd = np.append(p.slope_sd, p.intercept_sd)
        own = sd[:, None] * autoregression((len(sd), num_clusters), self.neighbours, rng)
        y = planted.y + np.einsum("jq,qjt->qt", own[:-1, cluster], planted.x)
        y += own[-1, cluster, None]
        if self.heavy_tails:
            scale = p.noise_sd / np.sqrt(DEGREES / (DEGREES - 2))
            y += scale * rng.standard_t(DEGREES, size=y.shape)
        return replace(planted, y=y)


_ROWS = replace(
    INTERIOR, rho=0.0, shared=0.0, intercept_sd=0.0, slope_sd=np.zeros_like(INTERIOR.slope_sd)
)
OWN = Setting(name="own model", population=INTERIOR)
EDGE = Setting(name="own model, weights at the edge", population=BOUNDARY)
INDEPENDENT = Setting(name="rows independent", population=_ROWS)
SERIAL = Setting(
    name="serial dependence",
    population=replace(_ROWS, rho=INTERIOR.rho, shared=INTERIOR.shared),
)
VARYING = Setting(
    name="slopes that vary",
    population=replace(_ROWS, intercept_sd=INTERIOR.intercept_sd, slope_sd=INTERIOR.slope_sd),
)
HEAVY = Setting(name="heavy tails", population=INTERIOR, heavy_tails=True)
NEIGHBOURS = Setting(name="neighbouring conversations alike", population=INTERIOR, neighbours=0.5)

BASELINES = np.stack([OTHER, np.full(4, 0.25)])
"""What the weighting ``ONE`` is compared with, two comparisons."""


def ndcg_differences(planted: Planted) -> Float[Array, "clusters 2"]:
    """nDCG@10 of ``ONE`` minus that of each baseline, summed over a conversation's queries."""
    ours = planted.ndcg(ONE)
    return np.stack([ours - planted.ndcg(w) for w in BASELINES], axis=1)


@dataclass(frozen=True, kw_only=True)
class TrueDifferences:
    """The expected differences of nDCG@10 of each setting, by brute force; a shard is a setting.

    Result: the two ratios of means, then their standard errors, ``[settings, 2, 2]``.
    """

    settings: tuple[Setting, ...]
    num_clusters: int = 40_000
    clusters_per_step: int = 2_000
    name: str = "true differences"

    @property
    def num_shards(self) -> int:
        return len(self.settings)

    @property
    def num_steps(self) -> int:
        return -(-self.num_clusters // self.clusters_per_step)

    def init(self, shard: int, key: Key) -> dict[str, Any]:  # noqa: ARG002
        """Which setting the shard draws from."""
        return {"setting": shard}

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: Key,
    ) -> tuple[dict[str, Any], Samples]:
        setting = self.settings[int(state["setting"])]
        planted = setting.draw(self.clusters_per_step, key.generator())
        return state, {"sums": ndcg_differences(planted), "sizes": planted.sizes}

    def result(self, samples: list[list[Samples]]) -> Float[Array, "settings 2 2"]:
        each = []
        for shard in samples:
            sums, sizes = (np.concatenate([s[k] for s in shard]) for k in ("sums", "sizes"))
            each.append(np.stack(ratio_means(np.ones(len(sizes)), sums, sizes)))
        return np.stack(each)

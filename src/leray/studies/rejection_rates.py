"""How often each test of the study rejects where there is nothing to find.

The p-value of the Bayesian study is not among them: the posterior predictive p-value takes its
parameters from the same data that it judges, so it is not uniform under the model, but nearer to
one half (Gelman, Two simple examples for understanding posterior p-values, EJS 2013). What stands
in its place is simulation-based calibration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from leray.evidence.moments import MomentTable, unpack
from leray.evidence.permutation import sign_flip_test
from leray.evidence.resampling import Samples
from leray.memory.interactions import interaction_table, term_scores
from leray.memory.synthetic import Planted, draw, grown
from leray.runs.seeds import Key
from leray.studies.calibration import EQUAL, INTERIOR, NOTHING, ONE
from leray.studies.coverage_data import Setting
from leray.studies.null_tests import free_p_value, rotation_p_value, score_flip_p_value

ALPHAS = (0.01, 0.05)
TESTS = (
    "rotations, largest r over all weights",
    "sign flips of X'y, largest r over all weights",
    "sign flips of X'y, growing lists",
    "paired sign flips, two-sided, maximum over methods",
    "paired sign flips, one-sided, maximum over methods",
    "interactions, maximum over terms",
    "rotations, growing lists",
    "rows permuted freely",
)
NOT_RELIED_ON = TESTS[-2:]
"""Shown for what they miss by; no study uses them."""
FREE_EVERY = 5
"""The free permutation of rows costs the most and misses by the most: one data set in five."""
_SWAPPED = np.array([1, 0, 2, 3])
_OTHER = np.array([0.30, 0.05, 0.40, 0.25])
"""A second weighting; with ``ONE``, two pairs of equally good methods where two signals can be
exchanged."""
_UNRELATED = Setting(name="nothing", population=NOTHING)
_LINEAR = Setting(name="linear", population=INTERIOR)


@dataclass(frozen=True, kw_only=True, slots=True)
class NullCell:
    """Data sets without anything to find: C, how many, and whether noise has heavy tails."""

    num_clusters: int
    num_datasets: int
    heavy_tails: bool = False


@dataclass(frozen=True, kw_only=True)
class RejectionRates:
    """p-values of every test on data sets where its null hypothesis holds.

    Turns follow an AR(1) with ρ = 0.8 and queries of a conversation share a part; nothing is
    related (100 turns) for the tests of r, two signals can be exchanged for the paired ones, and
    the truth is linear with slopes that vary for interactions. Heavy tails (3 degrees of freedom)
    are those of the noise, everywhere but in the paired tests.

    Args:
        cells: A shard is one of them.
        num_permutations: Of each test, where they are not enumerated.
        num_steps: That each cell's data sets are cut into.

    Result: for each cell ``[datasets, tests]``; NaN where a test was left out.
    """

    cells: tuple[NullCell, ...]
    num_permutations: int = 999
    num_steps: int = 40
    name: str = "rejection rates"

    @property
    def num_shards(self) -> int:
        return len(self.cells)

    def init(self, shard: int, key: Key) -> dict[str, Any]:  # noqa: ARG002
        """Which cell the shard is."""
        return {"cell": shard}

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: Key,
    ) -> tuple[dict[str, Any], Samples]:
        cell = self.cells[int(state["cell"])]
        num = -(-cell.num_datasets // self.num_steps)
        return state, {"p": np.array([self._dataset(cell, k, key.child(k)) for k in range(num)])}

    def result(self, samples: list[list[Samples]]) -> list[Float[np.ndarray, "datasets tests"]]:
        return [np.concatenate([s["p"] for s in shard]) for shard in samples]

    def _dataset(self, cell: NullCell, k: int, key: Key) -> list[float]:
        rng, m = key.generator(), self.num_permutations
        unrelated = _draw(_UNRELATED, cell, rng)
        growing = grown(unrelated, rng)
        free = k % FREE_EVERY == 0
        linear = _draw(_LINEAR, cell, rng)
        pairs = draw(EQUAL, cell.num_clusters, rng)
        differences = np.stack(
            [pairs.ndcg(w) - pairs.ndcg(w[_SWAPPED]) for w in (ONE, _OTHER)], axis=1
        )
        paired = [
            min(t.p_value for t in sign_flip_test(differences, m, rng, two_sided=two_sided))
            for two_sided in (True, False)
        ]
        return [
            rotation_p_value(unrelated, m, key.child("rotations")),
            score_flip_p_value(unrelated, m, rng),
            score_flip_p_value(growing, m, rng),
            *paired,
            interaction_p_value(linear, m, rng),
            rotation_p_value(growing, m, key.child("growing")) if free else np.nan,
            free_p_value(unrelated, rng) if free else np.nan,
        ]


def _draw(setting: Setting, cell: NullCell, rng: np.random.Generator) -> Planted:
    return replace(setting, heavy_tails=cell.heavy_tails).draw(cell.num_clusters, rng)


def interaction_p_value(planted: Planted, num_draws: int, rng: np.random.Generator) -> float:
    """The smallest family-wise p of the products and squares of the signals."""
    d = planted.x.shape[1]
    x, y = planted.rows()
    ends = np.append(planted.offsets[planted.starts], len(y))
    blocks = [(str(c), x[:, a:b], y[a:b]) for c, (a, b) in enumerate(pairwise(ends))]
    table = MomentTable(
        signals=tuple(f"x{j}" for j in range(d)),
        clusters=tuple(c for c, _, _ in blocks),
        origin=np.zeros(d + 1),
        sums=planted.moments(),
    )
    scores = term_scores(unpack(interaction_table(blocks, table).sums), d)
    return min(t.p_value for t in sign_flip_test(scores, num_draws, rng))

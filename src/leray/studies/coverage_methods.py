"""How often the intervals that resample conversations hold the truth, and the row-wise one beside.

Each data set gives every interval at both levels; what is kept is whether it held the truth. The
forms are those of the study, made by the same functions. Networks need not be trained: claim M4's
interval takes the models as they are, so it is that of two paired differences of nDCG@10.

Notation: C conversations, B resamples, d signals; t* = (θ* − θ)/se*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
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
    root_jackknife_t_ends,
    studentised_ends,
    weight_intervals,
)
from leray.evidence.ceiling import group_jackknife
from leray.evidence.moments import Array, covariances, pearson, unpack
from leray.evidence.montecarlo import Running
from leray.evidence.optimum import Optimum, simplex_optimum
from leray.evidence.resampling import Samples, Stateless
from leray.memory.interactions import share_interval
from leray.memory.synthetic import Planted, autoregression, score_moments
from leray.runs.seeds import Key
from leray.studies.calibration import MEAN_KINDS, ONE, WEIGHT_KINDS
from leray.studies.coverage_data import DEGREES, Setting, ndcg_differences
from leray.studies.importance import landscape_grid

LEVELS = (0.90, 0.95)
NUM_GROUPS = 20
"""Groups of conversations that the ceiling's jackknife leaves out."""
SMALL = 0.05
"""A true weight below this stands at the edge: its interval may hold it more often than asked."""
_ROUNDING, _NO_SE = 1e-12, 1e-12
_GRID = landscape_grid()[0]
Ends = tuple[Array, Array]


class Form(NamedTuple):
    """One kind of interval of one quantity.

    ``row_wise``: takes rows as independent. ``at_least``: may cover more than its level (one-sided
    at the edge, or Bonferroni).
    """

    method: str
    quantity: str
    row_wise: bool = False
    at_least: bool = False


R, NDCG, TWO = "r of fixed weights", "difference of nDCG@10", "two differences of nDCG@10"
INSIDE, AT_EDGE = "weights inside the simplex", "weights at the edge"
GRID, SHARE = "what the grid of 169 misses (M5)", "share of variance explained (M8)"
FORMS = (
    *(Form(f"cluster bootstrap, {k}", R) for k in MEAN_KINDS),
    *(Form(f"cluster bootstrap, {k}", NDCG) for k in MEAN_KINDS),
    Form("simultaneous (M9)", TWO),
    Form("studentised, Bonferroni (M4)", TWO, at_least=True),
    *(Form(f"exact optimum, {k}", INSIDE) for k in WEIGHT_KINDS),
    Form("exact optimum, reported", AT_EDGE, at_least=True),
    Form("jackknife-t of the root", GRID),
    Form("ratio, jackknife-t", SHARE),
    Form("jackknife-t over 20 groups (ceiling)", R),
    Form("rows, Fisher z", R, row_wise=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A setting at one number of conversations, and how many data sets of it.

    Args:
        setting: What is drawn.
        num_clusters: C.
        num_datasets: Rounded up to a multiple of the computation's steps.
        true_differences: Of nDCG@10, ``[2]``; the other truths have closed forms.
    """

    setting: Setting
    num_clusters: int
    num_datasets: int
    true_differences: Float[Array, " 2"]


@dataclass(frozen=True, kw_only=True)
class ClusterCoverage:
    """Whether each form held the truth, at each level, in the data sets of each cell.

    Args:
        cells: A shard is one of them.
        num_resamples: B.
        num_steps: That each cell's data sets are cut into.

    Result: for each cell ``[datasets, forms, levels]``, the share of the form's parameters held
    (several where it is one of weights; NaN where the setting has none of them).
    """

    cells: tuple[Cell, ...]
    num_resamples: int = 600
    num_steps: int = 40
    name: str = "coverage"

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
        measured = _Measurement(cell, self.num_resamples)
        return state, {
            "held": np.stack([measured.held(key.child(k).generator()) for k in range(num)])
        }

    def result(self, samples: list[list[Samples]]) -> list[Float[Array, "datasets forms levels"]]:
        return [np.concatenate([s["held"] for s in shard]) for shard in samples]


class _Measurement:
    """A cell with its true values, which hold for all its data sets."""

    def __init__(self, cell: Cell, num_resamples: int) -> None:
        p = cell.setting.population
        self.cell = cell
        self.num_resamples = num_resamples
        self.true_r = p.pearson(ONE)
        self.true_weights = p.optimum
        self.true_missed = _true_missed(cell.setting)
        self.true_share = float(p.slopes @ p.correlation @ p.slopes / p.covariances.s)

    def held(self, rng: np.random.Generator) -> Float[Array, "forms levels"]:
        """Which forms hold the truth in a new data set."""
        planted = self.cell.setting.draw(self.cell.num_clusters, rng)
        counts = resample_counts(self.num_resamples, self.cell.num_clusters, rng)
        moments = planted.moments()
        return np.concatenate(
            [
                self._r(moments, counts),
                self._ndcg(planted, counts),
                self._fitted(moments, counts),
                self._others(moments),
            ]
        )

    def _r(self, moments: Array, counts: Array) -> Array:
        scores = score_moments(moments, ONE)[:, None]
        parts = _Parts.of(*(correlations(n, scores) for n in _weightings(counts)))
        truth = np.array([self.true_r])
        return np.array([[_held(e, truth) for e in parts.ends(level)] for level in LEVELS]).T

    def _ndcg(self, planted: Planted, counts: Array) -> Array:
        sums = ndcg_differences(planted)
        parts = _Parts.of(*(ratio_means(n, sums, planted.sizes) for n in _weightings(counts)))
        truth, rows = self.cell.true_differences, []
        for level in LEVELS:
            alone = [_held((low[:1], high[:1]), truth[:1]) for low, high in parts.ends(level)]
            together = (parts.maximum(level), parts.ends(1 - (1 - level) / 2)[-1])
            rows.append([*alone, *(float(_held(e, truth) == 1.0) for e in together)])
        return np.array(rows).T

    def _fitted(self, moments: Array, counts: Array) -> Array:
        best, left, drawn = (
            simplex_optimum(covariances(m))
            for m in (moments.sum(axis=0), leave_one_out(moments), counts @ moments)
        )
        rows = [[*_weights(best, left, drawn, self.true_weights, level)] for level in LEVELS]
        missed = [
            missed_share(o.r, np.asarray(pearson(m, _GRID).max(axis=-1)))
            for o, m in (
                (best, moments.sum(axis=0)), (left, leave_one_out(moments)),
            )
        ]  # fmt: skip
        share, without = np.asarray(missed[0])[None], missed[1][:, None]
        grid = [
            _held(root_jackknife_t_ends(share, without, level), self.true_missed)
            for level in LEVELS
        ]
        return np.concatenate([np.array(rows).T, [grid]])

    def _others(self, moments: Array) -> Array:
        """The ratio of sums, the jackknife over groups, and rows taken as independent."""
        full = unpack(moments)
        u = np.append(-self.cell.setting.population.slopes, 1.0)
        square = full[:, -1, -1]
        part = square - np.einsum("i,cij,j->c", u, full[:, 1:, 1:], u)
        replicates = _without_groups(score_moments(moments, ONE))
        r, n = replicates[0], full[:, 0, 0].sum()
        rows = []
        for level in LEVELS:
            ratio = share_interval(part, square, level)
            jack = group_jackknife(replicates, level, self.cell.num_clusters)
            half = special.ndtri((1 + level) / 2) / np.sqrt(n - 3)
            fisher = np.tanh(np.arctanh(r) + half * np.array([[-1], [1]]))
            rows.append(
                [
                    _held((np.array(ratio.low), np.array(ratio.high)), self.true_share),
                    _held((np.array(jack.low), np.array(jack.high)), self.true_r),
                    _held((fisher[0], fisher[1]), self.true_r),
                ]
            )
        return np.array(rows).T


@dataclass(frozen=True, kw_only=True)
class MonteCarloCoverage(Stateless):
    """Whether the Monte Carlo mean's interval (Student's t) held 0; ``[trials, levels]``.

    Units are normal; or ``heavy_tails``, Student's t with 3 degrees; or follow each other with the
    AR(1) coefficient ``rho``.
    """

    num_units: int
    num_datasets: int
    rho: float = 0.0
    heavy_tails: bool = False
    name: str = "monte carlo coverage"
    num_shards: int = 1
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: Key,
    ) -> tuple[dict[str, Any], Samples]:
        rng = key.generator()
        shape = (self.num_datasets, self.num_units)
        heavy = self.heavy_tails
        units = rng.standard_t(DEGREES, shape) if heavy else autoregression(shape, self.rho, rng)
        held = np.empty((self.num_datasets, len(LEVELS)))
        for k, sample in enumerate(units):
            running = Running.of(sample[:, None])
            intervals = [running.interval(0, level) for level in LEVELS]
            held[k] = [i.low <= 0 <= i.high for i in intervals]
        return state, {"held": held}

    def result(self, samples: list[list[Samples]]) -> Float[Array, "trials levels"]:
        return samples[0][0]["held"]


class _Parts(NamedTuple):
    """θ ``[k]``, its jackknife values ``[C, k]``, resampled θ* and t* ``[B, k]``."""

    theta: Array
    left: Array
    drawn: Array
    pivots: Array

    @classmethod
    def of(cls, whole: Ends, left: Ends, drawn: Ends) -> _Parts:
        pivots = (drawn[0] - whole[0]) / np.maximum(drawn[1], _NO_SE)
        return cls(whole[0], left[0], drawn[0], pivots)

    def ends(self, level: float) -> list[Ends]:
        """In the order of ``MEAN_KINDS``."""
        return [
            percentile_ends(self.drawn, level),
            bca_ends(self.drawn, self.theta, self.left, level),
            jackknife_t_ends(self.theta, self.left, level),
            studentised_ends(self.pivots, self.theta, jackknife_se(self.left), level),
        ]

    def maximum(self, level: float) -> Ends:
        """θ ± q se, q the quantile of the largest |t*|: the form of claim M9."""
        half = np.quantile(np.abs(self.pivots).max(axis=1), level) * jackknife_se(self.left)
        return self.theta - half, self.theta + half


def _weightings(counts: Array) -> tuple[Array, Array, Array]:
    """All conversations, each left out in turn, and the resamples."""
    C = counts.shape[1]
    return np.ones(C), 1.0 - np.eye(C), counts


def _held(ends: Ends, truth: Array | float) -> float:
    """The share of the true values that lie in their intervals, ends included."""
    low, high = ends
    return float(((low <= truth + _ROUNDING) & (truth - _ROUNDING <= high)).mean())


def _weights(
    best: Optimum, left: Optimum, drawn: Optimum, truth: Array, level: float
) -> list[float]:
    """Each kind where the true weight is inside, then what is reported where it is at the edge."""
    reported = weight_intervals(best.w, drawn.w, left.w, level)
    ends: list[Ends] = [
        percentile_ends(drawn.w, level),
        bca_ends(drawn.w, best.w, left.w, level),
        jackknife_t_ends(best.w, left.w, level),
        (np.array([i.low for i in reported]), np.array([i.high for i in reported])),
    ]
    edge = truth < SMALL
    inside = [_held((low[~edge], high[~edge]), truth[~edge]) for low, high in ends]
    low, high = ends[-1]
    return [*inside, _held((low[edge], high[edge]), truth[edge]) if edge.any() else np.nan]


def missed_share(optimum: Array, grid: Array) -> Array:
    """(r of the optimum − r of the grid's best)/r of the optimum, 1 where no r is positive."""
    positive = optimum > 0
    return np.where(positive, (optimum - grid) / np.where(positive, optimum, 1.0), 1.0)


def _true_missed(setting: Setting) -> float:
    S, b, s = setting.population.covariances
    best = float(simplex_optimum(setting.population.covariances).r)
    grid = _GRID @ b / np.sqrt(np.einsum("ki,ij,kj->k", _GRID, S, _GRID) * s)
    return 1 - float(grid.max()) / best


def _without_groups(sums: Float[Array, "clusters 6"]) -> Float[Array, " replicates"]:
    """r of all conversations, then without each of the groups (of one, where there are few)."""
    G = min(NUM_GROUPS, len(sums))
    groups = np.stack([sums[g::G].sum(axis=0) for g in range(G)])
    totals = np.concatenate([groups.sum(axis=0, keepdims=True), leave_one_out(groups)])
    return pearson(totals, np.ones((1, 1)))[:, 0]

"""The importance study: which past turns matter now, and how sure are we of the weights?

What is claimed stands in `leray.studies.claims`, how much is computed in `leray.studies.presets`.
The protocol: signals of every (query, turn) pair → moments and retrieval sums by conversation →
bootstrap, permutation and held-out selection → simultaneous intervals → verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from leray.data.preparation import Prepared
from leray.evidence.moments import Covariances, MomentTable, covariances, moment_table, pearson
from leray.evidence.optimum import varying
from leray.evidence.permutation import rotation_products, score_flips
from leray.evidence.resampling import (
    ClusterBootstrap,
    GroupTest,
    NullDistribution,
    Resamples,
    best_over_tau,
)
from leray.memory.blocks import ALL, DAY, FOUR, HOUR, MINUTE, Block, decay_name, with_tau
from leray.memory.comparison import Comparison, Scorer, compare
from leray.memory.conversations import Truth
from leray.memory.fitting import HeldOutLogistic, WeightSearch, choose_held_out, pearson_held_out
from leray.memory.methods import (
    FITTED,
    FORMULAS,
    ORDER,
    Candidates,
    compact,
    landscape_grid,
    linear,
    linear_candidates,
)
from leray.memory.weights import LinearWeights
from leray.studies.presets import Preset

Array = np.ndarray
Group = Literal["rotations", "sign flips"]
Drive = Callable[[Any], Any]
"""Runs a computation to its result (persisting, resuming, showing progress)."""


def decay_times(truth: Truth) -> tuple[float, ...]:
    """The candidates for τ, in seconds.

    Evidence questions carry no time of asking: τ stays at the 30 days of the source. Callbacks
    do, over minutes to months, so τ is chosen on the conversations that the weights are fitted on.
    """
    if truth == "evidence":
        return (30 * DAY,)
    return (2 * MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the verdicts, the table and the report are read off.

    Args:
        taus: The decay times.
        tau: The index of the one at the exact optimum.
        table: Moments of the four signals at every τ.
        moments: Its packed sums by τ and cluster, ``[taus, clusters, K]``.
        correlation: Correlations between all signals, at the chosen τ.
        comparison: Sums by cluster of every method.
        resamples: The bootstrap.
        null: The null distribution of the largest r, and by which ``group``.
        fitted: The weights of each fitted method on all conversations.
        grid, renormalised: The 169 configurations and which were renormalised.
    """

    taus: tuple[float, ...]
    tau: int
    table: MomentTable
    moments: Array
    correlation: Array
    comparison: Comparison
    resamples: Resamples | None
    null: NullDistribution
    group: Group
    fitted: dict[str, LinearWeights]
    grid: Array
    renormalised: Array
    histograms: dict[str, tuple[Array, Array]] = field(default_factory=dict)

    @property
    def optimum(self) -> Array:
        """The exact Pearson weights on all conversations, ``[4]``."""
        return best_over_tau(self.moments.sum(axis=1))[0]

    @property
    def varying(self) -> tuple[str, ...]:
        """Those of the four signals that are not constant: a model can weigh no others."""
        spread = np.diagonal(covariances(self.moments[self.tau].sum(axis=0)).S)
        return tuple(s for s, v in zip(FOUR, varying(spread), strict=True) if v)

    def moments_of(self, signals: Sequence[str]) -> Array:
        """Packed sums by cluster of some of the four, at the decay time of the optimum."""
        return self.table.select(with_tau(signals, self.taus[self.tau])).sums

    def optimum_of(self, signals: Sequence[str]) -> Array:
        """The exact weights of some of the four."""
        return self.optimum[[FOUR.index(s) for s in signals]]


def gather(prepared: Prepared, taus: tuple[float, ...], size: Preset, drive: Drive) -> Evidence:
    """Run the protocol on prepared blocks."""
    blocks, clusters = prepared.blocks, prepared.clusters
    table = _in_order(four_signal_table(blocks, taus), clusters)
    moments = np.stack([table.select(with_tau(FOUR, t)).sums for t in taus])
    tau = int(best_over_tau(moments.sum(axis=1))[1])
    sizes = np.array([sum(b.clusters.count(c) for b in blocks) for c in clusters], dtype=float)
    scorers, fitted = _methods(prepared, moments, taus, sizes, drive)
    comparison = compare(blocks, scorers, clusters)
    grid, renormalised = landscape_grid()
    resamples = None
    if len(clusters) > 1:
        k = len(clusters)
        resamples = drive(
            ClusterBootstrap(
                moments=moments,
                grid=grid,
                grid_tau=tau,
                scores=comparison.scores,
                sums=np.concatenate(
                    [comparison.metrics.reshape(k, -1), comparisons(comparison)[1]], axis=1
                ),
                sizes=comparison.sizes,
                num_resamples=size.num_resamples,
            )
        )
    null = drive(group_test(blocks, table, taus, size.num_permutations))
    everything = moment_table(_all_rows(blocks, taus[tau]), ALL)
    return Evidence(
        taus=taus,
        tau=tau,
        table=table,
        moments=moments,
        correlation=_correlation(covariances(everything.total)),
        comparison=comparison,
        resamples=resamples,
        null=null,
        group=group_of(blocks),
        fitted=fitted,
        grid=grid,
        renormalised=renormalised,
        histograms={n: _histogram(blocks, with_tau([n], taus[tau])[0]) for n in ALL[:5]},
    )


def four_signal_table(blocks: tuple[Block, ...], taus: tuple[float, ...]) -> MomentTable:
    """Moments of the four signals, decay at every τ, by cluster."""
    columns = (*(decay_name(t) for t in taus), *FOUR[1:])
    rows = (
        (c, x[:, r], b.relevant[r])
        for b in blocks
        for x in [b.rows(columns)]
        for c, _, r in b.by_cluster()
    )
    return moment_table(rows, columns)


def group_test(
    blocks: tuple[Block, ...], table: MomentTable, taus: tuple[float, ...], num_permutations: int
) -> GroupTest:
    """The test of "no signal at all", by the group that the data's dependence allows."""
    total = covariances(table.total)
    n = table.num_rows
    mean_y = table.origin[-1] + table.total[len(table.signals) + 1] / n
    mean_x = table.origin[:-1] + table.total[1 : len(table.signals) + 1] / n
    elements = rotation_products if group_of(blocks) == "rotations" else score_flips
    products = []
    for block in blocks:
        x = block.rows(table.signals) - mean_x[:, None]
        y = block.relevant - mean_y
        for _, queries, _ in block.by_cluster():
            spans = [slice(*block.offsets[k : k + 2]) for k in range(queries.start, queries.stop)]
            products.append(elements([x[:, s] for s in spans], [y[s] for s in spans]))
    columns = np.array([[table.signals.index(c) for c in with_tau(FOUR, t)] for t in taus])
    return GroupTest(
        products=np.concatenate(products),
        starts=np.cumsum([0, *map(len, products)]),
        columns=columns,
        S=np.stack([total.S[np.ix_(c, c)] for c in columns]),
        s=float(total.s),
        num_rows=n,
        num_permutations=num_permutations,
    )


def group_of(blocks: tuple[Block, ...]) -> Group:
    """Rotations where the queries of each cluster rank lists of one length, else sign flips."""
    lengths = (np.diff(b.offsets)[q] for b in blocks for _, q, _ in b.by_cluster())
    return "rotations" if all(np.ptp(n) == 0 for n in lengths) else "sign flips"


def comparisons(c: Comparison) -> tuple[list[tuple[str, str]], Array]:
    """The paired differences of nDCG@10 that M3 and M9 speak of, summed by cluster.

    Returns:
        Pairs (method, compared with), M3's first, and the sums ``[clusters, pairs]``.
    """
    wanted = [("surprise", "ndcg"), *((m, "relevance") for m in FITTED)]
    pairs = [(a, b) for a, b in wanted if a in c.methods and b in c.methods]
    sums = [c.metric(a, "ndcg_10") - c.metric(b, "ndcg_10") for a, b in pairs]
    return pairs, np.stack(sums, axis=1) if sums else np.zeros((len(c.sizes), 0))


def landscape(evidence: Evidence) -> Array:
    """r of the 169 configurations on all conversations, at the chosen τ."""
    return pearson(evidence.moments[evidence.tau].sum(axis=0), evidence.grid)


def _methods(
    prepared: Prepared, moments: Array, taus: tuple[float, ...], sizes: Array, drive: Drive
) -> tuple[dict[str, Scorer], dict[str, LinearWeights]]:
    """A scorer for each method (held out where fitted), and the weights fitted on everything."""
    blocks, clusters = prepared.blocks, prepared.clusters
    candidates = linear_candidates(taus)
    sums = drive(WeightSearch(blocks=blocks, candidates=tuple(candidates), clusters=clusters))
    scorers: dict[str, Scorer] = {m: _formula(f) for m, f in FORMULAS.items()}
    fitted: dict[str, LinearWeights] = {}
    for c in candidates:
        held_out, best = choose_held_out(sums[c.method], sizes)
        if len(clusters) > 1 or len(c.weights) == 1:
            scorers[c.method] = _chosen(c, held_out)
        names, values, tau = compact(c, best)
        fitted[c.method] = LinearWeights(method=c.method, signals=names, values=values, tau=tau)
    w, tau, _ = best_over_tau(moments.sum(axis=1))
    fitted["pearson"] = LinearWeights(method="pearson", signals=FOUR, values=w, tau=taus[int(tau)])
    if len(clusters) > 1:
        scorers |= _held_out(prepared, moments, taus, fitted, drive)
    return {m: scorers[m] for m in ORDER if m in scorers}, fitted


def _held_out(
    prepared: Prepared,
    moments: Array,
    taus: tuple[float, ...],
    fitted: dict[str, LinearWeights],
    drive: Drive,
) -> dict[str, Scorer]:
    weights, tau = pearson_held_out(moments)
    # The regression takes the decay time that Pearson's optimum chose on the same conversations.
    times = np.array([taus[t] for t in (int(best_over_tau(moments.sum(axis=1))[1]), *tau)])
    logistic = drive(HeldOutLogistic(blocks=prepared.blocks, clusters=prepared.clusters, tau=times))
    fitted["logistic"] = LinearWeights(
        method="logistic", signals=ALL, values=logistic[0], tau=float(times[0])
    )
    return {
        "pearson": lambda b, c: linear(b, FOUR, weights[c], times[1 + c]),
        "logistic": lambda b, c: linear(b, ALL, logistic[1 + c], times[1 + c]),
    }


def _formula(formula: Callable[[Block], Array]) -> Scorer:
    return lambda block, _cluster: formula(block)


def _chosen(candidates: Candidates, held_out: Array) -> Scorer:
    def score(block: Block, cluster: int) -> Array:
        names, values, tau = compact(candidates, int(held_out[cluster]))
        return linear(block, names, values, tau)

    return score


def _in_order(table: MomentTable, clusters: tuple[str, ...]) -> MomentTable:
    order = [table.clusters.index(c) for c in clusters]
    return MomentTable(
        signals=table.signals, clusters=clusters, origin=table.origin, sums=table.sums[order]
    )


def _all_rows(blocks: tuple[Block, ...], tau: float):
    columns = with_tau(ALL, tau)
    return ((b.history, b.rows(columns), b.relevant) for b in blocks)


def _correlation(moments: Covariances) -> Array:
    scale = np.sqrt(np.diagonal(moments.S))
    safe = np.where(scale > 0, scale, 1.0)
    return moments.S / np.outer(safe, safe)


def _histogram(blocks: tuple[Block, ...], column: str) -> tuple[Array, Array]:
    """Counts in 40 bins over the range, for irrelevant and relevant pairs, and the edges."""
    low = min(float(b.rows((column,)).min()) for b in blocks)
    high = max(float(b.rows((column,)).max()) for b in blocks)
    edges = np.linspace(low, high if high > low else low + 1.0, 41)
    counts = np.zeros((2, 40))
    for b in blocks:
        values = b.rows((column,))[0]
        for k in (0, 1):
            counts[k] += np.histogram(values[b.relevant == bool(k)], edges)[0]
    return counts, edges

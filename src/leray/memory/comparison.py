"""Every method on every query: the sums by cluster that the table and its intervals come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leray.evidence.moments import MomentTable, moment_table
from leray.memory.blocks import Block
from leray.memory.retrieval import METRICS, query_metrics

Array = np.ndarray
Scorer = Callable[[Block, int], Array]
"""Scores of a block's pairs, for one cluster (its index): fitted methods differ by cluster."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Sums by cluster for each method.

    Args:
        methods: Their ids, in order.
        clusters: The C cluster ids.
        sizes: Queries in each cluster.
        metrics: Summed over queries, ``[C, methods, metrics]`` in the order of ``METRICS``.
        scores: Packed moments of (1, score, truth), ``[C, methods, 6]``.
    """

    methods: tuple[str, ...]
    clusters: tuple[str, ...]
    sizes: Array
    metrics: Array
    scores: Array

    def metric(self, method: str, metric: str) -> Array:
        """One metric of one method, summed over the queries of each cluster."""
        return self.metrics[:, self.methods.index(method), METRICS.index(metric)]


def compare(
    blocks: Sequence[Block], scorers: Mapping[str, Scorer], clusters: Sequence[str]
) -> Comparison:
    """Score every pair by every method, and sum by cluster.

    Cost: a sort of the candidates a query and method.
    """
    place = {c: k for k, c in enumerate(clusters)}
    sizes = np.zeros(len(clusters))
    metrics = np.zeros((len(clusters), len(scorers), len(METRICS)))
    tables: list[MomentTable | None] = [None] * len(scorers)
    for block in blocks:
        for cluster, queries, _ in block.by_cluster():
            sizes[place[cluster]] += queries.stop - queries.start
        for m, scorer in enumerate(scorers.values()):
            scores = _score(block, scorer, place)
            each = query_metrics(scores, block.relevant, block.offsets)
            np.add.at(metrics[:, m], [place[c] for c in block.clusters], each)
            tables[m] = _add(tables[m], block, scores)
    return Comparison(
        methods=tuple(scorers),
        clusters=tuple(clusters),
        sizes=sizes,
        metrics=metrics,
        scores=np.stack([_in_order(t, place) for t in tables if t is not None], axis=1),
    )


def _score(block: Block, scorer: Scorer, place: Mapping[str, int]) -> Array:
    runs = block.by_cluster()
    if len(runs) == 1:
        return scorer(block, place[runs[0][0]])
    scores = np.empty(block.x.shape[1])
    for cluster, _, rows in runs:
        scores[rows] = scorer(block, place[cluster])[rows]
    return scores


def _add(table: MomentTable | None, block: Block, scores: Array) -> MomentTable:
    rows = ((c, scores[None, r], block.relevant[r]) for c, _, r in block.by_cluster())
    new = moment_table(rows, ("score",))
    return new if table is None else table.merge(new)


def _in_order(table: MomentTable, place: Mapping[str, int]) -> Array:
    sums = np.zeros((len(place), table.sums.shape[1]))
    sums[[place[c] for c in table.clusters]] = table.sums
    return sums

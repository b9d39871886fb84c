"""The intervals of the importance study, and its table: everything by conversation.

Below `FEW_CLUSTERS` conversations Student's t stands in for the studentised bootstrap; how each
covers is measured by ``benchmarks/calibration.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from leray.evidence.bootstrap import (
    Interval,
    correlations,
    jackknife_se,
    leave_one_out,
    percentile_ends,
    ratio_means,
    studentised_ends,
    weight_intervals,
)
from leray.evidence.resampling import best_over_tau
from leray.memory.methods import FITTED
from leray.memory.retrieval import METRICS
from leray.studies.claims import LEVEL
from leray.studies.importance import Evidence, comparisons
from leray.studies.outcome import plain

Array = np.ndarray
FEW_CLUSTERS = 10
_METRIC, _DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)  # where every retrieval metric and difference lies


def estimates(evidence: Evidence, level: float = LEVEL) -> dict[tuple[str, str], Interval]:
    """The interval of every metric of every method, one at a time (not simultaneous)."""
    c = evidence.comparison
    names = [(m, metric) for m in c.methods for metric in METRICS]
    intervals = dict(zip(names, mean_intervals(evidence, level), strict=False))
    varies = c.scores.sum(axis=0)[:, 3] > 0  # a constant score has no correlation
    for method, interval, defined in zip(
        c.methods, _r_intervals(evidence, level), varies, strict=True
    ):
        if defined:
            intervals[method, "r"] = interval
    return intervals


def table(evidence: Evidence) -> list[dict[str, Any]]:
    """The comparison as rows of plain values: ``[{method, fitted, metrics: {name: {…}}}]``."""
    intervals = estimates(evidence)
    return [
        {
            "method": m,
            "held_out": m in FITTED,
            "metrics": {k: plain(intervals[m, k]) for k in ("r", *METRICS) if (m, k) in intervals},
        }
        for m in evidence.comparison.methods
    ]


def pearson_weights(evidence: Evidence, level: float = LEVEL) -> list[Interval]:
    """The exact weights of the four signals, each with its interval."""
    estimate = evidence.optimum
    n = len(evidence.comparison.clusters)
    if evidence.resamples is None:
        return [
            Interval(
                estimate=float(w),
                low=-math.inf,
                high=math.inf,
                level=level,
                kind="none: one conversation",
                n=n,
            )
            for w in estimate
        ]
    drawn = evidence.resamples
    left = best_over_tau(np.stack([leave_one_out(m) for m in evidence.moments]))[0]
    intervals = weight_intervals(estimate, drawn.weights, left, level)
    if (drawn.tau != evidence.tau).mean() < (1 - level) / 2:
        return intervals
    # The decay time is part of the fit, and leaving one conversation out may never change it while
    # resampling does: then the weights have two modes, and the wider form is the honest one.
    low, high = percentile_ends(drawn.weights, level)
    return [
        replace(
            i,
            low=min(i.low, float(a)),
            high=max(i.high, float(b)),
            kind=f"{i.kind} joined with percentile",
        )
        for i, a, b in zip(intervals, low, high, strict=True)
    ]


def simultaneous(
    evidence: Evidence, names: Sequence[tuple[str, str]], level: float
) -> list[Interval]:
    """Intervals for paired differences that hold together: θ ± q se, q a quantile of max |t*|.

    Below ten conversations q is Student's t with the level shared out among the comparisons.
    """
    every, _ = comparisons(evidence.comparison)
    place = [every.index(n) for n in names]
    theta, se, pivots, C = _mean_parts(evidence)
    columns = [len(theta) - len(every) + k for k in place]
    theta, se = theta[columns], se[columns]
    if C < FEW_CLUSTERS or pivots is None:
        q = special.stdtrit(C - 1, 1 - (1 - level) / (2 * len(names)))
        kind = "jackknife-t, Bonferroni over methods"
    else:
        q = np.quantile(np.abs(pivots[:, columns]).max(axis=1), level)
        kind = "studentised, maximum over methods"
    return [
        _within(
            Interval(
                estimate=float(t),
                low=float(t - q * s),
                high=float(t + q * s),
                level=level,
                kind=kind,
                n=C,
            ),
            *_DIFFERENCE,
        )
        for t, s in zip(theta, se, strict=True)
    ]


def _mean_parts(evidence: Evidence) -> tuple[Array, Array, Array | None, int]:
    """θ, its jackknife se, the resampled pivots (θ* − θ)/se*, and the number of clusters."""
    c = evidence.comparison
    sums = np.concatenate([c.metrics.reshape(len(c.sizes), -1), comparisons(c)[1]], axis=1)
    C = len(c.sizes)
    theta, _ = ratio_means(np.ones(C), sums, c.sizes)
    if C < 2:
        return theta, np.full_like(theta, np.nan), None, C
    left, _ = ratio_means(1.0 - np.eye(C), sums, c.sizes)
    drawn = evidence.resamples
    pivots = None if drawn is None else _pivots(drawn.means, drawn.means_se, theta)
    return theta, jackknife_se(left), pivots, C


def _pivots(resampled: Array, se: Array, estimate: Array) -> Array:
    return np.where(se > 0, (resampled - estimate) / np.where(se > 0, se, 1.0), 0.0)


def mean_intervals(evidence: Evidence, level: float) -> list[Interval]:
    """The metrics of every method in order, then the `comparisons`: one interval each."""
    theta, se, pivots, C = _mean_parts(evidence)
    every = _intervals(theta, se, pivots, C, level)
    num_metrics = len(theta) - len(comparisons(evidence.comparison)[0])
    return [_within(i, *(_METRIC if k < num_metrics else _DIFFERENCE)) for k, i in enumerate(every)]


def _r_intervals(evidence: Evidence, level: float) -> list[Interval]:
    scores = evidence.comparison.scores
    C = len(scores)
    r, _ = correlations(np.ones(C), scores)
    if C < 2 or evidence.resamples is None:
        return _intervals(r, np.full_like(r, np.nan), None, C, level)
    left, _ = correlations(1.0 - np.eye(C), scores)
    pivots = _pivots(evidence.resamples.r, evidence.resamples.r_se, r)
    return _intervals(r, jackknife_se(left), pivots, C, level)


def _intervals(
    theta: Array, se: Array, pivots: Array | None, C: int, level: float
) -> list[Interval]:
    if C < 2:
        low, high, kind = theta - np.inf, theta + np.inf, "none: one conversation"
    elif C < FEW_CLUSTERS or pivots is None:
        half = special.stdtrit(C - 1, (1 + level) / 2) * se
        low, high, kind = theta - half, theta + half, "jackknife-t"
    else:
        (low, high), kind = studentised_ends(pivots, theta, se, level), "studentised"
    return [
        Interval(estimate=float(t), low=float(a), high=float(b), level=level, kind=kind, n=C)
        for t, a, b in zip(theta, low, high, strict=True)
    ]


def _within(interval: Interval, low: float, high: float) -> Interval:
    """The same interval, cut at the ends of the range that the parameter can have."""
    if math.isinf(interval.low):
        return interval
    return replace(interval, low=max(interval.low, low), high=min(interval.high, high))

"""What the importance study concludes from its evidence: intervals, table, verdicts, advice.

Every interval is by conversation. The four claims share one error: each is judged at
1 − .05/4 (Bonferroni), and M9 besides by the largest |t| over all fitted methods, since the best
of them is what it speaks of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from leray.evidence.permutation import sign_flip_test
from leray.evidence.resampling import best_over_tau
from leray.evidence.verdict import Verdict, judge, not_judged
from leray.memory.blocks import DAY, FOUR
from leray.memory.conversations import Truth
from leray.memory.methods import FITTED
from leray.memory.retrieval import METRICS
from leray.memory.weights import LinearWeights
from leray.studies.importance import CLAIMS, LEVEL, Evidence, comparisons
from leray.studies.outcome import plain

Array = np.ndarray
FEW_CLUSTERS = (
    10  # below it the jackknife-t form; coverage of each: docs/benchmarks/calibration.txt
)
SIMULTANEOUS = 1 - (1 - LEVEL) / len(CLAIMS)
_FAMILY = f"simultaneous over {len(CLAIMS)} claims"


def estimates(evidence: Evidence, level: float = LEVEL) -> dict[tuple[str, str], Interval]:
    """The interval of every metric of every method, one at a time (not simultaneous)."""
    c = evidence.comparison
    names = [(m, metric) for m in c.methods for metric in METRICS]
    intervals = dict(zip(names, _mean_intervals(evidence, level), strict=False))
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a verdict says besides its numbers: which data, seen before, which truth."""

    data: str
    seen: bool
    truth: Truth


def verdicts(
    evidence: Evidence, setting: Setting, num_flips: int, rng: np.random.Generator
) -> list[Verdict]:
    """The four claims, judged."""
    n = len(evidence.comparison.clusters)
    about = {"data": setting.data, "seen": setting.seen}
    if n < 2:
        why = "one conversation only: no interval over conversations is possible"
        return [not_judged(c, n=n, why=why, **about) for c in CLAIMS]
    return [
        *_weight_verdicts(evidence, setting, about),
        *_difference_verdicts(evidence, about, num_flips, rng),
    ]


def _weight_verdicts(evidence: Evidence, setting: Setting, about: dict[str, Any]) -> list[Verdict]:
    """M1 and M2; decay can be judged only where queries have a time of asking."""
    m1, m2 = CLAIMS[:2]
    intervals = dict(zip(FOUR, pearson_weights(evidence, SIMULTANEOUS), strict=True))
    n = len(evidence.comparison.clusters)
    how = f"exact optimum, refitted by conversation; {_FAMILY}"
    surprise = judge(m1, _at(intervals["surprise"]), method=how, note=_caution(n), **about)
    if setting.truth == "evidence":
        why = (
            "not judged on evidence truth: its questions carry no time of asking, so there is "
            "nothing to decay from; callback truth has true times (--data chitchat)"
        )
        decay = not_judged(m2, n=n, why=why, interval=_at(intervals["decay"]), **about)
    else:
        note = (
            "judged on callback truth, whose messages carry true times; time constant "
            f"{_span(evidence.taus[evidence.tau])}, chosen with the weights in every resample"
        )
        note = _join(note, _caution(n))
        decay = judge(m2, _at(intervals["decay"]), method=how, note=note, **about)
    return [surprise, decay]


def _difference_verdicts(
    evidence: Evidence, about: dict[str, Any], num_flips: int, rng: np.random.Generator
) -> list[Verdict]:
    """M3 and M9: paired differences of nDCG@10."""
    m3, m9 = CLAIMS[2:]
    names, sums = comparisons(evidence.comparison)
    caution = _caution(len(sums))
    alone = _mean_intervals(evidence, SIMULTANEOUS)[-len(names)]
    fitted = simultaneous(evidence, names[1:], SIMULTANEOUS)
    best = max(range(len(fitted)), key=lambda k: fitted[k].low)
    largest = replace(
        fitted[best],
        estimate=max(i.estimate for i in fitted),
        high=max(i.high for i in fitted),
    )
    p_alone = sign_flip_test(sums[:, :1], num_flips, rng)[0].p_value
    p_best = min(t.p_value for t in sign_flip_test(sums[:, 1:], num_flips, rng))
    how = f"paired by conversation; {_FAMILY}"
    every = f"{how} and {len(fitted)} fitted methods"
    note = _join(f"the best is {names[1 + best][0]}", caution)
    test = "two-sided, sign flips by conversation, for no difference at all"
    over = f"{test}, the largest over {len(fitted)} fitted methods"
    return [
        judge(m3, _at(alone), method=how, p_value=p_alone, p_value_is=test, note=caution, **about),
        judge(m9, _at(largest), method=every, p_value=p_best, p_value_is=over, note=note, **about),
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
        Interval(
            estimate=float(t),
            low=float(t - q * s),
            high=float(t + q * s),
            level=level,
            kind=kind,
            n=C,
        )
        for t, s in zip(theta, se, strict=True)
    ]


def recommendation(evidence: Evidence) -> tuple[LinearWeights, str]:
    """What a person should do, in one sentence, and the weights to do it with."""
    names, _ = comparisons(evidence.comparison)
    alone = evidence.fitted["relevance"]
    if len(evidence.comparison.clusters) < 2:
        return alone, (
            "Use relevance alone: with one conversation nothing fitted can be tested on another."
        )
    fitted = simultaneous(evidence, names[1:], SIMULTANEOUS)
    best = max(range(len(fitted)), key=lambda k: fitted[k].low)
    margin = CLAIMS[-1].margin
    if fitted[best].low <= margin:
        return alone, (
            "Use relevance alone: no fitted weights beat it by the margin of "
            f"{margin:g} nDCG@10 on conversations left out of the fit."
        )
    method = names[1 + best][0]
    gain = fitted[best]
    return evidence.fitted[method], (
        f"Use the {method} weights: on conversations left out of the fit they gain "
        f"{gain.estimate:+.3f} nDCG@10 over relevance alone ({gain.low:+.3f} to {gain.high:+.3f})."
    )


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


def _mean_intervals(evidence: Evidence, level: float) -> list[Interval]:
    theta, se, pivots, C = _mean_parts(evidence)
    return _intervals(theta, se, pivots, C, level)


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


def _at(interval: Interval) -> Interval:
    """The same interval, its level named as the family's: it was made at 1 − .05/claims."""
    return replace(interval, level=LEVEL, kind=f"{interval.kind}, {_FAMILY}")


def _caution(n: int) -> str:
    return "" if n >= FEW_CLUSTERS else f"{n} conversations say little: read it as a hint"


def _join(*notes: str) -> str:
    return "; ".join(n for n in notes if n)


def _span(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"

"""What the importance study concludes from its evidence: intervals, table, verdicts, advice.

Every interval is by conversation. The four claims share one error: each is judged at
1 − .05/4 (Bonferroni), and M9 besides by the largest |t| over all fitted methods, since the best
of them is what it speaks of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from leray.evidence.bootstrap import (
    Interval,
    correlations,
    jackknife_se,
    jackknife_t_ends,
    leave_one_out,
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
from leray.studies.importance import CLAIMS, LEVEL, Evidence, Weights, comparisons

Array = np.ndarray
FEW_CLUSTERS = 10  # below it the jackknife-t form; coverage of each: docs/benchmarks/coverage.txt
SIMULTANEOUS = 1 - (1 - LEVEL) / len(CLAIMS)


def estimates(evidence: Evidence, level: float = LEVEL) -> dict[tuple[str, str], Interval]:
    """The interval of every metric of every method, one at a time (not simultaneous)."""
    c = evidence.comparison
    names = [(m, metric) for m in c.methods for metric in METRICS]
    intervals = dict(zip(names, _mean_intervals(evidence, level), strict=False))
    for method, interval in zip(c.methods, _r_intervals(evidence, level), strict=True):
        intervals[method, "r"] = interval
    return intervals


def table(evidence: Evidence) -> list[dict[str, Any]]:
    """The comparison as rows of plain values: ``[{method, fitted, metrics: {name: {…}}}]``."""
    intervals = estimates(evidence)
    return [
        {
            "method": m,
            "held_out": m in FITTED,
            "metrics": {k: plain(intervals[m, k]) for k in ("r", *METRICS)},
        }
        for m in evidence.comparison.methods
    ]


def plain(interval: Interval) -> dict[str, Any]:
    """An interval as JSON has it; ends that are infinite or missing are null."""
    ends = [v if math.isfinite(v) else None for v in (interval.low, interval.high)]
    return {
        "estimate": interval.estimate,
        "interval": None if None in ends else ends,
        "level": interval.level,
        "interval_kind": interval.kind,
    }


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
    left = best_over_tau(np.stack([leave_one_out(m) for m in evidence.moments]))[0]
    return weight_intervals(estimate, evidence.resamples.weights, left, level)


def verdicts(
    evidence: Evidence,
    *,
    data: str,
    seen: bool,
    truth: Truth,
    num_flips: int,
    rng: np.random.Generator,
) -> list[Verdict]:
    """The four claims, judged."""
    n = len(evidence.comparison.clusters)
    if n < 2:
        why = "one conversation only: no interval over conversations is possible"
        return [not_judged(c, data=data, seen=seen, n=n, why=why) for c in CLAIMS]
    m1, m2, m3, m9 = CLAIMS
    common = {"data": data, "seen": seen}
    caution = _caution(n)
    weights = pearson_weights(evidence, SIMULTANEOUS)
    how = f"exact optimum, refitted by conversation; simultaneous over {len(CLAIMS)} claims"
    out = [judge(m1, _at(weights[FOUR.index("surprise")]), method=how, note=caution, **common)]
    if truth == "evidence":
        out.append(_decay_without_times(evidence, weights, n, data, seen))
    else:
        note = (
            "judged on callback truth, whose messages carry true times; time constant "
            f"{_span(evidence.taus[evidence.tau])}, chosen with the weights in every resample"
        )
        out.append(
            judge(
                m2,
                _at(weights[FOUR.index("decay")]),
                method=how,
                note=_join(note, caution),
                **common,
            )
        )
    return [*out, *_differences(evidence, m3, m9, num_flips, rng, caution, common)]


def _differences(evidence, m3, m9, num_flips, rng, caution, common) -> list[Verdict]:
    names, sums = comparisons(evidence.comparison)
    intervals = _mean_intervals(evidence, SIMULTANEOUS)[-len(names) :]
    p = [t.p_value for t in sign_flip_test(sums[:, :1], num_flips, rng)]
    p += [t.p_value for t in sign_flip_test(sums[:, 1:], num_flips, rng)]
    how = f"paired by conversation; simultaneous over {len(CLAIMS)} claims"
    fitted = simultaneous(evidence, names[1:], SIMULTANEOUS)
    best = max(range(len(fitted)), key=lambda k: fitted[k].low)
    largest = Interval(
        estimate=max(i.estimate for i in fitted),
        low=fitted[best].low,
        high=max(i.high for i in fitted),
        level=LEVEL,
        kind=fitted[best].kind,
        n=fitted[best].n,
    )
    note = f"the best is {names[1 + best][0]}"
    return [
        judge(m3, _at(intervals[0]), method=how, p_value=p[0], note=caution, **common),
        judge(
            m9,
            largest,
            method=f"{how} and {len(fitted)} fitted methods",
            p_value=min(p[1:]),
            note=_join(note, caution),
            **common,
        ),
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
        q = stats.t.ppf(1 - (1 - level) / (2 * len(names)), C - 1)
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


def recommendation(evidence: Evidence) -> tuple[Weights, str]:
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
        half = stats.t.ppf((1 + level) / 2, C - 1) * se
        low, high, kind = theta - half, theta + half, "jackknife-t"
    else:
        (low, high), kind = studentised_ends(pivots, theta, se, level), "studentised"
    return [
        Interval(estimate=float(t), low=float(a), high=float(b), level=level, kind=kind, n=C)
        for t, a, b in zip(theta, low, high, strict=True)
    ]


def _at(interval: Interval) -> Interval:
    """The same interval, its level named as the family's: it was made at 1 − .05/claims."""
    return Interval(
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        level=LEVEL,
        kind=f"{interval.kind}, simultaneous over {len(CLAIMS)} claims",
        n=interval.n,
    )


def _decay_without_times(
    evidence: Evidence, weights: list[Interval], n: int, data: str, seen: bool
) -> Verdict:
    w = weights[FOUR.index("decay")]
    return not_judged(
        CLAIMS[1],
        data=data,
        seen=seen,
        n=n,
        why="not judged on evidence truth: its questions carry no time of asking, so there is "
        f"nothing to decay from (the weight fitted all the same is {w.estimate:.3f}); "
        "callback truth has true times: judge it with --data chitchat",
    )


def _caution(n: int) -> str:
    return "" if n >= FEW_CLUSTERS else f"{n} conversations say little: read it as a hint"


def _join(*notes: str) -> str:
    return "; ".join(n for n in notes if n)


def _span(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"

"""What the importance study concludes from its evidence: verdicts and advice.

Every interval is by conversation and simultaneous over the nine claims (Bonferroni); M9 besides by
the largest |t| over all fitted methods, since the best of them is what it speaks of. Nothing is
concluded from fewer than `MIN_CLUSTERS` conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leray.evidence.bootstrap import Interval
from leray.evidence.permutation import sign_flip_test
from leray.evidence.verdict import Verdict, judge, not_judged
from leray.memory.blocks import DAY, FOUR
from leray.memory.conversations import Truth
from leray.memory.weights import LinearWeights
from leray.studies.claims import CLAIMS, FIXED_AFTER, LEVEL, SIMULTANEOUS, claim
from leray.studies.importance import Evidence, comparisons
from leray.studies.intervals import FEW_CLUSTERS, mean_intervals, pearson_weights, simultaneous
from leray.studies.outcome import Outcome

MIN_CLUSTERS = 5
"""Coverage is measured from 5 conversations on (``benchmarks/calibration.py``)."""

_FAMILY = f"simultaneous over {len(CLAIMS)} claims"
_BY_METHODS = ("M4", "M5", "M6", "M8")
SIMULATION = "montecarlo"
"""The method that speaks of simulated conversations only: M7 is its own."""

_NOT_BY_CLUSTER = ("M6", "M7")  # of computations: more conversations would not change them


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a verdict says besides its numbers: which data, seen before, which truth."""

    data: str
    seen: bool
    truth: Truth
    timed: bool
    """Whether its queries say when they were asked."""

    def about(self, name: str) -> dict[str, Any]:
        """Data and status of a claim's verdict."""
        known = self.data.partition(":")[0] in FIXED_AFTER.get(name, ())
        return {"data": self.data, "seen": self.seen or known}


def verdicts(
    evidence: Evidence,
    outcomes: Sequence[Outcome],
    setting: Setting,
    num_flips: int,
    rng: np.random.Generator,
) -> list[Verdict]:
    """Every claim that this run can speak to, in the order of the ledger."""
    judged = [
        *_weight_verdicts(evidence, setting),
        *_difference_verdicts(evidence, setting, num_flips, rng),
        *(
            _by_method(o, name, setting)
            for o in outcomes
            for name in o.estimates
            if name in _BY_METHODS and o.name != SIMULATION
        ),
    ]
    place = {c.id: k for k, c in enumerate(CLAIMS)}
    return sorted(judged, key=lambda v: place[v.claim])


def _weight_verdicts(evidence: Evidence, setting: Setting) -> list[Verdict]:
    """M1 and M2; decay can be judged only where queries have a time of asking."""
    intervals = dict(zip(FOUR, pearson_weights(evidence, SIMULTANEOUS), strict=True))
    how = f"exact optimum, refitted by conversation; {_FAMILY}"
    surprise = _verdict(
        "M1", intervals["surprise"], setting, method=how, why_not=_constant("surprise", evidence)
    )
    if not setting.timed:
        why = (
            "not judged on evidence truth: its questions carry no time of asking, so there is "
            "nothing to decay from; callback truth has true times (--data chitchat)"
        )
        return [surprise, _verdict("M2", intervals["decay"], setting, method=how, why_not=why)]
    tau = f"time constant {_span(evidence.taus[evidence.tau])}"
    note = (
        f"judged on callback truth, whose messages carry true times; {tau}, chosen with the "
        "weights in every resample"
        if setting.truth == "callback"
        else f"judged on evidence truth, whose questions carry the time of asking; {tau}, as given"
    )
    why = _constant("decay", evidence)
    return [
        surprise,
        _verdict("M2", intervals["decay"], setting, method=how, why_not=why, note=note),
    ]


def _constant(signal: str, evidence: Evidence) -> str:
    """Why nothing can be said of the weight of a signal that is left out; empty where it is not."""
    if signal in evidence.varying:
        return ""
    return f"these data cannot say: {signal} is the same for every pair, and was left out"


def _difference_verdicts(
    evidence: Evidence, setting: Setting, num_flips: int, rng: np.random.Generator
) -> list[Verdict]:
    """M3 and M9: paired differences of nDCG@10."""
    names, sums = comparisons(evidence.comparison)
    if len(sums) < 2:
        why = "one conversation only: no interval over conversations is possible"
        return [
            not_judged(claim(m), n=len(sums), why=why, **setting.about(m)) for m in ("M3", "M9")
        ]
    alone = mean_intervals(evidence, SIMULTANEOUS)[-len(names)]
    fitted = simultaneous(evidence, names[1:], SIMULTANEOUS)
    largest = max(range(len(fitted)), key=lambda k: fitted[k].estimate)
    surest = max(range(len(fitted)), key=lambda k: fitted[k].low)
    best = replace(fitted[largest], low=fitted[surest].low, high=max(i.high for i in fitted))
    note = f"the largest gain is that of {names[1 + largest][0]}"
    if surest != largest:
        note += f", the surest that of {names[1 + surest][0]}"
    how = f"paired by conversation; {_FAMILY}"
    p_alone = sign_flip_test(sums[:, :1], num_flips, rng)[0].p_value
    gains = sign_flip_test(sums[:, 1:], num_flips, rng, two_sided=False)
    return [
        _verdict(
            "M3",
            alone,
            setting,
            method=how,
            p_value=p_alone,
            p_value_is="two-sided, sign flips by conversation, for no difference at all",
        ),
        _verdict(
            "M9",
            best,
            setting,
            method=f"{how} and {len(fitted)} fitted methods",
            p_value=min(t.p_value for t in gains),
            p_value_is="one-sided, sign flips by conversation, for no gain by any of "
            f"{len(fitted)} fitted methods",
            note=note,
        ),
    ]


def simulated_verdicts(outcomes: Sequence[Outcome], data: str) -> list[Verdict]:
    """The verdicts on simulated conversations, which follow from what was planted in them."""
    setting = Setting(data=data, seen=True, truth="evidence", timed=True)
    return [
        _by_method(o, c.id, setting)
        for o in outcomes
        if o.name == SIMULATION
        for c in CLAIMS
        if c.id in o.estimates
    ]


def _by_method(outcome: Outcome, name: str, setting: Setting) -> Verdict:
    """The verdict on a claim that one of the heavy methods estimated."""
    return _verdict(
        name, outcome.estimates[name], setting, method=f"{outcome.title.lower()}; {_FAMILY}"
    )


def _verdict(
    name: str,
    interval: Interval,
    setting: Setting,
    *,
    method: str,
    why_not: str = "",
    note: str = "",
    **test: Any,
) -> Verdict:
    """Judge by the interval, unless too little stands behind it; a few conversations are a hint."""
    by_cluster = name not in _NOT_BY_CLUSTER
    if by_cluster:
        why_not = _why_not(name, interval) or why_not
    about = setting.about(name)
    if why_not:
        shown = None if np.isinf(interval.low) else _at(interval)
        return not_judged(claim(name), n=interval.n, why=why_not, interval=shown, **about)
    if by_cluster and interval.n < FEW_CLUSTERS:
        caution = f"{interval.n} conversations say little: read it as a hint"
        note = f"{note}; {caution}" if note else caution
    return judge(claim(name), _at(interval), method=method, note=note, **test, **about)


def _why_not(name: str, interval: Interval) -> str:
    if interval.n == 1:
        return "one conversation only: no interval over conversations is possible"
    if interval.n < MIN_CLUSTERS:
        return (
            f"{interval.n} conversations are too few: intervals keep their promise from "
            f"{MIN_CLUSTERS} on"
        )
    if interval.low == interval.high and name not in ("M1", "M2"):
        return "every conversation gives the same value: nothing says how much another would differ"
    return ""


def recommendation(evidence: Evidence) -> tuple[LinearWeights, str]:
    """What a person should do, in one sentence, and the weights to do it with."""
    names, sums = comparisons(evidence.comparison)
    alone = evidence.fitted["relevance"]
    if len(sums) < MIN_CLUSTERS:
        few = "one conversation" if len(sums) == 1 else f"{len(sums)} conversations"
        return alone, (
            f"Use relevance alone: with {few} nothing fitted can be defended on others "
            f"(at least {MIN_CLUSTERS} are needed)."
        )
    fitted = simultaneous(evidence, names[1:], SIMULTANEOUS)
    best = max(range(len(fitted)), key=lambda k: fitted[k].low)
    margin = claim("M9").margin
    gain = fitted[best]
    if gain.low <= margin or gain.low == gain.high:
        return alone, (
            "Use relevance alone: no fitted weights beat it by the margin of "
            f"{margin:g} nDCG@10 on conversations left out of the fit."
        )
    method = names[1 + best][0]
    what = "hybrid weights (five signals with BM25)" if method == "hybrid" else f"{method} weights"
    return evidence.fitted[method], (
        f"Use the {what}: on conversations left out of the fit they gain "
        f"{gain.estimate:+.3f} nDCG@10 over relevance alone ({gain.low:+.3f} to {gain.high:+.3f})."
    )


def _at(interval: Interval) -> Interval:
    """The same interval, its level named as the family's: it was made at 1 − .05/claims."""
    return replace(interval, level=LEVEL, kind=f"{interval.kind}, {_FAMILY}")


def _span(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"

"""What one set of signals yielded about the ceiling, and how it is said: text, numbers, curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leray.evidence.bootstrap import Interval
from leray.evidence.ceiling import (
    REFUSED_BEYOND,
    Profile,
    at_distance_zero,
    at_rank,
    correlation_ratio,
    thinned,
)
from leray.memory.blocks import ALL, FOUR
from leray.memory.ceiling import MODELS
from leray.studies.outcome import plain

Array = np.ndarray
CLAIMED = 0.87
"""The share of what is possible that is judged: "87% of what is possible"."""
HELD_OUT = ("linear weights", *MODELS)
NAMES = {"four": f"{len(FOUR)} signals", "all": f"{len(ALL)} signals"}
_RANKS, _SHARES = (1, 2, 4, 8, 16, 32, 64), (0.5, 0.25, 0.125)
_PROPORTION = "ceiling of r, estimated from neighbours, truth Lipschitz"
_SMOOTH = "ceiling of r, estimated from neighbours, truth twice differentiable"
_AT_MOST = "linear r as a share of the best's (of the ceiling: at most this)"
_SHARE = "linear r as a share of the estimated ceiling (truth Lipschitz)"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All numbers of one set of signals; each an estimate and then its values without a group.

    Without a group means that its rows do not count, as positives or as neighbours; fitted models
    and weights stay as they were. ``neighbours`` and ``own`` are None where they were refused.
    """

    key: str
    reach: float
    r: Array
    ndcg: Array
    neighbours: Profile | None
    own: Profile | None

    @property
    def best_r(self) -> int:
        """Which of `HELD_OUT` has the largest r."""
        return int(self.r[:, 0].argmax())

    @property
    def best_ndcg(self) -> int:
        """Which of `HELD_OUT` has the largest nDCG@10."""
        return int(self.ndcg[:, 0].argmax())


def judged(estimates: dict[str, Interval], key: str) -> str:
    """What can be said of "87% of what is possible"."""
    claim = f"“{CLAIMED:.0%} of what is possible”"
    most = estimates.get(f"{NAMES[key]}: {_AT_MOST}")
    share = estimates.get(f"{NAMES[key]}: {_SHARE}")
    if most is not None and most.high < CLAIMED:
        return f"{claim} is denied, whatever the smoothness"
    if share is None:
        return f"{claim} can be neither said nor denied"
    if share.high < CLAIMED:
        return f"{claim} is denied, if relevance changes at most in proportion to the distance"
    if share.low > CLAIMED:
        return f"{claim} may be said, if relevance changes at most in proportion to the distance"
    return f"{claim} can be neither said nor denied, for the interval of the share holds it"


def paragraph(
    answers: Sequence[Answer], estimates: dict[str, Interval], check: dict[str, float | None]
) -> str:
    """What a reader without statistics should know."""
    four, every = answers
    recovered = ""
    if check["Lipschitz"] is not None and check["differentiable"] is not None:
        recovered = (
            f"; neighbours put that ceiling between {check['differentiable']:.3f} and "
            f"{check['Lipschitz']:.3f}"
        )
    return (
        "How close do linear weights come to the best that any function of the same signals could "
        f"do on conversations not seen? {_one(four, estimates)} {_one(every, estimates)} In "
        f"nDCG@10, which asks for the order alone, the linear weights reach {four.ndcg[0, 0]:.3f} "
        f"({NAMES['four']}) and {every.ndcg[0, 0]:.3f} ({NAMES['all']}), and the best of the three "
        f"{four.ndcg[four.best_ndcg, 0]:.3f} and {every.ndcg[every.best_ndcg, 0]:.3f}: the ceiling "
        "is at least that, and how much higher is not known. On labels planted on the four "
        "signals by a rough rule, where the ceiling is known, the better model reaches "
        f"{check['model r']:.3f} of r = {check['r']:.3f} and {check['model ndcg']:.3f} of "
        f"nDCG@10 = {check['ndcg']:.3f}{recovered}. Other signals, or these ranked within a "
        "question, have another ceiling."
    )


def _one(a: Answer, estimates: dict[str, Interval]) -> str:
    """The sentence on one set of signals."""

    def get(what: str) -> Interval | None:
        return estimates.get(f"{NAMES[a.key]}: {what}")

    name, most, part = NAMES[a.key], get(_AT_MOST), get(_SHARE)
    rough, smooth = get(_PROPORTION), get(_SMOOTH)
    text = (
        f"With {name}, linear weights have a correlation of {a.r[0, 0]:.3f} and the best of three "
        f"methods ({HELD_OUT[a.best_r]}) {a.r[a.best_r, 0]:.3f}"
    )
    if most is not None:
        text += f", so the linear weights reach at most {_share(most)} of the ceiling"
    if rough is None or smooth is None:
        text += (
            "; the ceiling itself is not estimated, since the nearest pair of another conversation "
            f"is {a.reach:.0%} as far as a random one"
        )
    else:
        text += (
            f". Nearest neighbours in other conversations put the ceiling at {rough.estimate:.3f} "
            f"({rough.low:.3f} to {rough.high:.3f}) if relevance changes at most in proportion to "
            f"the distance, and at {smooth.estimate:.3f} if smoothly; this estimate, no upper "
            f"bound, {_beside(rough, a.r[a.best_r, 0])}"
        )
    if part is not None:
        text += f", and the linear weights reach {_share(part)} of it"
    return f"{text}: {judged(estimates, a.key)}."


def _beside(rough: Interval, reached: float) -> str:
    if rough.high < reached:
        return "lies below what was reached, so it is too low"
    if rough.low <= reached:
        return "cannot be told apart from what was reached"
    return "lies above what was reached"


def _share(i: Interval) -> str:
    return (
        f"{i.estimate:.0%} ({100 * i.level:.4g}% interval by conversation {i.low:.0%} to "
        f"{i.high:.0%})"
    )


def diagnostics(
    answers: Sequence[Answer],
    y: Array,
    num_groups: int,
    num_voters: int,
    estimates: dict[str, Interval],
    check: dict[str, float | None],
    num_neighbours: int,
) -> dict[str, float | int | str | bool | None]:
    out: dict[str, float | int | str | bool | None] = {
        "interval": "jackknife-t, leaving out a group of conversations at a time",
        "groups of conversations": num_groups,
        "relevant pairs": int(y.sum()),
        "share of relevant pairs": float(y.mean()),
        "neighbours looked at (K)": num_neighbours,
        "neighbours that vote for nDCG@10": num_voters,
        "no estimate where the nearest is further, as a share of a random pair": REFUSED_BEYOND,
    }
    for a in answers:
        name = NAMES[a.key]
        out[f"{name}: distance to the nearest, as a share of a random pair"] = a.reach
        for model, r, ndcg in zip(HELD_OUT, a.r[:, 0], a.ndcg[:, 0], strict=True):
            out[f"{name}: {model}, r"], out[f"{name}: {model}, nDCG@10"] = float(r), float(ndcg)
        out[f"{name}: judged"] = judged(estimates, a.key)
        if a.neighbours is None:
            out[f"{name}: ceiling from neighbours"] = "refused: nothing is near"
            continue
        p = a.neighbours
        out[f"{name}: mean distance to the nearest (normal scores)"] = float(p.distance[0, 0])
        out[f"{name}: mean distance at rank {num_neighbours}"] = float(p.distance[0, -1])
        for k in (k for k in _RANKS if k <= num_neighbours):
            out[f"{name}: η from the first {k}"] = float(at_rank(p, k)[0])
        for s in _SHARES:
            out[f"{name}: η from the first, {s:.3g} of the rows"] = float(thinned(p, s)[0])
    return out | {f"planted truth: {k}": v for k, v in check.items()}


def details(
    answers: Sequence[Answer], estimates: dict[str, Interval], check: dict[str, float | None]
) -> dict[str, Any]:
    """The curve over distance and every estimate, for the figure."""
    a = answers[0]
    curves = {
        name: _curve(p) for name, p in (("other", a.neighbours), ("own", a.own)) if p is not None
    }
    return {
        "curves": curves,
        "rows": [{"name": n, **plain(i), "n": i.n} for n, i in estimates.items()],
        "check": check,
        "linear_r": float(a.r[0, 0]),
        "best_r": float(a.r[a.best_r, 0]),
        "best": HELD_OUT[a.best_r],
        "refused": [NAMES[b.key] for b in answers if b.neighbours is None],
    }


def _curve(p: Profile) -> dict[str, Any]:
    """η by distance, over ranks 1, 2, 3–4, 5–8, …; and where each extrapolation ends."""
    K = p.rate.shape[1]
    starts = np.unique([0, *(2**j for j in range(K.bit_length()) if 2**j < K)])
    sizes = np.diff([*starts, K])
    rate = np.add.reduceat(p.rate[0], starts) / sizes
    return {
        "distance": (np.add.reduceat(p.distance[0], starts) / sizes).tolist(),
        "eta": correlation_ratio(rate, p.base[:1]).tolist(),
        "ranks": [[int(s) + 1, int(s + n)] for s, n in zip(starts, sizes, strict=True)],
        "Lipschitz": float(at_distance_zero(p, 1)[0]),
        "differentiable": float(at_distance_zero(p, 2)[0]),
    }

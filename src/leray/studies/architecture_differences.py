"""What models of the architecture study differ by, and what happens inside them.

Everything is paired by seed, losses by document too (:mod:`leray.evidence.paired`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from leray.evidence.bootstrap import Interval
from leray.evidence.paired import (
    by_seed,
    compute_to_reach,
    crossed_interval,
    sign_flip_p_value,
    t_interval,
)
from leray.studies.architecture import Trained


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What two models differ by, paired by seed and where it is a loss by document.

    Args:
        by_seed: Nats a token, or the units of the estimand.
        interval: Over seeds; ``crossed``: over seeds and documents.
        p_value: Two-sided, by sign flips over seeds.
    """

    name: str
    against: str
    by_seed: np.ndarray
    interval: Interval
    p_value: float
    crossed: Interval | None = None


def difference(
    one: Trained, other: Trained, level: float, generator: np.random.Generator
) -> Difference:
    """Of the losses of two variants that were trained on the same seeds."""
    gap = one.nats - other.nats
    found = over_seeds(one.variant.name, other.variant.name, by_seed(gap, one.tokens), level)
    return replace(found, crossed=crossed_interval(gap, one.tokens, level, generator))


def over_seeds(name: str, against: str, values: np.ndarray, level: float) -> Difference:
    """Of anything that every seed has one value of."""
    return Difference(
        name=name,
        against=against,
        by_seed=values,
        interval=t_interval(values, level),
        p_value=sign_flip_p_value(values),
    )


def last_composition(trained: Trained) -> np.ndarray:
    """``[seeds]``: how far the transitions are from d d = 0 after training; 1 is chance."""
    found = [c.composition for c in trained.curves]
    return np.array([float(c[-1]) for c in found if c is not None])


def composition_by_width(trained: dict[int, Trained], level: float) -> Difference:
    """What every doubling of the width adds to the transitions' composition, by least squares."""
    widths = np.log2(sorted(trained))
    values = np.stack([last_composition(trained[w]) for w in sorted(trained)])
    slopes = np.polyfit(widths, values, 1)[0]
    name = ", ".join(map(str, sorted(trained)))
    return over_seeds(f"widths {name}", "none", slopes, level)


def leakage(trained: Trained, level: float) -> Difference:
    """Correlation, over time, of what neighbouring levels' readouts gain at each interval.

    What all seeds gain at an interval is taken off first: that training goes on is no leak. Were
    the intervals of one level shuffled, the mean over all orders would be 0 exactly.
    """
    losses = np.stack([c.levels for c in trained.curves if c.levels is not None])
    gains = -np.diff(losses, axis=1)
    gains -= gains.mean(axis=0)
    values = [
        np.mean([np.corrcoef(run[:, i], run[:, i + 1])[0, 1] for i in range(run.shape[1] - 1)])
        for run in gains
    ]
    return over_seeds(trained.variant.name, "time shuffled", np.array(values), level)


def compute_share(
    whole: Trained, shorter: dict[float, Trained], target: Trained, level: float, cost: float
) -> Interval | None:
    """The share of the target's training cost with which a model reaches the target's final loss.

    Args:
        cost: Of a token of the model, relative to the target's.

    None without shorter runs, or where a seed does not reach it with all of its own steps. The
    interval is over seeds, of the logarithm; where a seed reaches it with the smallest budget
    already, no more is known than an upper end.
    """
    if not shorter:
        return None
    fractions = sorted(shorter)
    num_seeds = min(len(shorter[f].losses) for f in fractions)
    runs = [*(shorter[f] for f in fractions), whole]
    losses = np.stack([r.losses[:num_seeds] for r in runs], axis=1)
    found = compute_to_reach(np.array([*fractions, 1.0]), losses, target.losses[:num_seeds])
    if np.isnan(found).any():
        return None
    share = t_interval(np.log(found * cost), level)
    estimate, low, high = (float(np.exp(x)) for x in (share.estimate, share.low, share.high))
    kind = "Student's t over seeds, of the logarithm"
    if (found == fractions[0]).any():
        low, kind = 0.0, f"upper end only, {kind}"
    return replace(share, estimate=estimate, low=low, high=high, kind=kind)

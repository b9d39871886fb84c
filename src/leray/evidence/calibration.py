"""Does a method do what it says? Counting how often, on data whose truth is known.

An interval at level .95 should hold the truth in 95% of data sets, and a test at .05 should
reject a true null in 5%. Both are a share of independent trials, so the count is binomial, and its
own error is part of the answer.

Source: Wilson (JASA 1927) for the interval of a share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

Array = np.ndarray
_ROUNDING = 1e-12  # an end closer than this to the truth holds it (weights of exactly 0 and 1)


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened, in independent trials.

    >>> rate = Rate(hits=1900, trials=2000)
    >>> rate.value, round(rate.se, 4), [round(float(e), 4) for e in rate.wilson(0.95)]
    (0.95, 0.0049, [0.9396, 0.9587])
    """

    hits: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.trials or self.trials == 0:
            raise ValueError(f"{self.hits} hits in {self.trials} trials is no rate")

    @property
    def value(self) -> float:
        """The share p̂."""
        return self.hits / self.trials

    @property
    def se(self) -> float:
        """Its Monte Carlo standard error √(p̂(1 − p̂)/n); 0 where p̂ is 0 or 1."""
        return float(np.sqrt(self.value * (1 - self.value) / self.trials))

    def wilson(self, level: float) -> tuple[float, float]:
        """Wilson's score interval: all p with |p̂ − p| ≤ z √(p(1 − p)/n)."""
        z2 = float(special.ndtri((1 + level) / 2)) ** 2 / self.trials
        centre = (self.value + z2 / 2) / (1 + z2)
        half = np.sqrt(z2 * (self.value * (1 - self.value) + z2 / 4)) / (1 + z2)
        return centre - half, centre + half


@dataclass(frozen=True, kw_only=True, slots=True)
class Criterion:
    """What a measured rate must be, fixed before it is measured.

    Args:
        nominal: What the method promises.
        tolerance: How far the measured rate may lie from it. None: it may not lie below it by
            more than two Monte Carlo standard errors (at p̂ = nominal), and above it as it likes.
    """

    nominal: float
    tolerance: float | None

    def met(self, rate: Rate) -> bool:
        """Whether the rate is what it must be."""
        if self.tolerance is None:
            se = np.sqrt(self.nominal * (1 - self.nominal) / rate.trials)
            return bool(rate.value >= self.nominal - 2 * se)
        return abs(rate.value - self.nominal) <= self.tolerance + _ROUNDING

    def __str__(self) -> str:
        if self.tolerance is None:
            return f">= {self.nominal:.1%} - 2 se"
        return f"{self.nominal:.1%} +- {self.tolerance:.1%}"


def coverage(ends: Float[Array, "trials 2"], truth: float) -> Rate:
    """How often the truth lies in [low, high], ends included; an end that is NaN never holds it."""
    low, high = ends.T
    inside = (low <= truth + _ROUNDING) & (truth - _ROUNDING <= high)
    return Rate(hits=int(inside.sum()), trials=len(ends))


def rejections(p_values: Float[Array, " trials"], alpha: float) -> Rate:
    """How often p ≤ α."""
    return Rate(hits=int((p_values <= alpha).sum()), trials=len(p_values))

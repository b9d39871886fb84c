"""Rates that were measured on planted data, and whether they are what was promised.

The criteria stand here and were fixed before any full run. A measured rate is *met* where the whole
95% Monte Carlo interval of it lies within the tolerance, *missed* where all of it lies outside, and
*undecided* where it straddles an end: then more data sets are needed, not a wider tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from leray.evidence.calibration import Rate

Array = np.ndarray
COVERAGE_TOLERANCE = 0.02
ALPHA_TOLERANCE = {0.05: 0.015, 0.01: 0.005}
"""How far a false-positive rate may lie from its level."""
UNIFORM_ALPHA = 0.05
"""Family-wise level of the tests that ranks are uniform, shared out among the parameters."""
MONTE_CARLO_LEVEL = 0.95
MET, MISSED, UNDECIDED = "met", "missed", "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """Where a rate must lie: ``nominal ± tolerance``, or without an upper end.

    >>> Bound(nominal=0.95, tolerance=0.02).verdict((0.94, 0.96))
    'met'
    >>> str(Bound(nominal=0.9, tolerance=0.02, at_least=True))
    'at least 88%'
    """

    nominal: float
    tolerance: float
    at_least: bool = False

    def verdict(self, interval: tuple[float, float]) -> str:
        """What the Monte Carlo interval of the rate says."""
        low = self.nominal - self.tolerance
        high = 1.0 if self.at_least else self.nominal + self.tolerance
        if interval[1] < low or interval[0] > high:
            return MISSED
        return MET if low <= interval[0] and interval[1] <= high else UNDECIDED

    def __str__(self) -> str:
        if self.at_least:
            return f"at least {100 * (self.nominal - self.tolerance):.6g}%"
        return f"{100 * self.nominal:.6g}% ± {100 * self.tolerance:.6g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean of shares over independent data sets.

    Args:
        value: The mean.
        se: Its Monte Carlo standard error, from the spread between data sets.
        num_datasets: How many.
    """

    value: float
    se: float
    num_datasets: int

    @classmethod
    def of(cls, shares: Float[Array, " datasets"]) -> Measured:
        """Of each data set's share in [0, 1]; one that has none (NaN) is left out."""
        kept = shares[~np.isnan(shares)]
        if not len(kept):
            raise ValueError("a rate needs at least one data set")
        return cls(float(kept.mean()), float(kept.std() / np.sqrt(len(kept))), len(kept))

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval, with as many trials as give this standard error."""
        variance = self.value * (1 - self.value)
        trials = self.num_datasets if self.se == 0 else max(1, round(variance / self.se**2))
        return Rate(hits=round(self.value * trials), trials=trials).wilson(MONTE_CARLO_LEVEL)

"""What every heavy method returns: a small result that the report and the verdicts read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from leray.evidence.bootstrap import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One method's answer.

    Args:
        name: The method, one word, such as ``bayes``; figures find its details by it.
        title: As the report heads it.
        paragraph: What was done and found, for a reader without statistics; plain text.
        estimates: What it estimated, by a name that a reader understands.
        weights: Where it puts the four weights, by signal; empty where it says nothing of them.
        diagnostics: Numbers and short texts that say whether to trust it.
        computations: Names of the driven computations that it ran; their seconds are its time.
        details: What only its figure needs, ready for JSON (no NaN).
        files: Files of the run that it writes, by name, such as ``posterior.nc``.
    """

    name: str
    title: str
    paragraph: str
    estimates: dict[str, Interval]
    weights: dict[str, Interval] = field(default_factory=dict)
    diagnostics: dict[str, float | int | str | bool | None] = field(default_factory=dict)
    computations: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def row(self, seed: int) -> dict[str, Any]:
        """The outcome as ``result.json`` has it: all but details and files."""
        return {
            "name": self.name,
            "title": self.title,
            "paragraph": self.paragraph,
            "seed": seed,
            "estimates": [{"name": n, **plain(i), "n": i.n} for n, i in self.estimates.items()],
            "weights": [{"signal": s, **plain(i), "n": i.n} for s, i in self.weights.items()],
            "diagnostics": {k: _finite(v) for k, v in self.diagnostics.items()},
        }


def plain(interval: Interval) -> dict[str, Any]:
    """An interval as JSON has it; null where there is none."""
    ends = (interval.low, interval.high)
    return {
        "estimate": interval.estimate,
        "interval": list(ends) if all(map(math.isfinite, ends)) else None,
        "level": interval.level,
        "interval_kind": interval.kind,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

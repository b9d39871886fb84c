"""What a run of the architecture study came to, as JSON has it: no infinities, plain numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from leray.evidence.bootstrap import Interval
from leray.evidence.paired import t_interval
from leray.evidence.verdict import Verdict
from leray.studies.architecture import Trained
from leray.studies.architecture_claims import SIMULTANEOUS
from leray.studies.architecture_differences import Difference


def model_row(t: Trained) -> dict[str, Any]:
    """A model: its size, its rates, its losses."""
    found = t_interval(t.losses, SIMULTANEOUS)
    return {
        "method": t.variant.name,
        "what": t.variant.what,
        "role": t.variant.role,
        "parameters": t.parameters,
        "flops_per_token": t.flops,
        "rate": t.rate,
        "tried": [{"rate": r, "tune": _finite(x)} for r, x in t.tried.items()],
        "metrics": {"loss": interval_row(found)},
        "by_seed": [float(x) for x in t.losses],
    }


def gap_row(name: str, gap: Difference) -> dict[str, Any]:
    """A difference of two models, by seed."""
    return {
        "name": name,
        "method": gap.name,
        "against": gap.against,
        **interval_row(gap.interval),
        "crossed": None if gap.crossed is None else interval_row(gap.crossed),
        "p_value": gap.p_value,
        "by_seed": [float(x) for x in gap.by_seed],
    }


def interval_row(i: Interval) -> dict[str, Any]:
    """An interval; None where an end is missing."""
    ends = [_finite(i.low), _finite(i.high)]
    return {
        "estimate": i.estimate,
        "interval": None if None in ends else ends,
        "level": i.level,
        "interval_kind": i.kind,
        "n": i.n,
    }


def verdict_row(v: Verdict) -> dict[str, Any]:
    """A verdict."""
    row = asdict(v)
    ends = [_finite(x) for x in v.interval or ()]
    return row | {"interval": None if None in ends or not ends else ends}


def curve_means(t: Trained) -> dict[str, Any]:
    """Means over seeds: the training loss by interval, and the tuning loss at its end."""
    steps = t.curves[0].steps
    starts = [0, *steps[:-1]]
    train = np.mean([c.train for c in t.curves], axis=0)
    return {
        "steps": steps.tolist(),
        "train": [float(train[a:b].mean()) for a, b in zip(starts, steps, strict=True)],
        "tune": [float(x) for x in np.mean([c.tune for c in t.curves], axis=0)],
    }


def budgets(
    headline: dict[str, Trained], shorter: dict[str, dict[float, Trained]]
) -> dict[str, list[dict[str, Any]]]:
    """Losses against training FLOPs, of whole runs of several lengths."""
    return {
        name: [
            {"fraction": f, "flops_per_token": t.flops, "losses": [float(x) for x in t.losses]}
            for f, t in [*sorted(shorter[name].items()), (1.0, whole)]
        ]
        for name, whole in headline.items()
    }


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None

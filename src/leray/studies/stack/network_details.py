"""What the figures of the network study draw: what the networks learned, and how all fared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from leray.data.preparation import Prepared
from leray.memory.blocks import FOUR
from leray.memory.network_search import Fitted, linear_scores, network_scores
from leray.memory.networks import Candidate
from leray.memory.partial_dependence import (
    interaction_shares,
    linear_share,
    partial_dependence,
    quantile_grid,
)

Array = np.ndarray
_EFFECT_ROWS, _GRID, _INTERACTION_ROWS, _POINTS = 2_000, 25, 200, 15


def learned(
    prepared: Prepared,
    columns: list[str],
    fitted: list[Fitted],
    space: tuple[Candidate, ...],
) -> dict[str, Any]:
    """What the networks of one loss learned, on every so-many-th row; scores in standard units."""
    every = max(1, prepared.num_pairs // _EFFECT_ROWS)
    x = np.concatenate([b.rows(columns) for b in prepared.blocks], axis=1)[:, ::every]
    few = x[:, :: max(1, x.shape[1] // _INTERACTION_ROWS)]
    grid = quantile_grid(x, _GRID).astype(np.float32)
    curves, rivals, strengths, shares = [], [], [], []
    for f in fitted:

        def predict(rows: Array, f: Fitted = f) -> Array:
            return network_scores(f, space, rows)

        def rival(rows: Array, f: Fitted = f) -> Array:
            return linear_scores(f, rows)

        curves.append(_in_units(predict, x, grid))
        rivals.append(_in_units(rival, x, grid))
        strengths.append(interaction_shares(predict, few, _POINTS))
        shares.append(linear_share(predict, x))
    pairs = [
        {"pair": [FOUR[j], FOUR[k]], "strength": [s[j, k] for s in strengths]}
        for j, k in strengths[0]
    ]
    return {
        "signals": list(FOUR),
        "grid": grid.tolist(),
        "network": curves,
        "linear": rivals,
        "interactions": pairs,
        "linear_share": shares,
        "num_rows": x.shape[1],
        "num_folds": len(fitted),
    }


def _in_units(predict: Callable[[Array], Array], x: Array, grid: Array) -> list[list[float]]:
    """Partial dependence in standard deviations of the score, about its mean."""
    scores = predict(x).astype(np.float64)
    spread = float(scores.std()) or 1.0
    return ((partial_dependence(predict, x, grid) - scores.mean()) / spread).tolist()


def candidate_values(fitted: list[Fitted], space: tuple[Candidate, ...]) -> list[dict[str, Any]]:
    """For each loss: every candidate at the first checkpoint, as a mean over folds."""
    out = []
    for loss in dict.fromkeys(f.loss for f in fitted):
        own = [f for f in fitted if f.loss == loss]
        first = np.mean([f.values[0] for f in own], axis=0)
        out.append(
            {
                "loss": loss,
                "epochs": int(own[0].epochs_seen[0]),
                "linear": float(np.mean([f.linear_value for f in own])),
                "values": [
                    {
                        "hidden": "-".join(map(str, c.hidden)) or "none",
                        "rate": c.learning_rate,
                        "value": float(v) if np.isfinite(v) else None,
                    }
                    for c, v in zip(space, first, strict=True)
                ],
            }
        )
    return out

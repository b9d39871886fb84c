"""Planted conversations for the Bayesian methods: blocks, and what the study reads of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from leray.data.preparation import Prepared
from leray.evidence.moments import moment_table
from leray.memory.blocks import FOUR, Block, decay_name
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.importance import Evidence

TAU, CONVERSATIONS, ROWS = 3600.0, 8, 400
PLANTED = np.array([0.1, 0.2, 0.6, 0.1])


def driven(computation: Any) -> Any:
    return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)


def planted(*, timeless: bool = False) -> tuple[Prepared, Evidence]:
    """Eight conversations in which the log odds are a weighted sum of the four signals.

    Where they are ``timeless`` the first signal, decay, is constant.
    """
    rng = np.random.default_rng(0)
    names = (decay_name(TAU), *FOUR[1:])
    blocks = []
    for c in range(CONVERSATIONS):
        x = rng.normal(size=(4, ROWS)).astype(np.float32)
        if timeless:
            x[0] = 0.5
        relevant = rng.uniform(size=ROWS) < 1 / (1 + np.exp(3 - 2 * PLANTED @ x))
        offsets = np.arange(0, ROWS + 1, 40)
        blocks.append(
            Block(history=f"c{c}", signals=names, x=x, relevant=relevant, offsets=offsets,
                  clusters=(f"c{c}",) * (len(offsets) - 1))
        )  # fmt: skip
    table = moment_table([(b.history, b.x, b.relevant) for b in blocks], names)
    prepared = Prepared(
        blocks=tuple(blocks), clusters=table.clusters, num_histories=CONVERSATIONS, num_turns=ROWS,
        num_queries=80, num_pairs=CONVERSATIONS * ROWS,
        num_positives=int(sum(b.relevant.sum() for b in blocks)), dropped={},
    )  # fmt: skip
    evidence = object.__new__(Evidence)
    for name, value in {
        "taus": (TAU,),
        "tau": 0,
        "table": table,
        "moments": table.sums[None],
    }.items():
        object.__setattr__(evidence, name, value)
    return prepared, evidence


def written(outcome: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Result and details as the study writes them, with this one outcome."""
    data = {
        "name": "planted", "clusters": CONVERSATIONS, "cluster_unit": "conversations",
        "queries": 80, "pairs": CONVERSATIONS * ROWS,
    }  # fmt: skip
    result = {"data": data, "stack": [outcome.row(0)]}
    return result, {"stack": {outcome.name: outcome.details}}

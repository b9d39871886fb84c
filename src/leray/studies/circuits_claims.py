"""The ledger of the circuits study: every claim, as it was fixed before a run was judged by it.

All claims share one error: each is judged at `SIMULTANEOUS` (Bonferroni).
"""

from __future__ import annotations

from typing import Literal

from leray.evidence.verdict import Claim

SOURCE = "the structure document: a capability lives in a small set of parameters"
LEVEL = 0.95
FAITHFUL = 0.9
"""What a circuit keeps at least."""


def _claim(
    name: str,
    statement: str,
    estimand: str,
    direction: Literal["greater", "less"],
    null: float,
    margin: float,
) -> Claim:
    return Claim(
        id=name,
        statement=statement,
        source=SOURCE,
        estimand=f"{estimand}; mean over abilities, then over models",
        direction=direction,
        null=null,
        margin=margin,
        level=LEVEL,
    )


CLAIMS = (
    _claim(
        "C1",
        "A capability's circuit is tiny (0.01% of parameters)",
        "the least share of parameters, those of the largest Fisher information times squared "
        "weight, that with all others zero still score .9 where a form fires and on its controls",
        "less",
        1e-4,
        0.0,
    ),
    _claim(
        "C2",
        "Bridges shared by several capabilities exist beyond chance",
        "edges in the circuits of both of two forms, over the smaller circuit, less the same for "
        "random sets of the same sizes",
        "greater",
        0.0,
        0.1,
    ),
    _claim(
        "C6",
        "Circuits are not portable",
        f"what a circuit that keeps {FAITHFUL:g} in its own model keeps in that of the next seed",
        "less",
        FAITHFUL,
        0.4,
    ),
    _claim(
        "C6d",
        "Circuits drift",
        f"what a circuit that keeps {FAITHFUL:g} keeps when its model, still able, has learned on "
        "for 180 steps",
        "less",
        FAITHFUL,
        0.1,
    ),
    _claim(
        "C7",
        "One circuit predicts where others are",
        "the area under the curve of one form's scores for the edges of another's circuit",
        "greater",
        0.5,
        0.25,
    ),
)
SIMULTANEOUS = 1 - (1 - LEVEL) / len(CLAIMS)
"""The level of every interval (Bonferroni)."""

"""The ledger of the protection study.

Old models of other seeds chose the grids of settings, the rule for the target and at which loss two
methods are compared (docs/log.md). All claims share one error: each is judged at `SIMULTANEOUS`
(Bonferroni).
"""

from __future__ import annotations

from math import log

from leray.evidence.verdict import Claim

SOURCE = "the structure document: important sequences are protected while the rest learns fast"
OWN = "this study"
LEVEL = 0.95
FORGOTTEN = (
    "what is forgotten (points of the mean score) at the least new loss that both runs of a pair "
    "reach, each method at its own tuned setting"
)


def _less(name: str, statement: str, compared: str, margin: float, source: str = SOURCE) -> Claim:
    return Claim(
        id=name,
        statement=statement,
        source=source,
        estimand=f"{FORGOTTEN}: {compared}",
        direction="less",
        null=0.0,
        margin=margin,
        level=LEVEL,
    )


CLAIMS = (
    _less(
        "C3",
        "Protecting a capability while the rest learns fast keeps it",
        "turned zones minus the tuned uniform rate",
        0.05,
    ),
    _less("C4", "Graduated zones beat one mask", "turned zones minus a turned mask", 0.002),
    _less(
        "S16",
        "Low-rank updates keep what full ones break",
        "LoRA minus the tuned uniform rate",
        0.05,
    ),
    _less(
        "P1",
        "Turned zones forget at most a third of what elastic weight consolidation does",
        "turned zones minus a third of EWC",
        0.0,
        OWN,
    ),
    _less(
        "P2",
        "Turned zones forget at most half of what a random mask of equal size does",
        "turned zones minus half of the random mask",
        0.0,
        OWN,
    ),
    Claim(
        id="P3",
        statement="With turned zones the new task takes at most .8 of the steps",
        source=SOURCE,
        estimand="log of the steps to the target, turned zones over the tuned uniform rate; where "
        "the uniform rate does not get there, over all its steps",
        direction="less",
        null=0.0,
        margin=-log(0.8),
        level=LEVEL,
    ),
)
SIMULTANEOUS = 1 - (1 - LEVEL) / len(CLAIMS)
"""The level of every interval (Bonferroni)."""

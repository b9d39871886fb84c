"""The ledger of the protection study.

*Turned zones* are those with SOAP. P1 to P3 compare them with what has AdamW, P4 to P6 with what
has SOAP too: what the optimiser does is not what zones do.

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


ZONES = "turned zones"


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


def _steps(name: str, against: str) -> Claim:
    return Claim(
        id=name,
        statement=f"With {ZONES} the new task takes at most .8 of the steps of {against}",
        source=SOURCE if name == "P3" else OWN,
        estimand=f"log of the steps to the target, {ZONES} over {against}, of its rates the one "
        "that gets there first; a run that does not get there counts with all its steps",
        direction="less",
        null=0.0,
        margin=-log(0.8),
        level=LEVEL,
    )


def _part(name: str, part: float, of: str) -> Claim:
    told = {1 / 3: "a third", 1 / 2: "half"}[part]
    return _less(
        name,
        f"{ZONES.capitalize()} forget at most {told} of what {of} does",
        f"{ZONES} minus {told} of {of}",
        0.0,
        OWN,
    )


CLAIMS = (
    _less(
        "C3",
        "Protecting a capability while the rest learns fast keeps it",
        f"{ZONES} minus the tuned uniform rate",
        0.05,
    ),
    _less("C4", "Graduated zones beat one mask", f"{ZONES} minus a turned mask", 0.002),
    _less(
        "S16",
        "Low-rank updates keep what full ones break",
        "LoRA minus the tuned uniform rate",
        0.05,
    ),
    _part("P1", 1 / 3, "elastic weight consolidation"),
    _part("P2", 1 / 2, "a random mask of equal size"),
    _steps("P3", "the quickest uniform rate"),
    _part("P4", 1 / 3, "elastic weight consolidation with the same optimiser"),
    _part("P5", 1 / 2, "a random mask of equal size with the same optimiser"),
    _steps("P6", "the quickest uniform rate with the same optimiser"),
)
SIMULTANEOUS = 1 - (1 - LEVEL) / len(CLAIMS)
"""The level of every interval (Bonferroni)."""

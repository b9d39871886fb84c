"""From a claim and an interval to a verdict: one pure function.

A claim is fixed before the run: what is estimated, in which direction, by how much it must differ
to matter (the margin), and at which level. It says that the estimand θ lies in a region:
``greater``: θ ≥ null + margin; ``less``: θ ≤ null − margin; ``within``: |θ − null| ≤ margin.
The verdict is **supported** where the simultaneous interval lies wholly inside the region,
**refuted** where wholly outside, otherwise **undecided**.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

from leray.evidence.bootstrap import Interval

Direction = Literal["greater", "less", "within"]
Status = Literal["confirmatory", "replication"]
Decision = Literal["supported", "refuted", "undecided"]

NOT_JUDGED = "not judged"
"""The method of a verdict that concludes nothing because these data cannot speak to the claim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A statement that can be judged, as it stood before the data were seen.

    Args:
        id: Such as ``M1``.
        statement: One sentence, as its source has it.
        source: Where the claim comes from.
        estimand: What is estimated, in words that fix it.
        direction: Which side of the null the claim is on.
        null: The value that the claim is about.
        margin: The smallest difference from the null that matters, ≥ 0, in units of the estimand.
        level: The confidence that the verdict needs, in (0, 1).
    """

    id: str
    statement: str
    source: str
    estimand: str
    direction: Direction
    null: float
    margin: float
    level: float

    def __post_init__(self) -> None:
        if self.margin < 0 or not 0 < self.level < 1:
            raise ValueError(
                f"claim {self.id}: margin must be >= 0 and level in (0, 1); got margin "
                f"{self.margin}, level {self.level}"
            )

    @property
    def region(self) -> tuple[float, float]:
        """The closed range of values of the estimand for which the claim is true."""
        if self.direction == "greater":
            return self.null + self.margin, math.inf
        if self.direction == "less":
            return -math.inf, self.null - self.margin
        return self.null - self.margin, self.null + self.margin

    @property
    def hash(self) -> str:
        """SHA-256 of the claim's fields: a claim changed after the fact does not keep it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A judged claim, complete in itself.

    ``n`` counts clusters; ``n_needed`` is how many would decide if the estimate stayed where it
    is (None where it is decided, or where the estimate sits on the margin). ``note`` says on
    which kind of truth, and why, where that needs saying.
    """

    claim: str
    statement: str
    source: str
    estimand: str
    direction: Direction
    data: str
    status: Status
    verdict: Decision
    estimate: float | None
    interval: tuple[float, float] | None
    level: float
    interval_kind: str | None
    margin: float
    null: float
    p_value: float | None
    p_value_is: str | None
    n: int
    n_needed: int | None
    method: str
    note: str
    claim_hash: str


def decide(claim: Claim, low: float, high: float) -> Decision:
    """Supported, refuted or undecided: where [low, high] lies against the claim's region.

    >>> c = Claim(id="X", statement="", source="", estimand="", direction="greater",
    ...           null=0.0, margin=0.1, level=0.95)
    >>> decide(c, 0.2, 0.4), decide(c, -0.1, 0.05), decide(c, 0.0, 0.2)
    ('supported', 'refuted', 'undecided')
    """
    if math.isnan(low) or math.isnan(high) or low > high:
        raise ValueError(f"claim {claim.id}: [{low}, {high}] is not an interval")
    inside, outside = claim.region
    if low >= inside and high <= outside:
        return "supported"
    if high < inside or low > outside:
        return "refuted"
    return "undecided"


def num_needed(claim: Claim, interval: Interval) -> int | None:
    """How many clusters would decide, the half-width shrinking as 1/√n around the estimate.

    n (h/δ)², where δ is the distance from the estimate to an edge of the region and h the reach
    of the interval towards that edge; the edge that asks for most counts. Inside the region both
    must be cleared; outside both lie on one side, and the nearest asks for most.
    """
    edges = [edge for edge in claim.region if math.isfinite(edge)]
    needed = []
    for edge in edges:
        gap = abs(edge - interval.estimate)
        reach = (
            interval.high - interval.estimate
            if edge > interval.estimate
            else interval.estimate - interval.low
        )
        if gap == 0 or not math.isfinite(reach):
            return None
        needed.append(math.ceil(interval.n * (reach / gap) ** 2))
    return max(*needed, interval.n + 1)


def judge(
    claim: Claim,
    interval: Interval,
    *,
    data: str,
    seen: bool,
    method: str,
    p_value: float | None = None,
    p_value_is: str | None = None,
    note: str = "",
) -> Verdict:
    """The verdict on a claim, from the simultaneous interval of its estimand.

    Args:
        claim: As fixed beside the study.
        interval: Simultaneous over everything that was searched.
        data: Which data.
        seen: Whether these data shaped the design or the margin; then it is a replication.
        method: How the interval was made, in words.
        p_value: A test of the same difference, where there is one.
        p_value_is: Which test, which side, and what it is corrected for.
        note: What a reader must know besides.

    Raises:
        ValueError: if the interval's level is below the claim's.
    """
    if interval.level < claim.level:
        raise ValueError(f"claim {claim.id} needs level {claim.level}, got {interval.level}")
    decision = decide(claim, interval.low, interval.high)
    return Verdict(
        claim=claim.id,
        statement=claim.statement,
        source=claim.source,
        estimand=claim.estimand,
        direction=claim.direction,
        data=data,
        status="replication" if seen else "confirmatory",
        verdict=decision,
        estimate=interval.estimate,
        interval=(interval.low, interval.high),
        level=interval.level,
        interval_kind=interval.kind,
        margin=claim.margin,
        null=claim.null,
        p_value=p_value,
        p_value_is=p_value_is if p_value is not None else None,
        n=interval.n,
        n_needed=num_needed(claim, interval) if decision == "undecided" else None,
        method=method,
        note=note,
        claim_hash=claim.hash,
    )


def not_judged(
    claim: Claim, *, data: str, seen: bool, n: int, why: str, interval: Interval | None = None
) -> Verdict:
    """The verdict where these data cannot speak to the claim: undecided, saying why.

    An ``interval`` is shown for what it is worth; nothing is concluded from it.
    """
    return Verdict(
        claim=claim.id,
        statement=claim.statement,
        source=claim.source,
        estimand=claim.estimand,
        direction=claim.direction,
        data=data,
        status="replication" if seen else "confirmatory",
        verdict="undecided",
        estimate=None if interval is None else interval.estimate,
        interval=None if interval is None else (interval.low, interval.high),
        level=claim.level,
        interval_kind=None if interval is None else interval.kind,
        margin=claim.margin,
        null=claim.null,
        p_value=None,
        p_value_is=None,
        n=n,
        n_needed=None,
        method=NOT_JUDGED,
        note=why,
        claim_hash=claim.hash,
    )

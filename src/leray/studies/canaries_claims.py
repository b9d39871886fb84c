"""The claim of the canary study, as it was fixed before a run was judged by it."""

from __future__ import annotations

from leray.evidence.verdict import Claim

SOURCE = "the structure document: canaries with selective rollback"
CLAIM = Claim(
    id="C5",
    statement="Canaries with selective rollback keep nearly all other progress",
    source=SOURCE,
    estimand="share of the progress on new forms (held-out loss, since the episode's start, where "
    "the last checkpoint lies and a full rollback goes) that is left at the check behind a fault, "
    "relative to the healthy twin at the same step: mean over those faults of six kinds that broke "
    "a capability, found or not, then over episodes",
    direction="greater",
    null=0.95,
    margin=0.0,
    level=0.95,
)
CLAIMS = (CLAIM,)

"""Every claim of every study, as they were fixed before a run."""

from __future__ import annotations

from leray.evidence.verdict import Claim
from leray.studies import (
    architecture_claims,
    canaries_claims,
    circuits_claims,
    claims,
    protection_claims,
)

LEDGERS: dict[str, tuple[Claim, ...]] = {
    "importance": claims.CLAIMS,
    "architecture": architecture_claims.CLAIMS,
    "circuits": circuits_claims.CLAIMS,
    "protection": protection_claims.CLAIMS,
    "canaries": canaries_claims.CLAIMS,
}
"""By the name of the study."""

"""Verdicts as cards: the row of a result, put into words and drawn as a strip.

The strip shows where a claim is true (the region), the interval and the estimate on one axis;
positions are percentages of its width.
"""

from __future__ import annotations

import math
from typing import Any

from leray.evidence.verdict import NOT_JUDGED, Claim
from leray.figures import numbers, words
from leray.studies.claims import CLAIMS

UNITS = {"M6": "posterior draws", "M7": "simulated conversations"}
"""What a claim counts where it is not the data's conversations."""

_LEDGER = {claim.hash: claim for claim in CLAIMS}


def card(row: dict[str, Any], cluster_unit: str) -> dict[str, Any]:
    """One verdict, ready for the page."""
    claim = _LEDGER.get(row["claim_hash"])
    judged = was_judged(row)
    icon, meaning = words.VERDICTS.get(row["verdict"], ("?", ""))
    return {
        "id": row["claim"],
        "statement": row["statement"],
        "verdict": row["verdict"] if row["verdict"] in words.VERDICTS else "undecided",
        "icon": icon if judged else numbers.MISSING,
        "badge": row["verdict"] if judged else f"{row['verdict']}: not judged",
        "meaning": meaning if judged else "these data cannot speak to it",
        "estimate": numbers.decimal(row["estimate"]),
        "interval": numbers.between(row["interval"]),
        "interval_is": _interval_words(row),
        "strip": strip(row, claim),
        "facts": _facts(row, claim, cluster_unit),
        "status": row["status"],
        "status_means": words.STATUSES.get(row["status"], ""),
        "note": row["note"],
        "hash": row["claim_hash"],
    }


def was_judged(row: dict[str, Any]) -> bool:
    return row["method"] != NOT_JUDGED


def _facts(row: dict[str, Any], claim: Claim | None, cluster_unit: str) -> list[tuple[str, str]]:
    """The terms of a card with what they hold; what is missing says why."""
    facts = [
        ("True if", _region(row, claim)),
        ("p-value", _p_value(row)),
        ("Based on", numbers.count(row["n"], UNITS.get(row["claim"], cluster_unit))),
        ("Needed", _needed(row, cluster_unit)),
        ("How", row["method"]),
    ]
    if claim is not None:
        facts[:0] = [("Estimated", claim.estimand)]
        facts.append(("Source", claim.source))
    return facts


def _interval_words(row: dict[str, Any]) -> str:
    if row["interval"] is not None:
        return f"{numbers.percent(row['level'])} interval: {row['interval_kind']}"
    if row["estimate"] is None:
        return "nothing was estimated"
    return "no interval: one of its ends cannot be told from these data"


def _region(row: dict[str, Any], claim: Claim | None) -> str:
    """The region in words; the margin is the smallest difference that matters."""
    null, margin = numbers.decimal(row["null"], 2), numbers.decimal(row["margin"], 2)
    if claim is None:
        return f"measured from {null}, margin {margin} (the claim is not in this ledger)"
    low, high = (numbers.decimal(v, 2) for v in claim.region)
    if claim.direction == "within":
        return f"it lies between {low} and {high}, that is within {margin} of {null}"
    if claim.direction == "greater":
        return f"it is at least {low}" + (f", {margin} beyond {null}" if claim.margin else "")
    return f"it is at most {high}" + (f", {margin} beyond {null}" if claim.margin else "")


def _p_value(row: dict[str, Any]) -> str:
    if row["p_value"] is not None:
        return f"{numbers.probability(row['p_value'])}: {row['p_value_is']}"
    why = "judged by its interval alone" if was_judged(row) else "nothing was judged"
    return f"{numbers.MISSING} ({why})"


def _needed(row: dict[str, Any], cluster_unit: str) -> str:
    if row["n_needed"] is not None:
        return (
            f"about {numbers.count(row['n_needed'], cluster_unit)}, if the estimate stays where "
            "it is"
        )
    if row["verdict"] != "undecided":
        return f"{numbers.MISSING} (decided)"
    why = "not known" if was_judged(row) else "the note says why"
    return f"{numbers.MISSING} ({why})"


def strip(row: dict[str, Any], claim: Claim | None) -> dict[str, Any] | None:
    """Where region, interval and estimate lie on one axis, in percent; None without an interval."""
    if row["interval"] is None or claim is None:
        return None
    region = claim.region
    shown = [row["estimate"], *row["interval"], claim.null]
    shown += [edge for edge in region if math.isfinite(edge)]
    low, high = min(shown), max(shown)
    pad = 0.12 * (high - low or 1.0)
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    ends, edges = [at(v) for v in row["interval"]], [at(v) for v in region]
    return {
        "region": (edges[0], round(edges[1] - edges[0], 2)),
        "open": [side for side, v in zip(("left", "right"), region, strict=True) if math.isinf(v)],
        "interval": (ends[0], round(ends[1] - ends[0], 2)),
        "estimate": at(row["estimate"]),
        "ticks": [(at(edge), numbers.decimal(edge, 2)) for edge in region if math.isfinite(edge)],
    }

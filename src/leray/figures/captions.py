"""What every caption says: which data, how many, and how the resampling unit is called."""

from __future__ import annotations

from typing import Any

from leray.figures import numbers


def data_line(result: dict[str, Any], *, queries: bool = True) -> str:
    """The data and its n, in one sentence."""
    data = result["data"]
    parts = [f"Data: {data['name']}, {clusters(result)}"]
    if queries:
        parts += [
            numbers.count(data["queries"], "queries"),
            numbers.count(data["pairs"], "pairs of a query and a turn"),
        ]
    return ", ".join(parts) + "."


def clusters(result: dict[str, Any]) -> str:
    """How many units are resampled, and what they are."""
    data = result["data"]
    return numbers.count(data["clusters"], data["cluster_unit"])


def interval_kinds(rows: list[dict[str, Any]]) -> str:
    """Level and kind of the intervals in rows that carry them; a sentence where there are none."""
    kinds = list(
        dict.fromkeys(
            (row["level"], row["interval_kind"]) for row in rows if row["interval"] is not None
        )
    )
    if not kinds:
        return "No intervals: with one conversation nothing says how much another would differ."
    levels = " and ".join(dict.fromkeys(numbers.percent(level) for level, _ in kinds))
    names = " or ".join(_kind(kind) for kind in dict.fromkeys(k for _, k in kinds))
    return f"Intervals: {levels}, {names}, by conversation, one at a time (not simultaneous)."


def _kind(kind: str) -> str:
    bounds = {"upper": "one-sided upper bound", "lower": "one-sided lower bound"}
    return bounds.get(kind, kind)

"""One line of the documented format to a turn or a query, or the reason why it is neither.

Each check says what came and what is allowed, and quotes ids and names but never what was said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from leray.data.reading import is_finite, kind_of, seconds, sound
from leray.errors import nearest
from leray.memory.conversations import LoadReport, Query, Turn

TURN_KEYS = (
    "conversation", "turn", "speaker", "text", "time", "caption", "embedding", "signals", "person",
)  # fmt: skip
TURN_SIGNALS = ("surprise", "habituation", "length", "surprisal", "question", "session")
"""Signals of a turn alone: a ready value replaces the computed one; of others it has no effect."""
LARGEST_SIGNAL = 1e6
QUERY_KEYS = ("conversation", "query", "text", "time", "evidence", "embedding", "person")


class BadLineError(Exception):
    """A line that cannot be used: its kind, for the count, and its reason, for the note."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def is_turn(record: Mapping[str, Any]) -> bool:
    """Whether a line is a turn, else a query; raises ``BadLineError`` where neither or both."""
    if ("turn" in record) != ("query" in record):
        return "turn" in record
    came = "both" if "turn" in record else "neither"
    hints = [nearest(key, ("turn", "query")) for key in record if key not in QUERY_KEYS + TURN_KEYS]
    raise BadLineError(
        f"{came} turn and query" if came == "both" else "neither turn nor query",
        f"{came} of the keys 'turn' and 'query'; allowed: one of them{max(hints, default='')}",
    )


def name_unknown_keys(
    number: int, record: Mapping[str, Any], known: tuple[str, ...], report: LoadReport
) -> None:
    """Count and name the keys that have no effect, each with the nearest that has one."""
    for key in record:
        if key not in known:
            hint = nearest(key, known)
            report.repair("unknown key", f"line {number}: unknown key {key!r:.60} ignored{hint}")


def name_unused_signals(
    number: int, record: Mapping[str, Any], known: tuple[str, ...], report: LoadReport
) -> None:
    """Count and name the ready signals that have no effect, each with the nearest that has one."""
    for name in record.get("signals") or ():
        if name not in known:
            hint = nearest(name, known)
            report.repair(
                "signal without effect",
                f"line {number}: signal {name!r:.60} ignored{hint}; allowed: {', '.join(known)}",
            )


def turn(record: Mapping[str, Any]) -> Turn:
    """A turn; raises ``BadLineError``."""
    caption = optional_string(record, "caption")
    text = string(record, "text", may_be_empty=bool(caption))
    return Turn(
        id=string(record, "turn"),
        speaker=optional_string(record, "speaker") or "",
        text=text,
        time=_time(record.get("time")),
        caption=caption,
        embedding=_embedding(record.get("embedding")),
        signals=_signals(record.get("signals")),
    )


def query(record: Mapping[str, Any]) -> Query:
    """A query; raises ``BadLineError``."""
    return Query(
        id=string(record, "query"),
        text=string(record, "text"),
        time=_time(record.get("time")),
        evidence=_evidence(record.get("evidence")),
        embedding=_embedding(record.get("embedding")),
    )


def string(record: Mapping[str, Any], key: str, *, may_be_empty: bool = False) -> str:
    """The text under a key that must be there; raises ``BadLineError``."""
    value = record.get(key)
    if key not in record:
        raise BadLineError("key missing", f"{key!r} is missing; allowed: text")
    if not isinstance(value, str):
        raise BadLineError("wrong type", f"{key!r} is {kind_of(value)}; allowed: text in quotes")
    if not value.strip() and not may_be_empty:
        kind = "empty text" if key == "text" else "empty id"
        raise BadLineError(kind, f"{key!r} is empty; allowed: at least one character")
    return sound(value)


def optional_string(record: Mapping[str, Any], key: str) -> str | None:
    """The text under a key that may be missing, null or empty; raises ``BadLineError``."""
    if record.get(key) is None:
        return None
    return string(record, key, may_be_empty=True) or None


def _time(value: object) -> float | None:
    if value is None:
        return None
    try:
        return seconds(value)
    except ValueError as error:
        came = f"{value!r:.40}" if isinstance(value, str) else kind_of(value)
        raise BadLineError("unreadable time", f"'time' is {came}; {error}, or null") from None


def _embedding(value: object) -> np.ndarray | None:
    if value is None:
        return None
    allowed = "allowed: a list of finite numbers, not all zero"
    if not isinstance(value, list) or not value:
        came = "empty" if isinstance(value, list) else kind_of(value)
        raise BadLineError("embedding not a list of numbers", f"'embedding' is {came}; {allowed}")
    vector = _vector(value)
    if vector is None:
        bad = next(x for x in value if not is_finite(x))
        kind = "embedding not finite" if type(bad) in (int, float) else "wrong type"
        raise BadLineError(kind, f"'embedding' holds {kind_of(bad)}; {allowed}")
    if not vector.any():
        raise BadLineError("embedding of zeros", f"'embedding' is zero throughout; {allowed}")
    return vector


def _vector(value: list[Any]) -> np.ndarray | None:
    """Single precision, checked as a whole; None where some entry is no finite number."""
    if not set(map(type, value)) <= {int, float}:
        return None
    try:
        with np.errstate(over="ignore"):
            vector = np.array(value, dtype=np.float32)
    except OverflowError:  # a whole number too long for any float
        return None
    return vector if np.isfinite(vector).all() else None


def _signals(value: object) -> dict[str, float] | None:
    if value is None:
        return None
    allowed = f"allowed: an object of names and numbers within ±{LARGEST_SIGNAL:,.0f}"
    if not isinstance(value, dict):
        raise BadLineError("wrong type", f"'signals' is {kind_of(value)}; {allowed}")
    for name, x in value.items():
        if not is_finite(x):
            raise BadLineError(
                "signal not finite", f"signal {name!r:.60} is {kind_of(x)}; {allowed}"
            )
        if abs(x) > LARGEST_SIGNAL:
            raise BadLineError(
                "signal too large", f"signal {name!r:.60} is {kind_of(x)}; {allowed}"
            )
    return {name: float(x) for name, x in value.items() if name in TURN_SIGNALS} or None


def _evidence(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value) or not value:
        came = "empty" if value == [] else kind_of(value)
        if isinstance(value, list) and value:
            came = "a list with something else in it than text"
        raise BadLineError(
            "evidence not a list of ids", f"'evidence' is {came}; allowed: ids of turns"
        )
    return tuple(dict.fromkeys(sound(key) for key in value))

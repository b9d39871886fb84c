"""What happened in a run, in order: one JSON object a line, only ever added to."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leray.runs.files import cannot_write


def now() -> str:
    """The time in UTC, to the millisecond, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append_event(path: Path, event: str, **fields: Any) -> None:
    """Add a line with the time, the event and its fields.

    It begins on a line of its own, even after a line that a power cut tore.

    Raises:
        LerayError: The disk is full, or the like.
    """
    line = json.dumps({"time": now(), "event": event, **fields}).encode() + b"\n"
    try:
        with path.open("ab+") as file:
            if file.tell() and not _ends_with_newline(path):
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events so far; a line that was torn while it was written is left out."""
    events = []
    for line in path.read_bytes().split(b"\n"):
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

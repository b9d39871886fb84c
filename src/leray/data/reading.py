"""Read what others wrote: bytes to lines, lines to JSON objects, words to times.

Nothing here trusts a file. A line that cannot be used is named by its number, counted in the
report and passed over; a file that cannot be used at all is one ``LerayError``. A note never holds
the text of a turn.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from leray.errors import LerayError
from leray.memory.conversations import LoadReport, Turn

_LARGEST = 3.4028234e38  # what single precision holds
_LATEST = 253_402_300_799  # the last second of the year 9999


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading; whatever the system objects to becomes a ``LerayError``."""
    try:
        return path.open("rb")
    except OSError as error:
        raise LerayError(
            f"cannot read {str(path)!r}: {error.strerror}; give another path"
        ) from None


def lines(path: Path, report: LoadReport) -> Iterator[tuple[int, str]]:
    """Stream the lines that are not blank, each with its number from 1.

    UTF-8 with or without a byte-order mark, or UTF-16 with one (a repair). A line that does not
    decode is dropped.
    """
    with open_bytes(path) as handle:
        start = handle.read(4)
        handle.seek(0)
        if _is_utf16(start):
            report.repair(
                "UTF-16 file", "the file is UTF-16, read as such; better save it as UTF-8"
            )
            yield from _utf16_lines(handle, report)
            return
        for number, raw in enumerate(handle, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                where = f"byte {error.start + 1} of the line"
                report.drop(
                    "line not UTF-8", f"line {number}: {where} is not UTF-8; save the file as UTF-8"
                )
                continue
            if text:
                yield number, text


def objects(path: Path, report: LoadReport) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the JSON objects of a file that holds one a line; other lines are dropped."""
    for number, text in lines(path, report):
        try:
            value = parse(text)
        except ValueError as error:
            report.drop("line not JSON", f"line {number}: not JSON ({error}); one object a line")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            report.drop(
                "line not an object",
                f"line {number}: {kind_of(value)} came; allowed: one object in braces a line",
            )


def parse(text: str) -> Any:
    """JSON to a value; raises ``ValueError`` with a reason that quotes none of the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.lower()}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """One whole file of JSON to a value, or a ``LerayError`` that names the file and the place."""
    with open_bytes(path) as handle:
        text = decode(handle.read(), path)
    try:
        return parse(text)
    except ValueError as error:
        raise LerayError(f"{str(path)!r} is not JSON: {error}; export it again") from None


def decode(raw: bytes, path: Path) -> str:
    """A whole file's bytes to text: UTF-8, or UTF-16 with a byte-order mark."""
    try:
        return raw.decode("utf-16" if _is_utf16(raw[:4]) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise LerayError(
            f"{str(path)!r} is not UTF-8: byte {error.start + 1} does not decode; save it as UTF-8"
        ) from None


def seconds(value: object) -> float:
    """A time to seconds since 1970-01-01 UTC; a time without a zone is UTC.

    Args:
        value: ISO 8601 text, or seconds since 1970 as a finite number.

    Raises:
        ValueError: With what is allowed.

    >>> seconds("2023-05-08T13:56:00") == seconds("2023-05-08T15:56:00+02:00") == 1683554160.0
    True
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    elif is_finite(value) and abs(value) <= _LATEST:
        return float(value)
    raise ValueError("allowed: ISO 8601 such as 2023-05-08T13:56:00Z, or seconds since 1970")


def in_order(
    turns: Sequence[Turn], report: LoadReport, places: Sequence[str] | None = None
) -> tuple[Turn, ...]:
    """Sort turns stably by time, each step backwards counted as a repair.

    A turn without a time stays behind the turn that it followed. ``places`` name the turns in the
    notes.
    """
    keys: list[float] = []
    latest = float("-inf")
    for i, turn in enumerate(turns):
        time = latest if turn.time is None else turn.time
        if time < latest:
            note = (
                f"{places[i]}: its time is earlier than the turn before; sorted" if places else ""
            )
            report.repair("time going backwards", note)
        keys.append(time)
        latest = time
    order = sorted(range(len(turns)), key=keys.__getitem__)
    return tuple(turns[i] for i in order)


def sound(text: str) -> str:
    """The same text with halves of surrogate pairs joined, or replaced where one stands alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "query", "queries"), counted(2_000, "turn")
    ('1 query', '2,000 turns')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def is_finite(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number that single precision can hold (true is no number)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST


def as_list(value: object) -> list[Any]:
    """The value where it is a list, and an empty list where it is anything else."""
    return value if isinstance(value, list) else []


def kind_of(value: object) -> str:
    """What a JSON value is, in the words of JSON, never its content."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), f"the number {value!r:.40}")


def _is_utf16(start: bytes) -> bool:
    # A mark alone may be damage on one line of UTF-8: the first character must be ASCII as well.
    little = start[:2] == b"\xff\xfe" and start[2:3] != b"\0" and start[3:4] == b"\0"
    big = start[:2] == b"\xfe\xff" and start[2:3] == b"\0" and start[3:4] != b"\0"
    return little or big


def _utf16_lines(handle: BinaryIO, report: LoadReport) -> Iterator[tuple[int, str]]:
    with io.TextIOWrapper(handle, encoding="utf-16", errors="replace", newline="\n") as decoded:
        for number, line in enumerate(decoded, start=1):
            text = line.strip()
            if "\N{REPLACEMENT CHARACTER}" in text:
                report.drop("line not UTF-16", f"line {number}: does not decode; save it as UTF-8")
            elif text:
                yield number, text

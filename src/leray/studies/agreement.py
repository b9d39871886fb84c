"""Whether two results of one request agree: every number, within a tolerance that its kind has.

Two sorts of comparison. On the same versions and processor a run repeats its own arithmetic, so
numbers agree to 1e-9. Elsewhere rounding differs, and what was drawn may be drawn otherwise:

| kind | what | allowed |
|---|---|---|
| exact | every number, on the same versions and processor | 1e-9 relative |
| count | whole numbers | none |
| interval | an estimate or an end of its interval | 10% of the half-width |
| p-value | | 5 standard errors of a difference, of 10,000 draws each |
| diagnostic | below ``diagnostics``, and ``n_needed`` | 25%, or .05 |
| value | any other number | 1e-3 relative, or 1e-4 |
| text | verdicts, methods, kinds, names | none |

Of 10,000 resamples, an end of a 95% interval has a standard error of 1.4% of the half-width, the
difference of two 1.9%: 10% is five of these.

Left out: seconds, where the run and its data lie, and, elsewhere, prose (it repeats the numbers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]

RELATIVE, ABSOLUTE = 1e-9, 1e-12
HALF_WIDTHS = 0.10
P_DRAWS = 10_000
PROSE = frozenset({"advice", "note", "paragraph", "title", "description"})
_MISSING = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Two values that should agree and do not.

    Args:
        where: The way to the value, such as ``table/bm25/metrics/r/estimate``.
        before: In the bundle; None where it is not there.
        now: In the new run; None where it is not there.
        kind: Which tolerance holds (see the table above).
        allowed: The largest difference of two numbers; None for texts.
    """

    where: str
    before: Any
    now: Any
    kind: str
    allowed: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """What was compared and what differs."""

    exact: bool
    num_numbers: int
    num_texts: int
    differences: tuple[Difference, ...]


def compare(before: Any, now: Any, *, exact: bool) -> Agreement:
    """Compare two results as JSON has them.

    Args:
        before: The one that is to be repeated.
        now: The other.
        exact: Whether versions and processor are the same.
    """
    found: list[Difference] = []
    names = _data_name(before), _data_name(now)
    numbers = texts = 0
    for path, a, b, holder in _leaves((), before, now, {}):
        if _left_out(path, exact):
            continue
        if _is_number(a) and _is_number(b):
            numbers += 1
            kind, allowed = _tolerance(path, a, b, holder, exact)
            agrees = abs(a - b) <= allowed
        else:
            texts += 1
            kind, allowed = ("missing", None) if _MISSING in (a, b) else ("text", None)
            agrees = _named_alike(a, names[0]) == _named_alike(b, names[1])
            if kind == "missing" and a is _MISSING and not exact:
                agrees = True  # a later version may say more
        if not agrees:
            shown = [None if v is _MISSING else v for v in (a, b)]
            found.append(
                Difference(
                    where="/".join(path), before=shown[0], now=shown[1], kind=kind, allowed=allowed
                )
            )
    return Agreement(exact=exact, num_numbers=numbers, num_texts=texts, differences=tuple(found))


def _leaves(
    path: Path, a: Any, b: Any, holder: Mapping[str, Any]
) -> Iterator[tuple[Path, Any, Any, Mapping[str, Any]]]:
    """Every value of either side, with the object of the first that holds it."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            yield from _leaves((*path, key), a.get(key, _MISSING), b.get(key, _MISSING), a)
    elif isinstance(a, list) and isinstance(b, list):
        names = _names(a)
        for k in range(max(len(a), len(b))):
            name = names[k] if k < len(names) else str(k)
            left = a[k] if k < len(a) else _MISSING
            right = b[k] if k < len(b) else _MISSING
            yield from _leaves((*path, name), left, right, holder)
    else:
        yield path, a, b, holder


def _names(items: list[Any]) -> list[str]:
    """What a reader calls the items: by claim, method, signal or name, else by number."""
    for key in ("claim", "method", "signal", "name"):
        named = [i.get(key) if isinstance(i, dict) else None for i in items]
        if all(isinstance(n, str) for n in named) and len(set(named)) == len(items):
            return [str(n) for n in named]
    return [str(k) for k in range(len(items))]


def _left_out(path: Path, exact: bool) -> bool:
    key = path[-1] if path else ""
    place = path in (("run",), ("data", "name"), ("data", "description"))
    judged_data = key == "data" and "verdicts" in path
    seconds = key == "seconds" or (
        key.endswith(("seconds", "per_second")) and "diagnostics" in path
    )
    prose = not exact and bool(PROSE & set(path))
    return place or judged_data or seconds or prose


def _tolerance(
    path: Path, a: float | int, b: float | int, holder: Mapping[str, Any], exact: bool
) -> tuple[str, float]:
    """The kind of a number, and by how much it may differ."""
    size = max(abs(a), abs(b))
    ends = holder.get("interval")
    if exact:
        return "exact", RELATIVE * size + ABSOLUTE
    if "diagnostics" in path or path[-1] == "n_needed":
        return "diagnostic", max(0.25 * size, 0.05)
    if path[-1] == "p_value":
        p = min(max(a, b, 1 / P_DRAWS), 0.5)
        return "p-value", 5 * math.sqrt(2 * p * (1 - p) / P_DRAWS)
    if isinstance(ends, list) and (path[-1] == "estimate" or path[-2:-1] == ("interval",)):
        low, high = ends if len(ends) == 2 and all(map(_is_number, ends)) else (0.0, 0.0)
        return "interval", HALF_WIDTHS * abs(high - low) / 2 + 1e-6 * size + ABSOLUTE
    if isinstance(a, int) and isinstance(b, int):
        return "count", 0.0
    return "value", max(1e-3 * size, 1e-4)


def _data_name(result: Any) -> str:
    """How the data were asked for; it has a path, which may be another one now."""
    data = result.get("data") if isinstance(result, dict) else None
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) else ""


def _named_alike(value: Any, name: str) -> Any:
    return value.replace(name, "DATA") if isinstance(value, str) and name else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

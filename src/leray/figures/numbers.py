"""How numbers are written for people: three decimals, true minus signs, times in words.

A value that is missing is an en dash; who writes one says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Number = float | int  # JSON has both
MISSING = "–"
MINUTE, HOUR, DAY, YEAR = 60.0, 3600.0, 86400.0, 365 * 86400.0
_SPANS = ((YEAR, "year", "y"), (DAY, "day", "d"), (HOUR, "hour", "h"), (MINUTE, "minute", "min"))


def decimal(value: Number | None, digits: int = 3) -> str:
    """A number with fixed decimals.

    >>> decimal(-0.27004), decimal(None), decimal(-0.0001)
    ('−0.270', '–', '0.000')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def between(ends: Sequence[Number] | None, digits: int = 3) -> str:
    """Both ends of an interval.

    >>> between([-0.0412, 0.2446])
    '−0.041 to 0.245'
    """
    return MISSING if ends is None else f"{decimal(ends[0], digits)} to {decimal(ends[1], digits)}"


def percent(level: Number) -> str:
    """A confidence level.

    >>> percent(0.95), percent(0.9875)
    ('95%', '98.75%')
    """
    return f"{100 * level:.6g}%"


def probability(p: Number | None) -> str:
    """A p-value: to two significant figures, never 0.

    >>> probability(0.001953125), probability(9.99990000099999e-06), probability(0.5)
    ('0.0020', '0.000010', '0.50')
    """
    if p is None or not math.isfinite(p):
        return MISSING
    if p <= 0:
        return "0"
    exponent = int(f"{p:.1e}".partition("e")[2])
    return f"{p:.{max(2, 1 - exponent)}f}"


def scientific(value: Number | None) -> str:
    """A tiny number.

    >>> scientific(1.6008e-16), scientific(0.0)
    ('1.6 × 10⁻¹⁶', '0')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    digits, power = f"{value:.1e}".split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits.replace('-', '−')} × 10{raised}"


def count(value: Number | None, unit: str = "") -> str:
    """A count, with the unit in the right number where one is given.

    >>> count(1192166), count(1, "conversations"), count(10, "conversations of one person")
    ('1,192,166', '1 conversation', '10 conversations of one person')
    """
    if value is None:
        return MISSING
    if not unit:
        return f"{value:,}"
    head, _, rest = unit.partition(" ")
    if value == 1:
        head = f"{head[:-3]}y" if head.endswith("ies") else head.removesuffix("s")
    return f"{value:,} {head} {rest}".rstrip()


def span(seconds: Number | None, *, short: bool = False) -> str:
    """A time constant, in the largest unit that holds it whole.

    >>> span(2592000.0), span(3600.0), span(600.0, short=True)
    ('30 days', '1 hour', '10 min')
    """
    if seconds is None:
        return MISSING
    for size, name, letter in _SPANS:
        if seconds >= size:
            value = seconds / size
            return f"{value:.4g} {letter if short else name + 's' * (value != 1)}"
    return f"{seconds:.4g} s"


def seconds(value: Number | None) -> str:
    """How long something took.

    >>> seconds(0.374), seconds(28.03), seconds(1800.0), seconds(5400.0)
    ('0.37 s', '28 s', '30 min', '1.5 h')
    """
    if value is None:
        return MISSING
    if value < 10:
        return f"{value:.2f} s"
    if value < 2 * MINUTE:
        return f"{value:.0f} s"
    return f"{value / MINUTE:.3g} min" if value < HOUR else f"{value / HOUR:.3g} h"

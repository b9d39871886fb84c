"""Bounds of numbers in configurations, said in one form."""

from __future__ import annotations

import math


def check_bounds(**bounds: tuple[int | float, int | float, int | float]) -> None:
    """Refuse a number that is not finite or out of its bounds, both included.

    Args:
        bounds: By the setting's name: the number, the least and the largest allowed.

    Raises:
        ValueError: With the first that is out.

    >>> check_bounds(width=(0, 2, 65536))
    Traceback (most recent call last):
    ValueError: width must be 2 to 65,536; got 0
    """
    for name, (value, least, largest) in bounds.items():
        if not (math.isfinite(value) and least <= value <= largest):
            raise ValueError(f"{name} must be {least:,} to {largest:,}; got {value}")

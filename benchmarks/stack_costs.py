"""What a row of ``benchmarks/stack.py`` holds, and how its processor seconds are taken."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

LEAST = 5.0
"""How many times faster than each peer ours must be."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Processor seconds of one way to do a row's work.

    Args:
        seconds: Of the whole work; extrapolated where ``part`` says so.
        once: Of importing and compiling, which are not in ``seconds``.
        part: What was measured.
    """

    seconds: float
    once: float = 0.0
    part: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """Ours, the naive way and a library on equal work.

    Args:
        name: Of the row.
        work: What all three do.
        ours, naive, library: What each costs.
        peer: Which library.
        judged: False where ours calls that library for this work.
        notes: Further lines: what was checked to be equal, what was seen beside.
    """

    name: str
    work: str
    ours: Cost
    naive: Cost
    library: Cost
    peer: str
    judged: bool = True
    notes: tuple[str, ...] = ()

    @property
    def naive_ratio(self) -> float:
        return self.naive.seconds / self.ours.seconds

    @property
    def library_ratio(self) -> float:
        return self.library.seconds / self.ours.seconds

    @property
    def missed(self) -> bool:
        """Whether a judged ratio is below :data:`LEAST`."""
        return self.judged and min(self.naive_ratio, self.library_ratio) < LEAST


def cpu() -> float:
    """Processor seconds of this process so far, all threads, user and system, children too."""
    return time.process_time() + sum(os.times()[2:4])


def clocked(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds of one call, and what came out."""
    start = cpu()
    out = work()
    return max(cpu() - start, 1e-3), out


def warmed(work: Callable[[], T], repeats: int = 3) -> tuple[float, float, T]:
    """The least processor seconds of a few calls, what the first cost more, and what came out."""
    first, _ = clocked(work)
    runs = [clocked(work) for _ in range(repeats)]
    least = min(seconds for seconds, _ in runs)
    return least, max(0.0, first - least), runs[-1][1]


def imported(*modules: str) -> float:
    """Processor seconds of importing modules, where nothing imported them before."""
    return clocked(lambda: [importlib.import_module(name) for name in modules])[0]

"""What a person sees on stderr while something long goes on: how far, how fast, how much longer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
"""Tells how many more are done."""

Progress = Callable[[str, int, int], AbstractContextManager[Advance]]
"""Opens a line for a name, a total and how many were done before."""


@contextmanager
def progress_line(name: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A live line with rate and remaining time on a terminal; elsewhere one line at the end."""
    if sys.stderr.isatty():
        with _live_line(name, total, done) as advance:
            yield advance
        return
    made, started = [0], time.monotonic()

    def count(more: int) -> None:
        made[0] += more

    yield count
    seconds = time.monotonic() - started
    print(f"{name}: {done + made[0]:,} of {total:,} in {seconds:.1f} s", file=sys.stderr)


@contextmanager
def no_progress(name: str, total: int, done: int = 0) -> Iterator[Advance]:  # noqa: ARG001
    """Says nothing."""
    yield lambda more: None  # noqa: ARG005


@contextmanager
def _live_line(name: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task(name, total=total, completed=done, rate="")
        speed = bar.tasks[0]

        def advance(more: int) -> None:
            rate = f"{speed.speed:,.1f}/s" if speed.speed else ""
            bar.update(line, advance=more, rate=rate)

        yield advance

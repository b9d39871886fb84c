"""`leray memory rank`: the turns that matter to a query, and what each signal adds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leray.errors import plain

if TYPE_CHECKING:
    from leray.integrations.recall import Memory, OnProgress, Ranked

ROOM_FOR_TEXT = 90  # columns of the terminal for everything but the shares
TEXT_LENGTH = 70


@dataclass(frozen=True, kw_only=True)
class MemoryRank:
    """Options of `leray memory rank`.

    Args:
        weights: A weights file, such as a study writes.
        conversation: A .jsonl file in the documented format, or data by name.
        query: What is asked or said now.
        top: How many turns.
        time: When it is asked, ISO 8601 or seconds since 1970; by default at the last turn.
        history: Whose, where the data hold several: a conversation's or a person's id.
        embedder: A folder with another sentence-transformers model.
        device: Where texts are embedded: cpu, cuda, cuda:1.
        json: One JSON object on stdout instead of a table.
    """

    weights: Path
    conversation: str
    query: str
    top: int = 10
    time: str | None = None
    history: str | None = None
    embedder: Path | None = None
    device: str = "cpu"
    json: bool = False

    def run(self) -> int:
        """Rank and print."""
        return rank_command(
            self.weights,
            self.conversation,
            self.query,
            self.top,
            json=self.json,
            time=self.time,
            history=self.history,
            embedder=self.embedder,
            device=self.device,
        )


def rank_command(
    weights: Path,
    conversation: str | Path,
    query: str,
    top: int = 10,
    *,
    json: bool = False,
    time: str | None = None,
    history: str | None = None,
    embedder: Path | None = None,
    device: str = "cpu",
) -> int:
    """Rank the turns of a conversation; the table or JSON goes to stdout, the rest to stderr.

    Raises:
        LerayError: A file, a time or a number that cannot be used.
    """
    from time import perf_counter

    from leray.integrations.recall import Memory

    start = perf_counter()
    with _progress() as tell:
        memory = Memory.load(
            weights,
            conversation,
            history=history,
            embedder=embedder,
            device=device,
            on_progress=tell,
        )
        memory.warm()
    loaded = perf_counter()
    ranked = memory.rank(query, top, time=_time(time))
    done = perf_counter()
    if json:
        _print_json(query, memory, ranked, done - loaded)
    else:
        _print_table(ranked, [*memory.weights.active])
    _report(memory, loaded - start, done - loaded)
    return 0


def _time(text: str | None) -> float | str | None:
    """A number is seconds since 1970; anything else is left to be read as ISO 8601."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _report(memory: Memory, loading: float, ranking: float) -> None:
    from leray.data.reading import counted

    for kind, number in memory.report.dropped.items():
        print(f"left out {number:,}: {kind} (leray data check says where)", file=sys.stderr)
    print(
        f"ranked {counted(len(memory), 'turn')} in {1000 * ranking:.0f} ms; read and prepared in "
        f"{loading:.1f} s",
        file=sys.stderr,
    )


def _print_json(query: str, memory: Memory, ranked: Sequence[Ranked], took: float) -> None:
    import json

    content = {
        "query": query,
        "method": memory.weights.method,
        "turns": len(memory),
        "seconds": round(took, 6),
        "ranked": [_fields(r) for r in ranked],
    }
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def _fields(r: Ranked) -> dict[str, Any]:
    return {
        "conversation": r.conversation,
        "turn": r.turn.id,
        "time": _shown_time(r) or None,
        "speaker": r.turn.speaker,
        "text": r.turn.text,
        "caption": r.turn.caption,
        "score": r.score,
        "shares": r.shares,
    }


def _print_table(ranked: Sequence[Ranked], names: Sequence[str]) -> None:
    """A column a signal where there is room, else all shares below the text.

    Text comes from others: it is shown as plain text, control characters as escapes.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    apart = console.width >= ROOM_FOR_TEXT + sum(len(name) + 3 for name in names)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("turn", "time", "speaker"):
        table.add_column(heading, no_wrap=True, max_width=20)
    table.add_column("score", justify="right", no_wrap=True)
    for name in names if apart else ():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("text" if apart else "text, and each signal's share")
    for r in ranked:
        who = [Text(plain(s)) for s in (r.turn.id, _shown_time(r), r.turn.speaker)]
        said = _shortened(plain(_said(r)))
        shares = [_number(r.shares[n], "+") for n in names] if apart else []
        told = said if apart else f"{said}\n  {_largest_first(r.shares)}"
        table.add_row(*who, _number(r.score), *shares, Text(told))
    console.print(table)


def _largest_first(shares: dict[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda share: -abs(share[1]))
    return ", ".join(f"{name} {_number(value, '+')}" for name, value in ordered if value != 0)


def _number(value: float, sign: str = "") -> str:
    """Three decimals, or a power of ten where that would be long."""
    return f"{value:{sign}.3f}" if abs(value) < 1e6 else f"{value:{sign}.3e}"


def _shown_time(r: Ranked) -> str:
    if r.turn.time is None:
        return ""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=r.turn.time)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _said(r: Ranked) -> str:
    return f"{r.turn.text} [shares {r.turn.caption}]" if r.turn.caption else r.turn.text


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= TEXT_LENGTH else words[: TEXT_LENGTH - 1] + "…"


@contextmanager
def _progress() -> Iterator[OnProgress | None]:
    """A bar on stderr for each thing that takes long; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(name: str, num_done: int, num_all: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=num_all)
            bar.update(tasks[name], completed=num_done)

        yield tell

"""A person's own conversations: one JSON object a line, a turn or a query (``docs/data.md``).

A line that cannot be used is dropped with a note that names it, says what came and what is
allowed; every other line is kept. Which truth the file carries is read off it: evidence where any
query can be used with the evidence that it names, else callback.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leray.data.reading import counted, in_order, objects
from leray.data.records import (
    QUERY_KEYS,
    TURN_KEYS,
    TURN_SIGNALS,
    BadLineError,
    is_turn,
    name_unknown_keys,
    name_unused_signals,
    optional_string,
    query,
    string,
    turn,
)
from leray.errors import LerayError
from leray.memory.conversations import (
    Conversation,
    Corpus,
    LoadReport,
    Query,
    Truth,
    Turn,
    histories,
)
from leray.memory.labels import evidence_asks


@dataclass(slots=True)
class _Draft:
    """A conversation while its lines arrive; turns and queries by id, each with its line."""

    turns: dict[str, tuple[int, Turn]] = field(default_factory=dict)
    queries: dict[str, tuple[int, Query]] = field(default_factory=dict)
    person: str | None = None


def load_jsonl(path: Path) -> Corpus:
    """All usable turns and queries of a file; memory holds what is kept, never the raw text.

    Raises:
        LerayError: The file cannot be opened, or holds no usable turn.
    """
    report = LoadReport()
    drafts: dict[str, _Draft] = {}
    for number, record in objects(path, report):
        try:
            _add(drafts, number, record, report)
        except BadLineError as bad:
            report.drop(bad.kind, f"line {number}: {bad}")
    _settle_embeddings(drafts, report)
    finished = (_finish(name, draft, report) for name, draft in drafts.items())
    conversations = tuple(c for c in finished if c is not None)
    if not conversations:
        found = "; ".join(report.notes[:3]) or "it is empty"
        raise LerayError(
            f"no usable turn in {str(path)!r} ({found}); allowed: lines such as "
            '{"conversation": "c1", "turn": "1", "speaker": "A", "text": "…"}'
        )
    truth = _truth(conversations)
    _drop_queries_without_evidence(drafts, truth, report)
    if truth == "callback":
        conversations = tuple(_without_queries(c, drafts[c.id], report) for c in conversations)
    return _corpus(path, conversations, truth, report)


def _truth(conversations: tuple[Conversation, ...]) -> Truth:
    """Evidence where it leaves a query with something to tell apart."""
    asking = {c.person for c in conversations if c.queries}
    some = [c for c in conversations if c.queries or (c.person and c.person in asking)]
    asked = (evidence_asks(h, members).asks for h, members in histories(some))
    return "evidence" if any(asked) else "callback"


def _drop_queries_without_evidence(
    drafts: Mapping[str, _Draft], truth: Truth, report: LoadReport
) -> None:
    why = "others have it" if truth == "evidence" else "callback truth finds its own"
    for draft in drafts.values():
        for line, asked in draft.queries.values() if draft.turns else ():
            if asked.evidence is None:
                report.drop("query without evidence", f"line {line}: no 'evidence'; {why}")


def _without_queries(c: Conversation, draft: _Draft, report: LoadReport) -> Conversation:
    for asked in c.queries:
        report.drop(
            "query whose evidence tells nothing apart",
            f"line {draft.queries[asked.id][0]}: none or all of the turns before it are its "
            "evidence; callback truth finds its own queries",
        )
    return replace(c, queries=())


def _corpus(
    path: Path, conversations: tuple[Conversation, ...], truth: Truth, report: LoadReport
) -> Corpus:
    num_turns = sum(len(c.turns) for c in conversations)
    num_queries = sum(len(c.queries) for c in conversations)
    asked = counted(num_queries, "query", "queries")
    asked = f" and {asked} with evidence" if truth == "evidence" else ""
    return Corpus(
        name=f"jsonl:{path}",
        conversations=conversations,
        truth=truth,
        report=report,
        description=(
            f"Your own data: {counted(len(conversations), 'conversation')} with "
            f"{counted(num_turns, 'turn')}{asked}; all that were usable."
        ),
    )


def _add(
    drafts: dict[str, _Draft], number: int, record: dict[str, Any], report: LoadReport
) -> None:
    """Put one line where it belongs, or raise ``BadLineError``."""
    said = is_turn(record)
    name = string(record, "conversation")
    person = optional_string(record, "person")
    item = turn(record) if said else query(record)
    draft = drafts.setdefault(name, _Draft())
    kind, seen = ("turn", draft.turns) if said else ("query", draft.queries)
    if item.id in seen:
        first = seen[item.id][0]
        raise BadLineError(
            f"duplicate {kind} id", f"{kind} {item.id!r:.60} came on line {first}; allowed: once"
        )
    if isinstance(item, Turn):
        draft.turns[item.id] = (number, item)
    else:
        draft.queries[item.id] = (number, item)
    if person is not None and draft.person not in (None, person):
        report.repair(
            "second person of a conversation",
            f"line {number}: person {person!r:.60}, but {draft.person!r:.60} came first and stays",
        )
    draft.person = draft.person or person
    name_unknown_keys(number, record, TURN_KEYS if said else QUERY_KEYS, report)
    if said:
        name_unused_signals(number, record, TURN_SIGNALS, report)


def _settle_embeddings(drafts: Mapping[str, _Draft], report: LoadReport) -> None:
    """Keep ready vectors only where all have one, of the most frequent length (else the first).

    Vectors of another length drop their line. Where a line has none, its distance to the others
    is not known, so no vector is used and the texts are embedded instead.
    """
    shelves = [shelf for d in drafts.values() for shelf in (d.turns, d.queries)]
    entries = [entry for shelf in shelves for entry in shelf.values()]
    lengths = Counter(len(i.embedding) for _, i in entries if i.embedding is not None)
    without = [line for line, item in entries if item.embedding is None]
    if not lengths:
        return
    if without:
        report.drop(
            "ready embeddings ignored",
            f"line {min(without)}: no 'embedding' ({len(without)} such lines), but "
            f"{lengths.total()} lines have one; all are ignored, give one on every line or on none",
        )
        for draft in drafts.values():
            draft.turns = {k: (n, replace(t, embedding=None)) for k, (n, t) in draft.turns.items()}
            draft.queries = {
                k: (n, replace(q, embedding=None)) for k, (n, q) in draft.queries.items()
            }
        return
    length = lengths.most_common(1)[0][0]
    for shelf in shelves:
        _drop_other_lengths(shelf, length, report)


def _drop_other_lengths(shelf: dict[str, Any], length: int, report: LoadReport) -> None:
    for key, (line, item) in list(shelf.items()):
        if len(item.embedding) != length:
            del shelf[key]
            report.drop(
                "embedding of another length",
                f"line {line}: 'embedding' has {len(item.embedding)} numbers; "
                f"allowed: {length}, as on most lines",
            )


def _finish(name: str, draft: _Draft, report: LoadReport) -> Conversation | None:
    """Turns in the order of time, and the queries with evidence among them."""
    if not draft.turns:
        lines = ", ".join(str(line) for line, _ in list(draft.queries.values())[:5])
        report.drop(
            "conversation without turns",
            f"conversation {name!r:.60} has no usable turn"
            + (f"; its queries (lines {lines}) go with it" if lines else ""),
        )
        return None
    places = [f"line {line}" for line, _ in draft.turns.values()]
    turns = in_order([item for _, item in draft.turns.values()], report, places)
    start = next((t.time for t in turns if t.time is not None), float("-inf"))
    kept = []
    for line, asked in draft.queries.values():
        if asked.evidence is None:
            continue
        if asked.time is not None and asked.time < start:
            report.drop(
                "query before the first turn",
                f"line {line}: its time is earlier than the first turn of its conversation; "
                "allowed: a later time, or null for the end",
            )
        elif evidence := _known(line, asked.evidence, draft.turns, report):
            kept.append(replace(asked, evidence=evidence))
    return Conversation(id=name, turns=turns, queries=tuple(kept), person=draft.person)


def _known(
    line: int, marked: tuple[str, ...], turns: Mapping[str, object], report: LoadReport
) -> tuple[str, ...]:
    """The evidence ids that are turns; the others are counted, and so is a query left without."""
    for key in marked:
        if key not in turns:
            report.drop(
                "unknown evidence id",
                f"line {line}: evidence {key!r:.60} is no usable turn of its conversation",
            )
    known = tuple(key for key in marked if key in turns)
    if not known:
        report.drop("query without known evidence", f"line {line}: none of its evidence exists")
    return known

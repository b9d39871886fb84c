"""Conversations, the queries asked of them, and the histories that a query looks back on.

A **history** is what a query may look back on: one conversation, or all conversations of one
person, joined turn by turn in the order of time. Two kinds of truth say which turns matter, and are
never mixed: **evidence** (an annotator marked the turns that answer a question) and **callback** (a
later message takes up a rare word that an earlier turn said first).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Truth = Literal["evidence", "callback"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One thing that one speaker said.

    Args:
        id: Unique within its conversation.
        speaker: The name as it stands in the data; may be empty.
        text: What was said.
        time: Seconds since 1970-01-01 UTC, or None where the data carry no time.
        caption: A description of a picture shared with the turn.
        embedding: A ready vector (any length, the same for every turn); normalised on use.
        signals: Ready signals by name; they replace the computed ones of that name.
    """

    id: str
    speaker: str
    text: str
    time: float | None = None
    caption: str | None = None
    embedding: np.ndarray | None = None
    signals: Mapping[str, float] | None = None

    @property
    def spoken(self) -> str:
        """The text that is embedded: ``Speaker: text [shares caption]``."""
        shared = f" [shares {self.caption}]" if self.caption else ""
        named = f"{self.speaker}: " if self.speaker else ""
        return f"{named}{self.text}{shared}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A question or message for which past turns matter, or do not.

    Args:
        id: Unique within its conversation.
        text: What is asked.
        time: Seconds since 1970-01-01 UTC; None means asked at the end of its conversation.
        evidence: Ids of the turns that answer it; None where nobody marked any.
        embedding: A ready vector, as for a turn.
    """

    id: str
    text: str
    time: float | None = None
    evidence: tuple[str, ...] | None = None
    embedding: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Turns in the order they were said, and the queries asked of them.

    Args:
        id: Unique within the corpus.
        turns: In order; times, where present, do not decrease.
        queries: Those with evidence, or none (then callback truth finds its own).
        person: Whose conversation it is, where one person's many conversations are one history.
    """

    id: str
    turns: tuple[Turn, ...]
    queries: tuple[Query, ...] = ()
    person: str | None = None


@dataclass(slots=True)
class LoadReport:
    """What a loader mended and what it left out, both counted by kind.

    ``notes`` holds a line per finding (place and reason) for `leray data check`; never the text
    of a turn, which is private.
    """

    repaired: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def repair(self, kind: str, note: str = "") -> None:
        """Count one thing that was wrong and is now right."""
        self.repaired[kind] = self.repaired.get(kind, 0) + 1
        if note:
            self.notes.append(f"repaired: {note}")

    def drop(self, kind: str, note: str = "") -> None:
        """Count one thing that could not be used."""
        self.dropped[kind] = self.dropped.get(kind, 0) + 1
        if note:
            self.notes.append(f"dropped: {note}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A named set of conversations, with its truth and what its loader did.

    Args:
        name: How the data were asked for, such as ``locomo:PATH``.
        conversations: At least one, each with at least one turn.
        truth: Which kind of truth its queries carry.
        report: What was repaired and dropped.
        description: One sentence for the report: what these data are and how they were chosen.
        seen: Whether these data shaped the design or a margin; a claim judged on them is then a
            replication, not confirmatory.
        redistributable: Whether the licence lets the data travel in a bundle.
        num_word_conversations: For callback truth: in how many conversations of the whole
            collection (not just those chosen) each word occurs; None to count the chosen ones.
        collection_size: The number of conversations behind ``num_word_conversations``.
    """

    name: str
    conversations: tuple[Conversation, ...]
    truth: Truth
    report: LoadReport
    description: str
    seen: bool = False
    redistributable: bool = False
    num_word_conversations: Mapping[str, int] | None = None
    collection_size: int | None = None

    @property
    def timed(self) -> bool:
        """Whether every query says when it was asked: callbacks are turns, questions may."""
        queries = (q for c in self.conversations for q in c.queries)
        return self.truth == "callback" or all(q.time is not None for q in queries)


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The turns that queries look back on, joined over one person's conversations.

    Args:
        id: The person (``person NAME`` where a conversation that stands alone is called like
            them), or the conversation where it stands alone.
        turns: All turns, in the order of time.
        conversation: For each turn, the index of its conversation within this history.
        conversations: Their ids.
    """

    id: str
    turns: tuple[Turn, ...]
    conversation: np.ndarray
    conversations: tuple[str, ...]

    @property
    def times(self) -> np.ndarray:
        """Seconds since 1970 (float64, ``[turns]``); a missing time takes the last one before.

        Where no turn has a time all are zero: then nothing decays, and the signal is constant.
        """
        raw = np.array([np.nan if t.time is None else t.time for t in self.turns])
        if np.isnan(raw).all():
            return np.zeros(len(raw))
        known = np.where(~np.isnan(raw), np.arange(len(raw)), -1)
        last = np.maximum.accumulate(known)
        first = raw[~np.isnan(raw)][0]
        return np.where(last >= 0, raw[np.maximum(last, 0)], first)

    @property
    def said(self) -> np.ndarray:
        """When each turn was said as far as its own conversation tells (float64, ``[turns]``).

        A missing time takes the last one before it in its conversation, or else the first one
        there; infinity in a conversation without any.
        """
        said = np.full(len(self.turns), np.inf)
        for k in range(len(self.conversations)):
            own = np.flatnonzero(self.conversation == k)
            said[own] = _said([self.turns[i] for i in own])
        return said


def histories(conversations: Iterable[Conversation]) -> list[tuple[History, list[Conversation]]]:
    """Join each person's conversations, turn by turn in the order of time, into one history.

    Conversations may overlap: their turns then alternate, at equal times in the order of the
    conversations. One without any time comes last. A conversation without a person stands alone.
    Returns each history with the conversations that made it, by their first time, in the same
    order as ``history.conversations``.
    """
    groups: dict[tuple[bool, str], list[Conversation]] = {}
    for c in conversations:
        alone = c.person is None
        groups.setdefault((alone, c.id if c.person is None else c.person), []).append(c)
    joined = []
    for (alone, name), members in groups.items():
        prefix = ""
        while not alone and (True, prefix + name) in groups:
            prefix += "person "
        ordered = sorted(members, key=lambda c: _said(c.turns).min())
        joined.append((_joined(prefix + name, ordered), ordered))
    return joined


def _joined(name: str, ordered: Sequence[Conversation]) -> History:
    order = np.argsort(np.concatenate([_said(c.turns) for c in ordered]), kind="stable")
    turns = [t for c in ordered for t in c.turns]
    index = np.repeat(np.arange(len(ordered)), [len(c.turns) for c in ordered])
    return History(
        id=name,
        turns=tuple(turns[i] for i in order),
        conversation=index[order],
        conversations=tuple(c.id for c in ordered),
    )


def _said(turns: Sequence[Turn]) -> np.ndarray:
    """The times of one conversation, a missing one filled from the turn before, else after."""
    raw = np.array([np.nan if t.time is None else t.time for t in turns], dtype=np.float64)
    if np.isnan(raw).all():
        return np.full(len(raw), np.inf)
    last = np.maximum.accumulate(np.where(np.isnan(raw), -1, np.arange(len(raw))))
    return np.where(last >= 0, raw[last], raw[~np.isnan(raw)][0])

"""Callback truth: a later message takes up a rare word that an earlier turn said first.

A word is *rare* where at most 0.5% of the conversations of the whole collection hold it. The turn
that first says it in a history is its *source*. A later message that says it again, more than ten
turns on, is a query; its relevant turns are the sources of the words it takes up. The truth is
weak, and named so; its times are true.

So that the label does not leak into the signals, the words taken up are masked in the query, and
a turn's own rare first words are masked where a signal looks at the turn alone. The candidates of
a query are the turns more than ten back that say as many rare words first as one of its relevant
turns does, so that "says something rare" tells them apart no more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from leray.memory.conversations import Conversation, History, Query

RARE_SHARE = 0.005
MIN_GAP = 10  # "more than ten turns back"
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|')+[^\W\d_]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One query as the signals see it, with its truth.

    Args:
        query: With the words taken up masked, where the truth is callback.
        cluster: The conversation it was asked in (what is resampled).
        candidates: Indices of the turns it is asked to rank, ascending, int64.
        relevant: For each candidate, whether it matters; boolean.
        time: Seconds since 1970, or the time of the last turn where the query carries none.
    """

    query: Query
    cluster: str
    candidates: np.ndarray
    relevant: np.ndarray
    time: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """All usable queries of a history, the turns with their rare words masked, and what was left.

    ``alone`` holds for each turn the text that signals of the turn alone may see (None: its own).
    """

    history: History
    asks: list[Ask]
    alone: list[str | None]
    dropped: Counter[str]


def words(text: str) -> list[str]:
    """The words of a text, in lower case: three letters or more, apostrophes inside allowed.

    >>> words("I don't own 3 DOGS, ok?")
    ["don't", 'own', 'dogs']
    """
    return [w.lower() for w in _WORD.findall(text)]


def document_frequency(conversations: Iterable[Conversation]) -> Counter[str]:
    """In how many conversations each word occurs."""
    counts: Counter[str] = Counter()
    for c in conversations:
        counts.update({w for t in c.turns for w in words(t.text)})
    return counts


def mask(text: str, hidden: set[str]) -> str:
    """The text without the hidden words (the rest stays as it was)."""
    masked = _WORD.sub(lambda m: "" if m.group().lower() in hidden else m.group(), text)
    return " ".join(masked.split()) if masked != text else text


def evidence_asks(history: History, conversations: list[Conversation]) -> Asked:
    """The annotated queries of a history, each ranking every turn that it may look back on.

    Those are the turns said at or before its time, of whichever conversation; without a time, those
    up to the last turn of its own conversation.
    """
    place = {
        (history.conversations[c], t.id): i
        for i, (c, t) in enumerate(zip(history.conversation, history.turns, strict=True))
    }
    times, said = history.times, history.said
    asks, dropped = [], Counter[str]()
    for k, conversation in enumerate(conversations):
        own = history.conversation == k
        end = int(np.flatnonzero(own)[-1])
        for query in conversation.queries:
            if query.time is None:
                candidates = np.arange(end + 1)
            else:  # turns of its own conversation without a time count as said before it
                candidates = np.flatnonzero((said <= query.time) | (own & np.isinf(said)))
            marked = [place.get((conversation.id, e), -1) for e in query.evidence or ()]
            relevant = np.isin(candidates, marked)
            if relevant.all() or not relevant.any():
                which = "only" if relevant.any() else "no"
                dropped[f"query with {which} evidence before it"] += 1
                continue
            asks.append(
                Ask(
                    query=query,
                    cluster=conversation.id,
                    candidates=candidates,
                    relevant=relevant,
                    time=float(times[end] if query.time is None else query.time),
                )
            )
    return Asked(history=history, asks=asks, alone=[None] * len(history.turns), dropped=dropped)


def callback_asks(history: History, frequency: Mapping[str, int], collection_size: int) -> Asked:
    """The messages of a history that take up a rare word, each ranking matched candidates.

    They come conversation by conversation, in the order of time within each.

    Args:
        history: Its turns, in order.
        frequency: In how many conversations of the collection each word occurs.
        collection_size: How many conversations the collection has.
    """
    limit = max(1, int(RARE_SHARE * collection_size))
    source: dict[str, int] = {}
    firsts: list[set[str]] = []
    taken: list[tuple[int, dict[str, int]]] = []
    for i, turn in enumerate(history.turns):
        rare = {w for w in words(turn.text) if frequency.get(w, 0) <= limit}
        firsts.append({w for w in rare if w not in source})
        again = {w: source[w] for w in rare if w in source and i - source[w] > MIN_GAP}
        source.update(dict.fromkeys(firsts[-1], i))
        if again:
            taken.append((i, again))
    num_first = np.array([len(f) for f in firsts])
    dropped: Counter[str] = Counter()
    asks = []
    for i, again in sorted(taken, key=lambda t: history.conversation[t[0]]):
        ask = _callback(history, i, again, num_first)
        if ask is None:
            dropped["message with no turn to tell its source from"] += 1
        else:
            asks.append(ask)
    alone = [mask(t.spoken, f) if f else None for t, f in zip(history.turns, firsts, strict=True)]
    return Asked(history=history, asks=asks, alone=alone, dropped=dropped)


def num_reaching_back(asked: Asked) -> int:
    """How many of the queries have something relevant in another conversation than their own."""
    h = asked.history
    place = {name: k for k, name in enumerate(h.conversations)}
    relevant = ((place[a.cluster], a.candidates[a.relevant]) for a in asked.asks)
    return sum(bool((h.conversation[turns] != k).any()) for k, turns in relevant)


def _callback(
    history: History, i: int, again: Mapping[str, int], num_first: np.ndarray
) -> Ask | None:
    sources = sorted(set(again.values()))
    reach = num_first[: max(0, i - MIN_GAP)]
    candidates = np.flatnonzero(np.isin(reach, num_first[sources]))
    relevant = np.isin(candidates, sources)
    if relevant.all():
        return None
    turn = history.turns[i]
    return Ask(
        query=Query(id=turn.id, text=mask(turn.spoken, set(again)), time=turn.time),
        cluster=history.conversations[history.conversation[i]],
        candidates=candidates,
        relevant=relevant,
        time=float(history.times[i]),
    )

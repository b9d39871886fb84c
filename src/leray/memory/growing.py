"""A history that grows turn by turn, and those of its signals that need no embedding.

Adding turns one by one and all at once give the same numbers, and both the numbers of
`leray.memory.blocks` for the same history.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from leray.memory import signals
from leray.memory.conversations import Turn
from leray.memory.postings import Postings

Array = np.ndarray


class GrowingHistory:
    """The turns so far, in the order they were said."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.conversations: list[str] = []
        self._times, self._timed = array("d"), False
        self._session, self._place = array("d"), 0  # the place of the last turn in its session
        self._questions, self._lengths = array("d"), array("d")
        self._speakers: dict[str, int] = {}
        self._speaker = array("q")
        self._postings = Postings()
        self._given: dict[str, tuple[array[int], array[float]]] = {}

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def times(self) -> Float[Array, " n"]:
        """Seconds since 1970; a missing time takes the last one before, as in a `History`."""
        return np.array(self._times)

    def append(self, turn: Turn, conversation: str) -> None:
        """Add a turn. Cost: its own words."""
        time = self._time(turn)
        goes_on = (
            len(self) > 0
            and conversation == self.conversations[-1]
            and time - self._times[-1] <= signals.SESSION_GAP
        )
        self._place = self._place + 1 if goes_on else 0
        self._session.append(1.0 / (1.0 + self._place))
        self._times.append(time)
        self._questions.extend(signals.questioning([turn.spoken]))
        said = signals.tokens(turn.spoken)
        self._lengths.extend(signals.length([said]))
        self._postings.add(said)
        self._speaker.append(self._speakers.setdefault(turn.speaker, len(self._speakers)))
        for name, value in (turn.signals or {}).items():
            places, values = self._given.setdefault(name, (array("q"), array("d")))
            places.append(len(self))
            values.append(value)
        self.turns.append(turn)
        self.conversations.append(conversation)

    def of_turn(self, name: str, computed: Sequence[float] | None = None) -> Float[Array, " n"]:
        """A signal of the turns alone; values that came with turns replace the computed ones.

        Args:
            name: ``length``, ``surprisal``, ``question`` or ``session``; or any other with its
                computed values.
        """
        values = np.array(OF_TURN[name](self) if computed is None else computed, dtype=np.float64)
        if name in self._given:
            places, given = self._given[name]
            values[np.asarray(places)] = np.asarray(given)
        return values

    def lexical(self, query: Sequence[str]) -> Float[Array, " n"]:
        """BM25 divided by the query's maximum."""
        return signals.lexical(self._postings.bm25(query)[None])[0]

    def named(self, query: Sequence[str]) -> Float[Array, " n"]:
        """1 where the turn's speaker is named in the query."""
        words = set(query)
        named = [float(not words.isdisjoint(signals.tokens(s))) for s in self._speakers]
        return np.array(named)[np.asarray(self._speaker)]

    def _time(self, turn: Turn) -> float:
        if turn.time is None:
            return self._times[-1] if self._timed else 0.0
        if not self._timed:  # turns before the first known time are taken to have it
            self._times, self._timed = array("d", [turn.time] * len(self)), True
        return turn.time


OF_TURN: dict[str, Callable[[GrowingHistory], Array]] = {
    "length": lambda h: np.asarray(h._lengths),
    "surprisal": lambda h: h._postings.surprisal(),
    "question": lambda h: np.asarray(h._questions),
    "session": lambda h: np.asarray(h._session),
}
"""The signals of a turn alone that need no embedding."""

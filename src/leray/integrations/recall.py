"""`Memory`: which past turns matter now? What an assistant calls while it talks.

    memory = Memory.load("weights.json", "conversation.jsonl")
    memory.rank("Where did we go last summer?", top=10)
    memory.add(Turn(id="t7", speaker="A", text="To the lake, as always."))

The score of turn i is Σ_j w_j x_j(q, i) over the signals whose weight is not zero, each as
`leray.memory.blocks` defines it for a study. Signals of the turn alone are computed when the turn
comes, those of the query when it is asked.
"""

from __future__ import annotations

import shlex
import warnings
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from leray.data.cache import cache_home
from leray.data.embeddings import EmbeddingProgress
from leray.data.encoders import check_device
from leray.data.reading import seconds
from leray.data.sources import load
from leray.errors import LerayError, nearest
from leray.integrations.look_back import MEASURES, look_back
from leray.integrations.vectors import Embed, OwnFunction, Source, VectorStore
from leray.integrations.warm import WarmEmbedder
from leray.integrations.weights_file import read_weights
from leray.memory import signals
from leray.memory.conversations import Conversation, History, LoadReport, Turn, histories
from leray.memory.growing import OF_TURN, GrowingHistory
from leray.memory.weights import LinearWeights

Array = np.ndarray
OnProgress = Callable[[str, int, int], None]
"""Told what is going on, how many turns are done, and how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """A turn that may matter, and why.

    Args:
        turn: What was said.
        conversation: The id of its conversation.
        time: Seconds since 1970 that its age was taken from; a turn without a time has that of the
            turn before.
        score: The sum of the shares.
        shares: For each signal with a weight, weight · value.
    """

    turn: Turn
    conversation: str
    time: float
    score: float
    shares: dict[str, float]


class Memory:
    """The turns of one history, ready to be ranked, growing turn by turn.

    Args:
        weights: What was fitted, by a study or an `ImportanceModel`.
        embedder: A sentence-transformers folder; None for the packaged encoder.
        device: Where texts are embedded, such as ``cuda``.
        embed: Your own function instead: texts to vectors.
        cache_dir: Where what long histories need is kept (``embeddings`` and ``turn-signals``); by
            default `leray.data.cache.cache_home`.

    Turns that carry an ``embedding`` use it. A query must then come with its own, or ``embedder``
    or ``embed`` must say what made them.

    Raises:
        LerayError: ``embed`` comes together with ``embedder`` or ``device``, or this machine has no
            such device.
    """

    def __init__(
        self,
        weights: LinearWeights,
        *,
        embedder: str | Path | None = None,
        device: str = "cpu",
        embed: Embed | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        if embed is not None and (embedder is not None or device != "cpu"):
            raise LerayError("embed replaces the encoder: give it, or embedder and device")
        check_device(device)
        cache = cache_home() if cache_dir is None else Path(cache_dir)
        folder = None if embedder is None else Path(embedder)

        def source() -> Source:
            if embed is not None:
                return OwnFunction(embed)
            opened = WarmEmbedder(folder, device=device, cache_dir=cache / "embeddings")
            _compare_embedders(weights, opened)
            return opened

        self.weights = weights
        self.report = LoadReport()
        self._active = weights.active
        self._history = GrowingHistory()
        self._vectors = VectorStore(source, trusted=embed is not None or embedder is not None)
        self._needs_vectors = any(s in MEASURES or s.startswith("relevance") for s in self._active)
        self._looked_back = {name: array("d") for name in MEASURES if name in self._active}
        self._cache = cache / "turn-signals"

    @classmethod
    def load(
        cls,
        weights: str | Path | LinearWeights,
        conversation: str | Path | None = None,
        *,
        history: str | None = None,
        embedder: str | Path | None = None,
        device: str = "cpu",
        embed: Embed | None = None,
        cache_dir: str | Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> Memory:
        """A memory with weights from a file, and the turns of a conversation.

        Args:
            weights: A weights file, or weights.
            conversation: A ``.jsonl`` file, or other data by name (``docs/data.md``); None to begin
                empty. What its loader left out is in ``memory.report``.
            history: Which one, where the data hold several: a conversation's or a person's id.
            embedder, device, embed, cache_dir: As for the class.
            on_progress: Told of what takes long.

        Raises:
            LerayError: A file that cannot be used, an unknown history, or several and none named.
        """
        chosen = weights if isinstance(weights, LinearWeights) else read_weights(Path(weights))
        memory = cls(chosen, embedder=embedder, device=device, embed=embed, cache_dir=cache_dir)
        if conversation is not None:
            corpus = load(str(conversation))
            found = _only(histories(corpus.conversations), history, corpus.name)
            memory.report = corpus.report
            names = [found.conversations[k] for k in found.conversation]
            memory.extend(found.turns, names, on_progress=on_progress)
        elif history is not None:
            raise LerayError(f"history {history!r:.60} has no effect without a conversation")
        return memory

    def __len__(self) -> int:
        """The number of turns."""
        return len(self._history)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """In the order they were said."""
        return tuple(self._history.turns)

    def warm(self) -> None:
        """Load the encoder now, so that the first query is as quick as the others."""
        if any(s.startswith("relevance") for s in self._active) and len(self):
            self._vectors.warm()

    def add(self, turn: Turn, conversation: str | None = None) -> None:
        """Append what was said now.

        Args:
            turn: Its time may be None: that of the turn before.
            conversation: Its conversation's id; None for that of the turn before.

        Raises:
            LerayError: Its time is not finite, or its vector does not fit the others; nothing is
                appended.

        Cost: one embedding, and one product of all vectors with the new one where habituation has a
        weight (of the last 50 where only surprise has).
        """
        self.extend([turn], None if conversation is None else [conversation])

    def extend(
        self,
        turns: Sequence[Turn],
        conversations: Sequence[str] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Append many turns at once: the same as one by one, quicker.

        Args:
            turns: In the order they were said.
            conversations: The id of each one's conversation; None for that of the last turn.
            on_progress: Told of what takes long.

        Raises:
            LerayError: As for `add`.
        """
        start = len(self)
        last = self._history.conversations[-1] if start else "conversation"
        names = [last] * len(turns) if conversations is None else conversations
        if len(names) != len(turns):
            raise LerayError(f"{len(turns)} turns need as many conversations, not {len(names)}")
        for turn in turns:
            if turn.time is not None and not np.isfinite(turn.time):
                raise LerayError(
                    f"turn {turn.id!r:.60}: time {turn.time}; allowed: seconds or None"
                )
        if not turns:
            return
        if self._needs_vectors:
            self._vectors.append(turns, _tell_embedded(on_progress))
        for turn, name in zip(turns, names, strict=True):
            self._history.append(turn, name)
        for name, values in self._looked_back.items():
            values.extend(self._look_back(name, start, on_progress))

    def rank(
        self,
        query: str,
        top: int = 10,
        *,
        time: float | int | str | datetime | None = None,
        embedding: Array | None = None,
    ) -> list[Ranked]:
        """The turns that matter most to a query, the first one most; ties as they were said.

        Args:
            query: What is asked or said now.
            top: How many turns, at least 1; fewer come where the history has fewer.
            time: When: ISO 8601 text or a datetime (without a zone UTC), or seconds since 1970.
                Turns said later are left out. None: at the time of the last turn.
            embedding: A ready vector of the query, from the same model as the turns'.

        Raises:
            LerayError: An unreadable time, one before the first turn, or a vector that does not
                fit.

        Cost: one embedding, one product of all vectors with it, and the postings of its words.
        """
        if isinstance(top, bool) or top < 1:
            raise LerayError(f"top is {top}; allowed: 1 and more")
        asked_at = None if time is None else _seconds(time)
        if not len(self):
            return []
        times = self._history.times
        now = times[-1] if asked_at is None else asked_at
        visible = np.flatnonzero(times <= now) if asked_at is not None else np.arange(len(times))
        if not len(visible):
            raise LerayError(f"time {time!s:.40} is before the first turn; allowed: a later one")
        values = self._values(query, now - times, embedding)
        score = np.zeros(len(times))
        for name, weight in self._active.items():
            score += weight * values[name]
        best = visible[_largest(score[visible], top)]
        return [self._ranked(int(i), times, values) for i in best]

    def _ranked(self, i: int, times: Array, values: dict[str, Array]) -> Ranked:
        shares = {name: w * float(values[name][i]) for name, w in self._active.items()}
        return Ranked(
            turn=self._history.turns[i],
            conversation=self._history.conversations[i],
            time=float(times[i]),
            score=sum(shares.values()),
            shares=shares,
        )

    def _values(self, query: str, ages: Array, embedding: Array | None) -> dict[str, Array]:
        """Each active signal of every turn, ``[n]``."""
        asked = signals.tokens(query)
        whole: dict[str, Array] = {}
        if any(s.startswith("relevance") for s in self._active):
            whole["relevance"] = self._vectors.rows @ self._vectors.query(query, embedding)
        elif embedding is not None:
            raise LerayError("embedding has no effect: relevance has no weight")
        if any(s.startswith("lexical") for s in self._active):
            whole["lexical"] = self._history.lexical(asked)
        return {name: self._value(name, asked, ages, whole) for name in self._active}

    def _value(self, name: str, asked: list[str], ages: Array, whole: dict[str, Array]) -> Array:
        if name == "decay":
            assert self.weights.tau is not None
            return signals.decay(ages, self.weights.tau)
        if name == "named":
            return self._history.named(asked)
        if name in OF_TURN:
            return self._history.of_turn(name)
        if name in self._looked_back:
            return self._history.of_turn(name, self._looked_back[name])
        base = next(b for b in whole if name.startswith(b))
        offset = int(name.removeprefix(base) or 0)  # of the neighbour: relevance+1, lexical-2, …
        return signals.neighbour(whole[base][None], offset)[0] if offset else whole[base]

    def _look_back(self, name: str, start: int, on_progress: OnProgress | None) -> Array:
        rows = self._vectors.rows
        if start:
            return MEASURES[name](rows, start, len(rows))

        def tell(num_done: int) -> None:
            if on_progress is not None:
                on_progress(name, num_done, len(rows))

        return look_back(name, rows, self._cache, tell)


def _tell_embedded(on_progress: OnProgress | None) -> Callable[[EmbeddingProgress], None] | None:
    if on_progress is None:
        return None
    return lambda p: on_progress("embeddings", p.num_done, p.num_texts)


def _compare_embedders(weights: LinearWeights, used: WarmEmbedder) -> None:
    """Warn where the weights were fitted with another encoder."""
    fitted = weights.embedder
    if fitted is None or fitted.fingerprint is None:
        return
    here = used.describe()
    if here.fingerprint == fitted.fingerprint:
        return
    what = f"{fitted.name}, but {here.name} is used here"
    if here.name == fitted.name:
        what = f"{fitted.name}, and the model of that name here has other files"
    warnings.warn(
        f"the weights were fitted with the embedder {what}: fit them again, or name theirs with "
        "embedder (--embedder)",
        stacklevel=2,
    )


def _only(
    joined: Sequence[tuple[History, list[Conversation]]], wanted: str | None, source: str
) -> History:
    """The history that is meant."""
    found = {h.id: h for h, _ in joined}
    if wanted is None and len(found) > 1:
        shown = ", ".join([*found][:5]) + (", …" if len(found) > 5 else "")
        raise LerayError(
            f"{source} holds {len(found)} histories ({shown}): name one with --history, such as "
            f"--history {shlex.quote(next(iter(found)))} (in Python history=…)"
        )
    if wanted is not None and wanted not in found:
        raise LerayError(f"no history {wanted!r:.60} in {source}{nearest(wanted, found)}")
    return found[wanted] if wanted is not None else next(iter(found.values()))


def _seconds(time: float | int | str | datetime) -> float:
    if isinstance(time, datetime):
        time = (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    try:
        return seconds(time)
    except ValueError as error:
        raise LerayError(f"time is {time!r:.40}; {error}, or leave it out") from None


def _largest(scores: Float[Array, " n"], top: int) -> Int[Array, " top"]:
    """The places of the largest scores, descending; ties in ascending place."""
    if top < len(scores):
        cut = np.partition(scores, len(scores) - top)[len(scores) - top]
        some = np.flatnonzero(scores >= cut)
    else:
        some = np.arange(len(scores))
    return some[np.argsort(-scores[some], kind="stable")][:top]

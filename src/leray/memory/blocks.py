"""Blocks: the signals of every (query, candidate) pair of one history, side by side.

A block holds one history's pairs only; nothing ever holds the pairs of all histories in one
matrix. Signals are rows, so that each is contiguous: ``x [d, rows]``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leray.memory import signals
from leray.memory.labels import Asked

Array = np.ndarray
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

FOUR = ("decay", "surprise", "relevance", "habituation")
FIVE = (*FOUR, "lexical")
CONTEXT = (
    *(f"relevance{k:+d}" for k in (-2, -1, 1, 2)),
    *(f"lexical{k:+d}" for k in (-2, -1, 1, 2)),
    "length",
    "surprisal",
    "named",
    "question",
    "session",
)
ALL = (*FIVE, *CONTEXT)
RECENCY = "recency"  # order of saying, 1 for the latest candidate: for baselines that rank by it
AGE = "age"  # hours since the turn: for baselines with a decay of their own
TIME_SIGNALS = ("decay", RECENCY, AGE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """The pairs of one history.

    Args:
        history: Its id.
        signals: The d names; ``decay@τ`` columns stand for each candidate τ (in seconds).
        x: Values, float32, ``[d, rows]``.
        relevant: Truth, boolean, ``[rows]``.
        offsets: Query k owns the rows ``offsets[k]:offsets[k + 1]``.
        clusters: The cluster of each query (what is resampled).
    """

    history: str
    signals: tuple[str, ...]
    x: Array
    relevant: Array
    offsets: Array
    clusters: tuple[str, ...]

    def rows(self, names: Sequence[str]) -> Array:
        """The signals of these names, ``[len(names), rows]``."""
        return self.x[[self.signals.index(n) for n in names]]

    def by_cluster(self) -> list[tuple[str, slice, slice]]:
        """Runs of queries of one cluster: (cluster, slice of queries, slice of rows)."""
        runs, start = [], 0
        for k in range(1, len(self.clusters) + 1):
            if k == len(self.clusters) or self.clusters[k] != self.clusters[start]:
                rows = slice(int(self.offsets[start]), int(self.offsets[k]))
                runs.append((self.clusters[start], slice(start, k), rows))
                start = k
        return runs


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The unit vectors that a block needs: turns, turns alone, queries (float32, rows)."""

    turns: Array
    alone: Array
    queries: Array


def decay_name(tau: float) -> str:
    """The column that holds the decay with this τ (seconds)."""
    return f"decay@{tau:g}"


def with_tau(names: Sequence[str], tau: float) -> list[str]:
    """The columns behind signal names, ``decay`` meaning the one with this τ."""
    return [decay_name(tau) if n == "decay" else n for n in names]


def block(asked: Asked, vectors: Embedded, taus: Sequence[float]) -> Block:
    """Compute every signal of every pair of one history.

    Args:
        asked: The history with its queries, at least one.
        vectors: Unit embeddings of its turns (whole and alone) and of its queries.
        taus: Decay times, in seconds; a column each.

    Cost: q · n · dim for the relevance, n² · dim for the habituation.
    """
    history, asks = asked.history, asked.asks
    alone_texts = [
        a if a is not None else t.spoken for a, t in zip(asked.alone, history.turns, strict=True)
    ]
    spoken = [signals.tokens(t.spoken) for t in history.turns]
    queries = [signals.tokens(a.query.text) for a in asks]
    by_turn = _turn_signals(asked, vectors, alone_texts, spoken)
    by_pair = _pair_signals(vectors, spoken, queries, [t.speaker for t in history.turns])
    times = history.times
    columns: dict[str, list[Array]] = {}
    for k, ask in enumerate(asks):
        c = ask.candidates
        ages = ask.time - times[c]
        pieces = {decay_name(tau): signals.decay(ages, tau) for tau in taus}
        pieces |= {name: matrix[k, c] for name, matrix in by_pair.items()}
        pieces |= {name: vector[c] for name, vector in by_turn.items()}
        pieces[RECENCY] = np.arange(1, len(c) + 1) / len(c)
        pieces[AGE] = ages / HOUR
        for name, values in pieces.items():
            columns.setdefault(name, []).append(values)
    return Block(
        history=history.id,
        signals=tuple(columns),
        x=np.stack([np.concatenate(v).astype(np.float32) for v in columns.values()]),
        relevant=np.concatenate([a.relevant for a in asks]),
        offsets=np.cumsum([0, *(len(a.candidates) for a in asks)]),
        clusters=tuple(a.cluster for a in asks),
    )


def _turn_signals(
    asked: Asked, vectors: Embedded, alone: Sequence[str], spoken: Sequence[Sequence[str]]
) -> dict[str, Array]:
    history = asked.history
    alone_tokens = [signals.tokens(t) for t in alone]
    counts = Counter(w for t in spoken for w in t)
    computed = {
        "surprise": signals.surprise(vectors.alone, vectors.turns),
        "habituation": signals.habituation(vectors.alone, vectors.turns),
        "length": signals.length(alone_tokens),
        "surprisal": signals.surprisal(alone_tokens, counts, counts.total()),
        "question": signals.questioning(alone),
        "session": signals.session_position(history.times, history.conversation),
    }
    for name, values in computed.items():
        for i, turn in enumerate(history.turns):
            if turn.signals and name in turn.signals:
                values[i] = turn.signals[name]
    return computed


def _pair_signals(
    vectors: Embedded,
    spoken: Sequence[Sequence[str]],
    queries: Sequence[Sequence[str]],
    speakers: Sequence[str],
) -> dict[str, Array]:
    near = signals.relevance(vectors.queries, vectors.turns)
    shared = signals.lexical(signals.Bm25(spoken).scores(queries))
    pairs = {"relevance": near, "lexical": shared}
    for offset in (-2, -1, 1, 2):
        pairs[f"relevance{offset:+d}"] = signals.neighbour(near, offset)
        pairs[f"lexical{offset:+d}"] = signals.neighbour(shared, offset)
    pairs["named"] = signals.named(queries, speakers)
    return pairs

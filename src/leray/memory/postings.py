"""Which turns say which word: BM25 and surprisal of a history that grows turn by turn.

A word's postings are the turns i that hold it and how often, f_{w,i}. A new turn appends one
posting a distinct word; a query looks at the postings of its own words only. What depends on the
whole history (document frequencies, the mean length, word counts) is put in when it is asked for,
so that adding turns one by one and all at once give the same numbers.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from leray.memory.signals import BM25_B, BM25_K1

Array = np.ndarray


class Postings:
    """The words of n turns, in the order they were said."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._rows: list[array[int]] = []  # by word: the turns that hold it, ascending
        self._counts: list[array[int]] = []  # by word: how often, in the same order
        self._lengths = array("q")
        self._said = array("q")  # the words of all turns, one turn after another
        self._totals = array("q")  # by word: how often in all turns
        self._surprisal: Array | None = None  # until the next turn

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, turn: Sequence[str]) -> None:
        """Append a turn, as its tokens. Cost: one posting a distinct word."""
        row = len(self._lengths)
        self._surprisal = None
        for word, count in Counter(turn).items():
            k = self._ids.setdefault(word, len(self._rows))
            if k == len(self._rows):
                self._rows.append(array("q"))
                self._counts.append(array("q"))
                self._totals.append(0)
            self._rows[k].append(row)
            self._counts[k].append(count)
            self._totals[k] += count
        self._said.extend([self._ids[word] for word in turn])
        self._lengths.append(len(turn))

    def bm25(self, query: Sequence[str]) -> Float[Array, " n"]:
        """The BM25 score of every turn, as `leray.memory.signals.Bm25` defines it.

        Cost: the postings of the query's words.
        """
        n = len(self)
        scores = np.zeros(n)
        lengths = np.asarray(self._lengths)
        mean = max(lengths.mean(), 1e-12) if n else 1.0
        for word, times in Counter(query).items():
            k = self._ids.get(word)
            if k is None:
                continue
            rows, f = np.asarray(self._rows[k]), np.asarray(self._counts[k])
            idf = np.log1p((n - len(rows) + 0.5) / (len(rows) + 0.5))
            norm = BM25_K1 * (1 - BM25_B + BM25_B / mean * lengths[rows])
            scores[rows] += (times * idf) * (f / (f + norm))
        return scores

    def surprisal(self) -> Float[Array, " n"]:
        """The summed surprisal of every turn, as `leray.memory.signals.surprisal` defines it.

        With the counts of these very turns. Cost: after a new turn, one look at every token.
        """
        if self._surprisal is None:
            self._surprisal = self._summed_surprisal()
        return self._surprisal

    def _summed_surprisal(self) -> Array:
        said, lengths = np.asarray(self._said), np.asarray(self._lengths)
        seen = np.log1p(np.asarray(self._totals, dtype=np.float64))
        running = np.concatenate([[0.0], np.cumsum(seen[said])])
        ends = np.cumsum(lengths)
        known = running[ends] - running[ends - lengths]
        return lengths * np.log(len(said) + len(self._ids) + 1) - known

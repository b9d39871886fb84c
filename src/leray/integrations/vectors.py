"""The vectors of a memory: unit rows that grow, from an encoder, a function or the turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from leray.data.embeddings import EmbeddingProgress
from leray.errors import LerayError
from leray.memory.conversations import Turn

Array = np.ndarray
Embed = Callable[[Sequence[str]], Array]
"""Texts to vectors, ``[texts, dim]``, of any norm but 0."""
OnEmbedded = Callable[[EmbeddingProgress], None]


@runtime_checkable
class Source(Protocol):
    """What turns texts into unit vectors (`leray.integrations.warm.WarmEmbedder` is one)."""

    def turns(self, texts: Sequence[str], on_progress: OnEmbedded | None = None) -> Array:
        """float32 unit rows, ``[texts, dim]``."""
        ...

    def query(self, text: str) -> Array:
        """A float32 unit vector, ``[dim]``."""
        ...


class OwnFunction:
    """A person's own function as a source."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    def turns(self, texts: Sequence[str], on_progress: OnEmbedded | None = None) -> Array:  # noqa: ARG002
        rows = unit_rows(self._embed(texts))
        if len(rows) != len(texts):
            raise LerayError(f"embed gave {len(rows)} vectors for {len(texts)} texts")
        return rows

    def query(self, text: str) -> Array:
        return self.turns([text])[0]


class VectorStore:
    """The unit vectors of n turns, float32, with room to grow.

    Args:
        open_source: Opens what embeds; called when first needed.
        trusted: Whether that source also made the vectors that turns bring along.
    """

    def __init__(self, open_source: Callable[[], Source], *, trusted: bool) -> None:
        self._open, self._trusted = open_source, trusted
        self._source: Source | None = None
        self._room = np.zeros((0, 0), dtype=np.float32)
        self._n = 0
        self._brought = False  # whether turns bring their own vectors

    @property
    def rows(self) -> Array:
        """``[n, dim]``, a view."""
        return self._room[: self._n]

    def append(self, turns: Sequence[Turn], on_progress: OnEmbedded | None = None) -> None:
        """Add the turns' vectors: their own, or embedded.

        Raises:
            LerayError: They cannot be compared with those before; nothing is added.
        """
        ready = [t.embedding for t in turns if t.embedding is not None]
        if len(ready) not in (0, len(turns)) or (self._n and bool(ready) != self._brought):
            raise LerayError("some turns carry an embedding and some do not: all or none must")
        if ready:
            if len({len(v) for v in ready}) > 1:
                raise LerayError("turns carry embeddings of different lengths; they must be alike")
            new = unit_rows(np.stack(ready))
        else:
            new = self._opened().turns([t.spoken for t in turns], on_progress)
        dim = self._room.shape[1]
        if self._n and new.shape[1] != dim:
            raise LerayError(
                f"a vector of {new.shape[1]} numbers came, those before have {dim}: all must come "
                "from the same model"
            )
        self._brought = bool(ready)
        self._grow(new)

    def query(self, text: str, embedding: Array | None) -> Array:
        """The unit vector of a query: the one that is given, or the text's.

        Raises:
            LerayError: It cannot be compared with the turns' vectors.
        """
        if embedding is not None:
            vector = unit_rows(np.asarray(embedding)[None])[0]
        elif self._brought and not self._trusted:
            raise LerayError(
                "the turns carry their own embeddings, so a query needs one from the same model: "
                "name that model with --embedder (in Python give embedder, or the embedding)"
            )
        else:
            vector = self._opened().query(text)
        dim = self._room.shape[1]
        if len(vector) != dim:
            raise LerayError(
                f"the query's vector has {len(vector)} numbers, the turns' have {dim}: all must "
                "come from the same model"
            )
        return vector

    def warm(self) -> None:
        """Embed a query, where queries are embedded, so that the model is loaded."""
        if self._trusted or not self._brought:
            self._opened().query("warm")

    def _opened(self) -> Source:
        if self._source is None:
            self._source = self._open()
        return self._source

    def _grow(self, new: Array) -> None:
        """Append rows; the room grows by a quarter, so that n appends copy O(n) rows."""
        need = self._n + len(new)
        if need > len(self._room):
            room = np.empty((need + need // 4 + 64, new.shape[1]), dtype=np.float32)
            if self._n:
                room[: self._n] = self.rows
            self._room = room
        self._room[self._n : need] = new
        self._n = need


def unit_rows(rows: Array) -> Array:
    """Rows of norm 1, float32.

    Raises:
        LerayError: Another shape than ``[rows, dim]``, or a row without a direction.
    """
    rows = np.asarray(rows, dtype=np.float32)
    if rows.ndim != 2:
        raise LerayError(f"embeddings have the shape {rows.shape}; allowed: [texts, dim]")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise LerayError("an embedding is zero or not finite: every vector needs a direction")
    return rows / norms

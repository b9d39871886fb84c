"""An embedder that stays loaded: turns through the cache on disk, queries straight to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from leray.data.cache import VectorCache, cache_home
from leray.data.embeddings import EmbeddingProgress, embed
from leray.data.encoders import EncoderFolder, TextEncoder, find_encoder
from leray.memory.weights import Embedder


@dataclass(frozen=True, kw_only=True)
class _Warm(EncoderFolder):
    """An encoder's folder that loads its model once and keeps it."""

    loaded: list[TextEncoder] = field(default_factory=list, compare=False)

    def load(self, num_workers: int | None = None) -> TextEncoder:
        if not self.loaded:
            self.loaded.append(super().load(num_workers))
        return self.loaded[0]


class WarmEmbedder:
    """Embeds the turns and the queries of a memory with one model, loaded when first needed.

    Args:
        path: A sentence-transformers folder; None for the packaged encoder.
        device: A torch device.
        cache_dir: Where turns' vectors are kept; by default ``cache_home() / "embeddings"``.

    Raises:
        LerayError: There is no such encoder.
    """

    def __init__(
        self, path: Path | None = None, *, device: str = "cpu", cache_dir: Path | None = None
    ) -> None:
        found = find_encoder(path, device=device)
        self._folder = _Warm(**{f.name: getattr(found, f.name) for f in fields(found)})
        self._cache_dir = cache_home() / "embeddings" if cache_dir is None else cache_dir

    def turns(
        self, texts: Sequence[str], on_progress: Callable[[EmbeddingProgress], None] | None = None
    ) -> np.ndarray:
        """float32 unit rows ``[texts, dim]``; each text is computed once ever."""
        folder = self._folder
        if len(texts) == 1:  # one turn says too little of the language to warn about it
            folder = replace(folder, english=False)
        return embed(texts, encoder=folder, cache_dir=self._cache_dir, on_progress=on_progress)

    def query(self, text: str) -> np.ndarray:
        """A unit vector, float32 ``[dim]``; nothing is read from disk or kept there."""
        return self._folder.load().encode([text])[0]

    def describe(self) -> Embedder:
        """The name and the fingerprint, as a weights file has them."""
        cache = VectorCache(self._cache_dir)
        try:
            state = self._folder.state()
            mark = cache.fingerprint(state)
            if mark is None:
                mark = self._folder.fingerprint()
                cache.remember_fingerprint(state, mark)
        finally:
            cache.close()
        # A packaged model lies in PACKAGE/model: the package is its name.
        path = self._folder.path.resolve()
        return Embedder(
            name=path.parent.name if path.name == "model" else path.name, fingerprint=mark
        )

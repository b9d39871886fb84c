"""Sentence embeddings of texts, each computed once ever.

A vector is kept on disk under SHA-256(fingerprint of the model, text), so the same text and the
same model meet the same vector across runs, data sets and processes. With every text known, the
model is not loaded and torch is not imported.

The work is a row of steps for the project's driver: the distinct texts, sorted by length, are cut
into buckets of about `STEP_TOKENS` tokens; a step encodes what is not yet known of its bucket and
stores it whole or not at all. Buckets depend on the texts alone, so that an interrupted run that
begins again counts the same steps.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leray.data.cache import VectorCache, cache_home
from leray.data.encoders import EncoderFolder, TextEncoder
from leray.data.language import mostly_not_english

STEP_TOKENS = 4_096
"""Tokens in a step for the packaged encoder (half a second to a second on two cores)."""

BYTES_PER_TOKEN = 4  # of UTF-8 text: English conversations have 4.2
MOST_TOKENS = 256  # a longer text is cut by the model


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingProgress:
    """How far an `EmbeddingJob` is.

    Args:
        num_done: Distinct texts whose vector is known, from the cache or computed.
        num_texts: Distinct texts.
        num_computed: Texts that this job computed itself.
        texts_per_second: Of those, by the clock; None before the first.
    """

    num_done: int
    num_texts: int
    num_computed: int
    texts_per_second: float | None


class EmbeddingJob:
    """Embeds texts in steps that may be interrupted, repeated and done in any order.

    Args:
        texts: Any number, repeats and empty texts included.
        encoder: Which model (`leray.data.encoders.find_encoder`).
        cache_dir: Folder of the cache; by default ``cache_home() / "embeddings"``.
        num_workers: Threads of the encoder; by default one a processor. Never changes the result.
    """

    name = "embeddings"

    def __init__(
        self,
        texts: Sequence[str],
        *,
        encoder: EncoderFolder,
        cache_dir: Path | None = None,
        num_workers: int | None = None,
    ) -> None:
        _warn_of_language(texts, encoder)
        self._encoder_folder = encoder
        self._num_workers = num_workers
        self._encoder: TextEncoder | None = None
        self._cache = VectorCache(cache_home() / "embeddings" if cache_dir is None else cache_dir)
        model = self._fingerprint()
        self._text_keys = [_key(model, text) for text in texts]
        self._texts = dict(zip(self._text_keys, texts, strict=True))
        self._buckets = _buckets(self._texts, int(STEP_TOKENS / encoder.cost))
        self._vectors = self._cache.load(list(self._texts))
        self._num_computed = 0
        self._seconds = 0.0

    @property
    def num_steps(self) -> int:
        """Buckets of distinct texts; a function of the texts and the model only."""
        return len(self._buckets)

    @property
    def num_missing(self) -> int:
        """Distinct texts whose vector is not known yet; 0 means no step has anything to do."""
        return len(self._texts) - len(self._vectors)

    def step(self, k: int) -> None:
        """Encode the texts of bucket k that are not known, and store them in one transaction.

        Nothing happens where all are known. A second process at the same step waits for the first
        and takes its vectors.

        Args:
            k: 0 to ``num_steps`` − 1.

        Raises:
            LerayError: The encoder cannot be loaded, or the disk is full.
        """
        missing = self._unknown(self._buckets[k])
        if not missing:
            return
        with self._cache.working_on(missing):
            self._vectors |= self._cache.load(missing)
            missing = self._unknown(missing)
            if not missing:
                return
            encoder = self._loaded()
            start = time.monotonic()
            rows = encoder.encode([self._texts[key] for key in missing])
            self._seconds += time.monotonic() - start
            self._num_computed += len(missing)
            new = dict(zip(missing, rows, strict=True))
            self._vectors |= new
            self._cache.store(new)

    def describe(self) -> EmbeddingProgress:
        """How many texts are done and how fast, for a progress bar."""
        return EmbeddingProgress(
            num_done=len(self._vectors),
            num_texts=len(self._texts),
            num_computed=self._num_computed,
            texts_per_second=self._num_computed / self._seconds if self._num_computed else None,
        )

    def result(self) -> np.ndarray:
        """The vectors in the order of the texts: float32 ``[texts, dim]``, rows of norm 1.

        Steps done in other processes are read from the cache; what is missing even so is computed.
        """
        if self.num_missing:
            self._vectors |= self._cache.load(self._unknown(list(self._texts)))
            for k in range(self.num_steps):
                self.step(k)
        if not self._text_keys:
            return np.empty((0, self._encoder_folder.dim or 0), np.float32)
        return np.stack([self._vectors[key] for key in self._text_keys])

    def close(self) -> None:
        """Close the cache's file; results stay available."""
        self._cache.close()

    def _unknown(self, keys: Sequence[bytes]) -> list[bytes]:
        return [key for key in keys if key not in self._vectors]

    def _loaded(self) -> TextEncoder:
        if self._encoder is None:
            self._encoder = self._encoder_folder.load(self._num_workers)
        return self._encoder

    def _fingerprint(self) -> str:
        """The model's fingerprint, hashed again only when one of its files has changed."""
        state = self._encoder_folder.state()
        known = self._cache.fingerprint(state)
        if known is None:
            known = self._encoder_folder.fingerprint()
            self._cache.remember_fingerprint(state, known)
        return known


def embed(
    texts: Sequence[str],
    *,
    encoder: EncoderFolder,
    cache_dir: Path | None = None,
    on_progress: Callable[[EmbeddingProgress], None] | None = None,
) -> np.ndarray:
    """The normalised embedding of each text.

    Args:
        texts: Any number, repeats and empty texts included.
        encoder: Which model (`leray.data.encoders.find_encoder`).
        cache_dir: Folder of the cache; by default ``cache_home() / "embeddings"``.
        on_progress: Called after each step that had something to do.

    Returns:
        float32 ``[texts, dim]``, rows of Euclidean norm 1.

    Raises:
        LerayError: The encoder cannot be loaded, or the disk is full.

    Warns:
        UserWarning: The texts are mostly not English and the encoder is; the cache was damaged, or
            cannot be written.

    Cost: with the packaged encoder about 100 turns of LoCoMo per CPU-second (37 tokens each); a
    known text costs about 20 µs.
    """
    job = EmbeddingJob(texts, encoder=encoder, cache_dir=cache_dir)
    try:
        for k in range(job.num_steps if job.num_missing else 0):
            before = job.num_missing
            job.step(k)
            if on_progress is not None and job.num_missing < before:
                on_progress(job.describe())
        return job.result()
    finally:
        job.close()


def _key(model: str, text: str) -> bytes:
    # Text from damaged JSON may hold lone surrogates, which have no UTF-8.
    return hashlib.sha256(f"{model}\n{text}".encode("utf-8", "surrogatepass")).digest()


def _buckets(texts: dict[bytes, str], tokens: int) -> list[list[bytes]]:
    """Cut the texts, sorted by length and then by key, into runs of about so many tokens."""
    costs = {key: _num_tokens(text) for key, text in texts.items()}
    buckets: list[list[bytes]] = []
    room = 0
    for key in sorted(costs, key=lambda key: (costs[key], key)):
        if room <= 0:
            buckets.append([])
            room = tokens
        buckets[-1].append(key)
        room -= costs[key]
    return buckets


def _num_tokens(text: str) -> int:
    """A guess at the number of tokens, the two that frame a text included."""
    size = len(text.encode("utf-8", "surrogatepass"))
    return 2 + min(size // BYTES_PER_TOKEN, MOST_TOKENS)


def _warn_of_language(texts: Sequence[str], encoder: EncoderFolder) -> None:
    if encoder.english and mostly_not_english(texts):
        warnings.warn(
            "the texts are mostly not English, and the packaged sentence encoder knows only "
            "English: name a model for their language with --embedder PATH",
            stacklevel=3,
        )

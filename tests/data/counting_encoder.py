"""A stand-in for a sentence encoder that writes down every text it encodes.

Run as a program, it embeds ``--num-texts`` texts into a cache, as another process would:

    python counting_encoder.py CACHE LOG [--num-texts N] [--seconds S]
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leray.data.embeddings import STEP_TOKENS, embed
from leray.data.encoders import EncoderFolder

DIM = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class CountingFolder(EncoderFolder):
    """An encoder whose vectors are made from a hash of the text; ``path`` is its log."""

    seconds: float = 0.0
    model: str = "counting"

    def state(self) -> str:
        return self.model

    def fingerprint(self) -> str:
        return hashlib.sha256(self.model.encode()).hexdigest()

    def load(self, num_workers: int | None = None) -> CountingEncoder:
        del num_workers
        return CountingEncoder(self.path, self.seconds)

    def encoded(self) -> list[str]:
        """Every text encoded so far, by any process, in order."""
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []


@dataclass(frozen=True)
class CountingEncoder:
    """Encodes by hashing; appends each text to the log and takes so long for each."""

    log: Path
    seconds: float

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        with self.log.open("a", encoding="utf-8") as log:
            log.writelines(f"{text}\n" for text in texts)
        time.sleep(self.seconds * len(texts))
        return np.stack([hashed_vector(text) for text in texts])


def hashed_vector(text: str) -> np.ndarray:
    """The vector that the stand-in gives the text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    row = np.random.default_rng(seed).standard_normal(DIM)
    return (row / np.linalg.norm(row)).astype(np.float32)


def counting_folder(log: Path, *, seconds: float = 0.0, texts_a_step: int = 5) -> CountingFolder:
    """The stand-in, with steps of about so many short texts (4 tokens each)."""
    return CountingFolder(
        path=log,
        dim=DIM,
        native=True,
        english=False,
        cost=STEP_TOKENS / (4 * texts_a_step),
        seconds=seconds,
    )


def numbered_texts(num_texts: int) -> list[str]:
    """Short distinct texts."""
    return [f"message {i:03d}" for i in range(num_texts)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--num-texts", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.0)
    options = parser.parse_args()
    folder = counting_folder(options.log, seconds=options.seconds)
    embed(numbered_texts(options.num_texts), encoder=folder, cache_dir=options.cache)


if __name__ == "__main__":
    main()

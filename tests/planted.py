"""Small planted conversations in the documented format, with ready embeddings (no encoder)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def planted_lines(
    num_conversations: int, *, num_turns: int = 30, num_queries: int = 4, seed: int = 0
) -> list[dict[str, Any]]:
    """Turns with random vectors, and queries that lie near the vector of their one evidence."""
    rng = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = []
    for c in range(num_conversations):
        vectors = rng.normal(size=(num_turns, 16))
        for t, vector in enumerate(vectors):
            lines.append(
                {
                    "conversation": f"c{c}",
                    "turn": f"t{t}",
                    "speaker": "AB"[t % 2],
                    "text": f"word{rng.integers(99)} word{rng.integers(99)} thing{t}",
                    "time": f"2024-01-{1 + t // 2:02d}T10:{t:02d}:00",
                    "embedding": vector.round(4).tolist(),
                }
            )
        for q in range(num_queries):
            k = int(rng.integers(num_turns))
            near = vectors[k] + 0.8 * rng.normal(size=16)
            lines.append(
                {
                    "conversation": f"c{c}",
                    "query": f"q{q}",
                    "text": f"where is thing{k}",
                    "time": None,
                    "evidence": [f"t{k}"],
                    "embedding": near.round(4).tolist(),
                }
            )
    return lines


def write_planted(path: Path, num_conversations: int, **options: int) -> Path:
    """The lines as a file; returns its path."""
    lines = planted_lines(num_conversations, **options)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path

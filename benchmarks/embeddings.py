"""Turns a CPU-second: our sentence encoder beside sentence-transformers' own ``encode``.

    python benchmarks/embeddings.py [--locomo DIR] [--turns N] [--repeats R]

Real texts: turns of LoCoMo as `leray` embeds them, and the same turns cut to their first sentence
(the length of chat messages). CPU-seconds are `time.process_time`, all threads. Repeats are
interleaved, so that a change of the machine's speed meets every method alike; the table gives
medians, and the ratio is the median over repeats of (its best setting / ours) within that repeat.
Its settings: batches of 16 to 128 on one thread, and of 32 on two threads
(which wait for each other actively, and so cost more CPU-seconds).
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from leray.data.encoders import find_encoder
from leray.data.minilm import MiniLM
from leray.memory.conversations import Turn

BATCH_SIZES = (16, 32, 64, 128)
Encode = Callable[[Sequence[str]], np.ndarray]
LOCOMO = Path(__file__).resolve().parents[2] / "shared" / "data" / "locomo"


def main() -> None:
    """Print the comparison on both kinds of text."""
    parser = argparse.ArgumentParser(description="Turns a CPU-second beside sentence-transformers.")
    parser.add_argument("--locomo", type=Path, default=LOCOMO, help="folder of LoCoMo's JSON files")
    parser.add_argument("--turns", type=int, default=600, help="texts drawn of each kind")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {platform.machine()}, {capability}")
    turns = read_turns(options.locomo)
    drawn = random.Random(0).sample(turns, min(options.turns, len(turns)))
    short = [re.split(r"(?<=[.!?]) ", text, maxsplit=1)[0] for text in drawn]
    methods, num_threads = encoders()
    for title, texts in (("LoCoMo turns", drawn), ("their first sentences", short)):
        compare(title, texts, options.repeats, methods, num_threads)


def read_turns(folder: Path) -> list[str]:
    """All turns of all conversations in the folder, as they are embedded."""
    turns = []
    for file in sorted(folder.glob("*.json")):
        conversation = json.loads(file.read_text(encoding="utf-8"))
        for name, session in conversation.items():
            if re.fullmatch(r"session_\d+", name) and isinstance(session, list):
                turns += [
                    Turn(id=t["dia_id"], speaker=t["speaker"], text=t["text"],
                         caption=t.get("blip_caption")).spoken
                    for t in session
                ]  # fmt: skip
    return turns


def compare(
    title: str,
    texts: Sequence[str],
    repeats: int,
    methods: dict[str, Encode],
    num_threads: dict[str, int],
) -> None:
    """Time every method on the texts, interleaved, and print the table."""
    vectors = {name: encode(texts[:32]) for name, encode in methods.items()}  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, encode in methods.items():
            torch.set_num_threads(num_threads[name])
            start = time.process_time()
            vectors[name] = encode(texts)
            seconds[name].append(time.process_time() - start)
    theirs = [name for name in methods if name.startswith("sentence-transformers")]
    best = min(theirs, key=lambda name: statistics.median(seconds[name]))
    print(f"\n{title}: {len(texts)} texts, mean {np.mean([len(t) for t in texts]):.0f} characters, "
          f"{repeats} repeats")  # fmt: skip
    print(f"{'method':<44}{'CPU-s':>8}{'turns/CPU-s':>13}{'max 1-cos':>12}")
    for name, times in seconds.items():
        middle = statistics.median(times)
        distance = 1 - np.einsum("ij,ij->i", vectors[name].astype(float), vectors[best])
        print(f"{name:<44}{middle:>8.2f}{len(texts) / middle:>13.1f}{distance.max():>12.1e}")
    for name in methods:
        if name not in theirs:
            ratios = [t / o for t, o in zip(seconds[best], seconds[name], strict=True)]
            print(f"{name}: {statistics.median(ratios):.2f} times {best} "
                  f"(repeats {min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def encoders() -> tuple[dict[str, Encode], dict[str, int]]:
    """The methods by name, and how many threads torch has inside each one's operations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
    folder = find_encoder().path
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def theirs(batch_size: int) -> Encode:
        return lambda texts: np.asarray(
            reference.encode(
                list(texts),
                batch_size=batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        )

    methods: dict[str, Encode] = {}
    num_threads: dict[str, int] = {}
    for threads in (1, 2):
        for size in BATCH_SIZES if threads == 1 else (32,):
            name = f"sentence-transformers, batch {size}, threads {threads}"
            methods[name], num_threads[name] = theirs(size), threads
    for arithmetic, integers in (("16-bit integers", True), ("single precision", False)):
        for workers in (1, 2):
            name = f"leray, {arithmetic}, workers {workers}"
            encoder = MiniLM(folder, num_workers=workers, use_integers=integers)
            methods[name], num_threads[name] = encoder.encode, 1
    return methods, num_threads


if __name__ == "__main__":
    main()

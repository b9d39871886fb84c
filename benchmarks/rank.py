"""How long `Memory.rank` takes at 100,000 turns that are embedded already, on one core.

    python benchmarks/rank.py --out docs/benchmarks/rank.txt

Turns are made of the words below, drawn by Zipf's law (word of rank k with probability ∝ 1/k), with
random unit vectors in place of their embeddings; queries are such words too, embedded by the real
encoder. Everything is drawn from one seed. The process is bound to one core.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from itertools import product
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np

from leray.integrations.recall import Memory
from leray.integrations.warm import WarmEmbedder
from leray.memory.blocks import ALL, DAY, FIVE
from leray.memory.conversations import Turn
from leray.memory.weights import LinearWeights

COMMON = tuple(
    word
    for line in (
        "the i you to a it and that is of in what was for my we do have on so not be just me like",
        "with are but at this your think good time when how they last summer go did where who told",
        "about holiday family dog work school movie house friend music book birthday",
    )
    for word in line.split()
)
SYLLABLES = ("ka", "lo", "mi", "ten", "sur", "vel", "dra", "po", "nis", "gar")
RARE = tuple("".join(s) for s in product(SYLLABLES, repeat=4))
WORDS = (*COMMON, *RARE)
HYBRID = (0.02, 0.05, 0.33, 0.04, 0.56)
DIM = 384


def make_turns(num_turns: int, rng: np.random.Generator) -> list[Turn]:
    """Turns of 3 to 30 words with random unit vectors, a minute apart, of two speakers."""
    probability = 1 / np.arange(1, len(WORDS) + 1)
    lengths = rng.integers(3, 31, num_turns)
    said = rng.choice(len(WORDS), lengths.sum(), p=probability / probability.sum())
    vectors = rng.standard_normal((num_turns, DIM), dtype=np.float32)
    ends = np.cumsum(lengths)
    return [
        Turn(
            id=str(i),
            speaker=("Ann", "Ben")[i % 2],
            text=" ".join(WORDS[w] for w in said[ends[i] - lengths[i] : ends[i]]),
            time=60.0 * i,
            embedding=vectors[i],
        )
        for i in range(num_turns)
    ]


def make_queries(num_queries: int, rng: np.random.Generator) -> list[str]:
    """Nine common words and a rare one each: the postings are nearly as long as they get."""
    return [
        " ".join([*rng.choice(COMMON, 9).tolist(), str(rng.choice(RARE))])
        for _ in range(num_queries)
    ]


def measure(name: str, memory: Memory, queries: list[str], encoder: WarmEmbedder) -> list[str]:
    """Lines with the times of ranking, embedding the query included."""
    memory.rank(queries[0], 10, embedding=encoder.query(queries[0]))
    took, embedding = [], []
    worked = time.process_time()
    for query in queries:
        start = time.perf_counter()
        vector = encoder.query(query)
        embedded = time.perf_counter()
        memory.rank(query, 10, embedding=vector)
        took.append(time.perf_counter() - start)
        embedding.append(embedded - start)
    worked = 1000 * (time.process_time() - worked) / len(queries)
    total, part = 1000 * np.array(took), 1000 * np.array(embedding)
    return [
        f"{name}: median {np.median(total):.1f} ms, 95th percentile "
        f"{np.quantile(total, 0.95):.1f} ms (of it the query's embedding: median "
        f"{np.median(part):.1f} ms); processor time {worked:.1f} ms a query"
    ]


def logistic_weights(rng: np.random.Generator) -> LinearWeights:
    """A weight on every signal, as the logistic regression has."""
    values = rng.standard_normal(len(ALL))
    return LinearWeights(method="logistic", signals=ALL, values=values, tau=30 * DAY)


def _load() -> str:
    """How busy the machine is: other programs make the clock run, not the processor time."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{load:.1f} programs were running on {os.cpu_count()} processors"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(args.seed)
    turns, queries = make_turns(args.turns, rng), make_queries(args.queries, rng)
    encoder = WarmEmbedder()
    hybrid = LinearWeights(method="hybrid", signals=FIVE, values=np.array(HYBRID), tau=30 * DAY)
    lines = [
        f"{args.turns:,} turns, {args.queries} queries, top 10 with shares, one core "
        f"({platform.machine()}), seed {args.seed}; times by the clock unless said otherwise; "
        f"{_load()}"
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, weights in (("five signals", hybrid), ("all 18 signals", logistic_weights(rng))):
            start = time.process_time()
            memory = Memory(weights, cache_dir=Path(folder))
            memory.extend(turns)
            took = time.process_time() - start
            kept = " (habituation and surprise from the cache)" if name != "five signals" else ""
            lines += [f"{name}: prepared in {took:.1f} s of processor time{kept}"]
            lines += measure(name, memory, queries, encoder)
            start = time.perf_counter()
            for turn in turns[:100]:
                memory.add(turn)
            each = 10 * (time.perf_counter() - start)
            lines += [f"{name}: a turn added in {each:.1f} ms (its embedding not included)"]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

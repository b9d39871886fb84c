"""What a conversation costs each method, what a task costs each executor, and both at 10⁹.

    python benchmarks/scale.py --out docs/benchmarks/scale.txt

Costs are processor seconds of one core, which other programs do not disturb much; tasks are timed
by the clock. The cost per conversation of a method is the slope between two sizes, so that what it
costs once does not count. Bytes are those of the arrays and messages themselves.
"""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np

from leray.evidence.moments import pack
from leray.evidence.permutation import rotation_products
from leray.evidence.resampling import ClusterBootstrap, GroupTest
from leray.memory.generator import ConversationLaw
from leray.memory.methods import landscape_grid
from leray.memory.simulation import MonteCarlo, planted_sample
from leray.runs import FolderStore, Key, MemoryStore, Samples, State, Store, drive
from leray.runs.executors import Task, run_step

BILLION = 10**9
RESAMPLES, PERMUTATIONS = 10_000, 100_000
METHODS = 9
KEY = Key.root(0)


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """Steps without work: what is left is the price of a task."""

    size: int = 1
    num_shards: int = 8
    num_steps: int = 50
    name: str = "nothing"

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002
        return {"shard": shard}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        return state, {"x": np.zeros(self.size)}

    def result(self, samples: list[list[Samples]]) -> int:
        return sum(map(len, samples))


def cpu(work: Callable[[], object], repeats: int = 3) -> float:
    """Processor seconds: the least of a few, after one that compiles."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def slope(work: Callable[[int], Callable[[], object]], small: int, large: int) -> float:
    """Processor seconds that one conversation more costs."""
    return (cpu(work(large)) - cpu(work(small))) / (large - small)


def simulate(mode: str, num_conversations: int) -> MonteCarlo:
    """A simulation whose first step has ``num_conversations``, half of all."""
    grid, _ = landscape_grid()
    return MonteCarlo(
        law=ConversationLaw(),
        configurations=grid,
        methods=grid[:METHODS],
        num_conversations=2 * num_conversations,
        mode="gram" if mode == "gram" else "literal",
        num_shards=1,
    )


def step_of(computation, shard: int = 0) -> Callable[[], object]:
    """Its first step, as an executor makes it."""
    return lambda: run_step(computation, KEY.child(computation.name), Task(shard, 0, None))


def moments_of(num_conversations: int) -> np.ndarray:
    """Packed moments of [1, X, y] by conversation, ``[conversations, 21]``."""
    sample = planted_sample(ConversationLaw(), num_conversations, KEY.generator())
    ones = np.ones((*sample.y.shape, 1))
    rows = np.concatenate([ones, sample.signals, sample.y[..., None]], axis=2)
    return pack(np.einsum("cti,ctj->cij", rows, rows))


def bootstrap_step(num_conversations: int) -> Callable[[], object]:
    """200 resamples of a table, the optimum refitted and the grid evaluated in each."""
    moments = moments_of(num_conversations)[None]
    scores = np.repeat(moments[0, :, None, [0, 1, 5, 6, 10, 20]].transpose(1, 2, 0), METHODS, 1)
    return step_of(
        ClusterBootstrap(
            moments=moments,
            grid=landscape_grid()[0],
            grid_tau=0,
            scores=scores,
            sums=moments[0, :, :METHODS],
            sizes=np.ones(num_conversations),
            num_resamples=400,
            resamples_per_step=200,
        )
    )


def permutation_step(num_conversations: int) -> Callable[[], object]:
    """2,000 random rotations of the labels of every conversation."""
    rng = KEY.generator()
    S = np.cov(rng.standard_normal((4, 100)))
    return step_of(
        GroupTest(
            products=rng.standard_normal((num_conversations * 50, 4)),
            starts=np.arange(num_conversations + 1) * 50,
            columns=np.arange(4)[None],
            S=S[None],
            s=1.0,
            num_rows=num_conversations * 50,
            num_permutations=4_000,
            permutations_per_step=2_000,
        )
    )


def rotations(num_conversations: int) -> Callable[[], object]:
    """Xᵀy under all rotations, one FFT a signal and conversation."""
    sample = planted_sample(ConversationLaw(), num_conversations, KEY.generator())
    pairs = [(x.T.copy(), y) for x, y in zip(sample.signals, sample.y, strict=True)]
    return lambda: [rotation_products([x], [y]) for x, y in pairs]


def per_conversation() -> list[tuple[str, float, float]]:
    """Name, processor seconds a conversation, and how many conversations of work at 10⁹."""
    return [
        ("Monte Carlo, gram", slope(lambda n: step_of(simulate("gram", n)), 2_000, 22_000), 1),
        ("Monte Carlo, literal", slope(lambda n: step_of(simulate("literal", n)), 1_000, 4_000), 1),
        ("rotations by FFT", slope(rotations, 200, 1_200), 1),
        ("bootstrap", slope(bootstrap_step, 2_000, 10_000) / 200, RESAMPLES),
        ("permutation", slope(permutation_step, 500, 2_500) / 2_000, PERMUTATIONS),
    ]


@contextmanager
def dask(workers: int) -> Iterator[str]:
    """The address of a scheduler with some workers here."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=60,
    )
    with closing(cluster):
        yield cluster.scheduler_address


def per_task(size: int, store: Store, **options) -> float:
    """Seconds by the clock between the first finished step and the last, for each."""
    ended: list[float] = []

    @contextmanager
    def note(*_) -> Iterator[Callable[[int], None]]:
        yield lambda _more: ended.append(time.perf_counter())

    nothing = Nothing(size=size, name=f"nothing-{size}")
    drive(nothing, store=store, key=KEY, progress=note, **options)
    return (ended[-1] - ended[0]) / (len(ended) - 1)


def executors() -> list[tuple[str, float, float, float]]:
    """Name, and seconds a task: in memory with 8 bytes, with 1 MB, and kept on the disk."""
    rows = []
    with dask(2) as address, tempfile.TemporaryDirectory() as folder:
        kinds = {"in process": {}, "2 processes": {"workers": 2}, "Dask": {"scheduler": address}}
        for name, options in kinds.items():
            store = FolderStore(Path(folder) / name.replace(" ", "-"))
            rows.append(
                (
                    name,
                    per_task(1, MemoryStore(), **options),
                    per_task(125_000, MemoryStore(), **options),
                    per_task(1, store, **options),
                )
            )
    return rows


def bytes_of_a_step() -> tuple[int, int, int, int]:
    """Of a simulation of 10⁹: conversations in a step, and bytes sent, returned, and once."""
    grid, _ = landscape_grid()
    whole = MonteCarlo(
        law=ConversationLaw(),
        configurations=grid,
        methods=grid[:METHODS],
        num_conversations=BILLION,
    )
    num = whole.num_conversations // (whole.num_shards * whole.num_steps)
    done = run_step(whole, KEY.child(whole.name), Task(0, 0, None))
    sent = len(pickle.dumps(Task(0, 1, done.state)))
    return num, sent, len(pickle.dumps(done)), len(pickle.dumps((whole, KEY)))


def report() -> list[str]:
    """The lines that ``docs/scale.md`` quotes."""
    busy = os.getloadavg()[0]
    lines = [
        f"one core of {os.cpu_count()} ({platform.machine()}), {busy:.1f} other programs running",
        "",
        f"{'method':<24}{'μs a conversation':>20}{'times':>10}{'core hours at 10⁹':>20}",
    ]
    for name, seconds, times in per_conversation():
        hours = seconds * times * BILLION / 3600
        lines.append(f"{name:<24}{seconds * 1e6:>20.4f}{times:>10,}{hours:>20,.1f}")
    num, sent, returned, once = bytes_of_a_step()
    steps = BILLION / num
    table = 8 * moments_of(2).shape[1]
    lines += [
        "",
        f"a Monte Carlo step: {num:,} conversations; {sent:,} bytes to the worker, {returned:,} "
        f"back, {once:,} once a worker",
        f"at 10⁹: {steps:,.0f} steps, {steps * (sent + returned) / 1e9:.1f} GB over the network "
        f"and kept by the driver ({returned / num:.1f} bytes a conversation)",
        f"a literal conversation: {50 * 768 * 4:,} bytes of embeddings, never stored; at 10⁹ "
        f"{50 * 768 * 4 / 1e3:,.1f} TB",
        f"a row of the moment table: {table} bytes; at 10⁹ {table:,} GB",
        f"Xᵀy under the 50 rotations of a conversation: {50 * 4 * 8:,} bytes; at 10⁹ "
        f"{50 * 4 * 8 / 1e3:,.1f} TB",
        "",
        f"{'executor':<24}{'ms a task':>12}{'with 1 MB back':>16}{'kept on the disk':>18}",
    ]
    for name, *seconds in executors():
        small, big, kept = (1e3 * s for s in seconds)
        lines.append(f"{name:<24}{small:>12.3g}{big:>16.3g}{kept:>18.3g}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [*lines, "", f"largest memory of this process: {peak:,.0f} MB"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    text = "\n".join(report()) + "\n"
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

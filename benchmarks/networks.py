"""The 219 networks: one compiled loop against a sequential loop of torch models, on equal work.

    python benchmarks/networks.py --out docs/benchmarks/networks.txt

Equal work: the same rows, minibatches, loss (minus weighted Pearson), architectures, dropout and
Adam. Rows are random with the planted truth below. Ours trains all 219 for a few epochs; torch
trains one candidate of each (hidden layers, activation, with and without dropout) for an epoch,
and the 219 are extrapolated from these: dropout .1 to .3 and the three rates cost alike. With
``--jax`` the candidates of one architecture are also trained by a scan over minibatches of a
vmap over candidates. Everything on one core, in processor time.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
import torch

from leray.memory.network_kernel import LANES
from leray.memory.network_search import NUM_EPOCHS, halving
from leray.memory.networks import (
    Candidate,
    Minibatches,
    Population,
    Sample,
    distinct_space,
)

PHI = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "elu": torch.nn.ELU}


def planted(num_rows: int, rng: np.random.Generator) -> Sample:
    """Four normal signals, a truth with a product in it, one relevant row in nine."""
    x = rng.normal(size=(4, num_rows)).astype(np.float32)
    y = x[0] + x[1] * x[2] + rng.normal(size=num_rows) > 2.0
    return Sample(x=x, y=y, weight=np.where(y, 1.0, 50.0))


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ours(space: tuple[Candidate, ...], sample: Sample, epochs: int) -> float:
    """Processor seconds of an epoch of all candidates."""
    population = Population(space, 4)
    rng = np.random.default_rng(0)
    params = population.draw(0.0, rng)
    moments = np.zeros_like(params), np.zeros_like(params)
    alive = np.arange(len(space))
    population.train(params, *moments, alive[:1], sample, "pearson", range(1), rng)  # compiles
    rest = range(1, 1 + epochs)
    return (
        seconds(lambda: population.train(params, *moments, alive, sample, "pearson", rest, rng))
        / epochs
    )


def torch_epoch(candidate: Candidate, data: np.ndarray, lanes: int = LANES) -> float:
    """Processor seconds of an epoch of one torch model; one minibatch warms it up.

    Args:
        candidate: The model.
        data: Minibatches ``[batches, columns, stride]``.
        lanes: So many rows of each are used.
    """
    layers: list[torch.nn.Module] = []
    for fan_in, units in pairwise((4, *candidate.hidden, 1)):
        layers += [torch.nn.Linear(fan_in, units), PHI[candidate.activation]()]
        layers += [torch.nn.Dropout(candidate.dropout)] if candidate.dropout else []
    cut = -2 if candidate.dropout else -1
    model = torch.nn.Sequential(*layers[:cut])
    optimiser = torch.optim.Adam(model.parameters(), lr=candidate.learning_rate)
    batches = [
        (torch.from_numpy(b[:4, :lanes].T.copy()), *map(torch.from_numpy, b[4:, :lanes].copy()))
        for b in data
    ]

    def train(part: list) -> None:
        for x, y, weight in part:
            optimiser.zero_grad()
            w = weight / weight.sum()
            f = model(x)[:, 0]
            f, y_centred = f - w @ f, y - w @ y
            loss = -(w @ (f * y_centred)) / torch.sqrt((w @ f**2) * (w @ y_centred**2) + 1e-20)
            loss.backward()
            optimiser.step()

    train(batches[:2])
    return seconds(lambda: train(batches))


def torch_all(
    space: tuple[Candidate, ...], data: np.ndarray, lanes: int = LANES
) -> tuple[float, int]:
    """Processor seconds of an epoch of all candidates, extrapolated, and from how many."""
    kinds: dict[tuple[tuple[int, ...], str, bool], list[Candidate]] = {}
    for c in space:
        kinds.setdefault((c.hidden, c.activation, c.dropout > 0), []).append(c)
    return sum(len(own) * torch_epoch(own[0], data, lanes) for own in kinds.values()), len(kinds)


def jax_epoch(hidden: tuple[int, ...], num_candidates: int, data: np.ndarray) -> float:
    """Processor seconds of an epoch of relu candidates without dropout: scan over vmap."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    shapes = list(pairwise((4, *hidden, 1)))
    params = [
        (jnp.asarray(rng.normal(size=(num_candidates, b, a)).astype(np.float32) / a**0.5),
         jnp.zeros((num_candidates, b, 1), np.float32))
        for a, b in shapes
    ]  # fmt: skip

    def loss(p, batch):
        h = batch[:4]
        for k, (W, b) in enumerate(p):
            h = W @ h + b
            h = jax.nn.relu(h) if k < len(p) - 1 else h
        w = batch[5] / batch[5].sum()
        f, y = h[0] - w @ h[0], batch[4] - w @ batch[4]
        return -(w @ (f * y)) / jnp.sqrt((w @ f**2) * (w @ y**2) + 1e-20)

    def step(state, batch):
        p, m, v, t = state
        g = jax.vmap(jax.grad(loss), in_axes=(0, None))(p, batch)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        size = 0.01 / (1 - 0.9**t)
        correct = 1 / jnp.sqrt(1 - 0.999**t)
        p = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) * correct + 1e-8), p, m, v)
        return (p, m, v, t + 1), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros, zeros, jnp.float32(1))
    batches = jnp.asarray(data[:, :, :LANES])
    epoch = jax.jit(lambda s: jax.lax.scan(step, s, batches)[0])
    state = jax.block_until_ready(epoch(state))
    return seconds(lambda: jax.block_until_ready(epoch(state)))


def blas() -> float:
    """GFLOP/s of a large float32 product now: what this core can do, and how busy it is."""
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    a.dot(a)
    return 4 * 2 * 1024**3 / seconds(lambda: [a.dot(a) for _ in range(4)]) / 1e9


def report(num_rows: int, epochs: int, *, with_jax: bool) -> list[str]:
    """The lines to print."""
    torch.set_num_threads(1)
    space = distinct_space()
    sample = planted(num_rows, np.random.default_rng(0))
    data = Minibatches(sample).shuffled(np.random.default_rng(1)).copy()
    flops = Population(space, 4).flops(num_rows)
    before = blas()
    own = ours(space, sample, epochs)
    peer, kinds = torch_all(space, data)
    after = blas()
    rungs = halving(len(space))
    seen = [0, *(r.epochs for r in rungs)]
    halved = sum(r.num_alive * (b - a) for r, (a, b) in zip(rungs, pairwise(seen), strict=True))
    share = halved / len(space)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    lines = [
        f"{len(space)} networks, {num_rows:,} rows, {len(data)} minibatches an epoch, minus "
        f"Pearson, Adam; processor time on one core ({platform.machine()}); {load:.1f} programs "
        f"were running on {os.cpu_count()} processors; a large float32 product ran at "
        f"{before:.0f} GFLOP/s before and {after:.0f} after",
        f"ours: {own:.3f} s an epoch of all ({flops.sum() / own / 1e9:.1f} GFLOP/s), from "
        f"{epochs} epochs of all",
        f"torch, one model after another: {peer:.2f} s an epoch of all "
        f"({flops.sum() / peer / 1e9:.2f} GFLOP/s), extrapolated from an epoch of {kinds} of them",
        f"ratio: {peer / own:.1f}",
        f"all {NUM_EPOCHS:,} epochs, extrapolated: ours {own * NUM_EPOCHS:,.0f} s, torch "
        f"{peer * NUM_EPOCHS:,.0f} s, for one fold and loss; successive halving "
        f"({', '.join(f'{r.num_alive} to {r.epochs}' for r in rungs)} epochs): "
        f"{own * share:.1f} s where survivors cost the average",
    ]
    for hidden in ((16,), (32, 16), (64, 32, 16)) if with_jax else ():
        twelve = tuple(c for c in space if c.hidden == hidden and c.activation == "relu")[:3] * 4
        plain = tuple(
            Candidate(hidden=c.hidden, dropout=0.0, learning_rate=0.01, activation="relu")
            for c in twelve
        )
        theirs, here = jax_epoch(hidden, len(plain), data), ours(plain, sample, epochs)
        lines.append(
            f"{len(plain)} × {hidden} relu without dropout, an epoch: ours {here:.3f} s, JAX scan "
            f"and vmap {theirs:.3f} s, ratio {theirs / here:.1f}"
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--jax", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    text = "\n".join(report(args.rows, args.epochs, with_jax=args.jax)) + "\n"
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Networks, genetic algorithm and tensors for ``benchmarks/stack.py``.

Ours and the libraries' are measured by the functions of ``benchmarks/networks.py``, ``genetic.py``
and ``tensors.py``; the naive loops are here.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

import genetic as genetic_parts
import tensors as tensor_parts
from leray.evidence.moments import covariances, moment_table
from leray.evidence.optimum import simplex_optimum
from leray.memory.network_search import NUM_EPOCHS
from leray.memory.networks import Minibatches, distinct_space, nominal_space
from leray.memory.parafac import parafac, tucker
from stack_costs import Cost, Row, clocked, imported, warmed

Array = np.ndarray


def genetic(quick: bool) -> list[Row]:
    """The genetic algorithm, 1,000 × 500, over a million rows."""
    num_rows, evaluations = (20_000, 3) if quick else (1_000_000, 20)
    if quick:
        genetic_parts.GENERATIONS = 10
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, num_rows))
    y = np.array([0.02, 0.05, 0.2, 0.1]) @ x + rng.normal(size=num_rows)
    once, _ = clocked(lambda: moment_table([("warm", x[:, :100], y[:100])], tuple("abcd")))
    the_pass, table = clocked(lambda: moment_table([("all", x, y)], tuple("abcd")))
    seconds, found = genetic_parts.ours(table)
    importing = imported("pymoo.algorithms.soo.nonconvex.ga", "pymoo.optimize")
    peer, peer_found = genetic_parts.with_pymoo(table)
    naive = genetic_parts.naive(x, y, evaluations)
    best = float(simplex_optimum(covariances(table.total)).r)
    total = genetic_parts.POPULATION + genetic_parts.GENERATIONS * genetic_parts.OFFSPRING
    return [
        Row(
            name="genetic",
            work=f"{genetic_parts.POPULATION:,} × {genetic_parts.GENERATIONS} generations over "
            f"{num_rows:,} rows, {total:,} evaluations of r",
            ours=Cost(
                seconds=seconds + the_pass,
                once=once,
                part=f"all; {the_pass:.3f} s of it the pass over the rows",
            ),
            naive=Cost(
                seconds=naive,
                part=f"{evaluations} evaluations by np.corrcoef, {naive * evaluations / total:.2f} "
                "s; the fitness only",
            ),
            library=Cost(
                seconds=peer + the_pass, once=importing, part="all, with our pass and our fitness"
            ),
            peer="pymoo GA",
            notes=(
                f"regret relative to the exact optimum: ours {max(0, 1 - found / best):.0e}, "
                f"pymoo {max(0, 1 - peer_found / best):.0e}; with our fitness pymoo evaluates all "
                "offspring in one product, so the ratio is that of the algorithms' own work",
            ),
        )
    ]


def networks(quick: bool) -> list[Row]:
    """The distinct candidates, 1,000 epochs each."""
    importing = imported("torch")
    import torch

    import networks as parts

    torch.set_num_threads(1)
    num_rows, epochs = (2_000, 1) if quick else (20_000, 2)
    space = distinct_space()
    sample = parts.planted(num_rows, np.random.default_rng(0))
    minibatches = Minibatches(sample).shuffled(np.random.default_rng(1)).copy()
    whole = np.concatenate([sample.x, [sample.y, sample.weight]])[None].astype(np.float32)
    once, seconds = clocked(lambda: parts.ours(space, sample, epochs))
    peer, kinds = parts.torch_all(space, minibatches)
    full_batch, every = parts.torch_all(tuple(nominal_space()), whole, num_rows)
    return [
        Row(
            name="networks",
            work=f"{len(space)} networks × {NUM_EPOCHS:,} epochs, {num_rows:,} rows, "
            f"{len(minibatches)} minibatches an epoch, minus Pearson, Adam: one fold",
            ours=Cost(
                seconds=seconds * NUM_EPOCHS,
                once=max(0.0, once - seconds * epochs),
                part=f"{epochs} epochs of all, {seconds * epochs:.2f} s",
            ),
            naive=Cost(
                seconds=full_batch * NUM_EPOCHS,
                once=importing,
                part=f"1 epoch of {every} kinds standing for the nominal {len(nominal_space())}: "
                "a loop over torch models, all rows in one batch, so one update an epoch where "
                f"the others make {len(minibatches)}",
            ),
            library=Cost(
                seconds=peer * NUM_EPOCHS,
                once=importing,
                part=f"1 epoch of {kinds} kinds standing for {len(space)}, the same minibatches",
            ),
            peer="torch, one by one",
            notes=(
                "successive halving, which the full preset uses, is not counted: both sides train "
                "every candidate to the end",
            ),
        )
    ]


def tensors(quick: bool) -> list[Row]:
    """PARAFAC of rank 3 with 20 restarts, and Tucker, of 1,000 × 50 × 4 × 3."""
    rng = np.random.default_rng(0)
    tensor = tensor_parts.synthetic(rng)
    shape = " × ".join(f"{n:,}" for n in tensor.shape)
    rank, restarts = tensor_parts.RANK, tensor_parts.RESTARTS
    starts = 1 if quick else 4
    seconds, once, fitted = warmed(
        lambda: parafac(tensor, rank, np.random.default_rng(0), num_restarts=restarts)
    )
    peer, fits = clocked(lambda: [tensor_parts.alone(tensor, k) for k in range(starts)])
    loops, (fit, iterations) = clocked(
        lambda: alternating_least_squares(tensor, rank, 10 if quick else 500, rng)
    )
    compact_seconds, _, compact = warmed(lambda: tucker(tensor, tensor_parts.TUCKER_RANKS))
    whole_seconds, whole = clocked(lambda: tensor_parts.tucker_alone(tensor))
    naive_seconds, naive_fit = clocked(lambda: higher_order_iteration(tensor, 10))
    return [
        Row(
            name="tensors, PARAFAC",
            work=f"{shape}, rank {rank}, {restarts} restarts, until an iteration explains less "
            "than 1e-9 more",
            ours=Cost(seconds=seconds, once=once, part="all"),
            naive=Cost(
                seconds=loops * restarts,
                part=f"1 of {restarts} restarts, {iterations} iterations, {loops:.2f} s",
            ),
            library=Cost(
                seconds=peer * restarts / starts,
                part=f"{starts} of {restarts} restarts, {peer:.2f} s",
            ),
            peer="TensorLy alone",
            notes=(
                f"share explained: ours {fitted.fit:.6f}, TensorLy's best {max(fits):.6f}, "
                f"naive {fit:.6f}",
            ),
        ),
        Row(
            name="tensors, Tucker",
            work=f"{shape}, ranks {tensor_parts.TUCKER_RANKS}",
            ours=Cost(seconds=compact_seconds, part="all: TensorLy on the compressed tensor"),
            naive=Cost(seconds=naive_seconds, part="10 iterations, all"),
            library=Cost(seconds=whole_seconds, part="all"),
            peer="TensorLy alone",
            judged=False,
            notes=(
                f"share explained: ours {compact.fit:.6f}, TensorLy {whole:.6f}, naive "
                f"{naive_fit:.6f}",
            ),
        ),
    ]


def khatri_rao(factors: list[Array]) -> Array:
    """Column-wise Kronecker product, the last factor fastest."""
    return reduce(lambda a, b: np.einsum("ir,jr->ijr", a, b).reshape(-1, a.shape[1]), factors)


def unfolded(tensor: Array, mode: int) -> Array:
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def alternating_least_squares(
    tensor: Array, rank: int, most: int, rng: np.random.Generator
) -> tuple[float, int]:
    """PARAFAC as textbooks write it: T_(n) ≈ A_n K_nᵀ solved for one factor after another.

    Returns:
        The share explained and the number of iterations.
    """
    factors = [rng.standard_normal((n, rank)) for n in tensor.shape]
    size, before = float((tensor**2).sum()), 0.0
    for iteration in range(1, most + 1):
        for mode in range(tensor.ndim):
            K = khatri_rao([f for k, f in enumerate(factors) if k != mode])
            factors[mode] = np.linalg.lstsq(K, unfolded(tensor, mode).T, rcond=None)[0].T
        left = unfolded(tensor, 0) - factors[0] @ khatri_rao(factors[1:]).T
        fit = 1 - float((left**2).sum()) / size
        if abs(fit - before) < 1e-9:
            return fit, iteration
        before = fit
    return before, most


def higher_order_iteration(tensor: Array, iterations: int) -> float:
    """Tucker as textbooks write it: a whole SVD of every unfolding in every iteration."""
    ranks = tensor_parts.TUCKER_RANKS
    factors = [
        np.linalg.svd(unfolded(tensor, n), full_matrices=False)[0][:, :r]
        for n, r in enumerate(ranks)
    ]
    core = tensor
    for _ in range(iterations):
        for mode in range(tensor.ndim):
            core = projected(tensor, factors, mode)
            left = np.linalg.svd(unfolded(core, mode), full_matrices=False)[0]
            factors[mode] = left[:, : ranks[mode]]
    core = projected(tensor, factors, None)
    return float((core**2).sum() / (tensor**2).sum())


def projected(tensor: Array, factors: list[Array], left_out: int | None) -> Array:
    """The tensor times the transpose of every factor but one."""
    for mode, factor in enumerate(factors):
        if mode != left_out:
            tensor = np.moveaxis(np.tensordot(factor.T, tensor, (1, mode)), 0, mode)
    return tensor

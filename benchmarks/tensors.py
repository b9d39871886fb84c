"""PARAFAC with 20 restarts on 1,000 × 50 × 4 × 3: ours, and TensorLy alone on the whole tensor.

    python benchmarks/tensors.py

The tensor is built from synthetic conversations (1,000 of 50 turns, four signals, a truth that
depends on them), so it is mostly noise, as real ones are, plus planted factors of rank 3 at the
same size. TensorLy runs ``--starts`` of the 20 restarts, one after the other, and is multiplied up;
both stop when an iteration explains less than 1e-9 more, or after 500. The fits are compared: ours
with the best of TensorLy's. Tucker is TensorLy's own in both columns: with and without compression.
One core, one thread; CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import tensorly as tl
from tensorly.decomposition import parafac as tensorly_parafac
from tensorly.decomposition import tucker as tensorly_tucker

from leray.memory.parafac import parafac, refine_with_tensorly, tucker
from leray.memory.tensors import data_tensor, lists_of_arrays

Array = np.ndarray
CONVERSATIONS, TURNS, RANK, RESTARTS = 1_000, 50, 3, 20
TUCKER_RANKS = (10, 5, 3, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    built, tensor = clocked(lambda: synthetic(rng))
    parafac(tensor[:20], RANK, rng, num_restarts=2)  # compile
    ours, fitted = clocked(lambda: parafac(tensor, RANK, rng, num_restarts=RESTARTS))
    polished, refined = clocked(lambda: refine_with_tensorly(tensor, fitted))
    theirs, fits = clocked(lambda: [alone(tensor, k) for k in range(options.starts)])
    theirs *= RESTARTS / options.starts
    print(f"{' × '.join(map(str, tensor.shape))}, rank {RANK}, {RESTARTS} restarts; CPU seconds")
    print(f"{'building the tensor':<44}{built:>9.2f}")
    print(f"{'PARAFAC, ours':<44}{ours:>9.2f}   fit {fitted.fit:.6f}")
    print(f"{'  and TensorLy started there':<44}{ours + polished:>9.2f}   fit {refined.fit:.6f}")
    label = f"PARAFAC, TensorLy alone (from {options.starts} starts)"
    print(f"{label:<44}{theirs:>9.2f}   fit {max(fits):.6f}   ratio {theirs / ours:.0f}")
    short, compact = clocked(lambda: tucker(tensor, TUCKER_RANKS))
    long, whole = clocked(lambda: tucker_alone(tensor))
    print(f"{'Tucker, TensorLy on the compressed tensor':<44}{short:>9.2f}   fit {compact.fit:.6f}")
    print(
        f"{'Tucker, TensorLy alone':<44}{long:>9.2f}   fit {whole:.6f}   ratio {long / short:.1f}"
    )
    print(f"fit of ours minus best of theirs: {fitted.fit - max(fits):+.1e}")


def synthetic(rng: np.random.Generator) -> Array:
    """The data tensor of synthetic conversations, plus rank-3 structure of the same size."""
    signals = rng.normal(size=(CONVERSATIONS, TURNS, 4))
    truth = signals @ [0.1, 0.3, 0.8, 0.1] + rng.normal(size=(CONVERSATIONS, TURNS)) > 2
    lists = lists_of_arrays(signals, truth, signals[..., 2])
    values = data_tensor(lists, CONVERSATIONS).values
    factors = [rng.normal(size=(n, RANK)) for n in values.shape]
    planted = np.asarray(tl.cp_to_tensor((None, factors)))
    return values + planted * np.linalg.norm(values) / np.linalg.norm(planted)


def alone(tensor: Array, start: int) -> float:
    """TensorLy's PARAFAC from one random start, uncompressed; the share explained."""
    found = tensorly_parafac(
        tl.tensor(tensor), RANK, n_iter_max=500, tol=1e-9, init="random", random_state=start
    )
    rest = tensor - np.asarray(tl.cp_to_tensor(found))
    return 1 - float(np.vdot(rest, rest) / np.vdot(tensor, tensor))


def tucker_alone(tensor: Array) -> float:
    """TensorLy's Tucker, uncompressed; the share explained."""
    found: Any = tensorly_tucker(
        tl.tensor(tensor), rank=list(TUCKER_RANKS), n_iter_max=500, tol=1e-8
    )
    return float(np.vdot(found[0], found[0]) / np.vdot(tensor, tensor))


def clocked(work: Any) -> tuple[float, Any]:
    """CPU seconds of this process, and what came out."""
    start = time.process_time()
    out = work()
    return time.process_time() - start, out


if __name__ == "__main__":
    main()

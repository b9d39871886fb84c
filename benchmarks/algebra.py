"""Betti numbers over F₂ of complexes with a million cells, beside GUDHI in the same run.

    python benchmarks/algebra.py --out docs/benchmarks/algebra.txt

Both sides start from one array of facets and end with the Betti numbers; the seconds are processor
seconds of one thread, the least of three. GUDHI inserts the facets in one batch and computes
persistent cohomology of a constant filtration. On triangulated manifolds in the order of a grid,
on the same with vertices and facets shuffled, and on a complex whose columns fill in.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import permutations
from pathlib import Path

import gudhi
import numpy as np

from leray.algebra.fields import GF
from leray.algebra.simplicial import SimplicialComplex

REPEATS = 3
MOST = 3.0
"""How many times GUDHI's seconds ours may take."""


def two_torus(n: int) -> np.ndarray:
    """n² squares with opposite sides glued, two triangles each."""
    return _grid((n, n))


def three_torus(n: int) -> np.ndarray:
    """n³ cubes with opposite sides glued, six tetrahedra each."""
    return _grid((n, n, n))


def _grid(shape: tuple[int, ...]) -> np.ndarray:
    """Freudenthal's triangulation of a torus."""
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    cubes = np.stack(axes, -1).reshape(-1, len(shape))
    found = []
    for order in permutations(range(len(shape))):
        corner, path = cubes, [cubes]
        for axis in order:
            corner = corner + np.eye(len(shape), dtype=int)[axis]
            path.append(corner)
        found.append(np.stack([np.ravel_multi_index((c % shape).T, shape) for c in path], -1))
    return np.concatenate(found)


def random_triangles(vertices: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """Random triangles, in which columns fill in."""
    drawn = rng.integers(0, vertices, (2 * number, 3))
    drawn = np.unique(np.sort(drawn, axis=1), axis=0)
    drawn = drawn[(np.diff(drawn, axis=1) > 0).all(axis=1)]
    return drawn[rng.permutation(len(drawn))[:number]]


def shuffled(facets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same complex with other names of vertices, its facets in another order."""
    return rng.permutation(facets.max() + 1)[facets][rng.permutation(len(facets))]


def ours(facets: np.ndarray) -> tuple[int, ...]:
    return SimplicialComplex.of(facets).betti_numbers(GF(2))


def gudhis(facets: np.ndarray) -> tuple[int, ...]:
    tree = gudhi.SimplexTree()
    tree.insert_batch(np.ascontiguousarray(facets.T.astype(np.int32)), np.zeros(len(facets)))
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    return tuple(tree.betti_numbers())


def least(make: Callable[[], tuple[int, ...]]) -> tuple[float, tuple[int, ...]]:
    """Processor seconds, the least of some, and what came out."""
    found, seconds = (), []
    for _ in range(REPEATS):
        start = time.process_time()
        found = make()
        seconds.append(time.process_time() - start)
    return min(seconds), found


def report(scale: float) -> str:
    rng = np.random.default_rng(0)
    plane, space = two_torus(int(408 * scale**0.5)), three_torus(int(34 * scale ** (1 / 3)))
    rows = [
        ("torus", plane),
        ("torus, shuffled", shuffled(plane, rng)),
        ("3-torus", space),
        ("3-torus, shuffled", shuffled(space, rng)),
        ("random triangles", random_triangles(int(20_000 * scale), int(250_000 * scale), rng)),
    ]
    ours(two_torus(8))  # compiles
    lines = [
        "python benchmarks/algebra.py",
        f"{platform.machine()}, one thread; gudhi {version('gudhi')}, numpy {np.__version__}",
        "Betti numbers over F₂ from an array of facets; processor seconds, the least of "
        f"{REPEATS}; asked: ours at most {MOST:g} times GUDHI's",
        "",
        f"{'complex':20s}{'cells':>12s}{'ours':>9s}{'gudhi':>9s}{'ours/gudhi':>12s}  Betti numbers",
    ]
    missed = []
    for name, facets in rows:
        mine, betti = least(lambda facets=facets: ours(facets))
        theirs, wanted = least(lambda facets=facets: gudhis(facets))
        if betti != wanted:
            raise SystemExit(f"{name}: {betti} is not GUDHI's {wanted}")
        cells = sum(SimplicialComplex.of(facets).f_vector)
        if mine > MOST * theirs:
            missed.append(name)
        lines.append(f"{name:20s}{cells:12,}{mine:9.2f}{theirs:9.2f}{mine / theirs:12.2f}  {betti}")
    lines += ["", f"missed: {', '.join(missed)}" if missed else "met on every complex"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the cells")
    parser.add_argument("--out", type=Path, help="also write the output here")
    args = parser.parse_args()
    text = report(0.01 if args.quick else 1.0)
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text)


if __name__ == "__main__":
    main()

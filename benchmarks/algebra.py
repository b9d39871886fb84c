"""The algebra's speed beside GUDHI, NumPy and python-flint, each in the same run.

    python benchmarks/algebra.py --out docs/benchmarks/algebra.txt

Betti numbers of complexes with a million cells: both sides start from one array of facets; GUDHI
inserts them in one batch and computes persistent cohomology of a constant filtration. On manifolds
in the order of a grid, on the same with vertices and facets shuffled, and on a complex in which
columns fill in. Then a batch of small complexes, global sections of large sheaves, and exact ranks
of dense matrices.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import permutations
from pathlib import Path
from typing import Any

import flint
import gudhi
import numpy as np
import torch

from leray.algebra.batched import batched_betti_numbers
from leray.algebra.fields import GF, Floats
from leray.algebra.rank import integer_rank
from leray.algebra.sheaves import graph_sheaf
from leray.algebra.simplicial import SimplicialComplex

REPEATS = 3
MOST = 3.0
"""How many times GUDHI's seconds ours may take."""
FASTER = 20.0
"""How many times our time a loop over NumPy is asked to take."""
SECONDS = 15.0
"""What “within seconds” is taken to mean."""


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


def least(make: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, the least of some, and what came out."""
    found, seconds = (), []
    for _ in range(REPEATS):
        start = time.process_time()
        found = make()
        seconds.append(time.process_time() - start)
    return min(seconds), found


def cells(scale: float) -> tuple[list[str], list[str]]:
    """Betti numbers over F₂ of complexes with a million cells, beside GUDHI."""
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
        "Betti numbers over F₂ from an array of facets; processor seconds of one thread; asked: "
        f"ours at most {MOST:g} times GUDHI's",
        "",
        f"{'complex':20s}{'cells':>12s}{'ours':>9s}{'gudhi':>9s}{'ours/gudhi':>12s}  Betti numbers",
    ]
    missed = []
    for name, facets in rows:
        mine, betti = least(lambda facets=facets: ours(facets))
        theirs, wanted = least(lambda facets=facets: gudhis(facets))
        if betti != wanted:
            raise SystemExit(f"{name}: {betti} is not GUDHI's {wanted}")
        number = sum(SimplicialComplex.of(facets).f_vector)
        if mine > MOST * theirs:
            missed.append(name)
        lines.append(
            f"{name:20s}{number:12,}{mine:9.2f}{theirs:9.2f}{mine / theirs:12.2f}  {betti}"
        )
    return lines, missed


def batches(scale: float) -> tuple[list[str], list[str]]:
    """Betti numbers of 512 complexes R⁴⁸ → R⁶⁴, beside loops over NumPy."""
    rng, number = np.random.default_rng(0), int(512 * scale**0.5)
    lines = [
        f"Betti numbers of {number} complexes with one differential 64 × 48, float64, "
        f"{torch.get_num_threads()} threads; milliseconds by the clock;",
        f"asked: a loop over NumPy takes at least {FASTER:g} times ours",
        "",
        f"{'rank':20s}{'ours':>9s}{'loop':>9s}{'loop/ours':>12s}{'NumPy, one call':>17s}",
    ]
    missed = []
    for rank in (16, 32, 48):
        a = rng.normal(size=(number, 64, rank)) @ rng.normal(size=(number, rank, 48))
        given = torch.as_tensor(a)
        found = batched_betti_numbers([given])  # compiles
        if found.tolist() != [[48 - rank, 64 - rank]] * number:
            raise SystemExit(f"the Betti numbers of rank {rank} are wrong")
        mine, loop, call = (
            1e3 * min(_clock(work) for _ in range(3 * REPEATS))
            for work in (
                lambda given=given: batched_betti_numbers([given]),
                lambda a=a: [(48 - r, 64 - r) for r in map(np.linalg.matrix_rank, a)],
                lambda a=a: np.linalg.matrix_rank(a),
            )
        )
        if loop < FASTER * mine:
            missed.append(f"batch of rank {rank}")
        lines.append(f"{rank:<20d}{mine:9.1f}{loop:9.1f}{loop / mine:12.1f}{call:17.1f}")
    return lines, missed


def sheaves(scale: float) -> tuple[list[str], list[str]]:
    """Global sections on graphs with 50,000 edges; SciPy's sparse eigensolver where it can."""
    rng, side = np.random.default_rng(0), int(159 * scale**0.5)
    grid, random = _graph(_lattice(side)), _graph(rng.integers(0, side * side, (2 * side**2, 2)))
    turns = np.linalg.qr(rng.normal(size=(len(random.faces[1]), 2, 2)))[0]
    flat = np.stack([turns, np.broadcast_to(np.eye(2), turns.shape)], axis=1)
    residues = rng.integers(1, 101, (len(random.faces[1]), 2, 2, 2))
    rows = [
        ("grid, one planted", grid, _planted(grid, rng), Floats()),
        ("random, orthogonal", random, flat, Floats()),
        ("random, mod 101", random, residues, GF(101)),
    ]
    small = _graph(_lattice(4))
    graph_sheaf(small, np.ones((len(small.faces[1]), 2, 2, 2), dtype=int), GF(101)).sections()
    lines = [
        "global sections of sheaves with stalks of dimension 2; processor seconds of one thread, "
        f"from an array of maps to a certified basis; asked: at most {SECONDS:g}",
        "",
        f"{'graph and maps':20s}{'edges':>12s}{'ours':>9s}{'sections':>10s}  rank of δ",
    ]
    missed = []
    for name, graph, maps, field in rows:
        start = time.process_time()
        found = graph_sheaf(graph, maps, field).sections()
        seconds, dim = time.process_time() - start, found.basis.shape[1]
        if seconds > SECONDS:
            missed.append(name)
        how = found.certificate.how
        lines.append(f"{name:20s}{len(graph.faces[1]):12,}{seconds:9.2f}{dim:10d}  {how}")
    return lines, missed


def dense(scale: float) -> tuple[list[str], list[str]]:
    """Exact ranks of dense integer matrices, beside python-flint from the same array."""
    rng, n = np.random.default_rng(0), int(300 * scale**0.25)
    lines = [
        "exact ranks of dense matrices from an array; processor milliseconds of one thread; asked: "
        "no slower than flint alone (a tenth is noise)",
        "",
        f"{'matrix':20s}{'field':>12s}{'ours':>9s}{'flint':>9s}{'ours/flint':>12s}  rank",
    ]
    missed, p = [], 2**31 - 1
    for name, rank in (("full", n), ("deficient", n // 2)):
        a = rng.integers(-5, 6, (n, rank)) @ rng.integers(-5, 6, (rank, n))
        works = {
            "Q": (
                lambda a=a: integer_rank(a).rank,
                lambda a=a: flint.fmpz_mat(n, n, a.ravel().tolist()).rank(),
            ),
            "GF(2³¹−1)": (
                lambda a=a: GF(p).rank(GF(p).matrix(a)).rank,
                lambda a=a: flint.nmod_mat(n, n, a.ravel().tolist(), p).rank(),
            ),
        }
        for field, (mine, theirs) in works.items():
            (x, found), (y, wanted) = least(mine), least(theirs)
            if not found == wanted == rank:
                raise SystemExit(f"{name} over {field}: {found}, flint {wanted}, planted {rank}")
            if x > 1.1 * y:
                missed.append(f"{name} over {field}")
            lines.append(
                f"{name:20s}{field:>12s}{1e3 * x:9.1f}{1e3 * y:9.1f}{x / y:12.2f}  {found}"
            )
    return lines, missed


def _clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _lattice(side: int) -> np.ndarray:
    places = np.arange(side * side).reshape(side, side)
    return np.concatenate(
        [np.stack([x.ravel() for x in ends], 1) for ends in (
            (places[:-1], places[1:]), (places[:, :-1], places[:, 1:])
        )]
    )  # fmt: skip


def _graph(edges: np.ndarray) -> SimplicialComplex:
    return SimplicialComplex.of(edges[edges[:, 0] != edges[:, 1]])


def _planted(graph: SimplicialComplex, rng: np.random.Generator) -> np.ndarray:
    """Random maps of which one random vector of values at the vertices is a section."""
    ends = np.searchsorted(graph.names, graph.faces[1])
    x = rng.normal(size=(len(graph.names), 2))[ends]
    maps = rng.normal(size=(len(ends), 2, 2, 2))
    apart = np.einsum("eij,ej->ei", maps[:, 0], x[:, 0]) - np.einsum(
        "eij,ej->ei", maps[:, 1], x[:, 1]
    )
    maps[:, 1] += apart[:, :, None] * x[:, 1, None, :] / (x[:, 1] ** 2).sum(1)[:, None, None]
    return maps


def report(scale: float) -> str:
    lines = [
        "python benchmarks/algebra.py",
        f"{platform.machine()}; gudhi {version('gudhi')}, numpy {np.__version__}, python-flint "
        f"{version('python-flint')}; the least of {REPEATS} or more runs each, but sections of one",
    ]
    missed = []
    for part in (cells, batches, sheaves, dense):
        table, late = part(scale)
        lines += ["", *table]
        missed += late
    lines += ["", f"missed: {', '.join(missed)}" if missed else "met by every row"]
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

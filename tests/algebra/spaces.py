"""Triangulated spaces with known cohomology, and random complexes."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np

from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import Field, Matrix
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import FilteredComplex

RP2 = (
    (1, 2, 4), (1, 2, 6), (1, 3, 4), (1, 3, 5), (1, 5, 6),
    (2, 3, 5), (2, 3, 6), (2, 4, 5), (3, 4, 6), (4, 5, 6),
)  # fmt: skip
TORUS = tuple((i, (i + a) % 7, (i + 3) % 7) for i in range(7) for a in (1, 2))  # Möbius, 7 vertices
MOEBIUS = tuple((i, (i + 1) % 5, (i + 2) % 5) for i in range(5))


def sphere(n: int) -> list[tuple[int, ...]]:
    """The boundary of the (n + 1)-simplex."""
    return list(combinations(range(n + 2), n + 1))


def klein_bottle(n: int = 5) -> list[tuple[int, ...]]:
    """A grid of n × n squares, two sides glued straight and two with a flip."""

    def vertex(i: int, j: int) -> int:
        if i == n:
            i, j = 0, -j
        return i * n + j % n

    return [
        tuple(vertex(*v) for v in triangle)
        for i, j in product(range(n), repeat=2)
        for triangle in (
            ((i, j), (i + 1, j), (i + 1, j + 1)),
            ((i, j), (i, j + 1), (i + 1, j + 1)),
        )
    ]


def torus_grid(n: int) -> list[tuple[int, ...]]:
    """A grid of n × n squares, opposite sides glued."""

    def vertex(i: int, j: int) -> int:
        return i % n * n + j % n

    return [
        tuple(vertex(*v) for v in triangle)
        for i, j in product(range(n), repeat=2)
        for triangle in (
            ((i, j), (i + 1, j), (i + 1, j + 1)),
            ((i, j), (i, j + 1), (i + 1, j + 1)),
        )
    ]


KLEIN = klein_bottle(4)
HOPF = {  # over each triangle: the order in which the three fibres advance, and where they start
    (0, 1, 2): ("aabcabbcc", (1, 0, 1)),
    (0, 1, 3): ("aaccbacbb", (1, 0, 1)),
    (0, 2, 3): ("aabccabbc", (1, 1, 1)),
    (1, 2, 3): ("aaccbbacb", (1, 2, 1)),
}


def hopf_map() -> list[tuple[int, ...]]:
    """S³ over the boundary of a tetrahedron: facets; vertex v lies over vertex v // 3.

    A fibre is a triangle. Over a triangle abc a solid torus is a staircase of nine tetrahedra: each
    has one vertex of every fibre, and the next vertex of the fibre that advances. The four words
    are chosen so that the staircases agree over the six edges and the total space is a homology
    sphere; f = (12, 48, 72, 36), as the minimal triangulation of Madahar and Sarkaria (Geometriae
    Dedicata 2000).
    """
    found = []
    for triangle, (word, start) in HOPF.items():
        at = list(start)
        for letter in word:
            corner = [3 * v + i % 3 for v, i in zip(triangle, at, strict=True)]
            k = "abc".index(letter)
            at[k] += 1
            found.append((*corner, 3 * triangle[k] + at[k] % 3))
    return found


def hopf_filtration(field: Field) -> FilteredComplex:
    """Leray and Serre's filtration: a simplex has the dimension of its image as its level."""
    space = SimplicialComplex.of(hopf_map())
    levels = {
        k: [len({v // 3 for v in face}) - 1 for face in faces.tolist()]
        for k, faces in enumerate(space.faces)
    }
    return FilteredComplex(space.cochains(field), levels)


def lens_space(k: int, field: Field) -> CochainComplex:
    """The cellular cochains of L(k, 1)."""
    return CochainComplex.of([[[0]], [[k]], [[0]]], field)


def random_automorphism(n: int, field: Field, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """An invertible integer matrix of determinant 1, and its inverse."""
    upper, lower = (np.triu(rng.integers(-1, 2, (n, n)), 1) for _ in range(2))
    there = field.mul(
        field.matrix(np.eye(n, dtype=int) + upper), field.matrix(np.eye(n, dtype=int) + lower.T)
    )
    return there, field.solve(there, field.identity(n))


def random_complex(
    field: Field, rng: np.random.Generator, length: int = 3, largest: int = 3
) -> tuple[CochainComplex, tuple[int, ...]]:
    """A complex with known Betti numbers in unknown bases, and the Betti numbers."""
    betti = rng.integers(0, largest, length + 1)
    ranks = np.array([0, *rng.integers(0, largest, length), 0])
    dims = betti + ranks[:-1] + ranks[1:]
    bases = [random_automorphism(int(n), field, rng) for n in dims]
    made = []
    for n in range(length):
        d = np.zeros((dims[n + 1], dims[n]), dtype=int)
        d[: ranks[n + 1], dims[n] - ranks[n + 1] :] = np.eye(ranks[n + 1], dtype=int)
        made.append(field.mul(bases[n + 1][0], field.mul(field.matrix(d), bases[n][1])))
    return CochainComplex(tuple(made), field), tuple(betti.tolist())


def random_filtered(
    field: Field, rng: np.random.Generator, vertices: int = 7, facets: int = 8
) -> tuple[FilteredComplex, dict[tuple[int, ...], int]]:
    """A filtered random simplicial complex, and the level of every simplex."""
    drawn = [
        rng.choice(vertices, rng.integers(1, 5), replace=False).tolist() for _ in range(facets)
    ]
    space = SimplicialComplex.of(drawn)
    level: dict[tuple[int, ...], int] = {}
    for faces in space.faces:
        for row in map(tuple, faces.tolist()):
            below = [level[f] for f in combinations(row, len(row) - 1) if f]
            level[row] = max(below, default=0) + int(rng.integers(0, 3))
    levels = {
        k: [level[f] for f in map(tuple, faces.tolist())] for k, faces in enumerate(space.faces)
    }
    return FilteredComplex(space.cochains(field), levels), level


def three_torus(n: int) -> np.ndarray:
    """n³ cubes with opposite sides glued, six tetrahedra each (Freudenthal's)."""
    cubes = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3)
    found = []
    for order in permutations(range(3)):
        corner, path = cubes.copy(), [cubes]
        for axis in order:
            corner = corner.copy()
            corner[:, axis] += 1
            path.append(corner)
        found.append(np.stack([c % n @ np.array([n * n, n, 1]) for c in path], -1))
    return np.concatenate(found)

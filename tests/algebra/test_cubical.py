"""Cubical complexes: GUDHI's Betti numbers, known solids, glued grids, triangulated voxels."""

from __future__ import annotations

from itertools import pairwise, permutations

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import torus_grid
from leray.algebra.cubical import CubicalComplex
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

SEEDS = st.integers(0, 10_000)
SHAPES = [(7,), (6, 8), (1, 5), (4, 5, 6), (2, 1, 3), (3, 2, 3, 2)]


def random_voxels(shape, seed):
    rng = np.random.default_rng(seed)
    voxels = rng.random(shape) < rng.choice([0.3, 0.5, 0.8])
    voxels[tuple(rng.integers(0, shape))] = True
    return voxels


def _gudhi(voxels, p, periodic=()):
    """GUDHI's sublevel set at ½ of the function that is 0 on voxels and 1 elsewhere."""
    cells = np.where(voxels, 0.0, 1.0)
    if any(periodic):
        theirs = gudhi.PeriodicCubicalComplex(  # pyright: ignore[reportCallIssue]
            top_dimensional_cells=cells, periodic_dimensions=list(periodic)
        )
    else:
        theirs = gudhi.CubicalComplex(top_dimensional_cells=cells)  # pyright: ignore[reportCallIssue]
    theirs.compute_persistence(homology_coeff_field=p, min_persistence=-1)
    return tuple(theirs.persistent_betti_numbers(0.5, 0.5))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@settings(max_examples=12)
@given(SEEDS)
def test_oracle_betti_numbers_are_gudhis(shape, seed):
    """Over Q too: up to three axes there is no torsion, so that every field gives the same."""
    voxels = random_voxels(shape, seed)
    found = CubicalComplex(voxels)
    want = _gudhi(voxels, 2)
    assert found.betti_numbers(GF(2)) == want
    if len(shape) <= 3:
        assert found.betti_numbers(Q) == found.betti_numbers(GF(3)) == want


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 5)], ids=str)
@settings(max_examples=12)
@given(SEEDS)
def test_oracle_betti_numbers_in_a_torus_are_gudhis(shape, seed):
    voxels = random_voxels(shape, seed)
    periodic = tuple(np.random.default_rng(seed).integers(0, 2, len(shape)).astype(bool).tolist())
    found = CubicalComplex(voxels, periodic)
    for p in (2, 3):
        assert found.betti_numbers(GF(p)) == _gudhi(voxels, p, periodic)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@settings(max_examples=10)
@given(SEEDS)
def test_identity_the_coboundary_of_a_coboundary_is_zero(shape, seed):
    """Sparse and dense ranks agree, and so do Euler's and Betti's numbers."""
    axes = np.random.default_rng(seed).integers(0, 2, len(shape)).astype(bool)
    found = CubicalComplex(random_voxels(shape, seed), tuple(axes.tolist()))
    for a, b in pairwise(found.coboundaries):
        assert not (b.toarray() @ a.toarray()).any()
    if sum(found.f_vector) < 400:
        assert found.cochains(GF(3)).betti_numbers() == found.betti_numbers(GF(3))
    betti = found.betti_numbers(GF(2))
    assert found.euler_characteristic == sum((-1) ** k * b for k, b in enumerate(betti))


def solids():
    """Voxels and Betti numbers."""
    box = np.ones((3, 3, 3), dtype=bool)
    box[1, 1, 1] = False
    ring = np.ones((3, 3, 1), dtype=bool)
    ring[1, 1, 0] = False
    two = np.zeros((5, 5), dtype=bool)
    two[0, 0] = two[4, 4] = True
    touching = np.eye(2, dtype=bool)
    eight = np.ones((3, 5), dtype=bool)
    eight[1, [1, 3]] = False
    full = np.ones((2, 3, 4), dtype=bool)
    tunnel = np.ones((3, 3, 4), dtype=bool)
    tunnel[1, 1] = False
    return {
        "hollow box": (box, (1, 0, 1, 0)),
        "ring": (ring, (1, 1, 0, 0)),
        "two squares": (two, (2, 0, 0)),
        "squares at a corner": (touching, (1, 0, 0)),
        "figure eight": (eight, (1, 2, 0)),
        "solid": (full, (1, 0, 0, 0)),
        "tunnel": (tunnel, (1, 1, 0, 0)),
    }


@pytest.mark.parametrize("name", solids())
def test_oracle_known_solids(name):
    voxels, want = solids()[name]
    found = CubicalComplex(voxels)
    for field in (Q, GF(2), GF(3), Floats()):
        assert found.cochains(field).betti_numbers() == found.betti_numbers(field) == want


def test_oracle_the_cells_of_a_solid_are_counted_by_products():
    """An axis of n voxels has n + 1 points and n intervals, or n points where it is glued."""
    assert CubicalComplex(np.ones((2, 3), dtype=bool)).f_vector == (12, 17, 6)
    assert CubicalComplex(np.ones((2, 3), dtype=bool), (True, False)).f_vector == (8, 14, 6)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_oracle_glued_grids_are_tori(n):
    """An axis of a single voxel too: its edge is a loop."""
    for field in (Q, GF(2), GF(3)):
        flat = CubicalComplex(np.ones((n, n + 1), dtype=bool), (True, True))
        assert flat.betti_numbers(field) == (1, 2, 1)
        assert all((abs(c.data) == 1).all() for c in flat.coboundaries)
        solid = CubicalComplex(np.ones((n, 3, 2), dtype=bool), (True, True, True))
        assert solid.betti_numbers(field) == (1, 3, 3, 1)
        annulus = CubicalComplex(np.ones((n, 2), dtype=bool), (True, False))
        assert annulus.betti_numbers(field) == (1, 1, 0)
    assert SimplicialComplex.of(torus_grid(5)).betti_numbers(Q) == flat.betti_numbers(Q)


@settings(max_examples=15)
@given(SEEDS)
def test_identity_triangulated_voxels_have_the_same_betti_numbers(seed):
    """Every cube as six tetrahedra, one for each order of the axes."""
    voxels = random_voxels((3, 3, 3), seed)
    found = []
    for corner in np.argwhere(voxels):
        for order in permutations(range(3)):
            path = corner + np.array([[a in order[:k] for a in range(3)] for k in range(4)])
            found.append(path @ [16, 4, 1])
    triangulated = SimplicialComplex.of(np.array(found))
    assert triangulated.betti_numbers(GF(2)) == CubicalComplex(voxels).betti_numbers(GF(2))


def test_oracle_three_hundred_thousand_cells():
    """Over Q modulo a large prime, which the certificates say."""
    voxels = np.random.default_rng(0).random((40, 40, 40)) < 0.5
    found = CubicalComplex(voxels)
    assert sum(found.f_vector) > 300_000
    assert found.betti_numbers(GF(2)) == found.betti_numbers(Q) == _gudhi(voxels, 2)
    assert [c.modulus for c in found.ranks(Q)] == [0, 2**31 - 1, 0]


def test_bad_voxels_are_one_line():
    with pytest.raises(LerayError, match="array of booleans with at least one axis; got float64"):
        CubicalComplex(np.ones((2, 2)))
    with pytest.raises(LerayError, match="got bool with 0 axes"):
        CubicalComplex(np.array(True))
    with pytest.raises(LerayError, match="at least one voxel"):
        CubicalComplex(np.zeros((2, 2), dtype=bool))
    with pytest.raises(LerayError, match="for each of 2 axes, or none; got 1"):
        CubicalComplex(np.ones((2, 2), dtype=bool), (True,))

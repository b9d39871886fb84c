"""Simplicial complexes and sparse elimination, against GUDHI, TopoNetX and dense ranks."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import gudhi
import numpy as np
import pytest
import toponetx
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import KLEIN, RP2, hopf_map, three_torus, torus_grid
from leray.algebra.fields import GF, Q
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

FACETS = st.lists(st.sets(st.integers(0, 8), min_size=1, max_size=5), min_size=1, max_size=14)


def _gudhi(facets, p):
    tree = gudhi.SimplexTree()
    for facet in facets:
        tree.insert(sorted(facet))
    tree.compute_persistence(homology_coeff_field=p, persistence_dim_max=True)
    return tuple(tree.betti_numbers())


@given(FACETS, st.sampled_from([2, 3, 11]))
def test_oracle_betti_numbers_are_gudhis(facets, p):
    found = SimplicialComplex.of([tuple(f) for f in facets])
    assert found.betti_numbers(GF(p)) == _gudhi(facets, p)
    dense = found.cochains(GF(p)).betti_numbers()
    assert dense[: found.dimension + 1] == found.betti_numbers(GF(p))


@given(FACETS)
def test_oracle_faces_and_incidences_are_toponetxs(facets):
    found, theirs = SimplicialComplex.of([tuple(f) for f in facets]), toponetx.SimplicialComplex()
    theirs.add_simplices_from([sorted(f) for f in facets])
    assert found.f_vector == theirs.shape
    for k in range(found.dimension):
        incidence: Any = theirs.incidence_matrix(k + 1, signed=True)
        order: Any = theirs.skeleton(k + 1)
        assert found.faces[k + 1].tolist() == sorted(sorted(f) for f in order)
        assert (found.coboundaries[k].toarray() == incidence.toarray().T).all()
    ranks = [np.linalg.matrix_rank(c.toarray()) for c in found.coboundaries]
    betti = [n - a - b for n, a, b in zip(found.f_vector, [0, *ranks], [*ranks, 0], strict=True)]
    assert found.cochains(Q).betti_numbers()[: found.dimension + 1] == tuple(betti)


@given(FACETS)
def test_identity_the_coboundary_of_a_coboundary_is_zero(facets):
    found = SimplicialComplex.of([tuple(f) for f in facets])
    for a, b in pairwise(found.coboundaries):
        assert not (b.toarray() @ a.toarray()).any()
    assert found.euler_characteristic == sum(
        (-1) ** k * b for k, b in enumerate(found.betti_numbers(GF(2)))
    )


@pytest.mark.parametrize("p", [2, 3, 5])
def test_oracle_larger_spaces(p):
    n = 12
    assert SimplicialComplex.of(torus_grid(n)).betti_numbers(GF(p)) == (1, 2, 1)
    assert SimplicialComplex.of(three_torus(4)).betti_numbers(GF(p)) == (1, 3, 3, 1)
    assert SimplicialComplex.of(hopf_map()).betti_numbers(GF(p)) == (1, 0, 0, 1)


def test_identity_relabelling_changes_nothing():
    rng = np.random.default_rng(0)
    for facets in (KLEIN, RP2):
        want = SimplicialComplex.of(facets).betti_numbers(GF(2))
        names = rng.permutation(1_000)[:100]
        renamed = [tuple(int(names[v]) for v in f) for f in facets]
        assert SimplicialComplex.of(renamed).betti_numbers(GF(2)) == want


@settings(max_examples=25)
@given(st.lists(st.sets(st.integers(0, 8), min_size=1, max_size=4), min_size=1, max_size=8))
def test_identity_subdivision_changes_no_betti_number(facets):
    """Its simplices are the chains of faces, counted here by inclusion."""
    whole = SimplicialComplex.of([tuple(f) for f in facets])
    fine = whole.subdivision()
    faces = [set(row) for faces in whole.faces for row in faces.tolist()]
    below = np.array([[int(a < b) for b in faces] for a in faces])
    chains, counts = np.ones(len(faces), dtype=int), []
    for _ in range(whole.dimension + 1):
        counts.append(int(chains.sum()))
        chains = below @ chains
    assert fine.f_vector == tuple(counts)
    vertices = [v for v in fine.names.tolist() if v < whole.f_vector[0]]
    assert len(vertices) == whole.f_vector[0]
    for p in (2, 3):
        assert fine.betti_numbers(GF(p)) == whole.betti_numbers(GF(p))


@settings(max_examples=10)
@given(FACETS)
def test_identity_faces_stand_at_their_places(facets):
    space = SimplicialComplex.of([tuple(f) for f in facets])
    every = SimplicialComplex.of(list(combinations(range(9), 5)))
    for k, rows in enumerate(space.faces):
        assert space.places(rows).tolist() == list(range(len(rows)))
        known = set(map(tuple, rows.tolist()))
        found = space.places(every.faces[k])
        for row, place in zip(every.faces[k].tolist(), found.tolist(), strict=True):
            assert (place >= 0) == (tuple(row) in known)
    assert space.places(np.array([range(9)])).tolist() == [-1]
    assert space.places(np.array([[99], [-5]])).tolist() == [-1, -1]


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_oracle_columns_that_fill_in(density):
    """Two-dimensional complexes on random triangles, where few columns are apparent pairs."""
    rng = np.random.default_rng(1)
    every = SimplicialComplex.of(_triples(16))
    faces = every.faces[2]
    facets = faces[rng.random(len(faces)) < density].tolist()
    for p in (2, 3, 7):
        assert SimplicialComplex.of(facets).betti_numbers(GF(p)) == _gudhi(facets, p)


def _triples(n):
    return [(a, b, c) for a in range(n) for b in range(a) for c in range(b)]


def test_bad_facets_are_one_line():
    with pytest.raises(LerayError, match="at least one facet"):
        SimplicialComplex.of([])
    with pytest.raises(LerayError, match=r"facet \[3, 1, 3\] has a vertex twice"):
        SimplicialComplex.of([(0, 1, 2), (3, 1, 3)])
    with pytest.raises(LerayError, match="1 to 20 vertices; got 25"):
        SimplicialComplex.of([tuple(range(25))])


def test_places_of_faces_and_of_what_is_none():
    space = SimplicialComplex.of([(3, 5), (5, 9)])
    assert space.places(np.array([[9, 5], [3, 5], [3, 9], [3, 4], [-1, 3]])).tolist() == [
        1, 0, -1, -1, -1,
    ]  # fmt: skip
    assert space.places(np.array([[3, 5, 9]])).tolist() == [-1]

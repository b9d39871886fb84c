"""Pairs and Mayer–Vietoris: the disc and its circle, torus and Klein bottle from two annuli."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import KLEIN, klein_bottle, sphere, torus_grid
from leray.algebra.covers import mayer_vietoris, pair_sequence
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

FIELDS = (Q, GF(2), GF(3), Floats())
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
FACETS = st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=6)


@every_field
@pytest.mark.parametrize("n", [1, 2, 3])
def test_oracle_a_disc_and_its_sphere(field, n):
    """H^{n}(Dⁿ, Sⁿ⁻¹) is a line, and δ from H^{n−1}(Sⁿ⁻¹) is onto it."""
    disc = SimplicialComplex.of([tuple(range(n + 1))])
    sequence = pair_sequence(disc, SimplicialComplex.of(sphere(n - 1)), field)
    assert sequence.f.source.betti_numbers() == (0,) * n + (1,)
    assert field.rank(sequence.connecting_homomorphism(n - 1), field.tolerance).value() == 1
    assert all(node.is_exact for node in sequence.long_exact_sequence().nodes)


def halves(facets, n):
    """Two annuli: the triangles over the two halves of the first circle of an n × n grid."""
    number = 2 * n * (n // 2)
    return SimplicialComplex.of(facets[:number]), SimplicialComplex.of(facets[number:])


@every_field
@pytest.mark.parametrize(("make", "name"), [(torus_grid, "torus"), (klein_bottle, "klein")])
def test_oracle_torus_and_klein_bottle_from_two_annuli(field, make, name):
    """δ: H¹(two circles) → H²: rank 1 for the torus; for the Klein bottle 1 only modulo 2."""
    a, b = halves(make(6), 6)
    assert a.cochains(field).betti_numbers() == b.cochains(field).betti_numbers() == (1, 1, 0)
    sequence = mayer_vietoris(a, b, field)
    closed = name == "torus" or field == GF(2)
    assert sequence.g.target.betti_numbers() == (2, 2, 0)
    assert sequence.f.source.betti_numbers() == ((1, 2, 1) if closed else (1, 1, 0))
    rank = field.rank(sequence.connecting_homomorphism(1), field.tolerance).value()
    assert rank == (1 if closed else 0)
    assert all(node.is_exact for node in sequence.long_exact_sequence().nodes)


@every_field
@settings(max_examples=15)
@given(FACETS, FACETS)
def test_identity_any_two_complexes(field, first, second):
    a, b = (SimplicialComplex.of([tuple(f) for f in facets]) for facets in (first, second))
    sequence = mayer_vietoris(a, b, field)
    nodes = sequence.long_exact_sequence().nodes
    assert all(node.is_exact for node in nodes)
    union = SimplicialComplex.of([tuple(f) for f in [*first, *second]])
    pair = pair_sequence(union, a, field)
    assert all(node.is_exact for node in pair.long_exact_sequence().nodes)
    characteristics = (c.euler_characteristic for c in (union, a))
    whole, part = characteristics
    assert pair.f.source.euler_characteristic == whole - part


def test_what_is_no_subcomplex_is_refused():
    with pytest.raises(LerayError, match=r"face \(700,\) of the subcomplex"):
        pair_sequence(SimplicialComplex.of(KLEIN), SimplicialComplex.of([(0, 7), (700,)]), Q)

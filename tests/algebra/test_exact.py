"""Exact sequences: the snake's map, its naturality, pairs, and what is not exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import random_automorphism, random_complex, sphere
from leray.algebra.complexes import CochainComplex, CochainMap, identity_map
from leray.algebra.exact import NotExactError, ShortExactSequence, exactness, subcomplex_sequence
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.simplicial import SimplicialComplex

FIELDS = (Q, GF(2), GF(3), Floats())
SEEDS = st.integers(0, 10_000)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)


def random_sequence(field, rng):
    """0 → A → B → C → 0, B twisted by a cocycle of Hom(C, A) and hidden by automorphisms.

    d_B = [[d_A, t], [0, d_C]], and the connecting map is what t does to cohomology.
    """
    a, _ = random_complex(field, rng)
    c, _ = random_complex(field, rng)
    twists = {n: _twist(a, c, n, field, rng) for n in c.degrees}
    turns = {n: random_automorphism(a.dim(n) + c.dim(n), field, rng) for n in a.degrees}
    plain = {
        n: field.blocks([[a.d(n), twists[n]], [field.zeros(c.dim(n + 1), a.dim(n)), c.d(n)]])
        for n in a.degrees[:-1]
    }
    b = CochainComplex(
        tuple(field.mul(turns[n + 1][0], field.mul(m, turns[n][1])) for n, m in plain.items()),
        field,
    )
    into = {
        n: field.mul(
            turns[n][0], field.cat([field.identity(a.dim(n)), field.zeros(c.dim(n), a.dim(n))], 0)
        )
        for n in a.degrees
    }
    onto = {
        n: field.mul(
            field.cat([field.zeros(c.dim(n), a.dim(n)), field.identity(c.dim(n))], 1), turns[n][1]
        )
        for n in a.degrees
    }
    return ShortExactSequence(CochainMap(a, b, into), CochainMap(b, c, onto)), twists


def _twist(a, c, n, field, rng):
    """t: Cⁿ → Aⁿ⁺¹ with d_A t + t d_C = 0: zero but on Hⁿ(C), which it sends to cocycles."""
    h, dims = c.cohomology(n), (a.dim(n + 1), c.dim(n))
    if 0 in dims or not h.dim:
        return field.zeros(*dims)
    cocycles = field.kernel(a.d(n + 1))
    rest = field.complement(field.cat([h.boundaries, h.basis], 1), field.identity(c.dim(n)))
    basis = field.cat([h.basis, h.boundaries, rest], 1)
    coordinates = field.solve(basis, field.identity(c.dim(n)))[: h.dim]
    image = field.matrix(rng.integers(-1, 2, (cocycles.shape[1], h.dim)))
    return field.mul(field.mul(cocycles, image), coordinates)


@every_field
@settings(max_examples=15)
@given(SEEDS)
def test_identity_long_sequences_are_exact_and_know_the_twist(field, seed):
    sequence, twists = random_sequence(field, np.random.default_rng(seed))
    long = sequence.long_exact_sequence()
    assert all(node.is_exact for node in long.nodes)
    assert sum((-1) ** i * node.dim for i, node in enumerate(long.nodes)) == 0
    a, b, c = sequence.f.source, sequence.f.target, sequence.g.target
    assert b.euler_characteristic == a.euler_characteristic + c.euler_characteristic
    for n in c.degrees:
        delta = sequence.connecting_homomorphism(n)
        moved = field.mul(twists[n], sequence.cohomology("C", n).basis)
        want = sequence.cohomology("A", n + 1).classes(moved, 10 * (1 + field.size(moved)))
        apart = field.add(delta, field.scale(-1, want))
        assert field.is_zero(apart, 1e3 * (1 + field.size(want)))


@every_field
@settings(max_examples=15)
@given(SEEDS)
def test_identity_the_connecting_map_is_natural(field, seed):
    """For an isomorphism (α, β, γ) onto a second sequence, δ' H(γ) = H(α) δ."""
    rng = np.random.default_rng(seed)
    one, _ = random_sequence(field, rng)
    alpha, beta, gamma = (
        conjugation(c, field, rng) for c in (one.f.source, one.f.target, one.g.target)
    )
    two = ShortExactSequence(
        CochainMap(alpha[0].target, beta[0].target, (beta[0] @ one.f @ alpha[1]).maps),
        CochainMap(beta[0].target, gamma[0].target, (gamma[0] @ one.g @ beta[1]).maps),
    )
    for n in one.degrees:
        left = field.mul(two.connecting_homomorphism(n), _on(one, two, "C", n, gamma[0], field))
        delta = one.connecting_homomorphism(n)
        right = field.mul(_on(one, two, "A", n + 1, alpha[0], field), delta)
        assert field.is_zero(field.add(left, field.scale(-1, right)), 1e3 * (1 + field.size(delta)))


def conjugation(c, field, rng):
    """An isomorphism onto the same complex in another basis, and its inverse."""
    turns = {n: random_automorphism(c.dim(n), field, rng) for n in c.degrees}
    moved = (field.mul(turns[n + 1][0], field.mul(c.d(n), turns[n][1])) for n in c.degrees[:-1])
    other = CochainComplex(tuple(moved), field, c.lowest)
    there = CochainMap(c, other, {n: a for n, (a, _) in turns.items()})
    return there, CochainMap(other, c, {n: b for n, (_, b) in turns.items()})


def _on(one, two, which, n, f, field):
    """Hⁿ(f) on the bases that the two sequences chose."""
    basis = one.cohomology(which, n).basis
    return two.cohomology(which, n).classes(field.mul(f.at(n), basis), 10 * (1 + field.size(basis)))


@every_field
def test_oracle_the_pair_of_a_disc_and_its_circle(field):
    """δ: H¹(S¹) → H²(D², S¹) is an isomorphism of lines."""
    disc = SimplicialComplex.of([(0, 1, 2)]).cochains(field)
    inside = {2: field.identity(1)}  # cochains that vanish on the boundary
    sequence = subcomplex_sequence(disc, inside)
    assert sequence.f.source.betti_numbers() == (0, 0, 1)
    assert sequence.g.target.betti_numbers() == (1, 1, 0)
    assert field.rank(sequence.connecting_homomorphism(1)).value() == 1
    assert "H^1(C) = 1 → H^2(A) = 1 → H^2(B) = 0" in str(sequence.long_exact_sequence())


@every_field
def test_the_three_conditions_are_told_apart(field):
    projection = field.matrix([[1, 0], [0, 0]])
    other = field.matrix([[0, 0], [0, 1]])
    middle = exactness([projection, other], field)[1]
    assert middle.is_exact
    missing = exactness([projection, field.zeros(2, 2)], field)[1]
    assert missing.is_complex
    assert (missing.defect, missing.is_exact) == (1, False)
    crossed = exactness([projection, projection], field)[1]
    assert (crossed.defect, crossed.is_complex, crossed.is_exact) == (0, False, False)


def test_what_is_not_exact_is_refused():
    circle = SimplicialComplex.of(sphere(1)).cochains(Q)
    with pytest.raises(NotExactError, match=r"not exact at B\^0: the composition is not zero"):
        ShortExactSequence(identity_map(circle), identity_map(circle))
    nothing = CochainComplex.spaces([0, 0], Q)
    with pytest.raises(NotExactError, match=r"not exact at B\^0: ker/im has dimension 3"):
        ShortExactSequence(CochainMap(nothing, circle, {}), CochainMap(circle, nothing, {}))
    with pytest.raises(NotExactError, match="d leaves the span"):
        subcomplex_sequence(circle, {0: Q.identity(3)})
    with pytest.raises(NotExactError, match="dependent"):
        subcomplex_sequence(circle, {1: Q.matrix([[1, 1], [0, 0], [0, 0]])})

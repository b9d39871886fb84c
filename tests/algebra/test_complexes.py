"""Complexes: refusals, Künneth, cones, duals, Hodge; float and exact fields agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import (
    KLEIN,
    MOEBIUS,
    RP2,
    TORUS,
    lens_space,
    random_automorphism,
    random_complex,
    sphere,
)  # fmt: skip
from leray.algebra.complexes import (
    CochainComplex,
    CochainMap,
    NotACochainMapError,
    NotAComplexError,
    identity_map,
    is_homotopy,
    mapping_cone,
)
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.hodge import harmonic_projection, hodge_decomposition
from leray.algebra.rank import UndecidedRankError
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

FIELDS = (Q, GF(2), GF(3), Floats())
SEEDS = st.integers(0, 10_000)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)

KNOWN = {  # facets, and Betti numbers over Q, F_2, F_3
    "S1": (sphere(1), (1, 1), (1, 1), (1, 1)),
    "S2": (sphere(2), (1, 0, 1), (1, 0, 1), (1, 0, 1)),
    "S3": (sphere(3), (1, 0, 0, 1), (1, 0, 0, 1), (1, 0, 0, 1)),
    "torus": (TORUS, (1, 2, 1), (1, 2, 1), (1, 2, 1)),
    "Klein bottle": (KLEIN, (1, 1, 0), (1, 2, 1), (1, 1, 0)),
    "RP2": (RP2, (1, 0, 0), (1, 1, 1), (1, 0, 0)),
    "Moebius band": (MOEBIUS, (1, 1, 0), (1, 1, 0), (1, 1, 0)),
    "S1 v S2": ([(0, 10), (10, 11), (0, 11), *sphere(2)], (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "two points": ([(0,), (5,)], (2, 0), (2, 0), (2, 0)),
}


@pytest.mark.parametrize("space", KNOWN)
def test_oracle_betti_numbers_of_known_spaces(space):
    facets, over_q, over_2, over_3 = KNOWN[space]
    found = SimplicialComplex.of(facets)
    for field, want in zip(FIELDS, (over_q, over_2, over_3, over_q), strict=True):
        assert found.cochains(field).betti_numbers() == want
    for p, want in ((2, over_2), (3, over_3)):
        assert found.betti_numbers(GF(p)) == want[: found.dimension + 1]


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_oracle_lens_spaces(k):
    for field, p in ((Q, 0), (GF(2), 2), (GF(3), 3)):
        divided = p and k % p == 0
        assert lens_space(k, field).betti_numbers() == ((1, 1, 1, 1) if divided else (1, 0, 0, 1))


@every_field
def test_oracle_kuenneth(field):
    torus, circle = (SimplicialComplex.of(f).cochains(field) for f in (TORUS, sphere(1)))
    assert (circle @ circle).betti_numbers() == (1, 2, 1)
    assert (torus @ circle).betti_numbers() == (1, 3, 3, 1)
    plane = SimplicialComplex.of(RP2).cochains(field)
    want = (1, 2, 3, 2, 1) if field == GF(2) else (1, 0, 0, 0, 0)
    assert (plane @ plane).betti_numbers() == want


@every_field
@settings(max_examples=20)
@given(SEEDS)
def test_identity_betti_numbers_survive_a_change_of_basis(field, seed):
    rng = np.random.default_rng(seed)
    c, betti = random_complex(field, rng)
    assert c.betti_numbers() == betti
    assert c.euler_characteristic == sum((-1) ** n * b for n, b in enumerate(betti))
    assert c.dual().betti_numbers() == betti[::-1]
    assert [c.shifted(2).betti_number(n - 2) for n in c.degrees] == list(betti)
    other, more = random_complex(field, rng)
    assert (c + other).betti_numbers() == tuple(a + b for a, b in zip(betti, more, strict=True))


@every_field
@settings(max_examples=20)
@given(SEEDS)
def test_identity_representatives_are_cocycles_and_their_classes_a_basis(field, seed):
    c, betti = random_complex(field, np.random.default_rng(seed))
    for n, b in zip(c.degrees, betti, strict=True):
        h = c.cohomology(n)
        assert h.dim == b
        classes = h.classes(field.add(h.basis, _some_boundary(c, n, b, field)))
        off = field.add(classes, field.scale(-1, field.identity(b)))
        assert field.is_zero(off, 1 + field.size(h.basis) * 10)


def _some_boundary(c, n, columns, field):
    ones = field.matrix(np.ones((c.dim(n - 1), columns), dtype=int))
    return field.mul(c.d(n - 1), ones)


@every_field
@settings(max_examples=20)
@given(SEEDS)
def test_identity_the_cone_of_an_isomorphism_is_exact(field, seed):
    rng = np.random.default_rng(seed)
    c, _ = random_complex(field, rng)
    turns = {n: random_automorphism(c.dim(n), field, rng) for n in c.degrees}
    conjugated = tuple(
        field.mul(turns[n + 1][0], field.mul(c.d(n), turns[n][1])) for n in c.degrees[:-1]
    )
    f = CochainMap(c, CochainComplex(conjugated, field), {n: t for n, (t, _) in turns.items()})
    assert not any(mapping_cone(f).betti_numbers())
    for n in c.degrees:
        assert field.rank(f.on_cohomology(n)).value() == c.betti_number(n)


@every_field
@settings(max_examples=20)
@given(SEEDS)
def test_identity_homotopic_maps_agree_on_cohomology(field, seed):
    rng = np.random.default_rng(seed)
    c, _ = random_complex(field, rng)
    h = {n: field.matrix(rng.integers(-1, 2, (c.dim(n - 1), c.dim(n)))) for n in c.degrees[1:]}
    h[c.highest + 1] = field.zeros(c.dim(c.highest), 0)
    h[0] = field.zeros(0, c.dim(0))
    moved = {
        n: field.add(
            field.identity(c.dim(n)),
            field.add(field.mul(c.d(n - 1), h[n]), field.mul(h[n + 1], c.d(n))),
        )
        for n in c.degrees
    }
    f, g = CochainMap(c, c, moved), identity_map(c)
    assert is_homotopy(h, f, g)
    for n in c.degrees:
        apart = field.add(f.on_cohomology(n), field.scale(-1, g.on_cohomology(n)))
        assert field.is_zero(apart, 1 + field.size(moved[n]) * 10)


def test_a_homotopy_that_is_none_is_told():
    c = SimplicialComplex.of(sphere(1)).cochains(Q)
    zero = CochainMap(c, c, {})
    assert not is_homotopy({}, identity_map(c), zero)


@pytest.mark.parametrize(
    ("field", "words"),
    [(Q, r"entry \(0, 0\) is 2 over Q"), (Floats(), "is 2, of integers"), (GF(3), "is 2 over")],
)
def test_what_is_no_complex_is_refused(field, words):
    with pytest.raises(NotAComplexError, match=words):
        CochainComplex.of([[[1]], [[2]]], field)
    assert CochainComplex.of([[[1]], [[2]]], GF(2)).betti_numbers() == (0, 0, 1)


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(NotAComplexError, match=r"d_0 ends in dimension 2, d_1 begins in 1"):
        CochainComplex.of([[[1], [1]], [[2]]], Q)
    circle = SimplicialComplex.of(sphere(1)).cochains(Q)
    with pytest.raises(NotACochainMapError, match="differ from degree 0"):
        CochainMap(circle, circle, {0: Q.identity(3)})
    with pytest.raises(NotACochainMapError, match="shape 3 × 3"):
        CochainMap(circle, circle, {0: Q.identity(2)})
    with pytest.raises(LerayError, match="not a cocycle"):
        circle.cohomology(0).classes(Q.matrix([[1], [0], [0]]))


def test_an_undecided_rank_has_no_betti_number():
    c = CochainComplex.of([[[1.0, 0.0], [0.0, 1e-14]]], Floats())
    with pytest.raises(UndecidedRankError, match="d_0"):
        c.betti_numbers()


@given(SEEDS)
def test_identity_hodge(seed):
    """The three parts are orthogonal, fill the space, and the harmonic one is the kernel of L."""
    c, betti = random_complex(Floats(), np.random.default_rng(seed))
    for n, b in zip(c.degrees, betti, strict=True):
        parts = hodge_decomposition(c, n)
        basis = torch.cat([parts.exact, parts.harmonic, parts.coexact], 1)
        torch.testing.assert_close(
            basis.T @ basis, torch.eye(c.dim(n), dtype=torch.float64), atol=1e-9, rtol=0
        )
        laplacian = c.d(n).T @ c.d(n) + c.d(n - 1) @ c.d(n - 1).T
        projection = harmonic_projection(c, n)
        assert round(float(projection.trace())) == b
        size = max(1.0, float(torch.linalg.norm(laplacian)))
        assert float(torch.linalg.norm(laplacian @ projection)) < 1e-9 * size
    with pytest.raises(LerayError, match="needs lengths"):
        hodge_decomposition(CochainComplex.spaces([1], Q), 0)


def test_degenerate_complexes():
    for field in FIELDS:
        assert CochainComplex.spaces([2, 0, 3], field).betti_numbers() == (2, 0, 3)
        nothing = CochainComplex.spaces([0], field)
        assert nothing.betti_numbers() == (0, 0)
        assert nothing.cohomology(0).dim == nothing.cohomology(7).dim == 0
    with pytest.raises(ValueError, match="at least one differential"):
        CochainComplex((), Q)


@pytest.mark.parametrize(("dtype", "small"), [(torch.float64, 1e-12), (torch.float32, 3.1e-4)])
def test_a_composition_that_the_ranks_do_not_bear_is_undecided(dtype, small):
    """d d passes for zero and d's smallest singular value for one that counts: never −1."""
    c = CochainComplex.of([[[1.1, 0], [0, small]], [[0, 1.1]]], Floats(dtype=dtype))
    with pytest.raises(UndecidedRankError, match="degree 1 is undecided: d_1 d_0 has size"):
        c.betti_numbers()
    with pytest.raises(UndecidedRankError, match=r"H\^1 is undecided"):
        c.cohomology(1)


def test_integers_compose_to_zero_exactly_or_not_at_all():
    """A large block elsewhere hides nothing."""
    first, second = np.diag([1.0, 1e7, 0.0]), np.diag([1.0, 0.0, 1e7])
    for field in (Q, Floats()):
        with pytest.raises(NotAComplexError, match="d_1 d_0 is not zero"):
            CochainComplex.of([first, second], field)


def test_fields_and_ends_that_differ_are_refused():
    one, two = (CochainComplex.of([[[1]]], f) for f in (Q, GF(3)))
    for make in (lambda: one + two, lambda: one @ two, lambda: CochainMap(one, two, {})):
        with pytest.raises(LerayError, match="both must be over one field"):
            make()
    small = CochainComplex.spaces([1, 2], Q)
    with pytest.raises(NotACochainMapError, match="does not begin where the first one ends"):
        _ = identity_map(small) @ identity_map(one)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("times", [0.05, 20.0])
def test_a_composition_is_zero_up_to_ten_thousand_roundings(dtype, times):
    """Onto a line and along one that is off by a small angle, whose sine is the relative size."""
    small = times * 1e4 * torch.finfo(dtype).eps
    onto, along = 0.7, 0.7 + np.arcsin(small)
    maps = [[[np.cos(onto)], [np.sin(onto)]], [[-np.sin(along), np.cos(along)]]]
    if times < 1:
        assert CochainComplex.of(maps, Floats(dtype=dtype)).dim(1) == 2
    else:
        with pytest.raises(NotAComplexError, match="relative size"):
            CochainComplex.of(maps, Floats(dtype=dtype))

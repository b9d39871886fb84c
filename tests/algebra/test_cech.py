"""Covers: the nerve theorem, two annuli, connections, Mayer and Vietoris, GUDHI's nerves."""

from __future__ import annotations

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import KLEIN, RP2, TORUS, klein_bottle, random_automorphism, sphere, torus_grid
from leray.algebra.cech import Cover, NotACoverError, good_cover, star_cover
from leray.algebra.connections import connection_sheaf
from leray.algebra.covers import mayer_vietoris
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.sheaves import CellularSheaf, constant_sheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import SpectralSequence
from leray.errors import LerayError

FIELDS = (Q, GF(2), GF(3), Floats())
SEEDS = st.integers(0, 10_000)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
SPHERE = SimplicialComplex.of(sphere(2))


def nonzero(complex_):
    return {n: b for n in complex_.degrees if (b := complex_.betti_number(n))}


def halves(facets, n):
    """Two annuli that are the n × n grid together: over the halves of its first circle."""
    number = 2 * n * (n // 2)
    parts = tuple(SimplicialComplex.of(part) for part in (facets[:number], facets[number:]))
    return Cover(SimplicialComplex.of(facets), parts)


def thirds(facets):
    """Three annuli of a 3 × 3 grid, each two of which meet in a circle and all in nothing."""
    parts = tuple(SimplicialComplex.of(facets[6 * i : 6 * i + 6]) for i in range(3))
    return Cover(SimplicialComplex.of(facets), parts)


def random_cover(rng, vertices=6):
    """Random facets, dealt to three parts, with some faces of others thrown in."""
    facets = [
        rng.choice(vertices, rng.integers(1, 4), replace=False).tolist()
        for _ in range(rng.integers(3, 8))
    ]
    dealt = [[f for f in facets if rng.random() < 0.5] for _ in range(3)]
    bare = [f for f in facets if not any(f in part for part in dealt)]
    parts = [*filter(None, dealt), *([bare] if bare else [])]
    return Cover(SimplicialComplex.of(facets), tuple(map(SimplicialComplex.of, parts)))


@every_field
@settings(max_examples=4)
@given(SEEDS)
def test_identity_the_rows_are_exact_and_the_total_cohomology_is_that_of_the_space(field, seed):
    cover = random_cover(np.random.default_rng(seed))
    double = cover.cech_double_complex(field)
    for q in double.rows:
        assert nonzero(double.row(q)) == ({0: n} if (n := cover.space.f_vector[q]) else {})
    cochains = cover.space.cochains(field)
    assert nonzero(double.total()) == nonzero(cochains)
    sequence, graded = cover.spectral_sequence(field), {}
    for (p, q), k in sequence.limit.dimensions.items():
        graded[p + q] = graded.get(p + q, 0) + k
    assert graded == nonzero(cochains)
    rows = {
        (p, q): b for q in double.rows for p, b in nonzero(cover.cech_complex(q, field)).items()
    }
    assert sequence.dimensions(2) == rows


@every_field
@settings(max_examples=3)
@given(SEEDS)
def test_identity_the_first_page_is_the_cohomology_of_the_intersections(field, seed):
    cover = random_cover(np.random.default_rng(seed))
    nerve, first = cover.nerve(), cover.spectral_sequence(field).dimensions(1)
    for p, rows in enumerate(nerve.faces):
        parts = [cover.intersection(row).cochains(field) for row in rows.tolist()]
        for q in range(3):
            want = sum(c.betti_number(q) for c in parts)
            assert first.get((p, q), 0) == cover.cech_complex(q, field).dim(p) == want


@settings(max_examples=20)
@given(SEEDS)
def test_oracle_betti_numbers_of_a_nerve_are_gudhis(seed):
    """Nerves of random families of simplices in GUDHI, made from the parts' sets of vertices."""
    rng = np.random.default_rng(seed)
    families = [
        set(rng.choice(7, rng.integers(1, 5), replace=False).tolist())
        for _ in range(rng.integers(2, 7))
    ]
    parts = tuple(SimplicialComplex.of([tuple(f)]) for f in families)
    space = SimplicialComplex.of([tuple(f) for f in families])
    nerve, tree = Cover(space, parts).nerve(), gudhi.SimplexTree()
    for v in set().union(*families):
        tree.insert([i for i, f in enumerate(families) if v in f])
    tree.compute_persistence(homology_coeff_field=3, persistence_dim_max=True)
    assert nerve.betti_numbers(GF(3)) == tuple(tree.betti_numbers())
    assert nerve.f_vector == tuple(
        sum(1 for simplex, _ in tree.get_simplices() if len(simplex) == k + 1)
        for k in range(tree.dimension() + 1)
    )


GOOD = {
    "circle": ([(0, 1), (1, 2), (0, 2)], (1, 1)),
    "sphere": (sphere(2), (1, 0, 1)),
    "RP2": (RP2, None),
    "wedge": ([(0, 1), (1, 2), (0, 2), (2, 3, 4), (4, 5)], (1, 1, 0)),
    "two points": ([(0,), (5,)], (2,)),
}


@pytest.mark.parametrize("field", [Q, GF(2)], ids=lambda f: f.name)
@pytest.mark.parametrize("name", GOOD)
def test_oracle_the_nerve_theorem_on_good_covers(field, name):
    """The nerve is the complex before it was subdivided, and E_2 lies in the row q = 0."""
    facets, want = GOOD[name]
    want = want or ((1, 1, 1) if field == GF(2) else (1, 0, 0))
    before = SimplicialComplex.of(facets)
    cover = good_cover(before)
    nerve = cover.nerve()
    assert nerve.f_vector == before.f_vector
    assert all((before.names[a] == b).all() for a, b in zip(nerve.faces, before.faces, strict=True))
    assert nerve.betti_numbers(field) == cover.space.betti_numbers(field) == want
    row = {(p, 0): b for p, b in enumerate(want) if b}
    assert cover.spectral_sequence(field).dimensions(2) == row
    assert nonzero(cover.cech_complex(0, field)) == {p: b for p, b in enumerate(want) if b}


def test_oracle_closed_stars_need_not_be_good():
    """Those of the octahedron: opposite ones meet in its equator, and E_2 has a row q = 1.

    A vertex lies in all six but the one opposite, so that the nerve is the 4-sphere.
    """
    octahedron = SimplicialComplex.of([(a, b, c) for a in (0, 1) for b in (2, 3) for c in (4, 5)])
    cover = star_cover(octahedron)
    assert cover.intersection((0, 1)).betti_numbers(Q) == (1, 1)
    assert cover.nerve().betti_numbers(Q) == (1, 0, 0, 0, 1)
    assert octahedron.betti_numbers(Q) == (1, 0, 1)
    poles = Cover(octahedron, (cover.parts[0], cover.parts[1]))
    assert poles.spectral_sequence(Q).dimensions(2) == {(0, 0): 1, (1, 1): 1}


@every_field
@pytest.mark.parametrize(("make", "name"), [(torus_grid, "torus"), (klein_bottle, "klein")])
def test_oracle_torus_and_klein_bottle_from_annuli(field, make, name):
    """The bundle over a circle: E_2^{p,q} = Hᵖ(S¹; H^q(S¹)), twisted in the row 1 by the flip.

    Over Q and F_3 the flip is −1 and leaves nothing of the row 1 of the Klein bottle.
    """
    row = {(0, 1): 1, (1, 1): 1} if name == "torus" or field == GF(2) else {}
    for cover in (halves(make(4), 4), thirds(make(3))):
        sequence = cover.spectral_sequence(field)
        assert sequence.dimensions(2) == {(0, 0): 1, (1, 0): 1} | row
        assert sequence.abutment() == sequence.dimensions(2)
        assert nonzero(cover.cech_complex(1, field)) == {p: 1 for p, _ in row}
    assert thirds(make(3)).cech_complex(1, field).dim(1) == 3


@every_field
@settings(max_examples=5)
@given(SEEDS)
def test_oracle_two_parts_are_mayer_and_vietoris(field, seed):
    """d_1 is Hⁿ(A) ⊕ Hⁿ(B) → Hⁿ(A ∩ B): E_2^{0,q} its kernel, E_2^{1,q} its cokernel."""
    rng = np.random.default_rng(seed)
    a, b = (
        SimplicialComplex.of(
            [(0,), *(rng.choice(6, rng.integers(1, 4), replace=False).tolist() for _ in range(5))]
        )
        for _ in range(2)
    )
    union = SimplicialComplex.of([f for x in (a, b) for rows in x.faces for f in rows.tolist()])
    second = Cover(union, (a, b)).spectral_sequence(field).dimensions(2)
    nodes = mayer_vietoris(a, b, field).long_exact_sequence().nodes
    for q in range(union.dimension + 1):
        pair = next(x for x in nodes if x.name == f"H^{q}(B)")
        both = next(x for x in nodes if x.name == f"H^{q}(C)")
        assert second.get((0, q), 0) == pair.incoming.value()
        assert second.get((1, q), 0) == both.outgoing.value()


@every_field
@settings(max_examples=4)
@given(SEEDS)
def test_oracle_a_connection_on_a_circle_glues_by_its_holonomy(field, seed):
    """Covered by its edges: row 0 has ker(h − 1) and coker(h − 1), for the holonomy h."""
    rng = np.random.default_rng(seed)
    cycle = SimplicialComplex.of([(0, 1), (1, 2), (2, 3), (0, 3)])
    h = random_automorphism(2, field, rng)[0] if seed % 3 else field.identity(2)
    one = field.identity(2)
    sheaf = connection_sheaf(cycle, {(0, 1): one, (1, 2): one, (2, 3): one, (0, 3): h}, field)
    cover = Cover(cycle, tuple(SimplicialComplex.of([e]) for e in cycle.faces[1].tolist()))
    fixed = 2 - field.rank(field.add(h, field.scale(-1, one)), field.tolerance).value()
    want = {(p, 0): fixed for p in (0, 1)} if fixed else {}
    sequence = cover.spectral_sequence(sheaf)
    assert sequence.dimensions(2) == sequence.abutment() == want
    assert nonzero(cover.cech_double_complex(sheaf).total()) == nonzero(sheaf.cochains)


@every_field
def test_identity_constant_sheaves_give_the_plain_complex(field):
    cover = thirds(torus_grid(3))
    plain = cover.cech_double_complex(field)
    line = cover.cech_double_complex(constant_sheaf(cover.space, 1, field))
    assert line.dimensions == plain.dimensions
    for n in plain.total().degrees:
        assert bool((line.total().d(n) == plain.total().d(n)).all())
    plane = cover.spectral_sequence(constant_sheaf(cover.space, 2, field))
    first = SpectralSequence(plain.by_columns()).dimensions(2)
    assert plane.dimensions(2) == {place: 2 * k for place, k in first.items()}


def test_oracle_a_sheaf_with_stalks_on_one_part_only():
    """A skyscraper at a vertex of the sphere: H⁰ is its stalk, whatever the cover."""
    stalks = tuple(tuple(3 * (k == j == 0) for j in range(n)) for k, n in enumerate((4, 6, 4)))
    maps = tuple(
        {
            (s, t): Q.zeros(stalks[k + 1][t], stalks[k][s])
            for t, s in np.argwhere(SPHERE.coboundaries[k].toarray()).tolist()
        }
        for k in range(2)
    )
    sheaf = CellularSheaf(SPHERE, stalks, maps, Q)
    for cover in (star_cover(SPHERE), Cover(SPHERE, (SPHERE, SPHERE))):
        assert cover.spectral_sequence(sheaf).dimensions(2) == {(0, 0): 3}


def _two_points():
    points = tuple(SimplicialComplex.of([(v,)]) for v in (0, 1))
    return SimplicialComplex.of([(0,), (1,)]), points


def test_what_is_no_cover_is_refused():
    triangle, edge = SimplicialComplex.of([(0, 1, 2)]), SimplicialComplex.of([(0, 1)])
    with pytest.raises(NotACoverError, match=r"simplex \(2,\) lies in none of the 1 parts"):
        Cover(triangle, (edge,))
    with pytest.raises(NotACoverError, match=r"simplex \(0, 1, 2\) lies in none of the 3 parts"):
        Cover(triangle, tuple(SimplicialComplex.of([e]) for e in ((0, 1), (1, 2), (0, 2))))
    with pytest.raises(NotACoverError, match=r"simplex \(2,\) of part 1 is no simplex of the spa"):
        Cover(edge, (edge, triangle))
    with pytest.raises(NotACoverError, match=r"simplex \(0, 1, 2\) of part 0 is no simplex"):
        Cover(SimplicialComplex.of([(0, 1), (1, 2), (0, 2)]), (triangle,))
    apart = Cover(*_two_points())
    with pytest.raises(LerayError, match=r"parts \(0, 1\) do not meet"):
        apart.intersection((0, 1))
    other = constant_sheaf(SimplicialComplex.of(TORUS), 1, Q)
    with pytest.raises(LerayError, match="another complex than the one that is covered"):
        good_cover(SimplicialComplex.of(KLEIN)).cech_double_complex(other)

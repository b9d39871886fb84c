"""Sheaves on posets: the faces of a complex, pulled back, pushed forward; random sheaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import TORUS, random_automorphism, sphere
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.posets import (
    MonotoneMap,
    NotAPosetError,
    NotASheafError,
    NotMonotoneError,
    Poset,
    PosetSheaf,
)
from leray.algebra.random_sheaves import random_sheaf
from leray.algebra.sheaves import constant_sheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

FIELDS = (Q, GF(2), GF(3), Floats())
SEEDS = st.integers(0, 10_000)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)


def random_complex(rng, vertices=5, facets=3):
    sizes = rng.integers(1, 5, facets)
    return SimplicialComplex.of([rng.choice(vertices, k, replace=False).tolist() for k in sizes])


def simplicial_map(source, rng):
    """A random map of vertices, and the complex of all images."""
    images = {int(v): int(rng.integers(10, 13)) for v in source.names}
    facets = [sorted({images[v] for v in f}) for a in source.faces for f in a.tolist()]
    return images, SimplicialComplex.of(facets)


def on_faces(source, target, images):
    """The monotone map of face posets."""
    return MonotoneMap(
        source, target, {f: tuple(sorted({images[v] for v in f})) for f in source.elements}
    )


def homs(f_sheaf, g_sheaf):
    """dim Hom(F, G), all φ_p with G(p ≤ q) φ_p = φ_q F(p ≤ q), as a kernel."""
    field, place, total = f_sheaf.field, {}, 0
    for p in f_sheaf.poset.elements:
        place[p] = total
        total += g_sheaf.stalks[p] * f_sheaf.stalks[p]
    rows = [field.zeros(0, total)]
    for p, q in f_sheaf.poset.covers:
        g, f = g_sheaf.map(p, q), f_sheaf.map(p, q)
        (b, a), (d, c) = g.shape, f.shape  # φ_p: a × c, φ_q: b × d, row by row
        for i in range(b):
            for j in range(c):
                row = field.zeros(1, total)
                for k in range(a):
                    row[0, place[p] + k * c + j] = g[i, k]
                for k in range(d):
                    row[0:1, place[q] + i * d + k] = field.scale(-1, f[k : k + 1, j])
                rows.append(row)
    return total - field.rank(field.cat(rows, 0), field.tolerance).value()


@every_field
@settings(max_examples=8)
@given(SEEDS)
def test_oracle_cohomology_on_faces_is_cellular(field, seed):
    """Two complexes of different sizes: all chains of faces, and the faces themselves."""
    rng = np.random.default_rng(seed)
    sheaf = random_sheaf(random_complex(rng), (0, 2), field, rng)
    poset = sheaf.on_poset()
    assert poset.cochains.betti_numbers() == sheaf.cochains.betti_numbers()
    assert poset.sections().shape[1] == sheaf.global_sections().shape[1]


@pytest.mark.parametrize("field", [Q, GF(2), Floats()], ids=lambda f: f.name)
def test_oracle_constant_sheaves_on_faces_have_the_cohomology_of_the_space(field):
    for facets, betti in ((TORUS, (1, 2, 1)), (sphere(2), (1, 0, 1))):
        sheaf = constant_sheaf(SimplicialComplex.of(facets), 1, field).on_poset()
        assert sheaf.cochains.betti_numbers() == betti


@every_field
@settings(max_examples=5)
@given(SEEDS)
def test_identity_pullback_and_pushforward(field, seed):
    """(gf)* = f*g*; Hom(f*G, F) ≅ Hom(G, f_*F); lim f_*F = lim F; (gf)_* ≅ g_*f_*; cohomology."""
    rng = np.random.default_rng(seed)
    space = random_complex(rng, vertices=4, facets=2)
    images, middle = simplicial_map(space, rng)
    further, last = simplicial_map(middle, rng)
    low = random_sheaf(space, (0, 2), field, rng)
    high = random_sheaf(last, (0, 2), field, rng)
    there, end = random_sheaf(middle, (0, 2), field, rng).on_poset(), high.on_poset()
    sheaf = low.on_poset()
    f = on_faces(sheaf.poset, there.poset, images)
    g = on_faces(there.poset, end.poset, further)
    both, steps = end.pullback(g @ f), end.pullback(g).pullback(f)
    assert both.stalks == steps.stalks
    assert all(
        not field.size(field.add(m, field.scale(-1, steps.maps[k]))) for k, m in both.maps.items()
    )
    assert homs(there.pullback(f), sheaf) == homs(there, sheaf.pushforward(f))
    pushed = sheaf.pushforward(f)
    assert pushed.sections().shape[1] == sheaf.sections().shape[1]
    once, twice = sheaf.pushforward(g @ f), pushed.pushforward(g)
    assert once.stalks == twice.stalks
    for p in end.poset.elements:
        for q in end.poset.elements:
            if end.poset.leq(p, q):
                ranks = [field.rank(s.map(p, q), field.tolerance).value() for s in (once, twice)]
                assert ranks[0] == ranks[1]
    for n in range(2):
        first, second = end.pullback_map(g), end.pullback(g).pullback_map(f)
        whole = end.pullback_map(g @ f).at(n)
        composed = field.mul(second.at(n), first.at(n))
        assert not field.size(field.add(whole, field.scale(-1, composed)))
    cellular = high.pullback(middle, further)
    assert cellular.on_poset().stalks == end.pullback(g).stalks
    assert cellular.cochains.betti_numbers() == end.pullback(g).cochains.betti_numbers()


@every_field
def test_oracle_restriction_to_a_subcomplex_is_pullback_along_the_inclusion(field):
    rng = np.random.default_rng(0)
    disc, circle = SimplicialComplex.of([(0, 1, 2)]), SimplicialComplex.of(sphere(1))
    sheaf = random_sheaf(disc, (1, 2), field, rng)
    found = sheaf.pullback(circle, {0: 0, 1: 1, 2: 2})
    assert found.stalks == sheaf.stalks[:2]
    assert not field.size(field.add(found.coboundary(0), field.scale(-1, sheaf.coboundary(0))))
    constant = constant_sheaf(disc, 2, field).pullback(circle, {0: 0, 1: 1, 2: 2})
    assert constant.cochains.betti_numbers() == (2, 2)
    collapsed = sheaf.pullback(circle, {0: 1, 1: 1, 2: 1})
    d = sheaf.stalks[0][1]
    assert collapsed.cochains.betti_numbers() == (d, d)
    with pytest.raises(LerayError, match="vertex 2 has no image"):
        sheaf.pullback(circle, {0: 0, 1: 1})
    with pytest.raises(LerayError, match=r"image \(7,\) of the face \(1,\) is no face"):
        sheaf.pullback(SimplicialComplex.of([(0, 1)]), {0: 0, 1: 7})


@every_field
def test_identity_random_sheaves_reach_every_dimension(field):
    """Not constant, with maps that are not zero into tetrahedra."""
    space, rng = SimplicialComplex.of([(0, 1, 2, 3)]), np.random.default_rng(0)
    seen = [random_sheaf(space, (1, 3), field, rng) for _ in range(8)]
    assert any(field.size(m) for s in seen for m in s.restrictions[2].values())
    assert len({s.stalks for s in seen}) > 1
    again = [random_sheaf(space, (2, 2), field, np.random.default_rng(5)) for _ in range(2)]
    assert again[0].stalks[0] == (2,) * 4
    for k in range(3):
        assert all(
            (m == again[1].restrictions[k][e]).all() for e, m in again[0].restrictions[k].items()
        )
    with pytest.raises(LerayError, match="low ≤ high"):
        random_sheaf(space, (2, 1), field, rng)


@every_field
def test_what_is_no_sheaf_on_a_poset_is_refused(field):
    square = Poset.of("abcd", [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    one, stalks = field.identity(2), dict.fromkeys("abcd", 2)
    maps = dict.fromkeys(square.covers, one)
    assert PosetSheaf(square, stalks, maps, field).cochains.betti_numbers() == (2, 0, 0)
    twist = random_automorphism(2, field, np.random.default_rng(1))[0]
    assert field.size(field.add(twist, field.scale(-1, one)))
    with pytest.raises(NotASheafError, match="two ways from a to d"):
        PosetSheaf(square, stalks, maps | {("b", "d"): twist}, field)
    with pytest.raises(NotASheafError, match="a to b is missing"):
        PosetSheaf(square, stalks, {k: m for k, m in maps.items() if k != ("a", "b")}, field)
    with pytest.raises(NotASheafError, match="a to d is for no cover"):
        PosetSheaf(square, stalks, maps | {("a", "d"): one}, field)
    with pytest.raises(NotASheafError, match="must have shape 2 × 2; got 1 × 2"):
        PosetSheaf(square, stalks, maps | {("a", "b"): field.zeros(1, 2)}, field)
    with pytest.raises(NotASheafError, match="needs a stalk"):
        PosetSheaf(square, {"a": 1}, maps, field)
    with pytest.raises(LerayError, match="is above one of"):
        PosetSheaf(square, stalks, maps, field).sections("ab")
    empty = PosetSheaf(Poset.of([], []), {}, {}, field)
    assert empty.cochains.betti_numbers() == (0, 0)
    assert empty.sections().shape == (0, 0)
    zero = PosetSheaf(
        square, dict.fromkeys("abcd", 0), dict.fromkeys(square.covers, field.zeros(0, 0)), field
    )
    assert zero.cochains.betti_numbers() == (0, 0, 0)


def test_what_is_no_poset_or_no_map_is_refused():
    with pytest.raises(NotAPosetError, match="go round"):
        Poset.of("abc", [("a", "b"), ("b", "c"), ("c", "b")])
    with pytest.raises(NotAPosetError, match="no element"):
        Poset.of("ab", [("a", "z")])
    with pytest.raises(NotAPosetError, match="twice"):
        Poset.of("aa", [])
    chain = Poset.of("ba", [("a", "b"), ("a", "a")])
    assert chain.elements == ("a", "b")
    with pytest.raises(NotMonotoneError, match="their images are not"):
        MonotoneMap(chain, chain, {"a": "b", "b": "a"})
    with pytest.raises(NotMonotoneError, match="b has no image"):
        MonotoneMap(chain, chain, {"a": "b"})

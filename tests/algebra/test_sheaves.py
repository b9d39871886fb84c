"""Cellular sheaves: constant ones, holonomy on the triangle, what does not compose, diffusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import KLEIN, TORUS, random_automorphism, sphere
from leray.algebra.connections import connection_sheaf, holonomy
from leray.algebra.diffusion import diffusion
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.posets import NotASheafError
from leray.algebra.sheaves import CellularSheaf, constant_sheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

FIELDS = (Q, GF(2), GF(3), Floats())
SEEDS = st.integers(0, 10_000)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
CYCLES = {"triangle": [0, 1, 2], "pentagon": [0, 1, 2, 3, 4]}


def cycle_graph(cycle):
    return SimplicialComplex.of(list(zip(cycle, [*cycle[1:], cycle[0]], strict=True)))


@every_field
@pytest.mark.parametrize("facets", [TORUS, KLEIN, sphere(2)], ids=["torus", "klein", "sphere"])
def test_identity_constant_sheaves_have_the_cohomology_of_the_space(field, facets):
    space = SimplicialComplex.of(facets)
    want = space.cochains(field).betti_numbers()
    for dim in (0, 1, 2):
        found = constant_sheaf(space, dim, field).cochains.betti_numbers()
        assert found == tuple(dim * b for b in want)


@every_field
@pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES)
@settings(max_examples=15)
@given(SEEDS)
def test_oracle_cohomology_on_a_cycle_is_that_of_the_holonomy(field, cycle, seed):
    """H⁰ = ker(h − 1) and H¹ = coker(h − 1), for the holonomy h around the cycle."""
    rng, d = np.random.default_rng(seed), 3
    graph = cycle_graph(cycle)
    transport = {
        tuple(e): random_automorphism(d, field, rng)[int(rng.integers(2))]
        for e in graph.faces[1].tolist()
    }
    if seed % 3 == 0:  # make it flat: the last transport closes the circle
        u, v = cycle[0], cycle[-1]
        open_ = holonomy(transport, cycle, field)
        transport[u, v] = field.mul(transport[u, v], open_)
    h = holonomy(transport, cycle, field)
    moved = field.rank(field.add(h, field.scale(-1, field.identity(d))), field.tolerance).value()
    sheaf = connection_sheaf(graph, transport, field)
    assert sheaf.cochains.betti_numbers() == (d - moved, d - moved)
    assert sheaf.global_sections().shape == (d * len(cycle), d - moved)
    if seed % 3 == 0:
        assert moved == 0


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi])
def test_oracle_a_rotation_around_the_triangle(angle):
    """Sections exist only where the rotations add up to a whole turn."""
    turn = torch.tensor(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float64
    )
    field = Floats()
    one = field.identity(2)
    transport = {(0, 1): turn, (1, 2): one, (0, 2): one}
    sheaf = connection_sheaf(cycle_graph([0, 1, 2]), transport, field)
    torch.testing.assert_close(holonomy(transport, [0, 1, 2], field), turn)
    assert sheaf.cochains.betti_numbers() == ((2, 2) if angle == 0 else (0, 0))
    smallest = float(torch.linalg.eigvalsh(sheaf.laplacian(0))[0])
    # A turn of θ shared among n edges: the smallest eigenvalue is 2 − 2 cos(θ/n).
    assert smallest == pytest.approx(2 - 2 * np.cos(angle / 3), abs=1e-12)


@settings(max_examples=15)
@given(SEEDS)
def test_identity_diffusion_goes_to_the_nearest_section_at_its_rate(seed):
    rng, field = np.random.default_rng(seed), Floats()
    graph = cycle_graph([0, 1, 2, 3])
    rotations = [torch.as_tensor(np.linalg.qr(rng.normal(size=(2, 2)))[0]) for _ in range(4)]
    edges = [tuple(e) for e in graph.faces[1].tolist()]
    sheaf = connection_sheaf(graph, dict(zip(edges, rotations, strict=True)), field)
    x = torch.as_tensor(rng.normal(size=(8, 1)))
    start, after = diffusion(sheaf, x, 0), diffusion(sheaf, x, 50)
    before = field.size(start.value - start.limit)
    assert field.size(after.value - after.limit) <= after.rate**50 * before + 1e-9
    assert sheaf.consistency_radius(after.limit) < 1e-10
    assert (
        field.size(start.limit - sheaf.global_sections() @ (sheaf.global_sections().T @ x)) < 1e-12
    )


@every_field
def test_what_is_no_sheaf_is_refused(field):
    disc = SimplicialComplex.of([(0, 1, 2)])
    good = constant_sheaf(disc, 2, field)
    first = dict(good.restrictions[0])
    key = next(iter(first))
    with pytest.raises(NotASheafError, match=r"is missing"):
        CellularSheaf(disc, good.stalks, ({k: m for k, m in first.items() if k != key}, {}), field)
    with pytest.raises(NotASheafError, match=r"for no face relation"):
        CellularSheaf(disc, good.stalks, (first | {(2, 9): first[key]}, {}), field)
    with pytest.raises(NotASheafError, match=r"shape 2 × 2; got 1 × 2"):
        CellularSheaf(disc, good.stalks, (first | {key: field.zeros(1, 2)}, {}), field)
    twisted = first | {key: field.matrix([[0, 1], [1, 0]])}
    with pytest.raises(NotASheafError, match=r"two ways from \(0,\) to \(0, 1, 2\) differ"):
        CellularSheaf(disc, good.stalks, (twisted, good.restrictions[1]), field)
    with pytest.raises(NotASheafError, match="a stalk for every face"):
        CellularSheaf(disc, good.stalks[:2], good.restrictions, field)
    with pytest.raises(NotASheafError, match="not invertible"):
        connection_sheaf(SimplicialComplex.of([(0, 1)]), {(0, 1): field.zeros(1, 1)}, field)
    with pytest.raises(NotASheafError, match=r"\(0, 1\) has no transport"):
        connection_sheaf(SimplicialComplex.of([(0, 1)]), {}, field)
    one = field.identity(1)
    with pytest.raises(NotASheafError, match=r"\(1, 0\) is no edge of the graph"):
        connection_sheaf(SimplicialComplex.of([(0, 1)]), {(0, 1): one, (1, 0): one}, field)
    with pytest.raises(NotASheafError, match="lives on a graph"):
        connection_sheaf(disc, {(0, 1): field.identity(1)}, field)
    if field.exact:
        with pytest.raises(LerayError, match="inner product"):
            good.laplacian(0)
        with pytest.raises(LerayError, match="inner product"):
            diffusion(good, field.zeros(6, 1), 1)


@every_field
def test_oracle_a_skyscraper_has_its_stalk_as_sections(field):
    """All of the sheaf sits on one vertex of a triangle's boundary."""
    graph = cycle_graph([0, 1, 2])
    stalks = ((3, 0, 0), (0, 0, 0))
    maps = {
        (s, t): field.zeros(0, stalks[0][s])
        for s, t in zip(*(i.tolist() for i in graph.coboundaries[0].T.nonzero()), strict=True)
    }
    sheaf = CellularSheaf(graph, stalks, (maps,), field)
    assert sheaf.cochains.betti_numbers() == (3, 0)


def test_ways_are_compared_relative_to_the_larger_of_them():
    """One way is exactly zero, the other up to rounding, as 0.1 · 0.3 − 0.3 · 0.1 is not quite."""
    field, disc = Floats(), SimplicialComplex.of([(0, 1, 2)])
    good = constant_sheaf(disc, 1, field)
    first, second = dict(good.restrictions[0]), dict(good.restrictions[1])
    stalks = ((1, 1, 1), (2, 1, 1), (1,))
    first[0, 0], first[1, 0] = field.matrix([[0.7], [-0.1]]), field.zeros(2, 1)
    second[0, 0] = field.matrix([[0.3, 2.1 + 1e-15]])
    for way in ((0, 1), (1, 2), (2, 1), (2, 2)):
        first[way] = field.zeros(1, 1)
    assert field.size(field.mul(second[0, 0], first[0, 0])) > 0
    CellularSheaf(disc, stalks, (first, second), field)
    second[0, 0] = field.matrix([[0.3, 2.1 + 1e-6]])
    with pytest.raises(NotASheafError, match="two ways"):
        CellularSheaf(disc, stalks, (first, second), field)


def test_the_consistency_radius_is_the_largest_gap():
    """Gaps of length 3 and 4 on the two edges of a path, neither along an axis."""
    sheaf = constant_sheaf(SimplicialComplex.of([(0, 1), (1, 2)]), 2, Floats())
    x = torch.tensor([[0.0, 0.0, 1.8, 2.4, 1.8 + 3.2, 2.4 - 2.4]], dtype=torch.float64).T
    assert sheaf.consistency_radius(x) == pytest.approx(4, rel=1e-12)

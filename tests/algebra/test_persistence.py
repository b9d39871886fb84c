"""Persistence pairs: GUDHI's intervals, the ranks of all d_r, a space where the prime matters."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import gudhi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algebra.spaces import RP2, TORUS
from leray.algebra.fields import GF, Q
from leray.algebra.persistence import Filtration, integer_levels, persistence
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import NotFilteredError, SpectralSequence
from leray.errors import LerayError

FACETS = st.lists(
    st.tuples(st.sets(st.integers(-3, 6), min_size=1, max_size=5), st.integers(0, 4)),
    min_size=1,
    max_size=12,
)


def random_filtration(rng, vertices=8, facets=10, gaps=(0.0, 0.25, 1.0)) -> Filtration:
    """Levels that grow from faces to cofaces, with many ties."""
    drawn = [
        rng.choice(vertices, rng.integers(1, 6), replace=False).tolist() for _ in range(facets)
    ]
    space, level = SimplicialComplex.of(drawn), {}
    for face in _all_faces(space):
        below = [level[f] for f in combinations(face, len(face) - 1) if f]
        level[face] = max(below, default=-1.0) + float(rng.choice(gaps))
    return Filtration(space, _arrays(space, level))


def _all_faces(space):
    return [tuple(f) for faces in space.faces for f in faces.tolist()]


def _arrays(space, level):
    return tuple(np.array([level[tuple(f)] for f in faces.tolist()]) for faces in space.faces)


def _gudhi(filtration: Filtration, p: int):
    """GUDHI's intervals of positive length and its pairs of length zero, by dimension."""
    tree = gudhi.SimplexTree()
    for face, level in zip(
        _all_faces(filtration.space), np.concatenate(filtration.levels).tolist(), strict=True
    ):
        tree.insert(face, level)
    tree.compute_persistence(homology_coeff_field=p, persistence_dim_max=True, min_persistence=-1)
    pairs = [
        (len(born) - 1, tree.filtration(born), tree.filtration(died) if died else np.inf)
        for born, died in tree.persistence_pairs()
    ]
    return Counter(t for t in pairs if t[1] < t[2]), Counter(n for n, a, b in pairs if a == b)


def _ours(filtration: Filtration, p: int):
    found = persistence(filtration, GF(p))
    bars = Counter(
        (n, *ends) for n in range(len(found.pairs)) for ends in found.intervals(n).tolist()
    )
    zero = Counter({n: found.num_zero_length(n) for n in range(len(found.pairs))})
    return bars, +zero


@pytest.mark.parametrize("p", [2, 3])
def test_oracle_intervals_are_gudhis(p):
    """Two hundred random filtered complexes over each field, with ties; exactly equal."""
    for seed in range(200):
        filtration = random_filtration(np.random.default_rng(seed), facets=3 + seed % 12)
        assert _ours(filtration, p) == _gudhi(filtration, p)


def test_oracle_a_rips_complex_of_a_circle_is_gudhis():
    """Sixty points on a noisy circle: one long bar in dimension 1."""
    rng = np.random.default_rng(1)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 60))
    points = np.stack([np.cos(angles), np.sin(angles)], 1) + 0.03 * rng.standard_normal((60, 2))
    tree = gudhi.RipsComplex(points=points, max_edge_length=1.2).create_simplex_tree(2)
    level = {tuple(sorted(s)): value for s, value in tree.get_filtration()}
    space = SimplicialComplex.of(list(level))
    filtration = Filtration(space, _arrays(space, level))
    assert _ours(filtration, 2) == _gudhi(filtration, 2)
    bars = persistence(filtration, GF(2)).intervals(1)
    lengths = np.minimum(bars[:, 1], 1.2) - bars[:, 0]
    assert (lengths > 0.5).sum() == 1


@pytest.mark.parametrize("p", [2, 3])
def test_oracle_the_projective_plane_depends_on_the_prime(p):
    """A Möbius band, then the disc that closes it: modulo 2 both its classes stay."""
    closing = min(RP2)
    filtration = Filtration.by_facets(RP2, [float(f == closing) for f in RP2])
    found = persistence(filtration, GF(p))
    assert found.intervals(0).tolist() == [[0, np.inf]]
    assert found.intervals(1).tolist() == [[0, np.inf if p == 2 else 1]]
    assert found.intervals(2).tolist() == ([[1, np.inf]] if p == 2 else [])
    assert found.betti_numbers == filtration.space.betti_numbers(GF(p))
    assert _ours(filtration, p) == _gudhi(filtration, p)


@pytest.mark.parametrize("p", [2, 5])
def test_identity_pairs_of_two_levels_are_the_rank_of_d_r(p):
    for seed in range(40):
        filtration = random_filtration(np.random.default_rng(seed), 6, 6, gaps=(0.0, 1.0, 2.0))
        levels = [a.astype(int).tolist() for a in filtration.levels]
        counts = Counter(
            (n, levels[n][i], levels[n + 1][j])
            for n, rows in enumerate(persistence(filtration, GF(p)).pairs)
            for i, j in rows.tolist()
        )
        ranks = SpectralSequence(filtration.cochains(GF(p))).pairs
        assert counts == Counter({(n, *k): r for n, by in ranks.items() for k, r in by.items()})


@given(FACETS)
def test_oracle_a_face_enters_with_the_first_facet_that_holds_it(given_):
    facets, levels = [tuple(f) for f, _ in given_], [float(t) for _, t in given_]
    found = Filtration.by_facets(facets, levels)
    for faces, own in zip(found.space.faces, found.levels, strict=True):
        for face, level in zip(faces.tolist(), own.tolist(), strict=True):
            assert level == min(t for f, t in zip(facets, levels, strict=True) if {*face} <= {*f})


def test_identity_an_array_of_facets_is_the_list():
    levels = np.linspace(0, 1, len(TORUS))
    found = Filtration.by_facets(np.array(TORUS), levels)
    wanted = Filtration.by_facets(TORUS, levels.tolist())
    assert [a.tolist() for a in found.levels] == [a.tolist() for a in wanted.levels]


def test_integers_stay_and_other_levels_are_ranked():
    whole, other = [np.array([0.0, 7.0]), np.array([-2.0])], [np.array([0.5, 7.0]), np.array([7.0])]
    assert [a.tolist() for a in integer_levels(whole)] == [[0, 7], [-2]]
    assert [a.tolist() for a in integer_levels(other)] == [[0, 1], [1]]
    point = Filtration.by_facets([(4,)], [0.5]).cochains(Q)
    assert point.at(0).tolist() == [0]
    assert SpectralSequence(point).dimensions(0) == {(0, 0): 1}


def test_what_is_no_filtration_is_refused():
    space = SimplicialComplex.of([(0, 1)])
    with pytest.raises(NotFilteredError, match=r"face \[1\] of level 3 enters after its"):
        Filtration(space, (np.array([0.0, 3.0]), np.array([2.0])))
    with pytest.raises(NotFilteredError, match=r"\(2, 1\) faces by dimension .* got \(2,\)"):
        Filtration(space, (np.zeros(2),))
    with pytest.raises(NotFilteredError, match="not a finite number"):
        Filtration(space, (np.array([0.0, np.nan]), np.array([2.0])))
    with pytest.raises(LerayError, match="2 facets need as many levels; got 1"):
        Filtration.by_facets([(0, 1), (1, 2)], [0.0])
    with pytest.raises(LerayError, match=r"over GF\(p\); got Q"):
        persistence(Filtration(space, (np.zeros(2), np.ones(1))), Q)


def test_pairs_that_are_no_partition_or_die_before_birth_are_refused():
    filtration = Filtration.by_facets([(0, 1), (1, 2), (0, 2)], [0.0, 1.0, 2.0])
    found = persistence(filtration, GF(2))
    with pytest.raises(LerayError, match="2 places of 3 faces of dimension 0 are no partition"):
        replace(found, essential=(np.zeros(0, dtype=np.int64), *found.essential[1:]))
    late = found.pairs[0].copy()
    late[:, 0], late[:, 1] = [2, 1], [0, 1]
    with pytest.raises(LerayError, match="face 2 of dimension 0 is killed before its birth"):
        replace(found, pairs=(late, *found.pairs[1:]), essential=(np.array([0]), np.array([2])))

"""Spectral sequences: GUDHI's persistence pairs, the Hopf map, pages that turn, the abutment."""

from __future__ import annotations

from collections import Counter

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import hopf_filtration, random_automorphism, random_filtered
from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import FilteredComplex, NotFilteredError, SpectralSequence

FIELDS = (Q, GF(2), GF(3), Floats())
SEEDS = st.integers(0, 10_000)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)


def _persistence(level, p):
    """GUDHI's pairs of positive or zero length: how many of each dimension, birth and death."""
    tree = gudhi.SimplexTree()
    for simplex, value in level.items():
        tree.insert(simplex, value)
    tree.compute_persistence(homology_coeff_field=p, persistence_dim_max=True, min_persistence=-1)
    return Counter(
        (len(born) - 1, int(tree.filtration(born)), int(tree.filtration(died)))
        for born, died in tree.persistence_pairs()
        if died
    )


def _found(sequence):
    return Counter({(n, a, b): k for n, by in sequence.pairs.items() for (a, b), k in by.items()})


@pytest.mark.parametrize("p", [2, 3])
def test_oracle_ranks_of_d_r_are_gudhis_pairs_of_length_r(p):
    """A thousand random filtered complexes over each field, no mismatch."""
    for seed in range(1_000):
        rng = np.random.default_rng(seed)
        filtered, level = random_filtered(GF(p), rng, vertices=6, facets=2 + seed % 4)
        assert _found(SpectralSequence(filtered)) == _persistence(level, p)


@every_field
@settings(max_examples=15)
@given(SEEDS)
def test_identity_every_page_is_the_cohomology_of_the_one_before(field, seed):
    filtered, _ = random_filtered(field, np.random.default_rng(seed), vertices=5, facets=5)
    sequence = SpectralSequence(filtered)
    for r in range(sequence.stabilizes_at + 1):
        page, after = sequence.page(r), sequence.page(r + 1)
        assert page.dimensions == sequence.dimensions(r)
        d = page.differentials
        for (p, q), dim in page.dimensions.items():
            before, out = d.get((p - r, q + r - 1)), d.get((p, q))
            if before is not None and out is not None:
                product, against = field.mul(out, before), field.size(out) * field.size(before)
                assert field.is_zero(product, 1 + against)
            gone = sum(
                field.rank(m, field.tolerance * 10).value() for m in (before, out) if m is not None
            )
            assert after.dimensions.get((p, q), 0) == dim - gone
    assert sequence.limit.dimensions == sequence.page(sequence.stabilizes_at + 3).dimensions


@every_field
@settings(max_examples=15)
@given(SEEDS)
def test_identity_the_limit_is_the_abutment(field, seed):
    filtered, _ = random_filtered(field, np.random.default_rng(seed), vertices=5, facets=6)
    sequence = SpectralSequence(filtered)
    abutment = sequence.abutment()
    assert sequence.limit.dimensions == abutment
    for n, b in enumerate(filtered.complex.betti_numbers()):
        assert sum(k for (p, q), k in abutment.items() if p + q == n) == b


@every_field
def test_oracle_the_hopf_map(field):
    """E_2 = H(S²) ⊗ H(S¹); d_2 is an isomorphism, since the Euler number is ±1; E_3 is H(S³)."""
    filtered = hopf_filtration(field)
    assert [filtered.complex.dim(n) for n in range(4)] == [12, 48, 72, 36]
    sequence = SpectralSequence(filtered)
    assert sequence.page(2).dimensions == {(0, 0): 1, (0, 1): 1, (2, 0): 1, (2, 1): 1}
    (d,) = [field.rank(m, field.tolerance).value() for m in sequence.page(2).differentials.values()]
    assert d == 1
    assert sequence.page(3).dimensions == sequence.abutment() == {(0, 0): 1, (2, 1): 1}
    assert sequence.stabilizes_at == 3


@pytest.mark.parametrize("k", [0, 1, 2, 3, 6])
@every_field
def test_oracle_a_circle_bundle_has_its_euler_number_as_d_2(field, k):
    """The smallest model: 1 and x from the base, a and ax over them, da = kx."""
    total = CochainComplex.of([[[0]], [[k]], [[0]]], field)
    filtered = FilteredComplex(total, {0: [0], 1: [0], 2: [2], 3: [2]})
    sequence = SpectralSequence(filtered)
    d = sequence.page(2).differentials[0, 1]
    assert abs(abs(float(d[0, 0])) - abs(float(field.matrix([[k]])[0, 0]))) < 1e-12
    p = getattr(field, "p", 0)
    stays = k == 0 or (p and k % p == 0)
    assert (sequence.page(3).dimensions == sequence.page(2).dimensions) == bool(stays)


@every_field
@settings(max_examples=15)
@given(SEEDS)
def test_identity_a_filtration_by_subspaces_has_the_same_pages(field, seed):
    """The same filtration, hidden by a change of basis."""
    rng = np.random.default_rng(seed)
    filtered, _ = random_filtered(field, rng, vertices=4, facets=4)
    c = filtered.complex
    turns = {n: random_automorphism(c.dim(n), field, rng) for n in c.degrees}
    hidden = CochainComplex(
        tuple(field.mul(turns[n + 1][0], field.mul(c.d(n), turns[n][1])) for n in c.degrees[:-1]),
        field,
    )
    lowest, highest = filtered.range.start, filtered.range.stop
    steps = [
        {n: turns[n][0][:, np.flatnonzero(filtered.at(n) >= p)] for n in c.degrees}
        for p in range(lowest + 1, highest)
    ]
    again = SpectralSequence(FilteredComplex.by_subspaces(hidden, steps))
    sequence = SpectralSequence(filtered)
    for r in range(sequence.stabilizes_at + 2):
        moved = {(p + lowest, q - lowest): k for (p, q), k in again.dimensions(r).items()}
        assert moved == sequence.dimensions(r)


def test_what_is_not_filtered_is_refused():
    c = CochainComplex.of([[[1]]], Q)
    with pytest.raises(NotFilteredError, match="d_0 lowers a level: it takes basis vector 0 of"):
        FilteredComplex(c, {0: [1], 1: [0]})
    with pytest.raises(NotFilteredError, match="dimension 1 and 0 levels"):
        FilteredComplex(c, {0: [1]})
    with pytest.raises(NotFilteredError, match="d leaves step 1 from degree 0"):
        FilteredComplex.by_subspaces(c, [{0: Q.identity(1)}])
    with pytest.raises(NotFilteredError, match="step 2 leaves step 1"):
        FilteredComplex.by_subspaces(c, [{}, {1: Q.identity(1)}])
    with pytest.raises(ValueError, match="numbered from 0"):
        SpectralSequence(FilteredComplex(c, {0: [0], 1: [0]})).page(-1)


def test_integers_of_a_path_are_decided_in_single_precision():
    path = SimplicialComplex.of([(i, i + 1) for i in range(49)])
    c = path.cochains(Floats(dtype=torch.float32))
    sequence = SpectralSequence(FilteredComplex(c, {0: [0] * 50, 1: [0] * 49}))
    assert sequence.stabilizes_at == 1
    assert sequence.page(1).dimensions == sequence.abutment() == {(0, 0): 1}


def test_levels_that_are_no_integers_are_refused():
    made = FilteredComplex(CochainComplex.of([[[1]]], Q), {0: [0], 1: [1]})
    object.__setattr__(made, "levels", {0: [0.9], 1: [0.1]})  # past the types of the test run
    with pytest.raises(NotFilteredError, match=r"levels must be integers; got 0.9 in degree 0"):
        made.__post_init__()

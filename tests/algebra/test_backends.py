"""Floats that are no integers agree with exact arithmetic, in both precisions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import random_complex, random_filtered
from algebra.test_exact import random_sequence
from leray.algebra.complexes import CochainComplex, CochainMap
from leray.algebra.exact import ShortExactSequence
from leray.algebra.fields import Floats, Q
from leray.algebra.spectral import FilteredComplex, SpectralSequence

SEEDS = st.integers(0, 10_000)
FIELDS = (Floats(), Floats(dtype=torch.float32))
every_float = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)


def floating(c: CochainComplex, field: Floats) -> CochainComplex:
    """Every differential times an irrational number: nothing is ranked as integers."""
    made = [math.sqrt(2 + n) / 3 * d.astype(float) for n, d in enumerate(c.differentials)]
    return CochainComplex.of(made, field, lowest=c.lowest)


@every_float
@settings(max_examples=20)
@given(SEEDS)
def test_oracle_betti_numbers_and_representatives(field, seed):
    exact, betti = random_complex(Q, np.random.default_rng(seed))
    c = floating(exact, field)
    assert c.betti_numbers() == exact.betti_numbers() == betti
    assert [c.cohomology(n).dim for n in c.degrees] == list(betti)
    assert not any(r.exact for r in c.certificates.values() if r.rank)


@every_float
@settings(max_examples=15)
@given(SEEDS)
def test_oracle_pages_limits_and_abutments(field, seed):
    exact, _ = random_filtered(Q, np.random.default_rng(seed), vertices=5, facets=5)
    one = SpectralSequence(exact)
    two = SpectralSequence(FilteredComplex(floating(exact.complex, field), exact.levels))
    assert one.stabilizes_at == two.stabilizes_at
    for r in range(one.stabilizes_at + 1):
        assert one.page(r).dimensions == two.page(r).dimensions
    assert one.abutment() == two.abutment()


@settings(max_examples=15)
@given(SEEDS)
def test_oracle_long_exact_sequences(seed):
    """δ = f⁻¹ d g⁻¹ scales with d: the same ranks everywhere."""
    exact, _ = random_sequence(Q, np.random.default_rng(seed))
    field = Floats()
    a, b, c = (floating(x, field) for x in (exact.f.source, exact.f.target, exact.g.target))
    f, g = ({n: field.matrix(m.at(n)) for n in exact.degrees} for m in (exact.f, exact.g))
    made = ShortExactSequence(CochainMap(a, b, f), CochainMap(b, c, g))
    for one, two in zip(
        exact.long_exact_sequence().nodes, made.long_exact_sequence().nodes, strict=True
    ):
        assert (one.dim, one.incoming.rank, one.outgoing.rank) == (
            two.dim, two.incoming.rank, two.outgoing.rank,
        )  # fmt: skip

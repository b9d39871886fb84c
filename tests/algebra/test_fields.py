"""The linear algebra of every field: identities that hold over all of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.algebra.fields import GF, Floats, NoSolutionError, Q, field_named
from leray.errors import LerayError

FIELDS = (Q, GF(2), GF(3), GF(2**31 - 1), Floats())
SIZES = st.integers(0, 6)


def _drawn(field, rows, columns, seed):
    return field.matrix(np.random.default_rng(seed).integers(-2, 3, (rows, columns)))


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
@settings(max_examples=25)
@given(SIZES, SIZES, st.integers(0, 999))
def test_identity_kernel_and_image_are_what_they_are(field, m, n, seed):
    a = _drawn(field, m, n, seed)
    kernel, image, rank = field.kernel(a), field.image(a), field.rank(a).value()
    assert kernel.shape == (n, n - rank)
    assert image.shape == (m, rank)
    assert field.is_zero(field.mul(a, kernel), field.size(a) * field.size(kernel))
    assert field.rank(kernel).value() == n - rank
    assert field.rank(field.cat([image, a], 1)).value() == rank


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
@settings(max_examples=25)
@given(SIZES, SIZES, SIZES, st.integers(0, 999))
def test_identity_solve_and_complement(field, m, n, k, seed):
    a, x = _drawn(field, m, n, seed), _drawn(field, n, k, seed + 1)
    b = field.mul(a, x)
    again = field.mul(a, field.solve(a, b))
    difference = field.add(again, field.scale(-1, b))
    assert field.is_zero(difference, field.size(a) * field.size(x))
    whole = _drawn(field, m, k, seed + 2)
    outside = field.complement(a, whole)
    both = field.rank(field.cat([a, whole], 1)).value()
    assert outside.shape[1] == both - field.rank(a).value()
    assert field.rank(field.cat([field.image(a), outside], 1)).value() == both


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
def test_no_solution_is_an_error(field):
    with pytest.raises(NoSolutionError):
        field.solve(field.matrix([[1, 1], [1, 1]]), field.matrix([[1], [0]]))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_oracle_products_modulo_a_large_prime(m, n, k, seed):
    """Python's integers."""
    p = 2**31 - 1
    a, b = (
        np.random.default_rng(seed + i).integers(0, p, s) for i, s in enumerate([(m, n), (n, k)])
    )
    want = a.astype(object) @ b.astype(object) % p
    assert (GF(p).mul(a, b) == want).all()


def test_fractions_have_residues():
    assert GF(5).matrix([[Fraction(1, 2), -1]]).tolist() == [[3, 4]]
    with pytest.raises(LerayError, match="5 divides 10"):
        GF(5).matrix([[Fraction(1, 10)]])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.uint64])
def test_entries_of_every_width_have_residues_modulo_large_primes(dtype):
    for p in (2, 257, 2**31 - 1):
        assert (GF(p).matrix(np.array([[0, 1]], dtype=dtype)) == np.array([[0, 1]])).all()


def test_names():
    assert [field_named(n).name for n in ("q", "7", "float32")] == ["Q", "GF(7)", "float32"]
    for bad in ("R", "4", "0", "-3", str(2**31)):
        with pytest.raises(LerayError):
            field_named(bad)


def test_bad_entries_are_one_line():
    with pytest.raises(LerayError, match=r"0.5 is no exact number"):
        Q.matrix([[0.5]])
    with pytest.raises(LerayError, match="not a finite number"):
        Floats().matrix([[float("inf")]])
    for field in FIELDS:
        with pytest.raises(ValueError, match="two dimensions"):
            field.matrix([1, 2])


def test_floats_stay_in_their_precision():
    single = Floats(dtype=torch.float32)
    a = single.matrix(np.eye(3))
    assert {m.dtype for m in (a, single.kernel(a), single.solve(a, a))} == {torch.float32}


@pytest.mark.parametrize(("dtype", "small"), [(torch.float64, 2e-12), (torch.float32, 1.1e-3)])
def test_what_counts_for_the_rank_counts_for_the_solution(dtype, small):
    field = Floats(dtype=dtype)
    a = field.matrix([[1.5, 0], [0, small]])
    assert field.rank(a).value() == 2
    x = field.solve(a, field.matrix([[1.0], [small / 2]]))
    assert x.flatten().tolist() == pytest.approx([1 / 1.5, 0.5], rel=1e-4)

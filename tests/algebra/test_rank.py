"""Certificates of ranks: exact ranks, near-deficient maps, ill-conditioned integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leray.algebra.rank import UndecidedRankError, float_rank


def _with_values(values, m, n, seed=0):
    """A matrix with these singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(k, len(values))))[0] for k in (m, n))
    return torch.as_tensor(u * values @ v.T)


@given(st.integers(0, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_oracle_integers_have_the_rank_they_were_made_with(r, m, n, seed):
    r = min(r, m, n)
    rng = np.random.default_rng(seed)
    left = np.vstack([np.eye(r, dtype=int), rng.integers(-3, 4, (m - r, r))])
    right = np.hstack([np.eye(r, dtype=int), rng.integers(-3, 4, (r, n - r))])
    certificate = float_rank(torch.as_tensor(left @ right, dtype=torch.float64))
    assert certificate.exact
    assert certificate.value() == r


def test_integers_are_decided_however_ill_conditioned():
    """A Hilbert matrix times the least common denominator: condition number 10¹³."""
    hilbert = [[232792560 // (i + j + 1) for j in range(10)] for i in range(10)]
    assert float_rank(torch.tensor(hilbert, dtype=torch.float64)).value() == 10
    one_less = [*hilbert[:9], [a + b for a, b in zip(*hilbert[:2], strict=True)]]
    assert float_rank(torch.tensor(one_less, dtype=torch.float64)).value() == 9


@pytest.mark.parametrize("power", range(3, 15))
def test_oracle_a_small_singular_value_is_told_or_left_open_never_wrong(power):
    small = 10.0**-power
    certificate = float_rank(_with_values([1.0, 0.7, 0.5, small], 12, 8))
    if certificate.decided:
        assert certificate.value() == 4
        assert certificate.smallest == pytest.approx(small, rel=1e-3)
    else:
        with pytest.raises(UndecidedRankError, match="undecided"):
            certificate.value()
    assert certificate.decided == (power <= 12)


@pytest.mark.parametrize("power", range(1, 13))
def test_oracle_noise_below_a_stated_error_does_not_count(power):
    """The matrix that is meant has rank 3; what is seen is off by at most the stated error."""
    noise = 10.0**-power
    matrix = _with_values([1.0, 0.7, 0.5], 12, 8) + noise * _with_values([1.0] * 5, 12, 8, seed=1)
    certificate = float_rank(matrix, error=1.01 * noise)
    if certificate.decided:
        assert certificate.value() == 3
        assert certificate.gap > 50
    assert certificate.decided == (power >= 3)


def test_what_lies_between_is_undecided():
    certificate = float_rank(_with_values([1.0, 0.7, 1e-6], 12, 8), error=1e-7)
    assert not certificate.decided
    assert (certificate.rank, certificate.gap) == (3, pytest.approx(1e-6 / certificate.next))
    with pytest.raises(UndecidedRankError, match=r"σ_3 = 1e-06 lies within 100 times"):
        certificate.value("d_0")


def test_single_precision_has_its_own_bound():
    matrix = _with_values([1.0, 0.7, 1e-5], 12, 8)
    assert float_rank(matrix).value() == 3
    assert not float_rank(matrix.float()).decided


def test_zero_and_empty_matrices_are_exact():
    for shape in ((0, 0), (0, 3), (3, 0), (2, 3)):
        assert float_rank(torch.zeros(shape)).value() == 0


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="not finite"):
        float_rank(torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match="≥ 0"):
        float_rank(torch.ones(1, 1), error=-1.0)


def test_the_path_graph_in_single_precision_has_one_component():
    """Its smallest singular value, 2 sin(π/2n) = 3e-4, lies under NumPy's default tolerance."""
    n = 10_000
    d = torch.zeros(n - 1, n)
    d[range(n - 1), range(n - 1)] = -1
    d[range(n - 1), range(1, n)] = 1
    certificate = float_rank(d)
    assert certificate.exact
    assert n - certificate.value() == 1
    assert 2 * np.sin(np.pi / (2 * n)) < n * torch.finfo(torch.float32).eps * 2


def test_weights_of_single_precision_are_decided_by_their_own_rounding():
    """A path of 400 vertices with weights that are no integers: σ_min lies 3 decades above."""
    rng = np.random.default_rng(0)
    d = torch.zeros(399, 400)
    weights = torch.as_tensor(rng.uniform(0.5, 1.5, 399), dtype=torch.float32)
    d[range(399), range(399)] = -weights
    d[range(399), range(1, 400)] = weights
    certificate = float_rank(d)
    assert not certificate.exact
    assert certificate.value() == 399


def test_a_large_integer_matrix_that_is_not_full_says_by_which_prime():
    d = torch.zeros(2001, 2001)
    d[range(2000), range(2000)] = 2
    certificate = float_rank(d)
    assert (certificate.value(), certificate.exact) == (2000, False)
    assert "modulo 2147483647" in certificate.how


@pytest.mark.parametrize("power", range(3, 13))
def test_oracle_rounding_to_single_precision_is_within_its_bound(power):
    """Planted values: the bound holds what rounding did to them, and is no wider than it must."""
    small = 10.0**-power
    matrix = _with_values([1.0, 0.7, 0.5, small], 12, 8)
    certificate = float_rank(matrix.float())
    rounding = torch.finfo(torch.float32).eps * float(torch.linalg.norm(matrix))
    assert rounding / 2 < certificate.error < 2 * rounding
    fourth = certificate.smallest if certificate.rank == 4 else certificate.next
    assert abs(fourth - small) <= certificate.error
    if certificate.decided:
        assert certificate.value() == (4 if small > certificate.error else 3)
    assert certificate.decided == (power not in (5, 6))

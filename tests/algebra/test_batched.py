"""Ranks of a batch: bounds against the singular values, planted complexes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algebra.spaces import random_complex
from leray.algebra.batched import _by_values, batched_betti_numbers, batched_ranks
from leray.algebra.complexes import NotAComplexError
from leray.algebra.fields import Floats
from leray.algebra.rank import UndecidedRankError
from leray.errors import LerayError


def low_rank(rng: np.random.Generator, shape: tuple[int, int, int], r: int) -> torch.Tensor:
    batch, m, n = shape
    return torch.as_tensor(rng.normal(size=(batch, m, r)) @ rng.normal(size=(batch, r, n)))


@given(st.integers(0, 999), st.integers(1, 20), st.integers(1, 20), st.integers(0, 20))
def test_oracle_bounds_hold_the_singular_values(seed, m, n, r):
    """Oracle: LAPACK's singular values lie on the right sides of both bounds."""
    r = min(r, m, n)
    a = low_rank(np.random.default_rng(seed), (5, m, n), r)
    found = batched_ranks(a)
    assert bool(found.decided.all())
    assert found.values().tolist() == [r] * 5
    s = np.pad(np.linalg.svd(a.numpy(), compute_uv=False), ((0, 0), (0, 1)))
    if r:
        assert bool((found.smallest.numpy() <= s[:, r - 1] * (1 + 1e-12)).all())
        assert bool((found.smallest.numpy() >= 1e-4 * s[:, r - 1] / (m * n)).all())
    rounding = 4 * max(m, n) * np.finfo(float).eps * s[:, 0]
    assert bool((found.next.numpy() >= s[:, r] - rounding).all())
    assert bool((found.next <= found.error).all())


@pytest.mark.parametrize("shape", [(300, 24, 18), (300, 18, 24)])
def test_threads_and_ways_agree(shape):
    """A batch that is divided among threads, and singular values of all of it."""
    rng = np.random.default_rng(1)
    a = torch.cat([low_rank(rng, (shape[0] // 10, *shape[1:]), r) for r in range(10)])
    found = batched_ranks(a)
    rank, *_ = _by_values(a, 24 * torch.finfo(torch.float64).eps)
    assert found.rank.tolist() == rank.tolist() == [k // 30 for k in range(300)]


def test_what_elimination_leaves_open_is_ranked_by_values():
    """Kahan's matrix: its bounds from triangles are far too low, its rank is full."""
    n, c = 90, 0.285
    s = np.sqrt(1 - c * c)
    kahan = np.diag(s ** np.arange(n)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))
    found = batched_ranks(torch.as_tensor(np.stack([kahan, np.eye(n)])))
    values = np.linalg.svd(kahan, compute_uv=False)
    assert found.rank.tolist()[1] == n
    assert float(found.smallest[0]) <= values[int(found.rank[0]) - 1] + 1e-14


@pytest.mark.parametrize("power", range(3, 15))
def test_a_small_singular_value_is_told_or_left_open(power):
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(k, 4)))[0] for k in (12, 8))
    a = torch.as_tensor(u * [1.0, 0.7, 0.5, 10.0**-power] @ v.T)
    found = batched_ranks(torch.stack([a, low_rank(rng, (1, 12, 8), 3)[0]]))
    assert bool(found.decided[1])
    if bool(found.decided[0]):
        assert found.values().tolist() == [4, 3]
    else:
        with pytest.raises(UndecidedRankError, match="d_0, number 0 of the batch"):
            found.values("d_0")
    assert bool(found.decided[0]) == (power <= 12)


def test_single_precision_knows_its_rounding():
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(k, 3)))[0] for k in (12, 8))
    a = torch.as_tensor(u * [1.0, 0.7, 1e-5] @ v.T)[None]
    assert batched_ranks(a).values().tolist() == [3]
    assert not bool(batched_ranks(a.float()).decided[0])


@given(st.integers(0, 999))
def test_betti_numbers_are_those_of_each_complex(seed):
    rng = np.random.default_rng(seed)
    field = Floats()
    one, betti = random_complex(field, rng)
    scaled = [[(k + 1) * one.d(n) for k in range(4)] for n in range(3)]
    found = batched_betti_numbers([torch.stack(ds) for ds in scaled])
    assert found.tolist() == [list(betti)] * 4


def test_refusals_and_empty_batches():
    ones = torch.ones(2, 3, 3, dtype=torch.float64)
    with pytest.raises(NotAComplexError, match=r"number 0 of the batch is no complex: d_1 d_0"):
        batched_betti_numbers([ones, ones])
    with pytest.raises(NotAComplexError, match=r"d_1 \[2, 3, 3\] does not follow d_0 \[2, 2, 3\]"):
        batched_betti_numbers([ones[:, :2], ones])
    with pytest.raises(LerayError, match="not finite"):
        batched_ranks(ones * torch.nan)
    with pytest.raises(LerayError, match="at least one differential"):
        batched_betti_numbers([])
    assert batched_ranks(torch.zeros(0, 3, 2)).values().tolist() == []
    assert batched_ranks(torch.zeros(2, 0, 2)).values().tolist() == [0, 0]
    assert batched_ranks(torch.zeros(2, 3, 2)).values().tolist() == [0, 0]
    assert batched_ranks(ones).certificate(1).rank == 1


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-100, 1e100, 1e200])
def test_squares_that_leave_the_range_of_floats_change_no_rank(scale):
    a = low_rank(np.random.default_rng(3), (4, 5, 4), 2)
    found = batched_ranks(scale * a)
    assert found.values().tolist() == [2] * 4
    assert bool((found.smallest > 0).all())


def test_a_composition_that_the_ranks_do_not_bear_is_undecided():
    """d d = 1e-12 passes for zero, and 1e-12 for a singular value: both cannot be taken off."""
    before = torch.tensor([[[1.1, 0.0], [0.0, 1e-12]]], dtype=torch.float64)
    after = torch.tensor([[[0.0, 1.1]]], dtype=torch.float64)
    with pytest.raises(UndecidedRankError, match="Betti number in degree 1 is undecided"):
        batched_betti_numbers([before, after])

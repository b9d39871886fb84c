"""Maps with backward passes written out: against torch's own and against differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.lm.pointwise import heads_of_length, rms_norm, rotated, squared_relu, turns_of


def drawn(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_()


def same(found: Tensor, wanted: Tensor, inputs: list[Tensor]) -> None:
    """Values, and gradients of a random direction."""
    torch.testing.assert_close(found, wanted)
    way = drawn(99, *found.shape).detach()
    grads = [torch.autograd.grad((y * way).sum(), inputs) for y in (found, wanted)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


@given(st.integers(0, 99), st.integers(1, 9), st.sampled_from([1.0, 1e-9, 1e6]))
def test_oracle_torchs_rms_norm(seed, d, size):
    x = drawn(seed, 2, 3, d)
    same(rms_norm(size * x), F.rms_norm(size * x, (d,)), [x])


@given(st.integers(0, 99), st.integers(1, 9))
def test_oracle_torchs_squared_relu(seed, d):
    x = drawn(seed, 3, d)
    same(squared_relu(x), F.relu(x).square(), [x])


@pytest.mark.parametrize("is_turned", [False, True])
@given(st.integers(0, 99), st.integers(1, 7), st.sampled_from([2, 6]))
def test_oracle_torchs_unit_heads_turned_as_complex_numbers(is_turned, seed, time, d):
    x, length = drawn(seed, 2, time, 3, d), drawn(seed + 1, 3, 1, 1)
    heads = x.transpose(1, 2)  # as they come: not contiguous
    wanted = length * F.normalize(heads, dim=-1)
    if is_turned:
        rates = 50.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        angles = torch.arange(time, dtype=torch.float64)[:, None] * rates
        z = torch.complex(*wanted.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
        wanted = torch.cat([z.real, z.imag], dim=-1)
    turns = turns_of(time, d, 50.0, x) if is_turned else None
    same(heads_of_length(heads, length, turns), wanted, [x, length])


def test_gradients_are_differences():
    """Oracle: finite differences in float64."""
    x, length = drawn(0, 1, 2, 3, 4), drawn(1, 2, 1, 1)
    turns = turns_of(3, 4, 10.0, x)
    assert torch.autograd.gradcheck(lambda x, c: heads_of_length(x, c, turns), (x, length))
    assert torch.autograd.gradcheck(rms_norm, (x,))
    assert torch.autograd.gradcheck(squared_relu, (x,))


def test_nothing_is_made_of_zeros():
    """A head of zeros stays one, and its gradients are finite."""
    x, length = torch.zeros(1, 1, 2, 4, requires_grad=True), torch.ones(1, 1, 1)
    y = heads_of_length(x, length, turns_of(2, 4, 10.0, x))
    assert torch.equal(y, torch.zeros_like(y))
    z = rms_norm(x)
    assert torch.equal(z, torch.zeros_like(z))
    for grad in torch.autograd.grad((y + z).sum(), (x,)):
        assert bool(grad.isfinite().all())


@given(st.integers(0, 99), st.integers(1, 9))
def test_identity_turning_back_undoes_it_and_keeps_lengths(seed, time):
    x = drawn(seed, 2, time, 6)
    turns = turns_of(time, 6, 100.0, x)
    y = rotated(x, turns)
    torch.testing.assert_close(rotated(y, turns, -1), x)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))

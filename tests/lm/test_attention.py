"""Attention in a window: against dense masked attention, forward and backward, and causal."""

from __future__ import annotations

from inspect import unwrap  # past the shape checks of the test run

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leray.lm.attention import causal_attention


def dense(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """The definition, written out."""
    time = q.shape[-2]
    t, s = torch.arange(time)[:, None], torch.arange(time)[None]
    seen = (s <= t) & (s > t - (window or time))
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=g, dtype=dtype).requires_grad_() for _ in range(3))


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(1, 45)), st.integers(0, 99))
def test_oracle_dense_masked_attention_and_its_gradients(time, window, seed):
    q, k, v = drawn(seed, 2, 3, time, 4)
    weights = torch.randn(2, 3, time, 4, dtype=torch.float64)
    found, wanted = causal_attention(q, k, v, window), dense(q, k, v, window)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    for x, y in zip(
        torch.autograd.grad((found * weights).sum(), (q, k, v)),
        torch.autograd.grad((wanted * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(7, 4), (3, 7, 4), (2, 3, 2, 7, 4)])
def test_any_number_of_axes_and_values_of_another_width(shape):
    q, k, _ = drawn(0, *shape)
    v = torch.randn(*shape[:-1], 5, dtype=torch.float64)
    torch.testing.assert_close(causal_attention(q, k, v, 3), dense(q, k, v, 3))


def test_gradients_are_differences():
    """Oracle: finite differences in float64, over a boundary of blocks."""
    assert torch.autograd.gradcheck(
        lambda q, k, v: causal_attention(q, k, v, 3), drawn(1, 1, 1, 8, 2)
    )


@given(st.integers(2, 30), st.integers(1, 12), st.data())
def test_identity_a_token_changes_nothing_before_it_nor_beyond_its_window(time, window, data):
    t = data.draw(st.integers(0, time - 1))
    q, k, v = (x.detach() for x in drawn(time, 1, 2, time, 4))
    before = causal_attention(q, k, v, window)
    for x in (q, k, v):
        x[..., t, :] += 1.0
    changed = (causal_attention(q, k, v, window) != before).any(-1).flatten(0, 1).any(0)
    assert not bool(changed[:t].any())
    assert not bool(changed[t + window :].any())
    assert bool(changed[t])


def test_single_precision_agrees_to_a_hundred_thousandth():
    q, k, v = (x.detach() for x in drawn(3, 1, 2, 1000, 16, dtype=torch.float32))
    exact = dense(q.double(), k.double(), v.double(), 64)
    assert float((causal_attention(q, k, v, 64) - exact).abs().max()) < 1e-5


def test_refusals():
    q = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="at least the token itself, 1; got 0"):
        causal_attention(q, q, q, 0)
    with pytest.raises(ValueError, match=r"q and k must be \[..., time, d\]"):
        unwrap(causal_attention)(q, q[:3], q, 2)

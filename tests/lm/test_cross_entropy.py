"""The capped cross-entropy: against torch's, forward and backward, in any number of chunks."""

from __future__ import annotations

from inspect import unwrap  # past the shape checks of the test run

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.lm import cross_entropy as module
from leray.lm.cross_entropy import capped_cross_entropy


def drawn(seed: int, rows: int, classes: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(rows, width, generator=g, dtype=torch.float64)
    weight = torch.randn(classes, width, generator=g, dtype=torch.float64)
    targets = torch.randint(classes, (rows,), generator=g)
    return x.requires_grad_(), weight.requires_grad_(), targets


@given(
    st.integers(0, 99), st.integers(1, 9), st.integers(1, 7), st.integers(1, 40),
    st.sampled_from([0.5, 3.0, 15.0]),
)  # fmt: skip
def test_oracle_torchs_cross_entropy_and_its_gradients(seed, rows, classes, held, cap):
    x, weight, targets = drawn(seed, rows, classes, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.LOGITS, "cpu", held)
        found = capped_cross_entropy(x, weight, targets, cap)
    wanted = F.cross_entropy(cap * torch.tanh(x @ weight.T / cap), targets)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    grads = [torch.autograd.grad(2.5 * y, (x, weight)) for y in (found, wanted)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_oracle_the_least_probability_in_single_precision():
    """The largest cap, the target at its bottom and all others at its top."""
    x, weight = torch.full((2, 1), 100.0), torch.tensor([[-10.0], *[[10.0]] * 999])
    found = capped_cross_entropy(x, weight, torch.zeros(2, dtype=torch.int64), 30.0)
    assert float(found) == pytest.approx(60 + float(torch.tensor(999.0).log()), rel=1e-5)


def test_without_gradients_it_is_the_same_number():
    x, weight, targets = drawn(0, 5, 4, 3)
    with torch.no_grad():
        quiet = capped_cross_entropy(x, weight, targets, 15.0)
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, capped_cross_entropy(x, weight, targets, 15.0).detach())


def test_half_precision_sums_in_single():
    """Within a hundredth of the exact loss, where a sum in bfloat16 loses small classes."""
    x, weight, targets = drawn(1, 6, 3000, 4)
    half = [y.detach().bfloat16().requires_grad_() for y in (0.1 * x, weight)]
    exact = capped_cross_entropy(half[0].double(), half[1].double(), targets, 15.0)
    found = capped_cross_entropy(half[0], half[1], targets, 15.0)
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(exact.detach()), abs=0.01)
    for ours, theirs in zip(*(torch.autograd.grad(y, half) for y in (found, exact)), strict=True):
        assert ours.dtype == torch.bfloat16
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02


def test_refusals():
    x, weight, targets = drawn(2, 3, 4, 2)
    for cap in (0.0, 31.0, float("nan")):
        with pytest.raises(ValueError, match=rf"above 0 and at most 30; got {cap}"):
            capped_cross_entropy(x, weight, targets, cap)
    with pytest.raises(ValueError, match=r"got \[3, 2\], \[4, 2\] and \[2\]"):
        unwrap(capped_cross_entropy)(x, weight, targets[:2], 15.0)

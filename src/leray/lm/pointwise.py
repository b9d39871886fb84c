"""Maps of a token by itself whose backward passes are written out.

On a processor these maps cost what they read and write, and torch's own chains of them keep and
pass over every intermediate result. Written out, each keeps one tensor that is there anyway:

- RMS norm, y = r x with r = (mean x² + ε)^{−1/2}: ∂x = r (g − y · mean(g y));
- squared ReLU, y = p² with p = max(x, 0): ∂x = 2 p g;
- heads of length γ turned by a rotation, y = γ R x / |x|: with h = Rᵀ g and the unit u = x / |x|,
  ∂x = γ/|x| (h − u (u·h)) and ∂γ = u·h. Rotary positions turn the pair (x_i, x_{i + d/2}) of token
  t by the angle t · base^{−2i/d}.

Source: Zhang and Sennrich, RMSNorm (arXiv 1910.07467); So et al., Primer (arXiv 2109.08668); Henry
et al., QK-norm (arXiv 2010.04245); Su et al., RoPE (arXiv 2104.09864).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

SHORTEST = 1e-12
"""A head shorter than this is not stretched to unit length."""


class Turns(NamedTuple):
    """The angles of rotary positions: cosines and sines, made once for all layers."""

    cos: Float[Tensor, "t half"]
    sin: Float[Tensor, "t half"]


def turns_of(time: int, d: int, base: float, like: Tensor) -> Turns:
    """Of tokens 0, …, time − 1 and heads of d, taken in float64; device and type of ``like``."""
    rates = base ** (-torch.arange(0, d, 2, device=like.device, dtype=torch.float64) / d)
    angles = torch.arange(time, device=like.device, dtype=torch.float64)[:, None] * rates
    return Turns(angles.cos().to(like.dtype), angles.sin().to(like.dtype))


def rotated(
    x: Float[Tensor, "*batch t d"], turns: Turns, sign: int = 1
) -> Float[Tensor, "*batch t d"]:
    """Every pair turned by its angle, or back by it where ``sign`` is −1."""
    (one, two), (cos, sin) = x.chunk(2, dim=-1), turns
    return torch.cat(
        [
            torch.addcmul(one * cos, two, sin, value=-sign),
            torch.addcmul(two * cos, one, sin, value=sign),
        ],
        dim=-1,
    )


def rms_norm(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """x divided by the root of its mean square, along the last axis."""
    return _RMSNorm.apply(x)


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """max(x, 0)²."""
    return _SquaredReLU.apply(x)


def heads_of_length(
    x: Float[Tensor, "b h t d"], length: Float[Tensor, "h 1 1"], turns: Turns | None
) -> Float[Tensor, "b h t d"]:
    """Heads stretched to γ = ``length``, then turned where there are ``turns``."""
    cos, sin = (None, None) if turns is None else turns
    return _HeadsOfLength.apply(x, length, cos, sin)


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        d, epsilon = x.shape[-1], torch.finfo(x.dtype).eps
        scale = (torch.linalg.vecdot(x, x).unsqueeze(-1) / d + epsilon).rsqrt()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, scale = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, y).unsqueeze(-1) / y.shape[-1]
        return torch.addcmul(grad, y, along, value=-1).mul_(scale)


class _SquaredReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


class _HeadsOfLength(Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, length: Tensor, cos: Tensor | None, sin: Tensor | None
    ) -> Tensor:
        x = x.contiguous()  # heads apart once: all that follows is then twice as quick
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(SHORTEST)
        ctx.save_for_backward(x, length, norm, cos, sin)
        y = x * (length / norm)
        return y if cos is None or sin is None else rotated(y, Turns(cos, sin))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, length, norm, cos, sin = ctx.saved_tensors
        back = grad.contiguous()
        back = back if cos is None else rotated(back, Turns(cos, sin), -1)
        along = torch.linalg.vecdot(x, back).unsqueeze(-1) / norm
        grad_x = torch.addcmul(back, x, along / norm, value=-1)
        return grad_x.mul_(length / norm), along.sum((0, 2), keepdim=True)[0], None, None

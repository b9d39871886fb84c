"""Sections along a text from their coboundary: a gated linear recurrence.

Over the path of a text a sheaf has a stalk ℝᵈ at every token, and the step from t − 1 to t carries
a value by the restriction map A_t, here diagonal with entries in (0, 1) read off token t. Its
coboundary, read at the later end of each edge (with one edge from nothing at the beginning), is

    (δ_A h)_t = h_t − A_t h_{t−1},    h_{−1} = 0.

A path has no cohomology in degree 1, so to every b there is exactly one h with δ_A h = b: local
data glue to one section of the whole text, which depends on all that was before,

    h_t = Σ_s (A_t ⋯ A_{s+1}) b_s,    b_s = (1 − A_s) x_s W_v,

transport from s to t by the product of the maps between. :mod:`leray.lm.coboundary` takes a
coboundary; this inverts one. The branch is y = (h ⊙ silu(x W_g)) W_o. Where A is constant, this is
an exponential mean of the past.

Source: Martin and Cundy, Parallelizing linear recurrent networks (arXiv 1709.04057), and De et al.,
Griffin (arXiv 2402.19427), for gated linear recurrences; Qin et al., HGRN (arXiv 2311.04823), for
1 − A on the input; Curry, Sheaves, cosheaves and applications (arXiv 1303.3255), for cellular
sheaves.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

LONGEST = 128.0
"""Tokens after which the slowest channel has forgotten 1 − 1/e, at the start."""


class GatedRecurrence(nn.Module):
    """The section whose coboundary is read off the stream, gated and mapped back.

    Cost: 4 · width² + width weights and as many multiplications a token as weights: as attention
    without its scores.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        # Channels begin with memories of 1 to LONGEST tokens, evenly on a logarithmic scale.
        kept = torch.exp(-1 / LONGEST ** torch.linspace(0, 1, width))
        self.keep = nn.Parameter(torch.logit(kept))

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        value, kept, gate = self.into(x).chunk(3, dim=-1)
        kept = torch.sigmoid(kept + self.keep)
        h = section(kept, value - kept * value)
        return self.out(h * F.silu(gate))


def section(
    kept: Float[Tensor, "b t width"], b: Float[Tensor, "b t width"]
) -> Float[Tensor, "b t width"]:
    """The h with h_t − kept_t h_{t−1} = b_t, 0 before the text.

    Cost: 2 · t · width multiplications, one token after the other.
    """
    return _Section.apply(kept, b)


class _Section(Function):
    @staticmethod
    def forward(ctx: Any, kept: Tensor, b: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        kept, h = _time_first(kept), _time_first(b)
        if _at_once(h):
            h = _doubled(kept, h)
        else:
            for now, before, factor in zip(
                h[1:].unbind(), h.unbind(), kept[1:].unbind(), strict=False
            ):
                now.addcmul_(factor, before)
        ctx.save_for_backward(kept, h)
        return h.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        kept, h = ctx.saved_tensors
        grad_b = _time_first(grad)
        if _at_once(h):
            grad_b = _doubled(kept.roll(-1, 0).flip(0), grad_b.flip(0)).flip(0)
        else:
            steps = zip(grad_b.unbind(), grad_b[1:].unbind(), kept[1:].unbind(), strict=False)
            for now, after, factor in reversed(list(steps)):
                now.addcmul_(factor, after)
        grad_kept = nn.functional.pad(grad_b[1:] * h[:-1], (0, 0, 0, 0, 1, 0))
        return grad_kept.transpose(0, 1), grad_b.transpose(0, 1)


def _at_once(x: Tensor) -> bool:
    """Whether starting a kernel costs more than its work."""
    return x.is_cuda


def _doubled(kept: Tensor, b: Tensor) -> Tensor:
    """The h with h_t − kept_t h_{t−1} = b_t, all tokens at once in log₂ t steps.

    After each step h_t and the factor hold what the last 1, 2, 4, … tokens give (Hillis and Steele,
    Data parallel algorithms, 1986).
    """
    h, factor, reach = b, kept, 1
    while reach < len(b):
        h = torch.cat([h[:reach], torch.addcmul(h[reach:], factor[reach:], h[:-reach])])
        factor = torch.cat([factor[:reach], factor[reach:] * factor[:-reach]])
        reach *= 2
    return h


def _time_first(x: Tensor) -> Tensor:
    """A copy ``[t, b, width]``: every step of a recurrence is a pass over neighbouring numbers."""
    return x.transpose(0, 1).clone(memory_format=torch.contiguous_format)

"""The coboundary of a text and the cup product with it.

A text is a path, its tokens the vertices and its steps the edges, and a channel x is a 0-cochain.
Read at the later end of each edge (with one edge from nothing at the beginning),

    (δx)_t = x_t − x_{t−1},    x_{−1} = 0.

Shift: x ↦ x − μ ∘ δx = (1 − μ) ∘ x_t + μ ∘ x_{t−1}, one weight a channel. This is the token shift
of RWKV, which we call by both names: the coboundary adds no more to it than an interpretation.

Cup gate: y = (act((x − μ ∘ δx) W_g) ⊙ x W_v) W_o. Where act is the identity and μ one number, this
is a cup product exactly: with a = x W_g and f = x W_v, by Alexander and Whitney's formula read at
the edge's later end, (δa ⌣ f)(t−1, t) = (δa)_t f_t, so that the gate is a f − μ (δa ⌣ f). With
act = silu and μ a vector it is an analogue of that, no more.

Source: Peng et al., RWKV (arXiv 2305.13048), for the shift; Shazeer, GLU variants (arXiv
2002.05202); Hatcher, Algebraic Topology §3.2, for the cup product.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leray.lm.convolution import delayed


def coboundary(x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
    """δx: every token less the one before it, zero before the text."""
    return x - delayed(x)


class Shift(nn.Module):
    """x − μ ∘ δx, with one learned μ a channel, ½ at the start.

    Cost: width weights, and 2 · width multiplications a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        return torch.lerp(x, delayed(x), self.weight)

"""Short causal convolutions: every channel sees its own last few values.

    y_t = x_t + Σ_{i=0}^{n−1} c_i ∘ x_{t−i},    x_s = 0 before the text,

n weights a channel, c = 0 at the start, so that the model begins without. Of cohomology this has
nothing; it is the fair rival of what has.

Source: So et al., Primer (arXiv 2109.08668), on queries, keys and values; Allen-Zhu, Physics of
language models 4.1 (2025), Canon layers: on the input of every branch, with a residual.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ShortConvolution(nn.Module):
    """A convolution of every channel with itself.

    Args:
        kernel: n ≥ 1, how many tokens, the present one included.

    Cost: n · width weights, and as many multiplications a token.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kernel, width))

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        y = torch.addcmul(x, x, self.weight[0])
        for i in range(1, min(len(self.weight), x.shape[1])):
            y = y + delayed(x, i) * self.weight[i]
        return y


def delayed(x: Float[Tensor, "b t width"], steps: int = 1) -> Float[Tensor, "b t width"]:
    """x_{t − steps}, zero before the text."""
    return nn.functional.pad(x, (0, 0, steps, 0))[:, : x.shape[1]]

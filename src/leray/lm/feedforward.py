"""What a block does to every token by itself: three feed-forward networks of one interface.

- ``relu2``: relu(x U)² D, two matrices;
- ``swiglu``: (silu(x G) ⊙ x U) D, three;
- ``cup``: (silu((x − μ ∘ δx) G) ⊙ x U) D, three and one weight a channel; see
  :mod:`leray.lm.coboundary` for when that is a cup product.

Source: So et al., Primer (arXiv 2109.08668); Shazeer, GLU variants (arXiv 2002.05202).
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.lm.coboundary import Shift
from leray.lm.pointwise import squared_relu

FeedForwardKind = Literal["relu2", "swiglu", "cup"]


class FeedForward(nn.Module):
    """One of the three, from width to hidden and back, without biases."""

    def __init__(self, width: int, hidden: int, kind: FeedForwardKind) -> None:
        super().__init__()
        self.kind = kind
        self.up = nn.Linear(width, hidden, bias=False)
        self.gate = None if kind == "relu2" else nn.Linear(width, hidden, bias=False)
        self.shift = Shift(width) if kind == "cup" else None
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        if self.gate is None:
            return self.down(squared_relu(self.up(x)))
        seen = x if self.shift is None else self.shift(x)
        return self.down(F.silu(self.gate(seen)) * self.up(x))


def default_hidden(width: int, kind: FeedForwardKind) -> int:
    """4 · width for two matrices, ⌈8 · width / 3⌉ for three: equal in weights."""
    return 4 * width if kind == "relu2" else -(-8 * width // 3)

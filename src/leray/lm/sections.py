"""A memory of past sections: whole blocks of the past, each kept as one key and one value.

The text is cut into blocks of n tokens. When a block is complete, the mean of its keys and that of
its values are stored, a restriction of the block's section to its average. A token attends, beside
what its window shows, to all blocks complete before its own, and to a learned empty section, so
that it may take nothing:

    y_t = local_t + g ∘ Σ_b a_tb v̄_b,    b complete before the block of t,

with one learned g a head, 0 at the start. Every layer, and so every level, stores its own.

Source: Rae et al., Compressive transformers (arXiv 1911.05507), whose older past is compressed;
that the stored thing is a section and its mean a restriction is our reading, and adds no identity.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class SectionMemory(nn.Module):
    """The memory of one layer.

    Args:
        block: n ≥ 1 tokens.

    Cost: T² d / n multiplications a head and T/n stored pairs.
    """

    def __init__(self, num_heads: int, head_dim: int, block: int) -> None:
        super().__init__()
        self.block = block
        self.empty = nn.Parameter(torch.zeros(num_heads, 1, head_dim))
        self.gain = nn.Parameter(torch.zeros(num_heads, 1, 1))

    def forward(
        self, q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h t d"], v: Float[Tensor, "b h t d"]
    ) -> Float[Tensor, "b h t d"]:
        """What the memory adds to the local sections."""
        time, num = q.shape[-2], q.shape[-2] // self.block
        empty = self.empty.expand(len(q), -1, -1, -1)
        keys = torch.cat([empty, self._means(k, num)], dim=-2)
        values = torch.cat([torch.zeros_like(empty), self._means(v, num)], dim=-2)
        own = torch.arange(time, device=q.device)[:, None] // self.block
        seen = torch.arange(num + 1, device=q.device)[None] <= own
        return self.gain * F.scaled_dot_product_attention(q, keys, values, attn_mask=seen)

    def _means(self, x: Tensor, num: int) -> Tensor:
        return x[..., : num * self.block, :].unflatten(-2, (num, self.block)).mean(-2)

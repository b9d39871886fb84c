"""GPT-2, the decoder of 2019 that much is still compared with: the second reference.

Beside :mod:`leray.lm.model` it has positions that are learned, one vector for each place of the
context; layer norms with a scale and a shift, LN(x) = g (x − mean x) / √(var x + ε) + b; biases in
every map; and in place of the squared ReLU

    GELU(x) ≈ ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).

Embeddings are tied to the output. Weights begin as N(0, .02²); those of the 2L maps that add to the
stream as N(0, .02² / 2L), so that the stream's variance does not grow with the depth. No dropout:
on one pass over the data there is nothing to regularise. Without biases it is the model that
small reproductions train today.

Source: Radford et al., Language models are unsupervised multitask learners (2019), §2.3; Hendrycks
and Gimpel, GELU (arXiv 1606.08415); Ba et al., Layer normalization (arXiv 1607.06450). We differ in
the positions: the code of 2019 drew them as N(0, .01²), later ones at .02, as here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.lm.attention import causal_attention

SPREAD = 0.02
"""Standard deviation of a weight at the beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GPT2Config:
    """The shape of a GPT-2."""

    num_tokens: int
    """Of the vocabulary."""
    context: int
    """The most tokens that it can read: every place has a vector of its own."""
    width: int = 64
    num_layers: int = 2
    num_heads: int = 2
    bias: bool = True
    """In the maps and in the norms."""

    def __post_init__(self) -> None:
        sizes = (self.num_tokens, self.context, self.width, self.num_layers, self.num_heads)
        if min(sizes) < 1:
            raise ValueError(
                "num_tokens, context, width, num_layers and num_heads must be ≥ 1; got "
                f"{', '.join(map(str, sizes))}"
            )
        if self.width % self.num_heads:
            raise ValueError(
                f"width must be a multiple of the heads, {self.num_heads}; got {self.width}"
            )


class Block(nn.Module):
    """Causal attention, then a GELU of four times the width, each normed and added."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        width, bias = config.width, config.bias
        self.num_heads = config.num_heads
        self.norm_attention = nn.LayerNorm(width, bias=bias)
        self.into = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.norm_mlp = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        x = x + self._attention(self.norm_attention(x))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))

    def _attention(self, x: Tensor) -> Tensor:
        parts = self.into(x).chunk(3, dim=-1)
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in parts)
        return self.out(causal_attention(q, k, v).transpose(1, 2).flatten(2))


class GPT2(nn.Module):
    """The decoder.

    Args:
        generator: What the weights are drawn from: the same numbers on every device, if it is of
            the CPU.
    """

    def __init__(self, config: GPT2Config, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_tokens, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width, bias=config.bias)
        self._draw(generator)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t classes"]:
        """Logits at every token, of what comes next.

        Raises:
            ValueError: More tokens than the context holds.
        """
        time = tokens.shape[1]
        if time > self.config.context:
            raise ValueError(
                f"the context holds {self.config.context} tokens; got {time}: cut the text, or "
                "make the model with a longer context"
            )
        x = self.embedding(tokens) + self.positions.weight[:time]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        """Scales one and shifts zero, as torch makes them; the rest normal, see the top."""
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                p.zero_()
            elif p.ndim == 2:
                ends = name.endswith(("out.weight", "down.weight"))
                scale = SPREAD / (2 * self.config.num_layers) ** 0.5 if ends else SPREAD
                p.copy_(scale * torch.randn(p.shape, generator=generator))

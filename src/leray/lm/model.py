"""A decoder-only transformer, read from top to bottom.

The strong baseline of today: RMS norms before every branch, rotary positions, queries and keys of
unit length times a learned temperature, squared ReLU, embeddings tied to the output, logits bounded
by a tanh. Any layer may look through a window. One switch makes the attention's transport depend on
the data (:mod:`leray.lm.transport`) in place of rotary positions.

Shapes: b sequences, t tokens, h heads, d = width / h dimensions a head, m reflections a token.

Source: Vaswani et al. (arXiv 1706.03762); Zhang and Sennrich, RMSNorm (arXiv 1910.07467); Su et
al., RoPE (arXiv 2104.09864); Henry et al., QK-norm (arXiv 2010.04245); So et al., Primer, for
squared ReLU (arXiv 2109.08668); Gemma 2, for the cap on logits (arXiv 2408.00118).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.lm.attention import causal_attention
from leray.lm.transport import transport_of

CAP = 15.0
"""The largest size of a logit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of a model."""

    num_tokens: int
    """Of the vocabulary."""
    num_classes: int | None = None
    """Of the output, with a head of its own; None for the next token, tied to the embedding."""
    width: int = 64
    num_layers: int = 2
    num_heads: int = 2
    windows: tuple[int | None, ...] = (None,)
    """Of the layers, again from the first after the last; None sees all before."""
    positions: Literal["rotary", "transport"] = "rotary"
    num_reflections: int = 2
    """A token and head, where positions are by transport."""
    rope_base: float = 10_000.0

    def __post_init__(self) -> None:
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f"width must be a multiple of twice the heads, {2 * self.num_heads}; got "
                f"{self.width}"
            )
        if min(self.num_tokens, self.num_layers, self.num_heads, self.num_reflections) < 1:
            raise ValueError("num_tokens, num_layers, num_heads and num_reflections must be ≥ 1")
        if not self.windows:
            raise ValueError("windows must hold one at least; (None,) for none")


class Attention(nn.Module):
    """Causal attention with rotary positions or with transport by the data."""

    def __init__(self, config: ModelConfig, window: int | None) -> None:
        super().__init__()
        self.config, self.window = config, window
        self.head_dim = config.width // config.num_heads
        self.into = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.temperature = nn.Parameter(torch.full((config.num_heads, 1, 1), self.head_dim**0.25))
        self.turn = None
        if config.positions == "transport":
            self.turn = nn.Linear(config.width, config.width * config.num_reflections, bias=False)

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        q, k, v = (self._heads(part) for part in self.into(x).chunk(3, dim=-1))
        q, k = (self.temperature * F.normalize(y, dim=-1) * self.head_dim**0.25 for y in (q, k))
        if self.turn is None:
            q, k = (rotated(y, self.config.rope_base) for y in (q, k))
            y = causal_attention(q, k, v, self.window)
        else:
            made = transport_of(self._heads(self.turn(x)).unflatten(-1, (-1, self.head_dim)))
            carried = [made.to_start(y) for y in (q, k, v)]
            y = made.from_start(causal_attention(carried[0], carried[1], carried[2], self.window))
        return self.out(y.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """``[b, t, h …]`` → ``[b, h, t, …]``."""
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention, then a squared ReLU of four times the width, each added to the stream."""

    def __init__(self, config: ModelConfig, window: int | None) -> None:
        super().__init__()
        self.attention = Attention(config, window)
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        x = x + self.attention(rms_norm(x))
        return x + self.down(F.relu(self.up(rms_norm(x))).square())


class Model(nn.Module):
    """The decoder.

    Args:
        generator: What the weights are drawn from: the same numbers on every device, if it is of
            the CPU.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_tokens, config.width)
        windows = config.windows * config.num_layers
        self.blocks = nn.ModuleList(Block(config, w) for w in windows[: config.num_layers])
        self.head = None
        if config.num_classes is not None:
            self.head = nn.Linear(config.width, config.num_classes, bias=False)
        self._draw(generator)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t classes"]:
        """Logits at every token, of what comes next or of the classes."""
        x = rms_norm(self.embedding(tokens))
        for block in self.blocks:
            x = block(x)
        weight = self.embedding.weight if self.head is None else self.head.weight
        return CAP * torch.tanh(F.linear(rms_norm(x), weight) / CAP)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        """Normal, of variance 1/inputs; zero where a branch ends, so that it begins as nothing."""
        for name, p in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                p.zero_()
            elif p.ndim == 2:
                p.copy_(torch.randn(p.shape, generator=generator) / p.shape[1] ** 0.5)


def rms_norm(x: Tensor) -> Tensor:
    """x divided by the root of its mean square, along the last axis."""
    return F.rms_norm(x, x.shape[-1:])


def rotated(x: Float[Tensor, "*batch t d"], base: float) -> Float[Tensor, "*batch t d"]:
    """Pair (x_i, x_{i + d/2}) turned by the angle t · base^{−2i/d}."""
    time, d = x.shape[-2:]
    rates = base ** (-torch.arange(0, d, 2, device=x.device, dtype=torch.float64) / d)
    angles = torch.arange(time, device=x.device, dtype=torch.float64)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, two = x.chunk(2, dim=-1)
    return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)

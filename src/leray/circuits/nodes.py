"""A transformer as nodes that read and write one residual stream.

    x ← x + Σ_h head_h(x),   x ← x + mlp(x),   y = output(x)

from x₀, the sum of what the embeddings write. Every node's input is the sum of the outputs of the
nodes before it, and an edge of the computation graph is one summand. A head has three inputs, its
queries, keys and values, which may be given apart. Norms belong to the node that reads.

Shapes: b batch, t time, d width of the stream, h heads, k width of what a node reads, o outputs.

Source: Elhage et al., A mathematical framework for transformer circuits (2021).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn


class Heads(nn.Module, ABC):
    """The attention heads of one layer."""

    @property
    @abstractmethod
    def number(self) -> int:
        """How many heads."""

    @abstractmethod
    def forward(
        self,
        q: Float[Tensor, "*b n t d"],
        k: Float[Tensor, "*b n t d"],
        v: Float[Tensor, "*b n t d"],
    ) -> Float[Tensor, "*b h t d"]:
        """What every head writes, given its own three inputs (n = h) or shared ones (n = 1)."""

    @abstractmethod
    def one(
        self,
        h: int,
        q: Float[Tensor, "*q t d"],
        k: Float[Tensor, "*k t d"],
        v: Float[Tensor, "*v t d"],
    ) -> Float[Tensor, "*o t d"]:
        """What head number h writes, on inputs whose leading axes broadcast."""

    def reading(self, h: int, part: int) -> Float[Tensor, "d k"] | None:  # noqa: ARG002
        """The linear map through which head h sees input number ``part``, where one is first."""
        return None


class MLP(nn.Module, ABC):
    """What a layer does to every place by itself."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t d"]:
        """What it writes."""

    def reading(self) -> Float[Tensor, "d k"] | None:
        """The linear map through which it sees its input, where one is first."""
        return None


class Layer(nn.Module):
    """Heads, then an MLP, each of which adds to the stream."""

    heads: Heads
    mlp: MLP

    def __init__(self, heads: Heads, mlp: MLP) -> None:
        super().__init__()
        self.heads, self.mlp = heads, mlp

    def forward(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t d"]:
        shared = x.unsqueeze(-3)
        x = x + self.heads(shared, shared, shared).sum(dim=-3)
        return x + self.mlp(x)


class Transformer(nn.Module, ABC):
    """Embeddings, layers, and a reading of the stream.

    Args:
        inputs: The names of what writes to the stream before the first layer.
    """

    def __init__(self, inputs: tuple[str, ...], layers: Sequence[Layer]) -> None:
        super().__init__()
        self.inputs = inputs
        self.layers = nn.ModuleList(layers)

    @property
    def blocks(self) -> Sequence[Layer]:
        """The layers, with their type."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    @abstractmethod
    def embedded(self, tokens: Int[Tensor, "b t"]) -> tuple[Float[Tensor, "b t d"], ...]:
        """What each of the inputs writes.

        Raises:
            LerayError: More tokens than places, or a token that is not in the vocabulary.
        """

    @abstractmethod
    def output(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t o"]:
        """What is read off the stream after the last layer."""

    def reading(self) -> Float[Tensor, "d k"] | None:
        """The linear map through which the output sees the stream, where one is first."""
        return None

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t o"]:
        x = sum_of(self.embedded(tokens))
        for layer in self.blocks:
            x = layer(x)
        return self.output(x)


def sum_of(written: tuple[Tensor, ...]) -> Tensor:
    """Of what the embeddings write."""
    first, *others = written
    for x in others:
        first = first + x
    return first

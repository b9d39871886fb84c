"""A transformer without norms, masks or biases, as Tracr compiles programs.

    x₀ = token + position,   y = x W_U

    head(q, k, v) = softmax(q W_Q (k W_K)ᵀ / s) v W_V W_O,   mlp(x) = relu(x W_1) W_2

Shapes: b batch, t time, d width of the stream, h heads, k width of a head, m hidden units of an
MLP, o outputs.

Source: Lindner et al., Tracr (arXiv 2301.05062).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.circuits.nodes import MLP, Heads, Layer, Transformer
from leray.errors import LerayError


class PlainHeads(Heads):
    """The attention heads of one layer.

    Args:
        query, key, value: W_Q, W_K and W_V, ``[h, d, k]``.
        output: W_O, ``[h, k, d]``.
        scale: s, what the products of queries and keys are divided by.
    """

    def __init__(
        self, query: Tensor, key: Tensor, value: Tensor, output: Tensor, scale: float
    ) -> None:
        super().__init__()
        self.query, self.key = nn.Parameter(query), nn.Parameter(key)
        self.value, self.output = nn.Parameter(value), nn.Parameter(output)
        self.scale = scale

    @property
    def number(self) -> int:
        """How many heads."""
        return len(self.query)

    def forward(
        self,
        q: Float[Tensor, "*b n t d"],
        k: Float[Tensor, "*b n t d"],
        v: Float[Tensor, "*b n t d"],
    ) -> Float[Tensor, "*b h t d"]:
        """What every head writes, given its own three inputs (n = h) or shared ones (n = 1)."""
        return attended(q @ self.query, k @ self.key, v @ self.value, self.output, self.scale)

    def one(
        self,
        h: int,
        q: Float[Tensor, "*q t d"],
        k: Float[Tensor, "*k t d"],
        v: Float[Tensor, "*v t d"],
    ) -> Float[Tensor, "*o t d"]:
        """What head number h writes, on inputs whose leading axes broadcast."""
        return attended(
            q @ self.query[h], k @ self.key[h], v @ self.value[h], self.output[h], self.scale
        )

    def reading(self, h: int, part: int) -> Float[Tensor, "d k"]:
        return (self.query, self.key, self.value)[part][h]


def attended(q: Tensor, k: Tensor, v: Tensor, output: Tensor, scale: float) -> Tensor:
    """softmax(q kᵀ / s) v W_O."""
    return (q @ k.mT / scale).softmax(dim=-1) @ v @ output


class PlainMLP(MLP):
    """One hidden layer of rectified units.

    Args:
        up: W_1, ``[d, m]``.
        down: W_2, ``[m, d]``.
    """

    def __init__(self, up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(up), nn.Parameter(down)

    def forward(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t d"]:
        return F.relu(x @ self.up) @ self.down

    def reading(self) -> Float[Tensor, "d k"]:
        return self.up


class PlainLayer(Layer):
    """Heads, then an MLP."""

    heads: PlainHeads  # pyright: ignore[reportIncompatibleVariableOverride], never assigned another
    mlp: PlainMLP  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, heads: PlainHeads, mlp: PlainMLP) -> None:
        super().__init__(heads, mlp)


class PlainTransformer(Transformer):
    """Embeddings, layers and a linear reading of the stream.

    Args:
        token: ``[tokens, d]``.
        position: ``[places, d]``.
        layers: In order.
        unembedding: W_U, ``[d, o]``.
    """

    def __init__(
        self, token: Tensor, position: Tensor, layers: Sequence[PlainLayer], unembedding: Tensor
    ) -> None:
        super().__init__(("token", "position"), layers)
        self.token, self.position = nn.Parameter(token), nn.Parameter(position)
        self.unembedding = nn.Parameter(unembedding)

    @property
    def blocks(self) -> Sequence[PlainLayer]:
        """The layers, with their type."""
        return [layer for layer in self.layers if isinstance(layer, PlainLayer)]

    def embedded(
        self, tokens: Int[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t d"]]:
        """What the tokens and what the positions write.

        Raises:
            LerayError: More tokens than places, or a token that is not in the vocabulary.
        """
        places, known = len(self.position), len(self.token)
        if tokens.shape[1] > places:
            raise LerayError(
                f"a sequence of {tokens.shape[1]} tokens came; the model has {places} places"
            )
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < known:
            raise LerayError(
                f"tokens {int(tokens.min())} to {int(tokens.max())} came; the vocabulary is "
                f"0 to {known - 1}"
            )
        words = self.token[tokens]
        return words, self.position[: tokens.shape[1]].expand_as(words)

    def output(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t o"]:
        return x @ self.unembedding

    def reading(self) -> Float[Tensor, "d k"]:
        return self.unembedding


def transformer_of(arrays: dict[str, Tensor], scale: float) -> PlainTransformer:
    """A model of named arrays: ``token``, ``position``, ``unembedding`` and ``layers.i.…``.

    The names of its parameters are those of the arrays, with ``heads.`` or ``mlp.`` before the last
    part.

    Raises:
        LerayError: An array is missing.
    """

    def taken(name: str) -> Tensor:
        if name not in arrays:
            raise LerayError(f"no array {name!r}; the arrays are {', '.join(sorted(arrays))}")
        return arrays[name].clone()

    numbers = {int(name.split(".")[1]) for name in arrays if name.startswith("layers.")}
    layers = []
    for i in range(len(numbers)):
        query, key, value, output = (
            taken(f"layers.{i}.heads.{part}") for part in ("query", "key", "value", "output")
        )
        mlp = PlainMLP(taken(f"layers.{i}.mlp.up"), taken(f"layers.{i}.mlp.down"))
        layers.append(PlainLayer(PlainHeads(query, key, value, output, scale), mlp))
    return PlainTransformer(taken("token"), taken("position"), layers, taken("unembedding"))


def rotated(model: PlainTransformer, generator: torch.Generator) -> PlainTransformer:
    """The same function with the stream turned by a uniformly random rotation R.

    Every output map becomes W R and every input map Rᵀ W, so that no direction of the stream
    belongs to one variable of a program; differences are those of rounding.

    Source: Stewart, The efficient generation of random orthogonal matrices (SIAM J. Numer. Anal.
    1980).
    """
    old = model.unembedding
    width = len(old)
    drawn = torch.randn(
        width, width, generator=generator, dtype=torch.float64, device=generator.device
    )
    q, upper = torch.linalg.qr(drawn)
    turn = (q * upper.diagonal().sign()).to(old)
    back = turn.mT
    with torch.no_grad():
        layers = [
            PlainLayer(
                PlainHeads(
                    back @ layer.heads.query, back @ layer.heads.key, back @ layer.heads.value,
                    layer.heads.output @ turn, layer.heads.scale,
                ),
                PlainMLP(back @ layer.mlp.up, layer.mlp.down @ turn),
            )
            for layer in model.blocks
        ]  # fmt: skip
        return PlainTransformer(model.token @ turn, model.position @ turn, layers, back @ old)

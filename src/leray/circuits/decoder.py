"""A trained decoder of :mod:`leray.lm` as nodes that read and write one stream.

The same weights, no copies: what is found here is of that model. Every node begins with its own
norm, so its first map is not linear in the stream. Layers may have windows, the coboundary or a
convolution before their branches, and any of the feed-forward networks; what reads the stream a
second time inside a head (gates, forgetting, transport by the data) has no three inputs, and is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from leray.circuits.nodes import MLP, Heads, Layer, Transformer
from leray.errors import LerayError
from leray.lm.attention import causal_attention
from leray.lm.config import ModelConfig
from leray.lm.model import Attention, Block, Model
from leray.lm.pointwise import heads_of_length, rms_norm, turns_of

ALLOWED = (
    "num_tokens", "width", "num_layers", "num_heads", "windows", "strides", "rope_base", "hidden",
    "feedforward", "mixing", "initialisation",
)  # fmt: skip
"""Switches of a model that may be set; the others must be at their defaults."""


class DecoderHeads(Heads):
    """The heads of one block, after its norm and what mixes neighbours."""

    def __init__(self, block: Block, attention: Attention) -> None:
        super().__init__()
        self.mixer, self.attention = block.mixers[0], attention

    @property
    def number(self) -> int:
        return self.attention.config.num_heads

    def forward(
        self,
        q: Float[Tensor, "*b n t d"],
        k: Float[Tensor, "*b n t d"],
        v: Float[Tensor, "*b n t d"],
    ) -> Float[Tensor, "*b h t d"]:
        return self._written([q, k, v], slice(0, self.number))

    def one(
        self,
        h: int,
        q: Float[Tensor, "*q t d"],
        k: Float[Tensor, "*k t d"],
        v: Float[Tensor, "*v t d"],
    ) -> Float[Tensor, "*o t d"]:
        parts = torch.broadcast_tensors(*(x.unsqueeze(-3) for x in (q, k, v)))
        return self._written(parts, slice(h, h + 1)).squeeze(-3)

    def _written(self, parts: Sequence[Tensor], heads: slice) -> Tensor:
        """What some heads write, ``[*b, h, t, d]``."""
        own = self.attention
        maps = own.into.weight.mT.unflatten(-1, (3, self.number, -1))  # [d, 3, h, k]
        seen = [self._seen(x) @ maps[:, part, heads].movedim(1, 0) for part, x in enumerate(parts)]
        ahead = seen[0].shape[:-3]
        q, k, v = (x.expand(*ahead, -1, -1, -1).flatten(0, -4) for x in seen)
        turns = turns_of(q.shape[-2], own.head_dim, own.config.rope_base, q)
        length = (own.temperature * own.head_dim**0.25)[heads]
        q, k = (heads_of_length(x, length, turns) for x in (q, k))
        y = causal_attention(q, k, v, own.window, own.stride)
        assert own.out is not None, "tied values are refused"
        back = own.out.weight.mT.unflatten(0, (self.number, -1))[heads]  # [h, k, d]
        return (y @ back).unflatten(0, ahead)

    def _seen(self, x: Tensor) -> Tensor:
        normed = rms_norm(x)
        return self.mixer(normed.flatten(0, -3)).view_as(normed)


class DecoderMLP(MLP):
    """The feed-forward network of one block, after its norm and what mixes neighbours."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.mixer, self.branch = block.mixers[1], block.forward_branch

    def forward(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t d"]:
        normed = rms_norm(x)
        return self.branch(self.mixer(normed.flatten(0, -3))).view_as(normed)


class Decoder(Transformer):
    """A trained model, read at the logits of some tokens, less their mean.

    Args:
        classes: These tokens, at least two.

    Raises:
        LerayError: A model that is no sum of such nodes, or classes that it does not have.
    """

    def __init__(self, model: Model, classes: Sequence[int]) -> None:
        _check(model.config, classes)
        blocks = [b for b in model.blocks if isinstance(b, Block)]
        layers = [
            Layer(DecoderHeads(b, b.attention), DecoderMLP(b))
            for b in blocks
            if isinstance(b.attention, Attention)
        ]
        super().__init__(("token",), layers)
        self.model, self.classes = model, tuple(classes)

    def embedded(self, tokens: Int[Tensor, "b t"]) -> tuple[Float[Tensor, "b t d"], ...]:
        known = self.model.config.num_tokens
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < known:
            raise LerayError(
                f"tokens {int(tokens.min())} to {int(tokens.max())} came; the vocabulary is "
                f"0 to {known - 1}"
            )
        return (rms_norm(self.model.embedding(tokens)),)

    def output(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t o"]:
        logits = self.model.read(x)[..., self.classes]
        return logits - logits.mean(dim=-1, keepdim=True)


def _check(config: ModelConfig, classes: Sequence[int]) -> None:
    plain = ModelConfig(num_tokens=config.num_tokens)
    allowed = {name: getattr(config, name) for name in ALLOWED}
    if replace(plain, **allowed) != config:
        names = [f.name for f in fields(config) if f.name not in ALLOWED]
        others = ", ".join(n for n in names if getattr(config, n) != getattr(plain, n))
        raise LerayError(
            f"a circuit's nodes have their own inputs; this model has {others}: train one without"
        )
    if len(classes) < 2 or not all(0 <= c < config.num_tokens for c in classes):
        raise LerayError(
            f"classes must be two or more tokens of 0 to {config.num_tokens - 1}; got "
            f"{list(classes)}"
        )

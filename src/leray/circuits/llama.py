"""A Llama-type model of `transformers` as nodes that read and write one stream.

The same weights, no copies: what is found here is of that model. Every node begins with its own
norm. Query heads of one group share the keys' and values' weights, and each reads its own inputs:

    q_h = N(x_hq) W_q[h],   k_h = N(x_hk) W_k[⌊h/g⌋],   v_h = N(x_hv) W_v[⌊h/g⌋]

with g query heads in a group. Norms, rotation and feed-forward networks are the model's own.

Shapes: b batch, t time, d width, h query heads, m groups, g heads in a group, k width of a head.

Source: Touvron et al., LLaMA (arXiv 2302.13971); Ainslie et al., GQA (arXiv 2305.13245).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from leray.circuits.nodes import MLP, Heads, Layer, Transformer
from leray.errors import LerayError

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer


class LlamaHeads(Heads):
    """The query heads of one layer, after its norm."""

    def __init__(self, norm: nn.Module, attention: LlamaAttention, rotary: nn.Module) -> None:
        super().__init__()
        self.norm, self.attention, self.rotary = norm, attention, rotary
        self.group = attention.num_key_value_groups

    @property
    def number(self) -> int:
        return self.attention.q_proj.out_features // self.attention.head_dim

    def forward(
        self,
        q: Float[Tensor, "*b n t d"],
        k: Float[Tensor, "*b n t d"],
        v: Float[Tensor, "*b n t d"],
    ) -> Float[Tensor, "*b h t d"]:
        own = self.attention
        seen = [
            (self._grouped(x) @ self._maps(w)).flatten(-4, -3).flatten(0, -4)
            for x, w in ((q, own.q_proj), (k, own.k_proj), (v, own.v_proj))
        ]
        y = self._attended(*seen) @ self._back()
        return y.unflatten(0, q.shape[:-3])

    def one(
        self,
        h: int,
        q: Float[Tensor, "*q t d"],
        k: Float[Tensor, "*k t d"],
        v: Float[Tensor, "*v t d"],
    ) -> Float[Tensor, "*o t d"]:
        own, m = self.attention, h // self.group
        q = self.norm(q) @ self._maps(own.q_proj)[m, h % self.group]
        k, v = (self.norm(x) @ self._maps(w)[m, 0] for x, w in ((k, own.k_proj), (v, own.v_proj)))
        q, k, v = torch.broadcast_tensors(q, k, v)
        y = self._attended(*(x.flatten(0, -3).unsqueeze(1) for x in (q, k, v)))
        return (y[:, 0] @ self._back()[h]).unflatten(0, q.shape[:-2])

    def _maps(self, linear: nn.Linear) -> Float[Tensor, "m g d k"]:
        """A projection's weights by group and head of it; g is 1 for keys and values."""
        heads = linear.weight.unflatten(0, (-1, self.attention.head_dim))
        num_groups = self.number // self.group
        return heads.unflatten(0, (num_groups, -1)).mT

    def _grouped(self, x: Float[Tensor, "*b n t d"]) -> Float[Tensor, "*b m g t d"]:
        """After the norm; m and g are 1 where all heads share an input."""
        x = self.norm(x)
        return x.unsqueeze(-3) if x.shape[-3] == 1 else x.unflatten(-3, (-1, self.group))

    def _back(self) -> Float[Tensor, "h k d"]:
        return self.attention.o_proj.weight.mT.unflatten(0, (self.number, -1))

    def _attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Turned by their places, causal attention: ``[b, h, t, k]``."""
        places = torch.arange(q.shape[-2], device=q.device)[None]
        cos, sin = self.rotary(q, places)
        q, k = (x * cos + _half_turned(x) * sin for x in (q, k))
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.attention.scaling)


class LlamaMLP(MLP):
    """The feed-forward network of one layer, after its norm."""

    def __init__(self, norm: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.norm, self.network = norm, network

    def forward(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t d"]:
        return self.network(self.norm(x))


class Llama(Transformer):
    """A Llama-type model, read at the logits of some tokens, less their mean.

    Args:
        classes: These tokens, at least two, each once.

    Raises:
        LerayError: Attention with biases, which no head writes, or classes that there are not.
    """

    def __init__(self, model: LlamaForCausalLM, classes: Sequence[int]) -> None:
        if model.config.attention_bias:
            raise LerayError(
                "a circuit's heads write all that attention writes; this model's attention has "
                "biases: none of its heads writes them"
            )
        known = model.config.vocab_size
        if len(set(classes)) < max(2, len(classes)) or not all(0 <= c < known for c in classes):
            raise LerayError(
                f"classes must be two or more tokens of 0 to {known - 1}, each once; got "
                f"{list(classes)}"
            )
        body = model.model
        super().__init__(
            ("token",),
            [
                Layer(
                    LlamaHeads(layer.input_layernorm, layer.self_attn, body.rotary_emb),
                    LlamaMLP(layer.post_attention_layernorm, layer.mlp),
                )
                for layer in map(_layer, body.layers)
            ],
        )
        self.embedding, self.norm, self.head = body.embed_tokens, body.norm, model.lm_head
        self.classes = tuple(classes)

    def embedded(self, tokens: Int[Tensor, "b t"]) -> tuple[Float[Tensor, "b t d"], ...]:
        known = self.embedding.num_embeddings
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < known:
            raise LerayError(
                f"tokens {int(tokens.min())} to {int(tokens.max())} came; the vocabulary is "
                f"0 to {known - 1}"
            )
        return (self.embedding(tokens),)

    def output(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t o"]:
        logits = self.norm(x) @ self.head.weight[list(self.classes)].mT
        return logits - logits.mean(dim=-1, keepdim=True)


def _layer(module: nn.Module) -> LlamaDecoderLayer:
    return cast("LlamaDecoderLayer", module)


def _half_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)

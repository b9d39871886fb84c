"""A decoder-only transformer, read from top to bottom.

The strong baseline of today: RMS norms before every branch, rotary positions, queries and keys of
unit length times a learned temperature, squared ReLU, embeddings tied to the output, logits bounded
by a tanh. Every ingredient beside it is one switch of :class:`ModelConfig`, off by default, and one
small file of its own.

Shapes: b sequences, t tokens, h heads, d = width / h dimensions a head, m reflections a token. A
level is a run of layers with the same window and stride.

Source: Vaswani et al. (arXiv 1706.03762); Zhang and Sennrich, RMSNorm (arXiv 1910.07467); Su et
al., RoPE (arXiv 2104.09864); Henry et al., QK-norm (arXiv 2010.04245); So et al., Primer, for
squared ReLU (arXiv 2109.08668); Gemma 2, for the cap on logits (arXiv 2408.00118); Zhou et al.,
Value residual learning (arXiv 2410.17897); Qiu et al., Gated attention (arXiv 2505.06708).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.lm.attention import causal_attention
from leray.lm.coboundary import Shift
from leray.lm.cochains import Cochains
from leray.lm.config import ModelConfig
from leray.lm.convolution import ShortConvolution
from leray.lm.cross_entropy import capped_cross_entropy
from leray.lm.feedforward import FeedForward
from leray.lm.forgetting import Forgetting
from leray.lm.gluing import glued_attention
from leray.lm.pointwise import Turns, heads_of_length, rms_norm, rotated, turns_of
from leray.lm.recurrence import GatedRecurrence
from leray.lm.sections import SectionMemory
from leray.lm.transitions import ExactTransitions, PlainTransitions
from leray.lm.transport import transport_of

CAP = 15.0
"""The largest size of a logit."""

Watch = defaultdict[str, list[Tensor]]
"""What a pass shows of itself where it is asked: ``levels``, ``disagreement``, ``load``; where it
holds that name already, the weights of every layer of ``attention``, ``[b, h, t, s]``."""


@dataclass(slots=True)
class Carried:
    """What a pass hands from layer to layer beside the stream."""

    turns: Turns
    """Of rotary positions."""
    first_values: Tensor | None = None
    """[b, h, t, d], of the first layer."""
    below: Tensor | None = None
    """The stream at the end of the level below; None in the first."""
    watch: Watch | None = None

    def show(self, name: str, x: Tensor) -> None:
        if self.watch is not None:
            self.watch[name].append(x)


class Attention(nn.Module):
    """Causal attention of one layer, with what the switches add to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window_of(layer)
        self.stride = config.stride_of(layer)
        self.head_dim = config.width // config.num_heads
        self.into = nn.Linear(config.width, 3 * config.width, bias=False)
        tied = config.values == "tied_disagreement"
        self.out = None if tied else nn.Linear(config.width, config.width, bias=False)
        self.gain = nn.Parameter(torch.zeros(config.width)) if tied else None
        self.temperature = nn.Parameter(torch.full((config.num_heads, 1, 1), self.head_dim**0.25))
        self.turn = None
        if config.transports:
            vectors = config.num_transports * config.num_reflections
            self.turn = nn.Linear(config.width, vectors * config.stalk_dim, bias=False)
        self.gate = nn.Linear(config.width, config.width, bias=False) if config.gated else None
        self.forget = Forgetting(config.width, config.num_heads) if config.forgetting else None
        mixed = config.values == "residual" and not all(config.recurs(i) for i in range(layer))
        self.mix = nn.Parameter(torch.tensor(0.5)) if mixed else None
        self.memory = None
        if config.memory_block:
            self.memory = SectionMemory(config.num_heads, self.head_dim, config.memory_block)
        self.route = None
        if config.routing and self.window is not None:
            self.route = nn.Linear(config.width, config.num_heads, bias=False)

    def forward(
        self, x: Float[Tensor, "b t width"], carried: Carried
    ) -> Float[Tensor, "b t width"]:
        q, k, v = self._projected(x, carried)
        length = self.temperature * self.head_dim**0.25
        turns = carried.turns if self.config.positions == "rotary" else None
        q, k = (heads_of_length(y, length, turns) for y in (q, k))
        if self.turn is None:
            y = self._attend(q, k, v, x, carried)
        else:
            shape = (self.config.num_transports, -1, self.config.stalk_dim)
            made = transport_of(self.turn(x).unflatten(-1, shape).transpose(1, 2))
            q, k = (self._moved(made.to_start, y, carried.turns) for y in (q, k))
            v = self._moved(made.to_start, v)
            y = self._moved(made.from_start, self._attend(q, k, v, x, carried))
        y = y.transpose(1, 2).flatten(2)
        return self._written(y if self.gate is None else y * F.silu(self.gate(x)))

    def _projected(self, x: Tensor, carried: Carried) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, the latter two of the level below where that is asked."""
        if self.config.across_levels and carried.below is not None:
            wq, wkv = self.into.weight.split([self.config.width, 2 * self.config.width])
            parts = [F.linear(x, wq), *F.linear(rms_norm(carried.below), wkv).chunk(2, dim=-1)]
        else:
            parts = self.into(x).chunk(3, dim=-1)
        q, k, v = (self._heads(part) for part in parts)
        if self.config.values == "residual":
            if carried.first_values is None:
                carried.first_values = v
            assert (self.mix is None) == (carried.first_values is v)
            v = v if self.mix is None else torch.lerp(v, carried.first_values, self.mix)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, carried: Carried) -> Tensor:
        """The weighted means of the values, in the frame in which they are given."""
        sent = rotated(v, carried.turns) if self.config.values == "rotated" else v
        plain = q, k
        if self.forget is not None:
            q, k = self.forget(q, k, x)
        y = self._weighted(q, k, sent, carried)
        if carried.watch is not None and "attention" in carried.watch:
            each = torch.eye(q.shape[-2], dtype=q.dtype, device=q.device)
            each = each.expand(*q.shape[:-1], -1)  # the mean of unit vectors is the weights
            carried.show("attention", self._weighted(q, k, each, carried))
        if self.route is not None:
            gate = torch.sigmoid(self.route(x)).transpose(1, 2).unsqueeze(-1)
            carried.show("load", gate.mean())
            y = torch.lerp(y, causal_attention(q, k, sent), gate)
        if self.memory is not None:
            y = y + self.memory(*plain, sent)
        if self.config.values == "rotated":
            return rotated(y, carried.turns, -1)
        return y - v if self.config.values in ("disagreement", "tied_disagreement") else y

    def _weighted(self, q: Tensor, k: Tensor, v: Tensor, carried: Carried) -> Tensor:
        if not self.config.gluing or self.window is None:
            return causal_attention(q, k, v, self.window, self.stride)
        y, disagreement = glued_attention(q, k, v, self.window)
        carried.show("disagreement", disagreement)
        return y

    def _written(self, y: Tensor) -> Tensor:
        if self.out is not None:
            return self.out(y)
        assert self.gain is not None
        return (y @ self.into.weight[-self.config.width :]) * self.gain

    def _moved(
        self, move: Callable[[Tensor], Tensor], x: Tensor, turns: Turns | None = None
    ) -> Tensor:
        """``[b, h, t, d]``, each head moved by the transport of its group; views where one is.

        Of both, the half behind is turned where there are ``turns``: by every second angle of a
        whole head's, which are those of half of one.
        """
        dim = self.config.transported_dim
        heads = (self.config.num_heads // self.config.num_transports, dim)
        grouped = x[..., :dim].unflatten(1, (-1, heads[0])).transpose(2, 3).flatten(3)
        moved = move(grouped).unflatten(-1, heads).transpose(2, 3).flatten(1, 2)
        if dim == self.head_dim:
            return moved
        rest = x[..., dim:]
        if turns is not None:
            rest = rotated(rest, Turns(turns.cos[:, ::2], turns.sin[:, ::2]))
        return torch.cat([moved, rest], dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        """``[b, t, h …]`` → ``[b, h, t, …]``."""
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention and a feed-forward network, each added to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(_mixer(config, branch) for branch in ("attention", "forward"))
        self.recurs = config.recurs(layer)
        self.attention = GatedRecurrence(config.width) if self.recurs else Attention(config, layer)
        self.forward_branch = FeedForward(config.width, config.hidden_width, config.feedforward)

    def forward(
        self, x: Float[Tensor, "b t width"], carried: Carried
    ) -> Float[Tensor, "b t width"]:
        seen = self.mixers[0](rms_norm(x))
        x = x + (self.attention(seen) if self.recurs else self.attention(seen, carried))
        return x + self.forward_branch(self.mixers[1](rms_norm(x)))


class Model(nn.Module):
    """The decoder.

    Args:
        generator: What the weights are drawn from: the same numbers on every device, if it is of
            the CPU.
        draw: False where weights are about to be loaded.
    """

    def __init__(
        self, config: ModelConfig, generator: torch.Generator, *, draw: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_tokens, config.width)
        self.cochains = None
        if config.cochains:
            self.cochains = Cochains(
                config.cochains, config.cochain_rows, config.cochain_dim, config.width
            )
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.num_layers))
        self.transitions = None
        if config.transitions != "none":
            sizes = config.width, config.num_levels - 1
            if config.transitions == "exact":
                self.transitions = ExactTransitions(*sizes)
            else:
                self.transitions = PlainTransitions(*sizes, bare=config.transitions == "bare")
        self.head = None
        if config.num_classes is not None:
            self.head = nn.Linear(config.width, config.num_classes, bias=False)
        if draw:
            self._draw(generator)

    def forward(
        self, tokens: Int[Tensor, "b t"], watch: Watch | None = None
    ) -> Float[Tensor, "b t classes"]:
        """Logits at every token, of what comes next or of the classes.

        Args:
            watch: Filled with what the pass shows of itself.
        """
        return self.read(self._stream(tokens, watch))

    def loss(
        self,
        tokens: Int[Tensor, "b t"],
        targets: Int[Tensor, "b t"],
        watch: Watch | None = None,
        *,
        answers: bool = False,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats: that of :meth:`forward`, without keeping the logits.

        Args:
            answers: Only some tokens are predicted; the targets are −1 elsewhere.
        """
        return self.loss_of(self._stream(tokens, watch), targets, answers=answers)

    def loss_of(
        self,
        x: Float[Tensor, "b t width"],
        targets: Int[Tensor, "b t"],
        *,
        answers: bool = False,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats of a stream: of the last layer, or of a level before."""
        if answers:
            logits = self.read(x).flatten(0, 1).float()
            return F.cross_entropy(logits, targets.flatten(), ignore_index=-1)
        x = rms_norm(x).flatten(0, 1)
        return capped_cross_entropy(x, self._classes(), targets.flatten(), CAP)

    def read(self, x: Float[Tensor, "*b t width"]) -> Float[Tensor, "*b t classes"]:
        """The logits of a stream: of the last layer, or of a level before (a page)."""
        return CAP * torch.tanh(F.linear(rms_norm(x), self._classes()) / CAP)

    def _classes(self) -> Tensor:
        return self.embedding.weight if self.head is None else self.head.weight

    def _stream(self, tokens: Tensor, watch: Watch | None) -> Tensor:
        """What the last layer leaves, ``[b, t, width]``."""
        x = self.embedding(tokens)
        x = rms_norm(x if self.cochains is None else x + self.cochains(tokens))
        head_dim = self.config.width // self.config.num_heads
        turns = turns_of(tokens.shape[1], head_dim, self.config.rope_base, x)
        carried = Carried(turns, watch=watch)
        for i, block in enumerate(self.blocks):
            x = block(x, carried)
            if i in self.config.level_ends:
                carried.show("levels", x)
                carried.below = x
                x = self._carried_over(x, i)
        return x

    def _carried_over(self, x: Tensor, layer: int) -> Tensor:
        """The stream from the end of one level to the beginning of the next."""
        if self.transitions is None:
            return x
        level = self.config.level_ends.index(layer)
        if self.config.transitions == "bare":
            return self.transitions(x, level)
        return x + self.transitions(rms_norm(x), level)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        """Normal, of variance 1/inputs, or frames of that size; zero where a branch ends.

        So a branch begins as nothing. An embedding that is also the output begins smaller, so
        that logits are of size 1. Transitions, convolutions and vectors begin as their own files
        say.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                w = module.weight
                drawn = torch.randn(w.shape, generator=generator)
                if self.config.initialisation == "frames":
                    drawn = polar(drawn) * max(w.shape) ** 0.5
                w.copy_(drawn / w.shape[1] ** 0.5)
        if self.head is None:
            self.embedding.weight /= self.config.width**0.5
        if self.cochains is not None:
            for p in self.cochains.maps.parameters():
                p.zero_()
        for block in self.blocks:
            assert isinstance(block, Block)
            block.forward_branch.down.weight.zero_()
            attention = block.attention
            if attention.out is not None:
                attention.out.weight.zero_()
            if self.config.flat_start and isinstance(attention, Attention):
                assert attention.turn is not None
                shape = (-1, 2, self.config.stalk_dim, self.config.width)
                pairs = attention.turn.weight.view(shape)
                pairs[:, 1] = pairs[:, 0]


def polar(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The nearest matrix with orthonormal rows, or columns where these are fewer."""
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    return u @ v


def _mixer(config: ModelConfig, branch: str) -> nn.Module:
    """What a branch's input passes before it: its neighbours mixed in, or nothing."""
    if config.mixing == "convolution":
        return ShortConvolution(config.width, config.kernel)
    if config.mixing == "coboundary" and branch == "attention":
        return Shift(config.width)
    return nn.Identity()

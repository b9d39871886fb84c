"""The shape of a model: every switch and size, checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from leray.lm.checks import check_bounds
from leray.lm.feedforward import FeedForwardKind, default_hidden


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a model; all but the sizes off is the baseline.

    Raises:
        ValueError: Sizes that do not fit each other, or a switch without effect beside the others.
    """

    num_tokens: int
    """Of the vocabulary."""
    num_classes: int | None = None
    """Of the output, with a head of its own; None for the next token, tied to the embedding."""
    width: int = 64
    num_layers: int = 2
    num_heads: int = 2
    hidden: int | None = None
    """Width of the feed-forward networks; None for 8 · width² weights."""
    feedforward: FeedForwardKind = "relu2"
    windows: tuple[int, ...] = (0,)
    """Of the layers, again from the first after the last; 0 sees all before."""
    strides: tuple[int, ...] = (1,)
    """Of the layers: which tokens of its window a layer sees."""
    recurrent: tuple[bool, ...] = (False,)
    """Of the layers, again from the first: a gated recurrence in the place of attention."""
    positions: Literal["rotary", "transport", "both", "none"] = "rotary"
    """``both``: transport on the first half of every head, rotary on the second. ``none``: what
    came before is a set."""
    num_reflections: int = 2
    """A token and transport, where positions are by transport."""
    stalk: int | None = None
    """The dimension in which a transport acts; None for that of a head."""
    num_transports: int = 1
    """A layer, each shared by as many heads."""
    flat_start: bool = False
    """Reflections begin in equal pairs, which cancel: transport begins as the identity."""
    rope_base: float = 10_000.0
    forgetting: bool = False
    """What attention sends is multiplied, a head, by factors read off the tokens between."""
    gated: bool = False
    """What attention brings is multiplied by silu of a map of its input, as in a recurrence."""
    mixing: Literal["none", "coboundary", "convolution"] = "none"
    """Of a branch's input with its neighbours: shift before attention; convolution before both."""
    kernel: int = 4
    """Of convolutions, in tokens."""
    values: Literal["plain", "residual", "rotated", "disagreement", "tied_disagreement"] = "plain"
    """``residual``: with those of the first layer. ``rotated``: turned by position, a flat
    transport. ``disagreement``: A v − v, and ``tied`` also written back by the transposed map: the
    constant sheaf."""
    initialisation: Literal["normal", "frames"] = "normal"
    """Of matrices: normal, or orthonormal rows or columns of the same size."""
    cochains: int = 0
    """The largest degree of cochains read beside the embedding; 0 without."""
    cochain_rows: int = 4096
    """Of the table of a degree."""
    cochain_dim: int = 16
    """Of a row."""
    across_levels: bool = False
    """Keys and values from the end of the level below."""
    gluing: bool = False
    """Windows become overlapping patches, glued by least squares."""
    memory_block: int = 0
    """Tokens of a stored section; 0 without memory."""
    routing: bool = False
    """A gate a token and head between a layer's window and all before."""
    transitions: Literal["none", "plain", "bare", "exact"] = "none"
    """Between levels. ``bare``: in the stream's place, no skip connection and no norm."""

    def __post_init__(self) -> None:
        check_bounds(
            num_tokens=(self.num_tokens, 1, 2**24),
            width=(self.width, 2, 2**16),
            num_layers=(self.num_layers, 1, 1000),
            num_heads=(self.num_heads, 1, 1024),
            hidden=(1 if self.hidden is None else self.hidden, 1, 2**20),
            num_reflections=(self.num_reflections, 1, 64),
            stalk=(2 if self.stalk is None else self.stalk, 2, 1024),
            rope_base=(self.rope_base, 1, 1e12),
            kernel=(self.kernel, 1, 64),
            memory_block=(self.memory_block, 0, 2**20),
            cochains=(self.cochains, 0, 16),
            cochain_rows=(self.cochain_rows, 1, 2**30),
            cochain_dim=(self.cochain_dim, 1, 2**16),
        )
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f"width must be a multiple of twice the heads, {2 * self.num_heads}; got "
                f"{self.width}"
            )
        if not self.recurrent:
            raise ValueError("recurrent must say of one layer at least; (false,) for none")
        if not self.windows or min(self.windows) < 0 or not self.strides or min(self.strides) < 1:
            raise ValueError(
                "windows must hold one number ≥ 0 at least, (0,) for none, and strides one ≥ 1; "
                f"got {self.windows} and {self.strides}"
            )
        if self.num_transports < 1 or self.num_heads % self.num_transports:
            raise ValueError(
                f"num_transports must divide the {self.num_heads} heads; got {self.num_transports}"
            )
        if self.positions == "both" and self.width % (4 * self.num_heads):
            raise ValueError(
                f"width must be a multiple of four times the heads for both, {4 * self.num_heads}; "
                f"got {self.width}"
            )
        if self.stalk_dim < 1 or self.transported_dim % self.stalk_dim:
            raise ValueError(
                f"stalk must divide the {self.transported_dim} dimensions of a head that are "
                f"transported; got {self.stalk}"
            )
        if self.flat_start and self.num_reflections % 2:
            raise ValueError(
                f"flat_start takes pairs of reflections: give an even number; got "
                f"{self.num_reflections}"
            )
        self._refuse_without_effect()

    def _refuse_without_effect(self) -> None:
        attending = [i for i in range(self.num_layers) if not self.recurs(i)]
        local = any(self.window_of(i) for i in attending)
        still = not self.transports
        told = [
            (not attending and self.positions != "rotary", "positions", "attention"),
            (not attending and self.forgetting, "forgetting", "attention"),
            (not attending and self.gated, "gated", "attention"),
            (not attending and self.values != "plain", "values", "attention"),
            (not attending and self.memory_block > 0, "memory_block", "attention"),
            (not attending and self.across_levels, "across_levels", "attention"),
            (not attending and any(self.windows), "windows", "attention"),
            (still and self.num_reflections != 2, "num_reflections", "positions = transport"),
            (still and self.stalk is not None, "stalk", "positions = transport"),
            (still and self.num_transports != 1, "num_transports", "positions = transport"),
            (still and self.flat_start, "flat_start", "positions = transport"),
            (
                self.positions not in ("rotary", "both")
                and self.values != "rotated"
                and self.rope_base != 10_000.0,
                "rope_base",
                "rotary positions",
            ),
            (self.values == "residual" and len(attending) < 2, "values", "two layers of attention"),
            (self.mixing != "convolution" and self.kernel != 4, "kernel", "mixing = convolution"),
            (not self.cochains and self.cochain_rows != 4096, "cochain_rows", "cochains"),
            (not self.cochains and self.cochain_dim != 16, "cochain_dim", "cochains"),
            (self.gluing and not local, "gluing", "a window"),
            (self.routing and not local, "routing", "a window"),
            (self.across_levels and self.num_levels < 2, "across_levels", "two windows"),
            (
                self.across_levels and not self._looks_below,
                "across_levels",
                "an upper level of two layers, transitions or mixing",
            ),
            (self.transitions != "none" and self.num_levels < 2, "transitions", "two windows"),
        ]
        for wrong, name, needed in told:
            if wrong:
                raise ValueError(
                    f"{name} has no effect without {needed}: set that, or leave it out"
                )
        if self.gluing and max(self.strides) > 1:
            raise ValueError("gluing takes whole patches: leave strides out")
        odd = [w for w in self.windows if w % 2]
        if self.gluing and odd:
            raise ValueError(f"gluing takes patches of an even number of tokens; got {odd[0]}")
        if max(len(self.windows), len(self.strides), len(self.recurrent)) > self.num_layers:
            raise ValueError(
                f"windows, strides and recurrent are those of {self.num_layers} layers at most; "
                f"got {self.windows}, {self.strides} and {self.recurrent}"
            )

    @property
    def _looks_below(self) -> bool:
        """Whether a layer of attention has another input than the end of the level below it."""
        if self.transitions != "none" or self.mixing != "none":
            return True
        above = range(self.level_ends[0] + 1, self.num_layers) if self.level_ends else ()
        return any(not self.recurs(i) and i - 1 not in self.level_ends for i in above)

    def window_of(self, layer: int) -> int | None:
        """None where a layer sees all before."""
        return self.windows[layer % len(self.windows)] or None

    def recurs(self, layer: int) -> bool:
        return self.recurrent[layer % len(self.recurrent)]

    def stride_of(self, layer: int) -> int:
        return self.strides[layer % len(self.strides)]

    @property
    def stalk_dim(self) -> int:
        return self.transported_dim if self.stalk is None else self.stalk

    @property
    def transported_dim(self) -> int:
        """Of a head, where positions are not rotary."""
        return self.width // self.num_heads // (2 if self.positions == "both" else 1)

    @property
    def transports(self) -> bool:
        """Whether a part of every head at least is transported."""
        return self.positions in ("transport", "both")

    @property
    def hidden_width(self) -> int:
        return self.hidden or default_hidden(self.width, self.feedforward)

    @cached_property
    def level_ends(self) -> tuple[int, ...]:
        """The last layer of every level but the last one."""
        seen = [
            None if self.recurs(i) else (self.window_of(i), self.stride_of(i))
            for i in range(self.num_layers)
        ]
        return tuple(i for i in range(self.num_layers - 1) if seen[i] != seen[i + 1])

    @property
    def num_levels(self) -> int:
        return len(self.level_ends) + 1

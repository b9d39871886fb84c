"""Three kinds of models to plant bridges in: layers, a stream of units, a stream of heads.

What a capability's answers need: the sign of s, which its bridges compute, and the sign of q, which
only it does. s reads some of the inputs and q others, and units of one owner are not wired to what
s reads.

- `layers`: two hidden layers. Bridges are units of the first: a row of weights and a bias.
- `stream`: x ← x + W₂ relu(W₁ x + b), twice, and a readout. A bridge is a unit of the first layer,
  its row of W₁ and its column of W₂. The stream is turned by a random rotation, so that no
  direction belongs to one capability and all these vectors are dense.
- `heads`: one layer of attention, of whose last place one layer of units and a readout read. Each
  place of the context is marked; the bridge is a head that finds the place with its mark and
  copies what stands there. The stream is turned too.

Shapes: n examples, t places, d width, u units, h heads, r width of a head, o answers of all
capabilities, k capabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.circuits.bridged import NUM_ANSWERS, Draw, Planting, Rescaling, Wiring

HEAD_WIDTH, CONTENT = 2, 4
Owners = Bool[Tensor, "u k"]


class Layers(nn.Module):
    """A multilayer perceptron of rectified units; weights are ``[out, in]``."""

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.weights = nn.ParameterList(_normal((o, i), i, generator) for i, o in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(o) for o in widths[1:])

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(x, w, b)
            x = x if i == last else F.relu(x)
        return x


def layers(planting: Planting, generator: torch.Generator) -> Wiring:
    """A multilayer perceptron."""
    k, half, private, dead = planting.num_capabilities, 20, 5, 20
    single, none = _single(k, private), torch.zeros(dead, k, dtype=torch.bool)
    levels = [
        torch.ones(2 * half, k, dtype=torch.bool),
        torch.cat([_sets(planting.shared, k), single, none]),
        torch.cat([single, none]),
        _single(k, NUM_ANSWERS),
    ]
    model = Layers([len(x) for x in levels], generator)
    plan, first = _Plan(k), 0
    for i, (into, out) in enumerate(pairwise(levels)):
        wired = _within(out, into)
        if i == 0:
            first_half = torch.arange(2 * half) < half
            wired &= first_half == (out.sum(dim=1) >= 2)[:, None]
        plan.put(f"weights.{i}", out, wired, first, axis=0, reads=True)
        plan.put(f"biases.{i}", out, out.any(dim=1), first, axis=0, reads=True)
        first += len(out)
    rescalings = [
        Rescaling(
            ((f"weights.{i}", 0), (f"biases.{i}", 0)),
            (f"weights.{i + 1}", 1),
            levels[i + 1],
        )
        for i in range(2)
    ]
    draw = _flat_task(planting, half, generator)
    return plan.wiring(model, draw, rescalings)


def _flat_task(planting: Planting, half: int, generator: torch.Generator) -> Draw:
    """Normal inputs; s = Σ ± relu(a_b · x₁) over a capability's bridges b, q = c · x₂."""
    k, num = planting.num_capabilities, len(planting.shared)
    read, own = (torch.randn(half, c, generator=generator) / half**0.5 for c in (num, k))
    signs = 2.0 * torch.randint(2, (num, k), generator=generator) - 1
    signs = signs * _sets(planting.shared, k)
    mean = signs.sum(dim=0) * (2 * torch.pi) ** -0.5

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, 2 * half, generator=generator)
        s, q = (x[:, :half] @ read).relu() @ signs - mean, x[:, half:] @ own
        return x, 2 * (s > 0).long() + (q > 0).long()

    return draw


class Stream(nn.Module):
    """Residual layers of rectified units, in a stream whose first coordinates are the inputs.

    Args:
        turn: The rotation R of the stream; the inputs are x R, and no weight of the model.
    """

    turn: Tensor

    def __init__(
        self, turn: Tensor, num_inputs: int, num_units: int, num_answers: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        d = len(turn)
        self.num_inputs = num_inputs
        self.register_buffer("turn", turn)
        self.up = nn.ParameterList(_normal((num_units, d), d, generator) for _ in range(2))
        self.bias = nn.ParameterList(torch.zeros(num_units) for _ in range(2))
        self.down = nn.ParameterList(_normal((d, num_units), d, generator) for _ in range(2))
        self.readout = nn.Parameter(_normal((num_answers, d), d, generator))

    def forward(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        x = x @ self.turn[: self.num_inputs]
        for up, bias, down in zip(self.up, self.bias, self.down, strict=True):
            x = x + F.relu(F.linear(x, up, bias)) @ down.mT
        return x @ self.readout.mT

    @torch.no_grad()
    def turned(self, turn: Tensor) -> None:
        """The same function with the stream times R."""
        self.turn.copy_(turn)
        for up, down in zip(self.up, self.down, strict=True):
            up.copy_(up @ turn)
            down.copy_(turn.mT @ down)
        self.readout.copy_(self.readout @ turn)


def stream(planting: Planting, generator: torch.Generator) -> Wiring:
    """Two residual layers of units."""
    k, half, private, num_dead = planting.num_capabilities, 8, 6, 90
    shared = _sets(planting.shared, k)
    slots = _Slots(shared, 2 * half, 2)
    none = torch.zeros(num_dead, k, dtype=torch.bool)
    first = torch.cat([shared, _single(k, private), none])
    second = torch.cat([_single(k, private), torch.zeros(len(shared), k, dtype=torch.bool), none])
    outputs = _single(k, NUM_ANSWERS)
    model = Stream(torch.eye(slots.width), 2 * half, len(first), len(outputs), generator)
    plan, num = _Plan(k), 0
    for i, out in enumerate((first, second)):
        reads = slots.read(out, shared_inputs=i == 0)
        plan.put(f"up.{i}", out, reads, num, axis=0, reads=True, turned=True)
        plan.put(f"bias.{i}", out, out.any(dim=1), num, axis=0, reads=True)
        plan.put(f"down.{i}", out, slots.written(out).mT, num, axis=1, turned=True)
        num += len(out)
    plan.put("readout", outputs, slots.read_out(outputs), num, axis=0, turned=True)
    rescalings = [
        Rescaling(((f"up.{i}", 0), (f"bias.{i}", 0)), (f"down.{i}", 1), out)
        for i, out in enumerate((first, second))
    ]
    turn = _rotation(slots.width, generator)
    draw = _flat_task(planting, half, generator)
    return plan.wiring(model, draw, rescalings, lambda: model.turned(turn))


class Attending(nn.Module):
    """One layer of heads, read at the last place, then one of units, and a readout."""

    turn: Tensor

    def __init__(
        self, width: int, num_heads: int, num_units: int, num_answers: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        d, h, r = width, num_heads, HEAD_WIDTH
        self.register_buffer("turn", torch.eye(d))
        self.query, self.key, self.value = (
            nn.Parameter(_normal((h, d, r), 1, generator)) for _ in range(3)
        )
        self.output = nn.Parameter(_normal((h, r, d), r, generator))
        self.up = nn.Parameter(_normal((num_units, d), d, generator))
        self.bias = nn.Parameter(torch.zeros(num_units))
        self.down = nn.Parameter(_normal((d, num_units), d, generator))
        self.readout = nn.Parameter(_normal((num_answers, d), d, generator))

    def forward(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n o"]:
        x = x @ self.turn
        query = torch.einsum("nd,hdr->nhr", x[:, -1], self.query)
        logits = torch.einsum("nhr,hdr,ntd->nht", query, self.key, x)
        read = torch.einsum("nht,ntd,hdr->nhr", logits.softmax(dim=-1), x, self.value)
        y = x[:, -1] + torch.einsum("nhr,hrd->nd", read, self.output)
        y = y + F.relu(F.linear(y, self.up, self.bias)) @ self.down.mT
        return y @ self.readout.mT

    @torch.no_grad()
    def turned(self, turn: Tensor) -> None:
        """The same function with the stream times R."""
        self.turn.copy_(turn)
        for p in (self.query, self.key, self.value, self.down):
            p.copy_(turn.mT @ p)
        for p in (self.output, self.up, self.readout):
            p.copy_(p @ turn)


def heads(planting: Planting, generator: torch.Generator) -> Wiring:
    """Attention to marked places, then units."""
    k, private, dead_heads, dead_units = planting.num_capabilities, 8, 8, 200
    shared = _sets(planting.shared, k)
    nobody = torch.zeros(dead_heads + dead_units, k, dtype=torch.bool)
    first = torch.cat([shared, _single(k, 1), nobody[:dead_heads]])
    units = torch.cat([_single(k, private), nobody[:dead_units]])
    outputs, num_marks = _single(k, NUM_ANSWERS), len(shared) + k
    # the stream: the marks, that one is to answer, what is marked, a slot a bridge and capability
    num_inputs = num_marks + 1 + CONTENT
    slots = _Slots(shared, num_inputs, 2)
    model = Attending(slots.width, len(first), len(units), len(outputs), generator)
    asks = slots.mask(num_marks, 1).expand(len(first), -1)
    marks = torch.eye(slots.width, dtype=torch.bool)[:num_marks]
    marks = torch.cat([marks, marks.new_zeros(dead_heads, slots.width)])
    content = slots.mask(num_marks + 1, CONTENT).expand(len(first), -1)
    plan, alive = _Plan(k), first.any(dim=1)[:, None]
    for name, reads in (("query", asks), ("key", marks), ("value", content)):
        wired = (reads & alive)[:, :, None].expand(-1, -1, HEAD_WIDTH)
        plan.put(name, first, wired, 0, axis=0, reads=True, turned=True)
    wired = slots.written(first)[:, None].expand(-1, HEAD_WIDTH, -1)
    plan.put("output", first, wired, 0, axis=0, turned=True)
    plan.put("up", units, slots.read_out(units), len(first), axis=0, reads=True, turned=True)
    plan.put("bias", units, units.any(dim=1), len(first), axis=0, reads=True)
    plan.put("down", units, slots.written(units).mT, len(first), axis=1, turned=True)
    num = len(first) + len(units)
    plan.put("readout", outputs, slots.read_out(outputs), num, axis=0, turned=True)
    rescalings = [
        Rescaling((("query", 0),), ("key", 0), first),
        Rescaling((("value", 0),), ("output", 0), first),
        Rescaling((("up", 0), ("bias", 0)), ("down", 1), units),
    ]
    turn = _rotation(slots.width, generator)
    draw = _marked_task(planting, slots.width, generator)
    return plan.wiring(model, draw, rescalings, lambda: model.turned(turn))


def _marked_task(planting: Planting, width: int, generator: torch.Generator) -> Draw:
    """Every place but the last has a mark of its own and normal content c.

    s = Σ a_b · c(mark of b) over a capability's bridges, or a · c(its own mark) where it has none;
    q = b · c(its own mark); the answer is q > 0, and whether s and q have one sign.
    """
    k, num = planting.num_capabilities, len(planting.shared)
    num_marks = num + k
    member = _sets(planting.shared, k).float()
    alone = (member.sum(dim=0) == 0).float()
    read, other, own = (
        torch.randn(c, CONTENT, generator=generator) / CONTENT**0.5 for c in (num, k, k)
    )

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        content = torch.randn(n, num_marks, CONTENT, generator=generator)  # by mark
        s = (content[:, :num] * read).sum(dim=-1) @ member
        s = s + alone * (content[:, num:] * other).sum(dim=-1)
        q = (content[:, num:] * own).sum(dim=-1)
        place = torch.rand(n, num_marks, generator=generator).argsort(dim=1)
        x = torch.zeros(n, num_marks + 1, width)
        x[:, :-1, :num_marks] = F.one_hot(place, num_marks).float()
        x[:, -1, num_marks] = 1
        at = place[:, :, None].expand(-1, -1, CONTENT)
        x[:, :-1, num_marks + 1 : num_marks + 1 + CONTENT] = content.gather(1, at)
        return x, 2 * ((s > 0) == (q > 0)).long() + (q > 0).long()

    return draw


class _Slots:
    """Coordinates of a stream: inputs, then some for each bridge, then for each capability."""

    def __init__(self, shared: Owners, num_inputs: int, size: int) -> None:
        every = torch.ones(num_inputs, shared.shape[1], dtype=torch.bool)
        own = _single(shared.shape[1], size)
        self.owners = torch.cat([every, shared.repeat_interleave(size, 0), own])
        self.is_input = self.mask(0, num_inputs)
        self.is_first = self.mask(0, num_inputs // 2)

    def mask(self, start: int, num: int) -> Bool[Tensor, " d"]:
        """Where some coordinates are."""
        at = torch.arange(self.width)
        return (at >= start) & (at < start + num)

    @property
    def width(self) -> int:
        return len(self.owners)

    def read(self, out: Owners, *, shared_inputs: bool) -> Bool[Tensor, "u d"]:
        """Bridges read the first inputs, others their own and the slots of their owners."""
        many = (out.sum(dim=1) >= 2)[:, None]
        own = _within(out, self.owners)
        return own & torch.where(many, self.is_first & shared_inputs, ~self.is_first)

    def written(self, out: Owners) -> Bool[Tensor, "u d"]:
        """The slots of exactly the same owners."""
        same = (out[:, None] == self.owners).all(dim=-1)
        return same & out.any(dim=1)[:, None] & ~self.is_input

    def read_out(self, out: Owners) -> Bool[Tensor, "u d"]:
        return _within(out, self.owners) & ~self.is_input


class _Plan:
    """Whom the weights serve, tensor by tensor."""

    def __init__(self, num_capabilities: int) -> None:
        self.k = num_capabilities
        self.wired: dict[str, Tensor] = {}
        self.owners: dict[str, Tensor] = {}
        self.units: dict[str, Tensor] = {}
        self.unread: dict[str, Tensor] = {}

    def put(
        self,
        name: str,
        out: Owners,
        wired: Tensor,
        first: int,
        *,
        axis: int,
        reads: bool = False,
        turned: bool = False,
    ) -> None:
        """A tensor whose units, numbered from ``first``, lie along an axis.

        Args:
            reads: Whether these are input weights, which dead units have too.
            turned: Whether the stream is turned later, so that all of a unit's weights serve.
        """
        shape = [len(out) if i == axis else 1 for i in range(wired.ndim)]
        alive = out.any(dim=1).view(shape).expand_as(wired)
        self.wired[name] = wired
        self.owners[name] = out.mT.reshape(self.k, *shape) & (alive if turned else wired)
        self.units[name] = (first + torch.arange(len(out))).view(shape).expand_as(wired)
        self.unread[name] = ~alive & reads

    def wiring(
        self,
        model: nn.Module,
        draw: Draw,
        rescalings: Sequence[Rescaling],
        turned: Callable[[], None] = lambda: None,
    ) -> Wiring:
        """With what there is to train."""
        return Wiring(
            model, draw, self.wired, self.owners, self.units, self.unread, rescalings, turned
        )


def _sets(sets: Sequence[tuple[int, ...]], k: int) -> Owners:
    """Rows of who is in each."""
    return torch.tensor([[i in s for i in range(k)] for s in sets])


def _single(k: int, times: int) -> Owners:
    """One owner a row."""
    return torch.eye(k, dtype=torch.bool).repeat_interleave(times, 0)


def _within(out: Bool[Tensor, "o k"], into: Bool[Tensor, "i k"]) -> Bool[Tensor, "o i"]:
    """Whether all owners of the reader are owners of what it reads; no one's reads nothing."""
    return (~out[:, None] | into).all(dim=-1) & out.any(dim=1)[:, None]


def _normal(shape: tuple[int, ...], fan: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator) / fan**0.5


def _rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Uniform over orthogonal matrices (Stewart, SIAM J. Numer. Anal. 1980)."""
    q, upper = torch.linalg.qr(torch.randn(d, d, generator=generator))
    return q * upper.diagonal().sign()

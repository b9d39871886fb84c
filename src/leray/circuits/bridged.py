"""Models with planted bridges: which capability needs which weight is known by construction.

Every unit has *owners*, the capabilities that it may serve, and is wired so that it serves no
other. A weight belongs to the owners of the unit that it is of, and *bridges* are the weights of
two owners and more. The right answers of a capability need what its bridges compute and something
that is its own. Wired weights are trained by gradient descent, all others held at 0; then the model
is made hard:

- noise falls on every weight;
- dead units have input weights like any other's, and nothing reads them;
- units are rescaled: input weights times c and output weights over c, log c uniform, of dead units
  the largest c; what the model does stays, and neither sizes nor gradients say what is needed;
- labels are wrong in training, of each capability another share, so that one capability's Fisher
  information is many times another's.

Shapes: n examples, k capabilities, d inputs, o answers of all capabilities, m weights in one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.circuits.bridges import lost_without
from leray.errors import LerayError

NUM_ANSWERS = 4
"""Of every capability."""
LEARNING_RATE, BATCH, NUM_EXAMPLES = 1e-2, 512, 128
Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Examples ``[n, ...]`` and right answers ``[n, k]``, as many as are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planting:
    """What is planted.

    Args:
        shared: The owners of each bridge.
        rescaled: Units' input weights are multiplied by at most this and divided by at most this;
            1 leaves them.
        bridge_scale: Bridges' input weights are multiplied by this besides.
        wrong: The largest share of wrong labels in training; capability i of k has i/(k − 1) of it.
        noise: Standard deviation of the noise on every weight, in root mean squares of the wired
            weights of its tensor.
    """

    shared: tuple[tuple[int, ...], ...]
    num_capabilities: int = 6
    rescaled: float = 4.0
    bridge_scale: float = 1.0
    wrong: float = 1 / 3
    noise: float = 0.02
    num_steps: int = 600

    def __post_init__(self) -> None:
        k = self.num_capabilities
        if any(not 0 <= i < k for owners in self.shared for i in owners):
            raise LerayError(f"owners are 0 to {k - 1}; got {self.shared}")
        if not self.shared or any(len(set(owners)) < 2 for owners in self.shared):
            raise LerayError(f"bridges have two owners or more; got {self.shared}")


@dataclass(frozen=True, slots=True)
class Rescaling:
    """Units whose input weights may grow as their output weights shrink.

    Args:
        into, out: Names of parameters, and the axis of the units in each.
        owners: Whom each unit serves.
    """

    into: Sequence[tuple[str, int]]
    out: tuple[str, int]
    owners: Bool[Tensor, "u k"]


@dataclass(frozen=True, slots=True)
class Wiring:
    """A model before it is trained.

    Args:
        wired: By parameter, which weights are trained.
        owners: By parameter, whom each weight serves once the model is ``turned``.
        units: By parameter, the number of the unit that each weight is of.
        unread: By parameter, the input weights of dead units.
    """

    model: nn.Module
    draw: Draw
    wired: dict[str, Bool[Tensor, "..."]]
    owners: dict[str, Bool[Tensor, "k ..."]]
    units: dict[str, Int[Tensor, "..."]]
    unread: dict[str, Bool[Tensor, "..."]]
    rescalings: Sequence[Rescaling]
    turned: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Bridged:
    """A planted model; weights in one row are in the order of ``model.named_parameters()``.

    Args:
        inputs: Examples that it was not trained on, and the right ``labels``.
        owners: Whom each weight serves.
        units: The number of the unit that each weight is of.
    """

    model: nn.Module
    inputs: Float[Tensor, "n ..."]
    labels: Int[Tensor, "n k"]
    owners: Bool[Tensor, "k m"]
    units: Int[Tensor, " m"]

    @property
    def truth(self) -> Bool[Tensor, " m"]:
        """Where the bridges are."""
        return self.owners.sum(dim=0) >= 2

    @property
    def answers(self) -> list[Callable[[], Tensor]]:
        """Of every capability, the model's logits on the examples."""
        num = self.labels.shape[1]

        def of(i: int) -> Callable[[], Tensor]:
            return lambda: self.model(self.inputs).chunk(num, dim=-1)[i]

        return [of(i) for i in range(num)]

    @property
    def accuracies(self) -> list[float]:
        """By capability."""
        with torch.no_grad():
            found = [ask().argmax(dim=-1) for ask in self.answers]
        return (torch.stack(found, dim=1) == self.labels).double().mean(dim=0).tolist()


def lost_by_unit(bridged: Bridged) -> tuple[Bool[Tensor, "u k"], Float[Tensor, "u k"]]:
    """The owners of every unit, and what each capability loses without its weights.

    Cost: a pass over the examples a unit and capability.
    """
    owners, lost = [], []
    served = bridged.owners.any(dim=0)
    for unit in bridged.units.unique():
        at = bridged.units == unit
        own = bridged.owners[:, at].any(dim=1)
        owners.append(own)
        lost.append(lost_without(bridged.model, bridged.answers, at & (served | ~own.any())))
    return torch.stack(owners), torch.stack(lost)


def planted(wiring: Wiring, planting: Planting, generator: torch.Generator) -> Bridged:
    """Trained, then made hard.

    Cost: ``num_steps`` steps of Adam; one to five seconds.
    """
    _train(wiring, planting, generator)
    wiring.turned()
    _harden(wiring, planting, generator)
    inputs, labels = wiring.draw(NUM_EXAMPLES, generator)
    names = [name for name, _ in wiring.model.named_parameters()]
    return Bridged(
        wiring.model,
        inputs,
        labels,
        torch.cat([wiring.owners[n].flatten(1) for n in names], dim=1),
        torch.cat([wiring.units[n].flatten() for n in names]),
    )


def _train(wiring: Wiring, planting: Planting, generator: torch.Generator) -> None:
    """Adam, its rate falling to 0; weights that are not wired stay 0."""
    model, k = wiring.model, planting.num_capabilities
    wrong = planting.wrong * torch.arange(k) / (k - 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    _hold(model, wiring.wired)
    for step in range(planting.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / planting.num_steps)
        x, labels = wiring.draw(BATCH, generator)
        other = torch.randint(NUM_ANSWERS, labels.shape, generator=generator)
        is_wrong = torch.rand(labels.shape, generator=generator) < wrong
        logits = model(x).view(BATCH * k, NUM_ANSWERS)
        loss = F.cross_entropy(logits, torch.where(is_wrong, other, labels).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _hold(model, wiring.wired)


@torch.no_grad()
def _hold(model: nn.Module, wired: dict[str, Tensor]) -> None:
    for name, p in model.named_parameters():
        p.mul_(wired[name])


@torch.no_grad()
def _harden(wiring: Wiring, planting: Planting, generator: torch.Generator) -> None:
    """Dead units, noise, and units rescaled."""
    parameters = dict(wiring.model.named_parameters())
    for name, p in parameters.items():
        size = p[wiring.owners[name].any(dim=0)].square().mean().sqrt()
        drawn = size * torch.randn(p.shape, generator=generator)
        p.copy_(torch.where(wiring.unread[name], drawn, p))
        p.add_(planting.noise * size * torch.randn(p.shape, generator=generator))
    for r in wiring.rescalings:
        c = planting.rescaled ** (2 * torch.rand(len(r.owners), generator=generator) - 1)
        num_owners = r.owners.sum(dim=1)
        c = torch.where(num_owners == 0, planting.rescaled, c)
        c = torch.where(num_owners >= 2, planting.bridge_scale * c, c)
        for name, axis in r.into:
            parameters[name].mul_(_along(c, axis, parameters[name]))
        name, axis = r.out
        parameters[name].div_(_along(c, axis, parameters[name]))


def _along(c: Float[Tensor, " u"], axis: int, like: Tensor) -> Tensor:
    """Shaped to multiply one axis."""
    return c.view([-1 if i == axis else 1 for i in range(like.ndim)])


def drawn_owners(
    num: int, num_capabilities: int, generator: torch.Generator, *, everyone: bool = True
) -> tuple[tuple[int, ...], ...]:
    """The owners of as many bridges, two to four each.

    Args:
        everyone: Whether each capability must own one.
    """
    while True:
        found = [
            torch.randperm(num_capabilities, generator=generator)[
                : int(torch.randint(2, 5, (), generator=generator))
            ]
            for _ in range(num)
        ]
        if not everyone or len(set(torch.cat(found).tolist())) == num_capabilities:
            return tuple(tuple(sorted(x.tolist())) for x in found)

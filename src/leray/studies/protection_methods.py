"""Ways to learn something new without forgetting, and how each is tuned.

Every method sees the same batches and has AdamW; some stand there once more with SOAP, which is
Adam in the eigenbases of what gradients were. What differs besides is what is added to the loss,
which weights may move, or how far. Each is tried at four settings.

Source: L2-SP: Li et al. (arXiv 1802.01483); EWC: Kirkpatrick et al. (arXiv 1612.00796); SI: Zenke
et al., Continual learning through synaptic intelligence (arXiv 1703.04200), here with the path of
some more steps on the old task, since that of its training is not kept; MAS: Aljundi et al. (arXiv
1711.09601); LoRA: Hu et al. (arXiv 2106.09685); SOAP: Vyas et al. (arXiv 2409.11321); zones:
:mod:`leray.circuits.zones`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leray.circuits.importance import Factors, one_mask, turned_zones, zones
from leray.circuits.zones import Share, Turned

RATE, SMALLER, LARGER = 0.01, 0.003, 0.02
"""The middle strength is tried at two: with the larger too where weights are held back, else with
the smaller."""
TURNED_RATES = (0.04, 0.06)
"""The same of what moves only in directions that are not needed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A method at a setting.

    Args:
        method: Of `METHODS`.
        rate: Of the optimiser.
        strength: What it means the method says.
    """

    method: str
    rate: float
    strength: float = 0.0

    @property
    def way(self) -> str:
        """The method, whatever its optimiser."""
        return self.method.removesuffix(SOAP)

    @property
    def optimizer(self) -> Literal["AdamW", "SOAP"]:
        """Which one moves the weights."""
        return "SOAP" if self.method.endswith(SOAP) else "AdamW"


SOAP = ", SOAP"
"""What the names of methods with that optimiser end in."""
OURS = f"turned zones{SOAP}"
_WAYS: dict[str, str] = {
    "uniform": "every weight moves, at a lower rate",
    "frozen layers": "the first layers do not move (strength: how many)",
    "L2-SP": "a penalty on the distance from the old weights",
    "EWC": "the same, weighted by Fisher information",
    "SI": "the same, weighted by what each weight did on a path",
    "MAS": "the same, weighted by the sensitivity of the answers",
    "LoRA": "matrices of low rank are added (strength: the rank)",
    "1% replay": "one old text in a hundred (strength: the weight of its loss)",
    "random mask": "weights drawn at random stand still, as many as turned zones keep",
    "zones": "weights go a share of their way, less the more information they have",
    "turned mask": "directions of the most information stand still",
    "turned zones": "directions go a share of their way, less the more information they have",
}
METHODS = _WAYS | {
    f"{m}{SOAP}": f"the method {m}, with SOAP"
    for m in ("uniform", "random mask", "EWC", "MAS", "turned mask", "turned zones")
}
"""What each is, by its name."""
PENALTIES = ("L2-SP", "EWC", "SI", "MAS")
_STRENGTHS: dict[str, tuple[float, ...]] = {
    "frozen layers": (1.0, 2.0, 3.0),
    "L2-SP": (0.001, 0.003, 0.01),
    "MAS": (0.001, 0.003, 0.01),
    **dict.fromkeys(("EWC", "SI"), (0.03, 0.1, 0.3)),
    "LoRA": (2.0, 4.0, 8.0),
    "1% replay": (1.0, 3.0, 10.0),
    "zones": (1e-5, 1e-4, 1e-3),
    **dict.fromkeys(("random mask", "turned mask", "turned zones"), (1e-8, 1e-7, 1e-6)),
}


def plans(method: str) -> tuple[Plan, ...]:
    """The settings that are tried: four of every method.

    The strength of a penalty is of importances with mean 1; of masks and zones it is τ, a mask
    being as large as the zones of its τ.
    """
    way = Plan(method, RATE).way
    if way == "uniform":
        return tuple(Plan(method, r) for r in (SMALLER, 0.006, RATE, LARGER))
    if way in ("turned mask", "turned zones"):
        first, second = TURNED_RATES
    else:
        free = way in ("frozen layers", "LoRA", "1% replay")
        first, second = RATE, SMALLER if free else LARGER
    strengths = _STRENGTHS[way]
    return (*(Plan(method, first, s) for s in strengths), Plan(method, second, strengths[1]))


@dataclass(frozen=True)
class Known:
    """What was measured of an ability in the old weights.

    Args:
        importance: By method, of each weight: EWC, SI, MAS.
        kronecker: The factors of its information.
        new: By weight, 1 on what is only of the new task, such as the rows of new tokens: it may
            always move.
    """

    importance: Mapping[str, dict[str, Tensor]]
    kronecker: dict[str, Factors]
    new: dict[str, Tensor]


def shares_of(
    plan: Plan, model: nn.Module, known: Known, generator: torch.Generator
) -> dict[str, Share]:
    """Of every weight, the share of its way that it goes; empty where all go all of it."""
    own = known.importance["EWC"]
    if plan.way == "frozen layers":
        first = tuple(f"blocks.{i}." for i in range(int(plan.strength)))
        still = {n: 0.0 for n, _ in model.named_parameters() if n.startswith(first)}
        return {**still, **known.new}
    if plan.way == "LoRA":
        return dict(known.new)
    if plan.way == "zones":
        found = zones(own, plan.strength)
    elif plan.way in ("turned mask", "turned zones", "random mask"):
        graduated = plan.way != "turned mask"
        found = turned_zones(own, known.kronecker, plan.strength, graduated=graduated)
    else:
        return {}
    if plan.way == "random mask":
        found = {n: _random(own[n], s, generator) for n, s in found.items()}
    return {n: _opened(s, known.new.get(n)) for n, s in found.items()}


def _random(weight: Tensor, share: Share, generator: torch.Generator) -> Tensor:
    """As many stand still as the shares keep, drawn at random."""
    kept = torch.as_tensor(share.shares if isinstance(share, Turned) else share)
    return one_mask(torch.rand(weight.shape, generator=generator), float(kept.mean()))


def _opened(share: Share, new: Tensor | None) -> Share:
    """All of the way where a weight is only of the new task; turned ones have no other there."""
    if new is None or isinstance(share, Turned):
        return share
    return torch.maximum(torch.as_tensor(share).expand_as(new), new)


class LowRank(nn.Module):
    """W + B A, of which only A and B move; B begins as zero."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        out, into = weight.shape
        self.a = nn.Parameter(torch.randn(rank, into, generator=generator) / into**0.5)
        self.b = nn.Parameter(torch.zeros(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def moved_weights(plan: Plan, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """The weights that the optimiser moves, by name; LoRA puts its own beside the old ones."""
    if plan.way != "LoRA":
        return {**dict(model.named_parameters())}
    found: dict[str, Tensor] = {"embedding.weight": model.get_parameter("embedding.weight")}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            low = LowRank(module.weight, int(plan.strength), generator)
            parametrize.register_parametrization(module, "weight", low)
            found |= {f"{name}.a": low.a, f"{name}.b": low.b}
    return found


def normalised(importance: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of mean 1 over all weights, so that strengths of several methods compare."""
    total = sum(float(x.sum()) for x in importance.values())
    number = sum(x.numel() for x in importance.values())
    return {n: x * (number / total) for n, x in importance.items()}

"""Six ways in which training breaks, planted to see whether they are found.

| kind | what happens |
|---|---|
| labels | the answers of whole batches are exchanged for wrong ones |
| rate | the learning rate is many times too large |
| corruption | noise is written into the weights of one module |
| sign | the gradient's sign is turned |
| moments | the optimisers' moments are replaced by old and far larger ones |
| poison | batches have one capability's inputs only, with wrong answers |

Muon and Adam go equally far whatever the gradient's size, so that a few wrong batches among good
ones do little: momentum outvotes them, and they are no fault. Steps on wrong batches and up the
gradient are therefore ``strength`` times as long, as those of rate are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

from leray.circuits.updates import Moments
from leray.errors import LerayError, nearest

Kind = Literal["labels", "rate", "corruption", "sign", "moments", "poison"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One of them.

    Args:
        start: The first step that it touches, from 0; ``length``: how many.
        strength: Of corruption, the noise in standard deviations of each matrix; of moments, the
            factor on the old ones; of the others, on the learning rate.
        target: Of corruption the module, of poison the capability.
    """

    kind: Kind
    start: int
    length: int = 1
    strength: float = 1.0
    target: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LerayError(
                f"no fault {self.kind!r}; there is {', '.join(KINDS)}{nearest(self.kind, KINDS)}"
            )

    def touches(self, step: int) -> bool:
        return self.start <= step < self.start + self.length

    @property
    def spoils_answers(self) -> bool:
        return self.kind in ("labels", "poison")


def wrong_answers(targets: Int[Tensor, "*b"], choices: Sequence[int]) -> Int[Tensor, "*b"]:
    """Every answer the next of the choices; what is no answer stays.

    >>> wrong_answers(torch.tensor([[-1, 5, 9]]), (5, 7, 9)).tolist()
    [[-1, 7, 5]]
    """
    found = targets.clone()
    for one, other in zip(choices, [*choices[1:], choices[0]], strict=True):
        found[targets == one] = other
    return found


class Injected:
    """What a fault does to a model and its optimisers.

    Args:
        old: Moments of long ago, for the kind that needs them.
        generator: Of the noise.
    """

    def __init__(
        self,
        fault: Fault,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        old: Moments,
        generator: torch.Generator,
    ) -> None:
        self.fault, self.model, self.optimizers = fault, model, optimizers
        self.old, self.generator = old, generator
        self._rates: list[float] = []

    @torch.no_grad()
    def before(self, step: int) -> None:
        """The gradient is there; the optimisers have not moved."""
        fault = self.fault
        if not fault.touches(step):
            return
        if fault.kind == "sign":
            for p in self.model.parameters():
                if p.grad is not None:
                    p.grad.neg_()
        if fault.kind not in ("corruption", "moments"):
            self._rates = [g["lr"] for o in self.optimizers for g in o.param_groups]
            for o in self.optimizers:
                for group in o.param_groups:
                    group["lr"] *= fault.strength
        if fault.kind == "moments":
            self._replay()
        if fault.kind == "corruption":
            self._corrupt()

    def after(self, step: int) -> None:
        """The optimisers have moved."""
        if self._rates and self.fault.touches(step):
            groups = [g for o in self.optimizers for g in o.param_groups]
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
            self._rates = []

    def _replay(self) -> None:
        """First moments grow by the factor; what divides by the second ones is as it was then."""
        for optimizer, of in zip(self.optimizers, self.old, strict=True):
            for p, state in of.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.ndim and "sq" not in name:
                        optimizer.state[p][name].copy_(value * self.fault.strength)

    def _corrupt(self) -> None:
        module = self.model.get_submodule(self.fault.target)
        for p in module.parameters():
            if p.ndim > 1:
                noise = torch.randn(p.shape, generator=self.generator).to(p)
                p.add_(noise * self.fault.strength * p.std())

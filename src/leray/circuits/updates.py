"""The last updates of a training run, by group of steps and by part of the model.

A ring holds the weights after each of the last groups of steps as flat vectors, so that an update,
whatever made it (gradients, decay, momentum, or something that wrote into the weights), is the
difference of two of them, exactly. Beside it lie the optimisers' states at the last checks.

Memory: (groups + 1) times the weights, and (checks + 1) times the optimisers' states.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from leray.circuits.zones import Optimizer
from leray.errors import LerayError, nearest

Moments = list[dict[Tensor, dict[str, Any]]]
"""Of every optimiser, the state of each parameter."""


class Flat:
    """A model's weights as one vector, cut into parts; a tied weight is there once.

    Args:
        parts: Names of modules, of which the longest that a weight is in has it; what is in none
            belongs to the module that holds it.

    Raises:
        LerayError: A name that no module has; no weights, or of several kinds or
            devices.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str] = ()) -> None:
        modules = dict(model.named_modules(remove_duplicate=False))
        for name in parts:
            if name not in modules:
                raise LerayError(
                    f"no module {name!r} among {len(modules)} of the model{nearest(name, modules)}"
                )
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise LerayError("the model has no weight that is trained: nothing is to be watched")
        if len({(p.dtype, p.device) for _, p in named}) != 1:
            raise LerayError("the weights must be of one kind and on one device to be watched")
        self.parameters = [p for _, p in named]
        self.sizes = [p.numel() for p in self.parameters]
        self.size = sum(self.sizes)
        owners = [_owner(name, parts) for name, _ in named]
        self.parts = tuple(dict.fromkeys(owners))
        index = torch.tensor([self.parts.index(o) for o in owners])
        like = self.parameters[0]
        self.part_of: Int[Tensor, " size"] = index.repeat_interleave(torch.tensor(self.sizes)).to(
            like.device
        )

    @torch.no_grad()
    def read(self, out: Tensor | None = None) -> Float[Tensor, " size"]:
        """The weights now."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters], out=out)

    @torch.no_grad()
    def write(self, vector: Float[Tensor, " size"]) -> None:
        """Make these the weights."""
        for p, piece in zip(self.parameters, vector.split(self.sizes), strict=True):
            p.copy_(piece.view_as(p))

    def gradient(self, loss: Tensor) -> Float[Tensor, " size"]:
        """Of a loss; zero where it does not reach. Gradients in place are left alone."""
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        pieces = zip(found, self.parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pieces])

    def by_part(self, x: Float[Tensor, "*g size"]) -> Float[Tensor, "*g parts"]:
        """Sums over each part."""
        sums = torch.zeros(*x.shape[:-1], len(self.parts), dtype=x.dtype, device=x.device)
        return sums.index_add_(-1, self.part_of, x)


def _owner(name: str, parts: Sequence[str]) -> str:
    within = [p for p in parts if name.startswith(f"{p}.")]
    return max(within, key=len) if within else name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Kept:
    """Optimisers' states, and after how many steps they were so."""

    step: int
    moments: Moments


class Ring:
    """The weights after the last groups of steps.

    Args:
        num_groups: How many updates are held; ``steps_a_group`` of the optimiser are one.
        num_checks: At how many checks the optimisers' states are held.
    """

    def __init__(
        self, flat: Flat, num_groups: int, steps_a_group: int = 1, num_checks: int = 2
    ) -> None:
        if min(num_groups, steps_a_group, num_checks) < 1:
            raise LerayError("a ring holds at least one group of one step, and one check")
        self.flat, self.num_groups, self.steps_a_group = flat, num_groups, steps_a_group
        self.kept: deque[Kept] = deque(maxlen=num_checks + 1)
        self.step = 0
        like = flat.parameters[0]
        self._slots = torch.empty(num_groups + 1, flat.size, dtype=like.dtype, device=like.device)
        self.restart()

    def restart(self) -> None:
        """The weights are as they are now, and no update is known."""
        self._ends = deque([self.step], maxlen=self.num_groups + 1)
        self._last = 0
        self.flat.read(self._slots[0])

    def record(self) -> None:
        """A step was made."""
        self.step += 1
        if (self.step - self._ends[-1]) >= self.steps_a_group:
            self.close()

    def close(self) -> None:
        """The group that is open ends here."""
        if self.step > self._ends[-1]:
            self._last = (self._last + 1) % len(self._slots)
            self._ends.append(self.step)
            self.flat.read(self._slots[self._last])

    def keep(self, optimizers: Sequence[Optimizer]) -> None:
        """Copy the optimisers' states."""
        self.kept.append(Kept(self.step, moments_of(optimizers)))

    @property
    def ends(self) -> list[int]:
        """After how many steps each group of weights that is held was written, oldest first."""
        return list(self._ends)

    def weights(self, index: int) -> Float[Tensor, " size"]:
        """Those held, oldest first; −1 for the last."""
        n = len(self._ends)
        return self._slots[(self._last - (n - 1 - index % n)) % len(self._slots)]

    def held(self) -> Float[Tensor, "ends size"]:
        """All of them: what each group of steps added is their differences."""
        return torch.stack([self.weights(i) for i in range(len(self._ends))])

    def moments_before(self, step: int) -> Kept | None:
        """The last states that were kept at or before a step."""
        return next((k for k in reversed(self.kept) if k.step <= step), None)

    def forget_after(self, step: int) -> None:
        """States of later steps, which hold what was undone."""
        while self.kept and self.kept[-1].step > step:
            self.kept.pop()

    @property
    def num_bytes(self) -> int:
        """Of weights and states that are held."""
        states = (
            x.numel() * x.element_size()
            for k in self.kept
            for of in k.moments
            for state in of.values()
            for x in state.values()
            if isinstance(x, Tensor)
        )
        return self._slots.numel() * self._slots.element_size() + sum(states)


@torch.no_grad()
def moments_of(optimizers: Sequence[Optimizer]) -> Moments:
    """A copy of all that optimisers remember."""
    return [
        {p: {k: _copied(v) for k, v in state.items()} for p, state in o.state.items()}
        for o in optimizers
    ]


@torch.no_grad()
def restore_moments(optimizers: Sequence[Optimizer], kept: Moments) -> None:
    """Give optimisers back what they remembered; what is new since then they forget."""
    for optimizer, of in zip(optimizers, kept, strict=True):
        for p in [p for p in optimizer.state if p not in of]:
            del optimizer.state[p]
        for p, state in of.items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    optimizer.state[p][name].copy_(value)
                else:
                    optimizer.state[p][name] = _copied(value)


def _copied(value: Any) -> Any:
    """Of whatever an optimiser remembers: some keep lists of tensors, which they write into."""
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)

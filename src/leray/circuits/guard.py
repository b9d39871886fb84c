"""Coordinates that were found guilty: they go a share of their way, and more from check to check.

The share of coordinate i is s_i = 1 − c_i. The fewest coordinates that together have most of the
blame for what was undone get c_i ← 1 − share (1 − c_i); at every check that finds nothing
c ← release · c, and below 1 − `FREE` they are free. So what is guilty again and again stays slow,
and what was so once is soon as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from leray.circuits.rollback import Culprits
from leray.circuits.updates import Flat
from leray.circuits.zones import Optimizer, Zoned

MOST = 0.9
"""The share of the blame that the guilty coordinates have."""
FREE = 0.99
"""The share from which on a coordinate is free."""


class Guarded:
    """Optimisers of which some coordinates go a share of their way, for a while."""

    def __init__(
        self,
        flat: Flat,
        optimizers: Sequence[Optimizer],
        share: float,
        release: float,
    ) -> None:
        self.flat, self.share, self.left = flat, share, release
        self.zoned = [Zoned(o, {}) for o in optimizers]
        self.kept_back: Float[Tensor, " size"] | None = None
        """c; None where all are free."""

    @property
    def shares(self) -> Float[Tensor, " size"]:
        """s."""
        like = self.flat.parameters[0]
        if self.kept_back is None:
            return torch.ones(self.flat.size, dtype=like.dtype, device=like.device)
        return 1 - self.kept_back

    def step(self) -> None:
        """Of every optimiser."""
        for z in self.zoned:
            z.step()

    @torch.no_grad()
    def add(self, culprits: Culprits, moved: Float[Tensor, " size"]) -> None:
        """Hold back the coordinates that have most of the blame for what was undone."""
        if self.share == 1:
            return
        blame = (moved * culprits.gradient).nan_to_num(nan=0.0).relu()
        ordered, order = (blame * culprits.parts[self.flat.part_of]).sort(descending=True)
        num = int((ordered.cumsum(0) < MOST * ordered.sum()).sum()) + 1
        held = self.kept_back if self.kept_back is not None else torch.zeros_like(moved)
        held[order[:num]] = 1 - self.share * (1 - held[order[:num]])
        self._hold(held)

    def release(self) -> None:
        """A check found nothing."""
        if self.kept_back is not None:
            held = self.kept_back * self.left
            self._hold(torch.where(held < 1 - FREE, 0, held))

    def _hold(self, held: Float[Tensor, " size"]) -> None:
        self.kept_back = held if bool(held.any()) else None
        shares: dict[Tensor, Tensor] = {}
        if self.kept_back is not None:
            pieces = zip(self.flat.parameters, held.split(self.flat.sizes), strict=True)
            shares = {p: 1 - h.view_as(p) for p, h in pieces if bool(h.any())}
        for i, z in enumerate(self.zoned):
            own = {id(p) for group in z.param_groups for p in group["params"]}
            self.zoned[i] = Zoned(z.optimizer, {p: s for p, s in shares.items() if id(p) in own})

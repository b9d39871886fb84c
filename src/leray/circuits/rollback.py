"""Which updates broke a capability: ranked by gradient, confirmed by taking them back.

Let F_k be the mean failure of capability k's canaries, Δ_jp the update of the j-th group of steps
in the p-th part of the model, and w(s) the line from the weights before the oldest of them to the
weights now. The blame of an update is its share of what was lost along the line,

    B_jp = Σ_k ∫ ∇F_k(w(s)) · Δ_jp ds,

over the capabilities k that are broken; since the updates add up to the line, all blames add up to
the loss. F is taken without its upper end, so that a wrong answer still has a gradient.

Blame only says where to look. Updates are taken back, w − Σ Δ, most blamed first: the fewest that
bring every capability to its failure before, or to what is allowed where that was more, but for a
fifth of the tolerance (doubling, then bisection), less
those without which it holds as well. Where no choice by blame does, all from the most blamed group
on are taken back, then all. One part alone is taken back where that does as much as all of them.

What broke a capability may have harmed what is being learned too, and more than the capability.
Where a loss of that is known, it decides: between these updates, these and each further one that it
is better without, and all from some group on, among those that restore the capabilities.

Source: Sundararajan, Taly and Yan, Axiomatic attribution (arXiv 1703.01365), for the integral;
Zeller and Hildebrandt, Simplifying and isolating failure-inducing input (IEEE TSE 2002), for
confirming by taking away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from leray.circuits.canaries import Canaries, Limits, failures, margins_of
from leray.circuits.updates import Flat

NUM_POINTS = 8
"""Of the midpoint rule along the line."""
SLACK = 0.2
"""How far from restored is restored, in tolerances: steps before had their ups and downs too."""
FINE = 0.01
"""How much worse one part alone may be than all."""


@dataclass(frozen=True)
class Culprits:
    """What was taken back.

    Args:
        blame: ``[groups, parts]``.
        gradient: The mean of ∇F along the line.
        groups: Those taken back.
        parts: Which parts of them.
        way: ``blamed``, ``since`` (all from some group on) or ``all``.
        before, now, after: Mean failure of every capability before the oldest group, when it was
            found broken, and afterwards.
        weights: With these taken back; ``taken``: what they had added.
        tried: How often updates were taken back to see.
    """

    blame: Float[Tensor, "groups parts"]
    gradient: Float[Tensor, " size"]
    groups: tuple[int, ...]
    parts: Bool[Tensor, " parts"]
    way: str
    before: Float[Tensor, " capabilities"]
    now: Float[Tensor, " capabilities"]
    after: Float[Tensor, " capabilities"]
    weights: Float[Tensor, " size"]
    taken: Float[Tensor, " size"]
    tried: int

    @property
    def ranked(self) -> list[int]:
        """Groups, most blamed first."""
        return self.blame.sum(dim=1).argsort(descending=True).tolist()


class Bench:
    """A model on which weights are tried; it must be given its own back."""

    def __init__(
        self,
        model: nn.Module,
        flat: Flat,
        canaries: Mapping[str, Canaries],
        limits: Limits,
        progress: Callable[[nn.Module], Tensor] | None = None,
    ) -> None:
        self.model, self.flat, self.progress = model, flat, progress
        self.canaries = list(canaries.values())
        like = flat.parameters[0]
        self.safe, self.start = (
            torch.tensor(list(x.values()), dtype=like.dtype, device=like.device)
            for x in (limits.safe, limits.start)
        )
        self.tried = 0

    @torch.no_grad()
    def failing(self, weights: Float[Tensor, " size"]) -> Float[Tensor, " capabilities"]:
        """Mean failure of every capability with these weights."""
        self.tried += 1
        self.flat.write(weights)
        pieces = margins_of(self.model, self.canaries)
        return torch.stack([failures(m, s).mean() for m, s in zip(pieces, self.safe, strict=True)])

    @torch.no_grad()
    def losing(self, weights: Float[Tensor, " size"]) -> float:
        """The loss of what is being learned with these weights; inf where it is no number."""
        assert self.progress is not None, "only a bench that was given a loss has one"
        self.flat.write(weights)
        return float(torch.as_tensor(self.progress(self.model)).nan_to_num(nan=torch.inf))

    def gradient(
        self, weights: Float[Tensor, " size"], of: Sequence[int]
    ) -> Float[Tensor, " size"]:
        """Of the failures of these capabilities, without an upper end."""
        self.flat.write(weights)
        pieces = zip(of, margins_of(self.model, [self.canaries[k] for k in of]), strict=True)
        loss = torch.stack([(1 - m / self.safe[k]).relu().mean() for k, m in pieces]).sum()
        return self.flat.gradient(loss).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def find_culprits(
    bench: Bench,
    held: Float[Tensor, "ends size"],
    broken: Sequence[int],
    tolerance: float,
) -> Culprits:
    """The updates that must be taken back; the bench's model is left with them taken back.

    Args:
        held: The weights before the oldest update, then after each.
        broken: Capabilities, by their place.
        tolerance: How much a capability's failure may rise over the start.
    """
    before, now, updates = held[0], held[-1], held.diff(dim=0)
    bench.tried = 0
    were, are = bench.failing(before), bench.failing(now)
    gradient = _mean_gradient(bench, before, now, broken)
    blame = bench.flat.by_part(updates * gradient).nan_to_num(nan=torch.inf)
    bound = were.clamp(min=bench.start, max=bench.start + tolerance) + SLACK * tolerance
    search = _Search(bench, now, updates, bound)
    order = blame.sum(dim=1).argsort(descending=True).tolist()
    groups, way = search.fewest(order), "blamed"
    if groups is None:
        groups, way = list(range(order[0], len(updates))), "since"
        if order[0] == 0 or not search.restored(groups):
            groups, way = list(range(len(updates))), "all"
    parts = torch.ones(blame.shape[1], dtype=torch.bool, device=blame.device)
    weights = before if way == "all" else search.without(groups, parts)
    after = bench.failing(weights)
    if way == "blamed":
        one = torch.zeros_like(parts)
        one[blame[groups].sum(dim=0).argmax()] = True
        alone = search.without(groups, one)
        still = bench.failing(alone)
        if bool((still <= after + FINE).all()):
            parts, weights, after = one, alone, still
    found = Culprits(
        blame=blame,
        gradient=gradient,
        groups=tuple(sorted(groups)),
        parts=parts,
        way=way,
        before=were,
        now=are,
        after=after,
        weights=weights,
        taken=now - weights,
        tried=bench.tried,
    )
    if bench.progress is not None:
        found = _least_lost(search, held, found)
    bench.flat.write(found.weights)
    return replace(found, taken=now - found.weights, tried=bench.tried)


def _least_lost(search: _Search, held: Float[Tensor, "ends size"], found: Culprits) -> Culprits:
    """What is being learned decides between ways to restore the capabilities."""
    bench, num = search.bench, len(search.updates)
    every = torch.ones_like(found.parts)
    bound = torch.maximum(search.bound, found.after)
    best, least = found, bench.losing(found.weights)

    def better(groups: Sequence[int], way: str, parts: Tensor, weights: Tensor) -> None:
        nonlocal best, least
        loss = bench.losing(weights)
        if loss < least and bool(((after := bench.failing(weights)) <= bound).all()):
            own = {"groups": tuple(sorted(groups)), "way": way, "parts": parts}
            best, least = replace(found, **own, weights=weights, after=after), loss

    for group in found.ranked:
        if group not in best.groups:
            groups = (*best.groups, group)
            better(groups, best.way, best.parts, search.without(groups, best.parts))
    for first in range(num):
        better(range(first, num), "since" if first else "all", every, held[first])
    return best


def _mean_gradient(
    bench: Bench, before: Tensor, now: Tensor, broken: Sequence[int]
) -> Float[Tensor, " size"]:
    total = torch.zeros_like(before)
    for i in range(NUM_POINTS):
        at = (i + 0.5) / NUM_POINTS
        total += bench.gradient(torch.lerp(before, now, at), broken)
    return total / NUM_POINTS


@dataclass
class _Search:
    """Takes groups back and looks whether that is enough."""

    bench: Bench
    now: Tensor
    updates: Tensor
    bound: Tensor

    def without(self, groups: Sequence[int], parts: Tensor) -> Float[Tensor, " size"]:
        taken = self.updates[list(groups)].sum(dim=0)
        return self.now - taken * parts[self.bench.flat.part_of]

    def restored(self, groups: Sequence[int]) -> bool:
        every = torch.ones(len(self.bench.flat.parts), dtype=torch.bool, device=self.now.device)
        return bool((self.bench.failing(self.without(groups, every)) <= self.bound).all())

    def fewest(self, order: Sequence[int]) -> list[int] | None:
        """The shortest beginning of the order that is enough, less what it does not need."""
        size = 1
        while not self.restored(order[:size]):
            if size >= len(order) - 1:
                return None
            size = min(2 * size, len(order) - 1)
        low = size // 2
        while size - low > 1:
            middle = (low + size) // 2
            low, size = (low, middle) if self.restored(order[:middle]) else (middle, size)
        kept = list(order[:size])
        for group in reversed(kept[:-1]):
            rest = [g for g in kept if g != group]
            if rest and self.restored(rest):
                kept = rest
        return kept

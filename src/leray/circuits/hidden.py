"""Edges that hide each other: backups, found by ablating many edges at once.

An edge shows nothing on its own while another does its work. If all silent edges of the model, or
all of one layer, show nothing together, nothing is looked for among them. Else all silent edges of
one target are ablated together. Were the rest of the model linear, the root of their effect could
not exceed the sum of the roots of their own effects (the triangle inequality). Where it does, half
of them, a quarter and at last single edges are given back as long as it still does. What remains is
a least set; with all of it but one edge ablated, further edges that show something on top belong to
the group too (of three copies that outvote each other any two are a least set).

What a group's sources read is hidden with them. So the silent edges that bring one source to the
same input of each of them are ablated together as well.

Shapes: a ablations, n edges into one target, b batch, t time, d width.

Source: Zeller and Hildebrandt, Simplifying and isolating failure-inducing input (IEEE TSE 2002),
for the search.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Task, ablated, divergence
from leray.circuits.patching import CleanRun, Target

AT_ONCE = 16
"""Runs of the whole model in one batch."""


@dataclass(frozen=True, slots=True)
class Group:
    """Edges into one target that hide each other.

    Args:
        ablation: The number of the ablation that shows them together.
        edges: Their numbers.
        effect: Of all of them.
    """

    ablation: int
    edges: tuple[int, ...]
    effect: float


@torch.no_grad()
def hidden_groups(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "a s b t d"],
    silent: Bool[Tensor, "a edges"],
    effects: Float[Tensor, "a edges"],
    least: float,
) -> list[Group]:
    """Groups of edges into one target, each silent, which show something together.

    Args:
        silent: Where a target reads an edge whose ablation alone shows nothing.
        effects: Of the silent edges on their own.
        least: How far beyond the triangle inequality an effect shows something.

    Cost: a run of the model for every ablation, and for every layer where it shows something; there
    one run for every target from it on; for a group of g among n edges some 2 g log n + g n more.
    """
    groups = []
    doubtful = _in_layers_that_show(run, task, replaced, silent, least)
    for target, away, edges in run.by_target(replaced):
        here = doubtful[:, edges]
        if not here.any():
            continue
        together = torch.einsum("an,anbtd->abtd", here.to(away), away)
        bounds = (effects[:, edges].sqrt() * here).sum(dim=1).square() + least
        beyond = _effects(run, task, target, together) > bounds
        for ablation in beyond.nonzero()[:, 0].tolist():
            roots = effects[ablation, edges].sqrt()
            search = _Search(run, task, target, away[ablation], roots, least)
            left = here[ablation].nonzero()[:, 0].tolist()
            while search.shows(left):
                members = search.members(left)
                numbers = tuple(edges.start + i for i in members)
                groups.append(Group(ablation, numbers, search.effect(members)))
                left = [i for i in left if i not in members]
    return groups


@torch.no_grad()
def shared_inputs(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "a s b t d"],
    silent: Bool[Tensor, "a edges"],
    group: Group,
) -> Float[Tensor, " edges"]:
    """The effect of ablating a source of a group's sources, at the same input of each at once.

    Cost: a forward pass for every source before them and kind of input.
    """
    edges = run.graph.edges
    nodes = {edges[i].source for i in group.edges}
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in silent[group.ablation].nonzero()[:, 0].tolist():
        node, _, part = edges[i].target.rpartition(".")
        if node in nodes or edges[i].target in nodes:
            alike[edges[i].source, part].append(i)
    sets = list(alike.values())
    clean = run.outputs_of_all()
    effects = clean.new_zeros(len(edges))
    for start in range(0, len(sets), AT_ONCE):
        some = sets[start : start + AT_ONCE]
        masks = torch.zeros(len(some), len(edges), dtype=torch.bool, device=effects.device)
        for mask, numbers in zip(masks, some, strict=True):
            mask[numbers] = True
        outputs = ablated(run.model, run.graph, task.clean, replaced[group.ablation], masks)
        shown = divergence(outputs, clean, task).mean(dim=-1)
        effects = effects.maximum((masks * shown[:, None]).amax(dim=0))
    return effects


def _in_layers_that_show(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "a s b t d"],
    silent: Bool[Tensor, "a edges"],
    least: float,
) -> Bool[Tensor, "a edges"]:
    """The silent edges, but for those of a model or a layer that shows nothing without them all."""
    clean = run.outputs_of_all()
    layers = silent.new_zeros(len(run.model.blocks) + 1, silent.shape[1])
    for target, _, edges in run.by_target(replaced):
        layers[target.layer, edges] = True

    def show(ablation: int, masks: Bool[Tensor, "p edges"]) -> Bool[Tensor, " p"]:
        outputs = ablated(run.model, run.graph, task.clean, replaced[ablation], masks)
        return divergence(outputs, clean, task).mean(dim=-1) > least

    doubtful = torch.zeros_like(silent)
    for ablation, edges in enumerate(silent):
        if edges.any() and bool(show(ablation, edges[None])):
            apart = layers & edges
            doubtful[ablation] = apart[show(ablation, apart)].any(dim=0)
    return doubtful


@dataclass(frozen=True, slots=True)
class _Search:
    """Sets of edges into one target, as lists of their numbers there, under one ablation."""

    run: CleanRun
    task: Task
    target: Target
    moves: Float[Tensor, "n b t d"]
    roots: Float[Tensor, " n"]
    least: float

    def effect(self, numbers: list[int]) -> float:
        together = self.moves[numbers].sum(dim=0, keepdim=True)
        return float(_effects(self.run, self.task, self.target, together))

    def bound(self, numbers: list[int]) -> float:
        return float(self.roots[numbers].sum()) ** 2 + self.least

    def shows(self, numbers: list[int]) -> bool:
        return self.effect(numbers) > self.bound(numbers)

    def members(self, numbers: list[int]) -> list[int]:
        """A least set, and what shows something on top of all of it but one."""
        kept = self._least_set(numbers)
        others = [i for i in numbers if i not in kept]
        found = set(kept)
        for spared in kept:
            rest = [i for i in kept if i != spared]
            shown = _effects(
                self.run, self.task, self.target, self.moves[rest].sum(dim=0) + self.moves[others]
            )
            found |= {
                i
                for i, effect in zip(others, shown.tolist(), strict=True)
                if effect > self.bound([*rest, i])
            }
        return sorted(found)

    def _least_set(self, numbers: list[int]) -> list[int]:
        """Some that still show something, no one of which can be given back."""
        size = len(numbers) // 2
        while size:
            start = 0
            while start < len(numbers):
                rest = numbers[:start] + numbers[start + size :]
                if self.shows(rest):
                    numbers = rest
                else:
                    start += size
            size //= 2
        return numbers


def _effects(
    run: CleanRun, task: Task, target: Target, moves: Float[Tensor, "n b t d"]
) -> Float[Tensor, " n"]:
    """The effect of moving the target's input by each of these; 0 where the target stays."""
    change = run.change(target, moves)
    effects = change.new_zeros(len(moves))
    felt = change.flatten(1).abs().amax(dim=1) > torch.finfo(change.dtype).eps ** 0.5
    if felt.any():
        outputs = run.outputs(target, change[felt])
        effects[felt] = divergence(outputs, run.outputs_of_all(), task).mean(dim=-1)
    return effects

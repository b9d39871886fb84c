"""Exact patching: every edge ablated on its own, by running what comes after its target.

The effect of an edge is the divergence of the outputs from the clean ones, mean over the inputs.
Up to its target nothing changes, so the run starts there: the target alone is computed anew, and
the change of what it writes goes through the rest of the model.

Shapes: a ablations, s sources, n edges into one target, b batch, t time, d width, o outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Task, divergence, messages
from leray.circuits.graph import PARTS, Graph, graph_of
from leray.circuits.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Target:
    """Where a target stands.

    Args:
        place: Its number in the graph.
        layer: The number of layers for the output.
        head: Its number in the layer; None for an MLP and the output.
        part: 0, 1, 2 for a head's queries, keys, values.
        after: The number of the first target that reads what this one writes.
    """

    place: int
    layer: int
    head: int | None
    part: int
    after: int


def targets_of(model: Transformer) -> Iterator[Target]:
    """The targets in the order of the graph."""
    place = 0
    for i, layer in enumerate(model.blocks):
        mlp = place + len(PARTS) * layer.heads.number
        for head in range(layer.heads.number):
            for part in range(len(PARTS)):
                yield Target(place, i, head, part, mlp)
                place += 1
        yield Target(mlp, i, None, 0, mlp + 1)
        place += 1
    yield Target(place, len(model.blocks), None, 0, place)


@dataclass(frozen=True, slots=True)
class CleanRun:
    """What exact patching starts from.

    Args:
        written: The messages on clean inputs.
    """

    model: Transformer
    graph: Graph
    written: Float[Tensor, "s b t d"]

    def read(self, place: int) -> Float[Tensor, "b t d"]:
        """The input of target number ``place``."""
        return self.written[: self.graph.num_before[place]].sum(dim=0)

    def change(self, target: Target, away: Float[Tensor, "n b t d"]) -> Float[Tensor, "n b t d"]:
        """By how much the target alone writes something else when its input moves by ``away``."""
        x = self.read(target.place)
        if target.layer == len(self.model.blocks):
            return away
        layer = self.model.blocks[target.layer]
        if target.head is None:
            return layer.mlp(x + away) - layer.mlp(x)
        moved = [x + away if part == target.part else x for part in range(len(PARTS))]
        return layer.heads.one(target.head, *moved) - layer.heads.one(target.head, x, x, x)

    def outputs(self, target: Target, change: Float[Tensor, "n b t d"]) -> Float[Tensor, "n b t o"]:
        """What the model puts out when what the target writes changes so."""
        x = self.read(target.after) + change
        if target.head is not None:
            x = x + self.model.blocks[target.layer].mlp(x)
        for layer in self.model.blocks[target.layer + 1 :]:
            x = layer(x)
        return x @ self.model.unembedding


def clean_run(model: Transformer, task: Task) -> CleanRun:
    """The messages of the model on the clean inputs of a task."""
    return CleanRun(model, graph_of(model), messages(model, task.clean))


@torch.no_grad()
def patched(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "s b t d"],
    wanted: Bool[Tensor, " edges"] | None = None,
) -> Float[Tensor, " edges"]:
    """The effect of ablating each edge on its own.

    Args:
        replaced: r_s for every source, from :func:`leray.circuits.ablation.replacement`.
        wanted: The edges to patch, all of them by default; the others have effect 0.

    Cost: for every edge a forward pass from its target on.
    """
    clean = run.written.sum(dim=0) @ run.model.unembedding
    away = replaced - run.written
    effects = clean.new_zeros(len(run.graph.edges))
    wanted = torch.ones_like(effects, dtype=torch.bool) if wanted is None else wanted
    for target, chosen, effect in zip(
        targets_of(run.model), run.graph.by_target(wanted), run.graph.by_target(effects),
        strict=True,
    ):  # fmt: skip
        if chosen.any():
            change = run.change(target, away[: len(chosen)][chosen])
            outputs = run.outputs(target, change)
            effect[chosen] = divergence(outputs, clean, task).mean(dim=-1)
    return effects

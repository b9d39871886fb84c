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
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leray.circuits.ablation import Task, divergence, messages
from leray.circuits.graph import PARTS, Graph, graph_of
from leray.circuits.nodes import Transformer

AT_ONCE = 2**18
"""Numbers in the messages that one batch replaces."""


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

    def by_target(
        self, replaced: Float[Tensor, "a s b t d"]
    ) -> Iterator[tuple[Target, Float[Tensor, "a n b t d"], slice]]:
        """Every target, by how much each of its edges would move its input, and their numbers."""
        away = replaced - self.written
        start = 0
        for target in targets_of(self.model):
            n = self.graph.num_before[target.place]
            yield target, away[:, :n], slice(start, start + n)
            start += n

    def outputs_of_all(self) -> Float[Tensor, "b t o"]:
        """What the model puts out on the clean inputs."""
        return self.model.output(self.written.sum(dim=0))

    def read(self, place: int) -> Float[Tensor, "b t d"]:
        """The input of target number ``place``."""
        return self.written[: self.graph.num_before[place]].sum(dim=0)

    def reading(self, target: Target) -> Float[Tensor, "d k"] | None:
        """The linear map through which the target sees its input, where one is first."""
        if target.layer == len(self.model.blocks):
            return self.model.reading()
        layer = self.model.blocks[target.layer]
        if target.head is None:
            return layer.mlp.reading()
        return layer.heads.reading(target.head, target.part)

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
        return self.model.output(x)


def clean_run(model: Transformer, task: Task) -> CleanRun:
    """The messages of the model on the clean inputs of a task."""
    return CleanRun(model, graph_of(model), messages(model, task.clean))


@torch.no_grad()
def patched(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "a s b t d"],
    wanted: Bool[Tensor, "a edges"] | None = None,
) -> Float[Tensor, "a edges"]:
    """The effect of ablating each edge on its own, in several ways.

    Args:
        replaced: For every ablation r_s, from :func:`leray.circuits.ablation.replacement`.
        wanted: What to patch, everything by default; the rest has effect 0.

    Cost: for every edge and ablation a forward pass from the edge's target on.
    """
    clean = run.outputs_of_all()
    effects = clean.new_zeros(len(replaced), len(run.graph.edges))
    wanted = torch.ones_like(effects, dtype=torch.bool) if wanted is None else wanted
    for target, away, edges in run.by_target(replaced):
        for a, i in _parts(wanted[:, edges], away[0, 0].numel()):
            outputs = run.outputs(target, run.change(target, away[a, i]))
            effects[a, edges.start + i] = divergence(outputs, clean, task).mean(dim=-1)
    return effects


@torch.no_grad()
def read_norms(run: CleanRun, replaced: Float[Tensor, "a s b t d"]) -> Float[Tensor, "a edges"]:
    """The norm of what the target's first linear map reads of the change of an edge's message.

    ‖(r_s − m_s) W‖ with W the map of queries, keys, values, W_1 or W_U, by tr Wᵀ G W with G the
    Gram matrix of r_s − m_s; ‖r_s − m_s‖ where a norm comes first. Where it is 0 the edge does
    nothing.

    Cost: b·t·d² for every source, d²·k for every edge into a map of k columns.
    """
    away = (replaced - run.written).flatten(2, 3)
    gram = away.mT @ away  # [a, s, d, d]
    norms = []
    for target, n in zip(targets_of(run.model), run.graph.num_before, strict=True):
        w = run.reading(target)
        read = torch.eye(gram.shape[-1]).to(gram) if w is None else w @ w.mT
        norms.append(torch.einsum("asde,de->as", gram[:, :n], read))
    return torch.cat(norms, dim=1).clamp(min=0).sqrt()


@torch.no_grad()
def local_changes(
    run: CleanRun, replaced: Float[Tensor, "a s b t d"], wanted: Bool[Tensor, "a edges"]
) -> Float[Tensor, "a edges"]:
    """The norm of the change of what the target of an edge alone writes when it is ablated.

    Where it is 0 the edge does nothing.

    Args:
        wanted: Where to look; elsewhere the result is 0.

    Cost: for every edge and ablation wanted one run of the target.
    """
    norms = replaced.new_zeros(wanted.shape)
    for target, away, edges in run.by_target(replaced):
        for a, i in _parts(wanted[:, edges], away[0, 0].numel()):
            change = run.change(target, away[a, i])
            norms[a, edges.start + i] = change.flatten(1).norm(dim=1)
    return norms


def _parts(
    wanted: Bool[Tensor, "a n"], numbers_each: int
) -> Iterator[tuple[Int[Tensor, " p"], Int[Tensor, " p"]]]:
    """Where it is True, in parts whose messages stay near the processor."""
    for part in wanted.nonzero().split(max(1, AT_ONCE // numbers_each)):
        if len(part):
            yield part[:, 0], part[:, 1]

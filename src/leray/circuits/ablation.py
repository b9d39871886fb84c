"""What an edge carries, and what the model puts out when some edges carry something else.

The message of source s is what it writes, ``[b, t, d]``. An ablation gives every source another
message r_s:

- ``resample``: the one it has on corrupted inputs;
- ``mean``: its mean over the data, place by place;
- ``zero``: nothing.

With a set A of edges ablated the target t reads Σ_s m_s + Σ_{s → t in A} (r_s − m_s), where m_s is
what s writes in that very run. A one-edge set is path patching of a single edge.

Shapes: a ablations, s sources, p sets of edges at once, b batch, t time, d width, o outputs.

Source: Wang et al., Interpretability in the wild (arXiv 2211.00593), for mean and resample
ablation; Conmy et al. 2023 for edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leray.circuits.graph import Graph
from leray.circuits.nodes import Transformer, sum_of
from leray.errors import LerayError

Ablation = Literal["resample", "mean", "zero"]
ABLATIONS: tuple[Ablation, ...] = ("resample", "mean", "zero")


@dataclass(frozen=True, slots=True)
class Task:
    """Inputs, what they are corrupted to, and where the outputs count.

    Args:
        clean: Token numbers, ``[b, t]``.
        corrupted: Of the same shape; for ``resample``.
        counted: Where an output counts; every input has at least one such place.

    Raises:
        LerayError: Shapes that differ, no inputs, or nothing that counts.
    """

    clean: Int[Tensor, "..."]
    corrupted: Int[Tensor, "..."]
    counted: Bool[Tensor, "..."]

    def __post_init__(self) -> None:
        shapes = [list(x.shape) for x in (self.clean, self.corrupted, self.counted)]
        if shapes[0] != shapes[1] or shapes[0] != shapes[2] or len(shapes[0]) != 2:
            raise LerayError(
                "clean, corrupted and counted must have one shape, [inputs, places]; got "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        if not shapes[0][0] or not bool(self.counted.any(dim=1).all()):
            raise LerayError("a task needs inputs, each with a place where its output counts")


def messages(model: Transformer, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "s b t d"]:
    """What every source writes, in the order of the graph."""
    written = list(model.embedded(tokens))
    x = sum_of(tuple(written))
    for layer in model.blocks:
        shared = x.unsqueeze(-3)
        heads = layer.heads(shared, shared, shared)
        x = x + heads.sum(dim=-3)
        mlp = layer.mlp(x)
        written += [*heads.unbind(dim=-3), mlp]
        x = x + mlp
    return torch.stack(written)


def replacement(
    model: Transformer, task: Task, ablation: Ablation, clean: Float[Tensor, "s b t d"]
) -> Float[Tensor, "s b t d"]:
    """r_s for every source.

    Args:
        clean: The messages on the clean inputs.

    Raises:
        LerayError: An unknown ablation.
    """
    if ablation == "resample":
        return messages(model, task.corrupted)
    if ablation == "mean":
        return clean.mean(dim=1, keepdim=True).expand_as(clean)
    if ablation == "zero":
        return torch.zeros_like(clean)
    raise LerayError(f"an ablation is one of {', '.join(ABLATIONS)}; got {ablation!r}")


def replacements(
    model: Transformer, task: Task, clean: Float[Tensor, "s b t d"]
) -> Float[Tensor, "a s b t d"]:
    """r_s for every ablation and source, in the order of ``ABLATIONS``."""
    return torch.stack([replacement(model, task, ablation, clean) for ablation in ABLATIONS])


@torch.no_grad()
def ablated(
    model: Transformer,
    graph: Graph,
    tokens: Int[Tensor, "b t"],
    replaced: Float[Tensor, "s b t d"],
    masks: Bool[Tensor, "p edges"],
) -> Float[Tensor, "p b t o"]:
    """The outputs with each of p sets of edges ablated.

    Args:
        replaced: r_s, from :func:`replacement`.
        masks: True where an edge is ablated.

    Cost: p forward passes of the batch in one, and s²·b·t·d operations for each.
    """
    num_sets = len(masks)
    weights = graph.by_pairs(masks.to(replaced))
    away = replaced.new_empty(num_sets, *replaced.shape)  # [p, s, b, t, d]
    x, num_written, place = away.new_zeros(num_sets, *replaced.shape[1:]), 0, 0

    def write(*messages: Tensor) -> None:
        nonlocal x, num_written
        for m in messages:
            away[:, num_written] = replaced[num_written] - m
            x = x + m
            num_written += 1

    def read(num_targets: int) -> Tensor:
        nonlocal place
        share = weights[:, place : place + num_targets, :num_written]
        place += num_targets
        moved = share @ away[:, :num_written].flatten(2)
        return x[:, None] + moved.unflatten(2, x.shape[1:])

    write(*model.embedded(tokens))
    for layer in model.blocks:
        num_heads = layer.heads.number
        q, k, v = read(3 * num_heads).unflatten(1, (num_heads, 3)).unbind(dim=2)
        heads = layer.heads(*(x.transpose(1, 2) for x in (q, k, v)))  # [p, b, h, t, d]
        write(*heads.unbind(dim=2))
        write(layer.mlp(read(1)[:, 0]))
    return model.output(read(1)[:, 0])


def divergence(
    outputs: Float[Tensor, "*p b t o"], clean: Float[Tensor, "b t o"], task: Task
) -> Float[Tensor, "*p b"]:
    """The squared distance of the outputs from the clean ones, mean over the places that count."""
    weights = task.counted / task.counted.sum(dim=1, keepdim=True)
    return ((outputs - clean).square().sum(dim=-1) * weights).sum(dim=-1)

"""ACDC: go through the edges from the output back, and drop each that is not missed.

From the whole graph H on, for every target from the last to the first and every source of it,

    H ← H \\ {s → t}   if   D(H \\ {s → t}) − D(H) < τ,

with D the divergence from the clean outputs when everything outside H is ablated. What is dropped
is never given back, so of edges that back each other up the last one tried stays.

The paper takes the Kullback-Leibler divergence of the next token; ours is the squared distance of
the outputs, so that programs whose output is a number have one too. It leaves the order of the
sources of a target open; here the latest comes first. A target whose node nothing reads any more
loses its edges without a run: D cannot change.

Source: Conmy et al., Towards automated circuit discovery for mechanistic interpretability (arXiv
2304.14997), algorithm 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from leray.circuits.ablation import Ablation, Task, ablated, divergence, replacement
from leray.circuits.graph import OUTPUT, PARTS
from leray.circuits.nodes import Transformer
from leray.circuits.patching import clean_run
from leray.errors import LerayError


@torch.no_grad()
def acdc(
    model: Transformer, task: Task, threshold: float, ablation: Ablation = "resample"
) -> Bool[Tensor, " edges"]:
    """The edges that ACDC keeps.

    Args:
        threshold: τ, in units of the divergence, above 0.

    Raises:
        LerayError: A threshold that is not above 0.

    Cost: a forward pass with the edges apart for every edge whose node is still read.
    """
    if not threshold > 0:
        raise LerayError(f"threshold must be above 0; got {threshold}")
    run = clean_run(model, task)
    graph, clean = run.graph, run.outputs_of_all()
    replaced = replacement(model, task, ablation, run.written)
    kept = torch.ones(len(graph.edges), dtype=torch.bool)
    read = dict.fromkeys(graph.sources, 0)
    lost, end = 0.0, len(kept)
    for target, num_sources in zip(graph.targets[::-1], graph.num_before[::-1], strict=True):
        start = end - num_sources
        if target != OUTPUT and not read[_node(target)]:
            kept[start:end] = False
        else:
            for place in reversed(range(start, end)):
                kept[place] = False
                outputs = ablated(model, graph, task.clean, replaced, ~kept[None])
                now = float(divergence(outputs, clean, task).mean())
                if now - lost < threshold:
                    lost = now
                else:
                    kept[place] = True
                    read[graph.sources[place - start]] += 1
        end = start
    return kept


def _node(target: str) -> str:
    """The source that writes what a target's node computes."""
    node, _, part = target.rpartition(".")
    return node if part in PARTS else target

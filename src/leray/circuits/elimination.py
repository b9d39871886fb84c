"""A small circuit out of orders of edges: those that are missed least go first.

What each edge does while all others are there says little of what it does in a circuit: of three
that carry the same, each alone is missed by nobody. Here F (:mod:`leray.circuits.faithfulness`) is
measured of a circuit without each of its edges in turn; the `DROPPED` of them without which most is
kept go together, and so on until none is left. What was dropped last comes first. It begins with
what patching and gradients together put first, each alone being blind to something.

Source: backward elimination. ACDC (arXiv 2304.14997) drops edges one at a time, from the output
back, by a threshold, and does not come back to one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from leray.circuits.ablation import Ablation, Task, replacement
from leray.circuits.attribution import eap_ig
from leray.circuits.faithfulness import best_edges, measure
from leray.circuits.finder import THOROUGH, find_edges
from leray.circuits.nodes import Transformer
from leray.circuits.patching import clean_run
from leray.circuits.ranking import Ranked

FIRST, DROPPED = 0.35, 1 / 3
"""The share of all edges that it begins with, and that of a circuit's which go at once."""


def eliminate_edges(
    model: Transformer, task: Task, ablation: Ablation = "resample", *, num_steps: int = 5
) -> Ranked:
    """The edges of a model by how long a shrinking circuit keeps them.

    Args:
        num_steps: Of integrated gradients.

    Raises:
        LerayError: As :func:`leray.circuits.finder.find_edges` and
            :func:`leray.circuits.faithfulness.kept`.

    Cost: half of patching every edge exactly, and a forward pass with the edges apart for about
    each: for hundreds of edges, not for a hundred thousand.
    """
    found = find_edges(model, task, budget=THOROUGH)
    run = clean_run(model, task)
    gradients = eap_ig(run, task, replacement(model, task, ablation, run.written), num_steps)
    return Ranked(
        graph=found.graph,
        scores=eliminated(model, task, _places(found.scores) + _places(gradients), ablation),
        attributed=gradients,
        effects=found.scores,
        nothing=found.nothing,
        groups=found.groups,
    )


def _places(scores: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
    """0 for the least."""
    return scores.argsort(stable=True).argsort().to(scores)


@torch.no_grad()
def eliminated(
    model: Transformer, task: Task, scores: Float[Tensor, " edges"], ablation: Ablation
) -> Float[Tensor, " edges"]:
    """The share of edges that an edge is not behind, 1 for the first.

    Args:
        scores: The first circuit is the best of them; the others keep their order behind it.
    """
    keeps = measure(model, task, ablation)
    order = scores.argsort(descending=True, stable=True).tolist()
    circuit = best_edges(scores, [round(FIRST * len(order))])[0]
    last_first: list[int] = order[int(circuit.sum()) :][::-1]
    while circuit.any():
        edges = circuit.nonzero()[:, 0]
        without = circuit.repeat(len(edges), 1)
        without[torch.arange(len(edges)), edges] = False
        best = keeps(without).argsort(descending=True, stable=True)
        gone = edges[best[: max(1, int(DROPPED * len(edges)))]]
        circuit[gone] = False
        last_first += gone.tolist()
    found = torch.empty_like(scores)
    found[torch.tensor(last_first)] = torch.arange(1, len(order) + 1).to(found) / len(order)
    return found

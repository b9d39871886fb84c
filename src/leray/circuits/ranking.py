"""Find the edges of a circuit among a hundred thousand: gradients narrow it down, patching checks.

1. Integrated gradients score all edges, and the best share of them is a circuit.
2. In this circuit alone, all other edges ablated, integrated gradients score its edges anew, by how
   much each keeps; the best half is the next circuit. What stands in for something only as long as
   the rest is there drops out, and what is harmful has a score below 0.
3. The best edges are patched exactly, each on its own, which says what is missed alone.

The ablation is the one under which the circuit is asked for. The largest of several, which suits
small graphs, ranks worse here: zero ablation leaves all that was trained and drowns the others.

Shapes: s sources, b batch, t time, d width.

Source: Hanna et al. (arXiv 2403.17806) for the first step. Bhaskar et al., Finding transformer
circuits with edge pruning (arXiv 2406.16778), train masks where here gradients narrow them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Ablation, Task, divergence, messages, replacement
from leray.circuits.attribution import eap_ig, ig_within
from leray.circuits.graph import Edge, Graph, graph_of
from leray.circuits.nodes import Transformer
from leray.circuits.patching import CleanRun, patched
from leray.errors import LerayError

AT_ONCE = 2**25
"""Numbers in the messages of the inputs whose gradients are taken at once: some 4 GB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """Edges in an order, the best of them patched.

    Args:
        scores: The share of edges that an edge is not behind: 1 is the best.
        attributed: By the first step alone.
        effects: Of ablating an edge alone, 0 where not patched.
        nothing: An effect at most this shows nothing.
        groups: Edges that hide each other; not looked for among a hundred thousand.
    """

    graph: Graph
    scores: Float[Tensor, " edges"]
    attributed: Float[Tensor, " edges"]
    effects: Float[Tensor, " edges"]
    nothing: float
    groups: tuple[tuple[Edge, ...], ...] = ()

    @property
    def circuit(self) -> Bool[Tensor, " edges"]:
        """The patched edges without which alone something is lost."""
        return self.effects > self.nothing


def rank_edges(
    model: Transformer,
    task: Task,
    ablation: Ablation = "resample",
    *,
    share: float = 0.02,
    num_rounds: int = 3,
    num_steps: int = 5,
    num_patched: int = 100,
    least: float = 1e-4,
) -> Ranked:
    """The edges of a model by what a circuit loses without them.

    Args:
        share: Of the edges, the first circuit.
        num_rounds: How often it is scored and halved.
        num_steps: Of the first integrated gradients; of those within a circuit one half.
        num_patched: How many are patched exactly.
        least: An effect that shows something, as a fraction of that of ablating every edge.

    Raises:
        LerayError: A share outside (0, 1], or outputs that are not finite.

    Cost: per input ``num_steps (1 + num_rounds)`` forward and backward passes, and ``num_patched``
    forward passes from the edges' targets on. Memory: the messages of all inputs, clean and
    replaced.
    """
    if not 0 < share <= 1:
        raise LerayError(f"share must lie in (0, 1]; got {share:g}")
    graph = graph_of(model)
    with torch.no_grad():
        run = CleanRun(model, graph, messages(model, task.clean))
        clean = run.outputs_of_all()
        if not bool(clean.isfinite().all()):
            raise LerayError("the model puts out what is not a number: nothing can be ranked")
        replaced = replacement(model, task, ablation, run.written)
        whole = float(divergence(model.output(replaced.sum(dim=0)), clean, task).mean())

    def first(run: CleanRun, task: Task, replaced: Tensor) -> Tensor:
        return eap_ig(run, task, replaced, num_steps)

    def within(run: CleanRun, task: Task, replaced: Tensor) -> Tensor:
        return ig_within(run, task, replaced, circuit, 1 + num_steps // 2)

    attributed = _mean(run, task, replaced, first)
    order = attributed.argsort(descending=True, stable=True)
    size = max(1, round(share * len(order)))
    for _ in range(num_rounds):
        circuit = torch.zeros(len(order), dtype=torch.bool)
        circuit[order[:size]] = True
        own = _mean(run, task, replaced, within)
        inside = order[:size]
        order = torch.cat([inside[own[inside].argsort(descending=True, stable=True)], order[size:]])
        size = max(1, size // 2)
    scores = torch.empty_like(attributed)
    scores[order] = 1 - torch.arange(len(order)).to(scores) / len(order)
    wanted = torch.zeros(1, len(order), dtype=torch.bool)
    wanted[0, order[:num_patched]] = True
    effects = patched(run, task, replaced[None], wanted)[0]
    return Ranked(
        graph=graph, scores=scores, attributed=attributed, effects=effects, nothing=least * whole
    )


def _mean(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "s b t d"],
    score: Callable[[CleanRun, Task, Tensor], Tensor],
) -> Float[Tensor, " edges"]:
    """Of a score over parts of the inputs, each weighed by how many it has."""
    total, num = torch.zeros(()), len(task.clean)
    for part in _parts(num, replaced[:, 0].numel()):
        own = Task(task.clean[part], task.corrupted[part], task.counted[part])
        some = CleanRun(run.model, run.graph, run.written[:, part])
        total = total + score(some, own, replaced[:, part]) * len(own.clean) / num
    return total


def _parts(num_inputs: int, numbers_each: int) -> Iterator[slice]:
    size = max(1, AT_ONCE // numbers_each)
    for start in range(0, num_inputs, size):
        yield slice(start, start + size)

"""How much of what a model does a circuit keeps, by its size.

    F(C) = 1 − D(all but C ablated) / D(all ablated),

with D the divergence from the clean outputs: 1 where nothing is lost, 0 where all is. Over a curve
of sizes, as shares p of the edges,

    CPR = ∫ F dp   (larger is better),   CMD = ∫ |1 − F| dp   (smaller is better)

by the trapezoid rule from an empty circuit on.

Source: Mueller et al., MIB: a mechanistic interpretability benchmark (arXiv 2504.13151), for the
two areas and the ten sizes. Their F compares a metric of the answer; ours the outputs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Ablation, Task, ablated, divergence, replacement
from leray.circuits.nodes import Transformer
from leray.circuits.patching import clean_run
from leray.errors import LerayError

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
AT_ONCE, LARGEST = 8, 2**27
"""Circuits in one batch: so many, or fewer where their messages have more numbers than this."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Faithfulness by size.

    Args:
        sizes: Numbers of edges, increasing, the last one all.
        values: F of each.
    """

    sizes: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def cpr(self) -> float:
        """∫ F dp."""
        return self._area([0.0, *self.values])

    @property
    def cmd(self) -> float:
        """∫ |1 − F| dp."""
        return self._area([1.0, *(abs(1 - f) for f in self.values)])

    def _area(self, values: list[float]) -> float:
        places = torch.tensor([0, *self.sizes], dtype=torch.float64) / self.sizes[-1]
        return float(torch.trapezoid(torch.tensor(values, dtype=torch.float64), places))


@torch.no_grad()
def smallest(
    model: Transformer,
    task: Task,
    scores: Float[Tensor, " edges"],
    curve: Curve,
    least: float,
    ablation: Ablation = "resample",
) -> int:
    """The size from which on the curve stays at least ``least``, by bisection between its sizes.

    Args:
        curve: Of these scores under this ablation.
    """
    keeps = measure(model, task, ablation)
    below = [0, *(n for n, f in zip(curve.sizes, curve.values, strict=True) if f < least)]
    low, high = below[-1], next(n for n in curve.sizes if n > below[-1])
    while high - low > 1:
        middle = (low + high) // 2
        if float(keeps(best_edges(scores, [middle]))) >= least:
            high = middle
        else:
            low = middle
    return high


@torch.no_grad()
def kept(
    model: Transformer, task: Task, circuits: Bool[Tensor, "p edges"], ablation: Ablation
) -> Float[Tensor, " p"]:
    """F of each circuit.

    Raises:
        LerayError: A model whose outputs are not finite, or do not change when all is ablated.

    Cost: a forward pass for every circuit, with its edges apart.
    """
    return measure(model, task, ablation)(circuits)


def measure(
    model: Transformer, task: Task, ablation: Ablation
) -> Callable[[Bool[Tensor, "p edges"]], Float[Tensor, " p"]]:
    """F as a function of circuits, after the clean run and the ablated one; as `kept`."""
    run = clean_run(model, task)
    clean = run.outputs_of_all()
    if not bool(clean.isfinite().all()):
        raise LerayError("the model puts out what is not a number: nothing can be ablated from it")
    replaced = replacement(model, task, ablation, run.written)
    whole = divergence(model.output(replaced.sum(dim=0)), clean, task).mean()
    if not float(whole) > 0:
        raise LerayError(
            f"ablating every edge by {ablation} changes nothing: choose another ablation"
        )

    def keeps(circuits: Tensor) -> Tensor:
        found = [
            divergence(ablated(model, run.graph, task.clean, replaced, ~some), clean, task)
            for some in circuits.split(max(1, min(AT_ONCE, LARGEST // replaced.numel())))
        ]
        return 1 - torch.cat(found).mean(dim=-1) / whole

    return keeps


def faithfulness(
    model: Transformer,
    task: Task,
    scores: Float[Tensor, " edges"],
    *,
    ablation: Ablation = "resample",
    shares: Sequence[float] = SHARES,
) -> Curve:
    """The curve of the circuits of the best edges; of equal scores earlier edges come first.

    Args:
        shares: Of the edges, increasing; at least one edge is taken, and all at the end.

    Raises:
        LerayError: As `kept`.
    """
    num = len(scores)
    sizes = sorted({*(max(1, round(s * num)) for s in shares), num})
    circuits = best_edges(scores, sizes)
    return Curve(tuple(sizes), tuple(kept(model, task, circuits, ablation).tolist()))


def best_edges(
    scores: Float[Tensor, " edges"], sizes: Sequence[int]
) -> Bool[Tensor, "sizes edges"]:
    """The edges of the largest scores, as many as each size says; of equal ones the earlier."""
    rank = torch.empty(len(scores), dtype=torch.long)
    rank[scores.argsort(descending=True, stable=True).cpu()] = torch.arange(len(scores))
    return (rank < torch.tensor(sizes)[:, None]).to(scores.device)

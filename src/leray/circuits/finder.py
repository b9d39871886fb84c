"""Find the edges of a circuit: what can be ruled out, what gradients say, then exact patching.

1. An edge does nothing if its target's first linear map reads nothing of it, or if what its target
   alone writes stays the same. No run of the model is needed to know, and where a few inputs show
   that too many edges are felt, the others are not asked.
2. If more edges are left than may be patched, integrated gradients under every ablation choose,
   and by turns, since they do not pass a saturated softmax, what changes most in what the target
   writes.
3. These are patched exactly, each under the ablation that promises most; where that shows nothing,
   under the others. The score of an edge is the largest effect found, and for edges that were not
   patched the largest attribution.
4. Backups hide from all of this, so edges that showed nothing are ablated in groups
   (:mod:`leray.circuits.hidden`).

Shapes: a ablations, s sources, b batch, t time, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Task, divergence, replacements
from leray.circuits.attribution import eap_ig
from leray.circuits.graph import Edge, Graph
from leray.circuits.hidden import hidden_groups, shared_inputs
from leray.circuits.nodes import Transformer
from leray.circuits.patching import CleanRun, clean_run, local_changes, patched, read_norms
from leray.errors import LerayError

PASS = 34
"""Patched edges for which one pass with gradients is not worth taking (it costs some ten to twenty,
since it reaches every target and the whole model, and promises where patching knows)."""

THOROUGH = 0.5
"""A budget for trained models, whose many small edges are not told apart by gradients."""
FEW = 16
"""Inputs that tell whether a look at all of them may rule out enough edges."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Scores of edges.

    Args:
        scores: The largest effect of ablating an edge, or its attribution where not patched.
        known: Which were patched exactly, or do nothing in what their target writes.
        nothing: An effect at most this shows nothing.
        groups: Edges that hide each other: any one may go, all may not.
    """

    graph: Graph
    scores: Float[Tensor, " edges"]
    known: Bool[Tensor, " edges"]
    nothing: float
    groups: tuple[tuple[Edge, ...], ...]

    @property
    def circuit(self) -> Bool[Tensor, " edges"]:
        """The edges whose score shows something."""
        return self.scores > self.nothing


@torch.no_grad()
def find_edges(
    model: Transformer,
    task: Task,
    *,
    budget: float = 0.05,
    num_steps: int = 3,
    least: float = 1e-4,
) -> Found:
    """Score every edge of a model by what the task loses without it.

    Args:
        budget: Exact runs, as a fraction of those of patching every edge under every ablation.
        num_steps: Of integrated gradients, where they are needed.
        least: An effect that shows something, as a fraction of that of ablating every edge.

    Raises:
        LerayError: A budget or a least effect outside (0, 1].

    Cost: one run of a target for every edge and ablation that is read; then gradients, and of exact
    patching ``budget`` or ``PASS / 3`` runs a pass; where ``PASS`` a pass are enough, these and no
    gradients.
    """
    for name, value in (("budget", budget), ("least", least)):
        if not 0 < value <= 1:
            raise LerayError(f"{name} must lie in (0, 1]; got {value}")
    run = clean_run(model, task)
    replaced = replacements(model, task, run.written)
    nothing = least * _effect_of_all(run, task, replaced)
    rounding = _rounding(run)
    read = read_norms(run, replaced) > rounding
    asked, passes = int(budget * read.numel()), PASS * len(replaced) * num_steps
    num_runs = max(asked, passes)
    felt, alive = _felt(run, replaced, read, rounding, num_runs)
    promise, some, attributed = felt, alive.any(dim=0), torch.zeros_like(felt[0])
    if int(some.sum()) > num_runs:
        num_runs = max(asked, passes // 3)
        with torch.enable_grad():
            gradients = torch.stack([eap_ig(run, task, r, num_steps) for r in replaced])
        attributed = gradients.amax(dim=0) * some
        promise = _by_turns(gradients, felt)
    effects, tried = _patched_by_promise(run, task, replaced, promise * alive, num_runs, nothing)
    known = tried.any(dim=0) | ~some
    scores = torch.where(known, effects.amax(dim=0), attributed)
    silent = read & torch.where(tried, effects <= nothing, ~alive)
    groups = hidden_groups(run, task, replaced, silent, effects, nothing)
    for group in groups:
        numbers = list(group.edges)
        scores[numbers] = scores[numbers].clamp(min=group.effect)
        scores = scores.maximum(shared_inputs(run, task, replaced, silent, group))
    named = tuple(tuple(run.graph.edges[i] for i in group.edges) for group in groups)
    return Found(graph=run.graph, scores=scores, known=known, nothing=nothing, groups=named)


def _felt(
    run: CleanRun,
    replaced: Float[Tensor, "a s b t d"],
    read: Bool[Tensor, "a edges"],
    rounding: float,
    most: int,
) -> tuple[Float[Tensor, "a edges"], Bool[Tensor, "a edges"]]:
    """By how much what targets write changes, and where it may.

    Where more than ``most`` edges are felt on a few inputs, no others are looked at, and all that
    is read may be felt.
    """

    def felt_on(rows: slice) -> Tensor:
        part = CleanRun(run.model, run.graph, run.written[:, rows])
        return local_changes(part, replaced[:, :, rows], read)

    felt = felt_on(slice(FEW))
    if int((felt > rounding).any(dim=0).sum()) > most:
        return felt, read
    if run.written.shape[1] > FEW:
        felt = felt.hypot(felt_on(slice(FEW, None)))
    return felt, felt > rounding


def _rounding(run: CleanRun) -> float:
    """The norm of a change that rounding alone may make."""
    largest = float(run.written.flatten(1).norm(dim=1).max())
    return torch.finfo(run.written.dtype).eps ** 0.5 * largest


def _effect_of_all(run: CleanRun, task: Task, replaced: Float[Tensor, "a s b t d"]) -> float:
    """The largest effect of ablating every edge at once, over the ablations."""
    outputs = run.model.output(replaced.sum(dim=1))
    return float(divergence(outputs, run.outputs_of_all(), task).mean(dim=-1).max())


def _patched_by_promise(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "a s b t d"],
    promise: Float[Tensor, "a edges"],
    num_runs: int,
    nothing: float,
) -> tuple[Float[Tensor, "a edges"], Bool[Tensor, "a edges"]]:
    """The effects of the most promising edges, and what was tried.

    First each under its most promising ablation, then those that showed nothing under the others.
    """
    first = torch.zeros_like(promise, dtype=torch.bool)
    first.scatter_(0, promise.argmax(dim=0, keepdim=True), True)
    chosen = _most(promise.where(first, 0), num_runs)
    effects = patched(run, task, replaced, chosen)
    weak = chosen.any(dim=0) & (effects.amax(dim=0) <= nothing)
    again = _most(promise.where(weak & ~chosen, 0), num_runs - int(chosen.sum()))
    return effects + patched(run, task, replaced, again), chosen | again


def _by_turns(*promises: Float[Tensor, "a edges"]) -> Float[Tensor, "a edges"]:
    """One promise whose order takes the best of each in turn."""
    ranks = [p.flatten().argsort(descending=True).argsort().view_as(p) for p in promises]
    return 1 / (1 + torch.stack(ranks).amin(dim=0).to(promises[0]))


def _most(promise: Float[Tensor, "a edges"], number: int) -> Bool[Tensor, "a edges"]:
    """The ``number`` largest of those above 0."""
    flat = promise.flatten()
    most = torch.zeros_like(flat, dtype=torch.bool)
    most[flat.topk(min(number, len(flat))).indices] = True
    return (most & (flat > 0)).view_as(promise)

"""Attribution patching: what an edge does, by gradients of the divergence in its target's input.

    a(s → t) = mean over inputs of |Σ (r_s − m_s) · g_t|

with g_t the gradient in the input of t, and the sum over places and coordinates. Two gradients:

- ``eap``: at the clean run, of −⟨y, y₀ − y₁⟩, where y₀ are the clean outputs and y₁ those with
  every edge ablated. The divergence itself has gradient 0 there, since y₀ is where it is least;
- ``eap_ig``: of the divergence ‖y − y₀‖², averaged along the straight line from the clean
  embeddings to the ablated ones.

Both take all edges at once, and both are blind where the gradient vanishes although a larger step
would matter: a head that attends to one place only has a saturated softmax.

Shapes: n targets, s sources, b batch, t time, d width, o outputs.

``ig_within`` does the same inside a circuit, with signs.

Source: Syed et al., Attribution patching outperforms automated circuit discovery (arXiv
2310.10348); Hanna et al., Have faith in faithfulness (arXiv 2403.17806), where the line is that of
the input embeddings as here, with midpoints in place of right ends.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Task, divergence
from leray.circuits.graph import Graph
from leray.circuits.patching import CleanRun
from leray.errors import LerayError


def eap(run: CleanRun, task: Task, replaced: Float[Tensor, "s b t d"]) -> Float[Tensor, " edges"]:
    """Edge attribution patching, at the clean run.

    Cost: one forward and one backward pass.
    """
    gap = run.outputs_of_all().detach() - run.model.output(replaced.sum(dim=0)).detach()
    weights = task.counted / task.counted.sum(dim=1, keepdim=True)

    def loss(outputs: Tensor) -> Tensor:
        return -((outputs * gap).sum(dim=-1) * weights).sum()

    return _scores(run, replaced, _gradients(run, run.written[: len(run.model.inputs)], loss))


def eap_ig(
    run: CleanRun, task: Task, replaced: Float[Tensor, "s b t d"], num_steps: int
) -> Float[Tensor, " edges"]:
    """Edge attribution patching with integrated gradients.

    Args:
        num_steps: Points on the line, the midpoints of equal parts; at least 1.

    Raises:
        LerayError: No steps.

    Cost: ``num_steps`` forward and backward passes.
    """
    if num_steps < 1:
        raise LerayError(f"num_steps must be at least 1; got {num_steps}")
    clean = run.outputs_of_all().detach()

    def loss(outputs: Tensor) -> Tensor:
        return divergence(outputs, clean, task).sum()

    total, n = torch.zeros(()), len(run.model.inputs)
    for k in range(num_steps):
        along = torch.lerp(run.written[:n], replaced[:n], (k + 0.5) / num_steps)
        total = total + _gradients(run, along, loss)
    return _scores(run, replaced, total / num_steps)


def ig_within(
    run: CleanRun,
    task: Task,
    replaced: Float[Tensor, "s b t d"],
    circuit: Bool[Tensor, " edges"],
    num_steps: int,
) -> Float[Tensor, " edges"]:
    """What each edge of a circuit keeps while all other edges are ablated, by gradients.

    The integral of ∂D/∂w_e over the share w of ablation of the circuit's edges, from 0 to 1
    together, mean over inputs; 0 off the circuit. The sum over the circuit is D(all ablated) −
    D(all but it).

    Args:
        num_steps: Points on the line, the midpoints of equal parts.

    Cost: ``num_steps`` forward and backward passes with the edges apart.
    """
    clean, total = run.outputs_of_all().detach(), replaced.new_zeros(len(circuit))

    def loss(outputs: Tensor) -> Tensor:
        return divergence(outputs, clean, task).mean()

    for k in range(num_steps):
        shares = torch.full_like(total, (k + 0.5) / num_steps).where(circuit, 1)
        written, gradients = _partly_ablated(run, replaced, run.graph.by_pairs(shares), loss)
        total += _by_edge(run.graph, replaced - written, gradients).sum(dim=0)
    return total.where(circuit, 0) / num_steps


def _partly_ablated(
    run: CleanRun,
    replaced: Float[Tensor, "s b t d"],
    shares: Float[Tensor, "n s"],
    loss: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "s b t d"], Float[Tensor, "n b t d"]]:
    """The messages, and the gradient in every target's input, when edges are ablated in part."""
    x, place = torch.zeros_like(replaced[0]), 0
    written: list[Tensor] = []
    moves: list[Tensor] = []

    def write(*new: Tensor) -> None:
        nonlocal x
        written.extend(new)
        x = x + torch.stack(new).sum(dim=0)

    def read(num_targets: int) -> Tensor:
        nonlocal place
        own = shares[place : place + num_targets, : len(written)]
        away = replaced[: len(written)] - torch.stack(written)
        moves.append(x.new_zeros(num_targets, *x.shape, requires_grad=True))
        place += num_targets
        return x + torch.tensordot(own, away, dims=1) + moves[-1]

    write(*run.written[: len(run.model.inputs)])
    for layer in run.model.blocks:
        number = layer.heads.number
        q, k, v = read(3 * number).unflatten(0, (number, 3)).unbind(dim=1)
        write(*layer.heads(*(y.transpose(0, 1) for y in (q, k, v))).unbind(dim=1))
        write(layer.mlp(read(1)[0]))
    found = torch.autograd.grad(loss(run.model.output(read(1)[0])), moves)
    return torch.stack(written).detach(), torch.cat(found)


def _gradients(
    run: CleanRun, embedded: Float[Tensor, "i b t d"], loss: Callable[[Tensor], Tensor]
) -> Float[Tensor, "n b t d"]:
    """The gradient of the loss in the input of every target."""
    x, moves = embedded.sum(dim=0), []

    def moved(x: Tensor, *ahead: int) -> Tensor:
        moves.append(x.new_zeros(*ahead, *x.shape, requires_grad=True))
        return x + moves[-1]

    for layer in run.model.blocks:
        q, k, v = moved(x, layer.heads.number, 3).unbind(dim=1)
        x = x + layer.heads(*(y.transpose(0, 1) for y in (q, k, v))).sum(dim=-3)
        x = x + layer.mlp(moved(x))
    found = torch.autograd.grad(loss(run.model.output(moved(x))), moves)
    return torch.cat([g.flatten(0, -4) if g.dim() > 3 else g[None] for g in found])


def _scores(
    run: CleanRun, replaced: Float[Tensor, "s b t d"], gradients: Float[Tensor, "n b t d"]
) -> Float[Tensor, " edges"]:
    return _by_edge(run.graph, replaced - run.written, gradients).abs().mean(dim=0)


def _by_edge(
    graph: Graph, away: Float[Tensor, "s b t d"], gradients: Float[Tensor, "n b t d"]
) -> Float[Tensor, "b edges"]:
    """Σ away_s · g_t for every edge, over places and coordinates."""
    sources = away.flatten(2).transpose(0, 1)  # [b, s, t·d]
    scores, start = [], 0
    for n, alike in groupby(graph.num_before):
        end = start + len(list(alike))
        own = gradients[start:end].flatten(2).permute(1, 2, 0)  # [b, t·d, n]
        scores.append((sources[:, :n] @ own).mT.flatten(1))
        start = end
    return torch.cat(scores, dim=1)

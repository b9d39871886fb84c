"""The circuit of a model that computes exactly, found one node at a time.

Places are of two kinds, those where outputs count and the others (the first token). An edge s → t
is *felt* at a kind when, on some input and for some ablation, another message of s changes what t
alone writes there, every other message being that of the clean run. A source *matters* at a kind
when another message of it at places of that kind alone is felt by a target at a kind where that
target matters; the output matters where it counts. The circuit is made of the edges that are felt
where their target matters.

No run of the whole model enters, so this stands beside exact patching as a second opinion. It
keeps only edges whose source writes a direction that the target's weights read, and of those leaves
out what a compiled program wires up and never uses. In Tracr's there are two kinds:

- a selector that is always true: all keys have one logit, and softmax does not feel a constant; in
  the program the selector has no arguments either;
- the guard that sends a head to the first token where its selector is empty, whose query reads the
  constant and whose key reads the first token: it decides nothing where no selector is empty.

Backups are not exact in this sense: what reads them may feel neither copy alone.

Shapes: a ablations, n edges into one target, b batch, t time, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Task, replacements
from leray.circuits.nodes import Transformer
from leray.circuits.patching import CleanRun, Target, clean_run

LEAST = 1e-3
"""The smallest change of a coordinate that counts: in compiled programs a smaller one is the leak
of a softmax (below 4e-4), a larger one part of a number that the program handles (above 1e-2)."""


@torch.no_grad()
def known_circuit(model: Transformer, task: Task, least: float = LEAST) -> Bool[Tensor, " edges"]:
    """The edges of the circuit of a compiled program.

    Args:
        task: With all inputs, or enough of them for every branch of the program to be taken.
        least: The smallest change of a coordinate that counts.

    Cost: three runs of an edge's target for every edge and ablation.
    """
    run = clean_run(model, task)
    counted = task.counted.any(dim=0)
    kinds = torch.stack([~counted, counted])
    matters = counted.new_zeros(len(run.graph.sources), 2)
    circuit = []
    for target, away, _ in reversed(list(run.by_target(replacements(model, task, run.written)))):
        n = away.shape[1]
        if target.layer == len(model.blocks):
            live = counted
        else:
            live = kinds[matters[n + (target.head or 0)]].any(dim=0)
        everywhere, *alone = (
            (_changes(run, target, away * moved[:, None]) > least)[:, live].any(dim=1)
            for moved in (torch.ones_like(counted), *kinds)
        )
        circuit.append(everywhere)
        matters[:n] |= torch.stack(alone, dim=1)
    return torch.cat(circuit[::-1])


def _changes(
    run: CleanRun, target: Target, aways: Float[Tensor, "a n b t d"]
) -> Float[Tensor, "n t"]:
    """The largest change of a coordinate that the target writes, for every edge and place."""
    largest = []
    for away in aways:
        change = run.change(target, away)
        if target.layer == len(run.model.blocks):
            x = run.read(target.place)
            change = run.model.output(x + change) - run.model.output(x)
        largest.append(change.abs().amax(dim=(1, 3)))
    return torch.stack(largest).amax(dim=0)

"""Every method of a preset, in its order, each imported only when it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from leray.data.preparation import Prepared
from leray.runs.seeds import Key
from leray.studies.claims import LEVEL, SIMULTANEOUS
from leray.studies.importance import Drive, Evidence
from leray.studies.outcome import Outcome
from leray.studies.presets import Method, Preset

CLAIMED = {
    "montecarlo": 4 * 3600.0,
    "bayes": 2 * 3600.0,
    "variational": 20 * 60.0,
    "networks": 4 * 3600.0,
    "bootstrap": 30 * 60.0,
    "permutation": 20 * 60.0,
    "genetic": 3600.0,
    "tensors": 3 * 3600.0,
}
"""Seconds that the source claims on its GPU, the upper end where it gives a range."""

CLUSTERS_NEEDED = {"networks": 3, "tensors": 4, "ceiling": 3, "bayes": 2, "variational": 2}
"""Conversations without which a method says nothing: it is left out, and the report says so."""


@dataclass(kw_only=True)
class Stack:
    """What the heavy methods need of each other, and what they found.

    Args:
        prepared, evidence, drive: As in `leray.studies.importance.gather`.
        size: The preset.
        key: Of what is drawn outside a computation.
    """

    prepared: Prepared
    evidence: Evidence
    drive: Drive
    size: Preset
    key: Key
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    _posterior: Any = None

    def run(self) -> list[Outcome]:
        """Run every method of the preset."""
        num_clusters = len(self.prepared.clusters)
        for method in self.size.methods:
            needed = CLUSTERS_NEEDED.get(method, 2)
            if method != "montecarlo" and num_clusters < needed:
                self.left_out[method] = f"conversations: {num_clusters}; it needs {needed}"
            else:
                self.outcomes.append(_RUN[method](self))
        return self.outcomes


def _montecarlo(stack: Stack) -> Outcome:
    from leray.studies.stack import montecarlo

    return montecarlo.run(
        stack.drive,
        num_gram=stack.size.num_gram,
        num_literal=stack.size.num_literal,
        level=SIMULTANEOUS,
    )


def _bayes(stack: Stack) -> Outcome:
    from leray.studies.stack import bayes

    outcome, stack._posterior = bayes.run(
        stack.prepared,
        stack.evidence,
        stack.drive,
        num_warmup=stack.size.num_warmup,
        num_draws=stack.size.num_draws,
        level=LEVEL,
    )
    return outcome


def _variational(stack: Stack) -> Outcome:
    from leray.studies.stack import variational

    return variational.run(
        stack.evidence,
        stack._posterior,
        stack.drive,
        num_steps=stack.size.num_vi_steps,
        level=SIMULTANEOUS,
    )


def _networks(stack: Stack) -> Outcome:
    from leray.studies.stack import networks

    return networks.run(
        stack.prepared,
        stack.evidence,
        stack.drive,
        num_rows=stack.size.num_rows,
        exhaustive=stack.size.exhaustive_networks,
        level=SIMULTANEOUS,
    )


def _genetic(stack: Stack) -> Outcome:
    from leray.studies.stack import genetic

    return genetic.run(
        stack.evidence,
        stack.drive,
        num_generations=stack.size.num_generations,
        level=SIMULTANEOUS,
    )


def _tensors(stack: Stack) -> Outcome:
    from leray.studies.stack import tensors

    return tensors.run(
        stack.prepared,
        stack.evidence,
        stack.drive,
        level=SIMULTANEOUS,
        rng=stack.key.child("interactions").generator(),
    )


def _ceiling(stack: Stack) -> Outcome:
    from leray.studies.stack import ceiling

    return ceiling.run(stack.prepared, stack.evidence, stack.drive, level=SIMULTANEOUS)


_RUN: dict[Method, Callable[[Stack], Outcome]] = {
    "montecarlo": _montecarlo,
    "bayes": _bayes,
    "variational": _variational,
    "networks": _networks,
    "genetic": _genetic,
    "tensors": _tensors,
    "ceiling": _ceiling,
}

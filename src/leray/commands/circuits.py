"""`leray circuits find`: the edges of a model that an ability needs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from leray.errors import LerayError, nearest

if TYPE_CHECKING:
    from leray.circuits.ablation import Task
    from leray.circuits.nodes import Transformer

PLANTED = "planted:"
ABLE = 0.99
"""The score from which on a model can do a task, and its circuit can be asked for."""


@dataclass(frozen=True, kw_only=True)
class CircuitsFind:
    """Options of `leray circuits find`.

    Args:
        model: A run of leray lm train on logicstream, or planted:NAME, a compiled program.
        task: A form of argument, such as "modus ponens"; a program is its own task.
        examples: How many inputs circuits are found on.
        seed: Of the examples.
        ablation: What edges outside the circuit carry when it is measured: resample, mean, zero.
        least: The faithfulness that the circuit must keep.
        out: The circuit's file (safetensors), new or overwritten; none by default.
        json: One JSON object on stdout.
    """

    model: str
    task: str | None = None
    examples: int = 64
    seed: int = 0
    ablation: Literal["resample", "mean", "zero"] = "resample"
    least: float = 0.9
    out: Path | None = None
    json: bool = False

    def run(self) -> int:
        """Find the circuit, say what it keeps, write it."""
        import torch

        from leray.circuits.faithfulness import faithfulness, smallest
        from leray.circuits.finder import find_edges
        from leray.data.circuits import Circuit, save_circuit

        if self.examples < 2:
            raise LerayError(f"examples must be 2 or more; got {self.examples}")
        if not 0 < self.least <= 1:
            raise LerayError(f"least must lie in (0, 1]; got {self.least:g}")
        if self.seed < 0:
            raise LerayError(f"seed must be 0 or more; got {self.seed}")
        model, task, ability = self._asked()
        found = find_edges(model, task)
        curve = faithfulness(model, task, found.scores, ablation=self.ablation)
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(len(found.scores), generator=generator)
        chance = faithfulness(model, task, drawn, ablation=self.ablation)
        size = smallest(model, task, found.scores, curve, self.least, self.ablation)
        best = found.scores.argsort(descending=True, stable=True)[:size]
        mask = torch.zeros(len(found.scores), dtype=torch.bool)
        mask[best] = True
        told: dict[str, Any] = {
            "model": self.model,
            "task": self.task,
            "examples": len(task.clean),
            "seed": self.seed,
            "ability": ability,
            "edges": len(mask),
            "size": size,
            "ablation": self.ablation,
            "least": self.least,
            "faithfulness": {"sizes": curve.sizes, "values": curve.values},
            "by_chance": {"sizes": chance.sizes, "values": chance.values},
            "cpr": curve.cpr,
            "cmd": curve.cmd,
            "circuit": [
                {"edge": str(found.graph.edges[i]), "score": float(found.scores[i])}
                for i in best.tolist()
            ],
            "shown": [str(found.graph.edges[i]) for i in found.circuit.nonzero()[:, 0].tolist()],
            "hidden": [[str(edge) for edge in group] for group in found.groups],
        }
        if self.out is not None:
            own = Circuit(graph=found.graph, scores=found.scores, mask=mask, found=told)
            save_circuit(self.out, own, model)
        if self.json:
            print(json.dumps(told, ensure_ascii=False, allow_nan=False))
        else:
            _tell(told, self.out)
        return 0

    def _asked(self) -> tuple[Transformer, Task, float | None]:
        """The model as nodes, the task, and how well it does it."""
        import numpy as np

        if self.model.startswith(PLANTED):
            from leray.data.planted import load_program, task_of

            if self.task is not None:
                raise LerayError(f"a program is its own task: leave out --task {self.task!r}")
            program = load_program(self.model.removeprefix(PLANTED))
            return (
                program.model.requires_grad_(False),
                task_of(program, self.examples, self.seed),
                None,
            )
        from leray.circuits.decoder import Decoder
        from leray.circuits.logicstream import FORMS
        from leray.train.arguments import accuracies, answer_tokens, papers, task_of_form
        from leray.train.checkpoint import load_trained

        if self.task not in FORMS:
            raise LerayError(
                f"task must be one of {', '.join(FORMS)}; got {self.task!r}"
                f"{nearest(self.task or '', FORMS)}"
            )
        trained = load_trained(Path(self.model))
        generator = np.random.default_rng(self.seed)
        given = papers(self.task, max(200, self.examples), generator)
        ability = min(accuracies(trained, given).values())
        if ability < ABLE:
            raise LerayError(
                f"this model cannot do {self.task!r}: it scores {ability:.3f} on its arguments and "
                f"controls, {ABLE} is needed before its circuit means anything; train it longer"
            )
        trained.model.double().requires_grad_(False)
        model = Decoder(trained.model, answer_tokens(trained))
        return model, task_of_form(trained, self.task, self.examples, generator), ability


def _tell(told: dict[str, Any], out: Path | None) -> None:
    print(
        f"{told['size']} of {told['edges']} edges keep {told['least']:g} of what {told['model']} "
        f"does ({told['task'] or 'the program'}, {told['examples']} inputs)"
    )
    for row in told["circuit"]:
        print(f"{row['score']:12.6f}  {row['edge']}")
    within = {row["edge"] for row in told["circuit"]}
    further = [edge for edge in told["shown"] if edge not in within]
    if further:
        print("without these too something is lost, but less:")
        print("\n".join(f"{'':14}{edge}" for edge in further))
    pairs = zip(told["faithfulness"]["sizes"], told["faithfulness"]["values"], strict=True)
    by_chance = told["by_chance"]["values"]
    print("\n   edges  kept   by chance")
    for (size, value), other in zip(pairs, by_chance, strict=True):
        print(f"{size:8}  {value:+.3f} {other:+.3f}")
    for group in told["hidden"]:
        print(f"hide each other: {', '.join(group)}")
    if out is not None:
        print(f"written: {out}", file=sys.stderr)

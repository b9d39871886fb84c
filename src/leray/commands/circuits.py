"""`leray circuits find`: the edges of a model that an ability needs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from leray.commands.figure_file import check_output, wants_pixels, write_figure
from leray.errors import LerayError, check_seed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from leray.circuits.ablation import Ablation, Task
    from leray.circuits.finder import Found
    from leray.circuits.nodes import Transformer
    from leray.circuits.ranking import Ranked

PLANTED = "planted:"
ABLE = 0.99
"""A model that scores more can do a task, and its circuit can be asked for."""
JUDGED, EXAMPLES, PRETRAINED = 200, 64, 8
"""Prompts of each kind that the score is of; inputs for finding; of a pretrained model."""


@dataclass(frozen=True, kw_only=True)
class CircuitsFind:
    """Options of `leray circuits find`.

    Args:
        model: A run of leray lm train on logicstream; planted:NAME, a compiled program; smollm2, or
            a folder with a Llama-type model of transformers.
        task: A form of argument, such as "modus ponens", or of a pretrained model a task in
            English, such as plural; a program is its own task.
        examples: How many inputs circuits are found on: 64, of a pretrained model 8.
        seed: Of the examples.
        ablation: What edges outside the circuit carry when it is measured: resample, mean, zero.
        least: The faithfulness that the circuit must keep.
        out: The circuit's file (safetensors), new or overwritten; none by default.
        picture: A file to draw the circuit into, .svg or .png; one that is there is replaced.
        json: One JSON object on stdout.
    """

    model: str
    task: str | None = None
    examples: int | None = None
    seed: int = 0
    ablation: Literal["resample", "mean", "zero"] = "resample"
    least: float = 0.9
    out: Path | None = None
    picture: Path | None = None
    json: bool = False

    def run(self) -> int:
        """Find the circuit, say what it keeps, write it."""
        import torch

        from leray.circuits.faithfulness import best_edges, faithfulness, kept, smallest
        from leray.circuits.ranking import Ranked
        from leray.data.circuits import Circuit, save_circuit

        if self.examples is not None and self.examples < 2:
            raise LerayError(f"examples must be 2 or more; got {self.examples}")
        if not 0 < self.least <= 1:
            raise LerayError(f"least must lie in (0, 1]; got {self.least:g}")
        check_seed(self.seed)
        check_output(self.picture, "--picture")
        if self.picture is not None and self.picture == self.out:
            raise LerayError(f"--out and --picture are one file, {str(self.out)!r}: name two")
        check_output(self.out, "--out", (".safetensors",))
        asked = self._asked()
        model, judged = asked.model, asked.judged
        if not self.model.startswith(PLANTED):
            print(f"finding the circuit of {self.task}: minutes", file=sys.stderr)
        found = asked.find(model, asked.task, self.ablation)
        curve = faithfulness(model, judged, found.scores, ablation=self.ablation)
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(len(found.scores), generator=generator)
        chance = faithfulness(model, judged, drawn, ablation=self.ablation)
        size = smallest(model, judged, found.scores, curve, self.least, self.ablation)
        best = found.scores.argsort(descending=True, stable=True)[:size]
        both = torch.cat([best_edges(scores, [size]) for scores in (found.scores, drawn)])
        mask, (keeps, at_random) = both[0], kept(model, judged, both, self.ablation).tolist()
        told: dict[str, Any] = {
            "model": self.model,
            "task": self.task,
            "weights": asked.weights,
            "examples": len(asked.task.clean),
            "seed": self.seed,
            "ability": asked.ability,
            "edges": len(mask),
            "nodes": len(found.graph.sources) + 1,
            "layers": len(model.blocks),
            "size": size,
            "kept": keeps,
            "kept_by_chance": at_random,
            "ablation": self.ablation,
            "least": self.least,
            "faithfulness": {"sizes": curve.sizes, "values": curve.values},
            "by_chance": {"sizes": chance.sizes, "values": chance.values},
            "cpr": curve.cpr,
            "cmd": curve.cmd,
            "scored_by": "place" if isinstance(found, Ranked) else "effect",
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
        if self.picture is not None:
            from leray.figures.circuit import circuit_picture

            drawing = circuit_picture(told, pixels=wants_pixels(self.picture))
            write_figure(self.picture, drawing)
        if self.json:
            print(json.dumps(told, ensure_ascii=False, allow_nan=False))
        else:
            _tell(told, self.out)
        return 0

    def _asked(self) -> Asked:
        """Of a program, a pretrained model, or a run."""
        from leray.data.pretrained import is_pretrained

        if self.model.startswith(PLANTED):
            return self._program()
        if is_pretrained(self.model):
            return self._pretrained()
        self._check_folder()
        return self._reasoner()

    def _check_folder(self) -> None:
        """Refuse what holds no model of any kind, before the task is looked at.

        Raises:
            LerayError: So it is.
        """
        from leray.data.planted import program_names
        from leray.data.pretrained import PACKAGED
        from leray.train.checkpoint import DESCRIPTION

        folder = Path(self.model)
        if (folder / DESCRIPTION).is_file():
            return
        reason = "there is no such folder"
        if folder.exists():
            reason = f"it has neither {DESCRIPTION} nor config.json"
        known = (PACKAGED, *(f"{PLANTED}{name}" for name in program_names()))
        raise LerayError(
            f"no model {self.model!r}: {reason}; allowed are a folder that 'leray lm train' wrote, "
            f"{PLANTED}NAME, {PACKAGED}, or a folder with a Llama-type model of transformers"
            f"{nearest(self.model, known)}"
        )

    def _program(self) -> Asked:
        from leray.circuits.finder import THOROUGH, find_edges
        from leray.data.planted import load_program, task_of

        if self.task is not None:
            raise LerayError(f"a program is its own task: leave out --task {self.task!r}")
        program = load_program(self.model.removeprefix(PLANTED))
        task = task_of(program, self.examples or EXAMPLES, self.seed)

        def find(model: Transformer, task: Task, ablation: Ablation) -> Found:  # noqa: ARG001
            return find_edges(model, task, budget=THOROUGH)

        return Asked(program.model.requires_grad_(False), task, task, find)

    def _reasoner(self) -> Asked:
        import numpy as np

        from leray.circuits.decoder import Decoder
        from leray.circuits.elimination import eliminate_edges
        from leray.circuits.logicstream import FORMS
        from leray.train.arguments import accuracies, answer_tokens, papers, task_of_form
        from leray.train.checkpoint import load_trained

        if self.task not in FORMS:
            raise LerayError(
                f"task must be one of {', '.join(FORMS)}; got {self.task!r}"
                f"{nearest(self.task or '', FORMS)}"
            )
        trained = load_trained(Path(self.model))
        generator, number = np.random.default_rng(self.seed), self.examples or EXAMPLES
        scores = accuracies(trained, papers(self.task, max(JUDGED, number), generator))
        ability = self._able(scores, "train it longer")
        trained.model.double().requires_grad_(False)
        task, judged = (task_of_form(trained, self.task, number, generator) for _ in range(2))
        model = Decoder(trained.model, answer_tokens(trained))
        return Asked(model, task, judged, eliminate_edges, ability)

    def _pretrained(self) -> Asked:
        import numpy as np

        from leray.circuits.english import task_named
        from leray.circuits.llama import Llama
        from leray.circuits.ranking import rank_edges
        from leray.data.pretrained import load_pretrained
        from leray.train.english import accuracies, answer_tokens, task_of_english

        english = task_named(self.task)
        own = load_pretrained(self.model)
        generator, number = np.random.default_rng(self.seed), self.examples or PRETRAINED
        scores = accuracies(own, english, max(JUDGED, number), generator)
        ability = self._able(scores, "choose another task")
        task, judged = (task_of_english(own, english, number, generator) for _ in range(2))
        model = Llama(own.model, answer_tokens(own, english))
        return Asked(model, task, judged, rank_edges, ability, own.kept_as)

    def _able(self, scores: dict[str, float], advice: str) -> float:
        """The least score of a task and its controls.

        Raises:
            LerayError: It is too low.
        """
        ability = min(scores.values())
        if ability <= ABLE:
            told = ", ".join(f"{name or 'the task'} {x:.3f}" for name, x in scores.items())
            raise LerayError(
                f"this model cannot do {self.task!r}: it scores {ability:.3f} ({told}), more than "
                f"{ABLE} is needed before its circuit means anything; {advice}"
            )
        return ability


@dataclass(frozen=True, slots=True)
class Asked:
    """What a circuit is asked of.

    Args:
        task: What it is found on.
        judged: What it is measured on: of a program the same, else others.
        find: The edges' scores, what is lost without each or its place in an order.
        ability: How well the model does it; None for a program.
        weights: How they were stored, where that changed them.
    """

    model: Transformer
    task: Task
    judged: Task
    find: Callable[[Transformer, Task, Ablation], Found | Ranked]
    ability: float | None = None
    weights: str = ""


def _tell_by_target(told: dict[str, Any]) -> None:
    """What every input reads, the strongest first, from the output back."""
    from leray.figures.wiring import by_target, wires_of

    print("\nfrom the output back:")
    wires = wires_of(told["circuit"])
    places = told["scored_by"] == "place"
    said = {w: f"#{k + 1}" if places else f"{w.score:.3g}" for k, w in enumerate(wires)}
    for name, read in by_target(wires).items():
        print(f"  {name} ← {', '.join(f'{w.source} ({said[w]})' for w in read)}")


def _tell(told: dict[str, Any], out: Path | None) -> None:
    print(
        f"{told['size']} of {told['edges']} edges keep {told['least']:g} of what {told['model']} "
        f"does ({told['task'] or 'the program'}, {told['examples']} inputs)"
    )
    print(f"these keep {told['kept']:.3f}, as many drawn at random {told['kept_by_chance']:.3f}")
    if told["weights"]:
        print(told["weights"])
    for row in told["circuit"]:
        print(f"{row['score']:12.6f}  {row['edge']}")
    _tell_by_target(told)
    within = {row["edge"] for row in told["circuit"]}
    further = [edge for edge in told["shown"] if edge not in within]
    if further:
        print("without these, too, something is lost under some ablation:")
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

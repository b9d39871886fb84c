"""What a model trained on LogicStream can do: every form of argument beside its controls.

    leray lm train configs/reasoner.toml --out runs/reasoner
    python benchmarks/reasoner.py runs/reasoner --out docs/benchmarks/reasoner.txt

Fresh examples of every form and control, said in ways that were trained and in ways that were not,
with made-up words and with words of the world; the answer is the likeliest of yes, no and unknown.
The score of a form is the least of its accuracies: where it fires, and on each control.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch

from leray.circuits.logic import (
    ANSWERS,
    CONTENTS,
    FORMS,
    HELD_OUT,
    MAX_DISTRACTORS,
    SURFACES,
    Example,
    drawn_example,
)
from leray.train.checkpoint import Trained, load_trained
from leray.train.tokens import SEPARATOR


@torch.no_grad()
def accuracy(trained: Trained, examples: list[Example]) -> float:
    """The share of right answers, of three."""
    vocabulary, context = trained.vocabulary, trained.context
    answers = torch.tensor([int(vocabulary.encode(a)[0]) for a in ANSWERS])
    rows = torch.zeros(len(examples), context, dtype=torch.long)
    ends = torch.empty(len(examples), dtype=torch.long)
    for i, example in enumerate(examples):
        tokens = [SEPARATOR, *vocabulary.encode(" ".join(example.words)).tolist()]
        rows[i, : len(tokens)] = torch.tensor(tokens)
        ends[i] = len(tokens) - 1
    logits = trained.model(rows)[torch.arange(len(rows)), ends][:, answers]
    right = torch.tensor([ANSWERS.index(x.answer) for x in examples])
    return float((logits.argmax(dim=1) == right).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--examples", type=int, default=400, help="of every kind")
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    trained = load_trained(a.run)
    generator = np.random.default_rng(2**31)
    known = tuple(s for s in SURFACES if s not in HELD_OUT)
    lines = [
        f"{a.examples} examples each, 0 to {MAX_DISTRACTORS} distractors; accuracies, the least",
        "of a form's own is its score",
    ]
    for (told, surfaces), content in product(
        (("trained", known), ("held out", HELD_OUT)), CONTENTS
    ):
        lines.append(f"\nways to say it: {told}; words: {content}")
        for form, about in FORMS.items():
            found = {}
            for control in ("", *about.controls):
                examples = [
                    drawn_example(
                        form,
                        control,
                        generator,
                        content=content,
                        num_distractors=int(generator.integers(MAX_DISTRACTORS + 1)),
                        surfaces=surfaces,
                    )
                    for _ in range(a.examples)
                ]
                found[control or "fires"] = accuracy(trained, examples)
            shown = ", ".join(f"{k} {x:.3f}" for k, x in found.items())
            lines.append(f"{form:22} {min(found.values()):.3f}  ({shown})")
    print("\n".join(lines))
    a.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

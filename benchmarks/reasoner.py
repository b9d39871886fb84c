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

from leray.circuits.logicstream import CONTENTS, FORMS, HELD_OUT, MAX_DISTRACTORS, SURFACES
from leray.train.arguments import accuracies, papers
from leray.train.checkpoint import load_trained


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
    lines = [f"{a.examples} examples each; accuracies, the least of a form's own is its score"]
    for numbers, (told, surfaces), content in product(
        (range(1), range(MAX_DISTRACTORS + 1)),
        (("trained", known), ("held out", HELD_OUT)),
        CONTENTS,
    ):
        lines.append(f"\ndistractors: 0 to {numbers[-1]}; ways to say it: {told}; words: {content}")
        for form in FORMS:
            found = dict.fromkeys(("", *FORMS[form].controls), 0.0)
            for number in numbers:
                given = papers(
                    form, a.examples // len(numbers), generator,
                    content=content, num_distractors=number, surfaces=surfaces,
                )  # fmt: skip
                for control, share in accuracies(trained, given).items():
                    found[control] += share / len(numbers)
            shown = ", ".join(f"{k or 'fires'} {x:.3f}" for k, x in found.items())
            lines.append(f"{form:22} {min(found.values()):.3f}  ({shown})")
    print("\n".join(lines))
    a.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

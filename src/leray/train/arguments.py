"""Arguments in words put to a trained model: what it answers, and tasks for finding circuits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leray.circuits.ablation import Task
from leray.circuits.logic import ANSWERS
from leray.circuits.logicstream import FORMS, SURFACES, Surface, drawn_example, drawn_words
from leray.errors import LerayError
from leray.train.checkpoint import Trained
from leray.train.tokens import SEPARATOR


def answer_tokens(trained: Trained) -> tuple[int, ...]:
    """The tokens of yes, no and unknown.

    Raises:
        LerayError: The model has not one token for each.
    """
    found = [trained.vocabulary.encode(a).tolist() for a in ANSWERS]
    if any(len(x) != 1 for x in found) or len({x[0] for x in found}) < len(ANSWERS):
        raise LerayError(
            f"the model has no single tokens for {', '.join(ANSWERS)}: it must be trained on "
            "logicstream, as configs/reasoner.toml does"
        )
    return tuple(x[0] for x in found)


def encoded(
    trained: Trained, texts: Sequence[Sequence[str]]
) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
    """Texts from the separator on, and the place of their last token.

    What is behind the last token is no part of the text, and nothing before it sees it.

    Raises:
        LerayError: A text is longer than the model's context.
    """
    lines = [[SEPARATOR, *trained.vocabulary.encode(" ".join(x)).tolist()] for x in texts]
    longest = max(map(len, lines))
    if longest > trained.context:
        raise LerayError(f"a text of {longest} tokens came; the model has read {trained.context}")
    rows = torch.full((len(lines), longest), SEPARATOR)
    for row, line in zip(rows, lines, strict=True):
        row[: len(line)] = torch.tensor(line)
    return rows, torch.tensor([len(line) - 1 for line in lines])


@torch.no_grad()
def answer_logits(trained: Trained, texts: Sequence[Sequence[str]]) -> Float[Tensor, "b answers"]:
    """Of yes, no and unknown, after each text."""
    rows, ends = encoded(trained, texts)
    logits = trained.model(rows.to(next(trained.model.parameters()).device)).cpu()
    return logits[torch.arange(len(rows)), ends][:, answer_tokens(trained)]


@dataclass(frozen=True, slots=True)
class Paper:
    """Questions of one kind.

    Args:
        control: Of the form; empty where it fires.
        texts: Words up to the question mark.
        right: The numbers of the answers.
    """

    form: str
    control: str
    texts: tuple[tuple[str, ...], ...]
    right: Int[Tensor, " b"]

    def logits(self, trained: Trained) -> Float[Tensor, "b answers"]:
        """What a model answers."""
        return answer_logits(trained, self.texts)


def papers(
    form: str,
    num_examples: int,
    generator: np.random.Generator,
    *,
    content: str = "nonce",
    num_distractors: int = 0,
    surfaces: Sequence[Surface] = SURFACES,
) -> list[Paper]:
    """Where a form fires, and each of its controls.

    Args:
        num_examples: Of each; the rest as :func:`leray.circuits.logicstream.drawn_words` takes it.
    """
    found = []
    for control in ("", *FORMS[form].controls):
        drawn = [
            drawn_words(
                form, control, generator,
                content=content, num_distractors=num_distractors, surfaces=surfaces,
            )
            for _ in range(num_examples)
        ]  # fmt: skip
        right = torch.tensor([ANSWERS.index(answer) for _, answer in drawn])
        found.append(Paper(form, control, tuple(words for words, _ in drawn), right))
    return found


def accuracies(trained: Trained, given: Sequence[Paper]) -> dict[str, float]:
    """The share of right answers by control: ``""`` where the form fires."""
    return {
        p.control: float((p.logits(trained).argmax(dim=1) == p.right).double().mean())
        for p in given
    }


def task_of_form(
    trained: Trained, form: str, num_examples: int, generator: np.random.Generator
) -> Task:
    """Arguments that fire beside their minimal pairs; the place of the answer counts."""
    examples = [drawn_example(form, "", generator) for _ in range(num_examples)]
    clean, ends = encoded(trained, [x.words for x in examples])
    corrupted, _ = encoded(trained, [x.corrupted for x in examples])
    counted = torch.zeros_like(clean, dtype=torch.bool)
    counted[torch.arange(len(clean)), ends] = True
    return Task(clean, corrupted, counted)

"""Tasks in English put to a pretrained model: what it answers, and tasks for finding circuits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from leray.circuits.ablation import Task
from leray.circuits.english import EnglishTask, Words
from leray.data.pretrained import Pretrained
from leray.errors import LerayError

AT_ONCE = 16
"""Prompts in one batch."""


def words_of(pretrained: Pretrained, task: EnglishTask) -> Words:
    """The words of a task that this model's tokenizer has one token for.

    Raises:
        LerayError: There are too few.
    """
    return task.words(lambda text: len(_ids(pretrained, text)) == 1)


def answer_tokens(pretrained: Pretrained, task: EnglishTask) -> tuple[int, ...]:
    """The tokens of all answers, each once."""
    words = words_of(pretrained, task)
    return tuple(dict.fromkeys(_ids(pretrained, a)[0] for a in task.answers(words)))


@torch.no_grad()
def accuracies(
    pretrained: Pretrained, task: EnglishTask, num_prompts: int, generator: np.random.Generator
) -> dict[str, float]:
    """The share of positive prompts that are answered, under ``""``, and of each control that is
    not answered so.

    Args:
        num_prompts: Of each.
    """
    words, found = words_of(pretrained, task), {}
    among = answer_tokens(pretrained, task) if task.among else None
    for control in ("", *task.controls):
        prompts = task.prompts(control, num_prompts, words, generator)
        told = torch.tensor([_ids(pretrained, p.answer)[0] for p in prompts])
        hits = _first_tokens(pretrained, [p.text for p in prompts], among) == told
        found[control] = float((~hits if control else hits).double().mean())
    return found


def task_of_english(
    pretrained: Pretrained, task: EnglishTask, num_pairs: int, generator: np.random.Generator
) -> Task:
    """Positive prompts beside their minimal pairs; the place of the answer counts."""
    words = words_of(pretrained, task)
    pairs = [task.pair(words, generator) for _ in range(num_pairs)]
    clean, ends = _encoded(pretrained, [one.text for one, _ in pairs])
    corrupted, theirs = _encoded(pretrained, [two.text for _, two in pairs])
    assert torch.equal(ends, theirs), "a pair has one length"
    counted = torch.zeros_like(clean, dtype=torch.bool)
    counted[torch.arange(len(clean)), ends] = True
    return Task(clean, corrupted, counted)


def _first_tokens(
    pretrained: Pretrained, texts: Sequence[str], among: Sequence[int] | None
) -> Int[Tensor, " b"]:
    """The token of the largest logit after each text, of all or of some.

    Raises:
        LerayError: Logits that are not finite.
    """
    rows, ends = _encoded(pretrained, texts)
    found = []
    for part, last in zip(rows.split(AT_ONCE), ends.split(AT_ONCE), strict=True):
        hidden = pretrained.model.model(part).last_hidden_state
        logits = pretrained.model.lm_head(hidden[torch.arange(len(part)), last])
        if not bool(logits.isfinite().all()):
            raise LerayError("the model puts out what is not a number: its weights are damaged")
        best = logits.argmax(dim=1) if among is None else logits[:, among].argmax(dim=1)
        found.append(best if among is None else torch.tensor(among)[best])
    return torch.cat(found)


def _encoded(
    pretrained: Pretrained, texts: Sequence[str]
) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
    """Tokens, and the place of the last of each; what is behind it nothing before it sees."""
    lines = [_ids(pretrained, text) for text in texts]
    rows = torch.zeros(len(lines), max(map(len, lines)), dtype=torch.long)
    for row, line in zip(rows, lines, strict=True):
        row[: len(line)] = torch.tensor(line)
    return rows, torch.tensor([len(line) - 1 for line in lines])


def _ids(pretrained: Pretrained, text: str) -> list[int]:
    return pretrained.tokenizer.encode(text, add_special_tokens=False).ids

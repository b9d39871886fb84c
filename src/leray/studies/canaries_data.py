"""What the canary study trains on, watches and reports: arguments in words, by form.

Four forms are learned first and watched from then on; two come later. Canaries that steer, canaries
that report, the later forms' arguments that steer and those held out are texts apart: none is
twice, and none begins a training text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leray.circuits.canaries import Canaries
from leray.circuits.logic import ANSWERS
from leray.circuits.logicstream import FORMS, SURFACES, drawn_line, drawn_words, vocabulary
from leray.runs.seeds import Key

KNOWN = ("modus ponens", "modus tollens", "disjunction", "disjunctive syllogism")
NEW = ("chain", "conjunction")
CONTENTS = ("true", "false")
WORDS = ("<separator>", *vocabulary())
TOKENS = {word: i for i, word in enumerate(WORDS)}
CHOICES = tuple(TOKENS[a] for a in ANSWERS)
QUESTION = TOKENS["?"]
SPOKEN = SURFACES[:4]
"""Ways to say it."""

Words = tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """Texts as tokens.

    Args:
        known, new: Lines to train on, of the forms learned first and later, short ones first.
        steering, reporting: Canaries of each known form.
        held_out: Of the new forms; ``progress``: more of them, which steer.
        by_form: Rows of ``known`` by form, to be poisoned.
    """

    known: np.ndarray
    new: np.ndarray
    steering: dict[str, Canaries]
    reporting: dict[str, Canaries]
    held_out: tuple[Tensor, Tensor]
    progress: tuple[Tensor, Tensor]
    by_form: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSize:
    """How many of each."""

    known: int
    new: int
    steering: int = 96
    reporting: int = 128
    held_out: int = 384
    progress: int = 192


def corpus(size: CorpusSize, key: Key) -> Corpus:
    """Draw all of it."""
    draw = key.child("lines").generator()
    lines = {f: [_line(draw, (f,)) for _ in range(size.known // len(KNOWN))] for f in KNOWN}
    every = sorted((x for found in lines.values() for x in found), key=len)
    new = sorted((_line(draw, NEW) for _ in range(size.new)), key=len)
    seen = {_first(x) for x in (*every, *new)}
    tests = {}
    for part, num in (("steering", size.steering), ("reporting", size.reporting)):
        draw = key.child(part).generator()
        tests[part] = {f: _canaries(_fresh(draw, (f,), num, seen)) for f in KNOWN}
    held, more = (
        _targeted(_fresh(key.child(part).generator(), NEW, num, seen))
        for part, num in (("held out", size.held_out), ("progress", size.progress))
    )
    return Corpus(
        known=rows_of(every),
        new=rows_of(new),
        held_out=held,
        progress=more,
        by_form={f: rows_of(found) for f, found in lines.items()},
        **tests,
    )


def rows_of(texts: Sequence[Words]) -> np.ndarray:
    """``[texts, tokens]``: each from the separator on, and separators behind it."""
    rows = np.zeros((len(texts), 1 + max(map(len, texts))), dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[1 : 1 + len(text)] = [TOKENS[w] for w in text]
    return rows


def targets_of(rows: np.ndarray) -> np.ndarray:
    """What follows a question mark; −1 elsewhere."""
    return np.where(rows[:, :-1] == QUESTION, rows[:, 1:], -1)


def _targeted(tests: Sequence[tuple[Words, str]]) -> tuple[Tensor, Tensor]:
    whole = rows_of([(*text, answer) for text, answer in tests])
    return torch.from_numpy(whole[:, :-1]), torch.from_numpy(targets_of(whole))


def _line(draw: np.random.Generator, forms: Sequence[str]) -> Words:
    return drawn_line(draw, SPOKEN, forms=forms, contents=CONTENTS, max_distractors=1)


def _first(line: Words) -> Words:
    """A training text up to its first question, as a canary is."""
    return line[: line.index("?") + 1]


def _fresh(
    draw: np.random.Generator, forms: Sequence[str], number: int, seen: set[Words]
) -> list[tuple[Words, str]]:
    """Questions that were not asked before; they are then in ``seen``."""
    found: list[tuple[Words, str]] = []
    while len(found) < number:
        form = forms[int(draw.integers(len(forms)))]
        controls = ("", *FORMS[form].controls)
        control = controls[int(draw.integers(2) and draw.integers(1, len(controls)))]
        content = CONTENTS[int(draw.integers(len(CONTENTS)))]
        text, answer = drawn_words(form, control, draw, content=content, surfaces=SPOKEN)
        if text not in seen:
            seen.add(text)
            found.append((text, answer))
    return found


def _canaries(tests: Sequence[tuple[Words, str]]) -> Canaries:
    inputs = rows_of([text for text, _ in tests])
    return Canaries(
        torch.from_numpy(inputs),
        torch.tensor([TOKENS[answer] for _, answer in tests]),
        torch.tensor([len(text) for text, _ in tests]),
        CHOICES,
    )

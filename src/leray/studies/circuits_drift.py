"""What a circuit keeps while its model learns on.

The model goes on with new arguments of all forms, chains among them, which it did not know, at a
twentieth of its first rates. The circuit stays the set of edges that it was; F is measured with the
weights of the day. A model that then scores less than `STILL_ABLE` says nothing of its circuit.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Task
from leray.circuits.decoder import Decoder
from leray.circuits.faithfulness import kept
from leray.circuits.logicstream import FORMS, HELD_OUT, SURFACES, drawn_line
from leray.lm.optimizer import OptimizerConfig, optimizers_of
from leray.train.arguments import Paper, accuracies, answer_tokens, encoded
from leray.train.checkpoint import Trained
from leray.train.tokens import question_mark

MARKS = (20, 60, 180)
"""Steps after which it is measured."""
NUM_SEQUENCES = 32
MATRIX_RATE, RATE, WARMUP = 0.001, 0.00025, 10
STILL_ABLE = 0.95


def drifted(
    own: Trained,
    exam: Sequence[Paper],
    mask: Bool[Tensor, " edges"],
    measuring: Task,
    generator: np.random.Generator,
) -> Float[np.ndarray, " marks"]:
    """What the circuit keeps after `MARKS` steps; NaN where the model cannot do the form.

    Args:
        own: Left as it is.
        exam: On which it shows that it still can.
        mask: The circuit, found before.
        measuring: The examples that F is of (:mod:`leray.circuits.faithfulness`).

    Cost: the last mark's steps of `NUM_SEQUENCES` lines, and at every mark the exam and F.
    """
    model = copy.deepcopy(own.model).float().requires_grad_(True).train()
    learner = Trained(model, own.vocabulary, own.context, {})
    optimizers = optimizers_of(model, OptimizerConfig(matrix_rate=MATRIX_RATE, rate=RATE))
    question = question_mark(own.vocabulary)
    ways = tuple(s for s in SURFACES if s not in HELD_OUT)
    found = []
    for step in range(1, MARKS[-1] + 1):
        lines = [
            drawn_line(generator, ways, forms=tuple(FORMS), contents=("nonce",), max_distractors=0)
            for _ in range(NUM_SEQUENCES)
        ]
        rows, _ = encoded(learner, [line[: own.context - 1] for line in lines])
        for optimizer, base in zip(optimizers, (RATE, MATRIX_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * min(1, step / WARMUP)
            optimizer.zero_grad()
        targets = torch.where(rows[:, :-1] == question, rows[:, 1:], -1)
        model.loss(rows[:, :-1], targets, answers=True).backward()
        for optimizer in optimizers:
            optimizer.step()
        if step in MARKS:
            able = min(accuracies(learner, exam).values()) >= STILL_ABLE
            now = copy.deepcopy(model).double().requires_grad_(False).eval()
            decoder = Decoder(now, answer_tokens(learner))
            keeps = float(kept(decoder, measuring, mask[None], "resample"))
            found.append(keeps if able else np.nan)
    return np.array(found)

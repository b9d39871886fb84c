"""Arguments in words put to a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from leray.circuits.logic import ANSWERS
from leray.circuits.logicstream import drawn_example, drawn_words, vocabulary
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.train.arguments import (
    accuracies,
    answer_logits,
    answer_tokens,
    encoded,
    papers,
    task_of_form,
)
from leray.train.checkpoint import Trained
from leray.train.text import Document
from leray.train.tokens import SEPARATOR, Vocabulary, vocabulary_of


@pytest.fixture(scope="module")
def trained():
    words = vocabulary_of("words:160", [Document("all", " ".join(vocabulary()))])
    config = ModelConfig(num_tokens=words.size, width=16, num_layers=2, num_heads=2)
    return Trained(Model(config, torch.Generator().manual_seed(0)), words, 52, {})


def test_oracle_what_stands_behind_a_text_changes_no_answer(trained):
    """Several together, and each alone."""
    generator = np.random.default_rng(0)
    examples = [drawn_example(f, "", generator) for f in ("modus ponens", "chain", "conjunction")]
    together = answer_logits(trained, [x.words for x in examples])
    alone = torch.cat([answer_logits(trained, [x.words]) for x in examples])
    torch.testing.assert_close(together, alone)
    rows, ends = encoded(trained, [x.words for x in examples])
    for row, end, example in zip(rows, ends, examples, strict=True):
        assert int(row[0]) == SEPARATOR
        assert trained.vocabulary.decode(row[: end + 1].tolist()) == " ".join(example.words)


def test_accuracies_are_shares_of_right_answers(trained):
    """Of an untrained model; the first examples drawn are those that fire."""
    generator = np.random.default_rng(1)
    found = accuracies(trained, papers("modus ponens", 60, generator))
    assert set(found) == {
        "", "affirming the consequent", "irrelevant fact", "missing rule",
    }  # fmt: skip
    again = np.random.default_rng(1)
    examples = [drawn_words("modus ponens", "", again) for _ in range(60)]
    told = answer_logits(trained, [words for words, _ in examples]).argmax(dim=1).tolist()
    right = [ANSWERS[i] == answer for i, (_, answer) in zip(told, examples, strict=True)]
    assert found[""] == pytest.approx(np.mean(right))


def test_a_task_is_examples_and_their_minimal_pairs(trained):
    task = task_of_form(trained, "chain", 20, np.random.default_rng(0))
    assert ((task.clean != task.corrupted).sum(dim=1) == 1).all()
    assert (task.counted.sum(dim=1) == 1).all()
    question = int(trained.vocabulary.encode("?")[0])
    assert (task.clean[task.counted] == question).all()


def test_models_and_texts_that_do_not_fit(trained):
    with pytest.raises(LerayError, match="no single tokens for yes, no, unknown"):
        answer_tokens(replace(trained, vocabulary=Vocabulary()))
    with pytest.raises(LerayError, match="a text of 12 tokens came; the model has read 9"):
        encoded(replace(trained, context=9), [["tom"] * 11])

"""Puzzles against plain interpreters of one sequence, and draws against their distributions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from leray.lm.puzzles import (
    START,
    Puzzles,
    drawn_brackets,
    drawn_hops,
    drawn_products,
    drawn_recall,
)
from leray.lm.words import group_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sequences(puzzles: Puzzles) -> Iterator[tuple[list[int], list[int | None]]]:
    """The symbols of every sequence after ``START``, from 0 on, and the answers that count."""
    for row in range(len(puzzles.tokens)):
        tokens = puzzles.tokens[row].tolist()
        assert tokens[0] == START
        assert min(tokens[1:]) > START
        assert max(tokens) < puzzles.num_tokens
        assert not puzzles.counted[row, 0]
        kept = zip(puzzles.answers[row].tolist(), puzzles.counted[row].tolist(), strict=True)
        yield [x - 1 for x in tokens[1:]], [a if c else None for a, c in kept][1:]
    assert int(puzzles.answers.max()) < puzzles.num_answers
    assert bool((puzzles.answers[~puzzles.counted] == 0).all())


def test_oracle_words():
    """Permutations composed one by one."""
    group = group_of("A5")
    made = drawn_products(group, 20, 11, generator())
    for letters, answers in sequences(made):
        done = group.elements[0]
        for letter, answer in zip(letters, answers, strict=True):
            done = tuple(group.elements[group.letters[letter]][i] for i in done)
            assert answer is not None
            assert group.elements[answer] == done


@pytest.mark.parametrize(("num_kinds", "depth"), [(2, 1), (2, 3), (5, 4)])
def test_oracle_brackets(num_kinds, depth):
    """A stack: what closes is what was opened last, and what is due lies on top."""
    deepest = 0
    for symbols, answers in sequences(drawn_brackets(num_kinds, depth, 60, 50, generator())):
        stack: list[int] = []
        for symbol, answer in zip(symbols, answers, strict=True):
            opens = symbol < num_kinds
            if opens:
                stack.append(symbol)
            else:
                assert stack.pop() == symbol - num_kinds
            deepest = max(deepest, len(stack))
            assert answer == (None if opens or not stack else stack[-1])
    assert deepest == depth


def test_oracle_recall():
    """A dictionary."""
    for symbols, answers in sequences(drawn_recall(12, 7, 40, 9, 5, generator())):
        given = dict(zip(symbols[0:18:2], symbols[1:18:2], strict=True))
        assert len(given) == 9
        assert max(given) < 12 <= min(given.values())
        assert answers == [None] * 18 + [given[x] - 12 for x in symbols[18:]]
        assert len(symbols) == 18 + 5


def test_oracle_hops():
    """A dictionary, twice."""
    for symbols, answers in sequences(drawn_hops(9, 40, 6, 5, generator())):
        f = dict(zip(symbols[0:12:2], symbols[1:12:2], strict=True))
        assert set(f) == set(f.values())
        assert len(f) == 6
        assert answers == [None] * 12 + [f[f[x]] for x in symbols[12:]]
        assert len(symbols) == 12 + 5


def test_statistical_depths_of_brackets():
    """At an even time, long after the start, depths 0, 2 and 4 = D of 4,000 independent walks.

    Only even depths are met then, so that each is twice as common as over all times.
    """
    made = drawn_brackets(2, 4, 4000, 40, generator())
    height = torch.where(made.tokens[:, 1:] <= 2, 1, -1).sum(dim=1)
    for depth, share in ((0, 0.25), (2, 0.5), (4, 0.25)):
        spread = (share * (1 - share) / 4000) ** 0.5
        assert abs(float((height == depth).double().mean()) - share) < 4.5 * spread


@pytest.mark.parametrize(
    ("made", "chance"),
    [
        (drawn_products(group_of("S3"), 4000, 20, generator(1)), 1 / 6),
        (drawn_brackets(4, 6, 4000, 61, generator(2)), 1 / 4),
        (drawn_recall(16, 8, 4000, 8, 1, generator(3)), 1 / 8),
        (drawn_hops(5, 4000, 3, 1, generator(4)), 1 / 5),
    ],
)
def test_statistical_no_answer_is_more_common(made, chance):
    """One answer a sequence, its last, so that the draws are independent."""
    answers = made.answers[:, -1][made.counted[:, -1]]
    assert len(answers) > 1000
    assert made.num_answers == round(1 / chance)
    shares = torch.bincount(answers, minlength=made.num_answers) / len(answers)
    spread = (chance * (1 - chance) / len(answers)) ** 0.5
    assert float((shares - chance).abs().max()) < 4.5 * spread


def test_identity_one_generator_one_batch():
    one, two, other = (drawn_recall(9, 4, 3, 5, 4, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.answers, two.answers)
    assert not torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda g: drawn_products(group_of("S3"), 0, 4, g), "batch must be at least 1; got 0"),
        (lambda g: drawn_brackets(1, 4, 2, 8, g), "num_kinds must be at least 2; got 1"),
        (lambda g: drawn_brackets(2, 0, 2, 8, g), "depth must be at least 1; got 0"),
        (lambda g: drawn_recall(3, 4, 2, 5, 1, g), "num_keys must be at least 5; got 3"),
        (lambda g: drawn_recall(3, 4, 2, 0, 1, g), "num_pairs must be at least 1; got 0"),
        (lambda g: drawn_hops(3, 2, 4, 3, g), "num_points must be at least 4; got 3"),
    ],
)
def test_refusals(call, told):
    with pytest.raises(ValueError, match=told):
        call(generator())

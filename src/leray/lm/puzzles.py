"""Puzzles: sequences whose targets follow from all that came before, and not from any window.

Every puzzle gives tokens, the answer at every token and which answers count; the first token of
every sequence is the same, ``START``, on which no answer counts. Four of them:

- *words*: the running product of letters of a group, see :mod:`leray.lm.words`; chance 1/|G|;
- *brackets*: a prefix of a well-nested sequence of k kinds of brackets, and at every token which
  closing bracket is due, the top of a stack. The depth is a walk on 0, 1, …, D that steps up or
  down with equal chances, but only up from 0 and only down from D: in the long run it spends 1/(2D)
  of the time at either end and 1/D at every depth between. An answer counts where a bracket has
  just closed and another is open; after an opening it is the token itself. Chance 1/k, and more
  for who sees a few tokens only: the bracket closed may be the only one since the one asked for;
- *recall*: n keys, all different, each followed by a value; then keys, drawn uniformly from those
  given, and the answer at each is its value. Chance 1/V of V values, and 1/n for who knows which
  values were given;
- *hops*: a function f of n points among N to themselves, as pairs x, f(x) in random order; then
  points, drawn uniformly from the n, and the answer at each is f(f(x)). f is a permutation, so that
  no value is more common than another. Chance 1/N, and 1/n for who knows which points were given.

Everything lies on the generator's device.

Source: Hewitt et al., RNNs can generate bounded hierarchical languages with optimal memory (EMNLP
2020), for brackets of k kinds to depth D; Arora et al., Zoology (arXiv 2312.04927), for recall of
several queries (MQAR), where distances follow a power law and the queries lie between other
tokens: here they follow each other; Sanford, Hsu and Telgarsky, Transformers, parallel computation
and logarithmic depth (arXiv 2402.09268), for several hops.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.lm.words import Group, drawn_words

START = 0
"""The first token of every sequence."""


@dataclass(frozen=True, slots=True)
class Puzzles:
    """A batch of sequences with the answers."""

    tokens: Int[Tensor, "batch time"]
    answers: Int[Tensor, "batch time"]
    """Zero where none counts."""
    counted: Bool[Tensor, "batch time"]
    num_tokens: int
    """Of the vocabulary, ``START`` included."""
    num_answers: int


def drawn_products(group: Group, batch: int, length: int, generator: torch.Generator) -> Puzzles:
    """Words of ``length`` letters; every answer but that at ``START`` counts."""
    _at_least(1, batch=batch, length=length)
    letters, products = drawn_words(group, batch, length, generator)
    return _started(letters, products, letters >= 0, len(group.letters), group.order)


def drawn_brackets(
    num_kinds: int, depth: int, batch: int, length: int, generator: torch.Generator
) -> Puzzles:
    """Prefixes of well-nested sequences, of ``length`` brackets.

    Tokens 1, …, k open and k + 1, …, 2k close; the answers are the kinds 0, …, k − 1.

    Args:
        num_kinds: k.
        depth: D, the deepest nesting.

    Raises:
        ValueError: A number below 1, or one kind, of which nothing is asked.
    """
    _at_least(1, depth=depth, batch=batch, length=length)
    _at_least(2, num_kinds=num_kinds)
    device = generator.device
    rows = torch.arange(batch, device=device)
    stack = torch.zeros(batch, depth + 1, dtype=torch.int64, device=device)
    height = torch.zeros(batch, dtype=torch.int64, device=device)
    tokens, answers, counted = [], [], []
    for _ in range(length):
        up = torch.rand(batch, generator=generator, device=device) < 0.5
        up = (up | (height == 0)) & (height < depth)
        kind = torch.randint(num_kinds, (batch,), generator=generator, device=device)
        tokens.append(torch.where(up, kind, num_kinds + stack[rows, height]))
        height = height + torch.where(up, 1, -1)
        stack[rows[up], height[up]] = kind[up]
        answers.append(stack[rows, height])
        counted.append(~up & (height > 0))
    said, due, asked = (torch.stack(x, dim=1) for x in (tokens, answers, counted))
    return _started(said, due, asked, 2 * num_kinds, num_kinds)


def drawn_recall(
    num_keys: int,
    num_values: int,
    batch: int,
    num_pairs: int,
    num_queries: int,
    generator: torch.Generator,
) -> Puzzles:
    """``num_pairs`` keys with their values, then ``num_queries`` keys that were given.

    Tokens 1, …, K are the keys and K + 1, …, K + V the values.

    Raises:
        ValueError: A number below 1, or more pairs than keys.
    """
    _at_least(1, num_values=num_values, batch=batch, num_pairs=num_pairs, num_queries=num_queries)
    _at_least(num_pairs, num_keys=num_keys)
    keys = _shuffled(batch, num_keys, generator)[:, :num_pairs]
    values = _drawn(num_values, batch, num_pairs, generator)
    asked = _drawn(num_pairs, batch, num_queries, generator)
    return _asked(
        keys, num_keys + values, keys.gather(1, asked), values.gather(1, asked),
        num_keys + num_values, num_values,
    )  # fmt: skip


def drawn_hops(
    num_points: int, batch: int, num_pairs: int, num_queries: int, generator: torch.Generator
) -> Puzzles:
    """A permutation f of ``num_pairs`` points as pairs x, f(x); then points, where f(f(x)) is due.

    Tokens 1, …, N are the points, of which every sequence takes its own.

    Raises:
        ValueError: A number below 1, or more pairs than points.
    """
    _at_least(1, batch=batch, num_pairs=num_pairs, num_queries=num_queries)
    _at_least(num_pairs, num_points=num_points)
    points = _shuffled(batch, num_points, generator)[:, :num_pairs]  # in random order
    image = _shuffled(batch, num_pairs, generator)  # of a place among them
    asked = _drawn(num_pairs, batch, num_queries, generator)
    twice = image.gather(1, image.gather(1, asked))
    return _asked(
        points, points.gather(1, image), points.gather(1, asked), points.gather(1, twice),
        num_points, num_points,
    )  # fmt: skip


def _asked(
    x: Tensor, y: Tensor, asked: Tensor, answers: Tensor, num_tokens: int, num_answers: int
) -> Puzzles:
    """The pairs x, y one after the other, then what is asked, where the answers count."""
    pairs = torch.stack([x, y], dim=2).flatten(1)
    counted = torch.cat([torch.zeros_like(pairs), torch.ones_like(asked)], dim=1) > 0
    padded = F.pad(answers, (pairs.shape[1], 0))
    return _started(torch.cat([pairs, asked], dim=1), padded, counted, num_tokens, num_answers)


def _started(
    symbols: Tensor, answers: Tensor, counted: Tensor, num_symbols: int, num_answers: int
) -> Puzzles:
    """``START`` before the symbols 0, 1, …, which become the tokens 1, 2, …"""
    before = (1, 0)
    return Puzzles(
        F.pad(symbols + 1, before, value=START),
        F.pad(answers.masked_fill(~counted, 0), before),
        F.pad(counted, before, value=False),
        num_symbols + 1,
        num_answers,
    )


def _shuffled(batch: int, n: int, generator: torch.Generator) -> Tensor:
    """``[batch, n]``, every row a uniform permutation of 0, …, n − 1."""
    at = generator.device
    return torch.rand(batch, n, generator=generator, dtype=torch.float64, device=at).argsort(dim=1)


def _drawn(below: int, batch: int, length: int, generator: torch.Generator) -> Tensor:
    return torch.randint(below, (batch, length), generator=generator, device=generator.device)


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}; got {number}")

"""Premises about someone's properties, and what they entail.

A premise is a fact of someone, that one of some properties holds or fails, or a rule of everyone.
What they entail is decided by the table of truth of the properties of one individual: facts of
others say nothing of it.

Source: propositional logic; monadic rules are instantiated for the individual that is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal as Choice

from leray.errors import LerayError

Answer = Choice["yes", "no", "unknown"]
ANSWERS: tuple[Answer, ...] = ("yes", "no", "unknown")


@dataclass(frozen=True, slots=True)
class Literal:
    """A property, or that it fails."""

    word: str
    holds: bool = True

    @property
    def negation(self) -> Literal:
        return replace(self, holds=not self.holds)


@dataclass(frozen=True, slots=True)
class Fact:
    """Of someone, that one of these is so."""

    name: str
    either: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Of everyone: where all of these are so, or any, that one is."""

    body: tuple[Literal, ...]
    joined: Choice["and", "or"]
    head: Literal


Premise = Fact | Rule


def answer(premises: Sequence[Premise], name: str, asked: str) -> Answer:
    """What the premises entail of someone, by the table of truth.

    Raises:
        LerayError: The premises contradict each other.

    Cost: 2ⁿ rows for n properties.
    """
    found = entailed(premises, name, asked)
    if found is None:
        raise LerayError(f"the premises on {name!r} contradict each other: they entail anything")
    return found


def entailed(premises: Sequence[Premise], name: str, asked: str) -> Answer | None:
    """As `answer`; None of a contradiction.

    A column of the table is a whole number with a bit a row.
    """
    own = [p for p in premises if isinstance(p, Rule) or p.name == name]
    words = sorted({asked, *(x.word for p in own for x in literals_of(p))})
    every, columns = _truths(len(words))
    column = dict(zip(words, columns, strict=True))

    def true(literals: tuple[Literal, ...], joined: str) -> int:
        """The rows in which all of these are so, or any."""
        found = every if joined == "and" else 0
        for x in literals:
            rows = column[x.word] if x.holds else every ^ column[x.word]
            found = found & rows if joined == "and" else found | rows
        return found

    possible = every
    for p in own:
        if isinstance(p, Fact):
            possible &= true(p.either, "or")
        else:
            possible &= every ^ true(p.body, p.joined) | true((p.head,), "and")
    found = possible & column[asked]
    if not possible:
        return None
    return "yes" if found == possible else "unknown" if found else "no"


@lru_cache(maxsize=32)
def _truths(n: int) -> tuple[int, tuple[int, ...]]:
    """All 2ⁿ rows, and for each of n words those in which it is true."""
    every = (1 << 2**n) - 1
    return every, tuple(every ^ every // (2**2**i + 1) for i in range(n))


def literals_of(premise: Premise) -> tuple[Literal, ...]:
    """In the order in which they are said."""
    return premise.either if isinstance(premise, Fact) else (*premise.body, premise.head)

"""Word problems: follow the running product of a sequence of group elements.

A word g_1 g_2 … over generators of a finite group has running products, every letter applied after
those before; which element each is, is what a model must say. Over a group that does not commute
no sum over the letters tells. Over A₅, which is not solvable, the problem is complete for NC¹,
which is conjectured to reach beyond TC⁰, the circuits of fixed depth with threshold gates.

Source: Barrington, Bounded-width polynomial-size branching programs recognize exactly those
languages in NC¹ (JCSS 1989); Merrill, Petty and Sabharwal, The illusion of state in state-space
models (ICML 2024), for word problems as tests of sequence models.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Int
from torch import Tensor

Permutation = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A finite group of permutations."""

    elements: tuple[Permutation, ...]
    """The identity first."""
    table: Int[Tensor, "n n"]
    """At [a, b] the place of ab: first b, then a."""
    letters: tuple[int, ...]
    """The places of the generators of words."""

    @property
    def order(self) -> int:
        return len(self.elements)


def group_of(name: str) -> Group:
    """``S3`` with all its six elements as letters, ``A5`` with four generators as letters.

    Raises:
        ValueError: Another name.
    """
    if name == "S3":
        return _group(3, even=False, letters=None)
    if name == "A5":
        cycle, other = (1, 2, 3, 4, 0), (1, 2, 0, 3, 4)
        return _group(5, even=True, letters=[cycle, _inverse(cycle), other, _inverse(other)])
    raise ValueError(f"group must be S3 or A5; got {name!r}")


def drawn_words(
    group: Group, num_words: int, length: int, generator: torch.Generator
) -> tuple[Int[Tensor, "words length"], Int[Tensor, "words length"]]:
    """Letters, uniform and independent, as places among the letters; and the running products.

    On the generator's device.
    """
    at, table = generator.device, group.table.to(generator.device)
    drawn = torch.randint(len(group.letters), (num_words, length), generator=generator, device=at)
    elements = torch.tensor(group.letters, device=at)[drawn]
    product, found = torch.zeros(num_words, dtype=torch.int64, device=at), []
    for t in range(length):
        product = table[elements[:, t], product]
        found.append(product)
    return drawn, torch.stack(found, dim=1)


def _group(n: int, *, even: bool, letters: list[Permutation] | None) -> Group:
    elements = [p for p in permutations(range(n)) if not even or _is_even(p)]
    place = {p: i for i, p in enumerate(elements)}
    table = [[place[tuple(a[b[i]] for i in range(n))] for b in elements] for a in elements]
    chosen = range(len(elements)) if letters is None else [place[p] for p in letters]
    return Group(tuple(elements), torch.tensor(table), tuple(chosen))


def _is_even(p: Permutation) -> bool:
    return sum(p[i] > p[j] for i in range(len(p)) for j in range(i + 1, len(p))) % 2 == 0


def _inverse(p: Permutation) -> Permutation:
    return tuple(p.index(i) for i in range(len(p)))

"""Complexes of cells: cells of every dimension, sparse coboundaries, Betti numbers at size.

A complex of cells has f_k cells of dimension k and matrices of integers δ_k, ``[f_{k+1}, f_k]``,
with δ_{k+1} δ_k = 0: the signs with which a k-cell stands in the boundary of a (k + 1)-cell. What
follows from these alone stands here, for triangulations and for voxels.

Source: Hatcher, Algebraic Topology (2002), 2.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from scipy import sparse

from leray.algebra.complexes import CochainComplex
from leray.algebra.elimination import sparse_ranks
from leray.algebra.fields import GF, Field, PrimeField
from leray.algebra.rank import (
    DENSE,
    LARGEST_PRIME,
    RankCertificate,
    exact_certificate,
    integer_rank,
    modular_certificate,
)


class CellComplex(ABC):
    """A finite complex of cells."""

    @property
    @abstractmethod
    def f_vector(self) -> tuple[int, ...]:
        """How many cells of every dimension."""

    @cached_property
    @abstractmethod
    def coboundaries(self) -> tuple[sparse.csc_array, ...]:
        """δ_k, ``[f_{k+1}, f_k]`` of integers, for k = 0 … dimension − 1."""

    @property
    def dimension(self) -> int:
        return len(self.f_vector) - 1

    @property
    def euler_characteristic(self) -> int:
        """Σ (−1)ᵏ f_k."""
        return sum((-1) ** k * n for k, n in enumerate(self.f_vector))

    def cochains(self, field: Field) -> CochainComplex:
        """The cochain complex over ``field``, dense."""
        if not self.dimension:
            return CochainComplex.spaces(self.f_vector, field)
        return CochainComplex.of([c.toarray() for c in self.coboundaries], field)

    def ranks(self, field: Field) -> tuple[RankCertificate, ...]:
        """The rank of every δ_k, by sparse elimination.

        Over ℚ the matrices are ranked exactly up to ``DENSE`` entries, and beyond modulo
        p = 2³¹ − 1, which the certificate says where it leaves a doubt: a rank over ℚ that is
        larger by t makes Hᵏ and Hᵏ⁺¹ over GF(p) larger by t each than over ℚ. So there is none
        where one of the two is zero, nor in degree 0, for integral H¹ is free.
        """
        shapes = [(after, before) for before, after in pairwise(self.f_vector)]
        if isinstance(field, PrimeField):
            found = self._modular_ranks(field.p)
            return tuple(exact_certificate(r, s) for r, s in zip(found, shapes, strict=True))
        if all(rows * columns <= DENSE for rows, columns in shapes):
            return tuple(integer_rank(c.toarray()) for c in self.coboundaries)
        modular = self.ranks(GF(LARGEST_PRIME))
        betti = self.betti_from(modular)
        return tuple(
            c if k == 0 or 0 in betti[k : k + 2] else modular_certificate(c.rank, c.shape)
            for k, c in enumerate(modular)
        )

    def betti_numbers(self, field: Field) -> tuple[int, ...]:
        """dim Hᵏ from degree 0 to the dimension, from :meth:`ranks`."""
        return self.betti_from(self.ranks(field))

    def betti_from(self, certificates: Sequence[RankCertificate]) -> tuple[int, ...]:
        """dim Hᵏ = f_k − rank δ_k − rank δ_{k−1} for ranks that are known."""
        ranks = [0, *(c.value() for c in certificates), 0]
        return tuple(n - ranks[k] - ranks[k + 1] for k, n in enumerate(self.f_vector))

    def _modular_ranks(self, p: int) -> list[int]:
        """The ranks of δ_0, δ_1, … modulo p; a subclass may go by boundaries if these fill less."""
        return sparse_ranks(self.coboundaries, p)

"""The exact fields: the rationals ℚ and the integers modulo a prime, by flint.

- :data:`Q`: arrays of objects, flint's ``fmpq``;
- :func:`GF` (p): arrays of ``int64`` in 0 … p − 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import flint
import numpy as np

from leray.algebra.rank import LARGEST_PRIME, RankCertificate, exact_certificate
from leray.algebra.scalars import Field, Matrix, NoSolutionError
from leray.errors import LerayError


class _Exact(Field):
    """What the exact fields share: everything follows from the reduced row echelon form."""

    exact = True
    zero: Any
    one: Any

    @abstractmethod
    def echelon(self, a: Matrix) -> tuple[Matrix, list[int]]:
        """The rows of the reduced row echelon form that are not zero, and the pivot columns."""

    def cat(self, blocks: Sequence[Matrix], axis: int) -> Matrix:
        return np.concatenate(list(blocks), axis)

    def zeros(self, rows: int, columns: int) -> Matrix:
        return np.full((rows, columns), self.zero)

    def identity(self, n: int) -> Matrix:
        out = self.zeros(n, n)
        np.fill_diagonal(out, self.one)
        return out

    def size(self, a: Matrix) -> float:
        return float(np.count_nonzero(a != self.zero)) if a.size else 0.0

    def kernel(self, a: Matrix) -> Matrix:
        rows, pivots = self.echelon(a)
        free = [j for j in range(a.shape[1]) if j not in set(pivots)]
        out = self.zeros(a.shape[1], len(free))
        for k, j in enumerate(free):
            out[j, k] = self.one
        if pivots:
            out[pivots] = self.scale(-1, rows[:, free])
        return out

    def image(self, a: Matrix, error: float = 0.0) -> Matrix:  # noqa: ARG002
        return a[:, self.echelon(a)[1]]

    def complement(self, inside: Matrix, whole: Matrix) -> Matrix:
        k = inside.shape[1]
        pivots = self.echelon(self.cat([inside, whole], 1))[1]
        return whole[:, [j - k for j in pivots if j >= k]]

    def solve(self, a: Matrix, b: Matrix, against: float = 0.0) -> Matrix:  # noqa: ARG002
        n = a.shape[1]
        rows, pivots = self.echelon(self.cat([a, b], 1))
        if pivots and pivots[-1] >= n:
            raise NoSolutionError("a right-hand side does not lie in the image of the matrix")
        out = self.zeros(n, b.shape[1])
        if pivots:
            out[pivots] = rows[:, n:]
        return out


class Rationals(_Exact):
    """ℚ, by flint."""

    name = "Q"
    zero, one = flint.fmpq(0), flint.fmpq(1)

    def matrix(self, entries: Any) -> Matrix:
        given = np.asarray(entries, dtype=object)
        if given.ndim != 2:
            raise ValueError(f"a matrix has two dimensions; got {given.ndim}")
        out = np.empty(given.shape, dtype=object)
        out[...] = self.zero
        for place, entry in np.ndenumerate(given):
            out[place] = _rational(entry)
        return out

    def mul(self, a: Matrix, b: Matrix) -> Matrix:
        return self._array(self._flint(a) * self._flint(b), (a.shape[0], b.shape[1]))

    def add(self, a: Matrix, b: Matrix) -> Matrix:
        return a + b

    def scale(self, number: int, a: Matrix) -> Matrix:
        return a * flint.fmpq(number)

    def rank(self, a: Matrix, error: float = 0.0) -> RankCertificate:  # noqa: ARG002
        integers, _ = self._flint(a).numer_denom()
        return exact_certificate(integers.rank() if a.size else 0, a.shape)

    def echelon(self, a: Matrix) -> tuple[Matrix, list[int]]:
        if 0 in a.shape:
            return a[:0], []
        reduced, rank = self._flint(a).rref()
        rows = self._array(reduced, a.shape)[:rank]
        return rows, _pivots(rows != self.zero)

    def _flint(self, a: Matrix) -> flint.fmpq_mat:
        rows, columns = a.shape
        return flint.fmpq_mat(rows, columns, a.ravel().tolist())

    def _array(self, a: flint.fmpq_mat, shape: tuple[int, int]) -> Matrix:
        out = np.empty(shape[0] * shape[1], dtype=object)
        out[:] = a.entries()
        return out.reshape(shape)


class PrimeField(_Exact):
    """GF(p), by flint; p < 2³¹, so that products fit into 64 bits."""

    zero, one = 0, 1

    def __init__(self, p: int) -> None:
        if not (2 <= p <= LARGEST_PRIME and flint.fmpz(p).is_prime()):
            raise LerayError(f"GF(p) needs a prime p from 2 to {LARGEST_PRIME}; got {p}")
        self.p = p
        self.name = f"GF({p})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrimeField) and other.p == self.p

    def __hash__(self) -> int:
        return hash((PrimeField, self.p))

    def matrix(self, entries: Any) -> Matrix:
        given = np.asarray(entries)
        if given.ndim != 2:
            raise ValueError(f"a matrix has two dimensions; got {given.ndim}")
        if given.size and given.dtype.kind not in "iub":
            given = np.vectorize(self._residue, otypes=[np.int64])(given)
        if given.dtype != np.uint64:  # p may not fit into a shorter type, nor into a boolean
            given = given.astype(np.int64)
        return np.mod(given, self.p).astype(np.int64)

    def mul(self, a: Matrix, b: Matrix) -> Matrix:
        if a.shape[1] * (self.p - 1) ** 2 < 2**63:
            return a @ b % self.p
        return self._array(self._flint(a) * self._flint(b), (a.shape[0], b.shape[1]))

    def add(self, a: Matrix, b: Matrix) -> Matrix:
        return (a + b) % self.p

    def scale(self, number: int, a: Matrix) -> Matrix:
        return number % self.p * a % self.p

    def rank(self, a: Matrix, error: float = 0.0) -> RankCertificate:  # noqa: ARG002
        return exact_certificate(self._flint(a).rank() if a.size else 0, a.shape)

    def echelon(self, a: Matrix) -> tuple[Matrix, list[int]]:
        if 0 in a.shape:
            return a[:0], []
        reduced, rank = self._flint(a).rref()
        rows = self._array(reduced, a.shape)[:rank]
        return rows, _pivots(rows != 0)

    def _residue(self, entry: Any) -> int:
        q = _rational(entry)
        if int(q.q) % self.p == 0:
            raise LerayError(f"{entry} has no value in {self.name}: {self.p} divides {q.q}")
        return int(q.p) * pow(int(q.q), -1, self.p) % self.p

    def _flint(self, a: Matrix) -> flint.nmod_mat:
        rows, columns = a.shape
        return flint.nmod_mat(rows, columns, a.ravel().tolist(), self.p)

    def _array(self, a: flint.nmod_mat, shape: tuple[int, int]) -> Matrix:
        return np.fromiter(map(int, a.entries()), np.int64, shape[0] * shape[1]).reshape(shape)


Q = Rationals()


@cache
def GF(p: int) -> PrimeField:  # noqa: N802, the field's own name
    """The field of p elements.

    Raises:
        LerayError: p is no prime below 2³¹.
    """
    return PrimeField(p)


def _pivots(nonzero: np.ndarray) -> list[int]:
    """The first column of every row of an echelon form that is not zero."""
    return nonzero.argmax(axis=1).tolist()


def _rational(entry: Any) -> flint.fmpq:
    if isinstance(entry, flint.fmpq):
        return entry
    if isinstance(entry, float | np.floating):
        if not float(entry).is_integer():
            raise LerayError(f"{entry} is no exact number; give integers or fractions")
        return flint.fmpq(int(entry))
    numerator = getattr(entry, "numerator", entry)
    denominator = getattr(entry, "denominator", 1)
    return flint.fmpq(int(numerator), int(denominator))

"""Fields, and the linear algebra over them that everything else is written in.

Three kinds of scalars with one set of operations on two-dimensional arrays, whose columns are
vectors and which act from the left:

- :data:`Q`, the rationals, exact: arrays of objects, flint's ``fmpq``;
- :func:`GF` (p), the integers modulo a prime, exact: arrays of ``int64`` in 0 … p − 1;
- :class:`Floats`, torch tensors of float64 or float32 on any device, with an error bound. Subspaces
  get orthonormal bases, and every rank that an answer rests on is certified.

A complex, sequence or sheaf is written once and holds over any of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import flint
import numpy as np
import torch

from leray.algebra.rank import LARGEST_PRIME, RankCertificate, exact_certificate, float_rank
from leray.errors import LerayError

Matrix = Any
"""An array of two dimensions: ``numpy.ndarray`` over exact fields, ``torch.Tensor`` over floats."""


class NoSolutionError(LerayError):
    """A linear system without a solution."""


class Field(ABC):
    """Matrices over one field."""

    name: str
    exact: bool

    @abstractmethod
    def matrix(self, entries: Any) -> Matrix:
        """Entries as a matrix over this field. A nested sequence, an array or a tensor."""

    @abstractmethod
    def zeros(self, rows: int, columns: int) -> Matrix: ...

    @abstractmethod
    def identity(self, n: int) -> Matrix: ...

    @abstractmethod
    def mul(self, a: Matrix, b: Matrix) -> Matrix:
        """The product."""

    @abstractmethod
    def add(self, a: Matrix, b: Matrix) -> Matrix:
        """The sum."""

    @abstractmethod
    def scale(self, number: int, a: Matrix) -> Matrix:
        """An integer times a matrix."""

    @abstractmethod
    def size(self, a: Matrix) -> float:
        """The Frobenius norm over floats; over exact fields how many entries are not zero."""

    @abstractmethod
    def cat(self, blocks: Sequence[Matrix], axis: int) -> Matrix:
        """Blocks one below the other (axis 0) or side by side (axis 1)."""

    @abstractmethod
    def rank(self, a: Matrix, error: float = 0.0) -> RankCertificate:
        """The certified rank; ``error`` is what more the matrix may be off, in spectral norm."""

    @abstractmethod
    def kernel(self, a: Matrix) -> Matrix:
        """A basis of {x : a x = 0}, ``[n, n − rank]``; orthonormal over floats."""

    @abstractmethod
    def image(self, a: Matrix, error: float = 0.0) -> Matrix:
        """A basis of the span of the columns, ``[m, rank]``; orthonormal over floats.

        ``error`` is what more the matrix may be off, in spectral norm.
        """

    @abstractmethod
    def complement(self, inside: Matrix, whole: Matrix) -> Matrix:
        """A basis of a complement of span ``inside`` in span (``inside``, ``whole``).

        Over exact fields columns of ``whole``; over floats orthonormal and orthogonal to
        ``inside``.
        """

    @abstractmethod
    def solve(self, a: Matrix, b: Matrix, against: float = 0.0) -> Matrix:
        """One X with a X = b; of least norm over floats.

        Args:
            against: Over floats, the size of what ``b`` was made from, where that is larger.

        Raises:
            NoSolutionError: There is none.
        """

    def magnification(self, a: Matrix) -> float:  # noqa: ARG002
        """The norm of :meth:`solve` with ``a``, which multiplies errors: 1/σ_r over floats."""
        return 1.0

    def is_zero(self, a: Matrix, against: float) -> bool:
        """Whether ``a`` is zero; over floats relative to the size ``against`` of what made it."""
        return self.size(a) <= self.tolerance * against

    @property
    def tolerance(self) -> float:
        """What counts as zero, relative; 0 over exact fields."""
        return 0.0

    def rounding(self, n: int) -> float:  # noqa: ARG002
        """How far off, relatively, what a few operations in dimension n made may be; 0 if exact."""
        return 0.0

    def blocks(self, rows: Sequence[Sequence[Matrix]]) -> Matrix:
        """A matrix of blocks."""
        return self.cat([self.cat(row, 1) for row in rows], 0)


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


@dataclass(frozen=True, kw_only=True)
class Floats(Field):
    """Floating-point numbers on a device, with a bound on the entries' error."""

    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    error: float = 0.0
    """How far, in spectral norm, a matrix may be from the one that is meant; beyond rounding."""

    name: str = field(init=False)
    exact: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if self.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64; got {self.dtype}")
        object.__setattr__(self, "name", str(self.dtype).removeprefix("torch."))

    @property
    def tolerance(self) -> float:
        return 1e4 * torch.finfo(self.dtype).eps

    def rounding(self, n: int) -> float:
        return 16 * max(n, 1) * torch.finfo(self.dtype).eps

    def matrix(self, entries: Any) -> Matrix:
        if isinstance(entries, np.ndarray) and entries.dtype == object:
            entries = entries.astype(float)
        out = torch.as_tensor(entries, dtype=self.dtype, device=self.device)
        if out.ndim != 2:
            raise ValueError(f"a matrix has two dimensions; got {out.ndim}")
        if not torch.isfinite(out).all():
            raise LerayError("a matrix has an entry that is not a finite number")
        return out

    def zeros(self, rows: int, columns: int) -> Matrix:
        return torch.zeros(rows, columns, dtype=self.dtype, device=self.device)

    def identity(self, n: int) -> Matrix:
        return torch.eye(n, dtype=self.dtype, device=self.device)

    def mul(self, a: Matrix, b: Matrix) -> Matrix:
        return a @ b

    def add(self, a: Matrix, b: Matrix) -> Matrix:
        return a + b

    def scale(self, number: int, a: Matrix) -> Matrix:
        return number * a

    def size(self, a: Matrix) -> float:
        return float(torch.linalg.norm(a)) if a.numel() else 0.0

    def cat(self, blocks: Sequence[Matrix], axis: int) -> Matrix:
        return torch.cat(list(blocks), axis)

    def rank(self, a: Matrix, error: float = 0.0) -> RankCertificate:
        return float_rank(a, self.error + error)

    def kernel(self, a: Matrix) -> Matrix:
        rank = self.rank(a).value()
        if 0 in a.shape:
            return self.identity(a.shape[1])
        return torch.linalg.svd(a, full_matrices=True)[2][rank:].mT

    def image(self, a: Matrix, error: float = 0.0) -> Matrix:
        rank = self.rank(a, error).value()
        return torch.linalg.svd(a, full_matrices=False)[0][:, :rank] if rank else a[:, :0]

    def complement(self, inside: Matrix, whole: Matrix) -> Matrix:
        basis = self.image(inside)
        for _ in range(2):  # once is not enough where whole nearly lies inside
            whole = whole - basis @ (basis.mT @ whole)
        scale = max(self.size(inside), self.size(whole), 1.0)
        return self.image(whole, self.tolerance * scale)

    def solve(self, a: Matrix, b: Matrix, against: float = 0.0) -> Matrix:
        x = torch.linalg.pinv(a, rtol=self.tolerance) @ b
        residual = self.size(a @ x - b)
        against = max(against, self.size(b)) + self.size(a) * self.size(x)
        if residual > self.tolerance * against:
            raise NoSolutionError(
                "a right-hand side does not lie in the image of the matrix: the relative residual "
                f"is {residual / against:.3g}, allowed {self.tolerance:.3g}"
            )
        return x

    def magnification(self, a: Matrix) -> float:
        rank = self.rank(a).value()
        return 1 / float(torch.linalg.svdvals(a)[rank - 1]) if rank else 0.0


Q = Rationals()


@cache
def GF(p: int) -> PrimeField:  # noqa: N802, the field's own name
    """The field of p elements.

    Raises:
        LerayError: p is no prime below 2³¹.
    """
    return PrimeField(p)


def field_named(name: str) -> Field:
    """``Q``, ``float64``, ``float32`` or a prime.

    >>> field_named("3").name
    'GF(3)'
    """
    if name.upper() == "Q":
        return Q
    if name in ("float64", "float32"):
        return Floats(dtype=getattr(torch, name))
    if name.isdigit():
        return GF(int(name))
    raise LerayError(f"field must be Q, a prime, float64 or float32; got {name!r}")


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

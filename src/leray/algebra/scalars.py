"""What is asked of a field: linear algebra on two-dimensional arrays.

Columns are vectors, and matrices act from the left. A complex, sequence or sheaf is written once in
these operations and holds over every field that offers them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from leray.algebra.rank import RankCertificate
from leray.errors import LerayError

Matrix = Any
"""An array of two dimensions: ``numpy.ndarray`` over exact fields, ``torch.Tensor`` over floats."""


class NoSolutionError(LerayError):
    """A linear system without a solution."""


class Field(ABC):
    """Matrices over one field."""

    name: str
    exact: bool
    device: str = "cpu"

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

    def against(self, b: Matrix, a: Matrix) -> float:  # noqa: ARG002
        """What the size of a composition ba is compared with; 0 where it is exactly zero or not."""
        return 0.0

    def is_integral(self, a: Matrix) -> bool:  # noqa: ARG002
        """Whether the entries are known exactly: always over exact fields, else if integers."""
        return True

    def rounding(self, n: int) -> float:  # noqa: ARG002
        """How far off, relatively, what a few operations in dimension n made may be; 0 if exact."""
        return 0.0

    def blocks(self, rows: Sequence[Sequence[Matrix]]) -> Matrix:
        """A matrix of blocks."""
        return self.cat([self.cat(row, 1) for row in rows], 0)

"""Ranks with certificates: what was measured, what could hide, and whether that decides it.

A matrix of floating-point numbers stands for all matrices within its error bound e (spectral norm).
By Weyl's inequality singular values move by at most e, so σ_r > e proves rank ≥ r for all of them,
and σ_{r+1} ≤ e says that some of them have rank ≤ r. The rank is called decided where nothing lies
in between: σ_r > MARGIN · e ≥ MARGIN · σ_{r+1}. Otherwise the certificate says undecided, and what
needs an integer raises :class:`UndecidedRankError`.

Integers are not floating-point numbers with an error: a matrix whose entries are all integers gets
the rank of that integer matrix over ℚ, however ill conditioned it is.

Source: Golub and Van Loan, Matrix Computations (4th ed.), 8.6.1 (Weyl) and 5.4.1 (numerical rank).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import flint
import numpy as np
import torch
from scipy import sparse

from leray.algebra.elimination import sparse_ranks
from leray.errors import LerayError

MARGIN = 100.0
"""How far above the error bound the smallest singular value of a decided rank lies."""

LARGEST_INTEGER = 2**53
DENSE = 4_000_000
"""Entries of the largest matrix of integers that is ranked densely over ℚ."""
LARGEST_PRIME = 2**31 - 1


class UndecidedRankError(LerayError):
    """A rank that the error bound leaves open, where an integer was asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCertificate:
    """A rank and the reason to believe it."""

    rank: int
    """How many singular values lie above the error bound; the rank itself where exact."""
    shape: tuple[int, int]
    exact: bool
    """By exact arithmetic: nothing below is then needed."""
    modulus: int = 0
    """Where not 0, a prime modulo which an integer matrix was ranked in place of ℚ: its rank over
    ℚ is never smaller, and larger only if the prime divides a torsion coefficient."""
    smallest: float = math.inf
    """σ_r, the smallest singular value that counts; infinite at rank 0."""
    next: float = 0.0
    """σ_{r+1}, the largest that does not; 0 at full rank."""
    error: float = 0.0
    """The bound e on the distance to the matrix that is meant, in spectral norm."""

    @property
    def gap(self) -> float:
        """σ_r / σ_{r+1}; infinite where exact, at rank 0 of a zero matrix and at full rank."""
        return self.smallest / self.next if self.next > 0 else math.inf

    @property
    def decided(self) -> bool:
        """Whether every matrix that could be meant, and has this gap, has this rank."""
        return self.exact or self.smallest > MARGIN * self.error

    @property
    def how(self) -> str:
        """In words, how the rank was found."""
        if self.modulus:
            return f"modulo {self.modulus}; over Q never less, more only by torsion of this order"
        if self.exact:
            return "exact"
        state = "decided" if self.decided else "undecided"
        return f"{state}: gap {self.gap:.3g}, error bound {self.error:.3g}"

    def plain(self) -> dict[str, Any]:
        """For JSON, with None for what is infinite."""
        finite = {
            k: v if math.isfinite(v) else None
            for k, v in (("smallest", self.smallest), ("next", self.next), ("gap", self.gap))
        }
        return {
            "rank": self.rank, "shape": list(self.shape), "exact": self.exact,
            "decided": self.decided, "modulus": self.modulus, "error": self.error, **finite,
        }  # fmt: skip

    def value(self, what: str = "a matrix") -> int:
        """The rank, or an error that says why there is none.

        Raises:
            UndecidedRankError: Not :attr:`decided`.
        """
        if not self.decided:
            raise UndecidedRankError(
                f"the rank of {what} ({self.shape[0]} × {self.shape[1]}) is undecided: "
                f"σ_{self.rank} = {self.smallest:.3g} lies within {MARGIN:g} times the error bound "
                f"{self.error:.3g} (σ_{self.rank + 1} = {self.next:.3g}); give the matrix in "
                "higher precision, its error if that is smaller, or integers"
            )
        return self.rank


def certify(
    singular_values: np.ndarray, shape: tuple[int, int], unit: float, error: float = 0.0
) -> RankCertificate:
    """The certificate of a matrix from its singular values, in any order.

    Args:
        unit: The precision of the entries and of the decomposition, relative.
        error: What is known of the entries' own error, in spectral norm.

    The bound is ``error`` + max(shape) · unit · σ_1, the backward error of the decomposition and
    the rounding of the entries.
    """
    s = np.sort(np.asarray(singular_values, dtype=float))[::-1]
    bound = error + max(*shape, 1) * unit * (s[0] if len(s) else 0.0)
    rank = int((s > bound).sum())
    return RankCertificate(
        rank=rank,
        shape=shape,
        exact=False,
        smallest=float(s[rank - 1]) if rank else math.inf,
        next=float(s[rank]) if rank < len(s) else 0.0,
        error=float(bound),
    )


def exact_certificate(rank: int, shape: tuple[int, int]) -> RankCertificate:
    """The certificate of a rank found by exact arithmetic."""
    return RankCertificate(rank=rank, shape=shape, exact=True)


def float_rank(matrix: torch.Tensor, error: float = 0.0) -> RankCertificate:
    """The certified rank of ``matrix [m, n]``, float32 or float64, on any device.

    Integers within ±2⁵³ are ranked exactly; anything else by its singular values, in float64. The
    bound of float32 is what rounding the entries can do, eps ‖A‖ in Frobenius norm, and no more:
    a matrix that was computed in float32 is further off, which ``error`` says.

    Raises:
        ValueError: An entry is not finite, or ``error`` is negative.

    Cost: one singular value decomposition, or one exact elimination.
    """
    if error < 0:
        raise ValueError(f"the error bound of a matrix must be ≥ 0; got {error}")
    if not torch.isfinite(matrix).all():
        raise ValueError("a matrix with entries that are not finite has no rank")
    shape = (matrix.shape[0], matrix.shape[1])
    if 0 in shape:
        return exact_certificate(0, shape)
    if error == 0 and is_integer(matrix):
        return integer_rank(matrix.cpu().numpy())
    values = torch.linalg.svdvals(matrix.to(torch.float64)).cpu().numpy()
    if matrix.dtype != torch.float64:
        error += torch.finfo(matrix.dtype).eps * float(np.linalg.norm(values))
    return certify(values, shape, torch.finfo(torch.float64).eps, error)


def is_integer(matrix: torch.Tensor) -> bool:
    """Whether every entry is an integer that float64 holds exactly."""
    small = bool((matrix.abs() <= LARGEST_INTEGER).all())
    return small and bool((matrix == matrix.round()).all())


def integer_rank(matrix: np.ndarray) -> RankCertificate:
    """The rank over ℚ of ``matrix [m, n]`` of integers.

    Exact up to ``DENSE`` entries; beyond by sparse elimination modulo 2³¹ − 1, which is exact too
    where the rank is full, and says so where it is not.
    """
    m, n = matrix.shape
    if m * n > DENSE:
        (found,) = sparse_ranks([sparse.csc_array(matrix, dtype=np.int64)], LARGEST_PRIME)
        return modular_certificate(found, (m, n))
    entries = matrix.astype(np.int64).ravel().tolist()
    return exact_certificate(flint.fmpz_mat(m, n, entries).rank() if entries else 0, (m, n))


def modular_certificate(rank: int, shape: tuple[int, int]) -> RankCertificate:
    """The certificate over ℚ of a rank found modulo 2³¹ − 1: exact where it cannot be more."""
    if rank == min(shape):
        return exact_certificate(rank, shape)
    return RankCertificate(rank=rank, shape=shape, exact=False, modulus=LARGEST_PRIME)

"""Certified ranks of many matrices of one shape at once.

A rank needs a lower bound on σ_r above the error and an upper bound on σ_{r+1} below it, not the
singular values themselves. Gaussian elimination gives both: with the largest entry of the row of
largest norm as pivot, r steps leave

    A = [L₁; L₂] [U₁ U₂] + [0 0; 0 S]    up to permutations,

so that σ_{r+1}(A) ≤ ‖S‖ by Eckart and Young, and the r rows of the pivots alone have

    σ_r(A) ≥ σ_r(L₁ [U₁ U₂]) ≥ 1 / (‖L₁⁻¹‖ ‖U₁⁻¹‖),

all in Frobenius norms. Elimination stops when ‖S‖ falls below the error. What these bounds leave
open is ranked by its singular values, as is everything that is not on the CPU, in one batch.

Source: Golub and Van Loan, Matrix Computations (4th ed.), 2.4.3 and 3.4 (pivoting; backward error).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leray.algebra.complexes import NotAComplexError, check_composition
from leray.algebra.rank import MARGIN, RankCertificate, float_rank
from leray.errors import LerayError
from leray.evidence.compiled import compiled

_EPS = torch.finfo(torch.float64).eps
_ZERO = 1e4
"""How many times eps a composition may be, relative to its factors, and count as zero."""
_TINY = 1e-140
"""Errors outside of this and its inverse come from squares that left the range of floats."""
_FEW = 64
"""Matrices that are not worth a thread of their own."""


@dataclass(frozen=True, slots=True)
class BatchedRanks:
    """The rank of every matrix of a batch with the bounds that certify it; on the CPU."""

    rank: Int[Tensor, " batch"]
    smallest: Float[Tensor, " batch"]
    """A lower bound on σ_r; infinite at rank 0."""
    next: Float[Tensor, " batch"]
    """An upper bound on σ_{r+1}."""
    error: Float[Tensor, " batch"]
    shape: tuple[int, int]

    @property
    def decided(self) -> Bool[Tensor, " batch"]:
        """Which ranks hold for every matrix within the error."""
        return self.smallest > MARGIN * self.error

    def certificate(self, k: int) -> RankCertificate:
        """Of the k-th matrix."""
        smallest, after, error = (float(x[k]) for x in (self.smallest, self.next, self.error))
        return RankCertificate(
            rank=int(self.rank[k]), shape=self.shape, exact=False,
            smallest=smallest, next=after, error=error,
        )  # fmt: skip

    def values(self, what: str = "a matrix") -> Int[Tensor, " batch"]:
        """The ranks.

        Raises:
            UndecidedRankError: One of them is not decided.
        """
        for k in torch.nonzero(~self.decided).flatten().tolist()[:1]:
            self.certificate(k).value(f"{what}, number {k} of the batch")
        return self.rank


def batched_ranks(matrices: Float[Tensor, "batch m n"]) -> BatchedRanks:
    """The certified ranks of ``matrices``, float32 or float64.

    The error is max(m, n) eps ‖A‖ in Frobenius norm, and for float32 the rounding of the entries.
    Integers are taken for floats, unlike by :func:`leray.algebra.rank.float_rank`.

    Raises:
        LerayError: An entry is not finite, or there are not three dimensions.

    Cost: an elimination of every matrix, on as many threads as torch has; elsewhere than on the
    CPU, and where that does not decide, the singular values.
    """
    if matrices.ndim != 3:
        raise LerayError(f"a batch of matrices has three dimensions; got {matrices.ndim}")
    unit = max(*matrices.shape[1:], 1) * _EPS
    if matrices.dtype != torch.float64:
        unit += torch.finfo(matrices.dtype).eps
    a = matrices.detach().double()
    on_cpu = a.device.type == "cpu"
    found = _eliminated(a.numpy(), unit) if on_cpu else _by_values(a, unit)
    # Undecided, or with squares that may have left the range of floats.
    within = (found[3] > _TINY) & (found[3] < 1 / _TINY)
    left = np.flatnonzero((found[1] <= MARGIN * found[3]) | ~within)
    if on_cpu and len(left):
        for whole, part in zip(found, _by_values(a[left], unit), strict=True):
            whole[left] = part
    rank, smallest, after, error = map(torch.from_numpy, found)
    return BatchedRanks(rank, smallest, after, error, (matrices.shape[1], matrices.shape[2]))


def batched_betti_numbers(differentials: Sequence[Tensor]) -> Int[Tensor, "batch degrees"]:
    """The Betti numbers of a batch of complexes whose spaces have the same dimensions.

    Args:
        differentials: d_0, d_1, …; d_n is ``[batch, dim Cⁿ⁺¹, dim Cⁿ]``.

    Raises:
        NotAComplexError: Two maps do not follow each other, or some d_{n+1} d_n is not zero.
        UndecidedRankError: Some rank is not decided, or a composition is too large for its ranks.
    """
    if not differentials:
        raise LerayError("a complex needs at least one differential; got none")
    left = [_check(*pair, n) for n, pair in enumerate(pairwise(differentials))]
    dims = [differentials[0].shape[2], *(d.shape[1] for d in differentials)]
    found = [batched_ranks(d) for d in differentials]
    ranks = [r.values(f"d_{n}") for n, r in enumerate(found)]
    for n, (size, (before, after)) in enumerate(zip(left, pairwise(found), strict=True), 1):
        weak = (before.rank * after.rank > 0) & (
            size.cpu() >= before.smallest * after.smallest / MARGIN
        )
        for k in torch.nonzero(weak).flatten().tolist():  # the bounds may be: now by the values
            out, into = (
                float_rank(d[k]).smallest for d in (differentials[n], differentials[n - 1])
            )
            check_composition(float(size[k]), out, into, n)
    none = torch.zeros_like(ranks[0])
    padded = [none, *ranks, none]
    return torch.stack([n - padded[k] - padded[k + 1] for k, n in enumerate(dims)], -1)


def _check(before: Tensor, after: Tensor, n: int) -> Tensor:
    """The sizes of d_{n+1} d_n, ``[batch]``, which must be about zero."""
    if before.shape[1] != after.shape[2] or len(before) != len(after):
        raise NotAComplexError(
            f"d_{n + 1} {list(after.shape)} does not follow d_{n} {list(before.shape)}"
        )
    against = torch.linalg.matrix_norm(after) * torch.linalg.matrix_norm(before)
    size = torch.linalg.matrix_norm(after @ before)
    bad = size > _ZERO * torch.finfo(before.dtype).eps * against
    if bool(bad.any()):
        k = int(bad.int().argmax())
        raise NotAComplexError(
            f"number {k} of the batch is no complex: d_{n + 1} d_{n} has the relative size "
            f"{float(size[k] / against[k]):.3g}"
        )
    return size


_Bounds = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Ranks, lower bounds on σ_r, upper bounds on σ_{r+1}, errors."""


def _by_values(a: Tensor, unit: float) -> _Bounds:
    """From singular values, ``[batch, min(m, n)]``.

    Raises:
        LerayError: An entry is not finite.
    """
    if not bool(torch.isfinite(a).all()):
        raise LerayError("a matrix with entries that are not finite has no rank")
    peak = a.abs().amax((1, 2)) if a.numel() else a.new_zeros(len(a))
    peak = torch.where(peak > 0, peak, 1.0)
    rank, smallest, after, error = _of_unit_size(a / peak[:, None, None], unit)
    sizes = peak.cpu().numpy()
    return rank, smallest * sizes, after * sizes, error * sizes


def _of_unit_size(a: Tensor, unit: float) -> _Bounds:
    s = torch.linalg.svdvals(a).cpu().numpy()
    error = unit * np.sqrt((s**2).sum(axis=1))
    rank = (s > error[:, None]).sum(axis=1)
    edges = np.pad(s, ((0, 0), (1, 1)), constant_values=((0, 0), (np.inf, 0.0)))
    rows = np.arange(len(s))
    return rank, edges[rows, rank], edges[rows, rank + 1], error


def _eliminated(a: np.ndarray, unit: float) -> _Bounds:
    """By elimination, a share of the batch to every thread."""
    rank = np.empty(len(a), dtype=np.int64)
    smallest, after, error = np.empty((3, len(a)))
    num_threads = max(1, min(torch.get_num_threads(), len(a) // _FEW))
    cuts = np.linspace(0, len(a), num_threads + 1).astype(int).tolist()

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        _bounds(a[part], unit, rank[part], smallest[part], after[part], error[part])

    if num_threads == 1:
        work(*cuts)
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            for done in [pool.submit(work, *cut) for cut in pairwise(cuts)]:
                done.result()
    return rank, smallest, after, error


@compiled
def _bounds(batch, unit, rank, smallest, after, error):  # noqa: PLR0912, one hot loop
    """The bounds of ``batch [batch, m, n]``, into the last four.

    What is still to be eliminated stands in the first rows and columns of ``work``: loops that
    begin at 0 are compiled to vector instructions. Pivots leave to the ends.
    """
    m, n = batch.shape[1:]
    most = min(m, n)
    work, norms, factors = np.empty((m, n)), np.empty(m), np.empty(m)
    row, lower, upper = np.empty(n), np.empty((m, most)), np.empty((most, n))
    triangle, inverse = np.empty((most, most)), np.empty((most, most))
    for b in range(len(batch)):
        left = 0.0
        for i in range(m):
            size = 0.0
            for j in range(n):
                value = batch[b, i, j]
                work[i, j] = value
                size += value * value
            norms[i] = size
            left += size
        bound = left * unit * unit
        r = 0
        while r < most and left > bound:
            rows, columns = m - r - 1, n - r - 1
            p = 0
            for i in range(rows + 1):
                if norms[i] > norms[p]:
                    p = i
            for j in range(columns + 1):
                row[j] = work[p, j]
                work[p, j] = work[rows, j]
            c, largest = 0, abs(row[0])
            for j in range(columns + 1):
                if abs(row[j]) > largest:
                    c, largest = j, abs(row[j])
            row[c], row[columns] = row[columns], row[c]
            for j in range(r):
                lower[p, j], lower[rows, j] = lower[rows, j], lower[p, j]
            for i in range(r):
                upper[i, c], upper[i, columns] = upper[i, columns], upper[i, c]
            for j in range(columns + 1):
                upper[r, j] = row[j]
            scale = 1 / row[columns]
            for i in range(rows):
                factor = work[i, c] * scale
                work[i, c] = work[i, columns]
                factors[i] = factor
                lower[i, r] = factor
            left = _subtract(work, row, factors, norms, rows, columns)
            r += 1
        rank[b], after[b], error[b] = r, np.sqrt(left) if r < most else 0.0, np.sqrt(bound)
        for i in range(r):
            for q in range(i):
                triangle[i, q] = lower[m - 1 - i, q]
            triangle[i, i] = 1.0
        size = _inverse_size(triangle, inverse, r)
        for i in range(r):
            for q in range(i + 1):
                triangle[i, q] = upper[q, n - 1 - i]
        size *= _inverse_size(triangle, inverse, r)
        smallest[b] = 1 / np.sqrt(size) if r else np.inf


@compiled
def _subtract(work, row, factors, norms, rows, columns):
    """Multiples of ``row`` off all rows; their squared norms, and the sum of these."""
    total = 0.0
    for i in range(rows):
        factor, size = factors[i], 0.0
        for j in range(columns):
            value = work[i, j] - factor * row[j]
            work[i, j] = value
            size += value * value
        norms[i] = size
        total += size
    return total


@compiled
def _inverse_size(triangle, inverse, r):
    """The squared Frobenius norm of the inverse of a lower triangle ``[r, r]``."""
    total = 0.0
    for i in range(r):
        for j in range(i):
            inverse[i, j] = 0.0
        inverse[i, i] = 1.0
        for q in range(i):
            factor = triangle[i, q]
            for j in range(q + 1):
                inverse[i, j] -= factor * inverse[q, j]
        scale = 1 / triangle[i, i]
        for j in range(i + 1):
            value = inverse[i, j] * scale
            inverse[i, j] = value
            total += value * value
    return total

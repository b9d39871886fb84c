"""Fields, by which everything else is parametrised.

- :data:`Q` and :func:`GF` (p), exact (:mod:`leray.algebra.exact_fields`);
- :class:`Floats`, torch tensors of float64 or float32 on any device, with an error bound. Subspaces
  get orthonormal bases, and every rank that an answer rests on is certified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from leray.algebra.exact_fields import GF, PrimeField, Q, Rationals
from leray.algebra.rank import MARGIN, RankCertificate, float_rank, is_integer
from leray.algebra.scalars import Field, Matrix, NoSolutionError
from leray.errors import LerayError

__all__ = [
    "GF", "Field", "Floats", "Matrix", "NoSolutionError", "PrimeField", "Q", "Rationals",
    "field_named",
]  # fmt: skip


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
        return 4 * max(n, 1) * torch.finfo(self.dtype).eps

    def against(self, b: Matrix, a: Matrix) -> float:
        sizes = self.size(a) * self.size(b)
        products_fit = sizes * torch.finfo(self.dtype).eps <= 1
        return 0.0 if products_fit and self.is_integral(a) and self.is_integral(b) else sizes

    def is_integral(self, a: Matrix) -> bool:
        return self.error == 0 and is_integer(a)

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
        largest = float(a.abs().max()) if a.numel() else 0.0
        # Scaled, so that squares neither underflow nor overflow.
        return largest * float(torch.linalg.norm(a / largest)) if largest else 0.0

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
        # What the rank of a counts as decided counts here.
        cut = MARGIN * max(*a.shape, 1) * torch.finfo(self.dtype).eps
        x = torch.linalg.pinv(a, atol=MARGIN * self.error, rtol=cut) @ b
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


def field_named(name: str) -> Field:
    """``Q``, ``float64``, ``float32`` or a prime.

    >>> field_named("3").name
    'GF(3)'
    """
    if name.upper() == "Q":
        return Q
    if name in ("float64", "float32"):
        return Floats(dtype=getattr(torch, name))
    if name.isascii() and name.isdigit():
        return GF(int(name))
    raise LerayError(f"field must be Q, a prime, float64 or float32; got {name!r}")

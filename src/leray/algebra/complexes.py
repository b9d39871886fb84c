"""Cochain complexes of finite-dimensional spaces, their maps and their cohomology.

A complex is a list of matrices d_n: Cⁿ → Cⁿ⁺¹ with d_{n+1} d_n = 0, n from ``lowest``; spaces
outside the list are zero. Matrices act from the left on columns: d_n has shape
``[dim Cⁿ⁺¹, dim Cⁿ]``. Every object here checks, when it is made, the identity that makes it what
it is, and refuses otherwise.

Source: Weibel, An Introduction to Homological Algebra (1994), 1.1 to 1.5; Hatcher, Algebraic
Topology (2002), 2.1 and 3.B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from leray.algebra.fields import Field, Matrix
from leray.algebra.rank import (
    MARGIN,
    RankCertificate,
    UndecidedRankError,
    exact_certificate,
)
from leray.errors import LerayError


class NotAComplexError(LerayError):
    """Maps whose composition is not zero."""


class NotACochainMapError(LerayError):
    """Maps that do not commute with the differentials."""


@dataclass(frozen=True, eq=False)
class CochainComplex:
    """A bounded cochain complex over a field.

    >>> from leray.algebra.fields import Q
    >>> circle = CochainComplex.of([[[-1, 1, 0], [0, -1, 1], [-1, 0, 1]]], Q)
    >>> circle.betti_numbers()
    (1, 1)
    """

    differentials: tuple[Matrix, ...]
    """d_n for n = lowest, lowest + 1, …; at least one, of any size (0 columns or rows too)."""
    field: Field
    lowest: int = 0

    def __post_init__(self) -> None:
        if not self.differentials:
            raise ValueError("a complex needs at least one differential; one of size 0 will do")
        for k, (a, b) in enumerate(pairwise(self.differentials)):
            n = self.lowest + k
            if a.shape[0] != b.shape[1]:
                raise NotAComplexError(
                    f"d_{n} ends in dimension {a.shape[0]}, d_{n + 1} begins in {b.shape[1]}"
                )
            product, against = self.field.mul(b, a), self.field.against(b, a)
            if not self.field.is_zero(product, against):
                raise NotAComplexError(_where(product, n, self.field, against))

    @classmethod
    def of(cls, matrices: Sequence[Any], field: Field, *, lowest: int = 0) -> CochainComplex:
        """The complex of any matrices, converted to ``field``."""
        return cls(tuple(field.matrix(m) for m in matrices), field, lowest)

    @classmethod
    def spaces(cls, dimensions: Sequence[int], field: Field, *, lowest: int = 0) -> CochainComplex:
        """Spaces of these dimensions with zero differentials; after a single one comes a 0."""
        spaces = [*dimensions, 0] if len(dimensions) == 1 else dimensions
        return cls(tuple(field.zeros(b, a) for a, b in pairwise(spaces)), field, lowest)

    @property
    def highest(self) -> int:
        """The last degree in the list."""
        return self.lowest + len(self.differentials)

    @property
    def degrees(self) -> range:
        """All degrees in the list."""
        return range(self.lowest, self.highest + 1)

    def dim(self, n: int) -> int:
        """dim Cⁿ."""
        if self.lowest <= n < self.highest:
            return self.differentials[n - self.lowest].shape[1]
        return self.differentials[-1].shape[0] if n == self.highest else 0

    def d(self, n: int) -> Matrix:
        """d_n: Cⁿ → Cⁿ⁺¹, ``[dim Cⁿ⁺¹, dim Cⁿ]``; zero outside the list."""
        if self.lowest <= n < self.highest:
            return self.differentials[n - self.lowest]
        return self.field.zeros(self.dim(n + 1), self.dim(n))

    @cached_property
    def certificates(self) -> Mapping[int, RankCertificate]:
        """The rank of every d_n in the list, with its certificate."""
        ranks = (self.field.rank(d) for d in self.differentials)
        return dict(zip(self.degrees, ranks, strict=False))

    def betti_number(self, n: int) -> int:
        """dim Hⁿ = dim Cⁿ − rank d_n − rank d_{n−1}.

        Over floats d_n d_{n−1} is never quite zero. If it is smaller than the product of the two
        smallest singular values that count, no vector counts for both ranks, and both may be taken
        off; it is asked to be ``MARGIN`` times smaller.

        Raises:
            UndecidedRankError: One of the two ranks is not decided, or d_n d_{n−1} is too large
                for both.
        """
        none = exact_certificate(0, (0, 0))
        out, into = self.certificates.get(n, none), self.certificates.get(n - 1, none)
        ranks = out.value(f"d_{n}") + into.value(f"d_{n - 1}")
        if out.rank and into.rank and not self.field.exact:
            left = self.field.size(self.field.mul(self.d(n), self.d(n - 1)))
            check_composition(left, out.smallest, into.smallest, n)
        return self.dim(n) - ranks

    def betti_numbers(self) -> tuple[int, ...]:
        """dim Hⁿ from the lowest degree to the highest.

        Raises:
            UndecidedRankError: A rank is not decided.
        """
        return tuple(self.betti_number(n) for n in self.degrees)

    @property
    def euler_characteristic(self) -> int:
        """Σ (−1)ⁿ dim Cⁿ = Σ (−1)ⁿ dim Hⁿ."""
        return sum((-1) ** (n % 2) * self.dim(n) for n in self.degrees)

    def cohomology(self, n: int) -> Cohomology:
        """Hⁿ with cocycles that represent a basis; harmonic and orthonormal over floats."""
        boundaries = self.field.image(self.d(n - 1))
        cocycles = self.field.kernel(self.d(n))
        basis = self.field.complement(boundaries, cocycles)
        if basis.shape[1] != cocycles.shape[1] - boundaries.shape[1]:
            raise UndecidedRankError(
                f"H^{n} is undecided: of {cocycles.shape[1]} cocycles and {boundaries.shape[1]} "
                f"boundaries {basis.shape[1]} classes are left, since d_{n} d_{n - 1} is not quite "
                "zero; give the matrices in higher precision, or integers"
            )
        return Cohomology(self, n, boundaries, basis)

    def shifted(self, k: int) -> CochainComplex:
        """C[k], with C[k]ⁿ = Cⁿ⁺ᵏ and the differential times (−1)ᵏ."""
        signed = tuple(self.field.scale((-1) ** (k % 2), d) for d in self.differentials)
        return CochainComplex(signed, self.field, self.lowest - k)

    def dual(self) -> CochainComplex:
        """The dual complex, (C*)ⁿ = (C⁻ⁿ)*, with the transposed differentials."""
        turned = tuple(d.T for d in reversed(self.differentials))
        return CochainComplex(turned, self.field, -self.highest)

    def __add__(self, other: CochainComplex) -> CochainComplex:
        """The direct sum."""
        _same_field(self.field, other.field)
        low, high = min(self.lowest, other.lowest), max(self.highest, other.highest)
        blocks = tuple(_diagonal(self.d(n), other.d(n), self.field) for n in range(low, high))
        return CochainComplex(blocks, self.field, low)

    def __matmul__(self, other: CochainComplex) -> CochainComplex:
        """The tensor product over the field: d(a ⊗ b) = da ⊗ b + (−1)^|a| a ⊗ db.

        (C ⊗ D)ⁿ is the sum of Cᵖ ⊗ Dⁿ⁻ᵖ by increasing p, each in Kronecker's order.
        """
        _same_field(self.field, other.field)
        low, high = self.lowest + other.lowest, self.highest + other.highest
        made = tuple(self._tensor(other, n) for n in range(low, high))
        return CochainComplex(made, self.field, low)

    def _tensor(self, other: CochainComplex, n: int) -> Matrix:
        f = self.field
        rows = []
        for p in self.degrees:
            row = []
            for s in self.degrees:
                shape = (self.dim(p) * other.dim(n + 1 - p), self.dim(s) * other.dim(n - s))
                if s == p:
                    sign = f.scale((-1) ** (p % 2), f.identity(self.dim(p)))
                    row.append(kronecker(sign, other.d(n - p), f))
                elif s == p - 1:
                    row.append(kronecker(self.d(s), f.identity(other.dim(n - s)), f))
                else:
                    row.append(f.zeros(*shape))
            rows.append(row)
        return f.blocks(rows)


def check_composition(left: float, out: float, into: float, n: int) -> None:
    """That d_n d_{n−1}, of size ``left``, is below what the two ranks rest on.

    Args:
        out: The smallest singular value of d_n that counts.
        into: That of d_{n−1}.

    Raises:
        UndecidedRankError: It is not, by ``MARGIN``.
    """
    if left >= out * into / MARGIN:
        raise UndecidedRankError(
            f"the Betti number in degree {n} is undecided: d_{n} d_{n - 1} has size {left:.3g}, "
            f"and the ranks rest on singular values {out:.3g} and {into:.3g}, whose product should "
            f"be {MARGIN:g} times larger; give higher precision, integers, or the nearest complex"
        )


@dataclass(frozen=True, eq=False)
class Cohomology:
    """Hⁿ of a complex on a chosen basis."""

    complex: CochainComplex
    degree: int
    boundaries: Matrix
    """A basis of the image of d_{n−1}, ``[dim Cⁿ, rank]``."""
    basis: Matrix
    """Cocycles whose classes are a basis, ``[dim Cⁿ, dim Hⁿ]``."""

    @property
    def dim(self) -> int:
        """dim Hⁿ."""
        return self.basis.shape[1]

    def classes(self, cocycles: Matrix, against: float = 0.0) -> Matrix:
        """The coordinates of the classes of cocycles, ``[dim Cⁿ, k]`` → ``[dim Hⁿ, k]``.

        Args:
            against: Over floats, the size of what they were made from, where that is larger.

        Raises:
            LerayError: A column is no cocycle.
        """
        f, d = self.complex.field, self.complex.d(self.degree)
        if not f.is_zero(f.mul(d, cocycles), f.size(d) * max(against, f.size(cocycles))):
            raise LerayError(
                f"a column of degree {self.degree} is not a cocycle: d does not kill it"
            )
        whole = f.cat([self.boundaries, self.basis], 1)
        return f.solve(whole, cocycles, against)[self.boundaries.shape[1] :]


@dataclass(frozen=True, eq=False)
class CochainMap:
    """f: C → D in degree 0 with d fⁿ = fⁿ⁺¹ d."""

    source: CochainComplex
    target: CochainComplex
    maps: Mapping[int, Matrix]
    """fⁿ, ``[dim Dⁿ, dim Cⁿ]``; degrees left out are zero."""

    def __post_init__(self) -> None:
        f = self.source.field
        _same_field(f, self.target.field)
        for n, m in self.maps.items():
            want = (self.target.dim(n), self.source.dim(n))
            if tuple(m.shape) != want:
                raise NotACochainMapError(
                    f"f^{n} must have shape {want[0]} × {want[1]}; got {m.shape[0]} × {m.shape[1]}"
                )
        for n in self.degrees:
            after, before = self.target.d(n), self.source.d(n)
            left, right = f.mul(after, self.at(n)), f.mul(self.at(n + 1), before)
            apart = f.add(left, f.scale(-1, right))
            against = f.size(after) * f.size(self.at(n)) + f.size(self.at(n + 1)) * f.size(before)
            if not f.is_zero(apart, against):
                much = _how_much(apart, f, against)
                raise NotACochainMapError(f"d f^{n} and f^{n + 1} d differ from degree {n}: {much}")

    @property
    def degrees(self) -> range:
        """All degrees in which source or target may not be zero."""
        low = min(self.source.lowest, self.target.lowest)
        return range(low, max(self.source.highest, self.target.highest) + 1)

    def at(self, n: int) -> Matrix:
        """fⁿ, ``[dim Dⁿ, dim Cⁿ]``."""
        if n in self.maps:
            return self.maps[n]
        return self.source.field.zeros(self.target.dim(n), self.source.dim(n))

    def __matmul__(self, before: CochainMap) -> CochainMap:
        """The composition, ``before`` first."""
        f, ours, theirs = self.source.field, self.source, before.target
        if ours.degrees != theirs.degrees or any(
            ours.dim(n) != theirs.dim(n) for n in ours.degrees
        ):
            raise NotACochainMapError("the second map does not begin where the first one ends")
        degrees = {*self.degrees, *before.degrees}
        made = {n: f.mul(self.at(n), before.at(n)) for n in degrees}
        return CochainMap(before.source, self.target, made)

    def on_cohomology(self, n: int) -> Matrix:
        """Hⁿ(f) on the bases that the two complexes choose, ``[dim Hⁿ(D), dim Hⁿ(C)]``."""
        f, basis = self.source.field, self.source.cohomology(n).basis
        against = f.size(self.at(n)) * f.size(basis)
        return self.target.cohomology(n).classes(f.mul(self.at(n), basis), against)


def identity_map(c: CochainComplex) -> CochainMap:
    """The identity of a complex."""
    return CochainMap(c, c, {n: c.field.identity(c.dim(n)) for n in c.degrees})


def is_homotopy(h: Mapping[int, Matrix], f: CochainMap, g: CochainMap) -> bool:
    """Whether f − g = d h + h d, for hⁿ: Cⁿ → Dⁿ⁻¹, ``[dim Dⁿ⁻¹, dim Cⁿ]``."""
    c, d, k = f.source, f.target, f.source.field

    def at(n: int) -> Matrix:
        return h[n] if n in h else k.zeros(d.dim(n - 1), c.dim(n))

    for n in f.degrees:
        sides = [k.mul(d.d(n - 1), at(n)), k.mul(at(n + 1), c.d(n)), g.at(n)]
        total = f.at(n)
        for side in sides:
            total = k.add(total, k.scale(-1, side))
        if not k.is_zero(total, sum(map(k.size, sides)) + k.size(f.at(n))):
            return False
    return True


def mapping_cone(f: CochainMap) -> CochainComplex:
    """cone(f)ⁿ = Cⁿ⁺¹ ⊕ Dⁿ with d(c, x) = (−dc, f c + dx); exact iff f is a quasi-isomorphism."""
    c, d, k = f.source, f.target, f.source.field
    low, high = min(c.lowest - 1, d.lowest), max(c.highest - 1, d.highest)
    made = tuple(
        k.blocks(
            [
                [k.scale(-1, c.d(n + 1)), k.zeros(c.dim(n + 2), d.dim(n))],
                [f.at(n + 1), d.d(n)],
            ]
        )
        for n in range(low, high)
    )
    if not made:
        return CochainComplex.spaces([c.dim(low + 1) + d.dim(low)], k, lowest=low)
    return CochainComplex(made, k, low)


def _same_field(a: Field, b: Field) -> None:
    if (a.name, a.device) != (b.name, b.device):
        raise LerayError(
            f"both must be over one field and on one device; got {a.name} on {a.device} and "
            f"{b.name} on {b.device}"
        )


def _where(product: Matrix, n: int, field: Field, against: float) -> str:
    return (
        f"d_{n + 1} d_{n} is not zero, so this is no complex: {_how_much(product, field, against)}"
    )


def _how_much(apart: Matrix, field: Field, against: float) -> str:
    if field.exact:
        row, column = next(zip(*(apart != 0).nonzero(), strict=True))
        return f"entry ({row}, {column}) is {apart[row, column]} over {field.name}"
    row, column = divmod(int(abs(apart).argmax()), apart.shape[1])
    if not against:
        return f"entry ({row}, {column}) is {float(apart[row, column]):g}, of integers"
    return (
        f"relative size {field.size(apart) / against:.3g}, allowed {field.tolerance:.3g}; largest "
        f"at ({row}, {column})"
    )


def _diagonal(a: Matrix, b: Matrix, f: Field) -> Matrix:
    return f.blocks(
        [
            [a, f.zeros(a.shape[0], b.shape[1])],
            [f.zeros(b.shape[0], a.shape[1]), b],
        ]
    )


def kronecker(a: Matrix, b: Matrix, f: Field) -> Matrix:
    """The matrix of a ⊗ b, the pairs of basis vectors in Kronecker's order."""
    rows, columns = a.shape[0] * b.shape[0], a.shape[1] * b.shape[1]
    if 0 in (rows, columns):
        return f.zeros(rows, columns)
    product = a[:, None, :, None] * b[None, :, None, :]
    return f.scale(1, product.reshape(rows, columns))

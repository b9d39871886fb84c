"""Double complexes: their total complex and the two filtrations of it.

A double complex has spaces C^{p,q}, p to the right and q upwards, with maps

    d_h: C^{p,q} → C^{p+1,q},    d_v: C^{p,q} → C^{p,q+1},    d_h d_h = 0,    d_v d_v = 0,

whose squares commute, d_v d_h = d_h d_v. The sign is put into the total complex: Totⁿ is the sum of
the C^{p,q} with p + q = n by increasing p, and

    d = d_h + (−1)^p d_v    on C^{p,q}.

Filtered by columns, F^p = all columns from p on, it has E_0 = C, d_0 = ±d_v, and
E_1^{p,q} = H_v^q(C^{p,*}), d_1 = H(d_h), E_2 = H_h H_v. Filtered by rows the rôles are exchanged; a
term then stands at (its row, its column), since the level always comes first. Both converge to the
cohomology of the total complex, by different ways.

Source: Weibel, An Introduction to Homological Algebra (1994), 1.2.4 to 1.2.6 and 5.6, where squares
anticommute; Stelzig, On the structure of double complexes (J. London Math. Soc. 2021), for the
squares and zig-zags of which every bounded double complex over a field is a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from leray.algebra.complexes import CochainComplex, kronecker
from leray.algebra.fields import Field, Floats, Matrix
from leray.algebra.spectral import FilteredComplex
from leray.errors import LerayError

Place = tuple[int, int]


class NotADoubleComplexError(LerayError):
    """Maps that do not fit, whose squares are not zero, or that do not commute."""


@dataclass(frozen=True, eq=False)
class DoubleComplex:
    """A bounded double complex over a field.

    >>> from leray.algebra.fields import Q
    >>> one = Q.identity(1)
    >>> corner = DoubleComplex({(0, 0): 1, (1, 0): 1, (0, 1): 1}, {(0, 0): one}, {(0, 0): one}, Q)
    >>> corner.total().betti_numbers()
    (0, 1)
    """

    dimensions: Mapping[Place, int]
    """dim C^{p,q} at (p, q); 0 where left out."""
    horizontal: Mapping[Place, Matrix]
    """d_h at (p, q), ``[dim C^{p+1,q}, dim C^{p,q}]``; zero where left out."""
    vertical: Mapping[Place, Matrix]
    """d_v at (p, q), ``[dim C^{p,q+1}, dim C^{p,q}]``; zero where left out."""
    field: Field

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise NotADoubleComplexError("a double complex needs at least one space; {(0, 0): 0}")
        for place, dim in self.dimensions.items():
            if dim < 0:
                raise NotADoubleComplexError(f"the dimension at {place} must be ≥ 0; got {dim}")
        for p, q in self.horizontal:
            self._check_shape("d_h", (p, q), (p + 1, q), self.horizontal[p, q])
        for p, q in self.vertical:
            self._check_shape("d_v", (p, q), (p, q + 1), self.vertical[p, q])
        for p, q in self.horizontal:
            self._check_square("d_h", (p, q), self.d_h(p + 1, q), self.d_h(p, q))
        for p, q in self.vertical:
            self._check_square("d_v", (p, q), self.d_v(p, q + 1), self.d_v(p, q))
        for p, q in sorted({*self.horizontal, *self.vertical}):
            self._check_commutes(p, q)

    def _check_shape(self, name: str, start: Place, end: Place, m: Matrix) -> None:
        want = (self.dim(*end), self.dim(*start))
        if tuple(m.shape) != want:
            raise NotADoubleComplexError(
                f"{name} from {start} to {end} must have shape {want[0]} × {want[1]}; got "
                f"{m.shape[0]} × {m.shape[1]}"
            )

    def _check_square(self, name: str, start: Place, after: Matrix, before: Matrix) -> None:
        f, product = self.field, self.field.mul(after, before)
        if not f.is_zero(product, f.size(after) * f.size(before)):
            raise NotADoubleComplexError(
                f"{name} {name} from {start} is not zero over {f.name}: its size is "
                f"{f.size(product):.3g}"
            )

    def _check_commutes(self, p: int, q: int) -> None:
        f = self.field
        ways = [(self.d_v(p + 1, q), self.d_h(p, q)), (self.d_h(p, q + 1), self.d_v(p, q))]
        over, up = (f.mul(after, before) for after, before in ways)
        apart = f.add(over, f.scale(-1, up))
        if not f.is_zero(apart, sum(f.size(after) * f.size(before) for after, before in ways)):
            raise NotADoubleComplexError(
                f"the square from {(p, q)} to {(p + 1, q + 1)} does not commute over {f.name}: "
                f"d_v d_h − d_h d_v has size {f.size(apart):.3g}; where it anticommutes, give "
                "(−1)^p d_v"
            )

    @property
    def columns(self) -> range:
        """From the smallest p to the largest."""
        every = [p for p, _ in self.dimensions]
        return range(min(every), max(every) + 1)

    @property
    def rows(self) -> range:
        """From the smallest q to the largest."""
        every = [q for _, q in self.dimensions]
        return range(min(every), max(every) + 1)

    def dim(self, p: int, q: int) -> int:
        """dim C^{p,q}."""
        return self.dimensions.get((p, q), 0)

    def d_h(self, p: int, q: int) -> Matrix:
        """C^{p,q} → C^{p+1,q}, ``[dim C^{p+1,q}, dim C^{p,q}]``."""
        if (p, q) in self.horizontal:
            return self.horizontal[p, q]
        return self.field.zeros(self.dim(p + 1, q), self.dim(p, q))

    def d_v(self, p: int, q: int) -> Matrix:
        """C^{p,q} → C^{p,q+1}, ``[dim C^{p,q+1}, dim C^{p,q}]``."""
        if (p, q) in self.vertical:
            return self.vertical[p, q]
        return self.field.zeros(self.dim(p, q + 1), self.dim(p, q))

    def column(self, p: int) -> CochainComplex:
        """C^{p,*} with d_v."""
        made = tuple(self.d_v(p, q) for q in _starts(self.rows))
        return CochainComplex(made, self.field, self.rows.start)

    def row(self, q: int) -> CochainComplex:
        """C^{*,q} with d_h."""
        made = tuple(self.d_h(p, q) for p in _starts(self.columns))
        return CochainComplex(made, self.field, self.columns.start)

    def transposed(self) -> DoubleComplex:
        """C^{q,p} at (p, q): rows for columns."""
        dims = {(q, p): dim for (p, q), dim in self.dimensions.items()}
        across = {(q, p): m for (p, q), m in self.vertical.items()}
        up = {(q, p): m for (p, q), m in self.horizontal.items()}
        return DoubleComplex(dims, across, up, self.field)

    def total(self) -> CochainComplex:
        """Totⁿ = ⊕ C^{p,n−p} by increasing p, with d = d_h + (−1)^p d_v."""
        made = tuple(self._total(n) for n in _starts(self._degrees))
        return CochainComplex(made, self.field, self._degrees.start)

    def by_columns(self) -> FilteredComplex:
        """The total complex with p as the level of C^{p,q}: E_2^{p,q} = H_h^p H_v^q."""
        return FilteredComplex(self.total(), self._levels(0))

    def by_rows(self) -> FilteredComplex:
        """The total complex with q as the level of C^{p,q}: E_2 at (q, p) is H_v^q H_h^p."""
        return FilteredComplex(self.total(), self._levels(1))

    def vertical_cohomology(self, q: int) -> CochainComplex:
        """Row q of E_1 by columns: the H_v^q(C^{p,*}) with the maps that d_h induces.

        Its cohomology in degree p is E_2^{p,q} by columns. That of the rows is
        ``transposed().vertical_cohomology(p)``.
        """
        f, made, error = self.field, [], 0.0
        terms = {p: self.column(p).cohomology(q) for p in self.columns}
        for p in self.columns[:-1]:
            d, basis = self.d_h(p, q), terms[p].basis
            against = f.size(d) * f.size(basis)
            induced = terms[p + 1].classes(f.mul(d, basis), against)
            if f.is_zero(induced, against):  # rounding alone is no map
                induced = f.scale(0, induced)
            made.append(induced)
            error = max(error, f.tolerance * against)
        made = made or [f.zeros(0, terms[self.columns.start].dim)]
        return CochainComplex(tuple(made), _known_to(error, f), self.columns.start)

    @property
    def _degrees(self) -> range:
        every = [p + q for p, q in self.dimensions]
        return range(min(every), max(every) + 1)

    def _total(self, n: int) -> Matrix:
        f = self.field

        def block(p: int, s: int) -> Matrix:
            """From C^{s,n−s} to C^{p,n+1−p}."""
            if s == p:
                return f.scale((-1) ** (p % 2), self.d_v(p, n - p))
            if s == p - 1:
                return self.d_h(s, n - s)
            return f.zeros(self.dim(p, n + 1 - p), self.dim(s, n - s))

        return f.blocks([[block(p, s) for s in self.columns] for p in self.columns])

    def _levels(self, which: int) -> dict[int, list[int]]:
        """The first or the second of (p, q) for every basis vector of Totⁿ."""
        found: dict[int, list[int]] = {}
        for n in self._degrees:
            places = [(p, n - p) for p in self.columns]
            found[n] = [place[which] for place in places for _ in range(self.dim(*place))]
        return found


def tensor(c: CochainComplex, d: CochainComplex) -> DoubleComplex:
    """Cᵖ ⊗ D^q at (p, q), with d ⊗ 1 across and 1 ⊗ d up; its total complex is ``c @ d``."""
    f = c.field
    places = [(p, q) for p in c.degrees for q in d.degrees]
    return DoubleComplex(
        {(p, q): c.dim(p) * d.dim(q) for p, q in places},
        {(p, q): kronecker(c.d(p), f.identity(d.dim(q)), f) for p, q in places},
        {(p, q): kronecker(f.identity(c.dim(p)), d.d(q), f) for p, q in places},
        f,
    )


def _starts(places: range) -> range:
    """Where the maps of a line begin; at least one, which may end outside, in zero."""
    return range(places.start, max(places.stop - 1, places.start + 1))


def _known_to(error: float, field: Field) -> Field:
    """The field for matrices that may be off by this much, in spectral norm."""
    return replace(field, error=field.error + error) if isinstance(field, Floats) else field

"""Spectral sequences of filtered complexes: every page, with its differential.

A decreasing filtration F^p C is given on an adapted basis: every basis vector has a level, F^p is
spanned by those of level ≥ p, and d lowers no level. Then, with n = p + q,

    Z_r^p = {x ∈ F^p Cⁿ : dx ∈ F^{p+r}},    E_r^{p,q} = Z_r^p / (Z_{r−1}^{p+1} + d Z_{r−1}^{p−r+1}),

and d_r: E_r^{p,q} → E_r^{p+r,q−r+1} is d itself on representatives. Three things are told apart:
the page at which it stabilises, the limit E_∞, and the abutment, the graded pieces of the
cohomology of the whole complex, which is found without any page.

Source: Weibel, An Introduction to Homological Algebra (1994), 5.4; Edelsbrunner and Harer,
Computational Topology (2010), VII.4, for the ranks of all pages from one table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import Field, Matrix
from leray.errors import LerayError


class NotFilteredError(LerayError):
    """A differential that lowers a level."""


@dataclass(frozen=True, eq=False)
class FilteredComplex:
    """A complex with a level for every basis vector."""

    complex: CochainComplex
    levels: Mapping[int, Sequence[int]]
    """For every degree as many integers as its dimension."""

    def __post_init__(self) -> None:
        c = self.complex
        for n in c.degrees:
            if len(self.levels.get(n, ())) != c.dim(n):
                raise NotFilteredError(
                    f"degree {n} has dimension {c.dim(n)} and {len(self.levels.get(n, ()))} levels"
                )
            for level in self.levels.get(n, ()):
                if level != int(level):
                    raise NotFilteredError(
                        f"levels must be integers; got {level} in degree {n}: number them in order"
                    )
        for n in c.degrees[:-1]:
            falls = self.at(n + 1)[:, None] < self.at(n)[None, :]
            bad = np.argwhere(
                falls & np.asarray((c.d(n) != 0).tolist(), dtype=bool).reshape(falls.shape)
            )
            if len(bad):
                i, j = bad[0]
                raise NotFilteredError(
                    f"d_{n} lowers a level: it takes basis vector {j} of level {self.at(n)[j]} to "
                    f"basis vector {i} of level {self.at(n + 1)[i]}"
                )

    @classmethod
    def by_subspaces(
        cls, complex_: CochainComplex, steps: Sequence[Mapping[int, Matrix]]
    ) -> FilteredComplex:
        """The filtration by spans of columns, C = F⁰ ⊇ F¹ ⊇ …, on a basis adapted to it.

        Args:
            steps: F¹, F², …; for every degree (left out: zero) columns ``[dim Cⁿ, k]``.

        Raises:
            NotFilteredError: d leaves a step, or a step leaves the one before it.
        """
        field, base, inverse, levels = complex_.field, {}, {}, {}
        for n in complex_.degrees:
            dim = complex_.dim(n)
            columns, ranks = field.zeros(dim, 0), []
            spans = [field.identity(dim), *(s.get(n, field.zeros(dim, 0)) for s in steps)]
            for p in range(len(spans) - 1, -1, -1):
                new = field.complement(columns, spans[p])
                columns = field.cat([columns, new], 1)
                ranks += [p] * new.shape[1]
                if p and columns.shape[1] != field.rank(spans[p]).value():
                    raise NotFilteredError(f"step {p + 1} leaves step {p} in degree {n}")
            base[n], levels[n] = columns, ranks
            inverse[n] = field.solve(columns, field.identity(dim))
        made = []
        for n in complex_.degrees[:-1]:
            d = field.mul(inverse[n + 1], field.mul(complex_.d(n), base[n]))
            falls = np.asarray(levels[n + 1])[:, None] < np.asarray(levels[n])[None, :]
            for i, j in np.argwhere(falls):
                if not field.is_zero(d[i : i + 1, j : j + 1], field.size(d)):
                    raise NotFilteredError(f"d leaves step {levels[n][j]} from degree {n}")
                d[i, j] = 0
            made.append(d)
        return cls(CochainComplex(tuple(made), field, complex_.lowest), levels)

    def at(self, n: int) -> np.ndarray:
        """The levels of degree n."""
        return np.asarray(self.levels.get(n, ()), dtype=np.int64)

    @cached_property
    def range(self) -> range:
        """From the lowest level to the highest."""
        every = np.concatenate([self.at(n) for n in self.complex.degrees])
        return range(int(every.min()), int(every.max()) + 1) if len(every) else range(0)


@dataclass(frozen=True, eq=False)
class Page:
    """E_r: its terms that are not zero, and the differentials between them."""

    r: int
    representatives: Mapping[tuple[int, int], Matrix]
    """At (p, q): elements of Z_r^p whose classes are a basis of E_r^{p,q}, ``[dim Cⁿ, dim E]``."""
    differentials: Mapping[tuple[int, int], Matrix]
    """At (p, q): d_r to (p + r, q − r + 1), on these bases; left out where an end is zero."""

    @property
    def dimensions(self) -> dict[tuple[int, int], int]:
        """dim E_r^{p,q} where it is not zero."""
        return {place: z.shape[1] for place, z in self.representatives.items()}


@dataclass(frozen=True, eq=False)
class SpectralSequence:
    """The spectral sequence of a filtered complex."""

    filtered: FilteredComplex

    @property
    def _field(self) -> Field:
        return self.filtered.complex.field

    @cached_property
    def _pages(self) -> dict[int, Page]:
        return {}

    def page(self, r: int) -> Page:
        """E_r with all its differentials, r ≥ 0.

        Raises:
            ValueError: r < 0.
        """
        if r < 0:
            raise ValueError(f"pages are numbered from 0; got {r}")
        if r not in self._pages:
            self._pages[r] = self._make(r)
        return self._pages[r]

    def dimensions(self, r: int) -> dict[tuple[int, int], int]:
        """dim E_r^{p,q} where it is not zero, without representatives: one table of ranks."""
        found: dict[tuple[int, int], int] = {}
        for n in self.filtered.complex.degrees:
            levels, counts = np.unique(self.filtered.at(n), return_counts=True)
            for p, count in zip(levels.tolist(), counts.tolist(), strict=True):
                out = sum(k for (a, b), k in self.pairs[n].items() if a == p and b - a < r)
                into = sum(k for (a, b), k in self.pairs[n - 1].items() if b == p and b - a < r)
                if count - out - into:
                    found[p, n - p] = count - out - into
        return found

    @cached_property
    def pairs(self) -> Mapping[int, Mapping[tuple[int, int], int]]:
        """For every degree n and levels (a, b): the rank of d_{b−a} from level a of Cⁿ to b.

        rank d_r = R(a, b+1) − R(a+1, b+1) − R(a, b) + R(a+1, b), with R(a, b) the rank of d on
        columns of level ≥ a and rows of level < b.

        Raises:
            UndecidedRankError: A rank over floats is not decided.
        """
        c = self.filtered.complex
        found: dict[int, dict[tuple[int, int], int]] = {c.lowest - 1: {}, c.highest: {}}
        for n in c.degrees[:-1]:
            before, after = self.filtered.at(n), self.filtered.at(n + 1)
            scale = 0.0
            if not self._field.is_integral(c.d(n)):
                scale = self._field.rounding(c.dim(n) + c.dim(n + 1)) * self._field.size(c.d(n))
            starts, ends = sorted(set(before.tolist())), sorted(set(after.tolist()))
            table = {
                (a, b): self._field.rank(c.d(n)[after < b][:, before >= a], scale).value(f"d_{n}")
                for a in {*starts, *(s + 1 for s in starts)}
                for b in {*ends, *(e + 1 for e in ends)}
            }
            found[n] = {
                (a, b): k
                for a in starts
                for b in ends
                if b >= a
                and (k := table[a, b + 1] - table[a + 1, b + 1] - table[a, b] + table[a + 1, b])
            }
        return found

    @property
    def stabilizes_at(self) -> int:
        """The first r from which all differentials are zero, so that E_r = E_∞."""
        return max((b - a + 1 for by in self.pairs.values() for a, b in by), default=0)

    @property
    def limit(self) -> Page:
        """E_∞."""
        return self.page(self.stabilizes_at)

    def abutment(self) -> dict[tuple[int, int], int]:
        """dim F^p H^{p+q} / F^{p+1} H^{p+q} where it is not zero, from H itself.

        F^p Hⁿ is the image of the cocycles of level ≥ p.
        """
        c, found = self.filtered.complex, {}
        for n in c.degrees:
            boundaries = self._field.image(c.d(n - 1))
            dims = []
            for p in [*self.filtered.range, self.filtered.range.stop]:
                cocycles = self._cycles(n, p, None)
                dims.append(self._field.complement(boundaries, cocycles).shape[1])
            for p, a, b in zip(self.filtered.range, dims, dims[1:], strict=False):
                if a - b:
                    found[p, n - p] = a - b
        return found

    def _make(self, r: int) -> Page:
        field, places = self._field, list(self._places())
        bases = {place: self._term(*place, r) for place in places}
        chosen = {place: z for place, (_, z) in bases.items() if z.shape[1]}
        maps = {}
        for (p, q), z in chosen.items():
            target = (p + r, q - r + 1)
            if target in chosen:
                killed, basis = bases[target]
                d = self.filtered.complex.d(p + q)
                whole, against = field.cat([killed, basis], 1), field.size(d) * field.size(z)
                maps[p, q] = field.solve(whole, field.mul(d, z), against)[killed.shape[1] :]
        return Page(r, chosen, maps)

    def _places(self) -> Iterator[tuple[int, int]]:
        for n in self.filtered.complex.degrees:
            for p in self.filtered.range:
                yield p, n - p

    def _term(self, p: int, q: int, r: int) -> tuple[Matrix, Matrix]:
        """A basis of what is killed in Z_r^p, and representatives of E_r^{p,q}."""
        n, field = p + q, self._field
        above = self._cycles(n, p + 1, p + r)  # Z_{r−1}^{p+1}
        before = self._cycles(n - 1, p - r + 1, p)  # Z_{r−1}^{p−r+1}
        d = self.filtered.complex.d(n - 1)
        hit = field.cat([above, field.mul(d, before)], 1)
        killed = field.image(hit, field.rounding(len(hit)) * field.size(d))
        return killed, field.complement(killed, self._cycles(n, p, p + r))

    def _cycles(self, n: int, p: int, end: int | None) -> Matrix:
        """A basis of {x ∈ F^p Cⁿ : dx ∈ F^end}, ``[dim Cⁿ, k]``; dx = 0 where ``end`` is None."""
        c, field = self.filtered.complex, self._field
        columns = np.flatnonzero(self.filtered.at(n) >= p)
        after = self.filtered.at(n + 1)
        rows = np.arange(len(after)) if end is None else np.flatnonzero(after < end)
        kernel = field.kernel(c.d(n)[rows][:, columns])
        out = field.zeros(c.dim(n), kernel.shape[1])
        out[columns] = kernel
        return out

"""Finite posets, monotone maps, and sheaves on posets: pulled back, pushed forward, their limits.

A sheaf on a poset P is a functor P → Vect: a stalk F(p) for every element and maps
F(p ≤ q): F(p) → F(q) that compose. It is given on covers p ⋖ q; that all ways from p to q agree is
checked. Its cohomology is that of the normalised Roos complex

    Cᵏ = ∏_{p_0 < … < p_k} F(p_k),
    (dx)(p_0 < … < p_{k+1})
        = Σ_{i ≤ k} (−1)ⁱ x(… p̂_i …) + (−1)^{k+1} F(p_k ≤ p_{k+1}) x(p_0 < … < p_k),

whose H⁰ is lim F, the global sections, and whose Hᵏ are the derived functors of the limit. On the
faces of a complex it is the cohomology of the cellular sheaf.

Along a monotone map f: Q → P a sheaf G on P pulls back to (f*G)(q) = G(f q), and a sheaf F on Q
pushes forward to (f_*F)(p) = lim of F over {q : f(q) ≥ p}; f* is left adjoint to f_*.

Source: Roos (C. R. Acad. Sci. Paris 1961); Curry, Sheaves, Cosheaves and Applications (thesis,
2014), 4 and 5; Stanley, Enumerative Combinatorics 1 (2nd ed.), 3.1, for posets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from leray.algebra.complexes import CochainComplex, CochainMap
from leray.algebra.fields import Field, Matrix
from leray.errors import LerayError


class NotAPosetError(LerayError):
    """Relations that go round, or between what are no elements."""


class NotMonotoneError(LerayError):
    """A map of posets that does not keep the order."""


class NotASheafError(LerayError):
    """Restriction maps that are missing, of the wrong shape, or do not compose."""


@dataclass(frozen=True, eq=False)
class Poset:
    """A finite partially ordered set.

    >>> Poset.of("abc", [("a", "b"), ("b", "c"), ("a", "c")]).covers
    (('a', 'b'), ('b', 'c'))
    """

    elements: tuple[Hashable, ...]
    """Each after all that are below it."""
    below: np.ndarray
    """Whether element i < element j, ``[n, n]`` of bool."""

    def __post_init__(self) -> None:
        n, strict = len(self.elements), self.below
        if len(set(self.elements)) < n or strict.shape != (n, n):
            raise NotAPosetError(f"{n} different elements need an n × n table; got {strict.shape}")
        if np.tril(strict).any():
            raise NotAPosetError("an element must stand after all that are below it")
        if (_steps(strict) & ~strict).any():
            raise NotAPosetError("the relation is not transitive")

    @classmethod
    def of(
        cls, elements: Iterable[Hashable], relations: Iterable[tuple[Hashable, Hashable]]
    ) -> Poset:
        """The smallest partial order in which a ≤ b for all (a, b) of ``relations``.

        Raises:
            NotAPosetError: An element twice, a relation of something else, or relations that go
                round, so that different elements would be below each other.
        """
        names = list(elements)
        place = {a: i for i, a in enumerate(names)}
        if len(place) < len(names):
            raise NotAPosetError("an element comes twice")
        above: list[set[int]] = [set() for _ in names]
        for a, b in relations:
            if a not in place or b not in place:
                raise NotAPosetError(f"{a} ≤ {b} relates what is no element")
            if a != b:
                above[place[a]].add(place[b])
        order = _sorted(names, above)
        rank = {i: k for k, i in enumerate(order)}
        below = np.zeros((len(names), len(names)), dtype=bool)
        for i in reversed(order):
            for j in above[i]:
                below[rank[i]] |= below[rank[j]]
                below[rank[i], rank[j]] = True
        return cls(tuple(names[i] for i in order), below)

    @cached_property
    def place(self) -> Mapping[Hashable, int]:
        """Where every element stands."""
        return {a: i for i, a in enumerate(self.elements)}

    @cached_property
    def covers(self) -> tuple[tuple[Hashable, Hashable], ...]:
        """All p ⋖ q: p < q with nothing between."""
        found = np.argwhere(self.below & ~_steps(self.below)).tolist()
        return tuple((self.elements[i], self.elements[j]) for i, j in found)

    def leq(self, p: Hashable, q: Hashable) -> bool:
        """Whether p ≤ q."""
        return p == q or bool(self.below[self.place[p], self.place[q]])

    @cached_property
    def chains(self) -> tuple[tuple[tuple[Hashable, ...], ...], ...]:
        """For k = 0, 1, …: all p_0 < … < p_k; nothing for the empty poset."""
        above = [np.flatnonzero(row).tolist() for row in self.below]
        found, longest = [], [(i,) for i in range(len(self.elements))]
        while longest:
            found.append(tuple(tuple(self.elements[i] for i in chain) for chain in longest))
            longest = [(*chain, j) for chain in longest for j in above[chain[-1]]]
        return tuple(found)


@dataclass(frozen=True, eq=False)
class MonotoneMap:
    """A map of posets with f(p) ≤ f(q) for all p ≤ q."""

    source: Poset
    target: Poset
    images: Mapping[Any, Hashable]

    def __post_init__(self) -> None:
        for q in self.source.elements:
            if q not in self.images or self.images[q] not in self.target.place:
                raise NotMonotoneError(f"{q} has no image in the target")
        for p, q in self.source.covers:
            if not self.target.leq(self.images[p], self.images[q]):
                raise NotMonotoneError(
                    f"{p} < {q}, but their images are not: {self.images[p]}, {self.images[q]}"
                )

    def __call__(self, q: Hashable) -> Hashable:
        return self.images[q]

    def __matmul__(self, before: MonotoneMap) -> MonotoneMap:
        """The composition, ``before`` first."""
        made = {q: self(before(q)) for q in before.source.elements}
        return MonotoneMap(before.source, self.target, made)

    def fibre(self, p: Hashable) -> tuple[Hashable, ...]:
        """{q : f(q) ≥ p}, the preimage of the elements above p, which contains all above it."""
        return tuple(q for q in self.source.elements if self.target.leq(p, self(q)))


@dataclass(frozen=True, eq=False)
class PosetSheaf:
    """A functor from a finite poset to finite-dimensional spaces."""

    poset: Poset
    stalks: Mapping[Any, int]
    """The dimension of the stalk of every element."""
    maps: Mapping[tuple[Any, Any], Matrix]
    """At every cover (p, q): F(p ≤ q), ``[dim F(q), dim F(p)]``."""
    field: Field

    def __post_init__(self) -> None:
        if set(self.stalks) != set(self.poset.elements):
            raise NotASheafError("every element, and nothing else, needs a stalk")
        if set(self.maps) != set(self.poset.covers):
            extra = next(iter(set(self.maps) ^ set(self.poset.covers)))
            state = "is for no cover" if extra in self.maps else "is missing"
            raise NotASheafError(f"the map from {extra[0]} to {extra[1]} {state}")
        for (p, q), m in self.maps.items():
            want = (self.stalks[q], self.stalks[p])
            if tuple(m.shape) != want:
                raise NotASheafError(
                    f"the map from {p} to {q} must have shape {want[0]} × {want[1]}; got "
                    f"{m.shape[0]} × {m.shape[1]}"
                )
        assert len(self._ways) >= len(self.maps)  # made, and with that checked

    @cached_property
    def _ways(self) -> Mapping[tuple[Hashable, Hashable], Matrix]:
        """F(p ≤ q) for all p < q, the same along every way."""
        f, found, sizes = self.field, {}, {}
        under: dict[Hashable, list[Hashable]] = {q: [] for q in self.poset.elements}
        for r, q in self.poset.covers:
            under[q].append(r)
        for p in self.poset.elements:
            for q in self.poset.elements[self.poset.place[p] + 1 :]:
                for r in under[q]:
                    if not self.poset.leq(p, r):
                        continue
                    last = self.maps[r, q]
                    way = last if r == p else f.mul(last, found[p, r])
                    size = f.size(last) * (1.0 if r == p else sizes[p, r])
                    before = found.setdefault((p, q), way)
                    apart = f.add(way, f.scale(-1, before))
                    sizes[p, q] = max(size, sizes.get((p, q), 0.0))
                    if not f.is_zero(apart, sizes[p, q]):
                        raise NotASheafError(
                            f"two ways from {p} to {q} differ by {f.size(apart):.3g}: maps must "
                            "compose"
                        )
        return found

    def map(self, p: Hashable, q: Hashable) -> Matrix:
        """F(p ≤ q), ``[dim F(q), dim F(p)]``."""
        return self.field.identity(self.stalks[p]) if p == q else self._ways[p, q]

    @cached_property
    def cochains(self) -> CochainComplex:
        """The normalised Roos complex, whose dd = 0 is checked."""
        chains = self.poset.chains
        if len(chains) < 2:
            return CochainComplex.spaces([sum(self.stalks.values())], self.field)
        return CochainComplex(tuple(map(self._coboundary, range(len(chains) - 1))), self.field)

    def _coboundary(self, k: int) -> Matrix:
        before, after = (_offsets(self.poset.chains[j], self.stalks) for j in (k, k + 1))
        out = self.field.zeros(sum(map(len, after.values())), sum(map(len, before.values())))
        for chain, rows in after.items():
            for i in range(k + 2):
                last = i == k + 1
                m = self.map(*chain[k:]) if last else self.field.identity(len(rows))
                columns = before[(*chain[:i], *chain[i + 1 :])]
                block = self.field.scale((-1) ** i, m)
                out[rows.start : rows.stop, columns.start : columns.stop] = block
        return out

    def sections(self, over: Sequence[Hashable] | None = None) -> Matrix:
        """A basis of lim F over elements that contain all above any of them; over all if left out.

        ``[Σ dim F(p), dim]``, stalk below stalk in the order of the poset.

        Raises:
            LerayError: An element above one of them is missing.
        """
        inside = set(self.poset.elements if over is None else over)
        place = _offsets([(p,) for p in self.poset.elements if p in inside], self.stalks)
        starts = [(p, q) for p, q in self.poset.covers if p in inside]
        missing = [q for _, q in starts if q not in inside]
        if missing:
            raise LerayError(f"{missing[0]} is above one of the elements and not among them")
        rows = _offsets(starts, self.stalks)
        total = sum(map(len, place.values()))
        out = self.field.zeros(sum(map(len, rows.values())), total)
        for (p, q), row in rows.items():
            tail, head = place[p,], place[q,]
            out[row.start : row.stop, tail.start : tail.stop] = self.maps[p, q]
            minus = self.field.scale(-1, self.field.identity(len(row)))
            out[row.start : row.stop, head.start : head.stop] = minus
        return self.field.kernel(out)

    def pullback(self, f: MonotoneMap) -> PosetSheaf:
        """f*F on the source of f, with (f*F)(q) = F(f q)."""
        self._on(f.target)
        stalks = {q: self.stalks[f(q)] for q in f.source.elements}
        maps = {(p, q): self.map(f(p), f(q)) for p, q in f.source.covers}
        return PosetSheaf(f.source, stalks, maps, self.field)

    def pullback_map(self, f: MonotoneMap) -> CochainMap:
        """C(P; F) → C(Q; f*F): (f*x)(q_0 < … < q_k) = x(f q_0 < … < f q_k), 0 where two agree."""
        up, made = self.pullback(f), {}
        for k, chains in enumerate(f.source.chains):
            targets = self.poset.chains[k] if k < len(self.poset.chains) else ()
            rows, columns = _offsets(chains, up.stalks), _offsets(targets, self.stalks)
            out = self.field.zeros(up.cochains.dim(k), self.cochains.dim(k))
            for chain, row in rows.items():
                column = columns.get(tuple(map(f, chain)))
                if column is not None:
                    one = self.field.identity(len(row))
                    out[row.start : row.stop, column.start : column.stop] = one
            made[k] = out
        return CochainMap(self.cochains, up.cochains, made)

    def pushforward(self, f: MonotoneMap) -> PosetSheaf:
        """f_*F on the target of f: the sections over every fibre, on the basis of :meth:`sections`.

        A map forgets the values at elements that are no longer above.
        """
        self._on(f.source)
        bases = {p: self.sections(f.fibre(p)) for p in f.target.elements}
        maps = {}
        for p, q in f.target.covers:
            places = _offsets([(a,) for a in f.fibre(p)], self.stalks)
            kept = [i for a in f.fibre(q) for i in places[a,]]
            restricted = bases[p][kept]
            maps[p, q] = self.field.solve(bases[q], restricted, self.field.size(bases[p]))
        stalks = {p: basis.shape[1] for p, basis in bases.items()}
        return PosetSheaf(f.target, stalks, maps, self.field)

    def _on(self, poset: Poset) -> None:
        if poset is not self.poset:
            raise LerayError("the map of posets does not begin or end in the poset of the sheaf")


def _offsets(
    chains: Iterable[tuple[Hashable, ...]], stalks: Mapping[Any, int]
) -> dict[tuple[Hashable, ...], range]:
    """The coordinates of the stalk of the last element of every chain, one after the other."""
    found, start = {}, 0
    for chain in chains:
        found[chain] = range(start, start + stalks[chain[-1]])
        start += stalks[chain[-1]]
    return found


def _steps(below: np.ndarray) -> np.ndarray:
    """Where there is a way of two steps."""
    return below.astype(np.float32) @ below.astype(np.float32) > 0


def _sorted(names: Sequence[Hashable], above: Sequence[set[int]]) -> list[int]:
    """Places in an order in which all relations go up (Kahn)."""
    waiting = [0] * len(names)
    for targets in above:
        for j in targets:
            waiting[j] += 1
    order = [i for i, n in enumerate(waiting) if n == 0]
    for i in order:  # grows as it is read
        for j in sorted(above[i]):
            waiting[j] -= 1
            if waiting[j] == 0:
                order.append(j)
    if len(order) < len(names):
        round_ = next(i for i, n in enumerate(waiting) if n)
        raise NotAPosetError(f"the relations go round through {names[round_]} or below it")
    return order

"""Exact sequences: node by node, short ones of complexes, and the long one that they give.

Over a field every short exact sequence of spaces splits; the content is in the connecting map
between the cohomologies of complexes, which is made here as a matrix on chosen bases.

Source: Weibel, An Introduction to Homological Algebra (1994), 1.3 (the snake lemma and the long
exact sequence); Hatcher, Algebraic Topology (2002), 2.1 and 3.1 (pairs), 2.2 (Mayer–Vietoris).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from leray.algebra.complexes import CochainComplex, CochainMap, Cohomology
from leray.algebra.fields import Field, Matrix
from leray.algebra.rank import RankCertificate
from leray.errors import LerayError


class NotExactError(LerayError):
    """A sequence that is not exact where it should be."""


@dataclass(frozen=True, slots=True)
class Node:
    """Exactness at the middle of U → V → W: the composition is zero, and the ranks fill V."""

    name: str
    dim: int
    incoming: RankCertificate
    outgoing: RankCertificate
    composition: float
    """The size of the composition, relative to its factors over floats; 0 for a complex."""
    is_complex: bool

    @property
    def defect(self) -> int:
        """dim V − rank in − rank out: dim ker/im where the composition is zero.

        Raises:
            UndecidedRankError: A rank is not decided.
        """
        name = self.name
        return (
            self.dim
            - self.incoming.value(f"the map into {name}")
            - self.outgoing.value(f"the map out of {name}")
        )

    @property
    def is_exact(self) -> bool:
        """Whether the image is the kernel. BA = 0 alone is not enough, nor are ranks alone."""
        return self.is_complex and self.defect == 0


def exactness(
    maps: Sequence[Matrix], field: Field, names: Sequence[str] = (), errors: Sequence[float] = ()
) -> tuple[Node, ...]:
    """Every node of V_0 → V_1 → … → V_k, with zeros at both ends: k + 1 of them.

    Args:
        maps: k matrices over ``field``; the i-th is ``[dim V_i, dim V_{i−1}]``.
        names: Of the k + 1 spaces.
        errors: How far each map may be off, in spectral norm; over floats only.

    Raises:
        ValueError: Two maps that follow each other do not fit.
    """
    dims = [maps[0].shape[1], *(m.shape[0] for m in maps)]
    for i, m in enumerate(maps):
        if m.shape[1] != dims[i]:
            raise ValueError(f"map {i} must have {dims[i]} columns; got {m.shape[1]}")
    labels = names or [f"V_{i}" for i in range(len(dims))]
    padded = [field.zeros(dims[0], 0), *maps, field.zeros(0, dims[-1])]
    off = [0.0, *(errors or [0.0] * len(maps)), 0.0]
    ranks = [field.rank(m, e) for m, e in zip(padded, off, strict=True)]
    nodes = []
    for i, dim in enumerate(dims):
        into, out = padded[i], padded[i + 1]
        product, against = field.size(field.mul(out, into)), field.size(out) * field.size(into)
        allowed = off[i + 1] * field.size(into) + field.size(out) * off[i]
        size = product / against if against else 0.0
        zero = product <= field.tolerance * against + allowed
        nodes.append(Node(labels[i], dim, ranks[i], ranks[i + 1], 0.0 if zero else size, zero))
    return tuple(nodes)


@dataclass(frozen=True, eq=False)
class ShortExactSequence:
    """0 → A → B → C → 0 of complexes: f injective, g surjective, im f = ker g in every degree."""

    f: CochainMap
    g: CochainMap

    def __post_init__(self) -> None:
        if self.f.target is not self.g.source:
            raise NotExactError("f must end in the complex in which g begins")
        for n in self.degrees:
            names = (f"A^{n}", f"B^{n}", f"C^{n}")
            for node in exactness([self.f.at(n), self.g.at(n)], self.field, names):
                if not node.is_exact:
                    why = (
                        f"ker/im has dimension {node.defect}"
                        if node.is_complex
                        else f"the composition is not zero (relative size {node.composition:.3g})"
                    )
                    raise NotExactError(f"0 → A → B → C → 0 is not exact at {node.name}: {why}")

    @property
    def field(self) -> Field:
        return self.f.source.field

    @property
    def degrees(self) -> range:
        """All degrees in which a complex may not be zero."""
        low = min(self.f.degrees[0], self.g.degrees[0])
        return range(low, max(self.f.degrees[-1], self.g.degrees[-1]) + 1)

    def connecting_homomorphism(self, n: int) -> Matrix:
        """δ: Hⁿ(C) → Hⁿ⁺¹(A), ``[dim Hⁿ⁺¹(A), dim Hⁿ(C)]`` on the bases of :meth:`cohomology`.

        A cocycle c lifts to b with g b = c; then g d b = 0, so d b = f a, and δ[c] = [a].
        """
        field, d, f = self.field, self.f.target.d(n), self.f.at(n + 1)
        b = field.solve(self.g.at(n), self.cohomology("C", n).basis)
        against = field.size(d) * field.size(b)
        a = field.solve(f, field.mul(d, b), against)
        return self.cohomology("A", n + 1).classes(a, against * field.magnification(f))

    def cohomology(self, which: str, n: int) -> Cohomology:
        """Hⁿ of A, B or C, on one basis however often it is asked."""
        if (which, n) not in self._chosen:
            complexes = {"A": self.f.source, "B": self.f.target, "C": self.g.target}
            self._chosen[which, n] = complexes[which].cohomology(n)
        return self._chosen[which, n]

    @cached_property
    def _chosen(self) -> dict[tuple[str, int], Cohomology]:
        return {}

    def long_exact_sequence(
        self, called: tuple[str, str, str] = ("A", "B", "C")
    ) -> LongExactSequence:
        """… → Hⁿ(A) → Hⁿ(B) → Hⁿ(C) → Hⁿ⁺¹(A) → …, checked at every node.

        Args:
            called: What the three complexes are called in the names of the nodes.

        Raises:
            NotExactError: A node is not exact, which over floats means that precision ran out.
        """
        field, maps, names, sizes = self.field, [], [], []
        label = dict(zip("ABC", called, strict=True))
        for n in self.degrees:
            for which, m, after in (("A", self.f, "B"), ("B", self.g, "C")):
                basis = self.cohomology(which, n).basis
                sizes.append(field.size(m.at(n)) * field.size(basis))
                image = field.mul(m.at(n), basis)
                maps.append(self.cohomology(after, n).classes(image, sizes[-1]))
                names.append(f"H^{n}({label[which]})")
            maps.append(self.connecting_homomorphism(n))
            names.append(f"H^{n}({label['C']})")
            lifts = field.magnification(self.g.at(n)) * field.magnification(self.f.at(n + 1))
            sizes.append(field.size(self.f.target.d(n)) * lifts)
        names.append(f"H^{self.degrees[-1] + 1}({label['A']})")
        errors = tuple(field.tolerance * size for size in sizes)
        return LongExactSequence(tuple(maps), tuple(names), field, errors)


@dataclass(frozen=True, eq=False)
class LongExactSequence:
    """The long exact sequence in cohomology as matrices on chosen bases."""

    maps: tuple[Matrix, ...]
    names: tuple[str, ...]
    """Of the spaces; one more than maps, the last of which is zero."""
    field: Field
    errors: tuple[float, ...]
    """How far each map may be off by rounding, in spectral norm; zeros over exact fields."""

    def __post_init__(self) -> None:
        for node in self.nodes:
            if not node.is_exact:
                raise NotExactError(
                    f"the long sequence is not exact at {node.name}: dim {node.dim}, rank in "
                    f"{node.incoming.rank}, rank out {node.outgoing.rank}"
                )

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node with its dimension, ranks and certificates."""
        return exactness(self.maps, self.field, self.names, self.errors)

    def __str__(self) -> str:
        return " → ".join(f"{node.name} = {node.dim}" for node in self.nodes)


def subcomplex_sequence(whole: CochainComplex, basis: dict[int, Matrix]) -> ShortExactSequence:
    """0 → A → B → B/A → 0 for the subcomplex of B spanned by the columns of ``basis[n]``.

    Raises:
        NotExactError: Columns that are dependent, or a span that d leaves.
    """
    field = whole.field
    inside = {n: basis.get(n, field.zeros(whole.dim(n), 0)) for n in whole.degrees}
    outside = {n: field.complement(inside[n], field.identity(whole.dim(n))) for n in whole.degrees}
    d_a, d_c, onto = [], [], {}
    for n in whole.degrees:
        both = field.cat([inside[n], outside[n]], 1)
        if both.shape[1] != whole.dim(n):
            raise NotExactError(f"the {inside[n].shape[1]} columns of degree {n} are dependent")
        inverse = field.solve(both, field.identity(whole.dim(n)))
        onto[n] = inverse[inside[n].shape[1] :]
    for n in whole.degrees[:-1]:
        moved = field.mul(whole.d(n), inside[n])
        left = field.mul(onto[n + 1], moved)
        if not field.is_zero(left, field.size(moved)):
            raise NotExactError(f"d leaves the span of the columns of degree {n}: no subcomplex")
        d_a.append(field.solve(inside[n + 1], moved))
        d_c.append(field.mul(onto[n + 1], field.mul(whole.d(n), outside[n])))
    a = CochainComplex(tuple(d_a), field, whole.lowest)
    c = CochainComplex(tuple(d_c), field, whole.lowest)
    return ShortExactSequence(CochainMap(a, whole, inside), CochainMap(whole, c, onto))

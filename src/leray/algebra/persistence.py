"""Filtered simplicial complexes and their persistent cohomology over GF(p).

A filtration gives every face a level, none above that of a coface, so that the faces of level ≤ t
are a subcomplex X_t for every t. Put the faces of a dimension in the order of their levels. Then
the elimination of δ joins faces in pairs (σ, τ) with dim τ = dim σ + 1: some cochain that begins
at σ is a cocycle until τ enters. It is a class of Hⁿ(X_t), n = dim σ, for t in the interval
[level σ, level τ); a face in no pair gives one that never ends. Those t are the bars of dimension
n, and over a field homology and cohomology have the same.

As cochains the filtration decreases: F^p, those that vanish on faces of level < p. It is the one of
:mod:`leray.algebra.spectral`, with the same levels, and the pairs of levels a and b are as many as
the rank of d_{b−a} from a to b.

Source: Edelsbrunner and Harer, Computational Topology (2010), VII.1 and VII.4; de Silva, Morozov
and Vejdemo-Johansson, Dualities in persistent (co)homology (Inverse Problems 2011).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from scipy import sparse

from leray.algebra.elimination import FREE, sparse_pivots
from leray.algebra.fields import Field, PrimeField
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import FilteredComplex, NotFilteredError
from leray.errors import LerayError


@dataclass(frozen=True, eq=False)
class Filtration:
    """A simplicial complex with a level for every face.

    >>> filtration = Filtration.by_facets([(0, 1), (1, 2), (0, 2)], [0.0, 0.0, 1.5])
    >>> filtration.levels[1].tolist()
    [0.0, 1.5, 0.0]
    """

    space: SimplicialComplex
    levels: tuple[np.ndarray, ...]
    """Of the faces of dimension k = 0, 1, …, in their order: finite numbers, ``[f_k]``."""

    def __post_init__(self) -> None:
        sizes = tuple(map(len, self.levels))
        if sizes != self.space.f_vector:
            raise NotFilteredError(
                f"a complex of {self.space.f_vector} faces by dimension needs as many levels; got "
                f"{sizes}"
            )
        if not all(np.isfinite(levels).all() for levels in self.levels):
            raise NotFilteredError("a level is not a finite number; write when each face enters")
        for k, (faces, cofaces) in enumerate(map(_incident, self.space.coboundaries)):
            bad = self.levels[k][faces] > self.levels[k + 1][cofaces]
            if bad.any():
                i, j = faces[bad.argmax()], cofaces[bad.argmax()]
                raise NotFilteredError(
                    f"face {self.space.faces[k][i].tolist()} of level {self.levels[k][i]:g} enters "
                    f"after its coface {self.space.faces[k + 1][j].tolist()} of level "
                    f"{self.levels[k + 1][j]:g}; give it a level that is not higher"
                )

    @classmethod
    def by_facets(
        cls, facets: Sequence[Sequence[int]] | np.ndarray, levels: Sequence[float] | np.ndarray
    ) -> Filtration:
        """The filtration in which a face enters with the first facet that holds it.

        Args:
            levels: Of every facet. A facet may come twice, and lie in another.

        Raises:
            LerayError: What :meth:`SimplicialComplex.of` refuses, or not one level a facet.
        """
        if len(levels) != len(facets):
            raise LerayError(f"{len(facets)} facets need as many levels; got {len(levels)}")
        space = SimplicialComplex.of(facets)
        made = tuple(np.full(n, np.inf) for n in space.f_vector)
        for rows, given in _by_size(facets, np.asarray(levels, dtype=np.float64)):
            np.minimum.at(made[rows.shape[1] - 1], space.places(rows), given)
        for k in range(space.dimension - 1, -1, -1):
            faces, cofaces = _incident(space.coboundaries[k])
            np.minimum.at(made[k], faces, made[k + 1][cofaces])
        return cls(space, made)

    def cochains(self, field: Field) -> FilteredComplex:
        """The filtered cochain complex, dense; by :func:`integer_levels`."""
        levels = dict(enumerate(map(np.ndarray.tolist, integer_levels(self.levels))))
        c = self.space.cochains(field)
        return FilteredComplex(c, levels | {n: [] for n in c.degrees if n not in levels})


@dataclass(frozen=True, eq=False)
class Persistence:
    """The pairs of a filtration over a field: every face is born, kills, or is born and stays."""

    filtration: Filtration
    field: PrimeField
    pairs: tuple[np.ndarray, ...]
    """For n = 0, 1, … the places of the n-face that is born and the (n + 1)-face that kills it,
    ``[k, 2]``; pairs of equal levels too."""
    essential: tuple[np.ndarray, ...]
    """For n = 0, 1, … the places of the n-faces that are born and never killed."""

    def __post_init__(self) -> None:
        killers = np.zeros(0, dtype=np.int64)
        for n, size in enumerate(self.filtration.space.f_vector):
            used = np.concatenate([self.pairs[n][:, 0], self.essential[n], killers])
            if not np.array_equal(np.sort(used), np.arange(size)):
                raise LerayError(
                    f"{len(used)} places of {size} faces of dimension {n} are no partition into "
                    "those that are born and killed, stay, and kill"
                )
            killers = self.pairs[n][:, 1]
        for n, pairs in enumerate(self.pairs):
            births, deaths = self._ends(n)
            if (births > deaths).any():
                born, killer = pairs[int((births > deaths).argmax())].tolist()
                raise LerayError(f"face {born} of dimension {n} is killed before its birth, by "
                                 f"face {killer} of dimension {n + 1}")  # fmt: skip

    def intervals(self, n: int) -> np.ndarray:
        """Births and deaths in dimension n, increasing, ``[k, 2]``; the death of what stays is ∞.

        Intervals of length zero are left out: they say in which order faces of one level came, and
        nothing of the filtration. :attr:`pairs` has them.
        """
        births, deaths = self._ends(n)
        stays = self.filtration.levels[n][self.essential[n]]
        rows = np.concatenate([
            np.stack([births, deaths], axis=1)[births < deaths],
            np.stack([stays, np.full(len(stays), np.inf)], axis=1),
        ])  # fmt: skip
        return rows[np.lexsort((rows[:, 1], rows[:, 0]))]

    def num_zero_length(self, n: int) -> int:
        """How many pairs of dimension n have one level."""
        births, deaths = self._ends(n)
        return int((births == deaths).sum())

    @cached_property
    def betti_numbers(self) -> tuple[int, ...]:
        """dim Hⁿ of the whole complex: the intervals that never end."""
        return tuple(map(len, self.essential))

    def _ends(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        levels, (born, killers) = self.filtration.levels, self.pairs[n].T
        if not len(born):
            return np.zeros(0), np.zeros(0)
        return levels[n][born], levels[n + 1][killers]


def persistence(filtration: Filtration, field: Field) -> Persistence:
    """The persistent cohomology of a filtration over GF(p), by sparse elimination.

    Raises:
        LerayError: Another field.

    Cost: as :func:`~leray.algebra.elimination.sparse_ranks`; nearly linear in practice.
    """
    if not isinstance(field, PrimeField):
        raise LerayError(
            f"persistence is found over GF(p); got {field.name}. Give a prime, or take the ranks "
            "of all pages from SpectralSequence.pairs, which holds over any field"
        )
    space = filtration.space
    orders = [np.argsort(levels, kind="stable") for levels in filtration.levels]
    sorted_ = (_reordered(d, orders[k + 1], orders[k]) for k, d in enumerate(space.coboundaries))
    pairs, essential = [], []
    free = np.ones(len(orders[0]), dtype=bool)  # of the faces in order: kill nothing below
    for k, owners in enumerate(sparse_pivots(sorted_, field.p)):
        (rows,) = np.nonzero(owners != FREE)
        pairs.append(np.stack([orders[k][owners[rows]], orders[k + 1][rows]], axis=1))
        free[owners[rows]] = False
        essential.append(orders[k][free])
        free = owners == FREE
    pairs.append(np.zeros((0, 2), dtype=np.int64))
    essential.append(orders[-1][free])
    return Persistence(filtration, field, tuple(pairs), tuple(essential))


def integer_levels(levels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Levels as integers: as they are where all are, otherwise their places among the different.

    Integers are kept since their differences number the pages.

    >>> [a.tolist() for a in integer_levels([np.array([0.5, 2.0]), np.array([7.25])])]
    [[0, 1], [2]]
    """
    every = np.concatenate(list(levels))
    if (np.abs(every) < 2**62).all() and (every == np.round(every)).all():
        return [a.astype(np.int64) for a in levels]
    values = np.unique(every)
    return [np.searchsorted(values, a) for a in levels]


def _by_size(
    facets: Sequence[Sequence[int]] | np.ndarray, levels: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Facets of one size together, with their levels."""
    if isinstance(facets, np.ndarray):
        yield facets, levels
        return
    sizes = np.fromiter(map(len, facets), dtype=np.int64)
    for size in np.unique(sizes):
        (chosen,) = np.nonzero(sizes == size)
        yield np.asarray([facets[i] for i in chosen.tolist()], dtype=np.int64), levels[chosen]


def _incident(d: sparse.csc_array) -> tuple[np.ndarray, np.ndarray]:
    """The places of all faces and their cofaces, entry by entry."""
    return np.repeat(np.arange(len(d.indptr) - 1), np.diff(d.indptr)), d.indices


def _reordered(d: sparse.csc_array, rows: np.ndarray, columns: np.ndarray) -> sparse.csc_array:
    """The matrix with ``rows`` and ``columns`` in these orders."""
    place = np.empty(len(rows), dtype=np.int64)
    place[rows] = np.arange(len(rows))
    moved = cast("sparse.csc_array", d[:, columns])
    return sparse.csc_array((moved.data, place[moved.indices], moved.indptr), shape=d.shape)

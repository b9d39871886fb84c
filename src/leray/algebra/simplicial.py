"""Simplicial complexes: their faces, their coboundaries, sparse, and their Betti numbers at size.

Vertices are integers. The faces of a dimension stand in lexicographic order of their increasing
vertices, which orients them: (δ f)(v_0 … v_{k+1}) = Σ (−1)ⁱ f(… v̂_i …).

Source: Hatcher, Algebraic Topology (2002), 2.1 and 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations

import numpy as np
from scipy import sparse

from leray.algebra.cells import CellComplex
from leray.errors import LerayError

MOST_VERTICES_OF_A_FACET = 20


@dataclass(frozen=True, eq=False)
class SimplicialComplex(CellComplex):
    """A finite simplicial complex.

    >>> SimplicialComplex.of([(0, 1), (1, 2), (0, 2)]).f_vector
    (3, 3)
    """

    names: np.ndarray
    """The vertices, increasing; below they are numbered 0 … n − 1."""
    keys: tuple[np.ndarray, ...]
    """A face of dimension k as (the place of its first k vertices) · n + its last; increasing."""

    @classmethod
    def of(cls, facets: Iterable[Sequence[int]] | np.ndarray) -> SimplicialComplex:
        """The complex of all faces of ``facets``, which need be neither sorted nor maximal.

        Raises:
            LerayError: No facet, a vertex twice in a facet, or a facet of more than 20 vertices.
        """
        blocks = [_checked(rows) for rows in _by_size(facets)]
        if not blocks:
            raise LerayError("a simplicial complex needs at least one facet; got none")
        names = _unique(np.concatenate([rows.ravel() for rows in blocks]))
        coded = [np.searchsorted(names, rows) for rows in blocks]
        keys = [np.arange(len(names))]
        for k in range(1, max(rows.shape[1] for rows in blocks)):
            subsets = [
                rows[:, np.array(list(combinations(range(rows.shape[1]), k + 1)))]
                for rows in coded
                if rows.shape[1] > k
            ]
            found = [_keys(keys, rows.reshape(-1, k + 1)) for rows in subsets]
            keys.append(_unique(np.concatenate(found)))
        return cls(names, tuple(keys))

    @cached_property
    def faces(self) -> tuple[np.ndarray, ...]:
        """The vertices of all faces of dimension k = 0, 1, …: ``[f_k, k + 1]``, in order."""
        return tuple(self.names[rows] for rows in self._coded)

    @cached_property
    def _coded(self) -> list[np.ndarray]:
        rows = [self.keys[0][:, None]]
        for keys in self.keys[1:]:
            head, last = np.divmod(keys, len(self.names))
            rows.append(np.concatenate([rows[-1][head], last[:, None]], axis=1))
        return rows

    @property
    def f_vector(self) -> tuple[int, ...]:
        """How many faces of every dimension."""
        return tuple(map(len, self.keys))

    @cached_property
    def coboundaries(self) -> tuple[sparse.csc_array, ...]:
        """δ_k, ``[f_{k+1}, f_k]`` of ±1, for k = 0 … dimension − 1."""
        made = []
        for k in range(self.dimension):
            larger = self._coded[k + 1]
            rows = np.tile(np.arange(len(larger)), k + 2)
            columns = np.concatenate(
                [_place(self.keys, np.delete(larger, i, axis=1)) for i in range(k + 2)]
            )
            signs = np.repeat((-1) ** np.arange(k + 2), len(larger))
            shape = (len(larger), len(self.keys[k]))
            made.append(sparse.csc_array((signs, (rows, columns)), shape=shape))
        return tuple(made)

    def places(self, faces: np.ndarray) -> np.ndarray:
        """Where faces of one dimension stand in :attr:`faces`; −1 for what is no face.

        Args:
            faces: Vertices in any order, ``[m, k + 1]``.

        Raises:
            LerayError: A face has a vertex twice.
        """
        rows = _checked(faces)
        k = rows.shape[1] - 1
        if k > self.dimension:
            return np.full(len(rows), -1)
        coded = np.searchsorted(self.names, rows).clip(max=len(self.names) - 1)
        found = _place(self.keys, coded).clip(max=len(self.keys[k]) - 1)
        return np.where((self.faces[k][found] == rows).all(axis=1), found, -1)

    def subdivision(self) -> SimplicialComplex:
        """The barycentric subdivision: a vertex for every face, a simplex for every flag of faces.

        The vertices are numbered as the faces, by dimension and place: 0 … f_0 − 1 are the old
        vertices. Cost: (k + 1)! simplices for every maximal face of dimension k.
        """
        found: list[list[int]] = []
        first = np.cumsum([0, *self.f_vector])
        for k, rows in enumerate(self._coded):
            covered = np.diff(self.coboundaries[k].indptr) if k < self.dimension else 0
            whole = rows[np.broadcast_to(covered, len(rows)) == 0]
            for order in permutations(range(k + 1)):
                flag = [np.sort(whole[:, order[: j + 1]], axis=1) for j in range(k + 1)]
                barycentres = [first[j] + _place(self.keys, part) for j, part in enumerate(flag)]
                found += np.stack(barycentres, axis=1).tolist()
        return SimplicialComplex.of(found)


def _by_size(facets: Iterable[Sequence[int]] | np.ndarray) -> list[np.ndarray]:
    """Facets of one size together."""
    if isinstance(facets, np.ndarray):
        return [facets] if len(facets) else []
    found: dict[int, list[Sequence[int]]] = {}
    for facet in facets:
        found.setdefault(len(facet), []).append(facet)
    return [np.asarray(rows, dtype=np.int64) for rows in found.values()]


def _checked(rows: np.ndarray) -> np.ndarray:
    """Facets of one size with increasing vertices, each once."""
    if not 1 <= rows.shape[1] <= MOST_VERTICES_OF_A_FACET:
        raise LerayError(
            f"a facet must have 1 to {MOST_VERTICES_OF_A_FACET} vertices; got {rows.shape[1]}"
        )
    whole = np.sort(rows.astype(np.int64), axis=1)
    twice = (whole[:, 1:] == whole[:, :-1]).any(axis=1)
    if twice.any():
        raise LerayError(f"facet {rows[int(twice.argmax())].tolist()} has a vertex twice")
    return whole


def _keys(tables: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The keys of faces given by their vertices, all of whose faces stand in ``tables``."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    return _place(tables, rows[:, :-1]) * len(tables[0]) + rows[:, -1]


def _place(tables: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Where faces stand among those of their dimension."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    return np.searchsorted(tables[rows.shape[1] - 1], _keys(tables, rows))


def _unique(numbers: np.ndarray) -> np.ndarray:
    """The different numbers, increasing; by sorting, several times faster than numpy's hashing."""
    ordered = np.sort(numbers)
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]

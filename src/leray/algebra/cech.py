"""Covers by subcomplexes: nerves, Čech complexes, and the way from them to global cohomology.

A cover U of a simplicial complex X is a family of subcomplexes U_i with X as their union, and
U_{i_0…i_p} is the intersection of p + 1 of them. The nerve has a p-simplex i_0 < … < i_p for every
intersection that is not empty. For a cellular sheaf F on X (a field stands for the constant one)
the Čech double complex is

    C^{p,q} = ∏_{i_0 < … < i_p} C^q(U_{i_0…i_p}; F),    (d_h x)_{i_0…i_{p+1}} = Σ (−1)ʲ x_{… î_j …},

where x is restricted to the smaller intersection, and d_v is the coboundary of F. Its rows are
exact but for C^q(X; F) at p = 0, so that its total complex has the cohomology of X, and by columns

    E_1^{p,q} = ∏ H^q(U_{i_0…i_p}; F),    E_2^{p,q} = Ȟᵖ(U; H^q(F)) ⇒ H^{p+q}(X; F).

A cover is good if every intersection is empty or has the cohomology of a point. Then for constant
coefficients E_2 lies in the row q = 0, and the space has the cohomology of the nerve.

Source: Bott and Tu, Differential Forms in Algebraic Topology (1982), 8 and 15; Godement, Topologie
algébrique et théorie des faisceaux (1958), II.5; Hatcher, Algebraic Topology (2002), 4.G (nerves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from leray.algebra.complexes import CochainComplex
from leray.algebra.double import DoubleComplex
from leray.algebra.fields import Field, Matrix
from leray.algebra.sheaves import CellularSheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import SpectralSequence
from leray.errors import LerayError


class NotACoverError(LerayError):
    """Parts that are no subcomplexes, or that leave a simplex bare."""


@dataclass(frozen=True, eq=False)
class Cover:
    """A cover of a simplicial complex by subcomplexes U_0, U_1, …

    >>> edges = [SimplicialComplex.of([e]) for e in ((0, 1), (1, 2), (0, 2))]
    >>> circle = SimplicialComplex.of([(0, 1), (1, 2), (0, 2)])
    >>> Cover(circle, tuple(edges)).nerve().f_vector
    (3, 3)
    """

    space: SimplicialComplex
    parts: tuple[SimplicialComplex, ...]

    def __post_init__(self) -> None:
        for i, part in enumerate(self.parts):
            for rows in part.faces:
                outside = np.flatnonzero(self.space.places(rows) < 0)
                if len(outside):
                    raise NotACoverError(
                        f"{_named(rows[outside[0]])} of part {i} is no simplex of the space: a "
                        "part must be a subcomplex"
                    )
        for rows, member in zip(self.space.faces, self._member, strict=True):
            bare = np.flatnonzero(~member.any(axis=0))
            if len(bare):
                raise NotACoverError(
                    f"{_named(rows[bare[0]])} lies in none of the {len(self.parts)} parts"
                )

    @cached_property
    def _member(self) -> list[np.ndarray]:
        """For every dimension whether part i has the k-face j, ``[parts, f_k]``."""
        found = [np.zeros((len(self.parts), n), dtype=bool) for n in self.space.f_vector]
        for i, part in enumerate(self.parts):
            for member, rows in zip(found, part.faces, strict=False):
                member[i, self.space.places(rows)] = True
        return found

    def nerve(self) -> SimplicialComplex:
        """A vertex for every part, a simplex for parts that meet.

        Raises:
            LerayError: More than 20 parts meet in a vertex.
        """
        sets = {tuple(np.flatnonzero(at).tolist()) for at in self._member[0].T}
        return SimplicialComplex.of(sorted(sets))

    def intersection(self, parts: Sequence[int]) -> SimplicialComplex:
        """U_{i_0…i_p}, the simplices that lie in all of these parts.

        Raises:
            LerayError: They do not meet.
        """
        inside = [member[list(parts)].all(axis=0) for member in self._member]
        if not inside[0].any():
            raise LerayError(f"the parts {tuple(parts)} do not meet; the nerve has those that do")
        facets = [f for rows, at in zip(self.space.faces, inside, strict=True) for f in rows[at]]
        return SimplicialComplex.of([f.tolist() for f in facets])

    def cech_double_complex(self, coefficients: Field | CellularSheaf) -> DoubleComplex:
        """C^{p,q} = ∏ C^q(U_{i_0…i_p}; F) over the p-simplices of the nerve, in their order.

        Args:
            coefficients: A sheaf on the space, or a field for the constant one.

        d_v is the coboundary of the sheaf on every intersection, d_h that of the nerve.

        Raises:
            LerayError: The sheaf lives on another complex.
        """
        stalks, cochains = self._coefficients(coefficients)
        field, nerve, degrees = cochains.field, self.nerve(), range(self.space.dimension + 1)
        at = {  # for a p-simplex of the nerve its coordinates of every degree q
            (p, q): [
                np.flatnonzero(np.repeat(self._member[q][row].all(axis=0), stalks[q]))
                for row in rows
            ]
            for p, rows in enumerate(nerve.faces)
            for q in degrees
        }
        up = {
            (p, q): _diagonal(_blocks(cochains.d(q), here, at[p, q + 1]), field)
            for (p, q), here in at.items()
            if q + 1 in degrees
        }
        across = {
            (p, q): field.matrix(_restrictions(nerve.coboundaries[p], here, at[p + 1, q]))
            for (p, q), here in at.items()
            if p < nerve.dimension
        }
        dims = {place: sum(map(len, here)) for place, here in at.items()}
        return DoubleComplex(dims, across, up, field)

    def cech_complex(self, q: int, coefficients: Field | CellularSheaf) -> CochainComplex:
        """The Čech complex of the presheaf U ↦ H^q(U; F), with the maps that restriction induces.

        Its cohomology is Ȟᵖ(U; H^q), which is E_2^{p,q} of :meth:`spectral_sequence`.
        """
        return self.cech_double_complex(coefficients).vertical_cohomology(q)

    def spectral_sequence(self, coefficients: Field | CellularSheaf) -> SpectralSequence:
        """E_2^{p,q} = Ȟᵖ(U; H^q(F)) ⇒ H^{p+q}(X; F), from Čech to global cohomology."""
        return SpectralSequence(self.cech_double_complex(coefficients).by_columns())

    def _coefficients(
        self, given: Field | CellularSheaf
    ) -> tuple[Sequence[Sequence[int]], CochainComplex]:
        """The dimensions of the stalks, and the cochains on the whole space."""
        if isinstance(given, Field):
            return [[1] * n for n in self.space.f_vector], self.space.cochains(given)
        theirs, ours = given.space, self.space
        if theirs.f_vector != ours.f_vector or any(
            (a != b).any() for a, b in zip(theirs.faces, ours.faces, strict=True)
        ):
            raise LerayError(
                "the sheaf lives on another complex than the one that is covered, with "
                f"{theirs.f_vector} faces where that has {ours.f_vector}"
            )
        return given.stalks, given.cochains


def star_cover(space: SimplicialComplex) -> Cover:
    """The cover by the closed stars of the vertices: all simplices in one with that vertex.

    Closed stars may meet in anything, so it need not be good.
    """
    return Cover(space, tuple(_star(space, v) for v in space.names.tolist()))


def good_cover(space: SimplicialComplex) -> Cover:
    """The cover of the barycentric subdivision by the closed stars of the old vertices.

    U_v is what is spanned by the barycentres of simplices that contain v, so that U_{v_0…v_p} is
    empty or a cone with the barycentre of v_0…v_p as its apex: the cover is good, and its nerve is
    the complex before it was subdivided.
    """
    fine = space.subdivision()
    return Cover(fine, tuple(_star(fine, v) for v in range(space.f_vector[0])))


def _star(space: SimplicialComplex, vertex: int) -> SimplicialComplex:
    return SimplicialComplex.of(
        [row for rows in space.faces for row in rows[(rows == vertex).any(axis=1)].tolist()]
    )


def _blocks(d: Matrix, here: Sequence[np.ndarray], there: Sequence[np.ndarray]) -> list[Matrix]:
    """A coboundary on every intersection alone."""
    return [d[rows][:, columns] for columns, rows in zip(here, there, strict=True)]


def _diagonal(blocks: Sequence[Matrix], field: Field) -> Matrix:
    rows, columns = (np.cumsum([0, *(b.shape[axis] for b in blocks)]) for axis in (0, 1))
    out = field.zeros(int(rows[-1]), int(columns[-1]))
    for k, block in enumerate(blocks):
        out[rows[k] : rows[k + 1], columns[k] : columns[k + 1]] = block
    return out


def _restrictions(
    incidence: sparse.csc_array, here: Sequence[np.ndarray], there: Sequence[np.ndarray]
) -> np.ndarray:
    """Signed restrictions from the coordinates ``here`` of every σ to those of the τ over it."""
    rows, columns = (np.cumsum([0, *map(len, at)]) for at in (there, here))
    out = np.zeros((rows[-1], columns[-1]), dtype=np.int64)
    entries = incidence.tocoo()
    for tau, sigma, sign in zip(entries.row, entries.col, entries.data, strict=True):
        shared = columns[sigma] + np.searchsorted(here[sigma], there[tau])
        out[rows[tau] + np.arange(len(there[tau])), shared] = sign
    return out


def _named(row: np.ndarray) -> str:
    return f"simplex {tuple(row.tolist())}"

"""Cubical complexes: images and solids made of voxels, with all the faces of every voxel.

A voxel at (x_1, …, x_n) is the closed cube [x_1, x_1 + 1] × … × [x_n, x_n + 1], and its faces are
the products of unit intervals and their end points. On the grid of twice the resolution a face
stands at the sum of its two extreme corners: odd coordinates are intervals, even ones are points.
With I_1 × … × I_k × points oriented by the order of the axes, the face at the lower or upper end of
the j-th interval stands in the boundary with sign (−1)ʲ or (−1)ʲ⁻¹.

An axis may be periodic: its two ends are glued, so that the whole grid is a torus.

Source: Kaczynski, Mischaikow and Mrozek, Computational Homology (2004), 2.1 and 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import sparse

from leray.algebra.cells import CellComplex
from leray.algebra.elimination import sparse_ranks
from leray.errors import LerayError

SOLID = 0.7
"""The part of voxels that are there from which on coboundaries stay sparser than boundaries."""


@dataclass(frozen=True, eq=False)
class CubicalComplex(CellComplex):
    """The union of voxels in a grid.

    >>> import numpy as np
    >>> ring = CubicalComplex(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool))
    >>> ring.f_vector
    (16, 24, 8)
    """

    voxels: np.ndarray
    """Which voxels there are: booleans, of any number of dimensions."""
    periodic: tuple[bool, ...] = ()
    """For every axis whether its ends are glued; none where empty."""

    def __post_init__(self) -> None:
        v = self.voxels
        if v.dtype != np.bool_ or v.ndim == 0:
            raise LerayError(
                f"voxels must be an array of booleans with at least one axis; got {v.dtype} with "
                f"{v.ndim} axes"
            )
        if not v.any():
            raise LerayError("a cubical complex needs at least one voxel; every entry is False")
        if self.periodic and len(self.periodic) != v.ndim:
            raise LerayError(
                f"periodic must have one entry for each of {v.ndim} axes, or none; got "
                f"{len(self.periodic)}"
            )

    @property
    def f_vector(self) -> tuple[int, ...]:
        """How many cells of every dimension."""
        return tuple(map(len, self.cells))

    @cached_property
    def cells(self) -> tuple[np.ndarray, ...]:
        """For every dimension the places of the cells in the doubled grid, flat; increasing."""
        grid = self._grid
        dimension = sum(np.ix_(*(_odd(n) for n in grid.shape)), np.zeros(grid.shape, dtype=np.int8))
        dimension[~grid] = -1
        flat = dimension.ravel()
        return tuple(np.flatnonzero(flat == k) for k in range(grid.ndim + 1))

    @cached_property
    def coboundaries(self) -> tuple[sparse.csc_array, ...]:
        """δ_k, ``[f_{k+1}, f_k]`` of ±1, for k = 0 … dimension − 1.

        An axis of one voxel whose ends are glued has its end point at both ends: 1 − 1 = 0.
        """
        places = np.empty(self._grid.size, dtype=np.int32)
        for cells in self.cells:
            places[cells] = np.arange(len(cells))
        return tuple(self._coboundary(a, b, places) for a, b in pairwise(self.cells))

    @property
    def _around(self) -> tuple[bool, ...]:
        return self.periodic or (False,) * self.voxels.ndim

    @cached_property
    def _grid(self) -> np.ndarray:
        """Which places of the doubled grid hold a cell: those beside a voxel."""
        grid = self.voxels
        for axis, around in enumerate(self._around):
            grid = np.moveaxis(_with_ends(np.moveaxis(grid, axis, 0), around), 0, axis)
        return grid

    def _modular_ranks(self, p: int) -> list[int]:
        """By boundaries, or in solids with few holes by coboundaries.

        What is not reduced at once fills in; on 70³ random voxels, half of them there, boundaries
        take 0.6 s and coboundaries 5 s; with four in five there 2 s and 0.4 s.
        """
        if self.voxels.mean() > SOLID:
            return super()._modular_ranks(p)
        boundaries = [d.T.tocsc() for d in reversed(self.coboundaries)]
        return sparse_ranks(boundaries, p)[::-1]

    def _coboundary(
        self, smaller: np.ndarray, larger: np.ndarray, places: np.ndarray
    ) -> sparse.csc_array:
        shape, strides = self._grid.shape, np.cumprod([1, *self._grid.shape[:0:-1]])[::-1]
        before = np.zeros(len(larger), dtype=np.int8)  # intervals on the axes already seen
        signs, rows, columns = [], [], []
        for at, n, stride in zip(np.unravel_index(larger, shape), shape, strides, strict=True):
            along = np.flatnonzero(at % 2)
            sign = 1 - 2 * (before[along] % 2)
            whole, last = larger[along], at[along] == n - 1  # only a glued axis ends on an interval
            upper = np.where(last, whole - stride * (n - 1), whole + stride)
            signs += [-sign, sign]
            rows += [along, along]
            columns += [places[whole - stride], places[upper]]
            before[along] += 1
        entries = (np.concatenate(signs), (np.concatenate(rows), np.concatenate(columns)))
        made = sparse.csc_array(entries, shape=(len(larger), len(smaller)))
        made.eliminate_zeros()
        return made


def _odd(n: int) -> np.ndarray:
    return (np.arange(n) % 2).astype(np.int8)


def _with_ends(grid: np.ndarray, around: bool) -> np.ndarray:
    """Cells along the first axis with the points between them, ``[2n + 1]`` or, glued, ``[2n]``."""
    n = len(grid)
    out = np.zeros((2 * n + (not around), *grid.shape[1:]), dtype=bool)
    out[1::2] = grid
    out[: 2 * n : 2] = grid
    out[2::2] |= grid[: n - around]
    if around:
        out[0] |= grid[-1]
    return out

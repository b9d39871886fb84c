"""Random cellular sheaves, functorial on complexes of any dimension.

On a graph any maps make a sheaf. Above that the maps into a cell τ from its faces must agree on
what the faces share: together they are one linear map out of the colimit

    L(τ) = (⊕_{σ} F(σ)) / (F(π ≤ σ) x − F(π ≤ σ') x),

σ, σ' over the faces of τ of one dimension less and π over those that two of them share; any linear
map L(τ) → F(τ) will do, and every sheaf arises so.

Source: Goerss and Jardine, Simplicial Homotopy Theory (1999), VII.2 (latching objects).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from leray.algebra.fields import Field, Matrix, PrimeField
from leray.algebra.sheaves import CellularSheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

LARGEST = 3
"""Over ℚ and floats, entries are drawn from −3 … 3."""

_Face = tuple[int, ...]


def random_sheaf(
    space: SimplicialComplex, dims: tuple[int, int], field: Field, rng: np.random.Generator
) -> CellularSheaf:
    """A sheaf whose stalks have dimensions drawn uniformly from ``dims``, both ends included.

    Face by face, by dimension, the map out of the colimit L is a product BC, C of r rows and B of r
    columns, with r uniform in 0 … min(dim L, dim F) and entries uniform over GF(p), or in −3 … 3:
    ranks of all sizes, since with maps of full rank nothing would be left of L above the edges.

    Raises:
        LerayError: Dimensions that are no range of numbers ≥ 0.

    Cost: one kernel a face, of as many unknowns as its faces have dimensions.
    """
    low, high = dims
    if not 0 <= low <= high:
        raise LerayError(f"dims must be (low, high) with 0 ≤ low ≤ high; got {dims}")
    stalks = tuple(tuple(rng.integers(low, high + 1, n).tolist()) for n in space.f_vector)
    places = [{tuple(f): i for i, f in enumerate(faces.tolist())} for faces in space.faces]
    maps: list[dict[tuple[int, int], Matrix]] = []
    for k in range(1, space.dimension + 1):
        made: dict[tuple[int, int], Matrix] = {}
        for tau, face in enumerate(map(tuple, space.faces[k].tolist())):
            sigmas = [places[k - 1][f] for f in combinations(face, k)]
            onto = _colimit(face, places, stalks, maps, field)
            drawn = field.mul(_drawn(stalks[k][tau], onto.shape[0], field, rng), onto)
            start = 0
            for sigma in sigmas:
                end = start + stalks[k - 1][sigma]
                block = drawn[:, start:end]
                if field.is_zero(block, field.size(drawn)):
                    block = field.zeros(*block.shape)  # rounding that would not compose
                made[sigma, tau], start = block, end
        maps.append(made)
    return CellularSheaf(space, stalks, tuple(maps), field)


def _colimit(
    face: _Face,
    places: list[dict[_Face, int]],
    stalks: tuple[tuple[int, ...], ...],
    maps: list[dict[tuple[int, int], Matrix]],
    field: Field,
) -> Matrix:
    """⊕ F(σ) → L over the faces σ of ``face`` of one dimension less, ``[dim L, Σ dim F(σ)]``."""
    k = len(face) - 1
    sigmas = [places[k - 1][f] for f in combinations(face, k)]
    starts = np.concatenate([[0], np.cumsum([stalks[k - 1][s] for s in sigmas])]).astype(int)
    shared = [places[k - 2][f] for f in combinations(face, k - 1)] if k > 1 else []
    columns = [field.zeros(int(starts[-1]), 0)]
    for pi in shared:
        column = field.zeros(int(starts[-1]), stalks[k - 2][pi])
        sign = 1
        for i, sigma in enumerate(sigmas):
            if (pi, sigma) in maps[k - 2]:  # two of them
                column[starts[i] : starts[i + 1]] = field.scale(sign, maps[k - 2][pi, sigma])
                sign = -1
        columns.append(column)
    return field.kernel(field.cat(columns, 1).T).T


def _drawn(rows: int, columns: int, field: Field, rng: np.random.Generator) -> Matrix:
    rank = int(rng.integers(0, min(rows, columns) + 1))
    low, high = (0, field.p) if isinstance(field, PrimeField) else (-LARGEST, LARGEST + 1)
    left, right = (rng.integers(low, high, s) for s in ((rows, rank), (rank, columns)))
    return field.mul(field.matrix(left), field.matrix(right))

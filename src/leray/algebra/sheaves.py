"""Cellular sheaves on simplicial complexes: stalks, restriction maps, cohomology, global sections.

A cellular sheaf F gives every cell σ a space F(σ), its stalk, and every face relation σ ≤ τ a
linear map F(σ ≤ τ): F(σ) → F(τ), such that the maps along σ ≤ τ ≤ ρ compose to that of σ ≤ ρ.
They go from faces to cofaces (a cosheaf would go the other way). Cochains of degree k are one
vector for every k-cell, and

    (δx)(τ) = Σ_{σ < τ} [τ : σ] F(σ ≤ τ) x(σ),

so that H⁰ is the space of global sections and H¹ the cokernel of δ⁰ in the kernel of δ¹, not the
top eigenspace of a Laplacian.

Source: Curry, Sheaves, Cosheaves and Applications (thesis, 2014), 4 and 6; Hansen and Ghrist,
Toward a spectral theory of cellular sheaves (J. Appl. Comput. Topology 2019), 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse

from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import Field, Floats, Matrix
from leray.algebra.posets import NotASheafError, Poset, PosetSheaf
from leray.algebra.rank import LARGEST_INTEGER
from leray.algebra.sections import Equations, Sections, sections_of
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

DENSE = 1_000_000
"""Entries of the largest coboundary whose kernel is found densely."""


@dataclass(frozen=True, eq=False)
class CellularSheaf:
    """A cellular sheaf of finite-dimensional spaces on a simplicial complex."""

    space: SimplicialComplex
    stalks: tuple[tuple[int, ...], ...]
    """For every dimension k, the dimension of the stalk of every k-face, in the order of faces."""
    restrictions: tuple[Mapping[tuple[int, int], Matrix], ...]
    """For every k below the dimension: at (σ, τ), places of a k-face and of a (k+1)-face over it,
    the map F(σ ≤ τ), ``[dim F(τ), dim F(σ)]``."""
    field: Field

    def __post_init__(self) -> None:
        if tuple(map(len, self.stalks)) != self.space.f_vector:
            raise NotASheafError(
                f"a stalk for every face is needed, {self.space.f_vector}; got "
                f"{tuple(map(len, self.stalks))}"
            )
        for k, incidence in enumerate(self.space.coboundaries):
            self._check_shapes(k, set(_relations(incidence)))
        for k in range(self.space.dimension - 1):
            self._check_composition(k)

    def _check_shapes(self, k: int, wanted: set[tuple[int, int]]) -> None:
        found = self.restrictions[k] if k < len(self.restrictions) else {}
        if set(found) != wanted:
            sigma, tau = min(set(found) ^ wanted)
            state = "missing" if (sigma, tau) in wanted else "for no face relation"
            ends = f"{self._face(k, sigma)} to {self._face(k + 1, tau)}"
            raise NotASheafError(f"the restriction from {ends} is {state}")
        for (sigma, tau), m in found.items():
            want = (self.stalks[k + 1][tau], self.stalks[k][sigma])
            if tuple(m.shape) != want:
                raise NotASheafError(
                    f"the restriction from {self._face(k, sigma)} to {self._face(k + 1, tau)} must "
                    f"have shape {want[0]} × {want[1]}; got {m.shape[0]} × {m.shape[1]}"
                )

    def _check_composition(self, k: int) -> None:
        """Along both (k+1)-faces between a k-face and a (k+2)-face the maps must agree."""
        f, first, second = self.field, self.restrictions[k], self.restrictions[k + 1]
        over: dict[int, list[int]] = {}
        for tau, rho in second:
            over.setdefault(tau, []).append(rho)
        paths: dict[tuple[int, int], tuple[Matrix, float]] = {}
        for sigma, tau in first:
            for rho in over.get(tau, ()):
                path = f.mul(second[tau, rho], first[sigma, tau])
                size = f.size(second[tau, rho]) * f.size(first[sigma, tau])
                before, against = paths.setdefault((sigma, rho), (path, size))
                apart = f.add(path, f.scale(-1, before))
                # Both ways: where one is exactly zero the other may be so only up to rounding.
                if not f.is_zero(apart, against + size):
                    raise NotASheafError(
                        f"the two ways from {self._face(k, sigma)} to {self._face(k + 2, rho)} "
                        f"differ by {f.size(apart):.3g}: restrictions must compose"
                    )

    def _face(self, k: int, place: int) -> str:
        if place >= len(self.space.faces[k]):
            return f"the {k}-face number {place}, which is none,"
        return str(tuple(self.space.faces[k][place].tolist()))

    def coboundary(self, k: int) -> Matrix:
        """δ_k, ``[Σ dim F(τ), Σ dim F(σ)]`` over (k+1)-faces τ and k-faces σ."""
        rows, columns = (_offsets(self.stalks[j]) for j in (k + 1, k))
        out = self.field.zeros(int(rows[-1]), int(columns[-1]))
        incidence = self.space.coboundaries[k]
        for sigma, tau in _relations(incidence):
            sign = int(incidence[tau, sigma])
            block = self.field.scale(sign, self.restrictions[k][sigma, tau])
            out[rows[tau] : rows[tau + 1], columns[sigma] : columns[sigma + 1]] = block
        return out

    @cached_property
    def cochains(self) -> CochainComplex:
        """The complex of cochains with values in the sheaf, whose δδ = 0 is checked."""
        made = tuple(self.coboundary(k) for k in range(self.space.dimension))
        if not made:
            return CochainComplex.spaces([sum(self.stalks[0])], self.field)
        return CochainComplex(made, self.field)

    def sparse_coboundary(self, k: int) -> sparse.csr_array:
        """δ_k, sparse: int64 over exact fields, float64 over floats.

        Raises:
            LerayError: Over ℚ, a restriction that is not of integers below 2⁵³.
        """
        incidence = self.space.coboundaries[k].tocoo()
        high, wide = np.array(self.stalks[k + 1], int), np.array(self.stalks[k], int)
        alike: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
        places = (incidence.col, incidence.row, incidence.data)
        for sigma, tau, sign in zip(*(part.tolist() for part in places), strict=True):
            alike.setdefault((int(high[tau]), int(wide[sigma])), []).append((sigma, tau, sign))
        kind = np.int64 if self.field.exact else np.float64
        values, rows, columns = [np.zeros(0, kind)], [np.zeros(0, int)], [np.zeros(0, int)]
        for (m, n), places in alike.items():
            maps = [self.restrictions[k][sigma, tau] for sigma, tau, _ in places]
            sigmas, taus, turns = np.array(places).T[:, :, None, None]
            blocks = turns * _stacked(maps, self.field)
            values.append(blocks.ravel())
            down = _offsets(high)[taus] + np.arange(m)[:, None]
            rows.append(np.broadcast_to(down, blocks.shape).ravel())
            across = _offsets(wide)[sigmas] + np.arange(n)
            columns.append(np.broadcast_to(across, blocks.shape).ravel())
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_array(entries, shape=(int(high.sum()), int(wide.sum())))

    def global_sections(self) -> Matrix:
        """A basis of H⁰, ``[Σ dim F(v), dim H⁰]``: values at vertices that agree on every edge.

        Densely where the coboundary is small, otherwise by :meth:`sections`.

        Raises:
            UndecidedRankError: Over floats, where the rank of δ_0 is not decided.
        """
        if not self.space.dimension:
            return self.field.identity(sum(self.stalks[0]))
        if sum(self.stalks[0]) * sum(self.stalks[1]) <= DENSE:
            return self.field.kernel(self.coboundary(0))
        return self.sections().basis

    def sections(self) -> Sections:
        """The global sections with the certificate that there are no others, by sparse methods.

        Raises:
            LerayError: No edge; a basis too large to write down; over ℚ, fractions.
        """
        if not self.space.dimension:
            raise LerayError(
                "sparse methods solve the equations of edges, and there is no edge: every value at "
                "the vertices is a section, which global_sections gives"
            )
        edges = np.searchsorted(self.space.names, self.space.faces[1])
        dims = [np.array(self.stalks[k], dtype=np.int64) for k in (1, 0)]
        return sections_of(Equations(self.sparse_coboundary(0), edges, *dims), self.field)

    def on_poset(self) -> PosetSheaf:
        """The same sheaf on the poset of faces, whose elements are tuples of vertices."""
        names = [list(map(tuple, faces.tolist())) for faces in self.space.faces]
        stalks, maps = {}, {}
        for row, dims in zip(names, self.stalks, strict=True):
            stalks |= dict(zip(row, dims, strict=True))
        for k, found in enumerate(self.restrictions[: self.space.dimension]):
            maps |= {(names[k][s], names[k + 1][t]): m for (s, t), m in found.items()}
        return PosetSheaf(Poset.of(stalks, maps), stalks, maps, self.field)

    def pullback(self, source: SimplicialComplex, images: Mapping[int, int]) -> CellularSheaf:
        """φ*F on ``source``, (φ*F)(σ) = F(φσ), along a simplicial map φ, which may collapse.

        Along an inclusion it is the restriction to a subcomplex.

        Args:
            images: The vertex of this sheaf's space to which φ takes every vertex of ``source``.

        Raises:
            LerayError: A vertex without image, or a face whose image is no face.
        """
        places = [{tuple(f): i for i, f in enumerate(a.tolist())} for a in self.space.faces]
        over = [[_image(f, images, places) for f in a.tolist()] for a in source.faces]
        stalks = tuple(tuple(self.stalks[j][i] for j, i in row) for row in over)
        maps = []
        for k, incidence in enumerate(source.coboundaries):
            made = {}
            for sigma, tau in _relations(incidence):
                (low, below), (high, above) = over[k][sigma], over[k + 1][tau]
                if low == high:  # τ collapses onto the image of σ
                    made[sigma, tau] = self.field.identity(stalks[k][sigma])
                else:
                    made[sigma, tau] = self.restrictions[low][below, above]
            maps.append(made)
        return CellularSheaf(source, stalks, tuple(maps), self.field)

    def laplacian(self, k: int) -> Matrix:
        """L_k = δ_kᵀ δ_k + δ_{k−1} δ_{k−1}ᵀ, whose kernel is Hᵏ; over floats.

        Raises:
            LerayError: Over an exact field, which has no inner product to take transposes with.
        """
        if self.field.exact:
            raise LerayError(f"a Laplacian needs an inner product, which {self.field.name} has not")
        up, down = self.cochains.d(k), self.cochains.d(k - 1)
        return up.T @ up + down @ down.T

    def consistency_radius(self, x: Matrix) -> float:
        """The largest distance on an edge between what its ends restrict to; 0 for a section.

        Args:
            x: Values at the vertices, ``[Σ dim F(v), 1]``.
        """
        if self.field.exact:
            raise LerayError(f"a distance needs a norm, which {self.field.name} has not")
        gaps, ends = self.cochains.d(0) @ x, _offsets(self.stalks[1] if self.stalks[1:] else ())
        sizes = [self.field.size(gaps[a:b]) for a, b in pairwise(ends)]
        return max(sizes, default=0.0)


def constant_sheaf(space: SimplicialComplex, dim: int, field: Field) -> CellularSheaf:
    """The same stalk everywhere and identities: its cohomology is that of the space, dim times."""
    stalks = tuple((dim,) * n for n in space.f_vector)
    one = field.identity(dim)
    maps = tuple(dict.fromkeys(_relations(c), one) for c in space.coboundaries)
    return CellularSheaf(space, stalks, maps, field)


def graph_sheaf(graph: SimplicialComplex, maps: Any, field: Field) -> CellularSheaf:
    """A sheaf on a graph whose vertices have stalks of one dimension, and its edges too.

    Args:
        graph: Of dimension 1.
        maps: For every edge the maps from its lower and its higher end, ``[num_edges, 2, d_e, d]``:
            integers over an exact field.

    Raises:
        NotASheafError: The complex is no graph, or there are not two maps an edge.
    """
    if graph.dimension != 1:
        raise NotASheafError(f"graph_sheaf needs a graph; got dimension {graph.dimension}")
    num_vertices, num_edges = graph.f_vector
    shape = tuple(maps.shape)
    if len(shape) != 4 or shape[:2] != (num_edges, 2):
        raise NotASheafError(f"maps must have shape [{num_edges}, 2, d_e, d]; got {list(shape)}")
    # One conversion of all, not one for each of perhaps 100,000 matrices.
    flat = field.matrix(maps.reshape(2 * num_edges * shape[2], shape[3]))
    blocks = list(flat.reshape(2 * num_edges, shape[2], shape[3]))
    tails, heads = np.searchsorted(graph.names, graph.faces[1]).T.tolist()
    found = {}
    for tau, (u, v) in enumerate(zip(tails, heads, strict=True)):
        found[u, tau], found[v, tau] = blocks[2 * tau], blocks[2 * tau + 1]
    stalks = ((shape[3],) * num_vertices, (shape[2],) * num_edges)
    return CellularSheaf(graph, stalks, (found,), field)


def _stacked(maps: Sequence[Matrix], field: Field) -> np.ndarray:
    """Matrices of one shape, ``[count, rows, columns]``: int64 over exact fields, else float64."""
    if isinstance(field, Floats):
        return torch.stack(list(maps)).to(torch.float64).cpu().numpy()
    stacked = np.stack(list(maps))
    if stacked.dtype != object:
        return stacked
    out = np.empty(stacked.shape, dtype=np.int64)
    for place, entry in np.ndenumerate(stacked):
        if entry.q != 1 or abs(entry.p) > LARGEST_INTEGER:
            raise LerayError(
                f"a sparse coboundary over {field.name} needs integers below 2^53; got {entry}: "
                "multiply the maps into an edge by their common denominator"
            )
        out[place] = int(entry.p)
    return out


def _image(
    face: Sequence[int],
    images: Mapping[int, int],
    places: Sequence[Mapping[tuple[int, ...], int]],
) -> tuple[int, int]:
    """The dimension and the place of the image of a face."""
    without = [v for v in face if v not in images]
    if without:
        raise LerayError(f"vertex {without[0]} has no image")
    image = tuple(sorted({images[v] for v in face}))
    if len(image) > len(places) or image not in places[len(image) - 1]:
        raise LerayError(f"the image {image} of the face {tuple(face)} is no face")
    return len(image) - 1, places[len(image) - 1][image]


def _relations(incidence: sparse.csc_array) -> list[tuple[int, int]]:
    """The places (σ, τ) of all faces σ and cofaces τ of one dimension more."""
    taus, sigmas = incidence.nonzero()
    return list(zip(sigmas.tolist(), taus.tolist(), strict=True))


def _offsets(dims: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(dims)]).astype(int)

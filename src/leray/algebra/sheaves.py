"""Cellular sheaves on simplicial complexes: stalks, restriction maps, cohomology, diffusion.

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

import numpy as np
from scipy import sparse

from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import Field, Matrix
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError


class NotASheafError(LerayError):
    """Restriction maps that are missing, of the wrong shape, or do not compose."""


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
        paths: dict[tuple[int, int], Matrix] = {}
        for sigma, tau in first:
            for rho in over.get(tau, ()):
                path = f.mul(second[tau, rho], first[sigma, tau])
                before = paths.setdefault((sigma, rho), path)
                apart = f.add(path, f.scale(-1, before))
                if not f.is_zero(apart, f.size(second[tau, rho]) * f.size(first[sigma, tau])):
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

    def global_sections(self) -> Matrix:
        """A basis of H⁰, ``[Σ dim F(v), dim H⁰]``: values at vertices that agree on every edge."""
        return self.field.kernel(self.cochains.d(0))

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
        gaps, ends = self.cochains.d(0) @ x, _offsets(self.stalks[1])
        sizes = [self.field.size(gaps[a:b]) for a, b in pairwise(ends)]
        return max(sizes, default=0.0)


def constant_sheaf(space: SimplicialComplex, dim: int, field: Field) -> CellularSheaf:
    """The same stalk everywhere and identities: its cohomology is that of the space, dim times."""
    stalks = tuple((dim,) * n for n in space.f_vector)
    one = field.identity(dim)
    maps = tuple(dict.fromkeys(_relations(c), one) for c in space.coboundaries)
    return CellularSheaf(space, stalks, maps, field)


def connection_sheaf(
    graph: SimplicialComplex, transport: Mapping[tuple[int, int], Matrix], field: Field
) -> CellularSheaf:
    """Vector spaces on a graph with an isomorphism along every edge.

    Args:
        graph: Of dimension 1.
        transport: At (u, v) with u < v, the map from the stalk of u to that of v, ``[d, d]``.

    A section x has x(v) = g_uv x(u) on every edge.

    Raises:
        NotASheafError: The complex is no graph, an edge has no map, or a map is not invertible.
    """
    if graph.dimension != 1:
        raise NotASheafError(f"a connection lives on a graph; got dimension {graph.dimension}")
    edges, maps = set(map(tuple, graph.faces[1].tolist())), {}
    if set(transport) != edges:
        edge = min(set(transport) ^ edges)
        state = "has no transport" if edge in edges else "is no edge of the graph, u < v"
        raise NotASheafError(f"{edge} {state}")
    d = next(iter(transport.values())).shape[0]
    for tau, (u, v) in enumerate(graph.faces[1].tolist()):
        g = transport[u, v]
        if field.rank(g).value(f"the transport along ({u}, {v})") < d:
            raise NotASheafError(f"the transport along ({u}, {v}) is not invertible")
        tail, head = np.searchsorted(graph.names, [u, v]).tolist()
        maps[tail, tau], maps[head, tau] = g, field.identity(d)
    return CellularSheaf(graph, tuple((d,) * n for n in graph.f_vector), (maps,), field)


def holonomy(
    transport: Mapping[tuple[int, int], Matrix], cycle: Sequence[int], field: Field
) -> Matrix:
    """The composition of transports once around a closed walk, ``[d, d]``, in the first stalk.

    Args:
        cycle: Vertices; the last is joined to the first.
    """
    (d, *_) = {m.shape[0] for m in transport.values()}
    out = field.identity(d)
    for u, v in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        step = transport[u, v] if u < v else field.solve(transport[v, u], field.identity(d))
        out = field.mul(step, out)
    return out


@dataclass(frozen=True, slots=True)
class Diffusion:
    """What sheaf diffusion reached, and how fast."""

    value: Matrix
    """After the last step."""
    limit: Matrix
    """The orthogonal projection onto the global sections."""
    rate: float
    """The factor by which a step shrinks the distance to the limit, at most."""


def diffusion(sheaf: CellularSheaf, x: Matrix, num_steps: int) -> Diffusion:
    """x ← x − η L₀ x with the best fixed η = 2/(λ_max + λ_min⁺); to the nearest global section.

    Args:
        x: Values at the vertices, ``[Σ dim F(v), k]``, over floats.
        num_steps: ≥ 0.

    The distance to the limit shrinks at least by (λ_max − λ_min⁺)/(λ_max + λ_min⁺) a step, where
    λ_min⁺ is the smallest eigenvalue that is not zero, σ² of the certified rank of δ₀.

    Raises:
        LerayError: Over an exact field.
        UndecidedRankError: The rank of δ₀ is not decided.
    """
    import torch

    d, laplacian = sheaf.cochains.d(0), sheaf.laplacian(0)
    rank = sheaf.field.rank(d).value("δ_0")
    sections = sheaf.global_sections()
    limit = sections @ (sections.T @ x)
    if not rank:
        return Diffusion(x, limit, 0.0)
    values = torch.linalg.svdvals(d) ** 2
    high, low = float(values[0]), float(values[rank - 1])
    for _ in range(num_steps):
        x = x - 2 / (high + low) * (laplacian @ x)
    return Diffusion(x, limit, (high - low) / (high + low))


def _relations(incidence: sparse.csc_array) -> list[tuple[int, int]]:
    """The places (σ, τ) of all faces σ and cofaces τ of one dimension more."""
    taus, sigmas = incidence.nonzero()
    return list(zip(sigmas.tolist(), taus.tolist(), strict=True))


def _offsets(dims: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(dims)]).astype(int)

"""Sections by minimising energy: sheaf diffusion, and harmonic extension from given values.

The energy of x is ‖δx‖², zero exactly for global sections. Diffusion flows down its gradient, δᵀδ,
to the nearest section. With values b fixed at some vertices B, the others minimise

    ‖δ_U u + δ_B b‖²,        δ = [δ_U δ_B],

a problem of least squares in δ itself, whose normal equations L_UU u = −L_UB b are the harmonic
condition. There is one minimum if and only if ker δ_U = 0, the relative H⁰: no section but 0
vanishes on B.

Source: Hansen and Ghrist, Toward a spectral theory of cellular sheaves (J. Appl. Comput. Topology
2019), 4 (harmonic extension) and 8 (diffusion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from leray.algebra.fields import Matrix
from leray.algebra.rank import RankCertificate
from leray.algebra.sheaves import CellularSheaf
from leray.errors import LerayError


class NotUniqueError(LerayError):
    """Values that do not determine what extends them."""


@dataclass(frozen=True, slots=True)
class HarmonicExtension:
    """The values of least energy that extend given ones."""

    value: Matrix
    """At all vertices, ``[Σ dim F(v), k]``."""
    energy: float
    """‖δx‖²; zero where the given values extend to sections."""
    certificate: RankCertificate
    """Of δ on the values that were free: full rank, so that there is no other minimum."""


def harmonic_extension(
    sheaf: CellularSheaf, boundary: Sequence[int], values: Matrix
) -> HarmonicExtension:
    """The x that minimises ‖δx‖² with given values at some vertices.

    Args:
        sheaf: Over floats.
        boundary: Vertices, each once.
        values: Theirs, stalk below stalk in this order, ``[Σ dim F(b), k]``.

    Raises:
        NotUniqueError: A section that is not zero vanishes on the boundary.
        UndecidedRankError: Whether there is one is not decided.
        LerayError: Over an exact field, a vertex that is none or comes twice, or values of another
            size.

    Cost: one dense singular value decomposition and one least squares, of Σ dim F(e) rows.
    """
    field = sheaf.field
    if field.exact:
        raise LerayError(f"energy needs a norm, which {field.name} has not: give floats")
    fixed = _coordinates(sheaf, boundary)
    if values.ndim != 2 or values.shape[0] != len(fixed):
        raise LerayError(
            f"the values at {list(boundary)} need {len(fixed)} rows and one column a problem; got "
            f"shape {list(values.shape)}"
        )
    if not bool(torch.isfinite(values).all()):
        raise LerayError("a value on the boundary is not a finite number")
    d, values = sheaf.cochains.d(0), field.matrix(values)
    free = np.setdiff1d(np.arange(d.shape[1]), fixed)
    certificate = field.rank(d[:, free])
    hidden = len(free) - certificate.value("δ_0 on the free values")
    if hidden:
        raise NotUniqueError(
            f"sections that vanish at {list(boundary)} have dimension {hidden}, so no extension is "
            "the only one: fix values at more vertices, one at least in every component"
        )
    x = field.zeros(d.shape[1], values.shape[1])
    x[fixed] = values
    if len(free):
        x[free] = torch.linalg.lstsq(d[:, free], -(d[:, fixed] @ values), driver="gels").solution
    return HarmonicExtension(x, field.size(d @ x) ** 2, certificate)


def _coordinates(sheaf: CellularSheaf, vertices: Sequence[int]) -> np.ndarray:
    """The rows that belong to the stalks of these vertices, in this order."""
    names, dims = sheaf.space.names.tolist(), sheaf.stalks[0]
    for v in vertices:
        if v not in names or list(vertices).count(v) > 1:
            state = "comes twice" if v in names else "is no vertex"
            raise LerayError(f"{v} {state}: the boundary must be vertices, each once")
    starts = [0, *np.cumsum(dims).tolist()]
    blocks = [np.arange(starts[i], starts[i + 1]) for i in map(names.index, vertices)]
    return np.concatenate([np.zeros(0, dtype=int), *blocks])


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
    if num_steps < 0:
        raise ValueError(f"num_steps must be ≥ 0; got {num_steps}")
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

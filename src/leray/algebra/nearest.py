"""The complex nearest to a list of matrices that is none.

Maps m_0, m_1, … with m_{i+1} m_i ≠ 0 have no cohomology; the nearest with d_{i+1} d_i = 0 have. A
list is a complex iff in every middle space V_i some subspace S_i holds the image of what enters and
dies in what leaves, and the nearest maps for given subspaces, with orthogonal projections P_i onto
them, are d_i = P_{i+1} m_i (I − P_i). What is lost,

    Σ ‖m_i − d_i‖² = Σ ‖m_i‖² − Σ ‖P_{i+1} m_i (I − P_i)‖²,

depends on a single P_i as −tr P_i (X_i − Y_i), with X_i = e eᵀ for e = m_{i−1} (I − P_{i−1}) and
Y_i = fᵀf for f = P_{i+1} m_i: the best S_i for the others is spanned by the eigenvectors of
X_i − Y_i with positive eigenvalues. For two maps that is the whole problem, and the answer is the
global optimum; for more it is repeated until nothing is gained, from several starts, and the answer
is the best of the local optima that were found.

Source: our derivation, from Ky Fan's theorem on sums of eigenvalues (PNAS 1949).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import Floats
from leray.errors import LerayError

MOST_SWEEPS = 1000


@dataclass(frozen=True, slots=True)
class NearestComplex:
    """Maps that compose to zero, and how far they are from those that were given."""

    complex: CochainComplex
    """Over float64, on the device of the maps."""
    residual: float
    """(Σ w_i ‖m_i − d_i‖² / Σ w_i ‖m_i‖²)^½: 0 for a complex, below 1 unless all maps are lost."""
    residuals: tuple[float, ...]
    """‖m_i − d_i‖ / ‖m_i‖, map by map."""
    is_global: bool
    """Whether this is the optimum (at most two maps) or the best of local ones."""

    def __str__(self) -> str:
        parts = ", ".join(f"{r:.3g}" for r in self.residuals)
        what = "global optimum" if self.is_global else "best local optimum found"
        return f"relative residual {self.residual:.3g} (map by map {parts}; {what})"


def nearest_complex(
    matrices: Sequence[Tensor],
    *,
    generator: torch.Generator | None = None,
    relative: bool = True,
    num_starts: int = 8,
) -> NearestComplex:
    """The projection of m_0, m_1, … onto the lists with d_{i+1} d_i = 0.

    Args:
        matrices: At least one; m_i is ``[dim V_{i+1}, dim V_i]``, on one device.
        generator: For the starts after the first; needed for more than two maps and starts.
        relative: Weigh every map by 1/‖m_i‖², so that no map is given up for being written in small
            units; otherwise all weights are 1.

    Raises:
        LerayError: The maps do not follow each other, or an entry is not finite.

    Cost: an eigendecomposition of every middle space a sweep.
    """
    maps = [m.detach().double() for m in matrices]
    _check(maps)
    size = Floats().size
    norms = [size(m) for m in maps]
    scaled = [m / n if relative and n else m for m, n in zip(maps, norms, strict=True)]
    if num_starts < 1:
        raise LerayError(f"num_starts must be ≥ 1; got {num_starts}")
    simple = len(maps) <= 2
    if simple:
        num_starts = 1
    elif generator is None and num_starts > 1:
        raise LerayError(
            "more than two maps have local optima: give a generator for the starts, or num_starts=1"
        )
    best = max((_ascend(scaled, generator, k) for k in range(num_starts)), key=lambda s: s[0])
    made = _project(maps, best[1])
    lost = [size(m - d) for m, d in zip(maps, made, strict=True)]
    shares = tuple(x / n if n else 0.0 for x, n in zip(lost, norms, strict=True))
    kept, all_ = (
        (sum(s**2 for s in shares), sum(n > 0 for n in norms))
        if relative
        else (sum(x**2 for x in lost), sum(n**2 for n in norms))
    )
    field = Floats(dtype=torch.float64, device=str(maps[0].device))
    return NearestComplex(
        CochainComplex(tuple(made), field), (kept / all_) ** 0.5 if all_ else 0.0, shares, simple
    )


def _ascend(
    maps: Sequence[Tensor], generator: torch.Generator | None, start: int
) -> tuple[float, list[Tensor]]:
    """Sweeps over the middle spaces until what is kept stops growing: it, and the projections."""
    ends = [0 * _eye(maps[0].shape[1], maps[0]), _eye(maps[-1].shape[0], maps[0])]
    middle = [_first(m.shape[0], maps[0], generator, start) for m in maps[:-1]]
    p = [ends[0], *middle, ends[1]]
    kept = -1.0
    for _ in range(MOST_SWEEPS):
        for i in range(1, len(maps)):
            before, after = maps[i - 1] - maps[i - 1] @ p[i - 1], p[i + 1] @ maps[i]
            values, vectors = torch.linalg.eigh(before @ before.mT - after.mT @ after)
            plus = vectors[:, values > 0]
            p[i] = plus @ plus.mT
        now = sum(float(d.square().sum()) for d in _project(maps, p))
        if now <= kept * (1 + 1e-13):
            break
        kept = now
    return kept, p


def _first(n: int, like: Tensor, generator: torch.Generator | None, start: int) -> Tensor:
    """Where a start begins: half the identity, which weighs both sides alike, or a random half."""
    if start == 0:
        return _eye(n, like) / 2
    drawn = torch.randn(n, n, generator=generator, dtype=like.dtype, device=like.device)
    basis = torch.linalg.qr(drawn)[0][:, : (n + 1) // 2]
    return basis @ basis.mT


def _eye(n: int, like: Tensor) -> Tensor:
    return torch.eye(n, dtype=like.dtype, device=like.device)


def _project(maps: Sequence[Tensor], p: Sequence[Tensor]) -> list[Tensor]:
    return [p[i + 1] @ (m - m @ p[i]) for i, m in enumerate(maps)]


def _check(maps: Sequence[Tensor]) -> None:
    if not maps or any(m.ndim != 2 for m in maps):
        raise LerayError(
            "a list of maps needs at least one, each of two dimensions; got "
            f"{[list(m.shape) for m in maps]}"
        )
    for i, (a, b) in enumerate(pairwise(maps)):
        if a.shape[0] != b.shape[1]:
            raise LerayError(
                f"map {i} ends in dimension {a.shape[0]}, map {i + 1} begins in {b.shape[1]}"
            )
    if not all(bool(torch.isfinite(m).all()) for m in maps):
        raise LerayError("a map has an entry that is not a finite number")

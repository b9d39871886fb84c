"""How far a pair of linear maps U → V → W is from exact at V, beside what chance gives.

For A: U → V and B: V → W, with n = dim V, exactness says im A = ker B. Three numbers measure the
distance to it, none of which changes when a map is multiplied by a number or a space is rotated:

- composition c = n ‖BA‖² / (‖A‖² ‖B‖²), Frobenius norms: 0 iff BA = 0, and 1 on average when one of
  the maps is turned at random in V;
- dimension δ = n − rank A − rank B = dim ker B − dim im A, from certified ranks: BA = 0 alone makes
  a complex, and only with δ = 0 an exact one;
- the principal angles between im A and ker B: all zero and δ = 0 iff exact.

Ranks jump, so what is differentiated are smooth projectors. With A' = A/‖A‖₂, B' = B/‖B‖₂,

    P = A'A'ᵀ (A'A'ᵀ + τ²I)⁻¹,   Q = B'ᵀB' (B'ᵀB' + τ²I)⁻¹,   v = tr PQ,   h = tr (I − P)(I − Q):

as τ → 0 the violation v counts how much of im A does not die in B and the homology h how much of
ker B does not come from A. Exact iff both vanish; zero maps have v = 0 and h = n.

A number of this kind says nothing alone: random maps of these shapes have defects too, which is why
:func:`exactness_defect` needs a null and reports both. Full-rank square maps can never be exact.

Source: Björck and Golub, Numerical methods for computing angles between linear subspaces (Math.
Comp. 1973); Tikhonov's regularised projectors; Phipson and Smyth (2010) for the p-value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from leray.algebra.nulls import NULLS, Initialise, Null, draw
from leray.algebra.rank import RankCertificate, float_rank
from leray.errors import LerayError

STATISTICS = ("composition", "violation", "homology")
ENTRIES = 2**22
"""How many entries are drawn from a null at once."""


def composition_defect(
    a: Float[Tensor, "*batch v u"], b: Float[Tensor, "*batch w v"]
) -> Float[Tensor, "*batch"]:
    """n ‖BA‖² / (‖A‖² ‖B‖²), differentiable; 0 where a map is zero.

    Raises:
        LerayError: The maps do not follow each other.
    """
    _check(a, b)
    a, b = (m / _peak(m) for m in (a.double(), b.double()))
    sizes = a.square().sum((-2, -1)) * b.square().sum((-2, -1))
    raw = a.shape[-2] * (b @ a).square().sum((-2, -1))
    return raw / torch.where(sizes > 0, sizes, torch.ones_like(sizes))


@dataclass(frozen=True, slots=True)
class SmoothDefect:
    """The violation and the homology of a pair, differentiable in both maps."""

    violation: Float[Tensor, "*batch"]
    """tr PQ: the part of im A that B does not kill; 0 to min(rank A, rank B)."""
    homology: Float[Tensor, "*batch"]
    """tr (I − P)(I − Q): the part of ker B that A does not reach; 0 to n."""


def smooth_defect(
    a: Float[Tensor, "*batch v u"], b: Float[Tensor, "*batch w v"], tau: float = 1e-2
) -> SmoothDefect:
    """The pair (v, h) at the relative resolution τ, in float64, by one Cholesky factor a map.

    v = ⟨B'A', B' K_B⁻¹ K_A⁻¹ A'⟩ and h = τ⁴ ‖L_A⁻¹ L_B⁻ᵀ‖², with K = LLᵀ = A'A'ᵀ + τ²I: nothing is
    subtracted. Rounding costs about eps/τ², relatively: 1e−8 at τ = 1e−4.

    Args:
        tau: > 0; singular values well below τ times the largest count as zero. Sweep it.

    Raises:
        LerayError: The maps do not follow each other.
        ValueError: τ is not positive.
    """
    _check(a, b)
    if not tau > 0:
        raise ValueError(f"tau must be > 0; got {tau}")
    a, b = _unit(a.double()), _unit(b.double())
    left, right = _factor(a, tau), _factor(b.mT, tau)
    outer = torch.cholesky_solve(a, left)  # K_A⁻¹ A'
    inner = torch.cholesky_solve(b.mT, right)  # K_B⁻¹ B'ᵀ
    violation = ((b @ a) * (inner.mT @ outer)).sum((-2, -1))
    eye = torch.eye(a.shape[-2], dtype=a.dtype, device=a.device).expand_as(left)
    across = torch.linalg.solve_triangular(left, eye, upper=False)
    across = across @ torch.linalg.solve_triangular(right, eye, upper=False).mT
    return SmoothDefect(violation, tau**4 * across.square().sum((-2, -1)))


def principal_angles(
    a: Float[Tensor, "*batch v u"], b: Float[Tensor, "*batch w v"], ranks: tuple[int, int]
) -> Float[Tensor, "*batch k"]:
    """The angles between im A and ker B, increasing, in 0 … π/2; k = min(rank A, n − rank B).

    Args:
        ranks: Of A and of B. Where a map has more, its smaller singular values are left out.

    An angle comes from its sine and its cosine, so that tiny and right ones keep their digits.

    Raises:
        LerayError: The maps do not follow each other, or a rank does not fit its map.
    """
    _check(a, b)
    for rank, m, name in ((ranks[0], a, "A"), (ranks[1], b, "B")):
        if not 0 <= rank <= min(m.shape[-2:]):
            raise LerayError(f"the rank of {name} must be 0 to {min(m.shape[-2:])}; got {rank}")
    image = torch.linalg.svd(a.double(), full_matrices=False)[0][..., : ranks[0]]
    rows = torch.linalg.svd(b.double(), full_matrices=True)[2]
    coimage, kernel = rows[..., : ranks[1], :], rows[..., ranks[1] :, :]
    if 0 in (image.shape[-1], kernel.shape[-2]):
        return a.new_zeros((*a.shape[:-2], 0), dtype=torch.float64)
    small, large = (image, kernel.mT) if ranks[0] <= kernel.shape[-2] else (kernel.mT, image)
    turned, cosines, _ = torch.linalg.svd(small.mT @ large, full_matrices=False)
    directions = small @ turned
    if ranks[0] <= kernel.shape[-2]:
        away = coimage @ directions
    else:
        away = directions - image @ (image.mT @ directions)
    sines = torch.linalg.vector_norm(away, dim=-2)
    return torch.atan2(sines, cosines).sort(-1).values


@dataclass(frozen=True, slots=True)
class ExactnessDefect:
    """A pair's distance to exactness, and the same of maps drawn from the null."""

    composition: Float[Tensor, "*batch"]
    violation: Float[Tensor, "*batch"]
    homology: Float[Tensor, "*batch"]
    dim: int
    """n = dim V."""
    ranks: tuple[tuple[RankCertificate, RankCertificate], ...]
    """Of A and B, for every pair of the batch in order."""
    angles: Tensor | None
    """The principal angles between im A and ker B, ``[*batch, k]``; None where ranks are undecided
    or differ within the batch."""
    null: str
    null_composition: Float[Tensor, " draws *batch"]
    null_violation: Float[Tensor, " draws *batch"]
    null_homology: Float[Tensor, " draws *batch"]

    @property
    def dimension(self) -> Int[Tensor, "*batch"]:
        """δ = n − rank A − rank B.

        Raises:
            UndecidedRankError: A rank is not decided.
        """
        found = [self.dim - a.value("A") - b.value("B") for a, b in self.ranks]
        return torch.tensor(found).reshape(self.composition.shape)

    def p_value(self, of: str) -> Tensor:
        """(1 + draws at most as large) / (1 + draws): how often chance is as exact, ``[*batch]``.

        One-sided, for one pair and one number; correct it for how many were looked at.

        Args:
            of: ``composition``, ``violation`` or ``homology``.
        """
        if of not in STATISTICS:
            raise ValueError(f"of must be one of {', '.join(STATISTICS)}; got {of!r}")
        draws, seen = getattr(self, f"null_{of}"), getattr(self, of)
        return (1.0 + (draws <= seen).sum(0).double()) / (1 + draws.shape[0])

    def __str__(self) -> str:
        lines = []
        for k, (a, b) in enumerate(self.ranks):
            delta = str(self.dim - a.rank - b.rank) if a.decided and b.decided else "undecided"
            lines.append(f"dim V = {self.dim}, dim ker B − rank A = {delta}{self._widest(k)}")
            for name in STATISTICS:
                seen = getattr(self, name).reshape(-1)[k]
                draws = getattr(self, f"null_{name}").reshape(-1, len(self.ranks))[:, k]
                low, high = draws.quantile(0.025), draws.quantile(0.975)
                lines.append(
                    f"{name:12s}{seen:9.3g}   {self.null}: {draws.mean():.3g} "
                    f"[{low:.3g}, {high:.3g}] of {len(draws)}"
                )
        return "\n".join(lines)

    def _widest(self, k: int) -> str:
        if self.angles is None or not self.angles.shape[-1]:
            return ""
        angles = self.angles.reshape(len(self.ranks), -1)[k].rad2deg()
        return f", principal angles {angles[0]:.3g}° to {angles[-1]:.3g}°"


def exactness_defect(
    a: Float[Tensor, "*batch v u"],
    b: Float[Tensor, "*batch w v"],
    *,
    null: Null,
    generator: torch.Generator,
    num_null: int = 200,
    tau: float = 1e-2,
    initialise: Initialise | None = None,
) -> ExactnessDefect:
    """The defect of U → V → W at V, beside ``num_null`` draws from a null.

    Args:
        null: ``rotated`` (dimension-matched), ``shuffled`` or ``initialised``; what each of them
            keeps is said in :mod:`leray.algebra.nulls`.
        generator: On the device of the maps.
        tau: As in :func:`smooth_defect`.
        initialise: From a shape and a generator to a map as the network draws it untrained.

    Raises:
        LerayError: The maps do not follow each other, the null is unknown, or ``initialise`` is
            given with another null than ``initialised``.

    Cost: (1 + num_null) smooth defects and one rank of every map.
    """
    _check(a, b)
    if null not in NULLS:
        raise LerayError(f"null must be one of {', '.join(NULLS)}; got {null!r}")
    if initialise is not None and null != "initialised":
        raise LerayError(f"initialise has no effect on the null {null!r}; use 'initialised'")
    if num_null < 1:
        raise ValueError(f"num_null must be ≥ 1: a defect alone says nothing; got {num_null}")
    seen = smooth_defect(a, b, tau)
    draws = []
    chunk = max(1, ENTRIES // (a.numel() + b.numel() + a.shape[-2] ** 2 + 1))
    for start in range(0, num_null, chunk):
        num_draws = min(chunk, num_null - start)
        many_a, many_b = (m.detach().expand(num_draws, *m.shape) for m in (a, b))
        x, y = draw(many_a, many_b, null, generator, initialise)
        drawn = smooth_defect(x, y, tau)
        draws.append((composition_defect(x, y), drawn.violation, drawn.homology))
    num_pairs = math.prod(a.shape[:-2])
    pairs = zip(*(m.reshape(num_pairs, *m.shape[-2:]) for m in (a, b)), strict=True)
    ranks = tuple((float_rank(x.detach()), float_rank(y.detach())) for x, y in pairs)
    decided = all(x.decided and y.decided for x, y in ranks)
    common = {(x.rank, y.rank) for x, y in ranks}
    return ExactnessDefect(
        composition_defect(a, b),
        seen.violation,
        seen.homology,
        a.shape[-2],
        ranks,
        principal_angles(a, b, *common) if decided and len(common) == 1 else None,
        null,
        *(torch.cat(column) for column in zip(*draws, strict=True)),
    )


def _peak(m: Tensor) -> Tensor:
    """The largest entry, ``[..., 1, 1]``; 1 for 0. Divided by it, squares stay in range."""
    if not m.numel():
        return m.new_ones((*m.shape[:-2], 1, 1))
    largest = m.detach().abs().amax((-2, -1), keepdim=True)
    return torch.where(largest > 0, largest, 1.0)


def _unit(m: Tensor) -> Tensor:
    """m / ‖m‖₂, and 0 for 0."""
    if 0 in m.shape[-2:]:
        return m
    m = m / _peak(m)
    norm = torch.linalg.matrix_norm(m, ord=2)[..., None, None]
    return m / torch.where(norm > 0, norm, torch.ones_like(norm))


def _factor(m: Tensor, tau: float) -> Tensor:
    """The Cholesky factor of m mᵀ + τ² I."""
    eye = torch.eye(m.shape[-2], dtype=m.dtype, device=m.device)
    return torch.linalg.cholesky(m @ m.mT + tau**2 * eye)


def _check(a: Tensor, b: Tensor) -> None:
    if min(a.ndim, b.ndim) < 2 or a.shape[:-2] != b.shape[:-2] or a.shape[-2] != b.shape[-1]:
        raise LerayError(
            "A: U → V and B: V → W must be [..., v, u] and [..., w, v]; got "
            f"{list(a.shape)} and {list(b.shape)}"
        )
    if not bool(torch.isfinite(a).all() & torch.isfinite(b).all()):
        raise LerayError("a map has an entry that is not a finite number")

"""Parallel transport along a sequence: a connection whose maps the data choose.

Token t has m unit vectors u_{t,1}, …, u_{t,m} in a stalk ℝᵏ, and moving from t − 1 to t applies

    M_t = H(u_{t,m}) ⋯ H(u_{t,1}),    H(u) = I − 2uuᵀ,

so that transport from s to t is M_t ⋯ M_{s+1}, orthogonal. On the tokens of one text this is a flat
connection: transports compose, and no cycle turns anything. What it has more than rotations by
position shows where equal tokens are taken for one: a text is then a path in a bouquet of circles,
one for every word, whose fundamental group is free, and in a first layer, where u is a function of
the word alone, it makes a representation of that group in O(k); behind it u depends on all before.
Its holonomy around the commutator of two words is not trivial unless their maps commute, while
turning by position knows no order of words. One reflection a token cannot make a rotation; two can.

With G_t = M_t ⋯ M_1 the transport from s to t is G_t G_sᵀ: carried to the frame of the beginning,
x_t ↦ G_tᵀ x_t, queries, keys and values meet in one space, any attention may be taken there, and
its result is carried back by G_t. A vector of d numbers is d/k vectors of the stalk, one behind the
other, all carried by the same map: I ⊗ G_t on ℝᵈ = ℝ^{d/k} ⊗ ℝᵏ. So one connection serves queries,
keys and values of many heads, its k × k matrices are formed once, and x costs k products a number.

The G_t are a scan. In blocks of n tokens, all blocks at once, n − 1 products of small matrices; the
ends of the blocks are a shorter sequence, scanned in the same way; what it gives is multiplied onto
the blocks. That is n log_n T steps one after the other and two products of matrices a token.

The gradient needs no scan. A change of M_s changes G_t to the first order by G_t G_sᵀ dM_s G_{s−1},
so that, with Ḡ_t the gradient of a loss in G_t,

    dL = Σ_s ⟨C_s, dM_s M_sᵀ⟩,    C_s = G_s (Σ_{t≥s} G_tᵀ Ḡ_t) G_sᵀ,

a sum from the end. dM_s M_sᵀ is antisymmetric, hence only K_s = C_s − C_sᵀ counts, and with W_j the
reflections of token s behind its j-th, the gradient in the unit vector is 2 W_jᵀ K_s W_j u_j, at
right angles to it. Nothing is stored but the vectors and the G_t.

Source: the scan is Blelloch, Prefix sums and their applications (1990), with blocks in the place of
pairs; the gradient follows from the equations above. Relatives: PaTH attention (Yang et al., arXiv
2505.16381), DeltaNet in parallel (Yang et al., arXiv 2406.06484) and DeltaProduct (Siems et al.,
arXiv 2502.10297), whose products of Householder maps gate or update a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

BLOCK = 16
"""Tokens a block."""
TINY = 1e-12
"""A vector shorter than this is taken for zero and reflects nothing."""


@dataclass(frozen=True, slots=True)
class Transport:
    """The maps G_t of a sequence; see :func:`transport_of`."""

    maps: Float[Tensor, "*batch time k k"]

    def to_start(self, x: Float[Tensor, "*batch time d"]) -> Float[Tensor, "*batch time d"]:
        """G_tᵀ x_t: every vector carried back to the frame of the beginning, k numbers at a time.

        Raises:
            ValueError: d is no multiple of k.
        """
        return _rows_times(x, self.maps)

    def from_start(self, y: Float[Tensor, "*batch time d"]) -> Float[Tensor, "*batch time d"]:
        """G_t y_t: every vector carried from the frame of the beginning to its token's.

        Raises:
            ValueError: d is no multiple of k.
        """
        return _rows_times(y, self.maps.mT)


def transport_of(vectors: Float[Tensor, "*batch time m k"], block: int = BLOCK) -> Transport:
    """The transport whose reflections are along ``vectors``, of any length; zero reflects nothing.

    Args:
        vectors: m for every token, applied in their order.
        block: How many tokens are taken together, 2 or more; changes nothing but speed and
            rounding.

    Returns:
        Maps in float32 at least: a product of many in half precision would leave O(k).

    Raises:
        ValueError: No reflection, or a block of fewer than two tokens.

    Cost: O(T k² (m + k)) for a sequence of T tokens.
    """
    if vectors.ndim < 3 or vectors.shape[-2] < 1 or block < 2:
        raise ValueError(
            "vectors must be [..., time, m, k] with m ≥ 1, and block ≥ 2; got "
            f"{list(vectors.shape)} and {block}"
        )
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    with torch.autocast(vectors.device.type, enabled=False):
        return Transport(_Products.apply(wide, block))  # pyright: ignore[reportArgumentType]


class _Products(torch.autograd.Function):
    """vectors ``[..., time, m, k]`` → G_t ``[..., time, k, k]``."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, block: int) -> Tensor:  # pyright: ignore
        unit = F.normalize(vectors, dim=-1, eps=TINY)
        steps = torch.eye(unit.shape[-1], dtype=unit.dtype, device=unit.device)
        for u in unit.unbind(-2):
            row = u[..., None, :] @ steps
            steps = torch.addcmul(steps, u[..., :, None], row, value=-2)
        maps = _scan(steps, block)
        ctx.save_for_backward(vectors, maps)
        return maps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        vectors, maps = ctx.saved_tensors
        length = vectors.norm(dim=-1, keepdim=True).clamp_min(TINY)
        unit = vectors / length
        after = (maps.mT @ grad).flip(-3).cumsum(-3).flip(-3)
        rows = _through_later(unit, unit, back=False) @ maps
        turned = rows @ after.mT - rows @ after
        return 2 * _through_later(turned @ maps.mT, unit, back=True) / length, None


def _through_later(x: Tensor, unit: Tensor, back: bool) -> Tensor:
    """Row j through the reflections j + 1, …, m of its token, or back through them."""
    num = unit.shape[-2]
    for i in range(num - 1, 0, -1) if back else range(1, num):
        u, early = unit[..., i : i + 1, :], x[..., :i, :]
        early = early - 2 * (early @ u.mT) * u
        x = torch.cat([early, x[..., i:, :]], dim=-2)
    return x


def _scan(steps: Tensor, block: int) -> Tensor:
    """The products M_t ⋯ M_1 of ``[..., time, k, k]``, for all t."""
    time, k = steps.shape[-3:-1]
    num_blocks = -(-time // block)
    made = F.pad(steps, (0, 0, 0, 0, 0, num_blocks * block - time))
    made = made.unflatten(-3, (num_blocks, block))
    for i in range(1, block):
        made[..., i, :, :] = made[..., i, :, :] @ made[..., i - 1, :, :]
    if num_blocks > 1:
        before = _scan(made[..., :-1, -1, :, :], block)
        rest = made[..., 1:, :, :, :].flatten(-3, -2)  # a block's maps below each other
        made[..., 1:, :, :, :] = (rest @ before).unflatten(-2, (block, k))
    return made.flatten(-4, -3)[..., :time, :, :]


def _rows_times(x: Tensor, maps: Tensor) -> Tensor:
    """Every k numbers of x, as a row, times the token's matrix."""
    k = maps.shape[-1]
    if x.shape[-1] % k or x.shape[:-1] != maps.shape[:-2]:
        raise ValueError(
            f"vectors to carry must be {[*maps.shape[:-2]]} and a multiple of {k} numbers; got "
            f"{list(x.shape)}"
        )
    return (x.unflatten(-1, (-1, k)) @ maps.to(x.dtype)).flatten(-2)

"""Parallel transport along a sequence: a connection whose maps the data choose.

Token t has m unit vectors u_{t,1}, …, u_{t,m} in ℝᵈ, and moving from t − 1 to t applies

    M_t = H(u_{t,m}) ⋯ H(u_{t,1}),    H(u) = I − 2uuᵀ,

so that transport from s to t is M_t ⋯ M_{s+1}, orthogonal. On the tokens of one text this is a flat
connection: transports compose, and no cycle turns anything. What it has more than rotations by
position shows where equal tokens are taken for one: a text is then a path in a bouquet of circles,
one for every word, whose fundamental group is free, and u makes a representation of it in O(d). Its
holonomy around the commutator of two words is not trivial unless their maps commute, while turning
by position knows no order of words. One reflection a token cannot make a rotation; two can.

With G_t = M_t ⋯ M_1 the transport from s to t is G_t G_sᵀ: carried to the frame of the beginning,
x_t ↦ G_tᵀ x_t, queries, keys and values meet in one space, any attention may be taken there, and
its result is carried back by G_t.

Products of reflections are taken in blocks: H_1 ⋯ H_n = I − U T Uᵀ with T⁻¹ = ½I + the part of
UᵀU above the diagonal, whose leading parts serve all prefixes at once, so that a block costs
products of matrices and one triangular solution.

Source: Schreiber and Van Loan, A storage-efficient WY representation for products of Householder
transformations (SIAM J. Sci. Stat. Comput. 1989); Joffrain et al., Accumulating Householder
transformations, revisited (ACM TOMS 2006), for T⁻¹. Relatives: PaTH attention (Yang et al., arXiv
2505.16381), DeltaNet in parallel (Yang et al., arXiv 2406.06484) and DeltaProduct (Siems et al.,
arXiv 2502.10297), whose products of Householder maps gate or update a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

BLOCK = 32
"""Tokens a block."""


@dataclass(frozen=True, slots=True)
class Transport:
    """The maps G_t of a sequence, by blocks; see :func:`transport_of`."""

    time: int
    reflections: Float[Tensor, "*batch blocks n d"]
    """Rows u of unit length, or zero after the end; n = m · tokens of a block."""
    triangle: Float[Tensor, "*batch blocks n n"]
    """T⁻¹ of every block, upper triangular."""
    starts: Float[Tensor, "*batch blocks d d"]
    """G at the end of the block before; the identity for the first."""
    seen: Bool[Tensor, "tokens n"]
    """Which reflections of its block a token has behind it, its own included."""

    def to_start(self, x: Float[Tensor, "*batch time d"]) -> Float[Tensor, "*batch time d"]:
        """G_tᵀ x_t: every vector carried back to the frame of the beginning."""
        blocks = self._blocks(x)
        onto = (blocks @ self.reflections.mT).masked_fill(~self.seen, 0.0)
        factors = torch.linalg.solve_triangular(self.triangle, onto.mT, upper=True)
        turned = blocks - factors.mT @ self.reflections
        return self._flat(turned @ self.starts)

    def from_start(self, y: Float[Tensor, "*batch time d"]) -> Float[Tensor, "*batch time d"]:
        """G_t y_t: every vector carried from the frame of the beginning to its token's."""
        blocks = self._blocks(y) @ self.starts.mT
        onto = blocks @ self.reflections.mT
        factors = torch.linalg.solve_triangular(self.triangle.mT, onto.mT, upper=False)
        kept = factors.mT.masked_fill(~self.seen, 0.0)
        return self._flat(blocks - kept @ self.reflections)

    def _blocks(self, x: Tensor) -> Tensor:
        tokens = len(self.seen)
        padded = F.pad(x, (0, 0, 0, self.reflections.shape[-3] * tokens - self.time))
        return padded.unflatten(-2, (-1, tokens))

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(-3, -2)[..., : self.time, :]


def transport_of(vectors: Float[Tensor, "*batch time m d"], block: int = BLOCK) -> Transport:
    """The transport whose reflections are along ``vectors``, of any length but zero.

    Args:
        vectors: m for every token, applied in their order.
        block: How many tokens are taken together; changes nothing but speed and rounding.

    Raises:
        ValueError: No reflection, or a block without tokens.

    Cost: O(T (m · block · d + d²)) for a sequence of T tokens.
    """
    if vectors.ndim < 3 or vectors.shape[-2] < 1 or block < 1:
        raise ValueError(
            "vectors must be [..., time, m, d] with m ≥ 1, and block ≥ 1; got "
            f"{list(vectors.shape)} and {block}"
        )
    time, num, d = vectors.shape[-3:]
    unit = F.normalize(vectors, dim=-1)
    num_blocks = -(-time // block)
    padded = F.pad(unit, (0, 0, 0, 0, 0, num_blocks * block - time))
    u = padded.unflatten(-3, (num_blocks, block)).flatten(-3, -2)
    half = torch.eye(block * num, dtype=u.dtype, device=u.device) / 2
    triangle = (u @ u.mT).triu(1) + half
    starts, last = [], torch.eye(d, dtype=u.dtype, device=u.device).expand(*u.shape[:-3], d, d)
    whole = torch.linalg.solve_triangular(triangle.mT, u, upper=False)  # Tᵀ Uᵀ
    for b in range(num_blocks):
        starts.append(last)
        rows = u[..., b, :, :]
        last = last - rows.mT @ (whole[..., b, :, :] @ last)
    token = torch.arange(block * num, device=u.device) // num
    seen = token <= torch.arange(block, device=u.device)[:, None]
    return Transport(time, u, triangle, torch.stack(starts, dim=-3), seen)

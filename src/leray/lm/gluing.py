"""Gluing: attention in overlapping patches whose sections are made to agree.

Two covers of a text by patches of w tokens, one moved by w/2, so that every token from w/2 on lies
in two patches. In a patch a token sees the patch's own tokens up to itself: a local section. The
difference of the two sections on the overlaps is Čech's coboundary of the 0-cochain of sections,
for the sheaf of all functions, and its kernel, the sections that agree, is H⁰: one function on the
text. The least-squares projection onto that kernel is the mean of the two where there are two,

    (P s)_t = (s_t + s'_t) / 2,    disagreement = Σ ‖s_t − s'_t‖² / Σ (‖s_t‖² + ‖s'_t‖²),

which is scale-free: no section made small agrees the better for it, and 1 is what sections that
know nothing of each other have. Normalised outputs of overlapping patches do not glue of
themselves, while softmax's numerators and denominators obey inclusion and exclusion.

Source: Bott and Tu, Differential Forms in Algebraic Topology §8, for Čech's complex; Hansen and
Ghrist, Opinion dynamics on discourse sheaves (2021), for disagreement as an energy.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def glued_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h t d"],
    v: Float[Tensor, "b h t e"],
    patch: int,
) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, ""]]:
    """The glued sections and their disagreement before they were glued.

    Args:
        patch: w, even and ≥ 2; a text of at most w/2 tokens lies in one patch alone.

    Raises:
        ValueError: w is odd or not positive.

    Cost: 4 T w d multiplications, as of a window of w tokens.
    """
    if patch < 2 or patch % 2:
        raise ValueError(f"a patch must hold an even number of tokens, 2 at least; got {patch}")
    half = patch // 2
    one = patch_attention(q, k, v, patch)
    if q.shape[-2] <= half:
        return one, one.new_zeros(())
    other = patch_attention(q[..., half:, :], k[..., half:, :], v[..., half:, :], patch)
    shared = one[..., half:, :]
    energy = (shared - other).square().sum()
    size = shared.square().sum() + other.square().sum()
    glued = F.pad((other - shared) / 2, (0, 0, half, 0)) + one
    return glued, energy / size.clamp_min(1e-30)


def patch_attention(q: Tensor, k: Tensor, v: Tensor, patch: int) -> Tensor:
    """Causal attention inside every patch of a partition, the first from the first token on."""
    time = q.shape[-2]
    num = -(-time // patch)
    queries, keys, values = (
        F.pad(x, (0, 0, 0, num * patch - time)).unflatten(-2, (num, patch)).flatten(1, 2)
        for x in (q, k, v)
    )
    y = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    return y.unflatten(1, (-1, num)).flatten(2, 3)[..., :time, :]

"""Attention that forgets: a transport of rank one that contracts, read off the tokens between.

Every step of the text carries a factor f_r in (0, 1), one a head, and a value that travels from
token s to token t is multiplied by all between:

    a_ts ∝ exp(q_t · k_s / √d + Σ_{s < r ≤ t} log f_r).

That is a line bundle over the path with a map on every edge, the data-dependent kin of a window:
where f is constant, weights fall exponentially with distance. With c_t = Σ_{r ≤ t} log f_r the
exponent is c_t − c_s, of which softmax over s does not see c_t: one more coordinate of the keys,
−c_s, is all that it takes, in any attention that takes queries and keys.

Source: Lin et al., Forgetting transformer (arXiv 2503.02130).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

MORE = 8
"""Coordinates that are added, most of them 0: kernels like multiples of eight."""


class Forgetting(nn.Module):
    """Queries and keys of a few more coordinates, whose product also says what is forgotten.

    Cost: (width + 1) · heads weights.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, num_heads, bias=False)
        # Heads begin with memories of about 8 to 400 tokens.
        self.start = nn.Parameter(torch.linspace(2.0, 6.0, num_heads))

    def forward(
        self,
        q: Float[Tensor, "b h t d"],
        k: Float[Tensor, "b h t d"],
        x: Float[Tensor, "b t width"],
    ) -> tuple[Float[Tensor, "b h t more"], Float[Tensor, "b h t more"]]:
        z = self.map(x) + self.start
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        return forgetful(q, k, F.logsigmoid(z).mT)


def forgetful(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h t d"], log_kept: Float[Tensor, "b h t"]
) -> tuple[Float[Tensor, "b h t more"], Float[Tensor, "b h t more"]]:
    """q' and k' with q'_t · k'_s / √d' = q_t · k_s / √d − c_s, c the running sum of ``log_kept``.

    In half precision c is given in three parts, which together have its digits.
    """
    d = q.shape[-1]
    rest = -log_kept.cumsum(-1).unsqueeze(-1)
    parts = []
    for _ in range(1 if q.dtype.itemsize >= 4 else 3):
        parts.append(rest.to(q.dtype))
        rest = rest - parts[-1].to(rest.dtype)
    size = ((d + MORE) / d) ** 0.5
    ones = q.new_full((*q.shape[:-1], len(parts)), (d + MORE) ** 0.5)
    zeros = (0, MORE - len(parts))
    return (
        F.pad(torch.cat([q * size, ones], dim=-1), zeros),
        F.pad(torch.cat([k, *parts], dim=-1), zeros),
    )

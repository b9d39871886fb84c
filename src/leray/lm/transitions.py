"""Cochain transitions between levels: linear maps that compose to zero by construction.

Level i has its state in ℝⁿ, and d_i carries it into level i + 1, to whose input it is added. With
orthogonal Q_i and r = n/2,

    d_i = Q_{i+1}[:, :r] C_i Q_i[:, r:]ᵀ,

so that im d_i lies in the first r columns of Q_{i+1} and d_{i+1} sees the others only:
d_{i+1} d_i = 0, whatever C is. Where every C_i (r × r) is invertible, rank d_i + rank d_{i+1} = n
and the sequence is exact at every inner level; else it is a complex. An optimiser's step leaves
the orthogonal group, and ``retract`` brings Q back to its polar factor, the nearest orthogonal.

``bare`` ones are such a matrix in the stream's place, without the skip connection and the norm that
the others have: x ↦ W x in place of x ↦ x + d(x / |x|). It begins as the identity.

``plain`` transitions are one n × n matrix each, the rival: n² weights a transition, against n² for
every inner frame, n² for the two outer halves together, and n²/4 for every C. A skip connection
carries the state past them, so that nothing follows for activations, only for the maps.

Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), for
retractions; the splitting is linear algebra.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PlainTransitions(nn.Module):
    """One matrix between two levels, zero at the start, or the identity where it is ``bare``."""

    def __init__(self, width: int, num: int, *, bare: bool = False) -> None:
        super().__init__()
        start = torch.eye(width) if bare else torch.zeros(width, width)
        self.weight = nn.Parameter(start.repeat(num, 1, 1))

    def maps(self) -> Float[Tensor, "num n n"]:
        return self.weight

    def forward(self, x: Float[Tensor, "b t n"], i: int) -> Float[Tensor, "b t n"]:
        return x @ self.weight[i].mT


class ExactTransitions(nn.Module):
    """Maps with d d = 0; the middles are zero at the start, so that the model begins without.

    Of the first and the last frame only the halves that a map sees are kept.
    """

    def __init__(self, width: int, num: int) -> None:
        super().__init__()
        self.rank = width // 2
        eye = torch.eye(width)
        self.first = nn.Parameter(eye[:, self.rank :].clone())
        self.frames = nn.Parameter(eye.repeat(num - 1, 1, 1))
        self.last = nn.Parameter(eye[:, : self.rank].clone())
        self.middles = nn.Parameter(torch.zeros(num, self.rank, width - self.rank))

    def maps(self) -> Float[Tensor, "num n n"]:
        pairs = (self._ends(i) for i in range(len(self.middles)))
        return torch.stack([b @ c @ a.mT for (a, b), c in zip(pairs, self.middles, strict=True)])

    def forward(self, x: Float[Tensor, "b t n"], i: int) -> Float[Tensor, "b t n"]:
        a, b = self._ends(i)
        return x @ a @ self.middles[i].mT @ b.mT

    @torch.no_grad()
    def retract(self) -> None:
        """Every frame becomes its polar factor, taken in float64: orthogonal to rounding.

        On CUDA by Newton and Schulz's iteration, which waits for nothing.
        """
        for frame in (self.first, self.frames, self.last):
            x = frame.double()
            if frame.is_cuda:
                frame.copy_(nearest_frame(x))
            else:
                u, _, v = torch.linalg.svd(x, full_matrices=False)
                frame.copy_(u @ v)

    def _ends(self, i: int) -> tuple[Tensor, Tensor]:
        """What map i sees, and where it arrives: n × (n − r) and n × r."""
        sees = self.first if i == 0 else self.frames[i - 1][:, self.rank :]
        arrives = self.last if i == len(self.frames) else self.frames[i][:, : self.rank]
        return sees, arrives


def nearest_frame(x: Tensor) -> Tensor:
    """The polar factor of x, no wider than high, of singular values in [σ/50, σ] for some σ > 0.

    Every step of X ← X (3 − XᵀX) / 2 brings singular values in (0, √3) nearer to 1: small ones grow
    by half, close ones have twice as many right digits. x is first divided by a bound of its norm
    that is at most √n times too large: 30 steps do for n to 1,000.

    Cost: 60 products of x with a matrix of its own size.

    Source: Björck and Bowie, SIAM J. Numer. Anal. 8 (1971).
    """
    rows, columns = (x.abs().sum(dim).amax(-1)[..., None, None] for dim in (-1, -2))
    x = x / (rows * columns).sqrt()
    for _ in range(30):
        x = 1.5 * x - 0.5 * (x @ (x.mT @ x))
    return x

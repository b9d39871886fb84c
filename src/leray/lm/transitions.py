"""Cochain transitions between levels: linear maps that compose to zero by construction.

Level i has its state in ℝⁿ, and d_i carries it into level i + 1, to whose input it is added. With
orthogonal Q_i and r = n/2,

    d_i = Q_{i+1}[:, :r] C_i Q_i[:, r:]ᵀ,

so that im d_i lies in the first r columns of Q_{i+1} and d_{i+1} sees the others only:
d_{i+1} d_i = 0, whatever C is. Where every C_i (r × r) is invertible, rank d_i + rank d_{i+1} = n
and the sequence is exact at every inner level; else it is a complex. An optimiser's step leaves
the orthogonal group, and ``retract`` brings Q back to its polar factor, the nearest orthogonal.

``plain`` transitions are one n × n matrix each, the rival of equal size (n² weights a transition
against n² + n²/4). A skip connection carries the state past them, so that nothing follows for
activations, only for the maps.

Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), for
retractions; the splitting is linear algebra.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PlainTransitions(nn.Module):
    """One matrix between two levels, zero at the start."""

    def __init__(self, width: int, num: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num, width, width))

    def maps(self) -> Float[Tensor, "num n n"]:
        return self.weight

    def forward(self, x: Float[Tensor, "b t n"], i: int) -> Float[Tensor, "b t n"]:
        return x @ self.weight[i].mT


class ExactTransitions(nn.Module):
    """Maps with d d = 0; the middles are zero at the start, so that the model begins without."""

    def __init__(self, width: int, num: int) -> None:
        super().__init__()
        self.frames = nn.Parameter(torch.eye(width).repeat(num + 1, 1, 1))
        self.middles = nn.Parameter(torch.zeros(num, width // 2, width // 2))

    def maps(self) -> Float[Tensor, "num n n"]:
        r = self.middles.shape[-1]
        return self.frames[1:, :, :r] @ self.middles @ self.frames[:-1, :, r:].mT

    def forward(self, x: Float[Tensor, "b t n"], i: int) -> Float[Tensor, "b t n"]:
        r = self.middles.shape[-1]
        return x @ self.frames[i, :, r:] @ self.middles[i].mT @ self.frames[i + 1, :, :r].mT

    @torch.no_grad()
    def retract(self) -> None:
        """Every frame becomes its polar factor, by an SVD in float64: orthogonal to rounding."""
        u, _, v = torch.linalg.svd(self.frames.double())
        self.frames.copy_(u @ v)

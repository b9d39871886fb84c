"""Chance for pairs of linear maps U → V → W: what is kept of them, and what is drawn anew.

- ``rotated``, the dimension-matched null: both maps keep their singular values, hence their ranks,
  and V is turned between them by a uniformly random rotation;
- ``shuffled``: every map keeps its entries, in random order;
- ``initialised``: every map keeps its shape, with independent normal entries or as the network
  draws it untrained.

Source: Stewart, The efficient generation of random orthogonal matrices (SIAM J. Numer. Anal. 1980).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from leray.errors import LerayError

Null = Literal["rotated", "shuffled", "initialised"]
NULLS = ("rotated", "shuffled", "initialised")
Initialise = Callable[[tuple[int, ...], torch.Generator], Tensor]


def draw(
    a: Tensor, b: Tensor, null: Null, generator: torch.Generator, initialise: Initialise | None
) -> tuple[Tensor, Tensor]:
    """One pair from the null for every pair A ``[..., v, u]``, B ``[..., w, v]``.

    Raises:
        LerayError: ``initialise`` returns another shape.
    """
    if null == "rotated":
        return _rotation(a, generator) @ a.double(), b
    if null == "shuffled":
        return _shuffled(a, generator), _shuffled(b, generator)
    make = initialise or _normal
    x, y = (make(tuple(m.shape), generator).to(m.device) for m in (a, b))
    for drawn, m in ((x, a), (y, b)):
        if drawn.shape != m.shape:
            raise LerayError(
                f"initialise must return a tensor of shape {tuple(m.shape)}; got "
                f"{tuple(drawn.shape)}"
            )
    return x, y


def _rotation(a: Tensor, generator: torch.Generator) -> Tensor:
    """Haar's measure on the orthogonal group of V: the Q of a normal matrix, signs by R."""
    shape = (*a.shape[:-1], a.shape[-2])
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device=a.device)
    q, r = torch.linalg.qr(drawn)
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]


def _shuffled(m: Tensor, generator: torch.Generator) -> Tensor:
    flat = m.flatten(-2)
    keys = torch.rand(flat.shape, generator=generator, device=m.device)
    return flat.gather(-1, keys.argsort(-1)).reshape(m.shape)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)

"""Zones: weights that an optimiser may move fully, partly, or not at all.

A step of any optimiser moves the weights p to p'. Each coordinate then goes the share s of its way:

    p ← p + s ∘ (p' − p),   0 ≤ s ≤ 1,

s = 0 in the core of a circuit, small in its support, larger in its context, 1 elsewhere. The
*update* is scaled, weight decay and momentum included. To scale the gradient instead does nearly
nothing where steps do not depend on its size: Adam divides by it, Muon's steps are orthogonal maps.

What a matrix must keep is seldom a set of its coordinates: an ability reads some directions of its
input and is felt along some of its output. `Turned` shares are of the coordinates Z = Vᵀ W U, V and
U orthogonal, and the optimiser works in them: it sees Z and the gradient Vᵀ G U, and moves Z to Z',

    W ← W + V (S ∘ (Z' − Z)) Uᵀ.

Of an optimiser that does not know bases, such as Muon and plain descent, these are its own steps,
scaled. Adam gives every coordinate a step of its own size, so that what is kept does not decide how
far the free directions go: on W it would, since each entry of G is mostly of what is large
(`tests/circuits/test_zones.py`).

Source: the structure document (graduated protection), which scales gradients; Kingma and Ba, Adam
(arXiv 1412.6980, §2.1), for the invariance; Saha et al., Gradient projection memory (arXiv
2103.09762), for directions of the input that no update may have; Vyas et al., SOAP (arXiv
2409.11321), for Adam in the bases of Kronecker factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leray.errors import LerayError, nearest


@dataclass(frozen=True, slots=True)
class Turned:
    """Shares of a matrix in other orthonormal bases of what it writes and what it reads.

    Args:
        out: V, its columns the basis of the output; None for the standard one.
        into: U, that of the input.
        shares: S.
    """

    out: Float[Tensor, "o o"] | None
    into: Float[Tensor, "i i"]
    shares: Float[Tensor, "o i"]

    def turned(self, matrix: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        """Vᵀ M U."""
        return (matrix if self.out is None else self.out.mT @ matrix) @ self.into

    def scaled(self, update: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        """V (S ∘ ΔZ) Uᵀ."""
        found = self.shares * update @ self.into.mT
        return found if self.out is None else self.out @ found


Share = Turned | Float[Tensor, "..."] | float


class Zoned:
    """An optimiser whose steps are scaled, coordinate by coordinate.

    Args:
        optimizer: Any of ``torch.optim`` but LBFGS, or with its methods. Schedules of the rate are
            given the optimiser itself, ``zoned.optimizer``.
        shares: By weight, s: a number, a tensor of its shape, or `Turned` shares of a matrix.
            Weights without one move fully.
        gradients: The optimiser sees s ∘ G too. For those that mix coordinates and do not feel how
            large a gradient is (Muon, Shampoo, SOAP): what is held back would else be most of what
            their steps are fitted to. Plain descent would go s² of its way.

    Raises:
        LerayError: A share outside [0, 1], of another shape, or of a weight that is not moved; an
            optimiser whose steps need a closure.

    Cost: a copy of the weights that have shares, and one pass over them, a step; for turned shares
    six products of matrices.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        shares: Mapping[Tensor, Share],
        *,
        gradients: bool = False,
    ) -> None:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise LerayError("LBFGS needs a closure and cannot be zoned: give another optimiser")
        self.gradients = gradients
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.optimizer = optimizer
        self.shares: list[tuple[Tensor, Tensor | Turned]] = []
        for p, share in shares.items():
            own = share.shares if isinstance(share, Turned) else share
            s = torch.as_tensor(own, dtype=p.dtype, device=p.device)
            if id(p) not in moved:
                raise LerayError("a share is given for a weight that the optimiser does not move")
            if (s.ndim or isinstance(share, Turned)) and s.shape != p.shape:
                raise LerayError(
                    f"a share must be a number or of its weight's shape {list(p.shape)}; got "
                    f"{list(s.shape)}"
                )
            if not bool(((s >= 0) & (s <= 1)).all()):
                raise LerayError(
                    f"shares must lie in [0, 1]; got {float(s.min()):g} to {float(s.max()):g}"
                )
            if isinstance(share, Turned):
                out = None if share.out is None else share.out.to(p)
                self.shares.append((p, Turned(out, share.into.to(p), s)))
            else:
                self.shares.append((p, s))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimiser's own."""
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:
        """The optimiser's own."""
        return self.optimizer.state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The optimiser's own."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        """One step of the optimiser, of which every weight goes its share.

        Gradients of weights with shares are left turned and scaled: clear them before the next.
        """
        before = [p.clone() for p, _ in self.shares]
        seen = []
        for p, s in self.shares:
            if isinstance(s, Turned):
                p.copy_(s.turned(p))
                if p.grad is not None:
                    p.grad.copy_(s.turned(p.grad))
            if self.gradients and p.grad is not None:
                p.grad.mul_(s.shares if isinstance(s, Turned) else s)
            seen.append(p.clone() if isinstance(s, Turned) else p)
        self.optimizer.step()
        for (p, s), old, z in zip(self.shares, before, seen, strict=True):
            if isinstance(s, Turned):
                p.copy_(old + s.scaled(p - z))
            else:  # where s is 0 or 1 nothing is rounded
                p.copy_(torch.where(s == 0, old, torch.where(s == 1, p, old + s * (p - old))))

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's own: shares are no state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The optimiser's own."""
        self.optimizer.load_state_dict(state)


Optimizer = torch.optim.Optimizer | Zoned
"""What zones and monitors stand around."""


def shares_by_name(model: nn.Module, shares: Mapping[str, Share]) -> dict[Tensor, Share]:
    """Shares of a model's weights, which are given by their names; a tied weight has one.

    Raises:
        LerayError: There is no such weight, or a tied one is named twice.
    """
    names = dict(model.named_parameters(remove_duplicate=False))
    found: dict[Tensor, Share] = {}
    for name, share in shares.items():
        if name not in names:
            raise LerayError(
                f"no weight {name!r} among {len(names)} of the model{nearest(name, names)}"
            )
        if names[name] in found:
            raise LerayError(f"{name!r} is tied to a weight that has a share: give one of both")
        found[names[name]] = share
    return found

"""The Jacobians of the stages of a network at a point, and whether they make a complex.

Stages f_1, …, f_k with x_i = f_i(x_{i−1}) have Jacobians J_i = ∂f_i/∂x_{i−1} at a point x_0, linear
maps between the tangent spaces: nothing more is claimed, and nothing of another point. Composed
they are the Jacobian of the whole network, which a trained network has no reason to make zero; so
the composition residual is said first, and there is no cohomology without d² = 0. What may be asked
of any Jacobians is how far they are from a complex (:mod:`leray.algebra.defects`) and which complex
is nearest (:mod:`leray.algebra.nearest`).

The Jacobian of a residual block is I + J: usually invertible, with a trivial kernel, so that its
"exactness" is empty. Ask about the branches, or give budgets for the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.func import jacrev

from leray.algebra.complexes import CochainComplex, NotAComplexError
from leray.algebra.defects import composition_defect
from leray.algebra.fields import Floats
from leray.algebra.nearest import NearestComplex, nearest_complex
from leray.errors import LerayError

Stage = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class JacobianComplex:
    """J_1, …, J_k at a point; a complex only if the residuals say so."""

    residuals: tuple[float, ...]
    """n ‖J_{i+1} J_i‖² / (‖J_{i+1}‖² ‖J_i‖²) at every inner space: 0 for a complex, about 1 for
    unrelated maps."""
    jacobians: tuple[Tensor, ...]
    """J_i, ``[dim x_i, dim x_{i−1}]``, features flattened."""

    @property
    def complex(self) -> CochainComplex:
        """The cochain complex over the dtype of the Jacobians.

        Raises:
            NotAComplexError: Some composition is not zero.
        """
        first = self.jacobians[0]
        field = Floats(dtype=first.dtype, device=str(first.device))
        try:
            return CochainComplex(self.jacobians, field)
        except NotAComplexError as error:
            raise NotAComplexError(
                f"these Jacobians are no complex and have no cohomology: {self}; their nearest "
                "complex is .nearest()"
            ) from error

    def nearest(
        self, generator: torch.Generator | None = None, num_starts: int = 1
    ) -> NearestComplex:
        """The nearest complex, with its residual; see :func:`nearest_complex`."""
        return nearest_complex(self.jacobians, generator=generator, num_starts=num_starts)

    def __str__(self) -> str:
        dims = [self.jacobians[0].shape[1], *(j.shape[0] for j in self.jacobians)]
        seen = ", ".join(f"{r:.3g}" for r in self.residuals) or "none (one stage)"
        return f"composition residuals {seen} through dimensions {' → '.join(map(str, dims))}"


def jacobian_complex(stages: Iterable[Stage], point: Tensor) -> JacobianComplex:
    """The Jacobians of ``stages``, one after the other, at one ``point``.

    Args:
        stages: Modules or functions of one tensor; ``torch.nn.Sequential`` is a list of them. Put
            them into ``eval()`` mode: dropout has no Jacobian.
        point: One input, without a batch axis, of any shape; float32 or float64.

    Raises:
        LerayError: No stage, or a stage whose value is not finite, not of the point's dtype, or not
            a tensor.

    Cost: a backward pass for every output of every stage.
    """
    found, x = [], point.detach()
    for number, stage in enumerate(stages):
        y = stage(x)
        if not isinstance(y, Tensor) or y.dtype != x.dtype:
            raise LerayError(
                f"stage {number} must return a tensor of {x.dtype}; got "
                f"{y.dtype if isinstance(y, Tensor) else type(y).__name__}"
            )
        if not bool(torch.isfinite(y).all()):
            raise LerayError(f"stage {number} gives values that are not finite at this point")
        found.append(jacrev(stage)(x).detach().reshape(y.numel(), x.numel()))
        x = y.detach()
    if not found:
        raise LerayError("a sequence of Jacobians needs at least one stage; got none")
    residuals = tuple(float(composition_defect(a, b)) for a, b in pairwise(found))
    return JacobianComplex(residuals, tuple(found))

"""Cross-entropy of bounded logits, without keeping the logits.

For rows x_i of the last stream, a matrix W of classes and targets c_i,

    z = x Wᵀ,    l = C tanh(z / C),    loss = (1/n) Σ_i (log Σ_j exp l_ij − l_{i c_i}),

    ∂loss/∂z_ij = (softmax(l_i)_j − [j = c_i]) (1 − (l_ij / C)²) / n.

Written with torch's functions this keeps n times the classes five times over, and for large
vocabularies most of the time of a step's head is memory. Here rows are taken in chunks, and a
chunk's gradients are taken while its logits are at hand: the backward pass only multiplies. A chunk
of a few million logits is what is ever held. With σ the logistic function,

    C tanh(z / C) = 2C σ(2z / C) − C,    1 − tanh²(z / C) = 4 σ (1 − σ),

and the softmax does not see the constant: σ is what is taken, a third of the time of a tanh. Since
no probability is below e^{−2C} / classes, the loss is its logarithm, and there is one exponential.

Source: Hsu et al., Liger kernel (arXiv 2410.10989), for the gradient in the forward pass; Gemma 2
(arXiv 2408.00118), for the cap.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

LARGEST_CAP = 30.0
"""Beyond it the least probability leaves single precision."""
LOGITS = {"cpu": 2**22}
"""Held at once, by kind of device: what fits its cache."""
LOGITS_ELSEWHERE = 2**26


def capped_cross_entropy(
    x: Float[Tensor, "rows width"],
    weight: Float[Tensor, "classes width"],
    targets: Int[Tensor, " rows"],
    cap: float,
) -> Float[Tensor, ""]:
    """The mean over rows, in nats.

    Args:
        cap: 0 < C ≤ 30, the largest size of a logit.

    Raises:
        ValueError: Shapes that do not fit, no rows, or a cap out of its range.

    Cost: 6 · rows · classes · width multiplications where gradients are wanted, all in the forward
    pass; a third of that where not.
    """
    fit = x.ndim == weight.ndim == 2 and x.shape[1] == weight.shape[1]
    if not fit or targets.shape != x.shape[:1] or not len(x):
        raise ValueError(
            "x must be [rows, width], rows ≥ 1, weight [classes, width] and targets [rows]; got "
            f"{list(x.shape)}, {list(weight.shape)} and {list(targets.shape)}"
        )
    if not 0 < cap <= LARGEST_CAP:
        raise ValueError(f"a cap must be above 0 and at most {LARGEST_CAP:g}; got {cap}")
    wanted = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return _CappedCrossEntropy.apply(x, weight, targets, cap, wanted)


class _CappedCrossEntropy(Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: float, wanted: bool
    ) -> Tensor:
        rows = max(1, LOGITS.get(x.device.type, LOGITS_ELSEWHERE) // len(weight))
        losses, grads, grad_weight = [], [], torch.zeros_like(weight) if wanted else None
        for part, classes in zip(x.split(rows), targets.split(rows), strict=True):
            sigma = (_at_least_single(F.linear(part, weight)) * (2 / cap)).sigmoid_()
            grad, place = (sigma * (2 * cap)).softmax(-1), classes[:, None]
            losses.append(-grad.gather(1, place).log().sum())
            if grad_weight is not None:
                grad.scatter_add_(1, place, grad.new_full(place.shape, -1.0))
                grad = grad.mul_(torch.addcmul(sigma, sigma, sigma, value=-1)).to(weight.dtype)
                grads.append((grad @ weight).to(x.dtype))
                grad_weight += grad.mT @ part
        if grad_weight is not None:
            ctx.save_for_backward(torch.cat(grads), grad_weight)
        return torch.stack(losses).sum() / len(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_x, grad_weight = ctx.saved_tensors
        scale = grad * (4 / len(grad_x))
        return scale * grad_x, scale * grad_weight, None, None, None


def _at_least_single(z: Tensor) -> Tensor:
    """Sums over many classes want more digits than half precision has."""
    return z.float() if z.dtype.itemsize < 4 else z

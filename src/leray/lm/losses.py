"""What is minimised: the cross-entropy of the next token, and what ingredients add to it.

Everything is in nats. Auxiliary losses:

- pages: every inner level is read out as if it were the last, and its cross-entropies' mean is
  added (deep supervision; that a level's readout is a page of a spectral sequence is an analogy);
- gluing: the disagreement of sections on overlaps (:mod:`leray.lm.gluing`);
- exactness: of transitions, (v + h) / n by :func:`leray.algebra.defects.smooth_defect`, on the
  maps, never on activations: no map made small has less, and zero maps have h/n = 1. At the
  resolution τ = .1 exact maps of equal singular values have about .01, not 0, and close to zero
  maps the gradient grows as 1/‖W‖, which clipping then bounds.

Source: Lee et al., Deeply-supervised nets (arXiv 1409.5185), for readouts at every level.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from leray.algebra.defects import smooth_defect
from leray.lm.checks import check_bounds
from leray.lm.config import ModelConfig
from leray.lm.model import Model, Watch

TAU = 0.1
"""The resolution of the exactness loss: larger singular values, relatively, count."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What counts, and the weights of what is added to the cross-entropy; 0 leaves it out."""

    pages: float = 0.0
    gluing: float = 0.0
    exactness: float = 0.0
    answers: bool = False
    """Windows are whole documents, of which only what follows a question mark is predicted."""

    def __post_init__(self) -> None:
        weights = (self.pages, self.gluing, self.exactness)
        named = zip(("pages", "gluing", "exactness"), weights, strict=True)
        check_bounds(**{name: (weight, 0, 1e6) for name, weight in named})

    def check(self, model: ModelConfig) -> None:
        """Refuse what has no effect.

        Raises:
            ValueError: A loss on something that the model does not have.
        """
        told = [
            (self.pages, model.num_levels < 2, "pages", "two windows"),
            (self.gluing, not model.gluing, "gluing", "gluing = true in the model"),
            (
                self.exactness,
                model.transitions == "none" or model.num_levels < 3,
                "exactness",
                "transitions between three levels",
            ),
        ]
        for weight, missing, name, needed in told:
            if weight and missing:
                raise ValueError(f"the loss {name!r} has no effect without {needed}")


def training_loss(
    model: Model, tokens: Int[Tensor, "b t"], targets: Int[Tensor, "b t"], config: LossConfig
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What is minimised, and the cross-entropy alone, both in nats a token.

    Args:
        targets: Where only answers count, −1 elsewhere.
    """
    watch: Watch | None = None
    if config.pages or config.gluing:
        watch = defaultdict(list)
    own = model.loss(tokens, targets, watch, answers=config.answers)
    whole = own
    if watch is not None and config.pages:
        levels = watch["levels"]
        pages = [model.loss_of(x, targets, answers=config.answers) for x in levels]
        whole = whole + config.pages * torch.stack(pages).mean()
    if watch is not None and config.gluing:
        whole = whole + config.gluing * torch.stack(watch["disagreement"]).mean()
    if config.exactness and model.transitions is not None:
        whole = whole + config.exactness * exactness_loss(model.transitions.maps())
    return whole, own.detach()


def exactness_loss(maps: Float[Tensor, "num n n"]) -> Float[Tensor, ""]:
    """The mean of (v + h) / n over successive maps: 0 iff exact, up to the resolution."""
    found = smooth_defect(maps[:-1], maps[1:], TAU)
    return ((found.violation + found.homology) / maps.shape[-1]).mean().to(maps.dtype)

"""The optimiser: Muon for the matrices of the blocks, AdamW for the rest.

Muon moves a matrix along the polar factor of its momentum, so that every singular direction of a
step has the same length. The factor is approached by Newton and Schulz's iteration, five steps of
the quintic X ← aX + b(XXᵀ)X + c(XXᵀ)²X, which brings singular values to about 1 ± .3. Matrices of
one shape go together, in float32 except on CUDA: `torch.optim.Muon` takes bfloat16 everywhere,
which a processor without it emulates.

The learning rate rises linearly, stays, and falls linearly to zero.

Source: Jordan et al., Muon (2024), with its coefficients; Loshchilov and Hutter, AdamW (arXiv
1711.05101); Hägele et al., Scaling laws beyond fixed training durations (arXiv
2405.18392), for the schedule.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leray.lm.checks import check_bounds
from leray.lm.model import Model
from leray.lm.settling import level_of_layer
from leray.lm.sharding import split, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5
SMALLEST = 16
"""Rows and columns that a matrix must have for Muon; gates of a few heads have fewer."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move."""

    matrix_rate: float = 0.02
    """Muon's, for matrices of blocks."""
    rate: float = 0.005
    """AdamW's, for embeddings, heads and vectors."""
    weight_decay: float = 0.0
    """Of matrices, times their rate."""
    momentum: float = 0.95
    betas: tuple[float, ...] = (0.9, 0.95)
    warmup_frac: float = 0.05
    decay_frac: float = 0.5
    clip: float = 1.0
    """The largest norm of the gradient; 0 for any."""

    def __post_init__(self) -> None:
        check_bounds(
            matrix_rate=(self.matrix_rate, 0, 100),
            rate=(self.rate, 0, 100),
            weight_decay=(self.weight_decay, 0, 10),
            momentum=(self.momentum, 0, 0.9999),
            clip=(self.clip, 0, 1e12),
            warmup_frac=(self.warmup_frac, 0, 1),
            decay_frac=(self.decay_frac, 0, 1),
        )
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas must be two numbers, ≥ 0 and < 1; got {list(self.betas)}")
        if not 0 <= self.warmup_frac <= 1 - self.decay_frac <= 1:
            raise ValueError(
                "warmup_frac and decay_frac must be ≥ 0 and at most 1 together; got "
                f"{self.warmup_frac} and {self.decay_frac}"
            )


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: W ← (1 − ηλ) W − η √max(1, rows/columns) polar((1 − β) G + β M).

    Args:
        groups: Of parameters; ``parts`` of a group says how many matrices each of its parameters
            holds one above the other.

    A parameter may be shared by processes: the momentum stays so, its polar factor is taken whole.

    Cost: 15 products of a matrix with its own size a step; matrices of one shape go together.
    """

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        super().__init__(groups, {"lr": config.matrix_rate, "parts": 1})
        self.momentum, self.decay = config.momentum, config.weight_decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every matrix that has a gradient."""
        assert closure is None, "the loss is not evaluated again"
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        moved: list[tuple[Tensor, float | Tensor, torch.Size, slice]] = []
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                m = self.state[p]["momentum"].lerp_(p.grad, 1 - self.momentum)
                parts = whole(torch.lerp(p.grad, m, self.momentum)).chunk(group["parts"])
                found = alike[parts[0].shape]
                places = slice(len(found), len(found) + len(parts))
                moved.append((p, group["lr"], parts[0].shape, places))
                found += parts
        steps = {shape: polar_factor(torch.stack(found)) for shape, found in alike.items()}
        for p, rate, shape, places in moved:
            step = split(steps[shape][places].flatten(0, 1), p)
            wide = max(1, shape[0] / shape[1]) ** 0.5
            if self.decay:
                p.mul_(1 - rate * self.decay)
            if isinstance(rate, Tensor):  # read where it lies, by a captured step
                p.addcmul_(step, rate * wide, value=-1)
            else:
                p.sub_(step, alpha=rate * wide)


def polar_factor(
    g: Float[Tensor, "n rows columns"],
) -> Float[Tensor, "n rows columns"]:
    """About U Vᵀ for every G = U S Vᵀ, singular values between .7 and 1.3 where S is not tiny."""
    a, b, c = COEFFICIENTS
    x = g.bfloat16() if g.is_cuda else g
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x.float(), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(g.dtype)


def optimizers_of(
    model: Model, config: OptimizerConfig, *, captured: bool = False
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices of linear layers in blocks.

    Every group has its ``level``, 0 for what belongs to none.

    Args:
        captured: Rates are numbers in the device's memory, so that a step that was captured as a
            graph reads those that were last written.
    """
    device = model.embedding.weight.device

    def written(rate: float) -> Any:
        return torch.tensor(rate, device=device) if captured else rate

    groups: dict[tuple[bool, int, int], list[nn.Parameter]] = defaultdict(list)
    for name, p in model.named_parameters():
        in_block = name.startswith("blocks.")
        level = level_of_layer(model.config, int(name.split(".")[1])) if in_block else 0
        is_matrix = in_block and p.ndim == 2 and min(p.shape) >= SMALLEST
        groups[is_matrix, level, 3 if name.endswith("into.weight") else 1].append(p)
    made: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for (is_matrix, level, parts), params in groups.items():
        base = config.matrix_rate if is_matrix else config.rate
        group = {"params": params, "lr": written(base), "level": level, "parts": parts}
        made[is_matrix].append(group)
    adamw = torch.optim.AdamW(
        made[False],
        lr=written(config.rate),
        betas=(config.betas[0], config.betas[1]),
        weight_decay=0.0,
        fused=True,
        capturable=captured,
    )
    return [adamw, Muon(made[True], config)] if made[True] else [adamw]


def schedule(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """What the rates are multiplied by at a step, 0 to num_steps − 1.

    >>> [schedule(OptimizerConfig(warmup_frac=0.25, decay_frac=0.5), k, 4) for k in range(4)]
    [1.0, 1.0, 1.0, 0.5]
    """
    warm = (step + 1) / max(1.0, config.warmup_frac * num_steps)
    left = (num_steps - step) / max(1.0, config.decay_frac * num_steps)
    return min(1.0, warm, left)

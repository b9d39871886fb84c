"""Text from a model, token by token."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from leray.lm.model import Model


@torch.no_grad()
def generated(
    model: Model,
    prompt: Int[Tensor, " t"],
    num_tokens: int,
    context: int,
    generator: torch.Generator,
    temperature: float = 0.8,
    top: int | None = 50,
) -> Iterator[int]:
    """The tokens after a prompt, drawn from softmax(logits / temperature) over the likeliest.

    Args:
        prompt: One token at least.
        context: How many tokens the model sees; what is older is forgotten.
        generator: Of the CPU, where the draws are made: the same tokens on every device that gives
            the same logits.
        temperature: ≥ 0; 0 takes the likeliest.
        top: How many tokens may be drawn; None for all.

    Raises:
        ValueError: An empty prompt, or a setting out of its range.

    Cost: one forward pass over the context a token.
    """
    if prompt.numel() < 1 or context < 1:
        raise ValueError("a prompt and a context must hold one token at least")
    if temperature < 0 or (top is not None and top < 1):
        raise ValueError(f"temperature must be ≥ 0 and top ≥ 1; got {temperature} and {top}")
    device = next(model.parameters()).device
    seen = prompt.to(device)
    for _ in range(num_tokens):
        seen = seen[-context:]
        logits = model(seen[None])[0, -1].double().cpu()
        token = _drawn(logits, generator, temperature, top)
        seen = torch.cat([seen, torch.tensor([token], device=device)])
        yield token


def _drawn(logits: Tensor, generator: torch.Generator, temperature: float, top: int | None) -> int:
    if temperature == 0:
        return int(logits.argmax())
    if top is not None and top < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top).values[-1], -torch.inf)
    chances = (logits / temperature).softmax(-1)
    return int(torch.multinomial(chances, 1, generator=generator))

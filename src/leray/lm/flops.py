"""What training costs: floating-point operations a token.

    F = 6 · (weights of matrices) + 12 · Σ_layers width · (mean context),

two operations a weight forward and four backward, and for attention two products (queries with
keys, weights with values) of width · context each. The mean context of a window of w in a text of T
is counted exactly, as banded: Σ_t min(t, w) / T. What an ingredient adds is counted beside it: a
transport its reflections, a memory its sections, routing its second attention, gluing its second
patch, pages their readouts. What is done to every number by itself is not counted, as is usual:
norms, shifts, gates, short convolutions, softmaxes.

Source: Kaplan et al., Scaling laws (arXiv 2001.08361), for 6 N; Chowdhery et al., PaLM (arXiv
2204.02311), appendix B, for attention.
"""

from __future__ import annotations

from torch import nn

from leray.lm.config import ModelConfig
from leray.lm.model import Model


def train_flops_per_token(model: Model, context: int, *, pages: bool = False) -> float:
    """Forward and backward, for a text of ``context`` tokens.

    Args:
        pages: Whether every inner level is read out too.
    """
    c = model.config
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    if model.head is None:
        matrices += model.embedding.weight.numel()
    if pages:
        matrices += (c.num_levels - 1) * c.num_tokens * c.width
    if c.values == "tied_disagreement":  # the value's matrix serves once more, transposed
        matrices += c.num_layers * c.width**2
    if model.transitions is not None:
        matrices += _transitions(c)
    return 6.0 * matrices + sum(_attention(c, layer, context) for layer in range(c.num_layers))


def mean_context(context: int, window: int | None, stride: int = 1) -> float:
    """How many tokens a token sees on average, itself included.

    >>> mean_context(4, None), mean_context(4, 2), mean_context(4, None, 2)
    (2.5, 1.75, 1.5)
    """
    seen = (1 + t // stride for t in range(context))
    return sum(s if window is None else min(s, window) for s in seen) / context


def _attention(c: ModelConfig, layer: int, context: int) -> float:
    if c.recurs(layer):
        return 0.0
    window = c.window_of(layer)
    seen = mean_context(context, window, c.stride_of(layer))
    if c.gluing and window is not None:
        seen = 2 * mean_context(min(window, context), None)
    if c.routing and window is not None:
        seen += mean_context(context, None)
    if c.memory_block:
        num = -(-context // c.memory_block)
        seen += (num + 1) / 2
    flops = 12.0 * c.width * seen
    if c.transports:
        flops += _transport(c)
    return flops


def _transport(c: ModelConfig) -> float:
    """A k × k map carries q, k, v and what returns; making it takes three products of such maps.

    Two of these products are forward and one backward; the vectors' rows pass eight times.
    """
    k = c.stalk_dim
    carried = 6.0 * 4 * c.transported_dim * c.num_heads * k
    return carried + c.num_transports * (6.0 * k**3 + 16.0 * c.num_reflections * k**2)


def _transitions(c: ModelConfig) -> int:
    """Weights that a token passes: a plain map n², an exact one n²/2 + n²/4 + n²/2."""
    per = 5 * c.width**2 // 4 if c.transitions == "exact" else c.width**2
    return (c.num_levels - 1) * per

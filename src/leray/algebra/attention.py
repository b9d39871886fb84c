"""The sheaf that an attention layer puts on its tokens.

Tokens are the vertices of a graph with the stalk ℝᵈ, the residual stream. On the edge of tokens
u < v every head h has a stalk ℝᵏ, and the restriction of x at u is √s_h(u, v) V_h x, with V_h the
head's value map and s_h its attention made symmetric, which is declared:

- ``mean``: s(u, v) = (a(u, v) + a(v, u)) / 2, the arithmetic mean;
- ``geometric``: s(u, v) = √(a(u, v) a(v, u)), zero for causal attention, where one side is.

The Laplacian of this sheaf is Σ_h L_h ⊗ V_hᵀV_h with L_h the graph Laplacian of s_h. So without
more it is a weighted *constant* sheaf seen through the heads: every constant x is a section, and
all holonomy is trivial. With ``transport``, an orthogonal map from the stalk of u to that of v for
every edge, the restrictions are √s V_h T_uv x at u and √s V_h x at v; rotations by position,
T_uv = R(v − u), are then a *flat* connection, and only transports that depend on more have
holonomy (:func:`leray.algebra.connections.holonomy` measures it around a cycle).

Source: Hansen and Ghrist (2019) for the sheaf Laplacian; Hansen and Gebhart, Sheaf neural networks
(2020), for diffusion with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leray.algebra.fields import Floats
from leray.algebra.sheaves import CellularSheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

Symmetrisation = Literal["mean", "geometric"]
SYMMETRISATIONS = ("mean", "geometric")


def attention_sheaf(
    attention: Float[Tensor, "heads tokens tokens"],
    values: Float[Tensor, "heads k d"],
    *,
    symmetrise: Symmetrisation,
    threshold: float = 0.0,
    transport: Mapping[tuple[int, int], Tensor] | None = None,
) -> CellularSheaf:
    """The sheaf of attention weights and value maps on the graph of tokens.

    Args:
        attention: Weights ≥ 0; [h, u, v] is how much token u attends to v.
        values: V_h, from the residual stream to head h.
        symmetrise: How the two directions of an edge become one weight.
        threshold: Edges whose weights are all at most this are left out; ≥ 0.
        transport: At (u, v) with u < v, a map ``[d, d]``; the identity where left out.

    Returns:
        A sheaf over float64, of these very numbers, on their device; token u is vertex u.

    Raises:
        LerayError: Shapes that do not fit, a weight that is negative or not finite, an unknown
            symmetrisation, or no edge above the threshold.
    """
    _check(attention, values, symmetrise, threshold)
    attention, values = attention.double(), values.double()
    back = attention.mT
    weights = (attention + back) / 2 if symmetrise == "mean" else (attention * back).sqrt()
    num_tokens, dim = attention.shape[1], values.shape[2]
    kept = {
        (u, v)
        for u, v in combinations(range(num_tokens), 2)
        if float(weights[:, u, v].max()) > threshold
    }
    if not kept:
        raise LerayError(f"no two tokens attend to each other by more than {threshold:g}")
    for edge in transport or {}:
        if edge not in kept:
            raise LerayError(
                f"transport at {edge}: an edge is (u, v) with u < v, of tokens that attend to each "
                f"other by more than {threshold:g}"
            )
    graph = SimplicialComplex.of([*((u,) for u in range(num_tokens)), *sorted(kept)])
    field = Floats(device=str(values.device))
    maps = {}
    for place, (u, v) in enumerate(graph.faces[1].tolist()):
        scaled = (weights[:, u, v].sqrt()[:, None, None] * values).flatten(0, 1)
        carried = (transport or {}).get((u, v))
        maps[u, place] = scaled if carried is None else scaled @ carried.double()
        maps[v, place] = scaled
    stalks = ((dim,) * num_tokens, (values.shape[0] * values.shape[1],) * len(graph.faces[1]))
    return CellularSheaf(graph, stalks, (maps,), field)


def attention_of(
    layer: nn.MultiheadAttention, tokens: Float[Tensor, "tokens d"], *, causal: bool = False
) -> tuple[Float[Tensor, "heads tokens tokens"], Float[Tensor, "heads k d"]]:
    """The attention weights of a layer on a sequence, and its value maps.

    Raises:
        LerayError: The layer keeps keys or values of another width than its queries.
    """
    if layer.in_proj_weight is None:
        raise LerayError("a layer with kdim or vdim has no single stream of tokens")
    n, batch = len(tokens), tokens[None] if layer.batch_first else tokens[:, None]
    masked = nn.Transformer.generate_square_subsequent_mask
    mask = masked(n, tokens.device, tokens.dtype) if causal else None
    with torch.no_grad():
        _, weights = layer(
            batch, batch, batch, attn_mask=mask, need_weights=True, average_attn_weights=False
        )
        maps = layer.in_proj_weight[2 * layer.embed_dim :].detach()
    return weights[0], maps.reshape(layer.num_heads, layer.head_dim, layer.embed_dim)


def _check(attention: Tensor, values: Tensor, symmetrise: str, threshold: float) -> None:
    if symmetrise not in SYMMETRISATIONS:
        raise LerayError(
            f"symmetrise must be one of {', '.join(SYMMETRISATIONS)}; got {symmetrise!r}"
        )
    shape = attention.shape
    fits = len(shape) == values.ndim == 3 and shape[1] == shape[2] and len(values) == shape[0]
    if not fits or not shape[0]:
        raise LerayError(
            "attention must be [heads, tokens, tokens] and values [heads, k, d]; got "
            f"{list(shape)} and {list(values.shape)}"
        )
    if not bool(torch.isfinite(attention).all()) or bool((attention < 0).any()):
        raise LerayError("attention weights must be finite and ≥ 0")
    if not threshold >= 0:
        raise LerayError(f"threshold must be ≥ 0; got {threshold}")

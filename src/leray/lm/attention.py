"""Causal attention in a window: exact, at a cost linear in the length.

Token t attends to the w tokens t − w + 1, …, t, itself included, those that there are:

    y_t = Σ_s a_ts v_s,    a_ts = exp(q_t·k_s / √d) / Σ_{t−w < s' ≤ t} exp(q_t·k_s' / √d).

The sequence is cut into blocks of w. The keys that a block's queries may see lie in the block
itself and the one before, so that every block is a dense problem of w queries and 2w keys with the
same band as its mask: time O(T w d), memory O(T d + w²), in place of O(T²).

Source: Beltagy, Peters and Cohan, Longformer (arXiv 2004.05150), for attention in windows; Child et
al., Generating long sequences with sparse transformers (arXiv 1904.10509), for blocks.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, torch's own name for it


def causal_attention(
    q: Float[Tensor, "*batch time d"],
    k: Float[Tensor, "*batch time d"],
    v: Float[Tensor, "*batch time e"],
    window: int | None = None,
    stride: int = 1,
) -> Float[Tensor, "*batch time e"]:
    """Softmax attention to the last ``window`` tokens, or to all before where None.

    Args:
        window: w ≥ 1; any number of tokens, not only multiples of it, may be given.
        stride: r ≥ 1: of the tokens t, t − r, t − 2r, … only, so that the window reaches w · r
            back: every residue class modulo r is a text of its own.

    Raises:
        ValueError: The window is not positive, or the shapes do not fit.

    Cost: 2 T w (d + e) multiplications forward for w < T, twice as many as the band needs; a stride
    divides what attention to all costs.
    """
    if q.shape != k.shape or v.shape[:-1] != q.shape[:-1] or q.ndim < 2:
        raise ValueError(
            "q and k must be [..., time, d] and v [..., time, e]; got "
            f"{list(q.shape)}, {list(k.shape)} and {list(v.shape)}"
        )
    if window is not None and window < 1:
        raise ValueError(f"a window must hold at least the token itself, 1; got {window}")
    if stride < 1:
        raise ValueError(f"a stride must be at least 1; got {stride}")
    time = q.shape[-2]
    if stride > 1:
        queries, keys, values = (_classes(x, stride) for x in (q, k, v))
        y = causal_attention(queries, keys, values, window)
        return y.transpose(-3, -2).flatten(-3, -2)[..., :time, :]
    if window is None or window >= time:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    num_blocks = -(-time // window)
    queries, keys, values = (_blocks(x, num_blocks, window) for x in (q, k, v))
    first = F.scaled_dot_product_attention(
        queries[:, :1], keys[:, :1], values[:, :1], is_causal=True
    )
    rest = F.scaled_dot_product_attention(
        queries[:, 1:],
        _with_previous(keys),
        _with_previous(values),
        attn_mask=band(window, q),
    )
    out = torch.cat([first, rest], dim=1).flatten(1, 2)[:, :time]
    return out.reshape(*q.shape[:-1], v.shape[-1])


def band(window: int, like: Tensor) -> Bool[Tensor, "w two_w"]:
    """Which of the 2w keys of the block before and its own a block's w queries may see.

    On the device of ``like``.
    """
    query = torch.arange(window, device=like.device)[:, None]
    key = torch.arange(2 * window, device=like.device)[None]
    return (key > query) & (key <= query + window)


def _classes(x: Tensor, stride: int) -> Tensor:
    """``[..., time, d]`` → ``[..., stride, time / stride, d]``, zeros after the end."""
    padded = F.pad(x, (0, 0, 0, -x.shape[-2] % stride))
    return padded.unflatten(-2, (-1, stride)).transpose(-3, -2)


def _blocks(x: Tensor, num_blocks: int, window: int) -> Tensor:
    """``[..., time, d]`` → ``[batch, num_blocks, window, d]``, zeros after the end.

    Four dimensions, so that torch takes its fused kernel, with the blocks in the place of heads.
    """
    padded = F.pad(x, (0, 0, 0, num_blocks * window - x.shape[-2]))
    return padded.reshape(-1, num_blocks, window, x.shape[-1])


def _with_previous(x: Tensor) -> Tensor:
    """Every block but the first, behind the block before it, ``[batch, blocks − 1, 2w, d]``."""
    return torch.cat([x[:, :-1], x[:, 1:]], dim=2)

"""Tensors of which every process holds a part, and what has to be done to them whole.

A `DTensor` of shape [n, …] that is sharded over P processes is a tensor of which process i holds
about n/P rows. Sums and products by element are taken on the parts as they are. What mixes rows, a
polar factor for one, needs the whole: :func:`whole` gathers it in every process, :func:`split`
keeps a process's own rows of it. On plain tensors both do nothing.

Source: Zhao et al., PyTorch FSDP (arXiv 2304.11277); Rajbhandari et al., ZeRO (arXiv 1910.02054).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def whole(x: Tensor) -> Tensor:
    """All rows, in every process: all must ask for it."""
    parts: Any = x
    return parts.full_tensor() if _is_shared(x) else x


def split(x: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor that all processes have, what is kept beside ``like``, on its device."""
    there = x.to(device=like.device)
    if not _is_shared(like) or x.shape != like.shape:
        return there
    from torch.distributed.tensor import distribute_tensor

    kept: Any = like
    return distribute_tensor(there, kept.device_mesh, kept.placements, src_data_rank=None)


def _is_shared(x: Tensor) -> bool:
    return hasattr(x, "full_tensor")

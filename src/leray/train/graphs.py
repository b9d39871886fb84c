"""A training step as one graph of a CUDA device.

A step of a small model is a thousand kernels of a few microseconds, and Python starts one in ten.
Captured once, all are started together. What a graph reads and writes lies where it lay when it was
captured: weights, moments, rates and windows are therefore written in place, never replaced.

Several graphs run side by side where each has a stream of its own, so that many small models train
at once on one device, a thread each.

Source: CUDA C++ Programming Guide, CUDA Graphs; Nguyen et al., Accelerating PyTorch with CUDA
Graphs (2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from leray.train.training import Live

_ONE_AT_A_TIME = Lock()
"""While one thread captures, no other may wait for the whole device."""
_OWN = local()


class StepGraph:
    """`Live.make_step`, captured; the state of ``live`` is as it was before.

    Args:
        rows: ``[2, sequences, context]``, inputs and targets: their shape is what counts.
    """

    def __init__(self, live: Live, rows: Tensor) -> None:
        self._rows = rows.clone()
        with _ONE_AT_A_TIME:
            weights = list(live.model.state_dict().values())
            before = [x.detach().clone() for x in [*weights, *_moments(live)]]
            # A first step makes what is made once: moments, and the workspaces of libraries.
            live.make_step(self._rows)
            moments = _moments(live)
            stream = torch.cuda.current_stream(live.device)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._told = live.make_step(self._rows)
            with torch.no_grad():
                for x in moments:
                    x.zero_()
                for x, old in zip([*weights, *moments], before, strict=False):
                    x.copy_(old)

    def replay(self, rows: Tensor) -> Tensor:
        """Make a step on these windows: ``[2]``, to be read before the next."""
        self._rows.copy_(rows)
        self._graph.replay()
        return self._told


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work within goes to this thread's own queue of the device, where it is one of CUDA."""
    if device.type != "cuda":
        yield
        return
    if getattr(_OWN, "device", None) != device:
        _OWN.stream, _OWN.device = torch.cuda.Stream(device), device
    with torch.cuda.stream(_OWN.stream):
        yield


def _moments(live: Live) -> list[Tensor]:
    return [
        x
        for optimizer in live.optimizers
        for group in optimizer.param_groups
        for p in group["params"]
        for x in optimizer.state.get(p, {}).values()
    ]

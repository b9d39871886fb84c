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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, local

import torch
from torch import Tensor

_ONE_AT_A_TIME = Lock()
"""While one thread captures, no other may wait for the whole device."""
_OWN = local()


class StepGraph:
    """A step that was captured; what it changes is as it was before.

    Args:
        step: Makes a step on a tensor of windows, and tells a tensor.
        held: What a step changes in place; what the first step adds comes last, and begins as 0.
        rows: The windows: their shape is what counts.
    """

    def __init__(
        self, step: Callable[[Tensor], Tensor], held: Callable[[], list[Tensor]], rows: Tensor
    ) -> None:
        self._rows = rows.clone()
        with _ONE_AT_A_TIME:
            before = [x.detach().clone() for x in held()]
            # A first step makes what is made once: moments, and the workspaces of libraries.
            step(self._rows)
            stream = torch.cuda.current_stream(rows.device)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._told = step(self._rows)
            with torch.no_grad():
                now = held()
                for x, old in zip(now, before, strict=False):
                    x.copy_(old)
                for x in now[len(before) :]:
                    x.zero_()

    def replay(self, rows: Tensor) -> Tensor:
        """Make a step on these windows; what it tells is to be read before the next."""
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

"""One training run in several processes, which `torchrun` starts.

    torchrun --nproc-per-node 8 -m leray.cli lm train gpt2.toml --device cuda

Process i of P takes rows i N/P, …, (i + 1) N/P − 1 of every step's N windows, and the gradients are
averaged. With equal shares the mean of the processes' means is the mean over the step,

    ∇L = (1/P) Σ_i ∇L_i,    L_i = (P/N) Σ_{n in share i} l_n,

so that the numbers are those of one process, up to the order of sums.

The first process leads: it alone runs the driver, reads and writes the run's folder and handles
Ctrl-C. At every step of the driver it tells the others its number and the state, and all make that
step together. The contract of `leray.runs.computation` holds as in one process, and what goes on
after a stop is what is stored, whatever the others last saw.

- ``replicated`` (DDP): every process has all weights and moments; gradients are averaged while
  the backward pass goes on.
- ``sharded`` (FSDP2): of every weight, its gradient and its moments a process has 1/P, and a
  block's weights are gathered when it is their turn. Muon gathers each matrix of momentum, and
  every process takes its polar factor and keeps its own rows of the step: time and traffic of the
  whole, memory of a part.

Source: Li et al., PyTorch Distributed (arXiv 2006.15704), for DDP; Zhao et al., PyTorch FSDP (arXiv
2304.11277).
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from leray.errors import LerayError
from leray.lm.losses import LossConfig, training_loss
from leray.lm.model import Model
from leray.runs.computation import Samples, State
from leray.runs.driver import Interrupted
from leray.runs.seeds import Key
from leray.train.configuration import TrainingConfig
from leray.train.live import Live
from leray.train.training import Training

STOP = -1
"""Told in place of a step's number."""
PATIENCE = timedelta(days=2)
"""Torchrun ends all when one ends; until then the others wait, while a text is read, say."""


def num_processes() -> int:
    """As `torchrun` says; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


def is_follower() -> bool:
    """Whether another process of this run leads."""
    return num_processes() > 1 and int(os.environ["RANK"]) > 0


def join(device: str) -> None:
    """Meet the other processes, each with its own device; alone, do nothing.

    Raises:
        LerayError: A numbered device, or fewer devices than processes.
    """
    if num_processes() == 1 or dist.is_initialized():
        return
    is_cuda = device.startswith("cuda")
    if is_cuda:
        local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if device != "cuda" or local >= found:
            raise LerayError(
                f"device {device!r} and process {local} of this machine, which has {found}: give "
                "--device cuda and at most one process for each"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if is_cuda else "gloo", timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)


def wait() -> None:
    """Until all are here; alone, not at all.

    Raises:
        LerayError: Another process ended.
    """
    if num_processes() > 1:
        with _others():
            dist.broadcast(torch.zeros(1), src=0)


@dataclass(frozen=True)
class DistributedTraining(Training):
    """`Training` by several processes.

    Args:
        num_processes: P; sums depend on it in the last bits, so that a run goes on with as many.

    Raises:
        LerayError: Windows that P does not divide, or a setting that cannot be sharded.
    """

    num_processes: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for config in self.configs:
            check_shares(config, self.num_processes)

    def live(self, config: TrainingConfig) -> Live:
        return shared_model(config, self.device)

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:
        """The leader's step: the others are told, and make it too."""
        _told(step_index, state)
        return super().step(state, step_index, key)

    def follow(self) -> None:
        """Make what the leader tells until it says that it is over.

        Ctrl-C is the leader's to handle. An error that a user can mend ends every process's step
        alike, and the leader says what it was.

        Raises:
            LerayError: The leader ended.
        """
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.SIG_IGN)
        with _others():
            while (told := _told())[0] != STOP:
                with suppress(LerayError):
                    super().step(told[1], told[0], Key.root(0))


@contextmanager
def leading(num: int) -> Iterator[None]:
    """Tell the others that it is over, where that is not an error of ours, and how to go on.

    Args:
        num: Processes; with one nothing is to be told.

    Raises:
        Interrupted: As within, with the command that starts as many processes.
    """
    if num == 1:
        yield
        return
    try:
        yield
    except Interrupted as stop:
        _told(STOP)
        own = f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', num)} -m leray.cli"
        command = (stop.resume_command or "").replace("leray", own, 1)
        told = str(stop).replace(stop.resume_command or "\0", command)
        raise Interrupted(told, command) from stop
    except (LerayError, KeyboardInterrupt):
        _told(STOP)
        raise
    _told(STOP)


def check_shares(config: TrainingConfig, num: int) -> None:
    """Refuse what ``num`` processes cannot share.

    Raises:
        LerayError: With what would do.
    """
    rows, parts = config.data.num_sequences, config.schedule.accumulate
    if rows % (num * parts):
        raise LerayError(
            f"num_sequences, {rows}, must be a multiple of {num} processes times accumulate, "
            f"{parts}: give {-(-rows // (num * parts)) * num * parts}, or fewer processes"
        )
    if config.schedule.parallel == "sharded":
        told = [
            (num == 1, "one process", "start several with torchrun"),
            (config.model.transitions == "exact", "exact transitions", "they are made whole"),
            (config.model.values == "residual", "residual values", "their weight is one number"),
            (config.schedule.compile, "compile", "leave one of them out"),
        ]
        for wrong, what, why in told:
            if wrong:
                raise LerayError(
                    f"parallel = 'sharded' does not go with {what} ({why}): allowed is 'replicated'"
                )


class SharedLive(Live):
    """The model of one of several processes: its rows of a batch, the mean of all gradients."""

    def __init__(self, config: TrainingConfig, device: str) -> None:
        super().__init__(config, device)
        self.replica: DistributedDataParallel | None = None
        if config.schedule.parallel == "replicated":
            objective = _Objective(self.model, config.loss)
            if config.schedule.compile:
                objective.compile(dynamic=False)
            self.replica = DistributedDataParallel(objective, gradient_as_bucket_view=True)
            self.loss = self.replica_loss

    def placed(self, model: Model) -> Model:
        """The model, or this process's part of it: a group of weights a block, one of the rest."""
        if self.config.schedule.parallel == "sharded":
            # Imported here, for it takes seconds that one process need not wait.
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            mesh = init_device_mesh(self.device.type, (dist.get_world_size(),))
            for block in model.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh, reshard_after_forward=False)
            register_fsdp_forward_method(model, "loss")
        return model

    def captures(self) -> bool:
        """No: what travels between processes is not captured."""
        return False

    def share(self, rows: np.ndarray) -> np.ndarray:
        num = len(rows) // dist.get_world_size()
        return rows[dist.get_rank() * num : (dist.get_rank() + 1) * num]

    def mean(self, x: Tensor) -> Tensor:
        dist.all_reduce(x)
        return x / dist.get_world_size()

    def part(self, is_last: bool) -> AbstractContextManager:
        """Gradients travel once a step, with its last part."""
        if self.replica is not None:
            return nullcontext() if is_last else self.replica.no_sync()
        sharded: Any = self.model
        sharded.set_requires_gradient_sync(is_last)
        return nullcontext()

    def replica_loss(
        self, _model: Model, tokens: Tensor, targets: Tensor, _config: LossConfig
    ) -> tuple[Tensor, Tensor]:
        assert self.replica is not None
        return self.replica(tokens, targets)


@lru_cache(maxsize=1)
def shared_model(config: TrainingConfig, device: str) -> SharedLive:
    """As `leray.train.live.live_model`: all processes ask for the same in the same order."""
    return SharedLive(config, device)


class _Objective(nn.Module):
    """What is minimised, as a module, which is what DDP takes."""

    def __init__(self, model: Model, config: LossConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return training_loss(self.model, tokens, targets, self.config)


def _told(step: int = STOP, state: State | None = None) -> tuple[int, State]:
    """The leader's step and state, in every process; from processor to processor, by bytes."""
    state = state or {}
    names = [
        (k, (v.dtype.str, v.shape) if isinstance(v, np.ndarray) else v) for k, v in state.items()
    ]
    head: list[Any] = [step, names]
    dist.broadcast_object_list(head, src=0, device=torch.device("cpu"))
    found: State = {}
    for name, kind in head[1]:
        if not isinstance(kind, tuple):
            found[name] = kind
            continue
        array = np.array(state[name]) if name in state else np.empty(kind[1], kind[0])
        dist.broadcast(torch.from_numpy(array.reshape(-1).view(np.uint8)), src=0)
        found[name] = array
    return head[0], found


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LerayError(
            "another process of this run ended, and said why: mend that, and go on with --resume"
        ) from error

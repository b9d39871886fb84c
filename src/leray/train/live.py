"""A model and its optimisers in a device's memory, and the steps that they make there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import local

import numpy as np
import torch
from torch import Tensor

from leray.errors import LerayError
from leray.lm.losses import training_loss
from leray.lm.model import Model
from leray.lm.optimizer import Muon, optimizers_of, schedule
from leray.lm.settling import SettlingConfig
from leray.lm.sharding import split, whole
from leray.lm.transitions import ExactTransitions
from leray.runs.computation import State
from leray.train.allocator import keep_freed_memory
from leray.train.configuration import TrainingConfig
from leray.train.graphs import StepGraph
from leray.train.tokens import Answers, Batches

_OWN = local()
"""Of each thread: its model, and what it was made for."""


class Live:
    """A model and its optimisers in the device's memory, between two states."""

    def __init__(self, config: TrainingConfig, device: str) -> None:
        keep_freed_memory()
        self.config, self.device = config, torch.device(device)
        self.captured = self.captures()
        self.graphs: dict[tuple[int | None, ...], StepGraph] = {}
        self.model = self.placed(Model(config.model, torch.Generator()).to(self.device))
        self.optimizers = optimizers_of(self.model, config.optimizer, captured=self.captured)
        self.parameters = list(self.model.parameters())
        self.loss = training_loss
        if config.schedule.compile:
            self.loss = torch.compile(training_loss, dynamic=False)

    def load(self, state: State) -> None:
        """Weights and moments as stored; moments that are not there begin anew."""
        arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(split(tensor_of(arrays[f"weights.{name}"]), tensor))
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(_parameters(optimizer)):
                start = f"moments.{i}.{j}."
                found = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
                self._load_moments(optimizer, p, {k: tensor_of(v) for k, v in found.items()})

    def _load_moments(
        self, optimizer: torch.optim.Optimizer, p: Tensor, found: dict[str, Tensor]
    ) -> None:
        """In their place where they have one: a captured step knows no other."""
        own = optimizer.state.get(p, {})
        if found and not own:
            optimizer.state[p] = {k: split(v, p) for k, v in found.items()}
        for name, tensor in own.items():
            if found:
                tensor.copy_(split(found[name], p))
            else:
                tensor.zero_()

    def state(self) -> State:
        """What `load` takes."""
        state = arrays_of("weights", self.model.state_dict())
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(_parameters(optimizer)):
                state |= arrays_of(f"moments.{i}.{j}", optimizer.state.get(p, {}))
        return state

    def train_all(self, batches: Batches | Answers, steps: range) -> np.ndarray:
        """Make these steps: ``[steps, 2]``, the cross-entropy before each, and its gradient's norm.

        Raises:
            LerayError: A loss is not finite.
        """
        if self.captured:
            return self._replayed(batches, steps)
        told = []
        for k in steps:
            self._prepare(k)
            inputs, targets = (
                torch.from_numpy(self.share(x)).to(self.device) for x in batches.at(k)
            )
            loss, norm = (float(x) for x in self._gradients(inputs, targets))
            _check_finite(loss, norm, k, batches.seed)
            told.append((loss, norm))
            self._move()
        return np.array(told)

    def _replayed(self, batches: Batches | Answers, steps: range) -> np.ndarray:
        """As `train_all`, every step one start of a graph; what is not finite is found at the end.

        A step of a small model is a thousand kernels, and to start them one by one takes ten times
        as long as they do.
        """
        told = torch.empty(len(steps), 2, device=self.device)
        rows = np.array([batches.at(k) for k in steps])
        given = torch.from_numpy(rows).to(self.device)
        for i, k in enumerate(steps):
            self._prepare(k)
            windows = tuple(getattr(b.attention, "window", None) for b in self.model.blocks)
            if windows not in self.graphs:
                self.graphs[windows] = StepGraph(self._step, self._held, given[i])
            told[i] = self.graphs[windows].replay(given[i])
        found = told.double().cpu().numpy()
        for k, (loss, norm) in zip(steps, found, strict=True):
            _check_finite(loss, norm, k, batches.seed)
        return found

    def _step(self, rows: Tensor) -> Tensor:
        """A step on inputs and targets: ``[2]``, the cross-entropy and its gradient's norm."""
        loss, norm = self._gradients(rows[0], rows[1])
        self._move()
        return torch.stack([loss, norm])

    def _held(self) -> list[Tensor]:
        """What a step changes: weights, then moments, where there are any."""
        moments = (o.state.get(p, {}).values() for o in self.optimizers for p in _parameters(o))
        return [*self.model.state_dict().values(), *(x for found in moments for x in found)]

    def _gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy, and the norm of the gradient that is now in place, clipped."""
        config, losses = self.config, []
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts = config.schedule.accumulate
        for i, (x, y) in enumerate(zip(inputs.chunk(parts), targets.chunk(parts), strict=True)):
            with self.part(is_last=i == parts - 1):
                with _autocast(config.schedule.precision, self.device):
                    minimised, own = self.loss(self.model, x, y, config.loss)
                (minimised / parts).backward()
            losses.append(own)
        clip = config.optimizer.clip or 1e30
        norm = whole(torch.nn.utils.clip_grad_norm_(self.parameters, clip))
        return self.mean(torch.stack(losses).mean()), norm

    def _move(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
        if isinstance(self.model.transitions, ExactTransitions):
            self.model.transitions.retract()

    def open_windows(self) -> None:
        """Every layer sees what its configuration says."""
        for i, block in enumerate(self.model.blocks):
            block.attention.window = self.config.model.window_of(i)  # pyright: ignore

    # What several processes do otherwise; see leray.train.distributed.

    def captures(self) -> bool:
        """Whether steps are captured as graphs; the exactness loss takes spectra, which are not."""
        c = self.config
        return self.device.type == "cuda" and not (c.schedule.compile or c.loss.exactness)

    def placed(self, model: Model) -> Model:
        """Where the weights lie."""
        return model

    def share(self, rows: np.ndarray) -> np.ndarray:
        """The windows of a step that this process takes."""
        return rows

    def mean(self, x: Tensor) -> Tensor:
        """Of all processes."""
        return x

    def part(self, is_last: bool) -> AbstractContextManager:  # noqa: ARG002, nothing travels
        """Around a part of a step's windows."""
        return nullcontext()

    def _prepare(self, step: int) -> None:
        """Rates and windows of this step."""
        config, model = self.config, self.model
        num = config.schedule.num_steps
        at = schedule(config.optimizer, step, num)
        for optimizer in self.optimizers:
            is_muon = isinstance(optimizer, Muon)
            base = config.optimizer.matrix_rate if is_muon else config.optimizer.rate
            for group in optimizer.param_groups:
                opened = config.settling.rate(group["level"], config.model.num_levels, step / num)
                if self.captured:
                    group["lr"].fill_(base * at * opened)
                else:
                    group["lr"] = base * at * opened
        if config.settling.local_first:
            for i, block in enumerate(model.blocks):
                own = config.model.window_of(i)
                block.attention.window = config.settling.window(  # pyright: ignore
                    own, step / num, config.data.context
                )


def live_model(config: TrainingConfig, device: str) -> Live:
    """The model of this thread: every use loads a state first, so that sharing is safe.

    It serves every configuration that differs in rates and lengths alone.
    """
    o, s = config.optimizer, config.schedule
    alike = replace(
        config,
        optimizer=replace(o, rate=1.0, matrix_rate=1.0, warmup_frac=0.0, decay_frac=0.0),
        schedule=replace(s, num_steps=1, interval=1),
        settling=SettlingConfig(),
    )
    if getattr(_OWN, "key", None) != (alike, device):
        _OWN.key = _OWN.live = None  # the old one's memory is free before the new one takes any
        _OWN.live = Live(config, device)
        _OWN.key = alike, device
    return _OWN.live


def _check_finite(loss: float, norm: float, step: int, seed: int) -> None:
    if not np.isfinite(loss) or not np.isfinite(norm):
        raise LerayError(
            f"the loss is {loss} and its gradient's norm {norm} at step {step:,}, batch "
            f"{step:,} of seed {seed}: nothing of this interval is kept; lower "
            "matrix_rate or rate, or raise warmup_frac, in a new run"
        )


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def arrays_of(prefix: str, tensors: dict[str, Tensor]) -> State:
    """Copies in the processor's memory, named below ``prefix``; of shared tensors the whole."""
    return {f"{prefix}.{k}": whole(v.detach()).cpu().numpy().copy() for k, v in tensors.items()}


def tensor_of(array: np.ndarray | float) -> Tensor:
    """A copy that may be written to, for the arrays of a state may not."""
    assert isinstance(array, np.ndarray), "weights and moments are arrays"
    return torch.from_numpy(array.copy())


def _autocast(precision: str, device: torch.device) -> AbstractContextManager:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)

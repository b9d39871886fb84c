"""Training as a computation: weights and optimiser are its state, losses its samples.

One step of the driver is an interval of training steps. A step's batch follows from the seed and
the step's number, so that a run that was stopped goes on bit for bit on the CPU.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import local

import numpy as np
import torch
from torch import Tensor

from leray.algebra.defects import composition_defect
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.losses import training_loss
from leray.lm.model import Model
from leray.lm.optimizer import Muon, optimizers_of, schedule
from leray.lm.settling import SettlingConfig
from leray.lm.sharding import split, whole
from leray.lm.transitions import ExactTransitions
from leray.runs.computation import Samples, State
from leray.runs.seeds import Key
from leray.train.allocator import keep_freed_memory
from leray.train.configuration import TrainingConfig
from leray.train.evaluation import Losses, document_losses, level_losses
from leray.train.graphs import StepGraph, own_stream
from leray.train.tokens import Batches

TUNE_WINDOWS = 48
"""How many windows of the tuning split are read at every interval."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one run.

    Args:
        train: Nats a token, one a step.
        tune: Nats a token on the tuning split, one an interval.
        steps: After how many steps each was read.
        report: The losses of the documents for the report, where these were asked for.
        levels: ``[intervals, levels]``, the tuning loss of every level's readout, where these are
            trained.
        composition: By interval, how far successive transitions are from d d = 0, where there are
            any: 1 is what chance gives (:func:`leray.algebra.defects.composition_defect`).
    """

    train: np.ndarray
    tune: np.ndarray
    steps: np.ndarray
    report: Losses | None = None
    levels: np.ndarray | None = None
    composition: np.ndarray | None = None


@dataclass(frozen=True)
class Training:
    """Training runs, which may differ in everything but their length.

    Args:
        configs: What is trained, and how: one shard each, of equally many steps and intervals.
        seeds: Of the shards: equal seeds see equal batches, whatever the model.
        tokens: The training split.
        tune: The tuning split, and where its documents begin.
        report: Documents whose losses are read once, after the last step, where they begin, and
            how many windows of them are read (None for all).
        device: Where it runs; a run may go on elsewhere.
        given: Of the shards, weights by name that are not drawn but begin as these.
        given_from: The computation and the layers that they are of, which decides them. Samples
            of finished shards need no weights.
    """

    configs: tuple[TrainingConfig, ...]
    seeds: tuple[int, ...]
    tokens: np.ndarray
    tune: np.ndarray
    tune_starts: np.ndarray
    report: np.ndarray | None = None
    report_starts: np.ndarray | None = None
    report_windows: int | None = None
    device: str = field(default="cpu", metadata={"counts": False})
    given: tuple[dict[str, np.ndarray], ...] = field(default=(), metadata={"counts": False})
    given_from: str = field(default="", metadata={"added": True})
    name: str = "training"

    def __post_init__(self) -> None:
        if self.given and not self.given_from:
            raise ValueError("weights that are given are of a computation: given_from says which")
        if self.given and len(self.given) != len(self.seeds):
            raise ValueError("weights are given to every shard or to none")
        lengths = {(c.schedule.num_steps, c.schedule.interval) for c in self.configs}
        if len(self.configs) != len(self.seeds) or len(lengths) != 1:
            raise ValueError("every shard needs a seed, and all the same steps and interval")

    @property
    def in_threads(self) -> bool:
        """A device is fed by threads: processes would take turns on it."""
        return torch.device(self.device).type == "cuda"

    @property
    def num_shards(self) -> int:
        return len(self.seeds)

    @property
    def num_steps(self) -> int:
        s = self.configs[0].schedule
        return -(-s.num_steps // s.interval)

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002, the seed says which run it is
        if self.given_from and not self.given:
            raise LerayError(f"the weights of {self.given_from!r} are gone: start a new run")
        seed = self.seeds[shard]
        model = Model(self.configs[shard].model, torch.Generator().manual_seed(seed))
        weights = model.state_dict()
        for name, array in (self.given[shard] if self.given else {}).items():
            weights[name].copy_(_tensor(array))
        return {"shard": shard, **_arrays("weights", weights)}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        shard = int(state["shard"])
        config = self.configs[shard]
        with own_stream(torch.device(self.device)):
            live = self.live(config)
            live.config = config
            live.load(state)
            samples = self._interval(live, step_index, self.seeds[shard])
            return {"shard": shard, **live.state()}, samples

    def _interval(self, live: Live, step_index: int, seed: int) -> Samples:
        """The steps of an interval, and what is measured after them."""
        config = live.config
        s, data = config.schedule, config.data
        batches = Batches(self.tokens, data.context, data.num_sequences, seed)
        first = step_index * s.interval
        steps = range(first, min(first + s.interval, s.num_steps))
        told = live.train_all(batches, steps)
        live.open_windows()  # what is measured, and kept, sees all that it may
        tune = document_losses(
            live.model, self.tune, self.tune_starts, data.context, max_windows=TUNE_WINDOWS
        )
        samples = {"loss": told[:, 0], "norm": told[:, 1], "tune": np.array([tune.mean])}
        if config.loss.pages:
            samples["levels"] = level_losses(
                live.model, self.tune, self.tune_starts, data.context, TUNE_WINDOWS
            )
        if live.model.transitions is not None and config.model.num_levels > 2:
            maps = whole(live.model.transitions.maps().detach())
            found = composition_defect(maps[:-1], maps[1:]).mean()
            samples["composition"] = np.array([float(found)])
        if step_index == self.num_steps - 1 and self.report is not None:
            assert self.report_starts is not None, "documents have beginnings"
            read = document_losses(
                live.model, self.report, self.report_starts, data.context, self.report_windows
            )
            samples |= {"report_nats": read.nats, "report_tokens": read.counts}
        return samples

    def live(self, config: TrainingConfig) -> Live:
        """What makes the steps of a shard."""
        return live_model(config, self.device)

    def result(self, samples: list[list[Samples]]) -> list[Curve]:
        s = self.configs[0].schedule
        ends = np.minimum((1 + np.arange(self.num_steps)) * s.interval, s.num_steps)
        return [
            Curve(
                np.concatenate([x["loss"] for x in shard]),
                np.concatenate([x["tune"] for x in shard]),
                ends,
                Losses(shard[-1]["report_nats"], shard[-1]["report_tokens"])
                if "report_nats" in shard[-1]
                else None,
                np.stack([x["levels"] for x in shard]) if "levels" in shard[0] else None,
                np.concatenate([x["composition"] for x in shard])
                if "composition" in shard[0]
                else None,
            )
            for shard in samples
        ]


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
                tensor.copy_(split(_tensor(arrays[f"weights.{name}"]), tensor))
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(_parameters(optimizer)):
                start = f"moments.{i}.{j}."
                found = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
                self._load_moments(optimizer, p, {k: _tensor(v) for k, v in found.items()})

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
        state = _arrays("weights", self.model.state_dict())
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(_parameters(optimizer)):
                state |= _arrays(f"moments.{i}.{j}", optimizer.state.get(p, {}))
        return state

    def train_all(self, batches: Batches, steps: range) -> np.ndarray:
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

    def _replayed(self, batches: Batches, steps: range) -> np.ndarray:
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


def loaded(config: TrainingConfig, state: State, device: str = "cpu") -> Model:
    """The model of a state."""
    model = weightless(config.model)
    names = model.state_dict()
    model.load_state_dict({k: _tensor(state[f"weights.{k}"]) for k in names}, assign=True)
    return model.to(device)


def _check_finite(loss: float, norm: float, step: int, seed: int) -> None:
    if not np.isfinite(loss) or not np.isfinite(norm):
        raise LerayError(
            f"the loss is {loss} and its gradient's norm {norm} at step {step:,}, batch "
            f"{step:,} of seed {seed}: nothing of this interval is kept; lower "
            "matrix_rate or rate, or raise warmup_frac, in a new run"
        )


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _arrays(prefix: str, tensors: dict[str, Tensor]) -> State:
    return {f"{prefix}.{k}": whole(v.detach()).cpu().numpy().copy() for k, v in tensors.items()}


def _tensor(array: np.ndarray | float) -> Tensor:
    assert isinstance(array, np.ndarray), "weights and moments are arrays"
    return torch.from_numpy(array.copy())


def _autocast(precision: str, device: torch.device) -> AbstractContextManager:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@lru_cache(maxsize=4096)
def size_of(config: ModelConfig) -> int:
    """How many parameters a model has, without making it; remembered."""
    return num_parameters(weightless(config))


def weightless(config: ModelConfig) -> Model:
    """A model that takes no memory: to be counted, or to be given weights."""
    with torch.device("meta"):
        return Model(config, torch.Generator(device="cpu"), draw=False)


def num_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def check_device(name: str, precision: str) -> None:
    """Refuse a device that is not there, and bfloat16 where it is emulated.

    Raises:
        LerayError: Either.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LerayError(
            f"no device {name!r} here: give cpu, or cuda where there is one"
        ) from error
    if precision != "float32" and device.type != "cuda":
        raise LerayError(
            f"precision {precision!r} is emulated on {name}, many times slower: leave it out"
        )

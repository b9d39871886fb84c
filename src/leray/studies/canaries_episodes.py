"""Episodes of the canary study: a model that has learned goes on learning, and something breaks.

An episode is a run of some steps on old forms and some new ones, watched by a monitor and healthy:
its **twin**. At its beginning the new forms' held-out loss is L₀; the last checkpoint lies there,
and a full rollback goes back to it. Where a fault is to begin, model, optimisers and monitor
are copied, and the copy goes on with the same batches and the fault, to the first check behind its
end, or one interval further where nothing was found by then. There, with the twin at the same step,

    kept = (L₀ − L) / (L₀ − L_twin):

1 where nothing was lost, 0 after a full rollback. All losses are of texts that nothing was trained
on; whether capabilities are restored is read off canaries that never steered.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from leray.circuits.canaries import Limits, failures, limits_of, margins_of
from leray.circuits.faults import KINDS, Fault, Injected, wrong_answers
from leray.circuits.monitor import Alarm, Monitor, MonitorConfig
from leray.circuits.updates import Moments, moments_of
from leray.lm.model import Model
from leray.lm.optimizer import OptimizerConfig, optimizers_of
from leray.runs.seeds import Key
from leray.studies.canaries_data import CHOICES, KNOWN, Corpus, targets_of

STRENGTHS = {
    "labels": (3, 32.0),
    "rate": (2, 80.0),
    "corruption": (1, 1.5),
    "sign": (3, 32.0),
    "moments": (1, 120.0),
    "poison": (3, 32.0),
}
"""Of each kind, how many steps and how strong: so that most of them break a capability, as seeds
that are not reported showed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeConfig:
    """How an episode goes.

    Args:
        num_steps: Of the twin; ``first``: before which step no fault begins.
        num_sequences: A step, ``num_new`` of them of new forms.
        warm_steps: In which the rate rises; the base ended with a rate of 0.
        old: After how many steps the moments are kept that one kind of fault replays.
    """

    num_steps: int = 84
    first: int = 60
    num_sequences: int = 48
    num_new: int = 12
    warm_steps: int = 16
    matrix_rate: float = 0.002
    rate: float = 0.0005
    old: int = 2
    monitor: MonitorConfig = field(default_factory=MonitorConfig)


@dataclass(frozen=True)
class NewLoss:
    """Nats an answer, of new forms."""

    tests: tuple[Tensor, Tensor]

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> Tensor:
        assert isinstance(model, Model), "episodes train our own decoders"
        return model.loss(*self.tests, answers=True)


@dataclass
class Run:
    """What trains: copied as a whole where a fault begins."""

    model: Model
    optimizers: list[torch.optim.Optimizer]
    monitor: Monitor
    old: Moments

    def copied(self) -> Run:
        """All of it; torch copies of an optimiser only what is saved of it, here the rest too."""
        found = copy.deepcopy(self)
        for ours, its in zip(self.optimizers, found.optimizers, strict=True):
            for name in vars(ours).keys() - vars(its).keys():
                setattr(its, name, getattr(ours, name))
        return found


@dataclass(frozen=True)
class Found:
    """What came of a fault.

    Args:
        alarms: In order.
        end: After how many steps it was measured.
        harm: By how much the mean failure of the worst capability rose over the twin's, on
            canaries that report, before anything was undone, and ``left``: at the end.
        broke: After how many steps the first check at which it was more than the tolerance was; −1
            where none.
        loss: Of new forms at the end; ``damaged``: before anything was undone, which was
            ``measured`` after so many steps.
    """

    fault: Fault
    alarms: tuple[Alarm, ...]
    end: int
    harm: float
    left: float
    broke: int
    loss: float
    damaged: float
    measured: int


class Episode:
    """A twin and the faults that are planted beside it."""

    def __init__(self, model: Model, data: Corpus, config: EpisodeConfig, key: Key) -> None:
        self.config, self.data, self.key = config, data, key
        self.held_out = NewLoss(data.held_out)
        model = copy.deepcopy(model).train()
        rates = OptimizerConfig(matrix_rate=config.matrix_rate, rate=config.rate)
        optimizers = optimizers_of(model, rates)
        monitor = Monitor(
            model,
            optimizers,
            data.steering,
            seed=int(key.child("canaries").generator().integers(2**62)),
            parts=parts_of(model),
            progress=NewLoss(data.progress),
            config=config.monitor,
        )
        self.run = Run(model, optimizers, monitor, [])
        self.limits = limits_of(model, data.reporting)
        self.losses: dict[int, float] = {0: float(self.held_out(model))}
        self.failing: dict[int, np.ndarray] = {0: reported(model, data, self.limits)}

    def twin(self, faults: Sequence[Fault]) -> list[Found]:
        """The healthy run, and beside it every fault."""
        copies, c = [], self.config
        interval = c.monitor.interval
        for k in range(c.num_steps):
            copies += [(f, self.run.copied()) for f in faults if f.start == k]
            if k == c.old:
                self.run.old = moments_of(self.run.optimizers)
            self.step(self.run, k)
            if (k + 1) % interval == 0 and k + 1 > c.first - interval:
                self.losses[k + 1] = float(self.held_out(self.run.model))
                self.failing[k + 1] = reported(self.run.model, self.data, self.limits)
        return [self._broken(run, fault) for fault, run in copies]

    def _broken(self, run: Run, fault: Fault) -> Found:
        """A copy of the run goes on with a fault."""
        interval = self.config.monitor.interval
        end = -(-(fault.start + fault.length) // interval) * interval
        draw = torch.Generator().manual_seed(
            int(self.key.child("noise").child(fault.start).generator().integers(2**62))
        )
        injected = Injected(fault, run.model, run.optimizers, run.old, draw)
        alarms: list[Alarm] = []
        harm, damaged, measured, last, broke = -np.inf, np.nan, end, fault.start, -1
        for k in range(fault.start, end + interval):
            if k == end and alarms:
                break
            alarm = self.step(run, k, injected)
            last = k + 1
            if alarm is not None:
                alarms.append(alarm)
                run.monitor.flat.write(alarm.culprits.weights + alarm.culprits.taken)
            if last % interval == 0:
                found = self._harm(run, last)
                if broke < 0 and found > self.config.monitor.tolerance:
                    broke = last
                if found > harm:
                    measured = last
                    harm, damaged = found, float(self.held_out(run.model))
            if alarm is not None:
                run.monitor.flat.write(alarm.culprits.weights)
        left = self._harm(run, last)
        loss = float(self.held_out(run.model))
        return Found(fault, tuple(alarms), last, harm, left, broke, loss, damaged, measured)

    def _harm(self, run: Run, step: int) -> float:
        """Over the twin at the same step."""
        return float((reported(run.model, self.data, self.limits) - self.failing[step]).max())

    def step(
        self, run: Run, k: int, injected: Injected | None = None, *, watched: bool = True
    ) -> Alarm | None:
        """One step of training; not watched, the optimisers' own steps and no more."""
        fault = None if injected is None else injected.fault
        inputs, targets = self._batch(k, fault)
        c, monitor = self.config, run.monitor
        warm = min(1.0, (k + 1) / c.warm_steps)
        for optimizer, base in zip(run.optimizers, (c.rate, c.matrix_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * warm
        monitor.zero_grad()
        run.model.loss(inputs, targets, answers=True).backward()
        if injected is not None:
            injected.before(k)
        alarm = None
        if watched:
            alarm = monitor.step()
        else:
            for o in run.optimizers:
                o.step()
        if injected is not None:
            injected.after(k)
        return alarm

    def _batch(self, k: int, fault: Fault | None) -> tuple[Tensor, Tensor]:
        draw = self.key.child("batches").child(k).generator()
        num, new = self.config.num_sequences, self.config.num_new
        pools: list[np.ndarray] = [self.data.known, self.data.new]
        touched = fault is not None and fault.touches(k)
        if fault is not None and touched and fault.kind == "poison":
            pools = [self.data.by_form[fault.target]] * 2
        sizes = (num - new, new)
        rows = [p[draw.integers(len(p), size=n)] for p, n in zip(pools, sizes, strict=True)]
        width = max(x.shape[1] for x in rows)
        batch = np.concatenate([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in rows])
        batch = batch[:, : 1 + int((batch > 0).sum(axis=1).max())]
        targets = torch.from_numpy(targets_of(batch))
        if fault is not None and touched and fault.spoils_answers:
            targets = wrong_answers(targets, CHOICES)
        return torch.from_numpy(batch[:, :-1]), targets


def drawn_faults(config: EpisodeConfig, key: Key, parts: Sequence[str]) -> tuple[Fault, ...]:
    """One of each kind, at a random step and place."""
    draw = key.child("faults").generator()
    found = []
    last = config.num_steps - 3 * config.monitor.interval
    for kind in KINDS:
        length, strength = STRENGTHS[kind]
        target = {"corruption": parts, "poison": KNOWN}.get(kind, ("",))
        fault = Fault(
            kind=kind,
            start=int(draw.integers(config.first, last + 1)),
            length=length,
            strength=strength,
            target=str(target[int(draw.integers(len(target)))]),
        )
        found.append(fault)
    return tuple(found)


def parts_of(model: Model) -> tuple[str, ...]:
    """Where culprits are looked for: attention and feed-forward of every layer, the embedding."""
    blocks = [
        f"blocks.{i}.{what}"
        for i in range(model.config.num_layers)
        for what in ("attention", "forward_branch")
    ]
    return (*blocks, "embedding")


@torch.no_grad()
def reported(model: Model, data: Corpus, limits: Limits) -> np.ndarray:
    """Mean failure of every capability on canaries that never steer."""
    tests = list(data.reporting.values())
    pieces = margins_of(model, tests)
    safe = [limits.safe[name] for name in data.reporting]
    return np.array([float(failures(m, s).mean()) for m, s in zip(pieces, safe, strict=True)])

"""A monitor beside training: canaries at intervals, and only the updates that broke them undone.

It stands in the optimisers' place::

    with Monitor(model, optimizers, canaries, seed=0) as watched:
        for batch in batches:
            watched.zero_grad()
            loss(model, batch).backward()
            alarm = watched.step()

After every step the weights go into a ring (:mod:`leray.circuits.updates`); after every
``interval`` of them a few canaries of each capability are drawn and bet on, and more of them where
these speak against it (:mod:`leray.circuits.canaries`). Where a capability is broken, the updates
that did it are found and undone (:mod:`leray.circuits.rollback`), and the optimisers remember what
they did at the last check before the oldest of them. They are not given the guilty steps' part
subtracted: that needs every optimiser's own recurrence, holds only where it is linear, and leaves
in place whatever was wrong with the moments before the gradient came. What it costs is the memory
of at most the steps since that check, a few of the 20 (1/(1 − .95)) that the moments average over.

The coordinates that were most to blame then go a share of their way only (`Guarded`), and more at
every check, until they are free again: a fault that returns finds them slower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from leray.circuits.canaries import Betting, Canaries, failures, limits_of, margins_of
from leray.circuits.guard import Guarded
from leray.circuits.rollback import SLACK, Bench, Culprits, find_culprits
from leray.circuits.updates import Flat, Ring, restore_moments
from leray.circuits.zones import Optimizer
from leray.errors import LerayError, check_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorConfig:
    """How closely a run is watched."""

    interval: int = 4
    """Steps between checks."""
    level: float = 0.01
    """The chance of any false alarm in a whole run."""
    tolerance: float = 0.15
    """How much a capability's mean failure may rise."""
    num_drawn: int = 10
    """Canaries of each capability at a check; as many again where they speak against it."""
    num_draws: int = 1024
    """The most such draws more at a check, of the pool's failures, which are read once."""
    num_groups: int = 12
    """Updates in the ring."""
    steps_a_group: int = 1
    share: float = 0.1
    """What guilty coordinates go of their way; 1 to leave them free."""
    release: float = 0.8
    """What is left, from check to check, of what is taken from them."""

    def __post_init__(self) -> None:
        if min(self.interval, self.num_drawn, self.num_draws, self.num_groups) < 1:
            raise LerayError("interval, num_drawn, num_draws and num_groups must be at least 1")
        if not (0 < self.tolerance < 1 and 0 <= self.share <= 1 and 0 <= self.release < 1):
            raise LerayError(
                "tolerance must lie in (0, 1), share in [0, 1] and release in [0, 1); got "
                f"{self.tolerance}, {self.share} and {self.release}"
            )


@dataclass(frozen=True)
class Alarm:
    """A capability was found broken, and updates were undone.

    Args:
        step: After how many steps; ``steps``: what each group in the ring was, from and to.
        broken: Names of capabilities, none where only what is being learned goes on to suffer;
            ``parts``: of the model's parts.
        culprits: What was undone.
    """

    step: int
    steps: tuple[tuple[int, int], ...]
    broken: tuple[str, ...]
    parts: tuple[str, ...]
    culprits: Culprits

    @property
    def part(self) -> int | None:
        """The one part that was undone; None where all were."""
        found = self.culprits.parts.nonzero().flatten().tolist()
        return found[0] if len(found) == 1 else None

    @property
    def lost(self) -> Float[np.ndarray, " capabilities"]:
        """What was given back to each capability, in mean failure."""
        return (self.culprits.now - self.culprits.after).clamp(min=0).double().cpu().numpy()

    @property
    def undone(self) -> tuple[tuple[int, int], ...]:
        """The steps that were."""
        return tuple(self.steps[g] for g in self.culprits.groups)


@dataclass
class Dependencies:
    """Which part's updates hurt which capability, and by how much mean failure: the mean over those
    alarms of which one part was the culprit. The others say nothing of parts."""

    parts: tuple[str, ...]
    capabilities: tuple[str, ...]
    lost: np.ndarray = field(init=False)
    seen: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        shape = len(self.parts), len(self.capabilities)
        self.lost, self.seen = np.zeros(shape), np.zeros(shape)

    def add(self, alarm: Alarm) -> None:
        """One more."""
        if alarm.part is not None:
            self.lost[alarm.part] += alarm.lost
            self.seen[alarm.part] += 1

    @property
    def edges(self) -> Float[np.ndarray, "parts capabilities"]:
        """0 where nothing is known."""
        return np.divide(self.lost, self.seen, out=np.zeros_like(self.lost), where=self.seen > 0)


class Monitor:
    """Optimisers that are watched.

    Args:
        canaries: By capability; these steer, so that what is reported needs others.
        parts: Modules among which to look for culprits; by default each that holds weights.
        seed: Of the canaries that are drawn.
        progress: A loss of what is being learned, on texts that it is not learned from; read once
            at the start, and then at alarms only, where it decides between ways to restore what was
            broken.

    Raises:
        LerayError: The model fails its canaries, or puts out no numbers; a module that does not
            exist; no canaries; no optimiser, or one that moves nothing of the model; a seed below
            0; a progress that is no finite number.

    Cost: a check is a pass over ``num_drawn`` canaries of each capability; a step copies the
    weights once. Memory: see :mod:`leray.circuits.updates`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        canaries: Mapping[str, Canaries],
        *,
        seed: int,
        parts: Sequence[str] = (),
        progress: Callable[[nn.Module], torch.Tensor] | None = None,
        config: MonitorConfig | None = None,
    ) -> None:
        self.config = c = config or MonitorConfig()
        self.model, self.optimizers = model, list(optimizers)
        self.flat = Flat(model, parts)
        _check_optimizers(self.optimizers, self.flat)
        self.canaries = dict(canaries)
        self.names = tuple(canaries)
        with _evaluated(model):
            self.limits = limits_of(model, canaries)
            _check_progress(progress, model)
        self.bench = Bench(model, self.flat, canaries, self.limits, progress)
        bounds = [s + c.tolerance for s in self.limits.start.values()]
        self.betting = Betting(bounds, c.level)
        num_checks = -(-c.num_groups * c.steps_a_group // c.interval)
        self.ring = Ring(self.flat, c.num_groups, c.steps_a_group, num_checks)
        self.guarded = Guarded(self.flat, self.optimizers, c.share, c.release)
        self.dependencies = Dependencies(self.flat.parts, self.names)
        self.alarms: list[Alarm] = []
        self.history: deque[np.ndarray] = deque(maxlen=1024)
        """Mean failures at the last checks, of the canaries that were drawn."""
        self._restored: np.ndarray | None = None
        """At the check behind an alarm: the mean failures that it left,"""
        self._losing = np.inf
        """and the loss of what is being learned."""
        self._generator = np.random.default_rng(check_seed(seed))
        self.ring.keep(self.optimizers)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _t: TracebackType | None,
    ) -> None:
        """What is left of the last interval is checked, unless something failed."""
        if error is None and self.ring.step % self.config.interval:
            self.check()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The optimisers' own."""
        for o in self.optimizers:
            o.zero_grad(set_to_none=set_to_none)

    def step(self) -> Alarm | None:
        """A step of every optimiser; at the end of an interval a check."""
        self.guarded.step()
        self.ring.record()
        return None if self.ring.step % self.config.interval else self.check()

    def check(self) -> Alarm | None:
        """Draw canaries; where a capability is broken, undo what broke it."""
        self.ring.close()
        with _evaluated(self.model):
            broken = self._broken()
            again = None if broken else self._going_on()
            alarm = self._undo(broken or again or []) if broken or again is not None else None
            self._restored = None
            if alarm is not None and broken:
                self._restored = alarm.culprits.after.double().cpu().numpy()
                if self.bench.progress is not None:
                    self._losing = self.bench.losing(alarm.culprits.weights)
        if alarm is None:
            self.guarded.release()
        self.ring.keep(self.optimizers)
        return alarm

    @torch.no_grad()
    def _broken(self) -> list[int]:
        """A few canaries of each; where they speak against it, the whole pool is read once, and
        where it does so too, more are drawn from it."""
        self.betting.begin()
        n, draw = self.config.num_drawn, self._generator
        drawn = [draw.integers(len(self.canaries[name]), size=n) for name in self.names]
        found = self._failures(dict(zip(self.names, drawn, strict=True)))
        self.history.append(np.array([x.mean() for x in found]))
        suspected = [k for k, x in enumerate(found) if self.betting.read(k, x) > 0]
        if suspected and not self.betting.broken():
            pools = [self.names[k] for k in suspected]
            every = {name: np.arange(len(self.canaries[name])) for name in pools}
            for k, pool in zip(suspected, self._failures(every), strict=True):
                for _ in range(self.config.num_draws):
                    if pool.mean() <= self.betting.bounds[k] or k in self.betting.broken():
                        break
                    self.betting.read(k, draw.choice(pool, size=n))
        return self.betting.broken()

    @torch.no_grad()
    def _going_on(self) -> list[int] | None:
        """At the check behind an alarm: the capabilities that fall again, on the same canaries.

        A fault that lasts longer than to a check is undone up to there, and what is left of it may
        be too little to bet on. The bound is that of what was restored. Where only the loss of what
        is being learned has risen since, none fall, and still there is something to undo.

        Returns:
            None where nothing is going on.
        """
        if self._restored is None:
            return None
        now = self.ring.weights(-1)
        found = self.bench.failing(now).double().cpu().numpy()
        over = found > self._restored + SLACK * self.config.tolerance
        worse = self.bench.progress is not None and self.bench.losing(now) > self._losing
        self.flat.write(now)
        return np.flatnonzero(over).tolist() if over.any() or worse else None

    def _failures(self, rows: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Of these canaries of some capabilities, in one pass."""
        device = self.flat.parameters[0].device
        tests = [self.canaries[n].taken(torch.from_numpy(r).to(device)) for n, r in rows.items()]
        return [
            failures(m, self.limits.safe[name]).double().cpu().numpy()
            for name, m in zip(rows, margins_of(self.model, tests), strict=True)
        ]

    def _undo(self, broken: Sequence[int]) -> Alarm:
        held = self.ring.held()
        ends = self.ring.ends
        of = broken or range(len(self.names))
        culprits = find_culprits(self.bench, held, of, self.config.tolerance)
        first = ends[culprits.groups[0]]
        kept = self.ring.moments_before(first)
        if kept is not None:
            restore_moments(self.optimizers, kept.moments)
        self.ring.forget_after(first)
        moved = held.diff(dim=0)[list(culprits.groups)].sum(dim=0)
        self.guarded.add(culprits, moved)
        self.ring.restart()
        self.betting.restart()
        steps = tuple(pairwise(ends))
        names = tuple(self.names[k] for k in broken)
        alarm = Alarm(self.ring.step, steps, names, self.flat.parts, culprits)
        self.dependencies.add(alarm)
        self.alarms.append(alarm)
        return alarm


def _check_optimizers(optimizers: Sequence[Optimizer], flat: Flat) -> None:
    """Refuse none, and those that move nothing which is watched."""
    if not optimizers:
        raise LerayError("no optimiser: give those that move the model's weights")
    own = {id(p) for p in flat.parameters}
    for k, o in enumerate(optimizers):
        if not own & {id(p) for group in o.param_groups for p in group["params"]}:
            raise LerayError(f"optimiser {k} moves no weight of the model: leave it out")


@torch.no_grad()
def _check_progress(progress: Callable[[nn.Module], torch.Tensor] | None, model: nn.Module) -> None:
    """Refuse a loss that could decide nothing."""
    if progress is not None:
        found = torch.as_tensor(progress(model))
        if found.numel() != 1 or not bool(found.isfinite().all()):
            got = found.item() if found.numel() == 1 else f"a tensor of shape {list(found.shape)}"
            raise LerayError(
                f"progress must be one finite number, a loss of what is being learned; got {got}"
            )


class _evaluated:  # noqa: N801, a context
    """The model as it is used, not trained."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.was = model, model.training

    def __enter__(self) -> None:
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.was)

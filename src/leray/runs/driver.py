"""The one driver of every long computation: it persists, resumes, parallelises and stops.

No method has a loop, a file or a progress bar of its own. What makes this safe is the contract in
`leray.runs.computation`: steps are pure, so a step that is not stored is made again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from leray.errors import LerayError
from leray.runs.computation import (
    Computation,
    Configuration,
    Finished,
    Samples,
    State,
    configuration,
)
from leray.runs.executors import Executor, InProcess, Processes, Task, Threads
from leray.runs.progress import Advance, Progress, progress_line
from leray.runs.seeds import Key
from leray.runs.store import Store

Result = TypeVar("Result")

OnStep = Callable[[Finished], None]

SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """The user stopped a computation, and what was finished is stored.

    Args:
        message: How far it came and how to go on.
        resume_command: What to type to go on; None where nothing outlives the process.
    """

    def __init__(self, message: str, resume_command: str | None) -> None:
        super().__init__(message)
        self.resume_command = resume_command


def drive(
    computation: Computation[Result],
    *,
    store: Store,
    key: Key,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = progress_line,
    on_step: OnStep | None = None,
) -> Result:
    """Make the steps that the store does not have, keep each, and return the result.

    The numbers depend on the computation and the key, never on the workers, on interruptions, or on
    what was stored. Each step sees one thread of linear algebra.

    Args:
        computation: What to do; its ``name`` is unique within the store.
        store: Where finished steps are kept and looked for.
        key: The root of the randomness; steps draw from the children of ``computation.name``.
        workers: Processes to use, or threads where steps are a device's work; more than the
            unfinished shards are not started.
        scheduler: The address of a Dask scheduler whose workers make the steps instead.
        progress: What a person sees; `no_progress` for nothing.
        on_step: Called with every step that is made, after it is stored.

    Raises:
        LerayError: The stored steps were made with other settings, the disk is full, a worker
            died, or the scheduler does not answer; finished steps stay stored.
        Interrupted: SIGINT or SIGTERM came; the steps in hand were finished and stored first. A
            second signal ends the process at once.

    Cost: a few milliseconds a step for the store; for workers their start, about half a second.
    """
    if workers < 1:
        raise LerayError(f"{workers} workers cannot do anything: ask for 1 or more")
    if scheduler is not None and workers > 1:
        raise LerayError(
            f"{workers} workers here and the scheduler at {scheduler} were asked for: give one of "
            "them, for a scheduler brings its own workers"
        )
    key = key.child(computation.name)
    work = _Work(computation, store, configuration(computation, key))
    if work.unfinished:
        with (
            _stop_on_signal() as stop,
            progress(computation.name, work.num_steps, work.num_done) as advance,
            closing(
                _executor(computation, key, min(workers, len(work.unfinished)), scheduler)
            ) as executor,
        ):
            _make_missing(work, executor, stop, advance, on_step)
        if stop.requested:
            raise _interrupted(work)
    return computation.result(work.samples)


class _Work:
    """What is done of a computation and which task comes next."""

    def __init__(
        self, computation: Computation, store: Store, configuration: Configuration
    ) -> None:
        self.name = computation.name
        self.store = store
        self.configuration = configuration
        self.steps_in_shard = computation.num_steps
        self.num_steps = computation.num_shards * computation.num_steps
        self.samples: list[list[Samples]] = []
        self.states: list[State | None] = []
        for shard in range(computation.num_shards):
            samples, state = store.load(self.name, configuration, shard, computation.num_steps)
            self.samples.append(samples)
            self.states.append(state)
        self.unfinished = deque(s for s in range(computation.num_shards) if self._missing(s))

    @property
    def num_done(self) -> int:
        return sum(map(len, self.samples))

    def next_task(self) -> Task:
        shard = self.unfinished.popleft()
        return Task(shard, len(self.samples[shard]), self.states[shard])

    def accept(self, finished: Finished) -> None:
        self.samples[finished.shard].append(finished.samples)
        self.states[finished.shard] = finished.state
        if self._missing(finished.shard):
            self.unfinished.append(finished.shard)

    def save(self, finished: Finished) -> None:
        self.store.save(self.name, self.configuration, finished)

    def _missing(self, shard: int) -> bool:
        return len(self.samples[shard]) < self.steps_in_shard


@dataclass(slots=True)
class _Stop:
    requested: bool = False


def _make_missing(
    work: _Work, executor: Executor, stop: _Stop, advance: Advance, on_step: OnStep | None
) -> None:
    """Keep the executor busy; workers go on while the driver writes what they finished."""
    in_hand = _fill(work, executor, 0, stop)
    while in_hand:
        finished = executor.collect()
        for step in finished:
            work.accept(step)
        in_hand = _fill(work, executor, in_hand - len(finished), stop)
        for step in finished:
            work.save(step)
            advance(1)
            if on_step is not None:
                on_step(step)


def _fill(work: _Work, executor: Executor, in_hand: int, stop: _Stop) -> int:
    """Hand out tasks while there are slots, and return how many are in hand."""
    while work.unfinished and in_hand < executor.slots and not stop.requested:
        executor.submit(work.next_task())
        in_hand += 1
    return in_hand


def _executor(computation: Computation, key: Key, workers: int, scheduler: str | None) -> Executor:
    if scheduler is not None:
        from leray.runs.dask_executor import DaskWorkers

        return DaskWorkers(computation, key, scheduler)
    if workers == 1:
        return InProcess(computation, key)
    # A computation may say that its steps are a device's work, which one process feeds best.
    kind = Threads if getattr(computation, "in_threads", False) else Processes
    return kind(computation, key, workers)


def _interrupted(work: _Work) -> Interrupted:
    command = work.store.resume_command
    so_far = f"stopped {work.name!r} after {work.num_done:,} of {work.num_steps:,} steps"
    if command is None:
        return Interrupted(f"{so_far}; nothing is kept, for no run folder was given", None)
    return Interrupted(f"{so_far}, all saved; continue with: {command}", command)


@contextmanager
def _stop_on_signal() -> Iterator[_Stop]:
    """The first SIGINT or SIGTERM asks to stop; the second finds the system's own handler.

    Signals that the process was started to ignore stay ignored. Python lets only the main thread
    handle signals; elsewhere they go where they went before.
    """
    stop = _Stop()
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    handled = [s for s, handler in before.items() if handler is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        handled = []

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.requested = True
        for s in handled:
            signal.signal(s, signal.SIG_DFL)
        cursor = SHOW_CURSOR if os.isatty(2) else b""
        os.write(2, b"\nfinishing the step and saving; once more to stop at once\n" + cursor)

    try:
        for s in handled:
            signal.signal(s, ask)
        yield stop
    finally:
        for s in handled:
            signal.signal(s, before[s])

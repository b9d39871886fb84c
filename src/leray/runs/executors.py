"""Who makes the steps: this process, its threads, or several processes.

An executor takes tasks while it has free slots and gives back finished steps in any order; the
driver alone knows which step comes next. The numbers do not depend on the executor: every step is
made by `run_step`, with one thread for linear algebra, because sums that threads share may differ
in the last bit.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, runtime_checkable

from threadpoolctl import threadpool_limits

from leray.errors import LerayError
from leray.runs.computation import (
    Computation,
    Finished,
    State,
    canonical_samples,
    canonical_state,
)
from leray.runs.seeds import Key


@dataclass(frozen=True, slots=True)
class Task:
    """A step to make; the state is None before a shard's first step."""

    shard: int
    step: int
    state: State | None


@runtime_checkable
class Executor(Protocol):
    """Makes steps of one computation."""

    slots: int

    def submit(self, task: Task) -> None:
        """Take a task; at most ``slots`` are in hand at once."""
        ...

    def collect(self) -> list[Finished]:
        """Wait until at least one task in hand is finished, and give back those that are.

        Raises:
            Exception: What a step raised, or a `LerayError` where a worker died.
        """
        ...

    def close(self) -> None:
        """Stop at once; tasks in hand are lost."""
        ...


def run_step(computation: Computation, key: Key, task: Task) -> Finished:
    """Make one step, after ``init`` where it is the shard's first."""
    below = key.child(task.shard)
    before = task.state
    if before is None:
        before = computation.init(task.shard, below.child("init"))
    below_step = below.child(task.step)
    after, samples = computation.step(canonical_state(before), task.step, below_step)
    return Finished(task.shard, task.step, canonical_state(after), canonical_samples(samples))


class InProcess:
    """Makes one step at a time, here."""

    def __init__(self, computation: Computation, key: Key) -> None:
        self.slots = 1
        self._computation = computation
        self._key = key
        self._tasks: list[Task] = []
        self._threads = threadpool_limits(limits=1)

    def submit(self, task: Task) -> None:
        """Keep the task for `collect`."""
        self._tasks.append(task)

    def collect(self) -> list[Finished]:
        """Make the step."""
        return [run_step(self._computation, self._key, self._tasks.pop())]

    def close(self) -> None:
        """Give linear algebra its threads back."""
        self._threads.restore_original_limits()


class Threads:
    """Makes steps in threads of this process, for work that a device does."""

    def __init__(self, computation: Computation, key: Key, workers: int) -> None:
        self.slots = workers
        self._computation = computation
        self._key = key
        self._limits = threadpool_limits(limits=1)
        self._pool = ThreadPoolExecutor(workers)
        self._in_hand: set[Future[Finished]] = set()

    def submit(self, task: Task) -> None:
        """Hand the task to a thread."""
        self._in_hand.add(self._pool.submit(run_step, self._computation, self._key, task))

    def collect(self) -> list[Finished]:
        """Wait for tasks that are finished."""
        done, self._in_hand = wait(self._in_hand, return_when=FIRST_COMPLETED)
        return [task.result() for task in done]

    def close(self) -> None:
        """Wait for the steps in hand: a thread cannot be stopped."""
        self._pool.shutdown(cancel_futures=True)
        self._limits.restore_original_limits()


class Processes:
    """Makes steps in worker processes that are started afresh (``spawn``).

    A worker receives the computation once, then tasks. It takes no notice of Ctrl-C, which is the
    driver's to handle, and ends with the process that started it, however that ends. Within
    `kept_workers` those of the computation before are used again.
    """

    def __init__(self, computation: Computation, key: Key, workers: int) -> None:
        self.slots = workers
        self._name = computation.name
        payload = pickle.dumps((computation, key), protocol=pickle.HIGHEST_PROTOCOL)
        self._workers: list[_Worker] = []
        try:
            while _KEPT and len(self._workers) < workers:
                self._workers.append(_KEPT.pop())
            with _signals_blocked():
                while len(self._workers) < workers:
                    self._workers.append(_start_worker())
            for worker in self._workers:
                _send(worker, payload)
        except BaseException:
            self.close()
            raise

    def submit(self, task: Task) -> None:
        """Hand the task to an idle worker."""
        worker = next(w for w in self._workers if w.task is None)
        worker.task = task
        _send(worker, pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL))

    def collect(self) -> list[Finished]:
        """Wait for workers that have finished; a dead one is reported once the others are heard."""
        busy = {w.pipe: w for w in self._workers if w.task is not None}
        finished: list[Finished] = []
        dead: list[_Worker] = []
        for pipe in connection.wait(list(busy)):
            worker = next(w for p, w in busy.items() if p is pipe)
            try:
                reply = worker.pipe.recv()
            except (EOFError, OSError):
                dead.append(worker)
                continue
            if isinstance(reply, BaseException):
                raise reply
            finished.append(reply)
            worker.task = None
        if dead and not finished:
            raise self._died(dead[0])
        return finished

    def close(self) -> None:
        """Kill the workers, or keep those that are idle."""
        idle = [w for w in self._workers if w.task is None and w.process.is_alive()]
        kept = idle if _KEPT is not None else []
        _end([w for w in self._workers if w not in kept])
        self._workers.clear()
        if _KEPT is not None:
            _KEPT.extend(kept)

    def _died(self, worker: _Worker) -> LerayError:
        worker.process.join()
        task, code = worker.task, worker.process.exitcode or 0
        place = f"step {task.step} of shard {task.shard}" if task else "no step"
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        return LerayError(
            f"a worker process died of {how} in {place} of {self._name!r}; too little memory is "
            "the usual cause: finished steps are kept, so resume with fewer workers"
        )


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = field(default=None)


_KEPT: list[_Worker] | None = None
"""Idle workers that the next computation uses; None where each starts its own."""


@contextmanager
def kept_workers() -> Iterator[None]:
    """Within, workers go from one computation to the next: a start costs seconds of imports."""
    global _KEPT  # noqa: PLW0603
    if _KEPT is not None:
        raise RuntimeError("workers are kept already")
    _KEPT = []
    try:
        yield
    finally:
        kept, _KEPT = _KEPT, None
        _end(kept)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.pipe.close()
        worker.process.close()


def _start_worker() -> _Worker:
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_work, args=(there,), daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _send(worker: _Worker, data: bytes) -> None:
    """Send, leaving the news of a dead worker to `Processes.collect`, which reads its end."""
    with suppress(OSError):
        worker.pipe.send_bytes(data)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes that never see SIGINT or SIGTERM, not even while they start.

    A process inherits the mask of the thread that starts it. The tracker of multiprocessing would
    unblock the mask when it first starts, so it is started before.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection) -> None:
    """The life of a worker: a computation, then step after step, until the pipe closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        message = pickle.loads(pipe.recv_bytes())
        while True:
            computation, key = message
            with threadpool_limits(limits=1):
                while isinstance(message := pickle.loads(pipe.recv_bytes()), Task):
                    pipe.send(run_step(computation, key, message))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        pipe.send(_sendable(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The error with the worker's traceback as a note, or its text where it does not travel."""
    text = traceback.format_exc()
    try:
        travelled: Any = pickle.loads(pickle.dumps(error))
    except Exception:
        travelled = None
    if type(travelled) is not type(error):
        return RuntimeError(f"a step failed in a worker:\n{text}")
    error.add_note(f"in a worker:\n{text}")
    return error

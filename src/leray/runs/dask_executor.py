"""Steps on the workers of a Dask scheduler: one machine or many, the same numbers.

The computation travels once and is kept by the workers; a step travels as a task and comes back as
bytes. Steps are pure, so what a dead worker had in hand is done again by another. A worker makes
one step at a time, with one thread for linear algebra, as the other executors do.

Whoever can talk to a Dask scheduler can run any program on its workers, and a scheduler can answer
with any pickle: give the address of one that you trust, on a network that you trust.
"""

from __future__ import annotations

import pickle
import socket
import sys
import threading
import uuid
from collections import deque
from concurrent.futures import CancelledError
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from threadpoolctl import threadpool_limits

from leray.errors import LerayError
from leray.runs.computation import Computation, Finished
from leray.runs.executors import Task, run_step
from leray.runs.seeds import Key

SECONDS_TO_ANSWER = 10
"""How long a scheduler may take to answer, and then to have a worker."""

ATTEMPTS = 5
"""How often a step whose workers die is handed out again; Dask itself tries four workers each."""

VERSIONS = ("leray", "numpy", "scipy", "numba")
"""What workers must have as it is here: other versions may give other numbers."""


class DaskWorkers:
    """Makes steps on the workers of a Dask scheduler.

    Args:
        computation: Sent once.
        key: The key of the computation.
        address: Of the scheduler, such as ``tcp://127.0.0.1:8786``.

    Raises:
        LerayError: ``distributed`` is not installed, nobody answers within `SECONDS_TO_ANSWER`
            seconds, or the scheduler has no worker.

    Cost: about 0.1 s to connect; what a step costs is measured in ``docs/scale.md``.
    """

    def __init__(self, computation: Computation, key: Key, address: str) -> None:
        self._name, self._address = computation.name, address
        self._client = _connect(address)
        self._tasks: dict[Any, tuple[Task, int]] = {}
        self._lost: deque[tuple[Task, int]] = deque()
        try:
            self.slots = self._num_workers()
            self._payload = pickle.dumps((computation, key), protocol=pickle.HIGHEST_PROTOCOL)
            self._label = uuid.uuid4().hex
            self._sent = self._send()
        except BaseException:
            self.close()
            raise

    def submit(self, task: Task) -> None:
        """Hand the task to the scheduler, which finds a worker."""
        self._submit(task, attempt=1)

    def collect(self) -> list[Finished]:
        """Wait for steps; those whose workers died are handed out again meanwhile."""
        from distributed import wait

        finished: list[Finished] = []
        while not finished:
            try:
                with self._client.as_current():
                    wait(list(self._tasks), SECONDS_TO_ANSWER, return_when="FIRST_COMPLETED")
            except (CancelledError, OSError):  # a TimeoutError is an OSError
                self._require_scheduler()
                self._num_workers()
            for future in [f for f in self._tasks if f.done()]:
                step = self._take(future)
                finished += [step] if step is not None else []
            self._again()
        self.slots = self._num_workers()
        return finished

    def close(self) -> None:
        """Forget what is in hand and leave; a worker in a step ends it, and nobody takes it."""
        futures, self._tasks = list(self._tasks), {}
        try:
            if futures and self._client.status == "running":
                self._client.cancel(futures, force=True)
        finally:
            self._client.close(timeout=SECONDS_TO_ANSWER)

    def _submit(self, task: Task, attempt: int) -> None:
        future = self._client.submit(
            _make,
            self._sent,
            self._label,
            _versions(),
            pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL),
            key=f"{self._name}-{task.shard}-{task.step}-{uuid.uuid4().hex}",
            pure=False,
        )
        self._tasks[future] = (task, attempt)

    def _take(self, future: Any) -> Finished | None:
        """The step of a future that is done; None where it was lost with its worker."""
        from distributed import KilledWorker

        task, attempt = self._tasks.pop(future)
        try:
            return pickle.loads(future.result(timeout=None))
        except (KilledWorker, CancelledError) as error:
            self._require_scheduler()
            if attempt >= ATTEMPTS:
                raise LerayError(
                    f"step {task.step} of shard {task.shard} of {self._name!r} was lost with its "
                    f"workers {attempt} times; too little memory is the usual cause: finished "
                    "steps are kept, so resume with more memory for each worker"
                ) from error
            self._lost.append((task, attempt))
            return None

    def _again(self) -> None:
        """Hand out what was lost; the computation may have been lost with it, so it goes too."""
        if self._lost:
            self._sent = self._send()
        while self._lost:
            task, attempt = self._lost.popleft()
            self._submit(task, attempt + 1)

    def _send(self) -> Any:
        """Bring the computation to every worker; where one dies meanwhile, try the others."""
        for _ in range(ATTEMPTS):
            self._num_workers()
            try:
                return self._client.scatter(self._payload, broadcast=True, hash=False)
            except (OSError, KeyError, CancelledError):  # a worker that died is no longer known
                self._require_scheduler()
        raise LerayError(
            f"{self._name!r} ({len(self._payload):,} bytes) did not reach the workers of "
            f"{self._address} in {ATTEMPTS} attempts; finished steps are kept, so resume"
        )

    def _num_workers(self) -> int:
        try:
            self._client.wait_for_workers(1, timeout=SECONDS_TO_ANSWER)
        except TimeoutError as error:
            raise LerayError(
                f"the scheduler at {self._address} has had no worker for {SECONDS_TO_ANSWER} s: "
                f"start one with: dask worker {self._address} --nthreads 1"
            ) from error
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            raise LerayError(
                f"the scheduler at {self._address} went away; finished steps are kept, so resume "
                "with it started again, or without it"
            )


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise LerayError(
            "a scheduler needs the package 'distributed', which is not installed; run: "
            "pip install -c constraints.txt -e '.[scale]'"
        ) from error
    try:
        _knock(address)
        return Client(address, timeout=SECONDS_TO_ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise LerayError(
            f"no Dask scheduler answers at {address!r} ({_reason(error)}); give the address that "
            "'dask scheduler' printed, such as tcp://127.0.0.1:8786"
        ) from error


def _knock(address: str) -> None:
    """Fail at once where nobody listens; the client itself would try again until its time is up."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tcp", "tls"):
        if parts.hostname is None or parts.port is None:
            raise ValueError("it has no host and port")
        socket.create_connection((parts.hostname, parts.port), timeout=SECONDS_TO_ANSWER).close()


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:120]


def _versions() -> dict[str, str]:
    return {"python": sys.version.split()[0], **{name: version(name) for name in VERSIONS}}


# What a worker's process keeps: the last computation it was sent, and one step at a time.
_loaded: dict[str, tuple[Computation, Key]] = {}
_one_step = threading.Lock()


def _make(payload: bytes, label: str, versions: dict[str, str], task: bytes) -> bytes:
    """Make a step on a worker: bytes in and bytes out, so that arrays lie in memory as they do in
    the other executors.

    The threads of linear algebra stay at one: giving them back could reach into the next step.
    """
    with _one_step:
        if label not in _loaded:
            _refuse_other(versions)
            _loaded.clear()
            _loaded[label] = pickle.loads(payload)
            threadpool_limits(limits=1)
        computation, key = _loaded[label]
        finished = run_step(computation, key, pickle.loads(task))
        return pickle.dumps(finished, protocol=pickle.HIGHEST_PROTOCOL)


def _refuse_other(versions: dict[str, str]) -> None:
    here = _versions()
    other = [f"{k} {here[k]} instead of {v}" for k, v in versions.items() if here[k] != v]
    if other:
        raise LerayError(
            f"a worker on {socket.gethostname()} has {', '.join(other)}: install the same versions "
            "on every machine, for others may give other numbers"
        )

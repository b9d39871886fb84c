"""Steps on a Dask cluster of processes, which the tests start: same bits, nothing lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster
from run_computations import AutoregressiveChain, ResampledMean, Troubled

from leray.errors import LerayError
from leray.runs import (
    Computation,
    FolderStore,
    Key,
    MemoryStore,
    Progress,
    RunFolder,
    Store,
    drive,
    no_progress,
)

KEY = Key.root(7)
DATA = np.random.default_rng(1).standard_normal(40)
CHAIN = AutoregressiveChain()


@contextmanager
def local(workers: int) -> Iterator[LocalCluster]:
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=60,
    )
    with closing(cluster):
        yield cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local(2) as cluster:
        yield cluster


def at(
    cluster: LocalCluster,
    computation: Computation,
    store: Store | None = None,
    progress: Progress = no_progress,
) -> Any:
    """The result of the computation on the cluster."""
    store = MemoryStore() if store is None else store
    address = cluster.scheduler_address
    return drive(computation, store=store, key=KEY, scheduler=address, progress=progress)


def here(computation) -> np.ndarray:
    return drive(computation, store=MemoryStore(), key=KEY, progress=no_progress)


@pytest.mark.parametrize("computation", [CHAIN, ResampledMean(data=DATA)], ids=lambda c: c.name)
def test_the_same_bits_as_in_this_process(computation, cluster, tmp_path: Path) -> None:
    """Identity: two workers of the cluster and a folder, against a plain loop."""
    np.testing.assert_array_equal(
        at(cluster, computation, FolderStore(tmp_path)), here(computation)
    )


def test_one_worker_killed_with_all_it_held_gives_the_same_bits() -> None:
    """Golden run: the only worker, and with it the computation it was sent, dies twice."""
    chain = AutoregressiveChain(seconds=0.05)
    killed: list[int] = []
    with local(1) as cluster:

        def kill(_more: int) -> None:
            if len(killed) < 2:
                killed.append(kill_a_worker(cluster))

        result = at(cluster, chain, progress=lambda *_: nullcontext(kill))
    assert len(set(killed)) == 2
    np.testing.assert_array_equal(result, here(CHAIN))


def kill_a_worker(cluster: LocalCluster) -> int:
    """SIGKILL to the process of a worker, once there is one; its nanny starts another."""
    deadline = time.monotonic() + 20
    while True:
        for nanny in list(cluster.workers.values()):
            process = nanny.process
            if process is not None and process.pid and nanny.worker_address:
                os.kill(process.pid, signal.SIGKILL)
                return process.pid
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_killed_in_the_middle_of_a_step_loses_nothing(cluster, tmp_path: Path) -> None:
    """Golden run: kill -9 to one of two while both are in a step; every step is stored once."""
    chain = AutoregressiveChain(seconds=0.1)
    store = FolderStore(tmp_path)
    killer = threading.Timer(0.5, kill_a_worker, [cluster])
    killer.start()
    result = at(cluster, chain, store)
    killer.join()
    np.testing.assert_array_equal(result, here(CHAIN))
    assert len(list(tmp_path.glob("chain/*.safetensors"))) == chain.num_shards * chain.num_steps


def test_a_scheduler_that_goes_away_is_one_line(tmp_path: Path) -> None:
    """Golden run: the cluster is closed after the first step, which stays stored."""
    with local(1) as cluster:

        def close(_more: int) -> None:
            cluster.close()

        with pytest.raises(LerayError, match=r"went away; finished steps are kept, so resume"):
            at(cluster, CHAIN, FolderStore(tmp_path), progress=lambda *_: nullcontext(close))
    assert list(tmp_path.glob("chain/*.safetensors"))


def test_what_was_stored_is_not_done_again(cluster, tmp_path: Path) -> None:
    """Identity: begun in this process, gone on with on the cluster."""
    run = RunFolder.create(tmp_path / "run", "chain", {"seed": 7})
    stopped = AutoregressiveChain(num_steps=6)
    with run:
        first = run.drive(stopped, key=KEY, progress=no_progress)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").rglob("*")}
    with RunFolder.resume(tmp_path / "run") as again:
        address = cluster.scheduler_address
        np.testing.assert_array_equal(
            again.drive(stopped, key=KEY, scheduler=address, progress=no_progress), first
        )
    assert before == {
        p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").rglob("*")
    }


def test_an_error_in_a_step_comes_through(cluster, tmp_path: Path) -> None:
    """Golden run: the step's own exception; the steps before it are stored."""
    with pytest.raises(ZeroDivisionError, match="step 2 divides by zero"):
        at(cluster, Troubled(trouble="error"), FolderStore(tmp_path))
    assert (tmp_path / "troubled" / "1-1.safetensors").exists()


def test_a_step_that_changes_its_state_in_place_is_refused(cluster) -> None:
    """Identity: arrays are as read-only there as here."""
    with pytest.raises(ValueError, match="read-only"):
        at(cluster, Troubled(trouble="mutate"))


def test_other_versions_on_a_worker_are_refused(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden run: this side pretends to have another numpy."""
    import leray.runs.dask_executor as module

    actual = module._versions()
    monkeypatch.setattr(module, "_versions", lambda: actual | {"numpy": "1.0"})
    with pytest.raises(LerayError, match=r"has numpy \S+ instead of 1.0: install the same"):
        at(cluster, AutoregressiveChain())


def test_nobody_at_the_address_is_one_line_and_quick() -> None:
    """Golden run: a port that was free a moment ago, and words that are no address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    for wrong in (address, "nonsense", "tcp://:x"):
        with pytest.raises(LerayError, match="no Dask scheduler answers at") as error:
            drive(CHAIN, store=MemoryStore(), key=KEY, scheduler=wrong, progress=no_progress)
        assert "\n" not in str(error.value)
    assert time.monotonic() - started < 5


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Golden run: as where the extra was never installed."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LerayError, match=r"pip install -c constraints.txt -e '\.\[scale\]'"):
        drive(CHAIN, store=MemoryStore(), key=KEY, scheduler="127.0.0.1:1", progress=no_progress)


def test_a_scheduler_and_workers_are_one_too_many() -> None:
    """Golden run: no setting is silently without effect."""
    with pytest.raises(LerayError, match="give one of them"):
        drive(CHAIN, store=MemoryStore(), key=KEY, workers=2, scheduler="127.0.0.1:1")

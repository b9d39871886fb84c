"""The driver: the same bits for any number of workers, from any stored beginning."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest
from run_computations import AutoregressiveChain, Meeting, ResampledMean, Troubled

from leray.errors import LerayError
from leray.runs import (
    Computation,
    FolderStore,
    Key,
    MemoryStore,
    Store,
    drive,
    executors,
    no_progress,
)

KEY = Key.root(7)
DATA = np.random.default_rng(1).standard_normal(40)
COMPUTATIONS = [AutoregressiveChain(), ResampledMean(data=DATA)]


def quietly(computation: Computation, store: Store, workers: int = 1, key: Key = KEY):
    return drive(computation, store=store, key=key, workers=workers, progress=no_progress)


def plainly(computation: Computation) -> np.ndarray:
    """The contract without a driver: every shard from its first step to its last."""
    root = KEY.child(computation.name)
    samples = []
    for shard in range(computation.num_shards):
        below = root.child(shard)
        state, made = computation.init(shard, below.child("init")), []
        for step in range(computation.num_steps):
            state, yielded = computation.step(state, step, below.child(step))
            made.append(yielded)
        samples.append(made)
    return computation.result(samples)


@pytest.mark.parametrize("computation", COMPUTATIONS, ids=lambda c: c.name)
def test_any_number_of_workers_gives_the_same_bits(
    computation: Computation, tmp_path: Path
) -> None:
    """Identity: a plain loop, one worker, two and three; in memory and in a folder."""
    expected = plainly(computation)
    for workers, store in ((1, MemoryStore()), (2, FolderStore(tmp_path)), (3, MemoryStore())):
        np.testing.assert_array_equal(quietly(computation, store, workers), expected)


def test_kept_workers_go_from_one_computation_to_the_next(monkeypatch) -> None:
    """Identity: the same bits; two processes are started for three computations, and ended."""
    started = []
    monkeypatch.setattr(
        executors, "_start_worker", lambda start=executors._start_worker: _noted(started, start())
    )
    with executors.kept_workers():
        for computation in (*COMPUTATIONS, COMPUTATIONS[0]):
            found = quietly(computation, MemoryStore(), 2)
            np.testing.assert_array_equal(found, plainly(computation))
        assert len(started) == 2
        with pytest.raises(ZeroDivisionError):
            quietly(Troubled(trouble="error"), MemoryStore(), 2)
        found = quietly(COMPUTATIONS[0], MemoryStore(), 2)
        np.testing.assert_array_equal(found, plainly(COMPUTATIONS[0]))
    for worker in started:
        with pytest.raises(ValueError, match="closed"):
            worker.process.is_alive()


def _noted(seen: list, worker):
    seen.append(worker)
    return worker


class ChainInThreads(AutoregressiveChain):
    in_threads = True


class TroubledInThreads(Troubled):
    in_threads = True


def test_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity: for work that a device does; no process is started."""
    monkeypatch.setattr("leray.runs.driver.Processes", None)
    found = quietly(ChainInThreads(), MemoryStore(), 3)
    np.testing.assert_array_equal(found, plainly(AutoregressiveChain()))


def test_an_error_in_a_thread_comes_through_and_keeps_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="step 2 divides by zero"):
        quietly(TroubledInThreads(trouble="error"), FolderStore(tmp_path), 2)
    assert (tmp_path / "troubled" / "1-1.safetensors").exists()


def test_the_resampled_mean_has_its_standard_error() -> None:
    """Statistical: sd of 600 bootstrap means is σ/√n within 4.5 standard errors, 1/√(2·600)."""
    means = quietly(ResampledMean(data=DATA), MemoryStore())
    assert len(means) == 600
    assert abs(means.std() / (DATA.std() / np.sqrt(len(DATA))) - 1) < 4.5 / np.sqrt(1200)


def test_shards_and_seeds_draw_different_numbers() -> None:
    """Identity: another seed or another name changes every number; shards share none."""
    chain = AutoregressiveChain()
    one = quietly(chain, MemoryStore())
    assert not np.any(one == quietly(chain, MemoryStore(), key=Key.root(8)))
    assert not np.any(one == quietly(dataclasses.replace(chain, name="other"), MemoryStore()))
    assert not np.any(one[0] == one[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_step_comes_through_and_keeps_what_is_done(
    workers: int, tmp_path: Path
) -> None:
    """Golden run: the step's own exception; the steps before it are stored."""
    with pytest.raises(ZeroDivisionError, match="step 2 divides by zero"):
        quietly(Troubled(trouble="error"), FolderStore(tmp_path), workers)
    assert (tmp_path / "troubled" / "1-1.safetensors").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_that_changes_its_state_in_place_is_refused(workers: int) -> None:
    """Identity: steps are pure, so the arrays they are given are read-only everywhere."""
    with pytest.raises(ValueError, match="read-only"):
        quietly(Troubled(trouble="mutate"), MemoryStore(), workers)


def test_a_killed_worker_is_named_and_loses_nothing_stored(tmp_path: Path) -> None:
    """Golden run: the message names signal, step and shard; the steps before are stored."""
    store = FolderStore(tmp_path)
    with pytest.raises(LerayError, match=r"SIGKILL\) in step 2 of shard 1 of 'troubled'.*resume"):
        quietly(Troubled(trouble="kill"), store, workers=2)
    kept = {p.name for p in (tmp_path / "troubled").iterdir()}
    assert {"1-0.safetensors", "1-1.safetensors"} <= kept


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    """Identity: a finished computation driven again changes no file and takes no step."""
    chain, store = AutoregressiveChain(seconds=0.02), FolderStore(tmp_path)
    first = quietly(chain, store)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    started = time.perf_counter()
    np.testing.assert_array_equal(quietly(chain, store, workers=3), first)
    assert time.perf_counter() - started < chain.num_shards * chain.num_steps * chain.seconds
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}


def test_shards_run_at_the_same_time(tmp_path: Path) -> None:
    """Golden run: two steps that wait for each other both finish."""
    assert quietly(Meeting(folder=str(tmp_path)), MemoryStore(), workers=2) == 2


def test_no_workers_is_an_error() -> None:
    """Golden run: one line that says what to ask for."""
    with pytest.raises(LerayError, match="0 workers cannot do anything: ask for 1 or more"):
        quietly(COMPUTATIONS[0], MemoryStore(), workers=0)


def test_linear_algebra_has_one_thread_in_a_step_and_its_own_after() -> None:
    """Identity: the driver fixes the number of threads and gives it back."""
    from threadpoolctl import threadpool_info

    before = threadpool_info()
    quietly(COMPUTATIONS[0], MemoryStore())
    assert threadpool_info() == before


def test_one_line_is_printed_where_there_is_no_terminal(capfd: pytest.CaptureFixture) -> None:
    """Golden run: name, steps and seconds, on stderr."""
    assert not os.isatty(2)
    drive(COMPUTATIONS[1], store=MemoryStore(), key=KEY)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("resample: 12 of 12 in ")

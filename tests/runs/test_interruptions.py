"""Killed or stopped anywhere and resumed: the same bits as without interruption."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from drive_chain import CHAIN
from run_computations import AutoregressiveChain

from leray.runs import Interrupted, Key, MemoryStore, RunFolder, drive, no_progress, read_events

SCRIPT = Path(__file__).with_name("drive_chain.py")
NUM_FILES = CHAIN.num_shards * CHAIN.num_steps


@pytest.fixture(scope="module")
def expected() -> list[str]:
    result = drive(CHAIN, store=MemoryStore(), key=Key.root(7), progress=no_progress)
    return [float(x).hex() for x in result.ravel()]


def start(path: Path, workers: int, **options: Any) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), str(path), str(workers)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def num_stored(path: Path) -> int:
    return len(list(path.glob("checkpoints/chain/*.safetensors")))


def wait_for_stored(path: Path, process: subprocess.Popen, wanted: int) -> None:
    deadline = time.monotonic() + 30
    while num_stored(path) < wanted and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def resumed(path: Path) -> list[str]:
    """The result of going on here, with one worker."""
    with RunFolder.resume(path) as run:
        result = run.drive(CHAIN, key=Key.root(run.config["seed"]), progress=no_progress)
    return [float(x).hex() for x in result.ravel()]


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_steps_and_resumed(
    workers: int, tmp_path: Path, expected: list[str]
) -> None:
    """Identity: SIGKILL twice, at random moments of random steps; then it runs to its end."""
    chance = random.Random(workers)
    path = tmp_path / "run"
    for _ in range(2):
        process = start(path, workers)
        wait_for_stored(path, process, num_stored(path) + chance.randint(1, 4))
        time.sleep(chance.random() * CHAIN.seconds)
        process.kill()
        code, _, _ = finish(process)
        assert code == -signal.SIGKILL
    assert 2 <= num_stored(path) < NUM_FILES
    assert resumed(path) == expected
    assert not list(path.rglob("*.tmp"))


@pytest.mark.parametrize(("asked", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_the_first_signal_saves_and_says_how_to_go_on(
    asked: signal.Signals, workers: int, tmp_path: Path, expected: list[str]
) -> None:
    """Golden run: exit 130, command and status; the resumed run has the same bits."""
    path = tmp_path / "run"
    process = start(path, workers)
    wait_for_stored(path, process, 3)
    process.send_signal(asked)
    code, _, err = finish(process)
    assert code == 130, err
    assert "finishing the step" in err
    assert f"continue with: leray study chain --resume {path}" in err
    assert json.loads((path / "status.json").read_text())["state"] == "interrupted"
    assert read_events(path / "events.jsonl")[-1]["event"] == "run_interrupted"
    assert 3 <= num_stored(path) < NUM_FILES
    assert resumed(path) == expected


def test_a_signal_to_the_whole_group_is_the_drivers_alone(
    tmp_path: Path, expected: list[str]
) -> None:
    """Golden run: Ctrl-C on a terminal reaches the workers too, and they take no notice."""
    path = tmp_path / "run"
    process = start(path, 2, start_new_session=True)
    wait_for_stored(path, process, 2)
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    assert resumed(path) == expected


def test_the_second_signal_ends_at_once() -> None:
    """Golden run: the process dies of the signal itself, in the middle of a long step."""
    code = (
        "from contextlib import nullcontext\n"
        "from run_computations import AutoregressiveChain\n"
        "from leray.runs import Key, MemoryStore, drive\n"
        "def progress(*_):\n"
        "    print('ready', flush=True)\n"
        "    return nullcontext(print)\n"
        "chain = AutoregressiveChain(seconds=60)\n"
        "drive(chain, store=MemoryStore(), key=Key.root(1), progress=progress)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=SCRIPT.parent,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline().startswith("finishing the step")
    process.send_signal(signal.SIGTERM)
    code, _, _ = finish(process)
    assert code == -signal.SIGTERM


def test_workers_end_with_a_killed_driver(tmp_path: Path) -> None:
    """Golden run: no process is left behind by SIGKILL."""
    path = tmp_path / "run"
    process = start(path, 2)
    wait_for_stored(path, process, 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    finish(process)
    assert children
    deadline = time.monotonic() + 10
    while any(_alive(int(pid)) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_in_memory_nothing_is_promised() -> None:
    """Golden run: without a folder the message names no command."""
    signals = iter([signal.SIGTERM])

    def stop_once(_more: int) -> None:
        for asked in signals:
            signal.raise_signal(asked)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="after 2 of 18 steps; nothing is kept") as stopped:
        drive(
            AutoregressiveChain(),
            store=MemoryStore(),
            key=Key.root(7),
            progress=lambda *_: nullcontext(stop_once),
        )
    assert stopped.value.resume_command is None
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_resumed_run_is_found_whole(tmp_path: Path) -> None:
    """Identity: what one process stored, another resumes, and a finished run does nothing more."""
    path = tmp_path / "run"
    code, out, err = finish(start(path, 2))
    assert code == 0, err
    assert RunFolder.resume(path).state == "done"
    before = {p: p.stat().st_mtime_ns for p in (path / "checkpoints").rglob("*")}
    assert resumed(path) == json.loads(out)
    assert before == {p: p.stat().st_mtime_ns for p in (path / "checkpoints").rglob("*")}

"""Several processes: the numbers of one, on gloo, replicated and sharded; and going on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from leray.errors import LerayError
from leray.lm.sharding import split, whole
from leray.runs import Interrupted
from leray.runs.folder import RunFolder
from leray.train import distributed
from leray.train.configuration import configuration_of, read_configuration
from leray.train.distributed import SharedLive, check_shares, is_follower, leading, num_processes
from leray.train.session import Asked, run_training

WORKER = Path(__file__).with_name("distributed_worker.py")
NUM_STEPS, NUM_PROCESSES = 10, 2
APART = 1e-5
"""Relative: ten steps in float32, 6e-8 a rounding, enlarged some ten times by polar factors."""
CONFIG = """
[model]
width = 32
num_layers = 2
windows = [8, 0]
mixing = "convolution"
[data]
context = 16
num_sequences = 8
text = "{texts}"
[schedule]
num_steps = 10
interval = 5
"""


def losses(run: Path) -> np.ndarray:
    """Loss, norm of the gradient and tuning loss of every interval, behind each other."""
    recorded = RunFolder.resume(run).store.recorded()
    return np.concatenate([s[k] for _, _, _, s in recorded for k in ("loss", "norm", "tune")])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process here; then two, which train both ways, lose an interval and go on."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "texts").mkdir()
    for i in range(40):
        text = f"{i}: the quick brown fox {i % 7} jumps over {'the lazy dog ' * 4}"
        (folder / "texts" / f"{i}.txt").write_text(text)
    config = CONFIG.format(texts=folder / "texts")
    (folder / "one.toml").write_text(config)
    (folder / "replicated.toml").write_text(config + "accumulate = 2\n")
    (folder / "sharded.toml").write_text(config + "accumulate = 2\nparallel = 'sharded'\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LERAY_HOME", str(folder / "home"))
        asked = Asked(tables=read_configuration(folder / "one.toml"), where="one.toml")
        run_training(asked, out=folder / "one", resume=None, say=lambda _: None)
    commands = []
    for name in ("replicated", "sharded"):
        run = str(folder / name)
        commands += [["lm", "train", f"{run}.toml", "--out", run], ["forget", run]]
        commands += [["lm", "train", "--resume", run]]
    (folder / "commands.json").write_text(json.dumps(commands))
    started(folder)
    return folder


def started(folder: Path) -> None:
    """What `torchrun --nproc-per-node 2` does: processes with their places in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "LERAY_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(NUM_PROCESSES),
        "LOCAL_WORLD_SIZE": str(NUM_PROCESSES),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(WORKER), str(folder / "commands.json")],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(NUM_PROCESSES)
    ]
    try:
        said = [p.communicate(timeout=300)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], "\n".join(said)
    assert said[0].count("model: ") == 4
    assert said[1] == ""


@pytest.mark.parametrize("name", ["replicated", "sharded"])
def test_golden_run_of_two_processes_gives_the_losses_of_one(runs, name):
    """Oracle: one process, whose AdamW and Muon see all windows of a step at once."""
    one, two = losses(runs / "one"), losses(runs / name)
    assert len(one) == 2 * NUM_STEPS + 2
    assert one[0] - one[-1] > 1
    np.testing.assert_allclose(two, one, rtol=APART)
    weights, wanted = (load_file(runs / n / "model.safetensors") for n in (name, "one"))
    assert weights.keys() == wanted.keys()
    for k, w in wanted.items():
        assert float((weights[k] - w).norm() / w.norm()) < 10 * APART, k


@pytest.mark.parametrize("name", ["replicated", "sharded"])
def test_what_was_lost_is_made_again_bit_for_bit(runs, name):
    """The others' weights are those of the end: they must take the leader's stored ones."""
    before, after = (runs / name / f for f in ("before.safetensors", "model.safetensors"))
    assert before.read_bytes() == after.read_bytes()


def test_a_run_of_two_is_not_gone_on_with_by_one(runs, monkeypatch):
    monkeypatch.setenv("LERAY_HOME", str(runs / "home"))
    nothing = Asked(tables={}, where="")
    (runs / "replicated" / "checkpoints" / "training" / "0-1.safetensors").unlink()
    with pytest.raises(LerayError, match="num_processes was 2, now absent"):
        run_training(nothing, out=None, resume=runs / "replicated", say=lambda _: None)


def test_shares_are_all_rows_once(monkeypatch):
    """Identity: behind each other they are the windows of the step."""
    rows, found = np.arange(12).reshape(6, 2), []
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(distributed.dist, "get_rank", lambda r=rank: r)
        found.append(SharedLive.share(SharedLive.__new__(SharedLive), rows))
        assert len(found[-1]) == 2
    np.testing.assert_array_equal(np.concatenate(found), rows)


@pytest.mark.parametrize(
    ("tables", "num", "said"),
    [
        ({"data": {"num_sequences": 6}}, 4, "6, must be a multiple of 4 processes .*: give 8"),
        ({"schedule": {"accumulate": 4}}, 4, "times accumulate, 4: give 16"),
        ({"schedule": {"parallel": "sharded"}}, 1, "one process .start several with torchrun"),
        (
            {"model": {"windows": [4, 0], "transitions": "exact"}}
            | {"schedule": {"parallel": "sharded"}},
            2,
            "does not go with exact transitions",
        ),
        (
            {"model": {"values": "residual"}, "schedule": {"parallel": "sharded"}},
            2,
            "does not go with residual values",
        ),
        ({"schedule": {"parallel": "sharded", "compile": True}}, 2, "does not go with compile"),
    ],
)
def test_what_cannot_be_shared_is_refused(tables, num, said):
    config = configuration_of(tables, 256, "test.toml")
    with pytest.raises(LerayError, match=said):
        check_shares(config, num)


def test_alone_nothing_is_shared(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (num_processes(), is_follower()) == (1, False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert num_processes() == 1  # a number without a place is another program's
    monkeypatch.setenv("RANK", "1")
    assert (num_processes(), is_follower()) == (2, True)
    x = torch.arange(6.0).reshape(3, 2)
    assert whole(x) is x
    assert split(x, torch.zeros(3, 2)) is x


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, [-1]),
        (LerayError("a"), [-1]),
        (Interrupted("stopped; continue with: leray lm train --resume r", "leray lm train"), [-1]),
        (RuntimeError("a bug in the middle of a step"), []),
    ],
    ids=repr,
)
def test_the_others_are_told_when_it_is_over(monkeypatch, error, told):
    """But not after an error within a step, where they no longer listen: `torchrun` ends them."""
    seen = []
    monkeypatch.setattr(distributed, "_told", seen.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    raised = None
    try:
        with leading(8):
            if error is not None:
                raise error
    except (RuntimeError, ValueError, KeyboardInterrupt) as stop:
        raised = stop
    assert seen == told
    assert type(raised) is type(error)
    if isinstance(raised, Interrupted):
        command = "torchrun --nproc-per-node 4 -m leray.cli lm train"
        assert (raised.resume_command, str(raised)) == (
            command,
            f"stopped; continue with: {command} --resume r",
        )

"""Golden runs of `leray lm`: train, kill, go on, evaluate, write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch

from leray.cli import main
from leray.lm.losses import LossConfig
from leray.train.checkpoint import load_trained
from leray.train.configuration import configuration_of, read_configuration
from leray.train.training import size_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = """
[model]
width = 16
num_layers = 2
num_heads = 2
windows = [4, 0]
[data]
context = 16
num_sequences = 4
[schedule]
num_steps = 12
interval = 3
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LERAY_HOME", str(tmp_path / "home"))
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "texts").mkdir()
    for i in range(60):
        lines = "".join(f"line {k} of text {i} about {'cats' * (i % 3)}.\n" for k in range(12))
        (tmp_path / "texts" / f"{i}.txt").write_text(lines)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*more: str) -> list[str]:
    return ["lm", "train", "tiny.toml", "--text", "texts", *more]


def test_a_model_is_trained_measured_and_writes(home, capsys):
    assert main([*train("--out", "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["parameters"] == size_of(load_trained(Path("run")).model.config)
    assert "step 12 of 12" in err
    assert "sample: " in err
    for name in (
        "model.safetensors",
        "model.json",
        "samples.parquet",
        "events.jsonl",
        "MANIFEST.sha256",
    ):
        assert (home / "run" / name).exists()
    assert main(["lm", "evaluate", "run", "--split", "tune", "--json"]) == 0
    tune = json.loads(capsys.readouterr().out)
    assert tune["loss"] == pytest.approx(told["loss"], rel=1e-6)
    assert main(["lm", "evaluate", "run", "--text", "texts", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["bytes"] == sum(len(p.read_bytes()) for p in (home / "texts").iterdir())
    assert whole["tokens"] == whole["bytes"]
    assert whole["bits_per_byte"] == pytest.approx(whole["loss"] / 0.6931471805599453)
    assert sum(d["nats"] for d in whole["documents"]) == pytest.approx(
        whole["loss"] * whole["tokens"]
    )
    assert whole["train_flops"] > 0
    assert main(["lm", "generate", "run", "--prompt", "line ", "--tokens", "20"]) == 0
    once = capsys.readouterr().out
    assert once.startswith("line ")
    assert main(["lm", "generate", "run", "--prompt", "line ", "--tokens", "20"]) == 0
    assert capsys.readouterr().out == once


def test_a_kill_loses_at_most_an_interval_and_the_rest_is_bit_for_bit(home, capsys):
    assert main(train("--out", "whole")) == 0
    command = [sys.executable, "-m", "leray.cli", *train("--out", "killed", "--steps", "12")]
    process = subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL, env=os.environ)
    first = home / "killed" / "checkpoints" / "training" / "0-0.safetensors"
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(["lm", "train", "--resume", "killed"]) == 0
    for name in ("model.safetensors", "samples.parquet"):
        assert (home / "killed" / name).read_bytes() == (home / "whole" / name).read_bytes()
    assert main(["lm", "train", "--resume", "killed"]) == 0
    capsys.readouterr()


def test_byte_pairs(home, capsys):
    (home / "tiny.toml").write_text(TINY.replace("[data]", '[data]\ntokens = "bpe:512"'))
    assert main([*train("--out", "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tokens"] < told["bytes"] / 2
    assert main(["lm", "evaluate", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    per_byte = found["loss"] * found["tokens"] / found["bytes"] / 0.6931471805599453
    assert found["bits_per_byte"] == pytest.approx(per_byte)
    assert main(["lm", "generate", "run", "--prompt", "line 4", "--tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("line 4")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["lm", "train"], "no configuration: give a TOML file"),
        (["lm", "train", "none.toml"], "no configuration at 'none.toml'"),
        (["lm", "train", "tiny.toml", "--text", "gone"], "no text at 'gone'"),
        (["lm", "train", "tiny.toml", "--text", "texts", "--steps", "0"], "num_steps must be 1 to"),
        (["lm", "train", "tiny.toml", "--text", ""], "text is empty"),
        (["lm", "train", "tiny.toml", "--text", "texts", "--seed", str(10**30)], "seed must be 0"),
        (["lm", "evaluate", "gone", "--text", "texts", "--split", "tune"], "leave one out"),
        (["lm", "train", "tiny.toml", "--device", "gpu"], "no device 'gpu'"),
        (["lm", "train", "tiny.toml", "--resume", "run"], "CONFIG beside --resume"),
        (["lm", "train", "--resume", "gone"], "is no run folder"),
        (["lm", "evaluate", "gone"], "no model in gone"),
        (["lm", "evaluate", "gone", "--split", "all"], "split must be one of"),
        (["lm", "generate", "gone"], "no model in gone"),
        (["lm", "generate", "gone", "--tokens", "0"], "tokens must be ≥ 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(home, capsys, args, said):
    before = sorted(p.name for p in home.iterdir())
    assert main(args) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(p.name for p in home.iterdir() if p.name != "home") == before


def test_damaged_toml(home, capsys):
    (home / "tiny.toml").write_text("[model\n")
    assert main(train()) == 1
    assert "is no TOML" in capsys.readouterr().err


def test_the_shipped_configurations_are_of_one_size():
    sizes = {}
    for name in ("baseline", "sheaf"):
        config = configuration_of(read_configuration(CONFIGS / f"{name}.toml"), 256, name)
        assert config.loss == LossConfig()
        sizes[name] = size_of(config.model)
    assert abs(sizes["sheaf"] / sizes["baseline"] - 1) < 0.005


def test_settings_of_a_run_are_kept(home, capsys):
    assert main(train("--out", "run", "--seed", "3")) == 0
    capsys.readouterr()
    config = tomllib.loads((home / "run" / "config.toml").read_text())
    assert config["seed"] == 3
    assert config["data"]["text"] == "texts"
    weights = load_trained(Path("run")).model.state_dict()
    assert all(torch.isfinite(w).all() for w in weights.values())

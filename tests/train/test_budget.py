"""The budget of a run: counts by hand, lines that are lines, shares that add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from leray.errors import LerayError
from leray.lm.flops import train_flops_per_token
from leray.lm.model import Model
from leray.train import budget
from leray.train.budget import Options, activations, budget_of, lines
from leray.train.configuration import TrainingConfig, configuration_of, read_configuration
from leray.train.tokens import vocabulary_size

GPT2 = Path(__file__).parents[2] / "configs" / "gpt2.toml"
WIDTH, HEADS = 64, 2


def configured(num_layers: int = 2, **tables) -> TrainingConfig:
    model = {"width": WIDTH, "num_layers": num_layers, "num_heads": HEADS}
    data = {"context": 64, "num_sequences": 16}
    return configuration_of({"model": model, "data": data} | tables, 256, "test.toml")


def test_oracle_weights_and_moments_by_hand():
    """12 w² a layer for Muon, its h temperatures and V w embeddings for AdamW, 4 bytes each."""
    found = budget_of(configured(), 1)
    assert found.matrices == 2 * 12 * WIDTH**2
    rest = 256 * WIDTH + 2 * HEADS
    assert found.weights == found.matrices + rest
    assert found.held["weights"] == found.held["gradients"] == 4 * found.weights
    assert found.held["moments"] == 4 * found.matrices + 8 * rest


def test_the_example_is_of_gpt2s_size():
    """12 · 12 · 768² + 144 + 50,257 · 768, and GPT-2 small has 124 million."""
    tables = read_configuration(GPT2)
    config = configuration_of(tables, vocabulary_size(tables["data"]["tokens"]), str(GPT2))
    with torch.device("meta"):
        model = Model(config.model, torch.Generator("cpu"), draw=False)
    num = sum(p.numel() for p in model.parameters())
    assert num == 12 * 12 * 768**2 + 144 + 50_257 * 768
    assert num == pytest.approx(124e6, rel=0.01)
    assert config.data.num_sequences * config.data.context * config.schedule.num_steps == (
        pytest.approx(2.5e9, rel=1e-3)
    )


def test_oracle_what_a_layer_keeps_by_hand():
    """Numbers a token: two normed inputs and their scales 2w + 2; q, k and v 3w, q and k once more
    for their lengths 2w + 2h, turned 2w; what attention gives w and its normalisation h, heads side
    by side w; the two of the squared ReLU 8w."""
    one, three = (activations(configured(n))[0] for n in (1, 3))
    numbers = (three - one) / 2 / 4
    assert numbers == 19 * WIDTH + 3 * HEADS + 2


@pytest.mark.parametrize(
    "model", [{}, {"mixing": "convolution", "values": "residual"}], ids=["baseline", "more"]
)
def test_what_is_kept_lies_on_the_line(model):
    """Identity: a third length, longer than both that were counted."""
    tables: dict[str, Any] = {"model": {"width": WIDTH, "num_heads": HEADS, **model}}
    config = configured(**tables)
    slope, height = activations(config)
    own = Model(config.model, torch.Generator(), draw=False)
    assert budget._kept(own, config, 200, half=False) == pytest.approx(slope * 200 + height)
    half = replace(config, schedule=replace(config.schedule, precision="bfloat16"))
    assert activations(half)[0] < 0.9 * slope


def test_processes_and_parts_share():
    whole = budget_of(configured(), 1)
    parts = budget_of(configured(schedule={"accumulate": 2}), 4)
    assert (whole.part, parts.part) == (64 * 16, 64 * 2)
    assert parts.held == whole.held
    apart = whole.passing["activations"] - parts.passing["activations"]
    assert apart == pytest.approx(activations(configured())[0] * (whole.part - parts.part))
    sharded = budget_of(configured(schedule={"parallel": "sharded"}), 4)
    assert sharded.held == {k: v / 4 for k, v in whole.held.items()}
    assert sharded.peak < whole.peak
    with pytest.raises(LerayError, match="multiple of 3 processes"):
        budget_of(configured(), 3)


def test_golden_table(tmp_path):
    """The hours follow from what stands beside them."""
    path = tmp_path / "c.toml"
    path.write_text("[model]\nwidth = 64\n[data]\ncontext = 32\n")
    found = lines(Options(config=path, processes=4, tokens=(1000.0,), utilisation=0.5))
    config = configuration_of(read_configuration(path), 256, "c.toml")
    model = Model(config.model, torch.Generator(), draw=False)
    flops = train_flops_per_token(model, 32)
    assert found[0].endswith(f"4 processes, replicated: {114_692:,} weights, 98,304 of them Muon's")
    assert found[1].startswith("64 tokens at a time")
    name, exaflop, a100, h100 = found[-1].rsplit(maxsplit=3)
    assert name.split() == ["1000e9", "tokens"]
    assert float(exaflop) == pytest.approx(flops * 1e12 / 1e18, abs=0.05)
    for hours, peak in ((a100, 312e12), (h100, 989e12)):
        wanted = flops * 1e12 / (4 * peak * 0.5) / 3600
        assert float(hours) == pytest.approx(wanted, abs=0.005)

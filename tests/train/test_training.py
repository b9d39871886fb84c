"""Training: it learns, it goes on bit for bit, and it stops where the loss is not a number."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.losses import LossConfig, training_loss
from leray.lm.model import Model
from leray.lm.optimizer import Muon, OptimizerConfig, optimizers_of, polar_factor, schedule
from leray.lm.settling import SettlingConfig, level_of_layer
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.runs.computation import configuration
from leray.train.checkpoint import Trained, load_trained, save_trained
from leray.train.configuration import TrainingConfig, configuration_of, tables_of
from leray.train.evaluation import document_losses
from leray.train.live import Live
from leray.train.text import Document
from leray.train.tokens import Vocabulary, question_mark, streams_of, vocabulary_of
from leray.train.training import Training, check_device, loaded

LOCAL = {"windows": [4, 0], "transitions": "exact"}


def configured(**tables) -> TrainingConfig:
    given_tables = {
        "model": {"width": 32, "num_layers": 2, "num_heads": 2, **tables.pop("model", {})},
        "data": {"context": 16, "num_sequences": 4, **tables.pop("data", {})},
        "schedule": {"num_steps": 12, "interval": 3, **tables.pop("schedule", {})},
        **tables,
    }
    return configuration_of(given_tables, 256, "test.toml")


def training(config: TrainingConfig, seeds: tuple[int, ...] = (0,), **changes) -> Training:
    text = "the quick brown fox jumps over the lazy dog. " * 40
    stream, _, _ = streams_of(Vocabulary(), [Document("a", text)])
    configs, starts = (config,) * len(seeds), np.array([0, 100, 200])
    return Training(configs, seeds, stream, stream[:200], starts, **changes)


def driven(computation: Training, store: MemoryStore | None = None):
    store = store or MemoryStore()
    return drive(computation, store=store, key=Key.root(0), progress=no_progress), store


@pytest.mark.parametrize("model", [{}, LOCAL, {"positions": "transport", "stalk": 4}], ids=str)
def test_it_learns_and_is_resumed_bit_for_bit(model):
    config = configured(model=model)
    curves, store = driven(training(config))
    assert curves[0].train[-1] < curves[0].train[0] - 1
    assert curves[0].steps.tolist() == [3, 6, 9, 12]
    # a process that died after the second interval, and one that goes on from its file
    half = MemoryStore(
        {("training", 0): store.steps["training", 0][:2]}, {}, dict(store.configurations)
    )
    once = MemoryStore()
    short = replace(config, schedule=replace(config.schedule, num_steps=12))
    computation = training(short)
    state = computation.init(0, Key.root(0))
    for k in range(2):
        state, _ = computation.step(state, k, Key.root(k))
    once.steps, once.states = half.steps, {("training", 0): state}
    once.configurations = half.configurations
    again, after = driven(computation, once)
    assert (again[0].train == curves[0].train).all()
    for name, value in store.states["training", 0].items():
        np.testing.assert_array_equal(after.states["training", 0][name], value)


def test_oracle_the_loss_of_answers_is_that_of_their_places():
    model = Model(
        ModelConfig(num_tokens=9, width=16, num_heads=2), torch.Generator().manual_seed(0)
    )
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(9, (5, 7), generator=generator)
    targets = torch.randint(9, (5, 7), generator=generator)
    targets[torch.rand(5, 7, generator=generator) < 0.7] = -1
    whole, own = training_loss(model, tokens, targets, LossConfig(answers=True))
    asked = targets >= 0
    oracle = cross_entropy(model(tokens)[asked], targets[asked])
    torch.testing.assert_close(whole, oracle)
    torch.testing.assert_close(own, oracle.detach())


def test_a_run_on_answers_learns_them():
    """The answer is the word after the last full stop."""
    generator = np.random.default_rng(0)
    lines = [" ".join([*generator.choice(list("abcd"), 3), ".", x, "?", x]) for x in "abcd" * 30]
    documents = [Document(str(i), line) for i, line in enumerate(lines)]
    vocabulary = vocabulary_of("words:20", documents)
    stream, starts, _ = streams_of(vocabulary, documents)
    tables = {
        "model": {"width": 16, "num_heads": 2, "num_layers": 2},
        "data": {"context": 7, "num_sequences": 16, "growing": 0.5},
        "loss": {"answers": True},
        "schedule": {"num_steps": 120, "interval": 60},
    }
    config = configuration_of(tables, vocabulary.size, "here")
    asked = {"starts": starts, "question": question_mark(vocabulary)}
    training = Training((config,), (0,), stream, stream, starts, **asked)
    (curve,) = drive(training, store=MemoryStore(), key=Key.root(0), progress=no_progress)
    assert curve.tune[-1] < 0.1
    del tables["loss"]
    with pytest.raises(LerayError, match="growing has no effect without answers = true"):
        configuration_of(tables, vocabulary.size, "here")


def test_seeds_are_shards_and_equal_seeds_see_equal_batches():
    curves, _ = driven(training(configured(), seeds=(3, 4)))
    alone, _ = driven(training(configured(), seeds=(4,)))
    assert (curves[1].train == alone[0].train).all()
    assert (curves[0].train != curves[1].train).any()


def test_parts_of_a_batch_add_up():
    whole, _ = driven(training(configured()))
    parts, _ = driven(training(configured(schedule={"accumulate": 4})))
    np.testing.assert_allclose(parts[0].train, whole[0].train, rtol=2e-4)


def test_a_loss_that_is_no_number_stops_with_step_and_batch():
    config = configured()
    computation = training(config)
    state = computation.init(0, Key.root(0))
    state["weights.embedding.weight"] = np.full_like(state["weights.embedding.weight"], np.nan)
    with pytest.raises(LerayError, match=r"the loss is nan .* at step 3, batch 3 of seed 0"):
        computation.step(state, 1, Key.root(0))


@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 99))
def test_statistical_muons_step_is_about_orthogonal(rows, columns, seed):
    """Its singular values lie between .6 and 1.3 where those of the gradient are not tiny."""
    g = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(2, rows, columns, generator=g), full_matrices=False)
    s = 0.2 + torch.rand(u.shape[-1], generator=g)
    found = torch.linalg.svdvals(polar_factor(u * s @ v))
    assert float(found.min()) > 0.6
    assert float(found.max()) < 1.3


def test_oracle_muon_is_torchs_up_to_bfloat16():
    """One and two steps of `torch.optim.Muon`, whose iteration is in bfloat16."""
    config = OptimizerConfig(matrix_rate=0.1, clip=0.0)
    w = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(w.clone()) for _ in range(2))
    group = {"params": [ours], "lr": 0.1, "parts": 1}
    one = Muon([group], config)
    two = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, momentum=0.95)
    for k in range(2):
        grad = torch.randn(24, 16, generator=torch.Generator().manual_seed(k + 1))
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        one.step()
        two.step()
    apart = (ours - theirs).norm() / (theirs - w).norm()
    assert float(apart.detach()) < 0.03


def test_a_stack_of_matrices_moves_as_its_parts():
    config = OptimizerConfig()
    w = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.Parameter(w.clone())
    parts = [torch.nn.Parameter(x.clone()) for x in w.chunk(3)]
    grad = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    whole.grad = grad
    for p, g in zip(parts, grad.chunk(3), strict=True):
        p.grad = g
    Muon([{"params": [whole], "parts": 3}], config).step()
    Muon([{"params": parts, "parts": 1}], config).step()
    torch.testing.assert_close(whole.detach(), torch.cat([p.detach() for p in parts]))


def test_every_weight_has_one_optimiser_and_its_level():
    config = ModelConfig(
        num_tokens=256, width=32, num_layers=3, windows=(4, 8, 0), transitions="plain"
    )
    model = Model(config, torch.Generator().manual_seed(0))
    found = [
        (p, g["level"])
        for o in optimizers_of(model, OptimizerConfig())
        for g in o.param_groups
        for p in g["params"]
    ]
    assert len(found) == len(list(model.parameters()))
    levels = {id(p): level for p, level in found}
    for i, block in enumerate(model.blocks):
        assert {levels[id(p)] for p in block.parameters()} == {i}
        assert level_of_layer(config, i) == i


def test_rates_rise_stay_and_fall_to_zero():
    config = OptimizerConfig(warmup_frac=0.1, decay_frac=0.4)
    found = [schedule(config, k, 100) for k in range(100)]
    assert found[9] == found[40] == 1.0
    assert np.all(np.diff(found[:10]) > 0)
    assert np.all(np.diff(found[60:]) < 0)
    assert 0 < found[-1] < 0.03


def test_a_run_may_go_on_on_another_device():
    here, there = (training(configured(), device=d) for d in ("cpu", "cuda"))
    assert configuration(here, Key.root(0)) == configuration(there, Key.root(0))
    assert (here.in_threads, there.in_threads) == (False, True)


def test_identity_a_rate_may_lie_in_memory():
    """As captured steps read it: the same step of Muon, to rounding."""
    moved = []
    for rate in (0.1, torch.tensor(0.1)):
        p = torch.nn.Parameter(torch.eye(20, 32))
        p.grad = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
        Muon([{"params": [p], "lr": rate}], OptimizerConfig(weight_decay=0.1)).step()
        moved.append(p.detach())
    torch.testing.assert_close(*moved)


def test_a_state_without_moments_begins_them_anew():
    """Whatever the model in memory was left with."""
    config = configured()
    computation = training(config)
    start = computation.init(0, Key.root(0))
    first, _ = computation.step(start, 0, Key.root(0))
    computation.step(first, 1, Key.root(0))
    again, _ = computation.step(start, 0, Key.root(0))
    assert first.keys() == again.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)


def test_windows_open_and_levels_wait():
    local = SettlingConfig(local_first=0.5, first_window=4)
    seen = [local.window(None, f / 8, 32) for f in range(8)]
    assert seen == [4, 4, 8, 16, None, None, None, None]
    assert local.window(6, 0.2, 32) == 6
    opening = SettlingConfig(opening=0.8, level_rate=0.5)
    assert [opening.rate(i, 2, 0.3) for i in range(2)] == [1.0, 0.0]
    assert [opening.rate(i, 2, 0.5) for i in range(2)] == [1.0, 0.5]


def test_a_closed_level_does_not_move():
    config = configured(model={"windows": [4, 0]}, settling={"opening": 1.0})
    live = Live(config, "cpu")
    computation = training(config)
    start = computation.init(0, Key.root(0))
    state, _ = computation.step(start, 0, Key.root(0))
    live.load(state)
    moved = {
        k for k in start if k.startswith("weights.") and not np.array_equal(state[k], start[k])
    }
    assert any(".0." in k for k in moved)
    assert not any("blocks.1." in k for k in moved)


def test_oracle_losses_of_documents_are_those_of_plain_windows():
    config = configured()
    model = Model(config.model, torch.Generator().manual_seed(1))
    documents = [Document("a", "abcdefgh" * 5), Document("b", "xyz")]
    stream, starts, _ = streams_of(Vocabulary(), documents)
    found = document_losses(model, stream, starts, 16)
    for i in range(2):
        tokens = torch.from_numpy(stream[starts[i] : starts[i + 1]].astype(np.int64))
        nats = 0.0
        for at in range(0, len(tokens) - 1, 16):
            part = tokens[at : at + 17]
            logits = model(part[None, :-1])[0].double().log_softmax(-1)
            nats -= float(logits[torch.arange(len(part) - 1), part[1:]].sum().detach())
        assert found.nats[i] == pytest.approx(nats, rel=1e-5)
        assert found.counts[i] == len(tokens) - 1


def test_a_model_on_disk_is_the_model(tmp_path):
    config = configured(model=LOCAL)
    model = Model(config.model, torch.Generator().manual_seed(1))
    trained = Trained(model, Vocabulary(), 16, {"text": "x", "flops": 3.0})
    save_trained(tmp_path, trained)
    again = load_trained(tmp_path)
    assert again.model.config == config.model
    assert (again.context, again.training) == (16, trained.training)
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(again.model(tokens), model(tokens), rtol=0, atol=0)


def _changed(path, change) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["model"].update(width=64), "does not fit model.json: .*, wanted"),
        (lambda t: t["model"].update(width=10**9), "damaged"),
        (lambda t: t["model"].update(wdth=3), "no setting 'wdth'; did you mean 'width'"),
        (lambda t: t["model"].update(width="64"), "width must be int"),
        (lambda t: t.update(merges="{}"), "damaged"),
        (lambda t: t.update(context=-1), "damaged"),
        (lambda t: t.pop("training"), "damaged"),
    ],
)
def test_damaged_models_are_refused(tmp_path, change, said):
    model = Model(configured().model, torch.Generator().manual_seed(1))
    save_trained(tmp_path, Trained(model, Vocabulary(), 16, {}))
    _changed(tmp_path / "model.json", change)
    with pytest.raises(LerayError, match=said):
        load_trained(tmp_path)


def test_weights_that_are_damaged_are_refused(tmp_path):
    model = Model(configured().model, torch.Generator().manual_seed(1))
    save_trained(tmp_path, Trained(model, Vocabulary(), 16, {}))
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LerayError, match="cannot read"):
        load_trained(tmp_path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(LerayError, match="it is not the file that model"):
        load_trained(tmp_path)
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    with pytest.raises(LerayError, match="begins as a pickle does, which can run code"):
        load_trained(tmp_path)
    path.unlink()
    with pytest.raises(LerayError, match="there is no "):
        load_trained(tmp_path)
    with torch.no_grad():
        model.embedding.weight[0, 0] = torch.inf
    save_trained(tmp_path, Trained(model, Vocabulary(), 16, {}))
    with pytest.raises(LerayError, match="no finite float32"):
        load_trained(tmp_path)


def test_no_model():
    from pathlib import Path

    with pytest.raises(LerayError, match="name the folder that 'leray lm train' printed"):
        load_trained(Path("/nowhere"))


def test_a_configuration_there_and_back():
    config = configured(model={"windows": [4, 0]}, loss={"pages": 0.2})
    assert configuration_of(tables_of(config), 256, "again") == config


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"modle": {}}, r"no table \[modle\]; there is .* did you mean 'model'"),
        ({"model": {"widht": 3}}, r"\[model\] has no setting 'widht'; did you mean 'width'"),
        ({"model": {"width": "3"}}, r"\[model\] width must be int; got '3'"),
        ({"model": {"width": 30, "num_heads": 4}}, "width must be a multiple"),
        ({"model": {"positions": "here"}}, r"must be one of rotary, .*; got 'here'"),
        ({"model": {"windows": 4}}, "windows must be a list"),
        ({"model": {"windows": [100_000, 0]}}, "a window of 100000 has no effect on a context of"),
        ({"model": 3}, "must be a table"),
        ({"model": {"num_tokens": 3}}, "no setting 'num_tokens'"),
        ({"loss": {"gluing": 0.5}}, "the loss 'gluing' has no effect"),
        ({"settling": {"opening": 0.5}}, "no effect without two windows"),
        ({"schedule": {"accumulate": 3}}, "accumulate must divide num_sequences, 8"),
        ({"schedule": {"num_steps": 0}}, "num_steps must be 1 to 100,000,000; got 0"),
        ({"optimizer": {"rate": -1}}, "rate must be 0 to 100; got -1.0"),
        ({"optimizer": {"matrix_rate": float("nan")}}, "matrix_rate must be 0 to 100; got nan"),
        ({"optimizer": {"betas": [0.9]}}, "betas must be two numbers"),
        ({"model": {"windows": [4, 8, 0]}}, "those of 2 layers at most"),
        ({"model": {"gluing": True, "windows": [7]}}, "an even number of tokens; got 7"),
        ({"model": {"positions": "none", "rope_base": 50.0}}, "rope_base has no effect"),
        ({"optimizer": {"warmup_frac": 0.8}}, "at most 1 together"),
    ],
)
def test_configurations_that_cannot_be(tables, said):
    with pytest.raises(LerayError, match=said):
        configuration_of(tables, 256, "test.toml")


def test_devices_that_there_are_not():
    with pytest.raises(LerayError, match="no device 'gpu:9' here"):
        check_device("gpu:9", "float32")
    with pytest.raises(LerayError, match="emulated on cpu"):
        check_device("cpu", "bfloat16")


def test_a_state_is_loaded_whole():
    config = configured()
    computation = training(config)
    state = computation.init(0, Key.root(0))
    model = loaded(config, state)
    fresh = Model(config.model, torch.Generator().manual_seed(0))
    for (name, a), b in zip(model.state_dict().items(), fresh.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)

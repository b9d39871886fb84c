"""Models trained to do programs: they do, their circuits are true, and the finder finds them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score

from leray.circuits.ablation import ablated, divergence, messages, replacements
from leray.circuits.finder import find_edges
from leray.circuits.graph import graph_of
from leray.circuits.patching import clean_run, patched
from leray.data.planted import load_program, load_trained, task_of, trained_names
from leray.errors import LerayError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/planted/train.py"


@pytest.fixture(scope="module")
def train():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("planted_train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_there_are_six() -> None:
    """Golden: at least, each larger than its program."""
    assert len(trained_names()) >= 6
    for name in trained_names():
        large, small = load_trained(name), load_program(name)
        assert len(graph_of(large.model).edges) > 5 * len(graph_of(small.model).edges)
        assert len(large.circuit) == len(small.circuit)


@pytest.mark.parametrize("name", trained_names())
def test_a_trained_model_does_its_program(name: str) -> None:
    """Oracle: the compiled program on every input, by weights none of which is zero."""
    program, compiled = load_trained(name), load_program(name)
    with torch.no_grad():
        outputs, wanted = (p.model(p.inputs)[:, 1:] for p in (program, compiled))
    assert float((outputs - wanted).abs().max()) < 0.1
    said = wanted.gather(2, outputs.argmax(dim=2, keepdim=True))[..., 0]
    assert bool((said > wanted.amax(dim=2) - 0.1).all())
    assert all(bool(w.all()) for w in program.model.parameters())


@pytest.mark.parametrize("name", trained_names())
def test_the_stored_circuit_keeps_the_outputs(name: str) -> None:
    """Oracle: all spare edges ablated at once, in each way, on every input."""
    program = load_trained(name)
    model, task = program.model.requires_grad_(False), task_of(program)
    run = clean_run(model, task)
    circuit, clean = run.graph.mask(program.circuit), run.outputs_of_all()
    for replaced in replacements(model, task, run.written):
        without, nothing = (
            float(divergence(y, clean, task).mean())
            for y in ablated(
                model, run.graph, task.clean, replaced,
                torch.stack([~circuit, torch.ones_like(circuit)]),
            )
        )  # fmt: skip
        assert 1 - without / nothing >= 0.99


@pytest.mark.parametrize("name", trained_names())
def test_true_and_spare_edges_lie_apart(name: str) -> None:
    """Oracle: exact patching on some inputs; the thresholds on all of them are 1e-3 and 5e-2."""
    program = load_trained(name)
    model, task = program.model.requires_grad_(False), task_of(program, 27)
    run = clean_run(model, task)
    replaced, circuit = replacements(model, task, run.written), run.graph.mask(program.circuit)
    effects = patched(run, task, replaced).amax(dim=0)
    ends = torch.stack([model.output(r.sum(dim=0)) for r in replaced])
    largest = float(divergence(ends, run.outputs_of_all(), task).mean(dim=1).max())
    assert float(effects[~circuit].max()) < 2e-3 * largest
    assert float(effects[circuit].min()) > 4e-2 * largest


@pytest.mark.parametrize("name", trained_names())
def test_spare_nodes_are_not_silent(name: str) -> None:
    """Identity: what they write varies over the inputs, at the root of the mean square."""
    program = load_trained(name)
    with torch.no_grad():
        written = messages(program.model, program.inputs)
    spread = written.var(dim=1).sum(dim=2).mean(dim=1).sqrt()
    used = {edge.source for edge in program.circuit}
    sources = graph_of(program.model).sources
    idle = torch.tensor([source not in used for source in sources])
    assert float(spread[idle].min()) > 0.5


@pytest.mark.parametrize("name", trained_names()[:2])
def test_the_finder_ranks_true_edges_first(name: str) -> None:
    """Oracle: the stored circuit."""
    program = load_trained(name)
    found = find_edges(program.model, task_of(program, 32))
    assert not bool(found.known.all())
    assert roc_auc_score(found.graph.mask(program.circuit), found.scores) >= 0.985


def test_one_set_of_edges_for_each_row(train) -> None:
    """Identity: rows with their own sets of edges are those of one set at a time."""
    program = load_program("sort")
    model, task = program.model.requires_grad_(False), task_of(program, 6)
    graph = graph_of(model)
    masks = torch.rand(6, len(graph.edges), generator=torch.Generator().manual_seed(0)) < 0.3
    replaced = messages(model, task.corrupted)
    rows = train.intervened(model, graph, task.clean, replaced, masks)
    sets = ablated(model, graph, task.clean, replaced, masks)
    torch.testing.assert_close(rows, sets.diagonal().permute(2, 0, 1))
    assert float((rows - model(task.clean)).abs().max()) > 0.1


def test_training_repeats(train) -> None:
    """Identity: the same seed, the same weights; another, others."""
    program = load_program("repeated")
    how = [train.Training(num_layers=2, seed=seed, num_steps=2) for seed in (0, 0, 1)]
    (first, circuit), (again, same), (other, _) = (train.trained(program, h) for h in how)
    assert circuit == same
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert not torch.equal(first.token, other.token)
    assert not train.passes(train.measured(program, first.double(), circuit))


def test_what_was_not_trained_is_named() -> None:
    """Identity: one clear line."""
    with pytest.raises(LerayError, match=r"no trained model 'frist'.*did you mean 'first'"):
        load_trained("frist")

"""Edges ablated, in sets and one by one."""

from __future__ import annotations

from inspect import unwrap

import pytest
import torch

from leray.circuits.ablation import ABLATIONS, Ablation, Task, ablated, divergence, replacement
from leray.circuits.graph import Edge, graph_of
from leray.circuits.patching import clean_run, local_changes, patched, read_norms
from leray.circuits.plain import rotated
from leray.data.planted import load_program, task_of
from leray.errors import LerayError


def test_every_source_reaches_every_later_target() -> None:
    """Oracle: counted by hand for two layers of two heads."""
    graph = graph_of(load_program("pair-balance").model)
    assert graph.num_before == (2,) * 6 + (4,) + (5,) * 6 + (7, 8)
    assert len(graph.edges) == 61
    assert Edge("layers.0.mlp", "layers.1.heads.1.key") in graph.edges
    assert Edge("layers.1.heads.0", "layers.1.heads.1.key") not in graph.edges
    pairs = graph.by_pairs(torch.arange(1, 62))
    assert sorted(pairs[pairs > 0].tolist()) == list(range(1, 62))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_one_by_one_is_a_set_of_one(ablation: Ablation) -> None:
    """Oracle: the run of the whole model with one edge masked, on a rotated stream."""
    program = load_program("count-of-last")
    model = rotated(program.model, torch.Generator().manual_seed(2))
    task = task_of(program, 12)
    with torch.no_grad():
        run = clean_run(model, task)
        replaced = replacement(model, task, ablation, run.written)
        masks = torch.eye(len(run.graph.edges), dtype=torch.bool)
        outputs = ablated(model, run.graph, task.clean, replaced, masks)
        wanted = divergence(outputs, model(task.clean), task).mean(dim=-1)
    effects = patched(run, task, replaced[None])
    torch.testing.assert_close(effects[0], wanted, rtol=1e-9, atol=1e-12)
    some = masks[3:4] | masks[40]
    torch.testing.assert_close(patched(run, task, replaced[None], some), effects * some)
    felt = local_changes(run, replaced[None], torch.ones_like(effects, dtype=torch.bool))
    for norms in (felt, read_norms(run, replaced[None])):
        assert float(effects[norms < 1e-6].max()) < 1e-9
        assert int((norms < 1e-6).sum()) > 50


def test_no_edge_and_every_edge() -> None:
    """Identity: none ablated is the clean run, all of them the corrupted one."""
    program = load_program("sort")
    task = task_of(program, 12)
    with torch.no_grad():
        run = clean_run(program.model, task)
        replaced = replacement(program.model, task, "resample", run.written)
        none = torch.zeros(1, len(run.graph.edges), dtype=torch.bool)
        for mask, tokens in ((none, task.clean), (~none, task.corrupted)):
            outputs = ablated(program.model, run.graph, task.clean, replaced, mask)[0]
            torch.testing.assert_close(outputs, program.model(tokens))


def test_what_does_not_fit_is_named() -> None:
    """Identity: one clear line each."""
    program = load_program("first")
    task = task_of(program)
    with pytest.raises(LerayError, match="must have one shape"):
        Task(task.clean, task.corrupted[:3], task.counted)
    with pytest.raises(LerayError, match="a place where its output counts"):
        Task(task.clean, task.corrupted, task.counted & False)
    with torch.no_grad():
        run = clean_run(program.model, task)
    with pytest.raises(LerayError, match="resample, mean, zero; got 'noise'"):
        unwrap(replacement)(program.model, task, "noise", run.written)
    with pytest.raises(LerayError, match=r"no edge 'token → outputs'.*mean 'token → output'"):
        run.graph.mask([Edge("token", "outputs")])

"""Edges ranked by gradients in narrower and narrower circuits."""

from __future__ import annotations

import pytest
import torch
from test_llama import CLASSES, drawn

from leray.circuits import ranking
from leray.circuits.ablation import ablated, divergence, replacement
from leray.circuits.attribution import ig_within
from leray.circuits.faithfulness import faithfulness, smallest
from leray.circuits.llama import Llama
from leray.circuits.patching import clean_run, patched
from leray.circuits.ranking import rank_edges
from leray.data.planted import load_program, task_of
from leray.errors import LerayError


def test_identity_what_a_circuits_edges_keep_adds_up_to_what_it_keeps():
    """The sum of gradients along the line is D(all ablated) − D(all but the circuit)."""
    model, task = drawn()
    nodes = Llama(model, CLASSES)
    with torch.no_grad():
        run = clean_run(nodes, task)
        replaced = replacement(nodes, task, "resample", run.written)
    circuit = torch.rand(len(run.graph.edges), generator=torch.Generator().manual_seed(1)) < 0.5
    masks = torch.stack([torch.ones_like(circuit), ~circuit])
    outputs = ablated(nodes, run.graph, task.clean, replaced, masks)
    every, rest = divergence(outputs, run.outputs_of_all(), task).mean(dim=1).tolist()
    found = ig_within(run, task, replaced, circuit, 100)
    assert not found[~circuit].any()
    assert abs(every - rest) > 0.1
    assert float(found.sum()) == pytest.approx(every - rest, rel=0.01)


def test_inputs_in_parts_give_the_same(monkeypatch):
    """Identity: one input at a time or all at once."""
    model, task = drawn()
    nodes = Llama(model, CLASSES)
    whole = rank_edges(nodes, task, share=0.5, num_patched=5)
    monkeypatch.setattr(ranking, "AT_ONCE", 1)
    parts = rank_edges(nodes, task, share=0.5, num_patched=5)
    torch.testing.assert_close(parts.attributed, whole.attributed, rtol=1e-3, atol=1e-5)
    assert torch.equal(parts.scores.argsort()[-20:], whole.scores.argsort()[-20:])


def test_oracle_the_best_edges_are_patched_and_scores_are_an_order():
    model, task = drawn()
    nodes = Llama(model, CLASSES)
    found = rank_edges(nodes, task, "mean", num_patched=7)
    best = found.scores.argsort(descending=True)[:7]
    run = clean_run(nodes, task)
    exact = patched(run, task, replacement(nodes, task, "mean", run.written)[None])[0]
    torch.testing.assert_close(found.effects[best], exact[best])
    assert int((found.effects != 0).sum()) <= 7
    num = len(found.scores)
    expected = (num - torch.arange(num)).float() / num
    torch.testing.assert_close(found.scores.sort(descending=True).values, expected)


def test_a_planted_circuit_ranks_first():
    """Oracle: by zero ablation the program's edges alone keep all that it does."""
    program = load_program("sort")
    task = task_of(program, most=64)
    model = program.model.requires_grad_(False)
    found = rank_edges(model, task, "zero", share=1.0)
    curve = faithfulness(model, task, found.scores, ablation="zero")
    size = smallest(model, task, found.scores, curve, 0.99, "zero")
    assert size <= len(program.circuit)
    best = found.scores.argsort(descending=True)[:size]
    assert bool(found.graph.mask(program.circuit)[best].all())


def test_a_saturated_softmax_is_not_seen():
    """What the documents say it cannot do: `reverse` needs 11 edges, and far more are ranked so."""
    program = load_program("reverse")
    task = task_of(program, most=64)
    model = program.model.requires_grad_(False)
    found = rank_edges(model, task, "zero", share=1.0)
    curve = faithfulness(model, task, found.scores, ablation="zero")
    assert smallest(model, task, found.scores, curve, 0.99, "zero") > 4 * len(program.circuit)


def test_what_cannot_be_ranked():
    model, task = drawn()
    nodes = Llama(model, CLASSES)
    with pytest.raises(LerayError, match=r"share must lie in \(0, 1\]; got 0"):
        rank_edges(nodes, task, share=0.0)
    model.model.embed_tokens.weight[:] = float("nan")
    with pytest.raises(LerayError, match="puts out what is not a number"):
        rank_edges(nodes, task)

"""The finder, where the answer is known."""

from __future__ import annotations

import pytest
import torch

from leray.circuits import finder
from leray.circuits.ablation import replacements
from leray.circuits.backups import copies_of, with_backups
from leray.circuits.finder import find_edges
from leray.circuits.graph import Edge
from leray.circuits.patching import clean_run, patched
from leray.circuits.plain import rotated
from leray.data.planted import load_program, program_names, task_of
from leray.errors import LerayError

SMALL = [name for name in program_names() if name != "shuffle-dyck-2"]
PICKING = [("first", 0), ("reverse", 3), ("sort-distinct", 1), ("shift", 0)]


@pytest.mark.parametrize("name", SMALL)
def test_a_planted_circuit_is_found(name: str) -> None:
    """Oracle: the circuit of the program, on a rotated stream."""
    program = load_program(name)
    model = rotated(program.model, torch.Generator().manual_seed(4))
    found = find_edges(model, task_of(program, 64))
    assert torch.equal(found.circuit, found.graph.mask(program.circuit))
    assert found.groups == ()


def test_a_score_is_the_effect_of_exact_patching() -> None:
    """Oracle: every edge under every ablation, where one ablation showed something."""
    program = load_program("sort-by-frequency")
    task = task_of(program, 32)
    found = find_edges(program.model, task)
    with torch.no_grad():
        run = clean_run(program.model, task)
        effects = patched(run, task, replacements(program.model, task, run.written))
    apart = (effects - found.scores).abs().amin(dim=0)
    assert float(apart[found.circuit].max()) < 1e-9
    assert float(effects.amax(dim=0)[~found.circuit].max()) <= found.nothing


def test_few_runs_go_to_what_gradients_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity: edges are patched up to the budget, and the others keep an attribution."""
    program = load_program("shuffle-dyck")
    task = task_of(program, 32)
    moved = rotated(program.model, torch.Generator().manual_seed(5))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(6)
        for w in moved.parameters():
            noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
            w.add_(1e-4 * w.square().mean().sqrt() * noise)
    monkeypatch.setattr(finder, "PASS", 20)
    found = find_edges(moved, task, num_steps=2)
    assert not bool(found.known.all())
    true = found.graph.mask(program.circuit)
    assert float(found.scores[true].min()) > float(found.scores[~true].max())


@pytest.mark.parametrize(("name", "layer"), PICKING)
@pytest.mark.parametrize("num_copies", [2, 3])
def test_backups_are_found(name: str, layer: int, num_copies: int) -> None:
    """Oracle: the circuit with all copies, of which exact patching sees few or none."""
    program = load_program(name)
    model, circuit = with_backups(
        program.model, program.circuit, program.inputs, layer=layer, head=0, num_copies=num_copies
    )
    found = find_edges(rotated(model, torch.Generator().manual_seed(7)), task_of(program, 64))
    assert torch.equal(found.circuit, found.graph.mask(circuit))
    copies = copies_of(layer, 0, program.model.blocks[layer].heads.number, num_copies)
    assert tuple(Edge(copy, f"layers.{layer}.mlp") for copy in copies) in found.groups


def test_what_does_not_fit_is_named() -> None:
    """Identity: one clear line."""
    program = load_program("first")
    with pytest.raises(LerayError, match=r"budget must lie in \(0, 1\]; got 0"):
        find_edges(program.model, task_of(program), budget=0.0)

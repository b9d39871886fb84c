"""Copies of a head of which any one may go."""

from __future__ import annotations

import pytest
import torch

from leray.circuits.ablation import ABLATIONS, ablated, divergence, replacement
from leray.circuits.backups import copies_of, with_backups
from leray.circuits.graph import Edge
from leray.circuits.patching import clean_run, patched
from leray.data.planted import load_program, task_of
from leray.errors import LerayError

PICKING = [("first", 0), ("reverse", 3), ("sort", 2), ("sort-distinct", 1), ("detect-pattern", 1)]


@pytest.mark.parametrize(("name", "layer"), PICKING)
@pytest.mark.parametrize("num_copies", [2, 3])
def test_one_copy_may_go_and_not_all(name: str, layer: int, num_copies: int) -> None:
    """Identity: the same function; two copies hide from removal, three from any ablation."""
    program = load_program(name)
    model, circuit = with_backups(
        program.model, program.circuit, program.inputs, layer=layer, head=0, num_copies=num_copies
    )
    task = task_of(program, 64)
    copies = copies_of(layer, 0, program.model.blocks[layer].heads.number, num_copies)
    with torch.no_grad():
        clean = model(task.clean)
        torch.testing.assert_close(clean, program.model(task.clean), rtol=0, atol=1e-4)
        run = clean_run(model, task)
        true = run.graph.mask(circuit)
        written = run.graph.mask([Edge(copy, f"layers.{layer}.mlp") for copy in copies])
        touched = run.graph.mask(
            e for e in circuit if e.source in copies or e.target.rpartition(".")[0] in copies
        )
        for ablation in ABLATIONS:
            replaced = replacement(model, task, ablation, run.written)
            effects = patched(run, task, replaced[None])[0]
            hidden = touched if num_copies == 3 else written & (ablation == "zero")
            assert float(effects[hidden].sum()) < 1e-6
            sets = torch.stack([written, ~true])
            outputs = ablated(model, run.graph, task.clean, replaced, sets)
            together, others = divergence(outputs, clean, task).mean(dim=-1).tolist()
            assert together > 0.1
            assert others < 1e-6


def test_a_head_that_mixes_has_no_vote() -> None:
    """Identity: one clear line each."""
    program = load_program("histogram")
    with pytest.raises(LerayError, match=r"mixes values.*choose another"):
        with_backups(program.model, program.circuit, program.inputs, layer=0, head=0)
    with pytest.raises(LerayError, match="at least 2; got 1"):
        with_backups(program.model, program.circuit, program.inputs, layer=0, head=0, num_copies=1)

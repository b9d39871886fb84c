"""The circuits that are stored, by two ways that share little."""

from __future__ import annotations

import pytest
import torch

from leray.circuits.ablation import ABLATIONS, ablated, divergence, replacement
from leray.circuits.influence import known_circuit
from leray.circuits.patching import clean_run, patched
from leray.circuits.plain import rotated
from leray.data.planted import load_program, program_names, task_of

SMALL = [name for name in program_names() if not name.startswith("shuffle-dyck")]


@pytest.mark.parametrize("name", SMALL)
def test_a_stored_circuit_is_felt_needed_and_enough(name: str) -> None:
    """Oracle: node by node on a rotated stream; each edge ablated; all others ablated at once."""
    program = load_program(name)
    model, task = rotated(program.model, torch.Generator().manual_seed(3)), task_of(program, 81)
    with torch.no_grad():
        run = clean_run(model, task)
        circuit = run.graph.mask(program.circuit)
        assert torch.equal(known_circuit(model, task), circuit)
        needed = torch.zeros_like(circuit)
        for ablation in ABLATIONS:
            replaced = replacement(model, task, ablation, run.written)
            needed |= patched(run, task, replaced[None])[0] > 1e-3
            others = ablated(model, run.graph, task.clean, replaced, ~circuit[None])[0]
            assert float(divergence(others, model(task.clean), task).max()) < 1e-6
    assert torch.equal(needed, circuit)


def test_a_selector_that_is_always_true_reads_nothing() -> None:
    """Oracle: the program of length, worked out by hand."""
    wired = {str(edge) for edge in load_program("length").circuit}
    assert wired == {
        "token → layers.0.heads.0.value", "token → layers.0.mlp",
        "layers.0.heads.0 → layers.0.mlp", "layers.0.mlp → output",
    }  # fmt: skip

"""ACDC does what its paper says, where the circuit is known."""

from __future__ import annotations

import pytest
import torch
from test_decoder import CLASSES, drawn

from leray.circuits.acdc import acdc
from leray.circuits.backups import copies_of, with_backups
from leray.circuits.decoder import Decoder
from leray.circuits.faithfulness import kept
from leray.circuits.graph import graph_of
from leray.data.planted import load_program, program_names, task_of
from leray.errors import LerayError

SMALL = [name for name in program_names() if not name.startswith("shuffle-dyck")]


@pytest.mark.parametrize("name", SMALL)
def test_oracle_planted_circuits_are_recovered(name):
    """The paper's section on Tracr: by zero ablation every edge of the program and no other."""
    program = load_program(name)
    found = acdc(program.model, task_of(program, 32), 1e-6, "zero")
    assert torch.equal(found, graph_of(program.model).mask(program.circuit))


@pytest.mark.parametrize("name", ["first", "reverse", "sort", "shift"])
def test_what_does_not_change_is_not_missed(name):
    """Identity: other inputs have the same places, so by resample what reads places goes."""
    program = load_program(name)
    graph = graph_of(program.model)
    true = graph.mask(program.circuit)
    found = acdc(program.model, task_of(program, 32), 1e-6)
    assert not bool((found & ~true).any())
    assert not any(graph.edges[i].source == "position" for i in found.nonzero()[:, 0])
    assert any(edge.source == "position" for edge in program.circuit)


def test_a_higher_threshold_keeps_fewer_edges_and_less():
    """Identity, on a decoder: what stays stays faithful up to the number of drops times τ."""
    model, task = drawn()
    decoder = Decoder(model, CLASSES)
    found = [acdc(decoder, task, t) for t in (1e-6, 1e-1, 1e9)]
    sizes = [int(f.sum()) for f in found]
    assert sizes[0] > sizes[1] > sizes[2] == 0
    values = kept(decoder, task, torch.stack(found), "resample").tolist()
    assert values[0] > 0.999
    assert values[1] > values[2] == pytest.approx(0, abs=1e-9)


def test_of_two_backups_one_stays():
    """The paper's limitation: either copy is enough, so that the first one tried is dropped."""
    program = load_program("reverse")
    model, circuit = with_backups(
        program.model, program.circuit, program.inputs, layer=3, head=0, num_copies=2
    )
    graph = graph_of(model)
    found = acdc(model, task_of(program, 32), 1e-6, "zero")
    copies = copies_of(3, 0, program.model.blocks[3].heads.number, 2)
    told = [
        any(e.source == c for e, f in zip(graph.edges, found, strict=True) if f) for c in copies
    ]
    assert told == [True, False]
    assert all(any(e.source == c for e in circuit) for c in copies)


def test_no_threshold():
    program = load_program("first")
    with pytest.raises(LerayError, match="threshold must be above 0; got 0"):
        acdc(program.model, task_of(program, 8), 0.0)

"""Circuits by elimination."""

from __future__ import annotations

import pytest
import torch
from test_decoder import CLASSES, drawn

from leray.circuits.decoder import Decoder
from leray.circuits.elimination import FIRST, eliminate_edges, eliminated
from leray.circuits.faithfulness import faithfulness, kept, smallest
from leray.data.planted import load_program, task_of


@pytest.mark.parametrize("name", ["sort", "reverse"])
def test_oracle_out_of_a_random_order_as_many_as_the_true_edges_keep_everything(name):
    """Only the first circuit is given, with the true edges somewhere in it. Under one ablation not
    all of them are needed; each that is, is among the first."""
    program = load_program(name)
    task = task_of(program, most=64)
    graph = eliminate_edges(program.model, task).graph
    true = graph.mask(program.circuit)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(len(true), generator=generator, dtype=torch.float64)
    scores[true] *= 1 - FIRST / 2
    number = round(FIRST * len(true))
    within = torch.where(true, 2.0 + scores, scores)
    spare = (~true).nonzero()[: number - int(true.sum()), 0]
    within[spare] = 2.0 + torch.rand(len(spare), generator=generator, dtype=torch.float64)
    found = eliminated(program.model, task, within, "resample")
    assert sorted(found.tolist()) == pytest.approx([(i + 1) / len(true) for i in range(len(true))])
    circuit = found > 1 - int(true.sum()) / len(true) - 1e-9
    assert float(kept(program.model, task, circuit[None], "resample")) == pytest.approx(1)
    alone = kept(program.model, task, ~torch.eye(len(true), dtype=torch.bool), "resample")
    assert bool(circuit[alone < 1 - 1e-9].all())


def test_of_a_trained_model_no_more_edges_are_needed_than_gradients_ask_for():
    model, task = drawn()
    decoder = Decoder(model, CLASSES)
    found = eliminate_edges(decoder, task)
    sizes = []
    for scores in (found.scores, found.attributed):
        curve = faithfulness(decoder, task, scores)
        sizes.append(smallest(decoder, task, scores, curve, 0.9))
    assert sizes[0] <= sizes[1]
    assert torch.equal(found.scores, eliminate_edges(decoder, task).scores)

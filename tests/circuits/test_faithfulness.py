"""What a circuit keeps."""

from __future__ import annotations

import pytest
import torch
from test_decoder import CLASSES, drawn

from leray.circuits.ablation import ABLATIONS
from leray.circuits.decoder import Decoder
from leray.circuits.faithfulness import Curve, faithfulness, kept, smallest
from leray.circuits.finder import find_edges
from leray.data.planted import load_program, task_of
from leray.errors import LerayError


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_oracle_a_planted_circuit_keeps_everything_and_nothing_less_does(ablation):
    program = load_program("sort")
    task = task_of(program, most=64)
    found = find_edges(program.model, task)
    true = found.graph.mask(program.circuit)
    none, every = torch.zeros_like(true), torch.ones_like(true)
    values = kept(program.model, task, torch.stack([none, true, every]), ablation)
    torch.testing.assert_close(values, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64))
    curve = faithfulness(program.model, task, found.scores, ablation=ablation)
    assert curve.sizes[-1] == len(true)
    assert curve.values[-1] == pytest.approx(1)
    generator = torch.Generator().manual_seed(0)
    chance = faithfulness(
        program.model, task, torch.rand(len(true), generator=generator), ablation=ablation
    )
    assert curve.cmd < chance.cmd
    assert curve.cpr > chance.cpr


def test_areas_by_hand():
    curve = Curve((1, 2, 4), (0.5, 0.95, 1.0))
    assert curve.cpr == pytest.approx((0.25 + 0.725 + 2 * 0.975) / 4)
    assert curve.cmd == pytest.approx((0.75 + 0.275 + 2 * 0.025) / 4)


def test_the_smallest_circuit_is_the_planted_one():
    """Between two sizes of the curve; one edge fewer keeps less."""
    program = load_program("sort")
    task = task_of(program, most=64)
    scores = find_edges(program.model, task).scores
    curve = faithfulness(program.model, task, scores)
    assert len(program.circuit) not in curve.sizes
    assert smallest(program.model, task, scores, curve, 0.9) == len(program.circuit)


def test_a_trained_models_curve_ends_at_one():
    model, task = drawn()
    found = find_edges(Decoder(model, CLASSES), task)
    curve = faithfulness(Decoder(model, CLASSES), task, found.scores, ablation="mean")
    assert curve.values[-1] == pytest.approx(1)


def test_what_cannot_be_measured():
    model, task = drawn()
    model.embedding.weight[:] = float("nan")
    every = torch.ones(1, 99, dtype=torch.bool)
    with pytest.raises(LerayError, match="puts out what is not a number"):
        kept(Decoder(model, CLASSES), task, every, "zero")

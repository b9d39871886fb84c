"""Trained decoders as nodes."""

from __future__ import annotations

import pytest
import torch

from leray.circuits.ablation import ABLATIONS, Task, ablated, messages, replacements
from leray.circuits.decoder import Decoder
from leray.circuits.finder import find_edges
from leray.circuits.patching import clean_run, patched
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.model import Model

CLASSES = (2, 5, 7)
SWITCHES = {
    "plain": {},
    "windows and a gate": {"windows": (3, 0), "feedforward": "swiglu"},
    "coboundary": {"mixing": "coboundary", "feedforward": "cup"},
    "convolution": {"mixing": "convolution"},
}


def drawn(**more):
    config = ModelConfig(num_tokens=11, width=16, num_layers=2, num_heads=2, **more)
    model = Model(config, torch.Generator().manual_seed(0)).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    tokens = torch.randint(11, (6, 7), generator=generator)
    counted = torch.zeros(6, 7, dtype=torch.bool)
    counted[torch.arange(6), torch.tensor([6, 6, 4, 5, 6, 3])] = True
    return model, Task(tokens, tokens.roll(1, dims=0), counted)


@pytest.mark.parametrize("name", SWITCHES)
def test_oracle_the_nodes_compute_what_the_model_does(name):
    """All at once, and as the sum of their messages."""
    model, task = drawn(**SWITCHES[name])
    logits = model(task.clean)[..., CLASSES]
    decoder = Decoder(model, CLASSES)
    expected = logits - logits.mean(dim=-1, keepdim=True)
    torch.testing.assert_close(decoder(task.clean), expected)
    summed = decoder.output(messages(decoder, task.clean).sum(dim=0))
    torch.testing.assert_close(summed, expected)


@pytest.mark.parametrize("name", SWITCHES)
def test_oracle_patching_is_ablation_of_one_edge(name):
    """From the edge's target on, and by a whole run with one edge ablated."""
    model, task = drawn(**SWITCHES[name])
    decoder = Decoder(model, CLASSES)
    run = clean_run(decoder, task)
    every = replacements(decoder, task, run.written)
    found = patched(run, task, every)
    masks = torch.eye(len(run.graph.edges), dtype=torch.bool)
    clean = run.outputs_of_all()
    weights = task.counted / task.counted.sum(dim=1, keepdim=True)
    for i, _ in enumerate(ABLATIONS):
        outputs = ablated(decoder, run.graph, task.clean, every[i], masks)
        away = (outputs - clean).square().sum(dim=-1) * weights
        torch.testing.assert_close(found[i], away.sum(dim=-1).mean(dim=-1))


def test_the_edges_that_matter_are_found_first():
    """The ten that exact patching says matter most are patched by the finder too, and all show."""
    model, task = drawn()
    decoder = Decoder(model, CLASSES)
    run = clean_run(decoder, task)
    exact = patched(run, task, replacements(decoder, task, run.written)).amax(dim=0)
    found = find_edges(decoder, task, budget=1.0)
    best = exact.argsort(descending=True)[:10]
    assert bool(found.known[best].all())
    assert float(found.scores[best].min()) > found.nothing


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"gated": True}, "this model has gated: train one without"),
        ({"recurrent": (True, False)}, "this model has recurrent"),
    ],
)
def test_models_that_are_no_sum_of_nodes(more, told):
    with pytest.raises(LerayError, match=told):
        Decoder(drawn(**more)[0], CLASSES)


def test_classes_and_tokens_that_there_are_not():
    model, task = drawn()
    for classes in ((2,), (2, 11)):
        with pytest.raises(LerayError, match="two or more tokens of 0 to 10"):
            Decoder(model, classes)
    with pytest.raises(LerayError, match="the vocabulary is 0 to 10"):
        Decoder(model, CLASSES)(task.clean + 9)

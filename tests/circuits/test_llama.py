"""Llama-type models of transformers as nodes."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from leray.circuits.ablation import ABLATIONS, Task, ablated, messages, replacements
from leray.circuits.faithfulness import kept
from leray.circuits.graph import graph_of
from leray.circuits.llama import Llama
from leray.circuits.patching import clean_run, patched
from leray.errors import LerayError

CLASSES = (2, 5, 7)
SHAPES = {
    "grouped queries": {"num_attention_heads": 6, "num_key_value_heads": 2},
    "one key for all": {"num_attention_heads": 3, "num_key_value_heads": 1},
    "a key each": {"num_attention_heads": 2, "num_key_value_heads": 2},
    "untied, wide heads, biases": {
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "mlp_bias": True,
        "tie_word_embeddings": False,
    },
    "scaled rotation": {
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
    },
}  # fmt: skip


def drawn(name="grouped queries", **more):
    """A tiny model with weights large enough that attention chooses, and a task."""
    config = LlamaConfig(
        **{
            "vocab_size": 11, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
            "tie_word_embeddings": True, **SHAPES[name], **more,
        }
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for p in model.parameters():
        p.copy_(torch.randn(p.shape, generator=generator) * (0.4 if p.dim() > 1 else 0.2) + (
            p.dim() == 1
        ))  # fmt: skip
    tokens = torch.randint(11, (5, 7), generator=generator)
    counted = torch.zeros(5, 7, dtype=torch.bool)
    counted[torch.arange(5), torch.tensor([6, 5, 6, 3, 6])] = True
    return model, Task(tokens, tokens.roll(1, dims=0), counted)


def centred(logits):
    chosen = logits[..., CLASSES]
    return chosen - chosen.mean(dim=-1, keepdim=True)


@pytest.mark.parametrize("name", SHAPES)
def test_oracle_the_nodes_compute_what_transformers_does(name):
    """All at once, as the sum of messages, with every head's inputs apart, and one head alone."""
    model, task = drawn(name)
    nodes, expected = Llama(model, CLASSES), centred(model(task.clean).logits)
    assert expected.std() > 0.1
    torch.testing.assert_close(nodes(task.clean), expected)
    written = messages(nodes, task.clean)
    torch.testing.assert_close(nodes.output(written.sum(dim=0)), expected)
    none = torch.zeros(1, len(graph_of(nodes).edges), dtype=torch.bool)
    apart = ablated(nodes, graph_of(nodes), task.clean, written * 0, none)
    torch.testing.assert_close(apart[0], expected)
    x, heads = written[0], nodes.blocks[0].heads
    for h in range(heads.number):
        torch.testing.assert_close(heads.one(h, x, x, x), written[1 + h])


def test_oracle_gradients_are_those_of_transformers():
    """In the embeddings, of a sum of outputs that weighs each differently."""
    model, task = drawn()
    weights = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(3))
    found = []
    for run in (Llama(model, CLASSES), lambda x: centred(model(x).logits)):
        model.model.embed_tokens.weight.requires_grad_(True)
        loss = (run(task.clean) * weights).sum()
        found.append(torch.autograd.grad(loss, model.model.embed_tokens.weight)[0])
    assert found[0].abs().max() > 0.1
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_oracle_patching_is_ablation_of_one_edge(name):
    """From the edge's target on, and by a whole run with one edge ablated."""
    model, task = drawn(name)
    nodes = Llama(model, CLASSES)
    run = clean_run(nodes, task)
    every = replacements(nodes, task, run.written)
    found = patched(run, task, every)
    masks = torch.eye(len(run.graph.edges), dtype=torch.bool)
    clean = run.outputs_of_all()
    weights = task.counted / task.counted.sum(dim=1, keepdim=True)
    for i, _ in enumerate(ABLATIONS):
        outputs = ablated(nodes, run.graph, task.clean, every[i], masks)
        away = (outputs - clean).square().sum(dim=-1) * weights
        expected = away.sum(dim=-1).mean(dim=-1)
        assert expected.max() > 1e-3
        torch.testing.assert_close(found[i], expected, rtol=1e-3, atol=1e-6)


def test_weights_are_shared_not_copied():
    """The nodes of a model are its own tensors, the tied one too."""
    model, _ = drawn()
    own = {p.data_ptr() for p in model.parameters()}
    nodes = Llama(model, CLASSES)
    assert {p.data_ptr() for p in nodes.parameters()} == own
    assert nodes.embedding.weight is nodes.head.weight


def test_what_is_no_sum_of_nodes_or_no_number():
    model, task = drawn()
    for classes in ((2,), (2, 11), (2, 2)):
        with pytest.raises(LerayError, match="two or more tokens of 0 to 10, each once"):
            Llama(model, classes)
    with pytest.raises(LerayError, match="the vocabulary is 0 to 10"):
        Llama(model, CLASSES)(task.clean + 9)
    with pytest.raises(LerayError, match="attention has biases: none of its heads writes them"):
        Llama(drawn(attention_bias=True)[0], CLASSES)
    dict(model.named_parameters())["model.layers.1.mlp.up_proj.weight"][0] = float("nan")
    masks = torch.ones(1, len(graph_of(Llama(model, CLASSES)).edges), dtype=torch.bool)
    with pytest.raises(LerayError, match="puts out what is not a number"):
        kept(Llama(model, CLASSES), task, masks, "zero")

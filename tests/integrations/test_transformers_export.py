"""Models for transformers: what it loads is the model, its losses, its tokens and its text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    set_seed,
)

from leray.cli import main
from leray.errors import LerayError
from leray.integrations.export import export, tokenizer_of
from leray.integrations.transformers import LerayConfig, LerayForCausalLM, starts_of
from leray.lm.config import ModelConfig
from leray.lm.generation import generated
from leray.lm.model import Model
from leray.train.checkpoint import Trained, load_trained, save_trained
from leray.train.evaluation import document_losses
from leray.train.text import Document
from leray.train.tokens import Vocabulary, streams_of, vocabulary_of

CONTEXT = 16
INGREDIENTS = [
    {},
    {"windows": (4, 0), "transitions": "exact", "values": "residual", "routing": True},
    {"positions": "transport", "stalk": 4, "mixing": "convolution", "memory_block": 4},
    {"windows": (4,), "gluing": True, "values": "tied_disagreement", "mixing": "coboundary"},
]
SENTENCE = "the quick brown fox jumps over the lazy dog. "


def drawn(**shape) -> Model:
    """A model none of whose weights is zero, so that every one of them counts."""
    g = torch.Generator().manual_seed(1)
    config = ModelConfig(num_tokens=256, **{"width": 32, **shape})
    model = Model(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g))
    return model


def exported(folder: Path, model: Model, vocabulary: Vocabulary | None = None) -> Path:
    save_trained(folder / "run", Trained(model, vocabulary or Vocabulary(), CONTEXT, {}))
    export(folder / "run", folder / "out")
    return folder / "out"


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """A model, and what transformers makes of it."""
    model = drawn()
    folder = exported(tmp_path_factory.mktemp("tiny"), model)
    return model, loaded(folder), folder


def tokens_of(num: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        1, 256, (num, length), generator=torch.Generator().manual_seed(seed), dtype=torch.int64
    )


def test_golden_run_of_training_export_and_generation(tmp_path, monkeypatch, capsys):
    """The commands, the files that they leave, and the same text from both programs."""
    monkeypatch.setenv("LERAY_HOME", str(tmp_path / "home"))
    (tmp_path / "texts").mkdir()
    for i in range(40):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"{i}: {SENTENCE * 3}")
    (tmp_path / "c.toml").write_text(
        "[model]\nwidth = 32\nnum_layers = 1\n[data]\ncontext = 16\n"
        f"text = '{tmp_path}/texts'\n[schedule]\nnum_steps = 80\ninterval = 80\n"
    )
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["lm", "train", str(tmp_path / "c.toml"), "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["lm", "export", str(run), "--out", str(out), "--json"]) == 0
    told, said = capsys.readouterr()
    assert f"exported to {out}" in said
    assert json.loads(told)["folder"] == str(out)
    assert json.loads(told)["config"]["shape"]["width"] == 32
    assert {p.name for p in out.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    ours = load_trained(run)
    theirs = loaded(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    prompt = tokenizer(tokenizer.bos_token + "the q", return_tensors="pt")
    found = theirs.generate(**prompt, max_new_tokens=40, do_sample=False)[0, 6:].tolist()
    draws = torch.Generator()
    wanted = list(generated(ours.model, prompt.input_ids[0], 40, 16, draws, temperature=0.0))
    assert found == wanted
    assert tokenizer.decode(found) == ours.vocabulary.decode(wanted)
    assert len(set(found)) > 2
    assert main(["lm", "export", str(run), "--out", str(out)]) == 1
    assert "is not empty: give --out" in capsys.readouterr().err


@pytest.mark.parametrize("shape", INGREDIENTS, ids=str)
def test_there_and_back_and_padded(tmp_path, shape):
    """Identity: the same logits, also after a second round, and wherever a row is padded."""
    model = drawn(**shape)
    once = exported(tmp_path, model)
    loaded(once).save_pretrained(tmp_path / "again")
    theirs = loaded(tmp_path / "again").eval()
    assert isinstance(theirs, LerayForCausalLM)
    assert theirs.config.model_config() == model.config
    x = tokens_of(3, 11)
    wanted = model(x)
    torch.testing.assert_close(theirs(x).logits, wanted, rtol=0, atol=0)
    left = torch.tensor([3, 0, 5])
    padded, mask = torch.zeros(3, 16, dtype=torch.int64), torch.zeros(3, 16, dtype=torch.int64)
    for i, n in enumerate(left.tolist()):
        padded[i, n : n + 11], mask[i, n : n + 11] = x[i], 1
    found = theirs(padded, attention_mask=mask).logits
    for i, n in enumerate(left.tolist()):
        torch.testing.assert_close(found[i, n : n + 11], wanted[i])
    last = theirs(padded, attention_mask=mask, logits_to_keep=2).logits
    torch.testing.assert_close(last, found[:, -2:], rtol=0, atol=0)
    places = theirs(padded, attention_mask=mask, logits_to_keep=torch.tensor([7])).logits
    torch.testing.assert_close(places, found[:, [7]], rtol=0, atol=0)


def test_embeddings_stay_one_tensor(tiny, tmp_path):
    _, theirs, folder = tiny
    theirs.save_pretrained(tmp_path)
    again = loaded(tmp_path)
    assert again.get_input_embeddings().weight is again.get_output_embeddings().weight
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert [n for n in names if "embed" in n or "head" in n] == ["model.embedding.weight"]
    x = tokens_of(1, 5)
    before = again(x).logits.detach()
    with torch.no_grad():  # what is written through one name is read through the other
        again.get_output_embeddings().weight[7] += 1
    after = again(torch.tensor([[7, 7]])).logits
    assert not torch.equal(after, tiny[1](torch.tensor([[7, 7]])).logits)
    assert not torch.equal(again(x).logits[..., 7], before[..., 7])
    assert AutoConfig.from_pretrained(folder).tie_word_embeddings


def test_labels_give_the_loss_of_training(tiny):
    """Oracle: `Model.loss` on inputs and targets that are shifted beforehand."""
    ours, theirs, _ = tiny
    x = tokens_of(2, 12)
    wanted = ours.loss(x[:, :-1], x[:, 1:])
    torch.testing.assert_close(theirs(x, labels=x).loss, wanted)
    hidden = x.clone()
    hidden[0, :9] = -100
    kept = [ours(x[:1, :-1])[0, 8:], ours(x[1:, :-1])[0]]
    targets = torch.cat([x[0, 9:], x[1, 1:]])
    alone = torch.nn.functional.cross_entropy(torch.cat(kept), targets)
    torch.testing.assert_close(theirs(x, labels=hidden).loss, alone)
    part = theirs(x, labels=x, num_items_in_batch=44).loss
    torch.testing.assert_close(part, wanted / 2)


def test_prompts_of_several_lengths_are_continued_as_one_by_one(tiny):
    """Identity: a row of a batch is what `generated` gives for it, past the context too."""
    ours, theirs, folder = tiny
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = ["\0a", "\0the quick brown fox jumps", "\0hello"]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    found = theirs.generate(**batch, max_new_tokens=20, do_sample=False, eos_token_id=None)
    for i, prompt in enumerate(prompts):
        start = torch.tensor(list(prompt.encode()))
        wanted = list(generated(ours, start, 20, CONTEXT, torch.Generator(), temperature=0.0))
        assert found[i, -20:].tolist() == wanted
    # lm-evaluation-harness asks for a cache that there is not: the text is the same
    cached = theirs.generate(**batch, max_new_tokens=20, do_sample=False, use_cache=True)
    assert cached[:, :30].tolist() == found[:, :30].tolist()


def test_oracle_log_likelihoods_of_padded_batches_are_those_of_documents(tiny):
    """What lm-evaluation-harness sums: windows behind the separator, padded on the right."""
    ours, _, folder = tiny
    theirs = loaded(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [SENTENCE[:7], SENTENCE[:CONTEXT], (SENTENCE * 2)[: 3 * CONTEXT], "é"]
    summed = []
    for text in texts:
        ids = tokenizer(text).input_ids
        rows, widest = [], min(CONTEXT, len(ids))
        for at in range(0, len(ids), CONTEXT):
            seen = [tokenizer.eos_token_id, *ids][at : at + CONTEXT]
            rows.append((seen, ids[at : at + CONTEXT]))
        rows.append(([5] * CONTEXT, []))  # another request of the batch, as long as may be
        widest = max(len(seen) for seen, _ in rows)
        batch = torch.tensor([seen + [0] * (widest - len(seen)) for seen, _ in rows])
        told = theirs(batch).logits.detach().log_softmax(-1)
        summed.append(
            sum(float(told[i, k, c]) for i, (_, c_s) in enumerate(rows) for k, c in enumerate(c_s))
        )
    stream, starts, _ = streams_of(Vocabulary(), [Document("d", t) for t in texts])
    losses = document_losses(ours, stream, starts, CONTEXT)
    np.testing.assert_allclose(summed, -losses.nats, rtol=1e-5)


@given(st.text())
def test_tokens_of_bytes_are_bytes(text):
    """Identity: any text, the byte 0 and the letters that stand for bytes included."""
    tokenizer = _of_bytes()
    ids = tokenizer(text).input_ids
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text
    plain = tokenizer.decode(ids, skip_special_tokens=True)
    assert plain == Vocabulary().decode(ids) == text.replace("\0", "")


@given(st.text() | st.text(alphabet="the quickbrown<|separator|>"))
def test_tokens_of_pairs_are_those_of_the_vocabulary(text):
    vocabulary, tokenizer = _pairs(), _of_pairs()
    ids = tokenizer(text).input_ids
    assert ids == vocabulary.encode(text).tolist()
    assert tokenizer.decode(ids, skip_special_tokens=True) == vocabulary.decode(ids)
    assert tokenizer.bos_token_id == tokenizer.pad_token_id == 0


@cache
def _of_bytes() -> PreTrainedTokenizerFast:
    return tokenizer_of(Vocabulary(), CONTEXT)


@cache
def _pairs() -> Vocabulary:
    return vocabulary_of("bpe:512", [Document("a", SENTENCE * 9 + "so schön ist die Welt " * 9)])


@cache
def _of_pairs() -> PreTrainedTokenizerFast:
    return tokenizer_of(_pairs(), CONTEXT)


def test_a_model_of_pairs_comes_with_its_tokenizer(tmp_path):
    vocabulary = _pairs()
    config = ModelConfig(num_tokens=vocabulary.size, width=32)
    model = Model(config, torch.Generator().manual_seed(0))
    folder = exported(tmp_path, model, vocabulary)
    ids = AutoTokenizer.from_pretrained(folder)(SENTENCE, return_tensors="pt").input_ids
    assert ids.shape[1] < len(SENTENCE) / 2
    theirs = loaded(folder)
    torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=0, atol=0)


def test_new_weights_follow_the_seed():
    made = []
    for seed in (3, 3, 4):
        set_seed(seed)
        made.append(AutoModelForCausalLM.from_config(LerayConfig(shape={"width": 32})))
    same, again, other = (m.model.embedding.weight for m in made)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
    # of 8,192 numbers, whose deviation is known to 0.8%
    assert float(same.detach().std()) == pytest.approx(1 / 32, rel=0.05)


@pytest.mark.parametrize(
    ("mask", "starts"),
    [
        ([[1, 1, 1], [1, 1, 0]], None),
        ([[0, 0, 1], [1, 1, 1]], [2, 0]),
        ([[0, 1, 0], [0, 0, 0]], [1, 0]),
    ],
)
def test_where_rows_begin(mask, starts):
    found = starts_of(torch.tensor(mask))
    assert (None if found is None else found.tolist()) == starts


@pytest.mark.parametrize("mask", [[1, 0, 1], [0, 1, 0, 1], [1, 1, 0, 0, 1]])
def test_a_gap_is_refused(tiny, mask):
    with pytest.raises(ValueError, match="gap within a row: pad on the left"):
        tiny[1](tokens_of(1, len(mask)), attention_mask=torch.tensor([mask]))


@pytest.mark.parametrize("name", ["inputs_embeds", "past_key_values", "output_hidden_states"])
def test_what_it_does_not_take_is_refused(tiny, name):
    with pytest.raises(ValueError, match=f"takes no {name}: allowed are input_ids"):
        tiny[1](tokens_of(1, 3), **{name: True})


def test_a_weight_that_is_missing_is_not_made_up(tiny, tmp_path):
    model, _, folder = tiny
    from safetensors.torch import load_file, save_file

    for path in folder.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    assert set(weights) == {f"model.{k}" for k in model.state_dict()}
    weights.pop("model.blocks.0.attention.temperature")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"'temperature' of Attention, .*, is not among"):
        loaded(tmp_path)


def test_a_larger_vocabulary_is_kept(tiny, tmp_path):
    ours, _, folder = tiny
    theirs = loaded(folder)
    theirs.resize_token_embeddings(260)
    theirs.save_pretrained(tmp_path)
    again = loaded(tmp_path)
    x = tokens_of(2, 9)
    found = again(x).logits
    assert found.shape == (2, 9, 260)
    torch.testing.assert_close(found[..., :256], ours(x))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": {"wdith": 3}}, "no setting 'wdith'; did you mean 'width'"),
        ({"shape": {"num_tokens": 3}}, "no setting 'num_tokens'"),
        ({"shape": {"width": 30, "num_heads": 4}}, "multiple of twice the heads"),
        ({"tie_word_embeddings": False}, "input and output are one tensor"),
    ],
)
def test_configurations_that_no_model_has(tiny, tmp_path, change, said):
    told = json.loads((tiny[2] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | change))
    config = AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=said):
        AutoModelForCausalLM.from_config(config)


def test_a_model_of_classes_is_not_exported(tmp_path):
    config = ModelConfig(num_tokens=256, num_classes=3, width=32)
    model = Model(config, torch.Generator().manual_seed(0))
    with pytest.raises(LerayError, match="3 classes, not the next token"):
        exported(tmp_path, model)

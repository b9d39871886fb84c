"""`leray circuits find`, and the file that it writes."""

from __future__ import annotations

import json

import pytest
import torch
from test_decoder import CLASSES, drawn

from leray.circuits.decoder import Decoder
from leray.circuits.graph import graph_of
from leray.circuits.logicstream import vocabulary
from leray.circuits.plain import rotated
from leray.cli import main
from leray.data.circuits import Circuit, load_circuit, save_circuit
from leray.data.planted import load_program
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.train.checkpoint import Trained, save_trained
from leray.train.text import Document
from leray.train.tokens import vocabulary_of


def test_golden_run_on_a_program(tmp_path, capsys):
    """The circuit is the planted one, its file fits its model and no other."""
    path = tmp_path / "sort.safetensors"
    assert main(["circuits", "find", "--model", "planted:sort", "--out", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    program = load_program("sort")
    assert {row["edge"] for row in told["circuit"]} == {str(edge) for edge in program.circuit}
    assert told["size"] == len(program.circuit)
    circuit = load_circuit(path, program.model)
    assert {circuit.graph.edges[i] for i in circuit.mask.nonzero()[:, 0]} == set(program.circuit)
    assert circuit.found["seed"] == 0
    other = rotated(program.model, torch.Generator().manual_seed(0))
    for model in (other, Decoder(drawn()[0], CLASSES)):
        with pytest.raises(LerayError, match="is of another model"):
            load_circuit(path, model)
    options = ["--model", "planted:length", "--ablation", "zero", "--least", "0.5"]
    assert main(["circuits", "find", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["shown"]) == {str(edge) for edge in load_program("length").circuit}
    assert main(["circuits", "find", "--model", "planted:shift"]) == 0
    assert "something is lost under some ablation" in capsys.readouterr().out
    assert main(["circuits", "find", "--model", "planted:sort"]) == 0
    out = capsys.readouterr().out
    assert "13 of 59 edges keep 0.9" in out
    assert "layers.2.heads.0 → output" in out


def test_a_circuit_whose_file_was_changed_is_refused(tmp_path):
    """A byte of its scores, and scores that are no numbers in a file that is whole."""
    path, program = tmp_path / "first.safetensors", load_program("first")
    graph = graph_of(program.model)
    scores = torch.arange(float(len(graph.edges)))
    own = {"graph": graph, "mask": scores > 3, "found": {}}
    save_circuit(path, Circuit(scores=scores, **own), program.model)
    assert torch.equal(load_circuit(path, program.model).scores, scores)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    with pytest.raises(LerayError, match="is damaged"):
        load_circuit(path, program.model)
    save_circuit(path, Circuit(scores=scores / 0, **own), program.model)
    with pytest.raises(LerayError, match="is damaged"):
        load_circuit(path, program.model)


@pytest.mark.parametrize("content", [b"", b"no circuit", b"\x80\x04\x95"])
def test_files_that_hold_no_circuit(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    model = load_program("first").model
    with pytest.raises(LerayError, match="holds no whole circuit"):
        load_circuit(path, model)
    with pytest.raises(LerayError, match="no circuit at"):
        load_circuit(tmp_path / "none", model)


@pytest.fixture
def untrained(tmp_path):
    """A model that guesses."""
    words = vocabulary_of("words:160", [Document("all", " ".join(vocabulary()))])
    config = ModelConfig(num_tokens=words.size, width=16, num_layers=2, num_heads=2)
    model = Model(config, torch.Generator().manual_seed(0))
    save_trained(tmp_path / "model", Trained(model, words, 52, {}))
    return str(tmp_path / "model")


def test_what_cannot_be_found(untrained, tmp_path, capsys):
    """One line each."""
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04\x95")
    for options, told in (
        (["--model", untrained, "--task", "modus ponens"], "this model cannot do 'modus ponens'"),
        (["--model", untrained], "task must be one of modus ponens,"),
        (["--model", untrained, "--task", "modus ponnes"], "did you mean 'modus ponens'"),
        (["--model", "planted:sort", "--task", "chain"], "a program is its own task"),
        (["--model", "planted:sorted"], "no program 'sorted'"),
        (["--model", "planted:sort", "--examples", "1"], "examples must be 2 or more; got 1"),
        (["--model", "planted:sort", "--least", "2"], "least must lie in (0, 1]; got 2"),
        (["--model", "planted:sort", "--seed", "-1"], "seed must be 0 to 2^63 − 1; got -1"),
        (["--model", "planted:length"], "by resample changes nothing: choose another ablation"),
        (["--model", str(tmp_path / "none"), "--task", "chain"], "none"),
        (["--model", "nowhere"], "no model 'nowhere': there is no such folder; allowed are a"),
        (["--model", "smolm2", "--task", "plural"], "did you mean 'smollm2'"),
        (["--model", str(tmp_path)], "it has neither model.json nor config.json"),
        (["--model", str(tmp_path / "model.pkl"), "--task", "chain"], "model.pkl"),
    ):
        assert main(["circuits", "find", *options]) == 1
        said = capsys.readouterr().err
        assert told in said
        assert said.startswith("error: ")
        assert said.count("\n") == 1

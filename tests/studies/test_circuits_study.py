"""The circuits study: what is shared and carried over, and a golden run at toy size."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from leray.circuits.decoder import Decoder
from leray.circuits.faithfulness import kept
from leray.circuits.logicstream import vocabulary
from leray.circuits.patching import clean_run
from leray.cli import main
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.runs.seeds import Key
from leray.studies import circuits, circuits_drift, circuits_finding, reasoners
from leray.studies.circuits import SIZES, verdicts_of
from leray.studies.circuits_claims import CLAIMS, SIMULTANEOUS
from leray.studies.circuits_finding import Circuits, circuits_of
from leray.train.arguments import answer_tokens, papers, task_of_form
from leray.train.checkpoint import Trained
from leray.train.text import Document
from leray.train.tokens import vocabulary_of

FORMS = ("modus ponens", "modus tollens")


def circuit(mask, scores, score=1.0, parameters=0.5, carried=0.2, late=0.7):
    return Circuits(
        score, parameters, np.array(scores, dtype=float), np.ones(4), np.ones(4),
        np.array(mask, dtype=bool), 0.0, carried, np.array([0.9, 0.8, late]),
    )  # fmt: skip


def test_oracle_of_what_two_circuits_share():
    """Edges 0 and 1 of one, 1 and 2 of the other, of six; the scores rank 2 of 8 pairs wrong."""
    rng = np.random.default_rng(0)
    one = circuit([1, 1, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0])
    other = circuit([0, 1, 1, 0, 0, 0], [3, 5, 4, 2, 1, 0])
    noise = [circuit(c.mask, c.scores, parameters=0.5 + 1e-3 * x, late=0.7001) for c, x in (
        (one, rng.random()), (other, rng.random()))]  # fmt: skip
    found = {v.claim: v for v in verdicts_of([[one, other], noise], FORMS)}
    assert found["C2"].estimate == pytest.approx(1 / 2 - 2 * 2 / 6 / 2)
    assert found["C7"].estimate == pytest.approx((6 / 8 + 7 / 8) / 2)
    assert found["C6"].estimate == pytest.approx(0.2)
    assert found["C6"].verdict == "supported"
    assert found["C6d"].estimate == pytest.approx(0.70005)
    assert found["C6d"].verdict == "supported"
    assert found["C1"].verdict == "refuted"
    assert {v.level for v in found.values()} == {SIMULTANEOUS}


def test_what_is_carried_to_a_model_that_cannot_do_the_form_says_nothing():
    """Two of three next models can: C6 is of two, the others of three."""
    noise = np.random.default_rng(0).random(3) / 100
    own = [
        [circuit([1, 0], [1, 0], parameters=0.5 + x, carried=c)] * 2
        for x, c in zip(noise, (0.1, float("nan"), 0.3), strict=True)
    ]
    found = {v.claim: v for v in verdicts_of(own, FORMS)}
    assert found["C6"].estimate == pytest.approx(0.2)
    assert (found["C6"].n, found["C1"].n) == (2, 3)


def test_a_circuit_keeps_what_it_did_before_anything_is_learned_and_less_later(
    untrained, monkeypatch
):
    """At rate 0 its F is that of the model as it was; at large rates another; the model is left."""
    own = untrained(0)
    generator = np.random.default_rng(0)
    task = task_of_form(own, "modus ponens", 8, generator)
    exam = papers("modus ponens", 4, generator)
    model = copy.deepcopy(own.model).double().requires_grad_(False)
    decoder = Decoder(model, answer_tokens(own))
    mask = torch.rand(len(clean_run(decoder, task).graph.edges)) < 0.5
    before = float(kept(decoder, task, mask[None], "resample"))
    state = {n: x.clone() for n, x in own.model.state_dict().items()}
    monkeypatch.setattr(circuits_drift, "MARKS", (1, 3))
    monkeypatch.setattr(circuits_drift, "STILL_ABLE", 0.0)
    for rate, same in ((0.0, True), (0.05, False)):
        monkeypatch.setattr(circuits_drift, "MATRIX_RATE", rate)
        monkeypatch.setattr(circuits_drift, "RATE", rate)
        found = circuits_drift.drifted(own, exam, mask, task, np.random.default_rng(1))
        assert found.shape == (2,)
        assert np.allclose(found, before, atol=1e-5) == same
    assert all(torch.equal(x, state[n]) for n, x in own.model.state_dict().items())
    monkeypatch.setattr(circuits_drift, "STILL_ABLE", 1.1)
    assert np.isnan(circuits_drift.drifted(own, exam, mask, task, generator)).all()


def test_models_that_cannot_do_a_form_say_nothing():
    able, unable = circuit([1, 0], [1, 0]), circuit([1, 0], [1, 0], score=0.98)
    for v in verdicts_of([[able, able], [able, unable]], FORMS):
        assert v.verdict == "undecided"
        assert "1 of 2 models score 0.99" in v.note


@pytest.fixture
def untrained():
    words = vocabulary_of("words:160", [Document("all", " ".join(vocabulary()))])
    config = ModelConfig(
        num_tokens=words.size, width=16, num_layers=2, num_heads=2, mixing="coboundary",
        feedforward="cup",
    )  # fmt: skip

    def made(seed):
        generator = torch.Generator().manual_seed(seed)
        model = Model(config, generator)
        with torch.no_grad():
            for p in model.parameters():  # maps that write begin as 0
                p.copy_(torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5)
        return Trained(model, words, 64, {})

    return made


def test_circuits_of_a_model_keep_what_they_say_and_leave_it_as_it_was(untrained, monkeypatch):
    found = circuits_of(untrained(0), untrained(1), "modus ponens", 4, 4, Key.root(0))
    assert found.score < 0.99
    assert np.isnan(found.sizes).all()
    monkeypatch.setattr(circuits_finding, "ABLE", 0.0)
    monkeypatch.setattr(circuits_drift, "MARKS", (1, 2, 3))
    own = untrained(0)
    before = {n: p.detach().clone() for n, p in own.model.named_parameters()}
    found = circuits_of(own, untrained(1), "modus ponens", 4, 4, Key.root(0))
    assert found.mask.sum() == found.sizes[0]
    assert all(k >= 0.9 for k in found.keeps[[0, 1, 3]])
    assert np.isnan(found.keeps[2]) or found.keeps[2] >= 0.9
    assert 0 < found.parameters <= 1
    for name, p in own.model.named_parameters():
        torch.testing.assert_close(p.detach().float(), before[name])
    again = circuits_of(untrained(0), untrained(1), "modus ponens", 4, 4, Key.root(0))
    np.testing.assert_array_equal(again.sizes, found.sizes)
    assert again.carried == found.carried


def test_a_run_judges_every_claim(tmp_path, monkeypatch, capsys):
    """Golden run: every file, every verdict, and the same once more from what is stored."""
    toy = replace(
        SIZES["quick"],
        reasoner=replace(
            SIZES["quick"].reasoner, num_texts=300, width=16, num_layers=1, num_steps=2
        ),
        num_seeds=2, num_examples=2, num_questions=2,
    )  # fmt: skip
    monkeypatch.setitem(circuits.SIZES, "quick", toy)
    monkeypatch.setattr(reasoners, "NUM_QUESTIONS", 2)
    monkeypatch.setenv("LERAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(["study", "circuits", "--workers", "1", "--out", "run", "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert [v["claim"] for v in told["verdicts"]] == [c.id for c in CLAIMS]
    assert {v["claim_hash"] for v in told["verdicts"]} == {c.hash for c in CLAIMS}
    assert "edges that keep .9, of" in captured.err
    assert "0 of 2 models score" in (tmp_path / "run" / "report.html").read_text()
    assert main(["study", "circuits", "--resume", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdicts"] == told["verdicts"]
    assert main(["study", "circuits", "--resume", "run", "--preset", "full"]) == 1
    assert "--preset beside --resume" in capsys.readouterr().err
    assert main(["study", "circuits", "--preset", "fast"]) == 1
    assert "preset must be one of quick, full; got 'fast'" in capsys.readouterr().err

"""The protection study: how settings are chosen, and a golden run at toy size."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from leray.circuits.logicstream import drawn_line, vocabulary
from leray.circuits.zones import Turned
from leray.cli import main
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.studies import protection, reasoners
from leray.studies.protection import (
    QUICKEST,
    SIZES,
    TIMED,
    at_one_loss,
    chosen_of,
    quickest_of,
    target_of,
)
from leray.studies.protection_claims import CLAIMS, SIMULTANEOUS
from leray.studies.protection_learning import Learned, Tasks, known_of, learned, reached
from leray.studies.protection_methods import METHODS, SOAP, Plan, plans, shares_of
from leray.train.text import Document
from leray.train.tokens import streams_of, vocabulary_of

TOY = replace(
    SIZES["quick"],
    old=replace(
        SIZES["quick"].old,
        forms=("modus ponens",), num_texts=300, width=16, num_layers=1, num_steps=2,
    ),
    new_steps=4, num_seeds=2, num_questions=2, num_known=8,
)  # fmt: skip


def course(new, lost):
    """A run that is measured every ten steps."""
    steps = 10 * np.arange(len(new))
    scores = 1 - np.array(lost)[:, None]
    return Learned(steps, np.array(new), scores, np.array(lost))


def test_what_is_forgotten_is_read_between_two_points():
    run = course([5.0, 3.0, 2.0], [0.0, 0.1, 0.3])
    assert reached(run, 2.5) == pytest.approx((15, 0.2, 0.2))
    assert reached(run, 2.0) == pytest.approx((20, 0.3, 0.3))
    assert reached(run, 5.0) == (0, 0, 0)
    assert reached(run, 1.9) == pytest.approx((np.inf, 0.3, 0.3))


def test_of_the_settings_that_reach_the_target_the_quickest_of_those_that_forget_least():
    """Every method reaches 2; forgotten there: .1 and .104, told apart to a hundredth, and .3."""
    rates = (0.1, 0.2, 0.3, 0.4)
    tried = [*(Plan("uniform", r) for r in rates), Plan("EWC", 0.1), Plan("EWC", 0.2)]
    runs = [
        course([5, 4, 3, 3, 3], [0, 0, 0, 0, 0]),
        course([5, 4, 3, 2, 1], [0, 0, 0, 0.1, 0.3]),
        course([5, 3, 2, 2, 2], [0, 0.1, 0.104, 0.5, 0.6]),
        course([5, 2, 2, 2, 1], [0, 0.3, 0.3, 0.3, 0.9]),
        course([5, 4, 3, 2, 2], [0, 0, 0, 0, 0]),
        course([5, 4, 4, 4, 4], [0, 0, 0, 0, 0]),
    ]
    tries = {p: [r, r] for p, r in zip(tried, runs, strict=True)}
    target = target_of(tries)
    assert target == 2
    assert chosen_of("uniform", tries, target).rate == 0.3
    assert chosen_of("EWC", tries, target).rate == 0.1
    assert quickest_of("uniform", tries, target).rate == 0.4
    tries[tried[2]] = [runs[2], course([5, 4, 3, 2, 1], [0, 0.1, 0.2, 0.3, 0.4])]
    assert chosen_of("uniform", tries, target).rate == 0.2
    tries[tried[4]] = [runs[4], runs[5]]
    assert target_of(tries) == 4


def test_two_runs_are_compared_at_the_least_loss_that_both_reach():
    """The one stops at 3.0; there the other has forgotten half of the way to 0.2."""
    one, other = course([5, 4, 3], [0, 0.1, 0.3]), course([5, 4, 2], [0, 0.1, 0.2])
    found = at_one_loss([one], [other])
    np.testing.assert_allclose(found, [[0.3], [0.15]])
    np.testing.assert_allclose(at_one_loss([other], [one]), found[::-1])


def test_every_method_is_tried_equally_often():
    assert {len(set(plans(m))) for m in METHODS} == {4}
    assert pytest.approx(1 - 0.05 / len(CLAIMS)) == SIMULTANEOUS
    needed = {"uniform", "EWC", "LoRA", "random mask", *(m for m in METHODS if m.endswith(SOAP))}
    assert all(needed | set(TIMED) <= set(s.methods) for s in SIZES.values())


@pytest.fixture(scope="module")
def tasks():
    generator = np.random.default_rng(0)
    forms = ("modus ponens", "modus tollens")
    lines = [drawn_line(generator, forms=forms, max_distractors=0) for _ in range(60)]
    documents = [Document(str(i), " ".join(line)) for i, line in enumerate(lines)]
    words = vocabulary_of("words:160", [Document("all", " ".join(vocabulary())), *documents])
    old, starts, _ = streams_of(words, documents)
    text = np.frombuffer(b"def f(x):\n    return x + 1\n" * 40, dtype=np.uint8)
    return Tasks(
        vocabulary=words, forms=forms, old=old, starts=starts, new=text, held=text,
        context=64, num_sequences=2, num_steps=8, num_questions=3, exam=0, num_known=8, num_held=4,
    )  # fmt: skip


def fresh(tasks):
    config = ModelConfig(
        num_tokens=tasks.vocabulary.size + 256, width=16, num_layers=4, num_heads=2,
        mixing="coboundary", feedforward="cup",
    )  # fmt: skip
    return Model(config, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_is_measured(tasks, method):
    """Old weights that must stand still do; equal seeds give equal runs."""
    plan = plans(method)[0]
    model = fresh(tasks)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    run = learned(plan, model, tasks, 0)
    assert run.steps.tolist() == list(range(9))
    assert run.new[-1] < run.new[0]
    assert run.scores.shape == (9, 2)
    again = learned(plan, fresh(tasks), tasks, 0)
    np.testing.assert_array_equal(run.new, again.new)
    after = dict(model.named_parameters())
    rows = tasks.vocabulary.size
    if method == "frozen layers":
        name = "blocks.0.attention.into.weight"
        assert torch.equal(after[name], before[name])
        assert not torch.equal(after[name.replace("0", "1", 1)], before[name.replace("0", "1", 1)])
    if method == "LoRA":
        old = after["embedding.weight"][:rows]
        assert torch.equal(old, before["embedding.weight"][:rows])
        assert "blocks.0.attention.into.parametrizations.weight.original" in after


def test_random_masks_are_as_large_as_turned_zones_and_new_tokens_are_free(tasks):
    model = fresh(tasks)
    known = known_of(model, tasks, 0)
    generator = torch.Generator().manual_seed(0)
    ours = shares_of(Plan("turned zones", 0.1, 1e-3), model, known, generator)
    drawn = shares_of(Plan("random mask", 0.1, 1e-3), model, known, generator)
    assert set(ours) == set(dict(model.named_parameters()))
    for name, mask in drawn.items():
        share = ours[name]
        size = share.shares if isinstance(share, Turned) else share
        assert isinstance(mask, torch.Tensor)
        assert isinstance(size, torch.Tensor)
        assert abs(float(mask.mean() - size.mean())) < 0.51 / size.numel() or "embedding" in name
        if "embedding" in name:
            new = torch.stack([mask, size])[:, tasks.vocabulary.size :]
            assert bool((new == 1).all())


def test_a_run_judges_every_claim(tmp_path, monkeypatch, capsys):
    """Golden run: every file, every verdict, and the same numbers once more from what is stored."""
    monkeypatch.setitem(protection.SIZES, "quick", TOY)
    monkeypatch.setattr(reasoners, "NUM_QUESTIONS", 2)
    monkeypatch.setenv("LERAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    command = ["study", "protection", "--workers", "1"]
    assert main([*command, "--out", "run", "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert [v["claim"] for v in told["verdicts"]] == [c.id for c in CLAIMS]
    quickest = [f"{m}{QUICKEST}" for m in TIMED]
    assert [row["method"] for row in told["table"]] == [*TOY.methods, *quickest]
    assert "where the new loss first is" in captured.err
    for name in ("report.html", "result.json", "figures/courses.svg", "MANIFEST.sha256"):
        assert (tmp_path / "run" / name).exists()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "turned zones" in page
    assert main(["study", "protection", "--resume", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdicts"] == told["verdicts"]
    assert main(["study", "protection", "--resume", "run", "--preset", "full"]) == 1
    assert "--preset beside --resume" in capsys.readouterr().err
    assert main(["verdicts", "run"]) == 0
    assert "## P3" in capsys.readouterr().out

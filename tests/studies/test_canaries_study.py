"""The canary study: what it draws, its arithmetic, and a golden run at toy size."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from leray.circuits.canaries import Canaries
from leray.circuits.logicstream import ANSWERS, NAMES, NONCE, TRUE
from leray.cli import main
from leray.runs.seeds import Key
from leray.studies import canaries, canaries_session
from leray.studies.canaries import Size, auroc
from leray.studies.canaries_claims import CLAIM
from leray.studies.canaries_data import (
    CHOICES,
    KNOWN,
    QUESTION,
    TOKENS,
    Corpus,
    CorpusSize,
    corpus,
    rows_of,
    targets_of,
)
from leray.studies.canaries_episodes import EpisodeConfig

SIZE = CorpusSize(known=40, new=10, steering=12, reporting=12, held_out=12, progress=12)


def test_no_test_is_twice_or_begins_a_training_text():
    """Canaries that steer, canaries that report, held-out texts, and what is trained on."""
    found = corpus(SIZE, Key.root(0))
    tests = [c for part in (found.steering, found.reporting) for c in part.values()]
    prompts = [
        tuple(row[: place + 1].tolist())
        for c in tests
        if c.places is not None
        for row, place in zip(c.inputs, c.places, strict=True)
    ]
    held = [
        tuple(x for x in row.tolist() if x)
        for rows, _ in (found.held_out, found.progress)
        for row in rows
    ]
    prompts += [(0, *row) for row in held]
    assert len(set(prompts)) == len(prompts) == 2 * 4 * 12 + 2 * 12
    for row in (*found.known, *found.new):
        text = tuple(row.tolist())
        first = text[: text.index(QUESTION) + 1]
        assert first not in prompts
    assert all((np.diff((rows > 0).sum(axis=1)) >= 0).all() for rows in (found.known, found.new))


def test_oracle_targets_are_what_follows_a_question():
    rows = rows_of([("is", "tom", "wug", "?", "yes", "is", "tom", "dax", "?", "no")])
    targets = targets_of(rows)[0].tolist()
    assert [t for t in targets if t >= 0] == [TOKENS["yes"], TOKENS["no"]]
    assert targets.index(TOKENS["yes"]) == 4


def test_oracle_auroc_by_hand():
    """Of two true and two false edges three of four pairs are in order; ties count half."""
    truth = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.4, 0.5, 0.1]), truth) == 0.75
    assert auroc(np.zeros(4), truth) == 0.5
    assert auroc(np.zeros(4), np.ones(4, dtype=bool)) is None


def targeted(rows):
    return torch.from_numpy(rows[:, :-1]), torch.from_numpy(targets_of(rows))


def simple(_size, key):
    """Texts of two words, a name and a property that has one answer: learned in seconds."""
    draw = key.generator()

    def text(words, names):
        i = int(draw.integers(len(words)))
        name = str(draw.choice(names))
        return (name, words[i], "?"), ANSWERS[i % 3]

    def lines(words, names, num):
        return rows_of([(*t, a) for t, a in (text(words, names) for _ in range(num))])

    def tests(words, names):
        found = [text(words, names) for _ in range(24)]
        return Canaries(
            torch.from_numpy(rows_of([t for t, _ in found])),
            torch.tensor([TOKENS[a] for _, a in found]),
            torch.full((24,), 3),
            CHOICES,
        )

    words = {f: NONCE[6 * i : 6 * i + 6] for i, f in enumerate(KNOWN)}
    by_form = {f: lines(w, NAMES, 60) for f, w in words.items()}
    held = lines(TRUE[:12], NAMES, 48)
    return Corpus(
        known=np.concatenate(list(by_form.values())),
        new=lines(TRUE[:12], NAMES[:4], 100),
        steering={f: tests(w, NAMES[:4]) for f, w in words.items()},
        reporting={f: tests(w, NAMES[4:]) for f, w in words.items()},
        held_out=targeted(held),
        progress=targeted(lines(TRUE[:12], NAMES, 48)),
        by_form=by_form,
    )


def test_a_run_breaks_and_mends(tmp_path, monkeypatch, capsys):
    """Golden run: every file, the claim, faults that were found, and the same again from disk."""
    toy = Size(
        num_bases=1,
        num_episodes=2,
        width=32,
        num_layers=1,
        num_steps=120,
        corpus=SIZE,
        episode=EpisodeConfig(num_steps=24, first=8, num_sequences=16),
    )
    monkeypatch.setitem(canaries.SIZES, "quick", toy)
    monkeypatch.setattr(canaries_session, "corpus", simple)
    monkeypatch.chdir(tmp_path)
    command = ["study", "canaries", "--workers", "1", "--json"]
    assert main([*command, "--out", "run"]) == 0
    told = json.loads(capsys.readouterr().out)
    (verdict,) = told["verdicts"]
    assert (verdict["claim"], verdict["claim_hash"]) == ("C5", CLAIM.hash)
    assert [r["planted"] for r in told["table"]] == [2] * 6 + [12]
    assert told["table"][-1]["found_of_planted"]["hits"] > 0
    assert told["healthy"]["runs"]["trials"] == 2
    details = json.loads((tmp_path / "run" / "details.json").read_text())
    faults = {k: np.array(v) for k, v in details["faults"].items()}
    broke = faults["harm"] > toy.episode.monitor.tolerance
    assert told["table"][-1]["broke"] == broke.sum()
    if broke.any():
        kept = told["table"][-1]["metrics"]["kept"]["estimate"]
        means = [faults["kept"][i : i + 6][broke[i : i + 6]] for i in (0, 6)]
        assert kept == pytest.approx(np.mean([m.mean() for m in means if len(m)]))
        assert verdict["estimate"] in (None, kept)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "selective rollback" in page
    assert all(row["method"] in page for row in told["table"])
    for name in ("samples.parquet", "verdicts.json", "MANIFEST.sha256", "result.json"):
        assert (tmp_path / "run" / name).exists()
    assert main([*command, "--resume", "run"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["table"] == told["table"]
    assert again["verdicts"] == told["verdicts"]
    assert main([*command, "--resume", "run", "--preset", "full"]) == 1
    assert "--preset beside --resume" in capsys.readouterr().err


def test_a_base_that_learned_nothing_is_refused(tmp_path, monkeypatch, capsys):
    toy = Size(num_bases=1, num_episodes=2, width=16, num_layers=1, num_steps=1, corpus=SIZE)
    monkeypatch.setitem(canaries.SIZES, "quick", replace(toy))
    monkeypatch.chdir(tmp_path)
    assert main(["study", "canaries", "--workers", "1", "--out", "run"]) == 1
    assert "the model fails its canaries at the start" in capsys.readouterr().err

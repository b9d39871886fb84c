"""What `benchmarks/words.py` chooses, measures and says of the lines that it keeps."""

from __future__ import annotations

import importlib
from dataclasses import replace
from math import log
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("words")


def runs(words: ModuleType, rate: float, means: list[float], loss: float | None) -> list:
    """One a tuning seed, of equal accuracy at all lengths."""
    lengths = [str(n) for n in words.TESTED]
    return [
        words.Run(
            "rotary", 100 + i, rate, 1, 1.0, dict.fromkeys(lengths, mean),
            {} if loss is None else dict.fromkeys(lengths, loss),
        )
        for i, mean in enumerate(means)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        (([1.0, 1.0, 1.0], 0.5), ([1.0, 1.0, 0.9], 0.1), 0),  # apart: accuracy decides
        (([1.0, 1.0, 0.9], 0.1), ([1.0, 1.0, 1.0], 0.5), 1),
        (([1.0, 1.0, 1.0], 0.5), ([1.0, 1.0, 1.0], 0.1), 1),  # equal: loss decides
        (([1.0, 1.0, 1.0], 0.5), ([1.0, 1.0, 0.9998], 0.1), 1),
        (([0.166, 0.17, 0.16], 2.0), ([0.16, 0.16, 0.16], 1.8), 1),
        (([0.18, 0.18, 0.18], 2.0), ([0.16, 0.16, 0.16], 1.8), 0),
        (([1.0, 1.0, 1.0], None), ([1.0, 1.0, 1.0], None), 0),  # none kept: the first
        (([1.0, 1.0, 0.9998], None), ([1.0, 1.0, 1.0], None), 1),
    ],
)
def test_identity_of_equal_settings_the_lower_loss_is_best(words, first, second, best):
    """On both sides of one standard error, of 3 · 3 · 256 sequences."""
    found = {("rotary", rate): runs(words, rate, *x) for rate, x in ((0, first), (1, second))}
    assert words.best_of(found) == ("rotary", best)


def test_identity_what_is_equal_is_one_standard_error(words):
    """√(p(1 − p)/n) at p = 1/2, crossed by a thousandth of itself."""
    error = (0.25 / (9 * words.NUM_TESTED)) ** 0.5
    for share, best in ((0.999, 1), (1.001, 0)):
        far = [0.5 - share * error] * 3
        found = {("rotary", 0): runs(words, 0, [0.5] * 3, 2.0)}
        assert words.best_of(found | {("rotary", 1): runs(words, 1, far, 1.0)}) == ("rotary", best)


def test_oracle_accuracy_and_loss_answer_by_answer(words):
    """The last quarter of every sequence, in plain loops."""
    task = words.TASKS["brackets"]
    config = words.shape_of("transport", task.draw(1, 16, torch.Generator()))
    model = words.Model(config, torch.Generator().manual_seed(1))
    right, loss = words.tested(model, task, 16, 3)
    made = task.draw(words.NUM_TESTED, 16, torch.Generator().manual_seed(10_003))
    shares = model(made.tokens).softmax(-1).tolist()
    answers, counted = made.answers.tolist(), made.counted.tolist()
    places = [(b, t) for b in range(words.NUM_TESTED) for t in range(13, 17) if counted[b][t]]
    said = [(shares[b][t], answers[b][t]) for b, t in places]
    assert right == pytest.approx(sum(p.index(max(p)) == a for p, a in said) / len(said))
    assert loss == pytest.approx(-sum(log(p[a]) for p, a in said) / len(said), rel=1e-5)


def test_identity_equal_parameters_for_all(words):
    for task in words.TASKS.values():
        puzzles = task.draw(1, words.LONGEST, torch.Generator())
        sizes = [words.num_parameters(words.shape_of(name, puzzles)) for name in words.MODELS]
        assert max(sizes) <= 1.005 * min(sizes)


def test_tuning_is_of_the_seeds_that_all_rates_have(words, tmp_path, monkeypatch):
    """Golden run of the files: other seeds are passed over, a later line replaces an earlier."""
    monkeypatch.setattr(words, "FOLDER", tmp_path)
    low, high = words.RATES
    with pytest.raises(SystemExit, match="S3, rotary is not tuned: run python"):
        words.chosen_rate("S3", "rotary")
    for one in [*runs(words, low, [0.3, 0.3, 0.9], None), *runs(words, high, [0.19, 0.4], None)]:
        words.keep("S3-tuning", one)
    words.keep("S3-tuning", replace(runs(words, high, [1.0], None)[0], seed=7))
    assert words.chosen_rate("S3", "rotary") == low
    words.keep("S3-tuning", runs(words, high, [0.3], None)[0])
    assert words.chosen_rate("S3", "rotary") == high
    assert {len(x) for x in words.tuning("S3", "rotary").values()} == {2}


def test_golden_run_the_table_is_of_the_lines_kept(words):
    """All but the line of the machine; and every line's rate and seed are those of the rule."""
    table = (FOLDER.parent / "docs/benchmarks/words.txt").read_text().splitlines()
    tasks = [task for task in words.TASKS if words.runs_of(task)]
    said = words.report(tasks).splitlines()
    assert table[2:] == said[2:]
    for task in tasks:
        for one in words.runs_of(task):
            assert one.seed in words.TASKS[task].seeds
            assert one.rate == words.chosen_rate(task, one.model)

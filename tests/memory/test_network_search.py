"""The nested search sees nothing of what it is judged on, and is the same however it is driven."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leray.memory.network_search import (
    NetworkSearch,
    Rung,
    deal_folds,
    exhaustive,
    halving,
    linear_scores,
    network_scores,
)
from leray.memory.networks import Candidate, Loss, Sample, distinct_space, goodness
from leray.runs import FolderStore, Key, MemoryStore, drive, no_progress

SPACE = tuple(
    Candidate(hidden=h, dropout=p, learning_rate=0.01, activation="tanh")
    for h, p in (((), 0.0), ((8,), 0.0), ((16, 8), 0.1))
)
RUNGS = (Rung(num_alive=3, epochs=3), Rung(num_alive=1, epochs=8))


def planted(num_rows: int, *, product: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, num_rows)).astype(np.float32) * 3 + 1
    u = (x - 1) / 3
    z = u[0] + 0.5 * u[1] + product * u[2] * u[3] - 1.5
    return x, rng.random(num_rows) < 1 / (1 + np.exp(-z))


def search(x: np.ndarray, y: np.ndarray, **options: Any) -> NetworkSearch:
    folds = np.arange(len(y)) * 3 // len(y)
    settings = {"candidates": SPACE, "rungs": RUNGS, "num_rows": 600} | options
    return NetworkSearch(x=x, y=y, folds=folds, **settings)


def run(computation: NetworkSearch, workers: int = 1) -> Any:
    options = {"store": MemoryStore(), "key": Key.root(0), "progress": no_progress}
    return drive(computation, workers=workers, **options)


def test_halving_goes_from_219_to_2_by_thirds() -> None:
    """Oracle: the numbers of the design."""
    rungs = halving(219)
    assert [r.num_alive for r in rungs] == [219, 73, 24, 8, 2]
    assert [r.epochs for r in rungs] == [12, 37, 111, 333, 1000]
    assert exhaustive(219) == (Rung(num_alive=219, epochs=1000),)


def test_the_schedule_reaches_every_rung_in_short_steps() -> None:
    """Identity: epochs rise, each rung ends where it should, no step is beyond its size."""
    x, y = planted(900, product=0.0)
    for rungs in (halving(219), exhaustive(219)):
        s = search(x, y, candidates=distinct_space(), rungs=rungs, num_rows=20_000)
        schedule = s.schedule()
        epochs = [e for _, e in schedule]
        assert epochs == sorted(set(epochs))
        for k, rung in enumerate(rungs):
            assert max(e for r, e in schedule if r == k) == rung.epochs
        assert s.num_steps == len(schedule) + 1
    assert s.num_steps > 40  # the exhaustive run is cut too


def test_folds_are_even_and_do_not_depend_on_order() -> None:
    """Identity."""
    names = [f"c{k}" for k in range(12)]
    folds = deal_folds(names, 5)
    assert sorted(np.bincount(folds)) == [2, 2, 2, 3, 3]
    np.testing.assert_array_equal(deal_folds(names[::-1], 5)[::-1], folds)
    assert sorted(deal_folds(names[:4], 5)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="three clusters, got 2"):
        deal_folds(names[:2], 5)
    with pytest.raises(ValueError, match="three folds, got 2"):
        deal_folds(names, 2)


def test_no_model_saw_the_fold_it_is_judged_on() -> None:
    """Identity: with a fold's rows replaced by noise its models are the same, bit for bit."""
    x, y = planted(1_200, product=1.0)
    whole = run(search(x, y))
    rng = np.random.default_rng(5)
    changed_x, changed_y = x.copy(), y.copy()
    out = slice(0, 400)
    changed_x[:, out] = rng.normal(size=(4, 400))
    changed_y[out] = rng.random(400) < 0.5
    again = run(search(changed_x, changed_y))
    for before, after in zip(whole, again, strict=True):
        same = [np.array_equal(getattr(before, n), getattr(after, n)) for n in ("params", "linear")]
        assert same == [before.fold == 0] * 2
    assert [(f.fold, f.loss) for f in whole] == [
        (k, loss) for k in range(3) for loss in ("pearson", "logistic")
    ]


def _enough() -> None:
    raise RuntimeError("enough")


def test_workers_and_interruptions_do_not_change_it(tmp_path: Path) -> None:
    """Identity: any number of workers, or a run stopped after eight steps: the same bits."""
    computation = search(*planted(900, product=1.0))
    alone, shared = run(computation), run(computation, workers=2)
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.params, two.params)
        np.testing.assert_array_equal(one.values, two.values)
    store, made = FolderStore(tmp_path), []

    @contextmanager
    def stopping(_name: str, _total: int, _done: int) -> Iterator[Callable[[int], None]]:
        yield lambda n: made.append(n) if len(made) < 7 else _enough()

    with pytest.raises(RuntimeError, match="enough"):
        drive(computation, store=store, key=Key.root(0), progress=stopping)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 8
    resumed = drive(computation, store=store, key=Key.root(0), progress=no_progress)
    for one, two in zip(alone, resumed, strict=True):
        np.testing.assert_array_equal(one.params, two.params)


def test_the_winner_has_the_best_value_at_any_checkpoint() -> None:
    """Identity: over candidates and epochs; a rung drops all but its best."""
    for f in run(search(*planted(900, product=1.0))):
        checkpoint, winner = np.unravel_index(np.nanargmax(f.values), f.values.shape)
        assert f.winner == winner
        assert f.epochs == f.epochs_seen[checkpoint]
        alive = np.isfinite(f.values).sum(axis=1)
        assert alive.tolist() == [3, 1]
        assert np.isfinite(f.values[1, np.nanargmax(f.values[0])])


@pytest.mark.parametrize("loss", ["pearson", "logistic"])
def test_a_planted_product_is_found_and_a_line_is_not_beaten(loss: Loss) -> None:
    """Statistical: weighted r on the fold left out, 1,000 rows (standard error .032)."""
    gains = []
    for product in (2.0, 0.0):
        x, y = planted(3_000, product=product)
        rungs = (Rung(num_alive=3, epochs=30), Rung(num_alive=1, epochs=60))
        s = search(x, y, rungs=rungs, num_rows=2_000, losses=(loss,))
        f = run(s)[0]
        out = Sample(x=x[:, :1_000], y=y[:1_000], weight=np.ones(1_000))
        network = goodness("pearson", network_scores(f, SPACE, x[:, :1_000]), out)
        gains.append(network - goodness("pearson", linear_scores(f, x[:, :1_000]), out))
    assert gains[0] > 5 * 0.032
    assert abs(gains[1]) < 3 * 0.032


def test_pearson_scores_are_in_units_of_the_truth() -> None:
    """Identity: least squares leaves residuals with no mean and no slope, on the rows fitted."""
    x, y = planted(900, product=1.0)
    s = search(x, y, num_rows=10_000, losses=("pearson",))
    f = run(s)[0]
    rows = slice(300, 900)  # everything but fold 0, each row with weight 1
    scores = network_scores(f, SPACE, x[:, rows])
    residual = y[rows] - scores
    assert residual.mean() == pytest.approx(0, abs=1e-6)
    assert residual @ (scores - scores.mean()) == pytest.approx(0, abs=1e-3)
    design = np.vstack([np.ones(600), x[:, rows].astype(np.float64)]).T
    exact = design @ np.linalg.lstsq(design, y[rows].astype(float), rcond=None)[0]
    np.testing.assert_allclose(linear_scores(f, x[:, rows]), exact, rtol=0, atol=1e-4)

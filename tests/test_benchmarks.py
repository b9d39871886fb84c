"""What `benchmarks/stack.py` compares is equal work, and it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def test_quick_run_of_a_row_prints_its_ratios(tmp_path: Path) -> None:
    """Golden run: the command, its exit code and its table."""
    out = tmp_path / "stack.txt"
    done = subprocess.run(
        [sys.executable, "stack.py", "--quick", "--only", "bootstrap", "--out", str(out)],
        cwd=FOLDER,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    row = next(line for line in out.read_text().splitlines() if line.startswith("bootstrap"))
    ours, naive, ratio = (float(cell.replace(",", "")) for cell in row.split()[1:4])
    assert ratio == pytest.approx(naive / ours, rel=0.02)
    assert "nothing judged" in done.stdout


@pytest.mark.usefixtures("benchmarks")
def test_a_row_misses_when_either_peer_is_within_the_factor() -> None:
    """Identity: the criterion, on both of its sides."""
    from stack_costs import Cost, Row  # pyright: ignore[reportMissingImports]

    def row(naive: float, library: float, judged: bool = True) -> Row:
        costs = [Cost(seconds=s, part="all") for s in (1.0, naive, library)]
        return Row(
            name="row", work="", ours=costs[0], naive=costs[1], library=costs[2], peer="peer",
            judged=judged,
        )  # fmt: skip

    assert not row(5.0, 5.0).missed
    assert row(4.9, 100.0).missed
    assert row(100.0, 4.9).missed
    assert not row(1.0, 1.0, judged=False).missed


@pytest.mark.usefixtures("benchmarks")
def test_simulations_in_loops_in_batches_and_compiled_have_one_law() -> None:
    """Statistical: means of r and nDCG@10 within 5 standard errors of each other."""
    from leray.memory.simulation import measure
    from stack_simulation import LAW, METHODS, batched, one_by_one  # pyright: ignore[reportMissingImports]

    weights = np.random.default_rng(0).dirichlet(np.ones(4), METHODS)
    rng = np.random.default_rng(1)
    found = measure(LAW, weights, METHODS, rng.integers(2**32, size=2, dtype=np.uint32), 0, 5_000,
                    mode="gram")  # fmt: skip
    ours = np.concatenate([found.r, found.ndcg], axis=1)
    loops = np.stack([one_by_one(weights, rng) for _ in range(60)])
    at_once = np.concatenate([batched(weights, 64, rng, np.float32) for _ in range(5)])
    for theirs in (loops, at_once):
        error = ours.std(axis=0) * np.sqrt(1 / len(theirs) + 1 / len(ours))
        assert (np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) < 5 * error).all()

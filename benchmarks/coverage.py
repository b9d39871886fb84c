"""Measure what the intervals cover and how often the tests cry wolf, on planted data.

    python benchmarks/coverage.py [--datasets 2000] [--seed 0] [--out docs/benchmarks/coverage.txt]

The criteria below were fixed before the first full run: at 40 and 200 conversations the kinds that
are relied on cover within 2 points of 95%; tests reject within 1.5 points of 5%; what is reported
for a weight at or near 0 covers at least 95%. Other lines stand beside them for comparison. Ends
with exit code 3 where a criterion is not met.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from leray.evidence.calibration import Criterion, Rate, coverage, rejections
from leray.runs import FolderStore, Key, MemoryStore, Store, atomic_write, drive
from leray.studies.calibration import (
    BOUNDARY,
    INTERIOR,
    MEAN_KINDS,
    NOTHING,
    ONE,
    ROW_KINDS,
    TESTS,
    WEIGHT_KINDS,
    FalsePositives,
    PlantedDifference,
    PlantedIntervals,
)

LEVEL, ALPHA = 0.95, 0.05
FEW, MANY = (5, 10), (40, 200)
COVERS = Criterion(nominal=LEVEL, tolerance=0.02)
COVERS_AT_LEAST = Criterion(nominal=LEVEL, tolerance=None)
KEEPS_ITS_LEVEL = Criterion(nominal=ALPHA, tolerance=0.015)
SMALL = 0.05  # a true weight below this is judged as one on the boundary
RELIED_ON_TESTS = (
    "rotations",
    "sign flips of X'y",
    "sign flips of X'y, growing lists",
    "paired sign flips of nDCG",
)
SHORT = 50


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measured rate and what it must be (None: nothing is asked of it)."""

    what: str
    kind: str
    clusters: int
    rate: Rate
    criterion: Criterion | None
    note: str = ""

    @property
    def failed(self) -> bool:
        return self.criterion is not None and not self.criterion.met(self.rate)

    def __str__(self) -> str:
        low, high = self.rate.wilson(LEVEL)
        verdict = self.note
        if self.criterion is not None:
            verdict = f"{self.criterion}: {'FAIL' if self.failed else 'pass'}"
        return (
            f"{self.what:<26} {self.kind:<33} {self.clusters:>4} {self.rate.value:>8.2%} "
            f"{self.rate.se:>6.2%}  {low:>6.1%} {high:>6.1%} {self.rate.trials:>6,}  {verdict}"
        ).rstrip()


HEADER = (
    f"{'what':<26} {'kind':<33} {'C':>4} {'measured':>8} {'+- se':>6}  {'95% Wilson':>13} "
    f"{'n':>6}  criterion"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--datasets", type=int, default=2000, help="for each C (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--workers", type=int, default=1, help="default: 1")
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("--resume", type=Path, help="a folder that keeps finished steps")
    given = parser.parse_args()
    store: Store = FolderStore(given.resume) if given.resume else MemoryStore()
    started = time.process_time()
    lines: list[Line] = []
    text = [*_introduction(given.datasets, given.seed), HEADER]
    for line in measure(given.datasets, store, Key.root(given.seed), given.workers, text):
        lines.append(line)
        text.append(str(line))
    failed = sum(line.failed for line in lines)
    asked = sum(line.criterion is not None for line in lines)
    text += ["", f"{asked - failed} of {asked} criteria met"]
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(given.out, "\n".join([*text, ""]).encode())
    print("\n".join(text))
    print(f"{time.process_time() - started:.0f} CPU-seconds in this process", file=sys.stderr)
    return 3 if failed else 0


def measure(
    num_datasets: int, store: Store, key: Key, workers: int, text: list[str]
) -> Iterator[Line]:
    """Drive the computations and yield the table, line by line."""
    truth, truth_se = drive(PlantedDifference(population=INTERIOR), store=store, key=key)
    text.insert(-2, f"true difference of nDCG@10: {truth:.5f}, its own standard error {truth_se:.5f}")
    text.insert(-2, f"true r: {INTERIOR.pearson(ONE):.5f} (closed form)")
    for population, name in ((INTERIOR, "interior"), (BOUNDARY, "boundary")):
        for C in (*FEW, *MANY):
            ends = drive(
                PlantedIntervals(
                    population=population,
                    num_clusters=C,
                    with_scores=population is INTERIOR,
                    num_datasets=num_datasets,
                    name=f"intervals.{name}.{C}",
                ),
                store=store,
                key=key,
                workers=workers,
            )
            if population is INTERIOR:
                yield from _means(ends, C, truth)
            yield from _weights(ends, C, population.optimum)
            if C == max(MANY) and population is INTERIOR:
                studentised = ends["ndcg"][:, MEAN_KINDS.index("studentised")]
                half = float(np.diff(studentised, axis=1).mean()) / 2
                text.insert(-2, f"half-width of its interval at {C}: {half:.5f}, "
                            f"{half / truth_se:.0f} times that error")
    for C, turns in ((10, SHORT), *((C, NOTHING.num_turns) for C in (10, *MANY))):
        p = drive(
            FalsePositives(
                population=replace(NOTHING, num_turns=turns),
                num_clusters=C,
                num_datasets=num_datasets,
                name=f"false-positives.{turns}.{C}",
            ),
            store=store,
            key=key,
            workers=workers,
        )
        yield from _tests(p, C, turns)


def _means(ends: dict[str, np.ndarray], C: int, difference: float) -> Iterator[Line]:
    for what, truth in (("r", INTERIOR.pearson(ONE)), ("ndcg", difference)):
        title = {"r": "r of fixed weights", "ndcg": "difference of nDCG@10"}[what]
        for k, kind in enumerate(MEAN_KINDS):
            relied_on = kind == "studentised" and C in MANY
            yield Line(
                what=title,
                kind=kind,
                clusters=C,
                rate=coverage(ends[what][:, k], truth),
                criterion=COVERS if relied_on else None,
            )
    for k, kind in enumerate(ROW_KINDS):
        yield Line(
            what="r of fixed weights",
            kind=kind,
            clusters=C,
            rate=coverage(ends["rows"][:, k], INTERIOR.pearson(ONE)),
            criterion=None,
            note="naive",
        )


def _weights(ends: dict[str, np.ndarray], C: int, optimum: np.ndarray) -> Iterator[Line]:
    for j, truth in enumerate(optimum):
        small = truth < SMALL
        for k, kind in enumerate(WEIGHT_KINDS):
            criterion = None
            if C in MANY and kind == "reported":
                criterion = COVERS_AT_LEAST if small else COVERS
            if C in MANY and kind == "jackknife-t" and not small:
                criterion = COVERS
            share = ends["one_sided"][:, j].mean()
            yield Line(
                what=f"fitted weight, truth {truth:.3f}",
                kind=f"reported ({share:.0%} one-sided)" if kind == "reported" else kind,
                clusters=C,
                rate=coverage(ends["weights"][:, k, j], float(truth)),
                criterion=criterion,
            )


def _tests(p: np.ndarray, C: int, turns: int) -> Iterator[Line]:
    for k, test in enumerate(TESTS):
        made = p[~np.isnan(p[:, k]), k]
        yield Line(
            what=f"false positives, {turns} turns",
            kind=test,
            clusters=C,
            rate=rejections(made, ALPHA),
            criterion=KEEPS_ITS_LEVEL if test in RELIED_ON_TESTS and turns > SHORT else None,
            note="naive" if test == "rows permuted freely" else "",
        )


def _introduction(num_datasets: int, seed: int) -> list[str]:
    return [
        f"{num_datasets:,} planted data sets for each number C of conversations, seed {seed}.",
        f"Signals and truth are AR(1) with rho {INTERIOR.rho} along {INTERIOR.num_turns} turns, "
        f"{INTERIOR.shared:.0%} of their variance shared by the 1 to 5 queries of a conversation;",
        "intercepts and slopes vary between conversations. Intervals are at 95%, tests at 5%.",
        "'reported' is what weight_intervals gives; 'naive' takes rows for independent "
        "(every tenth data set).",
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())

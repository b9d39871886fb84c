"""Measure what the intervals cover and how often the tests cry wolf, on planted data.

    python benchmarks/calibration.py [--datasets 2000] [--seed 0] [--out FILE]

The criteria were fixed before the first full run: at 40 and 200 conversations the kinds that are
relied on cover within 2 points of 95%; what is reported for a weight at or near 0 covers not
measurably less; tests reject within 1.5 points of 5%. Other lines stand beside them to compare.
Ends with exit code 3 where a criterion is not met.
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
from leray.runs import Computation, FolderStore, Key, MemoryStore, atomic_write, drive
from leray.studies.calibration import (
    BOUNDARY,
    INTERIOR,
    MEAN_KINDS,
    NOTHING,
    ONE,
    ROW_KINDS,
    TESTS,
    WEIGHT_KINDS,
    EqualMethods,
    FalsePositives,
    PlantedDifference,
    PlantedIntervals,
)

LEVEL, ALPHA = 0.95, 0.05
CLUSTERS = (5, 10, 40, 200)
MANY = (40, 200)
COVERS = Criterion(nominal=LEVEL, tolerance=0.02)
COVERS_AT_LEAST = Criterion(nominal=LEVEL, tolerance=None)
KEEPS_ITS_LEVEL = Criterion(nominal=ALPHA, tolerance=0.015)
SMALL = 0.05  # a true weight below this is judged as one on the boundary
SHORT = 50
RELIED_ON_TESTS = (
    "rotations",
    "sign flips of X'y",
    "sign flips of X'y, growing lists",
)
MOVED = (
    "Two criteria stand elsewhere than first planned. Rotations of growing lists: in prototypes on",
    "other seeds they rejected 6 to 10%, since turning lists of different lengths parts what their",
    "queries share; sign flips of X'y are judged in their place. Paired flips where nothing is to",
    "be found: in the first full run they rejected 2.7% at C = 10, as a third of the differences",
    "are exactly 0 there and too few signs are left to reach .05 (the test errs to the safe side);",
    "methods that are equally good but not useless are judged in their place.",
)
NAIVE = (*ROW_KINDS, "rows permuted freely")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measured rate and what it must be (None: nothing is asked of it)."""

    what: str
    kind: str
    clusters: int
    rate: Rate
    criterion: Criterion | None = None

    @property
    def failed(self) -> bool:
        return self.criterion is not None and not self.criterion.met(self.rate)

    def __str__(self) -> str:
        verdict = "" if self.criterion is None else "FAIL" if self.failed else "ok"
        return f"{self.rate.value:7.1%} +- {100 * self.rate.se:4.2f} {verdict:<4}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--datasets", type=int, default=2000, help="for each C (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--workers", type=int, default=1, help="default: 1")
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("--resume", type=Path, help="a folder that keeps finished steps")
    given = parser.parse_args()
    store = FolderStore(given.resume) if given.resume else MemoryStore()

    def run(computation: Computation):
        return drive(computation, store=store, key=Key.root(given.seed), workers=given.workers)

    started = time.process_time()
    truth, truth_se = run(PlantedDifference(population=INTERIOR))
    intervals = planted_intervals(given.datasets, run)
    lines = [*interval_lines(intervals, truth), *test_lines(given.datasets, run)]
    studentised = intervals["interior", max(MANY)]["ndcg"][:, MEAN_KINDS.index("studentised")]
    half = float(np.diff(studentised, axis=1).mean()) / 2
    text = "\n".join(
        [
            *introduction(given.datasets, given.seed),
            f"True r {INTERIOR.pearson(ONE):.5f} (closed form); true difference of nDCG@10 "
            f"{truth:.5f} +- {truth_se:.5f} (from 100,000 conversations;",
            f"the half-width of its interval at {max(MANY)}, {half:.5f}, is {half / truth_se:.0f} "
            "times that error).",
            "",
            *table(lines),
            "",
            *MOVED,
            "",
            f"{sum(bool(x.criterion) and not x.failed for x in lines)} of "
            f"{sum(bool(x.criterion) for x in lines)} criteria met",
            *(f"not met: {x.what}, {x.kind}, C = {x.clusters}: {x}" for x in lines if x.failed),
            "",
        ]
    )
    print(text, end="")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(given.out, text.encode())
    print(f"{time.process_time() - started:.0f} CPU-seconds in this process", file=sys.stderr)
    return 3 if any(line.failed for line in lines) else 0


def planted_intervals(num_datasets: int, run) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """The intervals of every data set, by population and C."""
    return {
        (name, C): run(
            PlantedIntervals(
                population=population,
                num_clusters=C,
                with_scores=name == "interior",
                num_datasets=num_datasets,
                level=LEVEL,
                name=f"intervals.{name}.{C}",
            )
        )
        for name, population in (("interior", INTERIOR), ("boundary", BOUNDARY))
        for C in CLUSTERS
    }


def interval_lines(
    intervals: dict[tuple[str, int], dict[str, np.ndarray]], difference: float
) -> Iterator[Line]:
    """Coverage by every kind, against the truths."""
    r = INTERIOR.pearson(ONE)
    for (name, C), ends in intervals.items():
        if name == "interior":
            yield from _mean_lines("r of fixed weights", ends["r"], MEAN_KINDS, C, r)
            yield from _mean_lines("r of fixed weights", ends["rows"], ROW_KINDS, C, r)
            yield from _mean_lines("difference of nDCG@10", ends["ndcg"], MEAN_KINDS, C, difference)
        optimum = (INTERIOR if name == "interior" else BOUNDARY).optimum
        for j, truth in enumerate(optimum):
            yield from _weight_lines(ends, j, C, float(truth))


def _mean_lines(
    what: str, ends: np.ndarray, kinds: tuple[str, ...], C: int, truth: float
) -> Iterator[Line]:
    for k, kind in enumerate(kinds):
        criterion = COVERS if kind == "studentised" and C in MANY else None
        rate = coverage(ends[:, k], truth)
        yield Line(what=what, kind=kind, clusters=C, rate=rate, criterion=criterion)


def _weight_lines(ends: dict[str, np.ndarray], j: int, C: int, truth: float) -> Iterator[Line]:
    what = f"fitted weight, truth {truth:.3f}"
    for k, kind in enumerate(WEIGHT_KINDS):
        criterion = None
        if C in MANY and kind == "reported":
            criterion = COVERS_AT_LEAST if truth < SMALL else COVERS
        if C in MANY and kind == "jackknife-t" and truth >= SMALL:
            criterion = COVERS
        rate = coverage(ends["weights"][:, k, j], truth)
        yield Line(what=what, kind=kind, clusters=C, rate=rate, criterion=criterion)
    one_sided = ends["one_sided"][:, j]
    share = Rate(hits=int(one_sided.sum()), trials=len(one_sided))
    yield Line(what=what, kind="(reported one-sided in)", clusters=C, rate=share)


def test_lines(num_datasets: int, run) -> Iterator[Line]:
    """False-positive rates, at the length that is judged and at a short one."""
    long = NOTHING.num_turns
    for C in CLUSTERS[1:]:
        computation = EqualMethods(num_clusters=C, num_datasets=num_datasets, name=f"equal.{C}")
        yield Line(
            what="false positives, equally good methods",
            kind="paired sign flips of nDCG",
            clusters=C,
            rate=rejections(run(computation), ALPHA),
            criterion=KEEPS_ITS_LEVEL,
        )
    for C, turns in (*((C, long) for C in CLUSTERS[1:]), (10, SHORT)):
        p = run(
            FalsePositives(
                population=replace(NOTHING, num_turns=turns),
                num_clusters=C,
                num_datasets=num_datasets,
                name=f"false-positives.{turns}.{C}",
            )
        )
        for k, test in enumerate(TESTS):
            judged = test in RELIED_ON_TESTS and turns == long
            yield Line(
                what=f"false positives where nothing is to be found, {turns} turns",
                kind=test,
                clusters=C,
                rate=rejections(p[~np.isnan(p[:, k]), k], ALPHA),
                criterion=KEEPS_ITS_LEVEL if judged else None,
            )


def introduction(num_datasets: int, seed: int) -> list[str]:
    """What was planted, and how to read the table."""
    p = INTERIOR
    return [
        f"{num_datasets:,} planted data sets for each number C of conversations, seed {seed}.",
        f"Signals and truth: AR(1), rho {p.rho}, {p.num_turns} turns; the 1 to 5 queries of a "
        f"conversation share {p.shared:.0%} of the variance;",
        "intercepts and slopes vary between conversations. Intervals at 95%, tests at 5%; "
        "+- is the Monte Carlo error in points.",
        "'ok' and 'FAIL' stand where something is asked: 95 +- 2 (not measurably less than 95 for "
        "true weights below .05), 5 +- 1.5.",
        "'reported' is what weight_intervals gives. * takes rows for independent "
        "(every tenth data set): it must not be used.",
    ]


def table(lines: list[Line]) -> Iterator[str]:
    """A row for each kind, a column for each C."""
    cells: dict[tuple[str, str], dict[int, Line]] = {}
    for line in lines:
        cells.setdefault((line.what, line.kind), {})[line.clusters] = line
    yield " " * 34 + "".join(f"{f'C = {C}':^20}" for C in CLUSTERS).rstrip()
    title = ""
    for (what, kind), row in cells.items():
        if what != title:
            yield what
            title = what
        star = "*" if kind in NAIVE else " "
        yield f"{star} {kind:<32}" + "".join(f"{row.get(C, '')!s:<20}" for C in CLUSTERS).rstrip()


if __name__ == "__main__":
    sys.exit(main())

"""Bootstrap and permutation for ``benchmarks/stack.py``, on pairs of LoCoMo's size.

Ours and SciPy's are measured by ``benchmarks/moments.py``, the naive loops here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

import moments
from leray.memory.methods import landscape_grid
from moments import (
    NUM_PERMUTATIONS,
    NUM_RESAMPLES,
    Conversation,
    compare_bootstrap,
    made_up_pairs,
    permutation_work,
)
from stack_costs import Cost, Row, clocked, cpu, warmed

Array = np.ndarray
SHUFFLES, BATCH = 16, 4  # what is measured of SciPy's permutation test
CONFIGURATIONS = 4  # what is measured of a naive resample or shuffle, of 169
REPEATS = 3


class Kept(moments.Report):
    """Keeps the tables of ``benchmarks/moments.py`` instead of printing them."""

    def table(
        self, title: str, ours: moments.Row, peers: list[tuple[moments.Row, float | None]]
    ) -> None:
        del title
        self.ours, self.peers = ours, [row for row, _ in peers]


def bootstrap(quick: bool) -> list[Row]:
    """10,000 cluster resamples of 169 configurations."""
    conversations, weights = _pairs(quick), landscape_grid()[0]
    kept = Kept()
    compare_bootstrap(kept, conversations, weights, REPEATS)
    each, at_once, of_table = kept.peers
    rng = np.random.default_rng(0)

    def naive() -> list[float]:
        drawn = rng.integers(len(conversations), size=len(conversations))
        x = np.concatenate([conversations[c].x for c in drawn], axis=1)
        y = np.concatenate([conversations[c].y for c in drawn])
        return [float(np.corrcoef(w @ x, y)[0, 1]) for w in weights[:CONFIGURATIONS]]

    library = min(each, at_once, key=lambda row: row.seconds)
    return [
        Row(
            name="bootstrap",
            work=f"{NUM_RESAMPLES:,} resamples of {len(conversations)} conversations, "
            f"{_rows(conversations):,} pairs: percentile intervals of r of {len(weights)} "
            "configurations",
            ours=Cost(seconds=kept.ours.seconds, part="all, the moment table included"),
            naive=_whole(naive, NUM_RESAMPLES, len(weights), "resample"),
            library=_shown(library),
            peer="scipy.stats.bootstrap",
            notes=(
                "scipy drew the conversations and worked on their pairs, all configurations in "
                f"one product (one at a time: {each.seconds:,.0f} s); given our table instead: "
                f"{of_table.seconds:.2f} s, {of_table.seconds / kept.ours.seconds:.0f} times ours",
            ),
        )
    ]


def permutation(quick: bool) -> list[Row]:
    """100,000 permutations, the maximum over 169 configurations."""
    conversations, weights = _pairs(quick), landscape_grid()[0]
    ours, largest_r, centred = permutation_work(conversations, weights)
    seconds, once, _ = warmed(ours, REPEATS)
    fixed, each = shuffles_of_scipy(largest_r, centred)
    x = np.concatenate([c.x for c in conversations], axis=1)
    y = np.concatenate([c.y for c in conversations])
    rng = np.random.default_rng(0)

    def naive() -> float:
        shuffled = rng.permutation(y)
        return max(float(np.corrcoef(w @ x, shuffled)[0, 1]) for w in weights[:CONFIGURATIONS])

    return [
        Row(
            name="permutation",
            work=f"{NUM_PERMUTATIONS:,} permutations of the labels of {_rows(conversations):,} "
            f"pairs: the largest r of {len(weights)} configurations in each",
            ours=Cost(seconds=seconds, once=once, part="all, the FFTs included"),
            naive=_whole(naive, NUM_PERMUTATIONS, len(weights), "permutation"),
            library=Cost(
                seconds=fixed + each * NUM_PERMUTATIONS,
                part=f"{SHUFFLES} permutations, {each:.3f} s each by the time between them, Xᵀy "
                f"only; and {fixed:.1f} s that it takes before the first one",
            ),
            peer="scipy.stats.permutation_test",
            notes=(
                "ours rotates each conversation's labels, which its dependence allows; the others "
                "shuffle rows freely, which it does not",
            ),
        )
    ]


def shuffles_of_scipy(largest_r: Callable[[Array, int], Array], y: Array) -> tuple[float, float]:
    """Seconds before SciPy's first permutation (it computes n!), and of each one.

    The faster of one at a time and four at a time.
    """
    ways = []
    for at_once in (1, BATCH):
        clock: list[float] = []

        def statistic(labels: Array, axis: int = -1, clock: list[float] = clock) -> Array:
            clock.append(cpu())
            return largest_r(labels, axis)

        started = cpu()
        stats.permutation_test(
            (y,),
            statistic,
            permutation_type="pairings",
            vectorized=at_once > 1,
            n_resamples=SHUFFLES,
            batch=at_once,
            alternative="greater",
            rng=np.random.default_rng(0),
        )
        # The first call is that of the observed labels.
        each = (clock[-1] - clock[1]) / (len(clock) - 2) / at_once
        ways.append((clock[1] - started, each))
    return min(ways, key=lambda way: way[1])


def _pairs(quick: bool) -> list[Conversation]:
    """Ten conversations of 198 queries of 602 turns; three queries of each for a quick run."""
    return [
        Conversation(id=c.id, x=c.x[:, : 3 * 602], y=c.y[: 3 * 602], offsets=c.offsets[:4])
        if quick
        else c
        for c in made_up_pairs()
    ]


def _rows(conversations: list[Conversation]) -> int:
    return sum(len(c.y) for c in conversations)


def _whole(work, times: int, num_configurations: int, unit: str) -> Cost:
    """From one resample or shuffle and a few configurations to all."""
    seconds, _ = clocked(work)
    return Cost(
        seconds=seconds * times * num_configurations / CONFIGURATIONS,
        part=f"1 {unit} × {CONFIGURATIONS} configurations, {seconds:.2f} s",
    )


def _shown(row: moments.Row) -> Cost:
    part = row.part.removeprefix("EXTRAPOLATED from ").split(";")[0].replace(" CPU-s", " s")
    return Cost(seconds=row.seconds, part=part)

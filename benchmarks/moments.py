"""CPU-seconds of the moment table beside numpy and scipy, at the size of LoCoMo.

    python benchmarks/moments.py [--locomo DIR] [--repeats R] [--out FILE]

Three tasks over n pairs × 4 signals in 10 conversations and the 169 configurations of the
landscape: (a) Pearson's r of each, the building of the table included; (b) 10,000 cluster
resamples of each, with percentile intervals; (c) 100,000 permutations, the maximum over all.
CPU-seconds are `time.process_time`, all threads of this process. Timings are interleaved and the
best of the repeats counts, on both sides. What would take hours is measured on a stated part and
multiplied, and says so. Peers are given centred or contiguous float64 copies of the data for
nothing. Exit code 3 where a criterion is not met.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy
from scipy import stats
from threadpoolctl import threadpool_limits

from leray.data.embeddings import embed
from leray.data.encoders import find_encoder
from leray.data.locomo import load_locomo
from leray.data.preparation import ask, prepare
from leray.evidence.bootstrap import percentile_ends, resample_counts
from leray.evidence.moments import Array, MomentTable, covariances, moment_table, pearson
from leray.evidence.permutation import draw_elements, p_value, rotation_products
from leray.memory.blocks import DAY, FOUR, with_tau
from leray.memory.methods import landscape_grid

LOCOMO = Path(__file__).resolve().parents[2] / "shared" / "data" / "locomo"
NUM_RESAMPLES, NUM_PERMUTATIONS = 10_000, 100_000
RAW_RESAMPLES, RAW_CONFIGURATIONS = 4, 4  # what is measured of the raw scipy bootstrap
SHUFFLES = 8  # what is measured of the scipy permutation test
CRITERION_NOT_MET = 3


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """The pairs of one conversation: ``x [4, rows]`` float32, ``y [rows]``, queries' offsets."""

    id: str
    x: Array
    y: Array
    offsets: Array


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the output: what, CPU-seconds, and of which part they were measured."""

    name: str
    seconds: float
    part: str = ""


class Report:
    """Prints each line as it is known, keeps all of them, and remembers what was not met."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.met = True

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def table(self, title: str, ours: Row, peers: list[tuple[Row, float | None]]) -> None:
        """Our row and the peers', each with how often ours fits in, and its criterion if any."""
        self.say(f"\n{title}")
        self.say(f"  {'method':<66}{'CPU-s':>11}{'/ leray':>11}")
        self.say(f"  {ours.name:<66}{ours.seconds:>11.4f}{1:>11}")
        for row, least in peers:
            ratio = row.seconds / ours.seconds
            verdict = ""
            if least is not None:
                verdict = f"  at least {least:,.0f}: {'met' if ratio >= least else 'NOT MET'}"
                self.met &= ratio >= least
            self.say(f"  {row.name:<66}{row.seconds:>11.4f}{ratio:>11,.1f}{verdict}")
            if row.part:
                self.say(f"      {row.part}")


def main() -> int:
    """Print the comparison; 3 where a criterion is not met."""
    parser = argparse.ArgumentParser(description="The moment table beside numpy and scipy.")
    parser.add_argument("--locomo", type=Path, default=LOCOMO, help="folder of LoCoMo's JSON files")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="also write the output here")
    options = parser.parse_args()
    report = Report()
    real = options.locomo.is_dir()
    conversations = locomo_pairs(options.locomo) if real else made_up_pairs()
    num_pairs = sum(len(c.y) for c in conversations)
    report.say("python benchmarks/moments.py")
    report.say(
        f"numpy {np.__version__}, scipy {scipy.__version__}, {platform.machine()}, "
        f"{os.cpu_count()} processors; {'LoCoMo' if real else 'made-up data of its size'}: "
        f"{num_pairs:,} pairs x {len(FOUR)} signals, {len(conversations)} conversations, "
        f"{sum(int(c.y.sum()) for c in conversations):,} positives; best of {options.repeats}"
    )
    weights = landscape_grid()[0]
    compare_configurations(report, conversations, weights, options.repeats)
    compare_bootstrap(report, conversations, weights, options.repeats)
    compare_permutations(report, conversations, weights, options.repeats)
    report.say(f"\n{'all criteria met' if report.met else 'a criterion is NOT met'}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
    return 0 if report.met else CRITERION_NOT_MET


def locomo_pairs(folder: Path) -> list[Conversation]:
    """The blocks that the importance study makes of LoCoMo (embeddings from the usual cache)."""
    corpus, encoder = load_locomo(folder), find_encoder()
    prepared = prepare(
        ask(corpus), corpus, lambda texts: embed(texts, encoder=encoder), (30 * DAY,)
    )
    return [
        Conversation(
            id=b.history, x=b.rows(with_tau(FOUR, 30 * DAY)), y=b.relevant, offsets=b.offsets
        )
        for b in prepared.blocks
    ]


def made_up_pairs() -> list[Conversation]:
    """Random pairs of LoCoMo's size: 10 × 198 queries of 602 turns, 2.4 positives a thousand."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(10):
        x = rng.random((4, 198 * 602), dtype=np.float32)
        y = rng.random(198 * 602) < 0.002 + 0.001 * x[2]
        made.append(Conversation(id=str(k), x=x, y=y, offsets=np.arange(199) * 602))
    return made


def table_of(conversations: list[Conversation]) -> MomentTable:
    """The moment table of the four signals."""
    return moment_table(((c.id, c.x, c.y) for c in conversations), FOUR)


def cpu_seconds(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The fewest CPU-seconds of each task; the repeats interleaved, the first warms up."""
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            best[name] = min(best[name], time.process_time() - start)
    return best


def compare_configurations(
    report: Report, conversations: list[Conversation], weights: Array, repeats: int
) -> None:
    """(a) Pearson's r of every configuration, from the rows."""
    x = np.concatenate([c.x for c in conversations], axis=1).astype(np.float64)
    y = np.concatenate([c.y for c in conversations]).astype(np.float64)
    xc, yc = x - x.mean(axis=1, keepdims=True), y - y.mean()
    syy = yc @ yc
    rows = np.ascontiguousarray(x.T)

    def ours() -> Array:
        return pearson(table_of(conversations).total, weights)

    def centred() -> Array:
        """Signals and truth centred beforehand, for nothing: one product and two dot products."""
        r = np.empty(len(weights))
        for k, w in enumerate(weights):
            score = w @ xc
            r[k] = (score @ yc) / np.sqrt((score @ score) * syy)
        return r

    def by_rows() -> Array:
        """The score of raw rows, centred afterwards."""
        r = np.empty(len(weights))
        for k, w in enumerate(weights):
            score = rows @ w
            score -= score.mean()
            r[k] = (score @ yc) / np.sqrt((score @ score) * syy)
        return r

    def usual() -> Array:
        return np.array([np.corrcoef(rows @ w, y)[0, 1] for w in weights])

    def one_product() -> Array:
        """All configurations in one product, in pieces that fit in the cache."""
        sxy, sxx = np.zeros(len(weights)), np.zeros(len(weights))
        for start in range(0, xc.shape[1], 2048):
            scores = weights @ xc[:, start : start + 2048]
            sxy += scores @ yc[start : start + 2048]
            sxx += np.einsum("cr,cr->c", scores, scores)
        return sxy / np.sqrt(sxx * syy)

    def scipy_each() -> Array:
        return np.array([np.asarray(stats.pearsonr(w @ x, y))[0] for w in weights])

    expected = ours()
    quick = {"leray": ours, "centred": centred, "rows": by_rows, "one product": one_product}
    best = cpu_seconds(quick, repeats)
    with threadpool_limits(1):
        single = cpu_seconds(quick, repeats)
        slow = cpu_seconds({"usual": usual, "scipy": scipy_each}, 1)
    several = cpu_seconds({"scipy": scipy_each}, 1)
    apart = max(
        float(np.abs(task() - expected).max()) for task in (*quick.values(), usual, scipy_each)
    )
    least = {name: min(best[name], single[name]) for name in quick}
    threads = "its best of default threads and one"
    report.table(
        f"(a) {len(weights)} configurations, the building of the table included "
        f"(all agree to {apart:.0e})",
        Row(
            name="leray: moment_table, pearson (float32 rows of the study)", seconds=least["leray"]
        ),
        [
            (
                Row(
                    name="numpy a configuration: w @ X, dot products; X, y centred for nothing",
                    seconds=least["centred"],
                    part=f"{threads}: {best['centred']:.3f} and {single['centred']:.3f}",
                ),
                50,
            ),
            (
                Row(
                    name="numpy a configuration: X @ w of raw rows, centred afterwards",
                    seconds=least["rows"],
                    part=f"{threads}: {best['rows']:.3f} and {single['rows']:.3f}",
                ),
                None,
            ),
            (Row(name="numpy a configuration: corrcoef(X @ w, y)", seconds=slow["usual"]), None),
            (
                Row(
                    name="numpy: one product for all configurations, in pieces",
                    seconds=least["one product"],
                    part=f"{threads}: {best['one product']:.3f} and {single['one product']:.3f}",
                ),
                None,
            ),
            (
                Row(
                    name="scipy.stats.pearsonr a configuration",
                    seconds=min(slow["scipy"], several["scipy"]),
                    part="all configurations measured, best of default threads and one",
                ),
                200,
            ),
        ],
    )


def compare_bootstrap(
    report: Report, conversations: list[Conversation], weights: Array, repeats: int
) -> None:
    """(b) Resamples of conversations, with a percentile interval of every configuration."""
    C = len(conversations)
    x = [np.ascontiguousarray(c.x, dtype=np.float64) for c in conversations]
    y = [c.y.astype(np.float64) for c in conversations]
    sums = table_of(conversations).sums
    every = (np.arange(C),)

    def ours() -> object:
        table = table_of(conversations)
        counts = resample_counts(NUM_RESAMPLES, C, np.random.default_rng(0))
        return percentile_ends(pearson(counts @ table.sums, weights), 0.95)

    def scipy_bootstrap(statistic: Callable[..., Array], num_resamples: int) -> object:
        return stats.bootstrap(
            every,
            statistic,
            n_resamples=num_resamples,
            vectorized=True,
            method="percentile",
            batch=num_resamples,
            rng=np.random.default_rng(0),
        )

    def of_raw_pairs(w: Array) -> Callable[..., Array]:
        """r of one configuration from the pairs of the conversations drawn."""

        def statistic(drawn: Array, axis: int) -> Array:
            drawn = np.moveaxis(np.atleast_2d(drawn), axis, -1)
            return np.array([_raw_r(w, [x[c] for c in row], [y[c] for c in row]) for row in drawn])

        return statistic

    def of_raw_pairs_at_once(drawn: Array, axis: int) -> Array:
        """r of all configurations from the pairs drawn, one product a conversation's piece."""
        drawn = np.moveaxis(np.atleast_2d(drawn), axis, -1)
        return np.stack([_raw_r_at_once(weights, x, y, row) for row in drawn], axis=-1)

    def of_sums(w: Array) -> Callable[..., Array]:
        """r of one configuration from sums by conversation: the table, without our product."""
        from_sums = w[None]

        def statistic(drawn: Array, axis: int) -> Array:
            drawn = np.moveaxis(np.atleast_2d(drawn), axis, -1)
            return pearson(sums[drawn].sum(axis=-2), from_sums)[..., 0]

        return statistic

    some = weights[:RAW_CONFIGURATIONS]
    own = cpu_seconds({"leray": ours}, repeats)["leray"]
    parts = {
        "raw": lambda: [scipy_bootstrap(of_raw_pairs(w), RAW_RESAMPLES) for w in some],
        "at once": lambda: scipy_bootstrap(of_raw_pairs_at_once, RAW_RESAMPLES),
        "sums": lambda: [scipy_bootstrap(of_sums(w), NUM_RESAMPLES) for w in some],
    }
    part = cpu_seconds(parts, 1)
    with threadpool_limits(1):
        part = {k: min(v, part[k]) for k, v in cpu_seconds(parts, 1).items()}
    share = NUM_RESAMPLES / RAW_RESAMPLES
    configurations = len(weights) / RAW_CONFIGURATIONS
    report.table(
        f"(b) {NUM_RESAMPLES:,} cluster resamples x {len(weights)} configurations, percentile "
        "intervals, the building of the table included",
        Row(name="leray: counts @ table, pearson, quantiles", seconds=own),
        [
            (
                Row(
                    name="scipy.stats.bootstrap, raw pairs, a configuration at a time",
                    seconds=part["raw"] * share * configurations,
                    part=f"EXTRAPOLATED from {RAW_RESAMPLES} resamples x {RAW_CONFIGURATIONS} "
                    f"configurations: {part['raw']:.2f} CPU-s",
                ),
                1_000,
            ),
            (
                Row(
                    name="scipy.stats.bootstrap, raw pairs, all configurations in one product",
                    seconds=part["at once"] * share,
                    part=f"EXTRAPOLATED from {RAW_RESAMPLES} resamples x all configurations: "
                    f"{part['at once']:.2f} CPU-s",
                ),
                1_000,
            ),
            (
                Row(
                    name="scipy.stats.bootstrap given our table of sums, a configuration at a time",
                    seconds=part["sums"] * configurations,
                    part=f"EXTRAPOLATED from {NUM_RESAMPLES:,} resamples x {RAW_CONFIGURATIONS} "
                    f"configurations: {part['sums']:.2f} CPU-s; the table does most of the work, "
                    "whoever resamples it",
                ),
                None,
            ),
        ],
    )


def _raw_r(w: Array, x: list[Array], y: list[Array]) -> float:
    """Pearson's r of Σ w_j x_j with y over the pairs of these conversations together.

    Moments about zero over what was drawn: no pair is copied, which is the fastest for the peer.
    """
    n = s = t = ss = st = tt = 0.0
    for xc, yc in zip(x, y, strict=True):
        score = w @ xc
        n += len(yc)
        s += score.sum()
        t += yc.sum()
        ss += score @ score
        st += score @ yc
        tt += yc @ yc
    return float((n * st - s * t) / np.sqrt((n * ss - s * s) * (n * tt - t * t)))


def _raw_r_at_once(weights: Array, x: list[Array], y: list[Array], drawn: Array) -> Array:
    n = t = tt = 0.0
    s, ss, st = (np.zeros(len(weights)) for _ in range(3))
    for c in drawn:
        n += len(y[c])
        t += y[c].sum()
        tt += y[c] @ y[c]
        for start in range(0, len(y[c]), 2048):
            piece = slice(start, start + 2048)
            score = weights @ x[c][:, piece]
            s += score.sum(axis=1)
            ss += np.einsum("cr,cr->c", score, score)
            st += score @ y[c][piece]
    return (n * st - s * t) / np.sqrt((n * ss - s * s) * (n * tt - t * t))


def permutation_work(
    conversations: list[Conversation], weights: Array
) -> tuple[Callable[[], float], Callable[[Array, int], Array], Array]:
    """Our test, the statistic of SciPy's under given labels and axis, and the centred labels."""
    table = table_of(conversations)
    x = np.concatenate([c.x for c in conversations], axis=1).astype(np.float64)
    y = np.concatenate([c.y for c in conversations]).astype(np.float64)
    x -= x.mean(axis=1, keepdims=True)
    y -= y.mean()
    S, b, s = covariances(table.total)
    # r = (Xᵀy / n) · w / √(wᵀSw · s): the denominator is the same for every permutation.
    unit = (weights / np.sqrt(np.einsum("ci,ij,cj->c", weights, S, weights) * s)[:, None]).T
    origin = np.concatenate([c.x for c in conversations], axis=1).mean(axis=1, dtype=np.float64)
    share = np.mean(np.concatenate([c.y for c in conversations]))

    def ours() -> float:
        products = []
        for c in conversations:
            centred, truth = c.x - origin[:, None], c.y - share
            spans = [slice(*c.offsets[k : k + 2]) for k in range(len(c.offsets) - 1)]
            products.append(
                rotation_products([centred[:, q] for q in spans], [truth[q] for q in spans])
            )
        drawn = draw_elements(products, NUM_PERMUTATIONS, np.random.default_rng(0))
        largest = (drawn / len(y) @ unit).max(axis=1)
        return p_value(largest, float((b @ unit).max()), identity_in_null=False)

    def largest_r(labels: Array, axis: int) -> Array:
        """What the table knows is given away: only Xᵀy is computed under each permutation."""
        labels = np.moveaxis(np.asarray(labels), axis, -1)
        return (labels @ x.T / len(y) @ unit).max(axis=-1)

    return ours, largest_r, y


def compare_permutations(
    report: Report, conversations: list[Conversation], weights: Array, repeats: int
) -> None:
    """(c) The largest r over all configurations, under permutations of the labels."""
    ours, largest_r, y = permutation_work(conversations, weights)

    def theirs(vectorized: bool, num_shuffles: int) -> object:
        return stats.permutation_test(
            (y,),
            largest_r if vectorized else lambda labels: float(largest_r(labels, 0)),
            permutation_type="pairings",
            vectorized=vectorized,
            n_resamples=num_shuffles,
            batch=4 if vectorized else 1,
            alternative="greater",
            rng=np.random.default_rng(0),
        )

    own = cpu_seconds({"leray": ours}, min(repeats, 3))["leray"]
    # The first shuffle pays for n!, once: what a permutation costs is what the others add.
    kinds = {(v, n): partial(theirs, v, n) for v in (True, False) for n in (1, 1 + SHUFFLES)}
    with threadpool_limits(1):
        took = cpu_seconds({f"{v} {n}": run for (v, n), run in kinds.items()}, 1)
    part = min(took[f"{v} {1 + SHUFFLES}"] - took[f"{v} 1"] for v in (True, False))
    report.table(
        f"(c) {NUM_PERMUTATIONS:,} permutations, the maximum over {len(weights)} configurations",
        Row(name="leray: rotations by conversation (FFT), drawn and summed", seconds=own),
        [
            (
                Row(
                    name="scipy.stats.permutation_test, pairings, Xᵀy only",
                    seconds=part * NUM_PERMUTATIONS / SHUFFLES,
                    part=f"EXTRAPOLATED from {SHUFFLES} permutations: {part:.2f} CPU-s "
                    "beyond those of the first, which pays for n! once; it shuffles rows "
                    "freely, which the data's dependence does not allow",
                ),
                1_000,
            )
        ],
    )


if __name__ == "__main__":
    sys.exit(main())

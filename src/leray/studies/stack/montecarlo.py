"""Monte Carlo: a million synthetic conversations with planted weights, and what they can show.

Three simulations of one law: a small one (*pilot*) on which weights are fitted and the best of the
169 is chosen; the large one in ``gram`` mode, on which everything is judged; and a literal one,
with which it is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from leray.evidence.bootstrap import Interval, leave_one_out, weight_intervals
from leray.evidence.moments import covariances, pearson
from leray.evidence.montecarlo import (
    BatchBootstrap,
    Simulated,
    batch_jackknife,
    convergence,
    largest_half_width,
    num_for_power,
    paired_effect,
    paired_power,
    small_studies,
)
from leray.evidence.optimum import simplex_optimum
from leray.memory.blocks import FOUR
from leray.memory.generator import ConversationLaw
from leray.memory.methods import EQUAL, INTUITIVE, OPTIMAL, landscape_grid
from leray.memory.simulation import MonteCarlo
from leray.studies.outcome import Outcome

Array = np.ndarray
Drive = Callable[[Any], Any]
NAME = "montecarlo"
ORDINARY = 0.95  # of the intervals that no verdict is read off
MILLION = 1_000_000  # the study that M7 speaks of
ALPHA, POWER = 0.05, 0.80
NUM_PILOT = 20_000
METHODS = (
    "fitted",
    "document",
    "intuitive",
    "equal",
    "best of the grid",
    *("surprise", "relevance", "decay", "habituation"),
)
PAIRS = (
    ("fitted", "best of the grid", "r"),
    ("document", "intuitive", "r"),
    ("fitted", "surprise", "r"),
    ("fitted", "surprise", "nDCG@10"),
    ("fitted", "relevance", "nDCG@10"),
)
SIZES = tuple(10**k for k in range(2, 7))
_CURVE = tuple(round(10 ** (k / 8)) for k in range(6, 49))


@dataclass(frozen=True, kw_only=True)
class _Study:
    """The simulations, and the level of the verdicts."""

    law: ConversationLaw
    grid: Array
    methods: Array
    gram: Simulated
    literal: Simulated
    level: float


def run(
    drive: Drive,
    *,
    num_gram: int,
    num_literal: int,
    level: float,
    num_pilot: int = NUM_PILOT,
    num_resamples: int = 2_000,
    law: ConversationLaw | None = None,
) -> Outcome:
    """Simulate, compare the modes, and say what a synthetic million fixes.

    Args:
        drive: Runs a computation to its result.
        num_gram, num_literal, num_pilot: Conversations, each at least 1,600.
        level: Of the intervals of M1, M2, M3, M5, M7 and M9.
        num_resamples: Of the batches, for the fitted weights.
        law: What is drawn; the document's weights are planted where none is given.
    """
    law = law or ConversationLaw()
    grid = landscape_grid()[0]
    pilot = drive(_simulation("monte carlo pilot", law, grid, np.zeros((0, 4)), num_pilot, "gram"))
    methods = _methods(grid, pilot.moments.sum(axis=0))
    simulations = [
        _simulation("monte carlo", law, grid, methods, num_gram, "gram"),
        _simulation("monte carlo literal", law, grid, methods, num_literal, "literal"),
    ]
    gram, literal = (drive(s) for s in simulations)
    bootstrap = BatchBootstrap(moments=gram.moments, num_resamples=num_resamples)
    resampled = drive(bootstrap)
    study = _Study(law=law, grid=grid, methods=methods, gram=gram, literal=literal, level=level)
    weights = _weights(gram, resampled, ORDINARY)
    estimates = _verdict_estimates(study, resampled) | _estimates(study)
    modes = _modes(study)
    return Outcome(
        name=NAME,
        title="Monte Carlo on synthetic conversations",
        paragraph=_paragraph(study, estimates, weights, modes),
        estimates=estimates,
        weights=weights,
        diagnostics=_diagnostics(study, modes, num_pilot),
        computations=("monte carlo pilot", *(s.name for s in simulations), bootstrap.name),
        details=_details(study, weights, modes),
    )


def _simulation(
    name: str, law: ConversationLaw, grid: Array, methods: Array, n: int, mode: Any
) -> MonteCarlo:
    return MonteCarlo(
        law=law, configurations=grid, methods=methods, num_conversations=n, mode=mode, name=name
    )


def _methods(grid: Array, moments: Array) -> Array:
    """The weights of :data:`METHODS`; what is fitted is fitted on the pilot's moments."""
    fitted = simplex_optimum(covariances(moments)).w
    best = grid[pearson(moments, grid).argmax()]
    alone = {name: np.eye(len(FOUR))[k] for k, name in enumerate(FOUR)}
    rows = {"fitted": fitted, "document": OPTIMAL, "intuitive": INTUITIVE, "equal": EQUAL}
    rows |= {"best of the grid": best} | alone
    return np.array([rows[m] for m in METHODS])


def _weights(gram: Simulated, resampled: Array, level: float) -> dict[str, Interval]:
    """The exact optimum on the pooled moments; an interval for each weight, by batches."""
    estimate = simplex_optimum(covariances(gram.moments.sum(axis=0))).w
    left = simplex_optimum(covariances(leave_one_out(gram.moments))).w
    intervals = weight_intervals(estimate, resampled, left, level)
    over = f"over {len(gram.counts)} batches"
    return {
        s: replace(i, kind=f"{i.kind} {over}", n=gram.total.n)
        for s, i in zip(FOUR, intervals, strict=True)
    }


def _verdict_estimates(study: _Study, resampled: Array) -> dict[str, Interval]:
    """What the claims are judged by on the synthetic million."""
    weights = _weights(study.gram, resampled, study.level)
    regret = _on_moments(study, _regret, study.level)
    return {
        "M1": weights["surprise"],
        "M2": weights["decay"],
        "M3": _ndcg_difference(study, "surprise", "fitted"),
        "M5": replace(regret, low=max(regret.low, 0.0)),  # it cannot be negative
        "M7": largest_half_width(
            study.gram, num_units=MILLION, inner_level=ORDINARY, level=study.level
        ),
        "M9": _ndcg_difference(study, "fitted", "relevance"),
    }


def _ndcg_difference(study: _Study, a: str, b: str) -> Interval:
    """Mean nDCG@10 of one method minus another's, over batches."""
    s, first = study.gram, study.gram.ndcg.start
    columns = [first + METHODS.index(m) for m in (a, b)]
    sums = np.column_stack([s.counts, s.counts[:, None] * s.means[:, columns]])
    return batch_jackknife(
        lambda v: (v[..., 1] - v[..., 2]) / v[..., 0], sums, s.total.n, study.level
    )


def _regret(moments: Array, grid: Array) -> Array:
    """How much of the exact optimum's r the best configuration of the grid misses."""
    return 1.0 - pearson(moments, grid).max(axis=-1) / simplex_optimum(covariances(moments)).r


def _on_moments(
    study: _Study, statistic: Callable[[Array, Array], Array], level: float
) -> Interval:
    gram = study.gram
    return batch_jackknife(lambda v: statistic(v, study.grid), gram.moments, gram.total.n, level)


def _estimates(study: _Study) -> dict[str, Interval]:
    """The correlations, pooled over all turns and averaged over conversations, and nDCG@10."""
    total, gram = study.gram.total, study.gram
    document = np.array([OPTIMAL])
    found = {
        "pooled r, exact optimum": _on_moments(
            study, lambda v, _: simplex_optimum(covariances(v)).r, ORDINARY
        ),
        "pooled r, best of the 169": _on_moments(
            study, lambda v, grid: pearson(v, grid).max(axis=-1), ORDINARY
        ),
        "pooled r, the document's weights": _on_moments(
            study, lambda v, _: pearson(v, document)[..., 0], ORDINARY
        ),
    }
    for k, method in enumerate(METHODS):
        found[f"mean r by conversation, {method}"] = total.interval(gram.r.start + k, ORDINARY)
    for k, method in enumerate(METHODS):
        found[f"mean nDCG@10, {method}"] = total.interval(gram.ndcg.start + k, ORDINARY)
    z = special.ndtri((1 + ORDINARY) / 2)
    for a, b, metric in PAIRS:
        e = paired_effect(total, *_columns(gram, a, b, metric))
        found[f"d, {a} against {b}, {metric}"] = Interval(
            estimate=e.d, low=e.d - z * e.d_se, high=e.d + z * e.d_se,
            level=ORDINARY, kind="normal", n=e.n,
        )  # fmt: skip
    return found


def _columns(simulated: Simulated, a: str, b: str, metric: str) -> tuple[int, int]:
    first = simulated.r.start if metric == "r" else simulated.ndcg.start
    return first + METHODS.index(a), first + METHODS.index(b)


def _modes(study: _Study) -> list[dict[str, Any]]:
    """Every mean and standard deviation in both modes, and z, their difference in its errors."""
    rows = []
    for metric, span in (("r", study.gram.r), ("nDCG@10", study.gram.ndcg)):
        for k, method in enumerate(METHODS):
            column = span.start + k
            for what, of in (("mean", _mean_and_error), ("sd", _sd_and_error)):
                (g, g_se), (lit, lit_se) = of(study.gram, column), of(study.literal, column)
                se = math.hypot(g_se, lit_se)
                rows.append(
                    {
                        "name": f"{what} {metric}, {method}",
                        "gram": g, "gram_se": g_se, "literal": lit, "literal_se": lit_se,
                        "z": (g - lit) / se if se > 0 else 0.0,
                    }
                )  # fmt: skip
    return rows


def _mean_and_error(s: Simulated, column: int) -> tuple[float, float]:
    return float(s.total.mean[column]), float(s.total.sd[column]) / math.sqrt(s.total.n)


def _sd_and_error(s: Simulated, column: int) -> tuple[float, float]:
    """The standard deviation, and its error from how the batches' variances differ."""
    variances = s.squares[:, column] / (s.counts - 1)
    sd = math.sqrt(float(variances.mean()))
    error = float(variances.std(ddof=1)) / math.sqrt(len(variances))
    return sd, error / (2 * sd) if sd > 0 else 0.0


def _diagnostics(study: _Study, modes: list[dict[str, Any]], num_pilot: int) -> dict[str, Any]:
    threshold = float(special.ndtri(1 - ALPHA / (2 * len(modes))))
    largest = max(abs(row["z"]) for row in modes)
    left_out = simplex_optimum(covariances(study.gram.moments.sum(axis=0)))
    return {
        "conversations, gram": study.gram.total.n,
        "conversations, literal": study.literal.total.n,
        "conversations, pilot": num_pilot,
        "turns a conversation": study.law.num_turns,
        "dimensions": study.law.dim,
        "configurations": len(study.grid),
        "batches": len(study.gram.counts),
        "largest |z| between the modes": largest,
        "threshold of |z| at .05 over all compared": threshold,
        "modes agree": largest <= threshold,
        "planted weights on the grid": _on_grid(study),
        "KKT residual of the exact optimum": float(left_out.residual),
    }


def _on_grid(study: _Study) -> bool:
    """Whether a configuration of the grid is what was planted: then a grid cannot miss it."""
    return bool(np.abs(study.grid - np.array(study.law.weights)).max(axis=1).min() < 1e-9)


def _details(
    study: _Study, weights: dict[str, Interval], modes: list[dict[str, Any]]
) -> dict[str, Any]:
    running = convergence(study.gram, METHODS.index("document"), SIZES, ORDINARY)
    return {
        "num_conversations": study.gram.total.n,
        "num_literal": study.literal.total.n,
        "num_turns": study.law.num_turns,
        "planted": dict(zip(FOUR, study.law.weights, strict=True)),
        "recovered": {s: [i.low, i.estimate, i.high] for s, i in weights.items()},
        "convergence": {"method": "document", "level": ORDINARY,
                        "rows": [list(row) for row in running]},
        "power": {"alpha": ALPHA, "pairs": [_power(study, *pair) for pair in PAIRS]},
        "modes": modes,
    }  # fmt: skip


def _power(study: _Study, a: str, b: str, metric: str) -> dict[str, Any]:
    """The effect, its power curve, and how often the small studies found it."""
    e = paired_effect(study.gram.total, *_columns(study.gram, a, b, metric))
    shift = 0 if metric == "r" else len(METHODS)
    small = small_studies(study.gram, shift + METHODS.index(a), shift + METHODS.index(b), 1 - ALPHA)
    return {
        "a": a, "b": b, "metric": metric, "mean": e.mean, "sd": e.sd, "d": e.d, "d_se": e.d_se,
        "needed": num_for_power(e.d, POWER, ALPHA),
        "curve": [[n, paired_power(e.d, n, ALPHA)] for n in _CURVE],
        "observed": [list(s) for s in small],
    }  # fmt: skip


def _paragraph(
    study: _Study,
    estimates: dict[str, Interval],
    weights: dict[str, Interval],
    modes: list[dict[str, Any]],
) -> str:
    n, T = study.gram.total.n, study.law.num_turns
    planted = ", ".join(f"{s} {w:.2f}" for s, w in zip(FOUR, study.law.weights, strict=True))
    found = ", ".join(f"{s} {i.estimate:.4f}" for s, i in weights.items())
    width = max((i.high - i.low) / 2 for i in weights.values())
    half, threshold = estimates["M7"], special.ndtri(1 - ALPHA / (2 * len(modes)))
    agree = max(abs(row["z"]) for row in modes) <= threshold
    same = (
        "the same numbers within the error of chance"
        if agree
        else "numbers that differ by more than chance explains"
    )
    needed = _needed(study, *PAIRS[-1])
    return (
        f"We asked what {n:,} invented conversations of {T} turns can settle, when the weights "
        f"that make a turn important are known because we planted them ({planted}). The exact "
        f"best weights on all of them are {found}, with 95% intervals of at most ±{width:.4f}. "
        "With a million conversations, the 95% interval for the mean correlation is at widest "
        f"±{half.estimate:.6f} over the {len(study.grid)} weightings tried "
        f"({100 * half.level:.4g}% interval of this half-width: {half.low:.6f} to "
        f"{half.high:.6f}). {needed}{_grid_note(study)} Drawing {study.literal.total.n:,} "
        f"conversations literally, embedding by embedding, gave {same} ({len(modes)} averages and "
        "spreads compared). "
        "All of this describes the generator, whose numbers we chose: more invented conversations "
        "fix more decimals of them, and say nothing about real ones; an effect size d or a power "
        "computed here is the generator's, and large d or small p at this size is no evidence that "
        "the signals matter to people."
    )


def _grid_note(study: _Study) -> str:
    if not _on_grid(study):
        return ""
    return (
        " The planted weights are themselves one of the weightings tried, so that nothing is to be "
        "gained here over trying them all (claim M5)."
    )


def _needed(study: _Study, a: str, b: str, metric: str) -> str:
    e = paired_effect(study.gram.total, *_columns(study.gram, a, b, metric))
    n = num_for_power(e.d, POWER, ALPHA)
    if n is None:
        return f"The {a} weights and {b} alone do not differ in {metric}."
    return (
        f"Finding that the {a} weights and {b} alone differ in {metric} (by {e.mean:.3f}; "
        f"d = {e.d:.2f}, the mean difference in units of its spread over conversations) with 80% "
        f"chance takes {n:,} such conversations, not a million."
    )

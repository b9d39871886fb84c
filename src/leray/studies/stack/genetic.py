"""The genetic algorithm beside the exact optimum, a library's CMA-ES, random search and the grids.

All search the same landscape: Pearson's r of the four signals' weights on all conversations, at the
decay time of the exact optimum.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from leray.evidence.bootstrap import Interval, leave_one_out, root_jackknife_t_ends
from leray.evidence.evolution import (
    CovarianceSearch,
    Evolution,
    RandomSearch,
    Smoothness,
    Trajectory,
    evaluations_until,
    exchange_directions,
    smoothness,
)
from leray.evidence.moments import Array, covariances, pearson
from leray.evidence.optimum import simplex_optimum
from leray.evidence.resampling import Samples, best_over_tau
from leray.memory.blocks import FOUR
from leray.memory.methods import simplex_grid
from leray.studies.importance import Drive, Evidence
from leray.studies.outcome import Outcome

TOLERANCE = 1e-6  # relative to the optimum: there a search counts as having arrived
_FINE_STEP = 0.05
_PLANE = np.array([[1, 0], [0, 1], [1, 1], [1, -1]])  # the eight neighbours of a cell


def run(
    evidence: Evidence,
    drive: Drive,
    *,
    level: float,
    num_generations: int = 500,
    population: int = 1_000,
) -> Outcome:
    """Search by evolution and by its rivals, and judge both against the exact optimum.

    Args:
        level: Of the interval of claim M5.
        num_generations, population: The size of the genetic algorithm.
    """
    moments = evidence.moments[evidence.tau].sum(axis=0)
    exact = simplex_optimum(covariances(moments))
    optimum = float(exact.r)
    d = len(FOUR)
    evolution = Evolution(
        moments=moments, num_signals=d, population=population, num_generations=num_generations
    )
    searches: list[Any] = [
        evolution,
        RandomSearch(
            moments=moments,
            num_signals=d,
            num_evaluations=population + num_generations * population // 2,
            batch=population // 2,
        ),
    ]
    if find_spec("cma") is not None:
        searches.append(CovarianceSearch(moments=moments, num_signals=d))
    results = [drive(search) for search in searches]
    cma = results[2] if len(results) > 2 else None
    fine = simplex_grid(d, _FINE_STEP)
    grid_r, fine_r = pearson(moments, evidence.grid), pearson(moments, fine)
    rows = [
        _row("genetic algorithm", results[0], optimum),
        *([_cma_row(cma, optimum)] if cma else []),
        _row("random search", results[1], optimum),
        _grid_row(f"grid of {len(grid_r)}", grid_r, optimum),
        _grid_row(f"grid of {len(fine_r):,}", fine_r, optimum),
    ]
    smooth = {
        "coarse": smoothness(grid_r, _plane_coordinates(len(grid_r)), _PLANE),
        "fine": smoothness(
            fine_r, np.rint(fine / _FINE_STEP).astype(np.int64), exchange_directions(d)
        ),
    }
    share = missed_by_grid(evidence, results[0].found[0], level)
    return Outcome(
        name="genetic",
        title="Genetic algorithm",
        paragraph=_paragraph(rows, smooth, share, optimum, len(results[0].best)),
        estimates={"M5": share},
        diagnostics=_diagnostics(rows, smooth, optimum, float(exact.residual)),
        computations=tuple(search.name for search in searches),
        details=_details(results[0], results[1], cma, rows, optimum, evidence),
    )


def missed_by_grid(evidence: Evidence, found: float, level: float) -> Interval:
    """Claim M5: (r found by evolution − r of the best of the 169) / r of the exact optimum.

    In the jackknife the exact optimum stands in for evolution, whose measured regret is far below
    the width of the interval; it may choose its decay time anew, as the grid may not, so that the
    interval errs against the claim, if at all.

    Returns:
        The jackknife-t of the share's root, by conversation; no interval (NaN) with one.
    """
    by_cluster = evidence.moments
    clusters = by_cluster.shape[1]
    total = by_cluster.sum(axis=1)
    grid = pearson(total[evidence.tau], evidence.grid).max()
    estimate = (found - grid) / float(best_over_tau(total)[2])
    low = high = np.nan
    if clusters > 1:
        left = np.stack([leave_one_out(m) for m in by_cluster])
        left_grid = pearson(left[evidence.tau], evidence.grid).max(axis=-1)
        without = np.maximum(_share(best_over_tau(left)[2], left_grid), 0.0)[:, None]
        (low,), (high,) = root_jackknife_t_ends(np.array([max(estimate, 0.0)]), without, level)
    return Interval(
        estimate=float(estimate),
        low=float(low),
        high=float(high),
        level=level,
        kind="jackknife-t of the root",
        n=clusters,
    )


def _share(optimum: Array, grid: Array) -> Array:
    """(optimum − grid)/optimum; where no weights correlate positively, 1: all is missed."""
    positive = optimum > 0
    return np.where(positive, (optimum - grid) / np.where(positive, optimum, 1.0), 1.0)


def _plane_coordinates(num_points: int) -> Array:
    side = round(num_points**0.5)
    return np.stack(np.divmod(np.arange(num_points), side), axis=1)


def _row(name: str, search: Trajectory, optimum: float) -> dict[str, Any]:
    """A search's worst and best shard; it has arrived only where every shard has."""
    until = [evaluations_until(search.evaluations, b, optimum, TOLERANCE) for b in search.best]
    return _searched(name, search.best[:, -1], until, int(search.evaluations[-1]), optimum)


def _cma_row(shards: list[Samples], optimum: float) -> dict[str, Any]:
    until = [evaluations_until(s["evaluations"], s["best"], optimum, TOLERANCE) for s in shards]
    last = np.array([s["best"][-1] for s in shards])
    most = max(int(s["evaluations"][-1]) for s in shards)
    return _searched("CMA-ES (library)", last, until, most, optimum)


def _searched(
    name: str, best: Array, until: list[int | None], evaluations: int, optimum: float
) -> dict[str, Any]:
    arrived = [u for u in until if u is not None]
    return {
        "search": name,
        "r": float(best.max()),
        "regret": max(0.0, optimum - float(best.max())),
        "worst_regret": max(0.0, optimum - float(best.min())),
        "evaluations": evaluations,
        "arrived": len(arrived),
        "starts": len(until),
        "evaluations_until": int(np.median(arrived)) if arrived else None,
    }


def _grid_row(name: str, r: Array, optimum: float) -> dict[str, Any]:
    near = r.max() >= optimum - TOLERANCE * abs(optimum)
    return _searched(name, r.max(keepdims=True), [len(r) if near else None], len(r), optimum)


def _diagnostics(
    rows: list[dict[str, Any]], smooth: dict[str, Smoothness], optimum: float, residual: float
) -> dict[str, float | int | str | bool | None]:
    out: dict[str, float | int | str | bool | None] = {
        "exact optimum r": optimum,
        "exact optimum, largest violation of its conditions": residual,
    }
    for row in rows:
        name = row["search"]
        out[f"{name}: regret, in r"] = row["regret"]
        out[f"{name}: evaluations"] = row["evaluations"]
        out[f"{name}: starts that came within 1e-6"] = f"{row['arrived']} of {row['starts']}"
        out[f"{name}: evaluations until within 1e-6 (median)"] = row["evaluations_until"]
    for s in smooth.values():
        out[f"strict local maxima among {s.num_points:,} points"] = s.local_maxima
        out[f"largest second difference among {s.num_points:,} points"] = s.second_difference
    return out


def _paragraph(
    rows: list[dict[str, Any]],
    smooth: dict[str, Smoothness],
    share: Interval,
    optimum: float,
    starts: int,
) -> str:
    genetic, grid, fine = rows[0], rows[-2], rows[-1]
    interval = (
        f" ({100 * share.level:.6g}% interval by conversation {100 * share.low:.1f}% to "
        f"{100 * share.high:.1f}%)"
        if np.isfinite(share.low)
        else " (one conversation gives no interval)"
    )
    arrived = genetic["arrived"]
    return (
        f"Can evolution find better weights than trying out a grid? The genetic algorithm looked "
        f"at {genetic['evaluations']:,} sets of weights from each of {starts} starts; the best "
        f"reached a correlation of {genetic['r']:.5f}, and {arrived} of the {starts} starts came "
        f"within a millionth of {optimum:.5f}, the best that any weights can reach. The grid of "
        f"{grid['evaluations']} stopped at {grid['r']:.5f}: what it misses is "
        f"{100 * share.estimate:.1f}% of the best{interval}; a grid over all four weights "
        f"({fine['evaluations']:,} points) misses {100 * fine['regret'] / optimum:.2f}%. "
        "Neither search is needed: the best weights have an exact solution (a small system of "
        "equations for each of the 15 ways to choose among the signals), which makes the question "
        "moot. The landscape has no false summit: wherever the correlation is positive, every "
        "local maximum is the global one "
        f"(proved, not measured); on the two grids {smooth['coarse'].local_maxima} and "
        f"{smooth['fine'].local_maxima} points exceed all their neighbours"
        + (
            "; a grid can show further ones where a narrow ridge runs between its points. "
            if max(s.local_maxima for s in smooth.values()) > 1
            else ". "
        )
        + "This compares searches on the same data; it does not say how well the weights do on "
        "conversations not seen."
    )


def _details(
    evolution: Trajectory,
    random: Trajectory,
    cma: list[Samples] | None,
    rows: list[dict[str, Any]],
    optimum: float,
    evidence: Evidence,
) -> dict[str, Any]:
    kept = _moments_kept(len(evolution.evaluations))
    relative = 1 - np.stack([evolution.best, evolution.mean])[..., kept] / optimum
    drawn = _moments_kept(len(random.evaluations))
    return {
        "optimum": optimum,
        "rows": rows,
        "found": dict(zip(FOUR, evolution.found[1].tolist(), strict=True)),
        "exact": dict(zip(FOUR, evidence.optimum.tolist(), strict=True)),
        "generations": kept.tolist(),
        "genetic": _line(evolution.evaluations[kept], relative[0]),
        "mean_regret": _rounded(relative[1]),
        "diversity": _rounded(evolution.diversity[:, kept]),
        "random": _line(random.evaluations[drawn], 1 - random.best[:, drawn] / optimum),
        "cma": [_line(s["evaluations"], 1 - s["best"] / optimum) for s in cma or []],
    }


def _moments_kept(count: int) -> Array:
    """The first moments all, later ones ever more sparsely: what a logarithmic axis shows."""
    return np.unique(np.geomspace(1, count, 100).round().astype(int)) - 1


def _line(evaluations: Array, regret: Array) -> dict[str, Any]:
    return {"evaluations": evaluations.tolist(), "regret": _rounded(regret)}


def _rounded(values: Array) -> Any:
    """Four digits, and nothing below 0: a regret of −1e-16 is rounding."""
    return [_rounded(v) if np.ndim(v) else float(f"{v:.4g}") for v in np.maximum(values, 0.0)]

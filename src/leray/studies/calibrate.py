"""One run of the calibration: what intervals cover, whether posteriors are calibrated, how often
tests cry wolf. From the words of the request to the files of the run's folder.

Every method is judged at 40 conversations or more under its own model, and shown beside it where
its model is wrong. Sizes follow from one number, the data sets of the commonest cell.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from leray.errors import LerayError, check_seed
from leray.evidence.sbc import Ranks, SimulationBasedCalibration, ecdf_depth
from leray.runs import FolderStore, Key, RunFolder
from leray.runs.computation import Computation
from leray.studies.coverage_data import (
    EDGE,
    HEAVY,
    INDEPENDENT,
    NEIGHBOURS,
    OWN,
    SERIAL,
    VARYING,
    Setting,
    TrueDifferences,
)
from leray.studies.coverage_methods import (
    AT_EDGE,
    FORMS,
    INSIDE,
    LEVELS,
    Cell,
    ClusterCoverage,
    Form,
    MonteCarloCoverage,
)
from leray.studies.coverage_posterior import (
    ENTRIES,
    INTERCEPTS,
    POSTERIOR,
    QUANTITIES,
    REPORTED,
    PosteriorCoverage,
    entry,
)
from leray.studies.judged_rates import (
    ALPHA_TOLERANCE,
    COVERAGE_TOLERANCE,
    MET,
    MISSED,
    UNIFORM_ALPHA,
    Bound,
    Measured,
)
from leray.studies.rejection_rates import ALPHAS, NOT_RELIED_ON, TESTS, NullCell, RejectionRates

STUDY = "calibrate"
DATASETS = 3_000
MANY = 40
"""From this many conversations on, a coverage is judged."""
OWN_MODEL, BOTH = "own model", "serial dependence, slopes that vary"
_NUM_RANKED = 199  # ranks 10 … 189 and 5 … 194 of 200 are exactly 90% and 95%
_BAND_SIMULATIONS = 2_000
Drive = Callable[[Computation[Any]], Any]
Publish = Callable[[RunFolder, dict[str, Any], dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """All that the numbers of a run depend on.

    Args:
        datasets: Of the commonest cell (40 conversations, own model); the others follow from it.
        seed: The root of all randomness.
    """

    datasets: int = DATASETS
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not 40 <= self.datasets <= 1_000_000:
            raise LerayError(
                f"--datasets must be 40, below which nothing is measured, to 1,000,000 (100 for a "
                f"trial); got {self.datasets:,}"
            )


def run_calibrate(
    request: Request,
    *,
    out: Path | None,
    resume: Path | None,
    workers: int | None,
    publish: Publish,
) -> tuple[dict[str, Any], Path]:
    """Measure everything, or go on; returns the result as JSON has it, and the run's folder.

    Args:
        request: What to compute; where a run is resumed, its own settings hold instead.
        out: A new or empty folder; None for one below ``runs/``.
        resume: The folder of a run to go on with.
        workers: Processes, by default one a core; the numbers do not depend on it.
        publish: Called with (folder, result, details) to write what a person reads.

    Raises:
        LerayError: for anything the user can mend; what was finished stays in the folder.
        Interrupted: on Ctrl-C, with the command that goes on.
    """
    if workers is not None and workers < 1:
        raise LerayError(f"{workers} workers cannot do anything: ask for 1 or more")
    if resume is not None:
        folder = RunFolder.resume(resume)
        request = request_of(folder.config)
    else:
        folder = RunFolder.create(out, STUDY, asdict(request))
    folder.resume_command = f"leray calibrate --resume {shlex.quote(str(folder.path))}"
    folder.store = FolderStore(folder.path / "checkpoints", folder.resume_command)
    workers = workers or len(os.sched_getaffinity(0))
    key = Key.root(request.seed)
    with folder:
        with threadpool_limits(limits=1):
            result, details = measure(request, lambda c: folder.drive(c, key=key, workers=workers))
        seconds = [{"name": n, "seconds": round(s, 1)} for n, s in folder.seconds.items()]
        result |= {"run": str(folder.path), "methods": seconds}
        for name, content in (("result", result), ("details", details)):
            folder.write(f"{name}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        publish(folder, result, details)
    return result, folder.path


def request_of(config: Mapping[str, Any]) -> Request:
    """The request that wrote this configuration."""
    return Request(datasets=config["datasets"], seed=config["seed"])


def measure(request: Request, drive: Drive) -> tuple[dict[str, Any], dict[str, Any]]:
    """Drive every computation; the result as JSON has it, and what only the figures need."""
    n = request.datasets
    ranks = drive(_simulation_based(n))
    rows = [
        *_cluster_rows(n, drive),
        *_monte_carlo_rows(n, drive),
        *_rank_rows(ranks),
    ]
    posterior = drive(PosteriorCoverage(num_rounds=_rounded(n / 32, 2)))
    rows += _posterior_rows(posterior)
    sbc, curves = uniformity(ranks, np.random.default_rng(request.seed))
    sbc["nuts_share_elsewhere"] = float((posterior["k_hat"] > 0.7).mean())
    false_positives = list(_rejection_rows(n, drive))
    judged = [r["met"] for r in (*rows, *false_positives, sbc) if r["met"] is not None]
    result = {
        "study": STUDY,
        "seed": request.seed,
        "datasets": n,
        "rows": rows,
        "false_positives": false_positives,
        "sbc": sbc,
        "summary": {what: judged.count(what) for what in ("met", "missed", "undecided")},
    }
    return result, {"sbc": curves}


def _rounded(num: float, multiple: int) -> int:
    """At least the number, as a multiple."""
    return max(1, -(-int(np.ceil(num)) // multiple)) * multiple


def _simulation_based(n: int) -> SimulationBasedCalibration:
    per_step = 16 if n >= 1_000 else 4
    return SimulationBasedCalibration(
        num_datasets=_rounded(n / 4, 4 * per_step),
        num_clusters=MANY,
        num_ranked=_NUM_RANKED,
        datasets_per_step=per_step,
    )


def _cells(n: int) -> Iterator[tuple[Setting, int, int]]:
    """Setting, conversations and data sets of each cell of cluster-resampling forms."""
    yield OWN, MANY, n
    yield OWN, 200, n // 2
    yield OWN, 10, n // 4
    yield EDGE, MANY, n // 2
    for setting in (INDEPENDENT, SERIAL, VARYING, HEAVY, NEIGHBOURS):
        yield setting, MANY, n // 4


def _cluster_rows(n: int, drive: Drive) -> Iterator[dict[str, Any]]:
    settings = tuple(dict.fromkeys(s.name for s, _, _ in _cells(n) if s is not EDGE))
    by_name = {s.name: s for s, _, _ in _cells(n)}
    # Of 40,000 conversations whatever is asked: its error must stay far below an interval's width.
    truths = drive(TrueDifferences(settings=tuple(by_name[name] for name in settings)))
    true = dict(zip(settings, truths[:, 0], strict=True))
    cells = tuple(
        Cell(
            setting=setting,
            num_clusters=C,
            num_datasets=num,
            true_differences=true.get(setting.name, np.full(2, np.nan)),
        )
        for setting, C, num in _cells(n)
    )
    every = drive(ClusterCoverage(cells=cells, num_steps=_steps(n)))
    for cell, held in zip(cells, every, strict=True):
        for k, form in enumerate(FORMS):
            if _asked(form, cell.setting):
                yield from _form_rows(form, cell.setting, cell.num_clusters, held[:, k])


def _steps(n: int) -> int:
    """Steps that a cell is cut into: at most a hundred data sets in one."""
    return max(2, -(-n // 100))


def _asked(form: Form, setting: Setting) -> bool:
    """At the edge only the weights are looked at, and elsewhere no weight is at the edge."""
    if setting is EDGE:
        return form.quantity in (AT_EDGE, INSIDE)
    return form.quantity != AT_EDGE


def _form_rows(form: Form, setting: Setting, C: int, held: np.ndarray) -> Iterator[dict[str, Any]]:
    own = setting is INDEPENDENT if form.row_wise else setting in (OWN, EDGE)
    name = OWN_MODEL if own else BOTH if setting is OWN else setting.name
    # The row-wise form is a foil, which no study uses: nothing is asked of it.
    judged = own and C >= MANY and not form.row_wise
    for level, shares in zip(LEVELS, held.T, strict=True):
        bound = Bound(nominal=level, tolerance=COVERAGE_TOLERANCE, at_least=form.at_least)
        quantity = (
            f"{form.quantity}, two at the edge" if _two_at_edge(form, setting) else form.quantity
        )
        yield coverage_row(form.method, quantity, name, C, level, shares, bound if judged else None)


def _two_at_edge(form: Form, setting: Setting) -> bool:
    """Weights inside the simplex, where two others stand at its edge."""
    return setting is EDGE and form.quantity == INSIDE


def coverage_row(
    method: str,
    quantity: str,
    setting: str,
    conversations: int,
    level: float,
    shares: np.ndarray,
    bound: Bound | None,
) -> dict[str, Any]:
    """A measured coverage as JSON has it; without a bound nothing is asked of it."""
    rate = Measured.of(shares)
    return {
        "method": method,
        "quantity": quantity,
        "setting": setting,
        "conversations": conversations,
        "level": level,
        "nominal": level,
        "coverage": rate.value,
        "mc_error": rate.se,
        "mc_interval": list(rate.interval),
        "num_datasets": rate.num_datasets,
        "criterion": None if bound is None else str(bound),
        "met": None if bound is None else bound.verdict(rate.interval),
    }


def _monte_carlo_rows(n: int, drive: Drive) -> Iterator[dict[str, Any]]:
    laws = (
        (OWN_MODEL, MANY, 0.0, False),
        (OWN_MODEL, 200, 0.0, False),
        ("serial dependence", MANY, 0.5, False),
        ("heavy tails", MANY, 0.0, True),
    )
    for setting, C, rho, heavy in laws:
        held = drive(
            MonteCarloCoverage(
                num_units=C,
                num_datasets=n,
                rho=rho,
                heavy_tails=heavy,
                name=f"monte-carlo.{setting.replace(' ', '-')}.{C}",
            )
        )
        for level, shares in zip(LEVELS, held.T, strict=True):
            bound = Bound(nominal=level, tolerance=COVERAGE_TOLERANCE)
            yield coverage_row(
                "Monte Carlo mean, Student's t", "mean of a unit", setting, C, level, shares,
                bound if setting == OWN_MODEL else None,
            )  # fmt: skip


def _rank_rows(ranks: Ranks) -> Iterator[dict[str, Any]]:
    """Coverage of equal-tailed intervals between order statistics, read off the ranks."""
    num = ranks.num_draws + 1
    for quantity, columns in (
        ("weights", [k for k, n in enumerate(ranks.names) if n.startswith("w")]),
        ("slope b", [ranks.names.index("b")]),
    ):
        for level in LEVELS:
            cut = round(num * (1 - level) / 2)
            inside = (ranks.ranks >= cut) & (ranks.ranks < num - cut)
            yield coverage_row(
                "posterior, equal-tailed", quantity, OWN_MODEL, MANY, level,
                inside[:, columns].mean(axis=1),
                Bound(nominal=level, tolerance=COVERAGE_TOLERANCE),
            )  # fmt: skip


def _posterior_rows(held: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """The intercept-only posterior is a foil, which no study uses: nothing is asked of it."""
    for law, method in ENTRIES:
        own = law.name == ("equal slopes" if method == INTERCEPTS else "slopes that vary")
        shares = held[entry(law, method)]
        for q, quantity in enumerate(QUANTITIES):
            if method == POSTERIOR and own and quantity != REPORTED:
                continue  # the ranks of the simulation-based calibration say it, on more data
            for k, level in enumerate(LEVELS):
                at_least = quantity == REPORTED
                bound = Bound(nominal=level, tolerance=COVERAGE_TOLERANCE, at_least=at_least)
                yield coverage_row(
                    "posterior, equal-tailed" if method == POSTERIOR else method,
                    quantity,
                    OWN_MODEL if own else law.name,
                    MANY,
                    level,
                    shares[:, q, k],
                    bound if own and method != INTERCEPTS else None,
                )


def _rejection_rows(n: int, drive: Drive) -> Iterator[dict[str, Any]]:
    """False-positive rates; heavy tails are shown beside."""
    cells = (
        NullCell(num_clusters=MANY, num_datasets=n),
        NullCell(num_clusters=10, num_datasets=n // 2),
        NullCell(num_clusters=MANY, num_datasets=n // 4, heavy_tails=True),
    )
    every = drive(RejectionRates(cells=cells, num_steps=_steps(n)))
    for cell, p in zip(cells, every, strict=True):
        setting, C = "heavy tails" if cell.heavy_tails else OWN_MODEL, cell.num_clusters
        for k, test in enumerate(TESTS):
            values = p[~np.isnan(p[:, k]), k]
            for alpha in ALPHAS:
                rate = Measured.of((values <= alpha).astype(float))
                judged = setting == OWN_MODEL and test not in NOT_RELIED_ON
                bound = Bound(nominal=alpha, tolerance=ALPHA_TOLERANCE[alpha]) if judged else None
                yield {
                    "method": test,
                    "setting": setting,
                    "conversations": C,
                    "level": alpha,
                    "nominal": alpha,
                    "rate": rate.value,
                    "mc_error": rate.se,
                    "mc_interval": list(rate.interval),
                    "num_datasets": rate.num_datasets,
                    "criterion": None if bound is None else str(bound),
                    "met": None if bound is None else bound.verdict(rate.interval),
                }


def uniformity(ranks: Ranks, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whether the ranks are uniform, and the curves and band that show it.

    *Met* where no parameter's p (distribution function, simultaneous over ranks) is below .05
    shared out among the parameters. p is by simulation, so below 1/2,000 it cannot go.
    """
    p = ranks.ecdf(_BAND_SIMULATIONS, rng)
    num, L = ranks.ranks.shape[0], ranks.num_draws
    share = UNIFORM_ALPHA / len(ranks.names)
    result = {
        "method": "simulation-based calibration of the posterior",
        "num_datasets": num,
        "conversations": MANY,
        "ranked_among": L,
        "k_hat_above": float((ranks.k_hat > 0.7).mean()),
        "by_nuts": int(ranks.by_nuts.sum()),
        "discarded": 0,
        "parameters": [
            {"name": n, "p_ecdf": float(a), "p_chi_square": float(b)}
            for n, a, b in zip(ranks.names, p, ranks.chi_square(), strict=True)
        ],
        "criterion": f"smallest p of {len(ranks.names)} parameters at least {share:.4f}",
        "met": MET if p.min() >= share else MISSED,
    }
    z = np.arange(1, L + 1) / (L + 1)
    below = np.stack([np.searchsorted(np.sort(r), np.arange(1, L + 1)) for r in ranks.ranks.T])
    low, high = _band(num, L, rng)
    return result, {
        "z": z.tolist(),
        "names": list(ranks.names),
        "differences": (below / num - z).round(5).tolist(),
        "band": [(low / num - z).round(5).tolist(), (high / num - z).round(5).tolist()],
        "num_datasets": num,
    }


def _band(num: int, L: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Counts between which the distribution function stays in 95% of uniform rank sets."""
    from scipy import stats

    uniform = rng.integers(L + 1, size=(_BAND_SIMULATIONS, num))
    gamma = float(np.quantile(ecdf_depth(uniform, L), 0.05))
    z = np.arange(1, L + 1) / (L + 1)
    ends = partial(stats.binom.ppf, n=num, p=z)
    return ends(gamma / 2), ends(1 - gamma / 2)

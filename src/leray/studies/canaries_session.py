"""A run of the canary study: its folder, its computations, its verdict."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leray.circuits.faults import KINDS
from leray.errors import LerayError, check_seed
from leray.evidence.calibration import Rate
from leray.evidence.paired import sign_flip_p_value, t_interval
from leray.evidence.verdict import Verdict, judge, not_judged
from leray.lm.model import Model
from leray.runs.computation import Samples, configuration
from leray.runs.executors import kept_workers
from leray.runs.folder import RunFolder
from leray.runs.seeds import Key
from leray.studies.architecture_rows import interval_row, verdict_row
from leray.studies.canaries import (
    SIZES,
    Episodes,
    Size,
    auroc,
    base_training,
    planted_edges,
)
from leray.studies.canaries_claims import CLAIM
from leray.studies.canaries_data import Corpus, corpus
from leray.studies.canaries_episodes import Episode, parts_of
from leray.studies.opening import num_processes, reopened, settings, size_of_preset
from leray.train.training import loaded, num_parameters

Publish = Callable[[RunFolder, dict[str, Any]], None]

MOST_LISTED = 20
"""Episodes up to which all sign patterns are listed."""
BASE_SEED = 100
"""Of the first base."""

SEEN = frozenset(range(6))
"""Seeds whose runs chose strengths, rates and lengths (docs/log.md): there C5 replicates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CanariesRequest:
    """What a run computes."""

    preset: str = "quick"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, bits=32)  # base models have seeds of their own, some to a seed


def run_canaries(
    request: CanariesRequest,
    *,
    out: Path | None,
    resume: Path | None,
    workers: int | None,
    publish: Publish,
) -> tuple[dict[str, Any], Path]:
    """Run the study, or go on with one; returns its result as JSON has it, and its folder.

    Raises:
        LerayError: For what a user can mend; what was finished stays in the folder.
        Interrupted: On Ctrl-C, with the command that goes on.
    """
    processes, folder = num_processes(workers), None
    if resume is not None:
        folder, request = reopened("canaries", request, resume)
    size = size_of_preset(SIZES, request.preset)
    if folder is None:
        folder = RunFolder.create(out, "canaries", settings(request))
    with folder, kept_workers():
        result = _run(request, size, folder, processes)
        publish(folder, result)
    return result, folder.path


def _run(request: CanariesRequest, size: Size, folder: RunFolder, workers: int) -> dict[str, Any]:
    key = Key.root(request.seed)
    data = corpus(size.corpus, key.child("corpus"))
    seeds = [BASE_SEED + request.seed * size.num_bases + i for i in range(size.num_bases)]
    training = base_training(size, data, seeds)
    curves = folder.drive(training, key=key, workers=workers)
    states = [folder.state_of(training, key=key, shard=i) for i in range(size.num_bases)]
    if any(s is None for s in states):
        raise LerayError("the bases' weights are gone from this folder: start a new run")
    bases = tuple(
        loaded(c, s) for c, s in zip(training.configs, states, strict=True) if s is not None
    )
    whole = json.dumps(configuration(training, key), sort_keys=True)
    episodes = Episodes(
        num_shards=size.num_episodes,
        config=size.episode,
        corpus=size.corpus,
        bases_from=hashlib.sha256(whole.encode()).hexdigest()[:32],
        bases=bases,
        data=data,
    )
    found = folder.drive(episodes, key=key, workers=workers)
    verdict = _verdict(found, size, request.seed)
    result = {
        "study": "canaries",
        "run": str(folder.path),
        "preset": request.preset,
        "seed": request.seed,
        "data": {
            "name": "logicstream",
            "known": len(data.known),
            "new": len(data.new),
            "repaired": {},
            "dropped": {},
        },
        "table": table(found, size),
        "bases": [
            {"parameters": num_parameters(b), "tune": float(c.tune[-1])}
            for b, c in zip(bases, curves, strict=True)
        ],
        "healthy": healthy(found),
        "dependencies": _dependencies(found, bases, data, key),
        "cost": cost(bases[0], data, size, key),
        "weights": None,
        "methods": [
            {"name": n, "seconds": round(s, 3), "claimed": None} for n, s in folder.seconds.items()
        ],
        "verdicts": [verdict_row(verdict)],
    }
    folder.write_verdicts(result["verdicts"])
    faults = {k: np.concatenate([f[k] for f in found]).tolist() for k in _COLUMNS}
    for name, content in (("result", result), ("details", {"faults": faults})):
        folder.write(f"{name}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    return result


_COLUMNS = (
    "kind", "start", "end", "harm", "left", "kept", "kept_damaged", "kept_before", "found",
    "in_time", "at_once", "ranked", "part", "undone", "undone_healthy", "all", "tried",
)  # fmt: skip


def _verdict(found: Sequence[Samples], size: Size, seed: int) -> Verdict:
    """On the mean over episodes of what faults that broke a capability left of the progress."""
    tolerance = size.episode.monitor.tolerance
    broken = [f for f in found if (f["harm"] > tolerance).any()]
    means = [f["kept"][f["harm"] > tolerance].mean() for f in broken]
    told = {
        "data": f"logicstream, {size.num_bases} base models, {len(found)} episodes",
        "seen": seed in SEEN,
    }
    if len(means) < 2:
        return not_judged(
            CLAIM, **told, n=len(means), why="fewer than two episodes have a fault that broke"
        )
    values = np.array(means)
    interval = t_interval(values, CLAIM.level)
    few = len(values) <= MOST_LISTED
    return judge(
        CLAIM,
        replace(interval, kind="Student's t over episodes"),
        **told,
        method="mean over an episode's faults that broke a capability, then over episodes",
        p_value=sign_flip_p_value(values - CLAIM.null) if few else None,
        p_value_is="two-sided sign flips of the difference to .95 over episodes",
        note="a full rollback to the episode's start keeps 0 by definition; without any rollback "
        f"{np.mean([f['kept_damaged'][f['harm'] > tolerance].mean() for f in broken]):.2f}",
    )


def table(found: Sequence[Samples], size: Size) -> list[dict[str, Any]]:
    """By kind and over all: counts, and rates with Wilson's intervals at .95.

    ``broke`` are faults that raised some capability's mean failure by more than the tolerance, on
    canaries that report; the rates are of these. ``in_time``: found by the first check behind the
    fault, though what it breaks may break later; ``at_once``: by the first check at which a
    capability was broken. ``restored``: no capability's is raised by more
    than the tolerance at the end.
    """
    every = {k: np.concatenate([f[k] for f in found]) for k in _COLUMNS}
    tolerance = size.episode.monitor.tolerance
    rows = []
    for name in (*KINDS, "all"):
        mine = np.full(len(every["kind"]), True)
        if name != "all":
            mine = every["kind"] == KINDS.index(name)
        broke = mine & (every["harm"] > tolerance)
        caught = broke & every["found"]
        rows.append(
            {
                "method": name,
                "planted": int(mine.sum()),
                "broke": int(broke.sum()),
                "found_of_planted": _rate(every["found"][mine]),
                "in_time": _rate(every["in_time"][broke]),
                "at_once": _rate(every["at_once"][broke]),
                "found": _rate(every["found"][broke]),
                "ranked_first": _rate(every["ranked"][caught]),
                "restored": _rate(every["left"][broke] <= tolerance),
                "healthy_undone": _mean(every["undone_healthy"][caught]),
                "metrics": {
                    what: _by_episode(found, column, tolerance, name)
                    for what, column in (
                        ("kept", "kept"),
                        ("kept_without", "kept_damaged"),
                        ("kept_last_check", "kept_before"),
                    )
                },
            }
        )
    return rows


def _rate(hits: np.ndarray) -> dict[str, Any] | None:
    if not len(hits):
        return None
    rate = Rate(hits=int(hits.sum()), trials=len(hits))
    return {"hits": rate.hits, "trials": rate.trials, "wilson": list(rate.wilson(0.95))}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _by_episode(
    found: Sequence[Samples], column: str, tolerance: float, kind: str
) -> dict[str, Any] | None:
    """The mean over episodes of their faults of a kind, or of all, that broke a capability."""
    values = []
    for f in found:
        mine = f["harm"] > tolerance
        if kind != "all":
            mine = mine & (f["kind"] == KINDS.index(kind))
        values += [f[column][mine].mean()] if mine.any() else []
    if not values:
        return None
    interval = t_interval(np.array(values), CLAIM.level)
    return interval_row(replace(interval, kind="Student's t over episodes"))


def healthy(found: Sequence[Samples]) -> dict[str, Any]:
    """Alarms in twins, in which nothing was broken."""
    alarmed = np.array([f["twin_alarms"] > 0 for f in found])
    return {
        "runs": _rate(alarmed),
        "checks": int(sum(int(f["twin_checks"]) for f in found)),
        "progress": float(np.mean([f["progress"] for f in found])),
    }


def _dependencies(
    found: Sequence[Samples], bases: Sequence[Model], data: Corpus, key: Key
) -> dict[str, Any]:
    """What alarms learned of which module hurts which capability, against what noise in it does."""
    parts = parts_of(bases[0])
    lost, seen = (np.sum([f[k] for f in found], axis=0)[: len(parts)] for k in ("lost", "seen"))
    learned = np.divide(lost, seen, out=np.zeros_like(lost), where=seen > 0)
    known = seen.any(axis=1)
    planted = np.mean([planted_edges(b, data, key.child("planted")) for b in bases], axis=0)
    truth = planted > (np.median(planted[known]) if known.any() else np.inf)
    corrupted = np.concatenate([f["part"] for f in found])
    return {
        "parts": list(parts),
        "capabilities": list(data.reporting),
        "learned": learned.tolist(),
        "planted": planted.tolist(),
        "alarms": seen[:, 0].tolist(),
        "auroc": auroc(learned[known].ravel(), truth[known].ravel()),
        "truth": "edges above the median harm of noise in a module to a capability, of modules "
        "that some alarm named",
        "module_first": _rate(corrupted[corrupted >= 0] == 1),
    }


def cost(model: Model, data: Corpus, size: Size, key: Key, num_rounds: int = 24) -> dict[str, Any]:
    """Processor seconds of steps with and without the monitor, in turn: a ratio of one run.

    A round is an interval of steps; medians of the rounds but the first.
    """
    episode = Episode(model, data, size.episode, key.child("cost"))
    own = episode.run
    bare = own.copied()
    interval = size.episode.monitor.interval
    spent = np.empty((num_rounds + 1, 2))
    for i in range(num_rounds + 1):
        for j, run in enumerate((bare, own)):
            started = time.process_time()
            for k in range(i * interval, (i + 1) * interval):
                episode.step(run, k, watched=run is own)
            spent[i, j] = time.process_time() - started
    seconds = np.median(spent[1:], axis=0) / interval
    ratios = spent[1:, 1] / spent[1:, 0]
    return {
        "seconds_a_step": {"bare": float(seconds[0]), "watched": float(seconds[1])},
        "overhead": float(np.median(ratios)) - 1,
        "overhead_quartiles": [float(q) - 1 for q in np.quantile(ratios, [0.25, 0.75])],
        "alarms": len(own.monitor.alarms),
        "ring_bytes": own.monitor.ring.num_bytes,
        "weight_bytes": 4 * own.monitor.flat.size,
        "threads": torch.get_num_threads(),
    }

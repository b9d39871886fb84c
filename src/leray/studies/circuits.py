"""The circuits study: how large circuits are, what they share, and whether they carry over.

Small reasoners are trained, one a seed. In each, every form's edges are put in an order, first by
patching and gradients together (:mod:`leray.circuits.finder`), then by elimination
(:mod:`leray.circuits.elimination`); its circuit is the least number of best edges from which on .9
of what the model does is kept, on other examples than those that found it. Beside it stand
circuits by integrated gradients, by ACDC and at random.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from leray.evidence.paired import sign_flip_p_value, t_interval
from leray.evidence.verdict import Claim, Verdict, judge, not_judged
from leray.runs.executors import kept_workers
from leray.runs.folder import RunFolder
from leray.runs.seeds import Key
from leray.studies.architecture_rows import verdict_row
from leray.studies.circuits_claims import CLAIMS, SIMULTANEOUS
from leray.studies.circuits_drift import MARKS
from leray.studies.circuits_finding import METHODS, Circuits, Finding
from leray.studies.opening import num_processes, reopened, settings, size_of_preset
from leray.studies.reasoners import ABLE, QUICK, SMALL, Reasoner, Reasoners, able_reasoners

Publish = Callable[[RunFolder, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much a run of the study computes.

    Args:
        num_examples: That find a circuit; it is measured on twice as many others.
    """

    num_seeds: int
    reasoner: Reasoner = SMALL
    num_examples: int = 32
    num_questions: int = 200


SIZES = {
    "quick": Size(reasoner=QUICK, num_seeds=3),
    "full": Size(num_seeds=11),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitsRequest:
    """What a run computes."""

    preset: str = "quick"


def run_circuits(
    request: CircuitsRequest,
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
        folder, request = reopened("circuits", request, resume)
    size = size_of_preset(SIZES, request.preset)
    if folder is None:
        folder = RunFolder.create(out, "circuits", settings(request))
    with folder, kept_workers():
        result = _run(request, size, folder, processes)
        publish(folder, result)
    return result, folder.path


def _run(request: CircuitsRequest, size: Size, folder: RunFolder, workers: int) -> dict[str, Any]:
    given, scores = able_reasoners(size.reasoner, size.num_seeds, folder, workers)
    seeds = tuple(given)
    reasoners = Reasoners(size.reasoner, seeds)
    forms = size.reasoner.forms
    finding = Finding(
        asked=tuple((s, f) for s in seeds for f in forms),
        others=tuple(s for s in (*seeds[1:], seeds[0]) for _ in forms),
        model=reasoners.model,
        vocabulary=reasoners.files.vocabulary,
        context=size.reasoner.context,
        num_examples=size.num_examples,
        num_questions=size.num_questions,
        given_from=f"reasoners of {size.reasoner.num_steps} steps",
        given=given,
    )
    found = folder.drive(finding, key=Key.root(0), workers=workers)
    by_seed = [found[i : i + len(forms)] for i in range(0, len(found), len(forms))]
    verdicts = verdicts_of(by_seed, forms)
    result = {
        "study": "circuits",
        "run": str(folder.path),
        "preset": request.preset,
        "seed": 0,
        "data": {"name": f"LogicStream ({', '.join(forms)})", "repaired": {}, "dropped": {}},
        "scale": asdict(size),
        "trained": {str(seed): score for seed, score in scores.items()},
        "marks": list(MARKS),
        "edges": max(len(c.scores) for c in found),
        "table": [_row(form, [c[i] for c in by_seed]) for i, form in enumerate(forms)],
        "weights": None,
        "methods": [
            {"name": n, "seconds": round(s, 3), "claimed": None} for n, s in folder.seconds.items()
        ],
        "verdicts": [verdict_row(v) for v in verdicts],
    }
    folder.write_verdicts(result["verdicts"])
    folder.write("result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def verdicts_of(by_seed: Sequence[Sequence[Circuits]], forms: Sequence[str]) -> list[Verdict]:
    """One a claim; of models that cannot do a form nothing is said.

    Args:
        by_seed: Of every model, its circuits by form.
    """
    able = [own for own in by_seed if min(c.score for c in own) >= ABLE]
    data = f"LogicStream ({', '.join(forms)})"
    note = f"{len(able)} of {len(by_seed)} models score {ABLE} or more on every form"
    values: dict[str, list[float]] = {
        "C1": [_mean(c.parameters for c in own) for own in able],
        "C2": [_mean(_shared(a, b) for a, b in permutations(own, 2)) for own in able],
        "C6": [_mean(c.carried for c in own) for own in able],
        "C6d": [_mean(c.drifted[-1] for c in own) for own in able],
        "C7": [_mean(_area(a.scores, b.mask) for a, b in permutations(own, 2)) for own in able],
    }
    return [_judged(c, np.array(values[c.id]), data, note) for c in CLAIMS]


def _judged(claim: Claim, values: np.ndarray, data: str, note: str) -> Verdict:
    """By models; those that cannot be compared have no value."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return not_judged(claim, data=data, seen=False, n=len(values), why=note)
    return judge(
        claim,
        t_interval(values, SIMULTANEOUS),
        data=data,
        seen=False,
        method="by model",
        p_value=sign_flip_p_value(values - claim.null),
        p_value_is="two-sided sign flips over models, of the distance from the null",
        note=note,
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _shared(a: Circuits, b: Circuits) -> float:
    """|A ∩ B| / min(|A|, |B|) less its mean over random sets of these sizes."""
    n, m, num = int(a.mask.sum()), int(b.mask.sum()), len(a.mask)
    return (float((a.mask & b.mask).sum()) - n * m / num) / min(n, m)


def _area(scores: np.ndarray, mask: np.ndarray) -> float:
    """Under the receiver operating characteristic, ties counted half."""
    ranks, n = rankdata(scores), int(mask.sum())
    return float((ranks[mask].sum() - n * (n + 1) / 2) / (n * (len(mask) - n)))


def _row(form: str, circuits: Sequence[Circuits]) -> dict[str, Any]:
    scores = [c.score for c in circuits]
    circuits = [c for c in circuits if c.score >= ABLE]
    sizes = np.array([c.sizes for c in circuits]).reshape(-1, len(METHODS))
    keeps = np.array([c.keeps for c in circuits]).reshape(-1, len(METHODS))
    return {
        "form": form,
        "scores": scores,
        "methods": [
            {
                "method": name,
                "edges": [_finite(x) for x in sizes[:, i]],
                "keeps": [_finite(x) for x in keeps[:, i]],
            }
            for i, name in enumerate(METHODS)
        ],
        "by_chance": [c.by_chance for c in circuits],
        "carried": [c.carried for c in circuits if np.isfinite(c.carried)],
        "drifted": [
            [c.drifted[k] for c in circuits if np.isfinite(c.drifted[k])] for k in range(len(MARKS))
        ],
        "parameters": [c.parameters for c in circuits],
    }


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None

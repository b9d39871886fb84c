"""The protection study: a model that answers arguments learns to write Python, and forgets or not.

1. *Old models.* One a seed, trained on LogicStream; some more, on which settings are chosen. In the
   place of those that cannot do it others are trained.
2. *Settings.* Every method is tried at four, on each of these. The target is the least new loss
   that every method reaches on all of them at one setting. Of the settings that reach it the one
   that forgets least is taken, to a hundredth, and of these the quickest; of a uniform rate also
   the quickest of all, which steps are compared with.
3. *Runs.* Every method at its setting, from every other old model, on equal batches; new text and
   questions that chose nothing. Old models that score less than `ABLE` have nothing to forget, and
   are left out.
4. Two methods are compared, old model by old model, at the least new loss that both runs reach:
   what learned less has not yet forgotten more. Only steps are counted to the target.

Seeds before the first one here shaped all of this (docs/log.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leray.data.cache import cache_home
from leray.evidence.paired import sign_flip_p_value, t_interval
from leray.evidence.verdict import Verdict, judge, not_judged
from leray.runs.executors import kept_workers
from leray.runs.folder import RunFolder
from leray.runs.seeds import Key
from leray.studies.architecture_rows import interval_row, verdict_row
from leray.studies.opening import num_processes, reopened, settings, size_of_preset
from leray.studies.protection_claims import CLAIMS, SIMULTANEOUS
from leray.studies.protection_learning import Learned, Learning, Tasks, reached
from leray.studies.protection_methods import METHODS, OURS, SOAP, Plan, plans
from leray.studies.reasoners import ABLE, QUICK, SMALL, Reasoner, Reasoners, able_reasoners
from leray.train.text import read_texts
from leray.train.tokens import TokenFiles, token_files
from leray.train.training import check_device

Publish = Callable[[RunFolder, dict[str, Any], dict[str, Any]], None]

QUICKEST = ", quickest"
"""What the name of a method ends in at the setting that is quickest to the target."""
TIMED = ("uniform", f"uniform{SOAP}")
"""The methods that are run so too."""
FINE = 100
"""What is forgotten is told apart to one part in so many where settings are chosen."""
MOST = 250_000
"""Of the new text's bytes that are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much a run of the study computes.

    Args:
        num_seeds: Old models, besides ``num_tuned`` for settings.
    """

    new_steps: int
    num_seeds: int
    num_tuned: int = 3
    old: Reasoner = SMALL
    num_questions: int = 60
    num_known: int = 400
    methods: tuple[str, ...] = tuple(METHODS)


SIZES = {
    "quick": Size(
        old=QUICK,
        new_steps=160,
        num_seeds=2,
        num_tuned=1,
        methods=("uniform", "EWC", "LoRA", "random mask", *(m for m in METHODS if SOAP in m)),
    ),
    "full": Size(new_steps=320, num_seeds=10),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtectionRequest:
    """What a run computes."""

    preset: str = "quick"
    device: str = "cpu"


def run_protection(
    request: ProtectionRequest,
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
        folder, request = reopened("protection", request, resume)
    size = size_of_preset(SIZES, request.preset)
    check_device(request.device, "float32")
    if folder is None:
        folder = RunFolder.create(out, "protection", settings(request))
    with folder, kept_workers():
        protocol = Protocol(size, request.device, folder, processes)
        result, details = _run(request, protocol)
        publish(folder, result, details)
    return result, folder.path


class Protocol:
    """Old models, and runs from them, through the driver."""

    def __init__(self, size: Size, device: str, folder: RunFolder, workers: int) -> None:
        self.size, self.device, self.folder, self.workers = size, device, folder, workers
        self.given, self.scores = able_reasoners(
            size.old, size.num_seeds + size.num_tuned, folder, workers, device
        )
        seeds = tuple(self.given)
        self.seeds, self.tuned = seeds[: size.num_seeds], seeds[size.num_seeds :]
        self.old = Reasoners(size.old, seeds, device)
        self.python = token_files(read_texts("stdlib"), "bytes", cache_home() / "tokens")
        self.key = Key.root(0)

    def tasks(self, split: str) -> Tasks:
        """Measured on one split's text and its own questions."""
        size, held = self.size, {"tune": 0, "report": 1}[split]
        return Tasks(
            vocabulary=self.old.files.vocabulary,
            forms=size.old.forms,
            old=self.old.files.splits["train"],
            starts=self.old.files.starts["train"],
            new=_some(self.python, "train"),
            held=_some(self.python, "report" if held else "tune"),
            context=size.old.context,
            num_sequences=16,
            num_steps=size.new_steps,
            num_questions=size.num_questions,
            num_known=size.num_known,
            exam=held,
        )

    def learn(
        self,
        name: str,
        asked: Sequence[tuple[Plan, int]],
        split: str,
    ) -> list[Learned]:
        """Runs of plans from seeds' old models."""
        learning = Learning(
            plans=tuple(p for p, _ in asked),
            seeds=tuple(s for _, s in asked),
            model=self.old.model,
            tasks=self.tasks(split),
            given_from=f"reasoners of {self.size.old.num_steps} steps",
            given={s: self.given[s] for s in {s for _, s in asked}},
            device=self.device,
            name=name,
        )
        return self.folder.drive(learning, key=self.key, workers=self.workers)


def _some(files: TokenFiles, split: Any) -> np.ndarray:
    return np.array(files.splits[split][:MOST])


def _run(request: ProtectionRequest, protocol: Protocol) -> tuple[dict[str, Any], dict[str, Any]]:
    size = protocol.size
    tried = [p for method in size.methods for p in plans(method)]
    on_tuned = protocol.learn("settings", [(p, s) for p in tried for s in protocol.tuned], "tune")
    num = len(protocol.tuned)
    tries = {p: on_tuned[k * num : (k + 1) * num] for k, p in enumerate(tried)}
    target = target_of(tries)
    chosen = {m: chosen_of(m, tries, target) for m in size.methods}
    chosen |= {f"{m}{QUICKEST}": quickest_of(m, tries, target) for m in TIMED}
    asked = [(p, s) for s in protocol.seeds for p in chosen.values()]
    runs = protocol.learn("runs", asked, "report")
    tuned = [_ability(r) for r in on_tuned[:num]]
    able = [_ability(r) for r in runs[:: len(chosen)]]
    why = _unable(tuned, able)
    by_method = {
        m: [r for i, r in enumerate(runs[k :: len(chosen)]) if why or able[i] >= ABLE]
        for k, m in enumerate(chosen)
    }
    found = {m: np.array([reached(r, target) for r in rs]) for m, rs in by_method.items()}
    verdicts = verdicts_of(by_method, target, ", ".join(size.old.forms), why)
    ours = by_method[OURS]
    result = {
        "study": "protection",
        "run": str(protocol.folder.path),
        "preset": request.preset,
        "seed": 0,
        "data": {"name": "LogicStream, then Python", "repaired": {}, "dropped": {}},
        "scale": asdict(size),
        "target": target,
        "trained": {str(seed): score for seed, score in protocol.scores.items()},
        "able": able,
        "able_tuned": tuned,
        "needed": ABLE,
        "ours": OURS,
        "table": [
            {
                **_row(m, chosen[m], tries, target, found[m], size.new_steps),
                "matched": [float(x) for x in at_one_loss(by_method[m], ours).mean(axis=1)],
                "last": float(np.mean([r.new[-1] for r in by_method[m]])),
            }
            for m in chosen
        ],
        "weights": None,
        "methods": [
            {"name": n, "seconds": round(s, 3), "claimed": None}
            for n, s in protocol.folder.seconds.items()
        ],
        "verdicts": [verdict_row(v) for v in verdicts],
    }
    details = {
        "runs": {m: [_curve(r) for r in rs] for m, rs in by_method.items()},
        "settings": [
            {"method": p.method, "rate": p.rate, "strength": p.strength, **_curve(r)}
            for p, rs in tries.items()
            for r in rs
        ],
    }
    protocol.folder.write_verdicts(result["verdicts"])
    for name, content in (("result", result), ("details", details)):
        protocol.folder.write(f"{name}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    return result, details


def target_of(tries: Mapping[Plan, Sequence[Learned]]) -> float:
    """The least new loss that every method reaches with all its runs of one setting."""
    least: dict[str, float] = {}
    for plan, runs in tries.items():
        reach = max(float(r.new.min()) for r in runs)
        least[plan.method] = min(least.get(plan.method, np.inf), reach)
    return max(least.values())


def chosen_of(method: str, tries: Mapping[Plan, Sequence[Learned]], target: float) -> Plan:
    """Of the settings that reach the target the one that forgets least, and then the quickest."""

    def worth(plan: Plan) -> tuple[float, ...]:
        steps, lost, _ = np.mean([reached(r, target) for r in tries[plan]], axis=0)
        return (float(np.isinf(steps)), float(round(lost * FINE)), float(steps))

    return min((p for p in tries if p.method == method), key=worth)


def quickest_of(method: str, tries: Mapping[Plan, Sequence[Learned]], target: float) -> Plan:
    """The setting that gets to the target in the fewest steps, whatever it forgets."""
    own = (p for p in tries if p.method == method)
    return min(own, key=lambda p: np.mean([reached(r, target)[0] for r in tries[p]]))


def at_one_loss(one: Sequence[Learned], other: Sequence[Learned]) -> np.ndarray:
    """``[2, seeds]``: what each of two methods has forgotten at the least new loss both reach."""
    found = []
    for a, b in zip(one, other, strict=True):
        target = max(float(a.new.min()), float(b.new.min()))
        found.append([reached(a, target)[1], reached(b, target)[1]])
    return np.array(found).T


def _ability(run: Learned) -> float:
    """The mean score before anything new."""
    return float(run.scores[0].mean())


def _unable(tuned: Sequence[float], able: Sequence[float]) -> str:
    """Why nothing can be judged; empty where it can.

    Args:
        tuned: What the old models score that settings were chosen on.
        able: The same of the others.
    """
    if min(tuned) >= ABLE and sum(a >= ABLE for a in able) > 1:
        return ""
    told, others = (", ".join(f"{a:.3f}" for a in some) for some in (able, tuned))
    return f"the old models score {told}, those for settings {others}; {ABLE} is needed"


def verdicts_of(
    runs: Mapping[str, Sequence[Learned]], target: float, forms: str, why: str = ""
) -> list[Verdict]:
    """One a claim.

    Args:
        runs: By method, of every old model.
        target: That steps are counted to.
        forms: What the old models can do.
        why: Nothing can be judged.
    """

    def gap(method: str, against: str, part: float = 1.0) -> np.ndarray:
        own, other = at_one_loss(runs[method], runs[against])
        return own - part * other

    steps = {
        m: np.array([np.clip(reached(r, target)[0], 1, r.steps[-1]) for r in rs])
        for m, rs in runs.items()
    }
    values = {
        "C3": gap(OURS, "uniform"),
        "C4": gap(OURS, f"turned mask{SOAP}"),
        "S16": gap("LoRA", "uniform"),
    }
    for k, own in enumerate(("", SOAP)):
        values |= {
            f"P{1 + 3 * k}": gap(OURS, f"EWC{own}", 1 / 3),
            f"P{2 + 3 * k}": gap(OURS, f"random mask{own}", 1 / 2),
            f"P{3 + 3 * k}": np.log(steps[OURS] / steps[f"uniform{own}{QUICKEST}"]),
        }
    short = {m: sum(float(r.new.min()) > target for r in rs) for m, rs in runs.items()}
    timed = {c: (OURS, f"uniform{own}{QUICKEST}") for c, own in (("P3", ""), ("P6", SOAP))}
    notes = {
        c: "short of the target, and counted with all steps: "
        + ", ".join(f"{short[m]} of {len(runs[m])} runs of {m}" for m in both if short[m])
        for c, both in timed.items()
        if any(short[m] for m in both)
    }
    data = f"LogicStream ({forms}), then the standard library"
    if why:
        intervals = {c.id: t_interval(values[c.id], SIMULTANEOUS) for c in CLAIMS}
        return [
            not_judged(
                c, data=data, seen=False, n=len(runs["uniform"]), why=why, interval=intervals[c.id]
            )
            for c in CLAIMS
        ]
    return [
        judge(
            c,
            t_interval(values[c.id], SIMULTANEOUS),
            data=data,
            seen=False,
            method="paired by seed: old model and batches are the same",
            p_value=sign_flip_p_value(values[c.id]),
            p_value_is="two-sided sign flips over seeds, of this comparison alone",
            note=notes.get(c.id, ""),
        )
        for c in CLAIMS
    ]


def _row(
    method: str,
    plan: Plan,
    tries: Mapping[Plan, Sequence[Learned]],
    target: float,
    found: np.ndarray,
    num_steps: int,
) -> dict[str, Any]:
    steps = np.minimum(found[:, 0], num_steps)
    return {
        "method": method,
        "what": METHODS[plan.method],
        "rate": plan.rate,
        "strength": plan.strength,
        "tried": [
            {"rate": p.rate, "strength": p.strength, "steps": _finite(s), "forgotten": x, "nats": y}
            for p, rs in tries.items()
            if p.method == plan.method
            for s, x, y in [np.mean([reached(r, target) for r in rs], axis=0).tolist()]
        ],
        "short": int(np.isinf(found[:, 0]).sum()),
        "metrics": {
            "steps": interval_row(t_interval(steps, SIMULTANEOUS)),
            "forgotten": interval_row(t_interval(found[:, 1], SIMULTANEOUS)),
            "nats": interval_row(t_interval(found[:, 2], SIMULTANEOUS)),
        },
        "by_seed": [float(x) for x in found[:, 1]],
    }


def _curve(run: Learned) -> dict[str, Any]:
    return {
        "steps": run.steps.tolist(),
        "new": [float(x) for x in run.new],
        "score": [float(x) for x in run.scores.mean(axis=1)],
        "old": [float(x) for x in run.old],
    }


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None

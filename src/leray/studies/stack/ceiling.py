"""How far linear weights stand from the best that any function of the signals could do.

From below: flexible models, fitted without the conversations that they are judged on; whatever
the truth, no share of the ceiling can exceed a share of what they reach. From neighbours: an
estimate of the ceiling of r that rests on smoothness, refused where nothing is near. For nDCG@10
no estimate of the ceiling is at hand: a truth planted on the same signals shows how far short the
model falls there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leray.data.preparation import Prepared
from leray.evidence.bootstrap import Interval
from leray.evidence.ceiling import (
    REFUSED_BEYOND,
    NeighbourSearch,
    Profile,
    at_distance_zero,
    base_rates,
    group_jackknife,
    normal_scores,
    other_profile,
    own_profile,
    relative_reach,
)
from leray.evidence.moments import pearson
from leray.memory.blocks import ALL, FOUR, with_tau
from leray.memory.ceiling import (
    MODELS,
    CrossFitted,
    NeighbourVotes,
    Planted,
    PlantedTruth,
    ndcg_by_query,
    num_voters,
)
from leray.memory.network_search import deal_folds
from leray.studies.importance import Drive, Evidence
from leray.studies.outcome import Outcome
from leray.studies.stack.ceiling_answer import (
    HELD_OUT,
    NAMES,
    Answer,
    details,
    diagnostics,
    paragraph,
)

Array = np.ndarray
MAX_GROUPS = 20  # more conversations are left out several at a time
_LINEAR = {"four": ("pearson", "ndcg"), "all": ("logistic", "logistic")}


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The pairs of all conversations: signals as normal scores, truth, and whose they are."""

    z: Array
    y: Array
    offsets: Array
    conversation: Array
    query: Array
    group: Array
    """Of each conversation."""


def run(
    prepared: Prepared,
    evidence: Evidence,
    drive: Drive,
    *,
    level: float,
    num_neighbours: int = 64,
    num_controls: int = 30_000,
    num_folds: int = 5,
) -> Outcome:
    """Bound the ceiling from below, estimate it from neighbours, and judge the linear weights.

    Args:
        prepared: The blocks.
        evidence: The decay time and the linear weights' held-out scores are taken from it.
        drive: Runs a computation to its result.
        level: Of every interval; those of the best of three hold over all three.
        num_neighbours: K, over which the extrapolation runs.
        num_controls: Irrelevant rows that a model learns from, at most.
        num_folds: Folds of conversations behind the models.
    """
    if len(prepared.clusters) < 3:
        return _impossible(len(prepared.clusters))
    everything = _rows(prepared, with_tau(ALL, evidence.taus[evidence.tau]))
    four = _subset(everything, [ALL.index(s) for s in FOUR])
    folds = deal_folds(prepared.clusters, num_folds)
    driven: list[str] = []

    def driving(computation: Any) -> Any:
        driven.append(computation.name)
        return drive(computation)

    answers = [
        _answer(key, rows, evidence, folds, driving, num_neighbours, num_controls)
        for key, rows in (("four", four), ("all", everything))
    ]
    planted = driving(PlantedTruth(z=four.z, y=four.y, num_controls=num_controls))
    votes = driving(
        NeighbourVotes(z=four.z, truths=np.stack([four.y, planted.y]), query=four.query)
    )
    check = _check(
        planted, votes[1], four, answers[0], folds, driving, num_neighbours, num_controls
    )
    estimates = _estimates(answers, level, len(prepared.clusters))
    voted = ndcg_by_query(votes[0].astype(np.float64), four.y, four.offsets)
    estimates["4 signals: nDCG@10 of neighbours, own conversation included (no bound)"] = (
        group_jackknife(_mean_replicates(voted, four), level, len(prepared.clusters))
    )
    return Outcome(
        name="ceiling",
        title="How far from the ceiling",
        paragraph=paragraph(answers, estimates, check),
        estimates=estimates,
        diagnostics=diagnostics(
            answers,
            four.y,
            int(four.group.max()) + 1,
            num_voters(four.y),
            estimates,
            check,
            num_neighbours,
        ),
        computations=tuple(driven),
        details=details(answers, estimates, check),
    )


def _answer(
    key: str,
    rows: _Rows,
    evidence: Evidence,
    folds: Array,
    drive: Drive,
    num_neighbours: int,
    num_controls: int,
) -> Answer:
    """Models, neighbours and linear weights on one set of signals."""
    fit = drive(_models(rows, rows.y, folds, num_controls, f"ceiling-models-{key}"))
    reach = relative_reach(rows.z, rows.y, rows.group[rows.conversation])
    profiles = (None, None)
    if reach <= REFUSED_BEYOND:
        profiles = _profiles(rows, rows.y, drive, num_neighbours, f"ceiling-neighbours-{key}")
    by_r, by_ndcg = _LINEAR[key]
    c = evidence.comparison
    moments = [c.scores[:, c.methods.index(by_r)], *np.swapaxes(fit.moments, 0, 1)]
    ndcg = [(c.metric(by_ndcg, "ndcg_10"), c.sizes), *((s, fit.sizes) for s in fit.ndcg.T)]
    return Answer(
        key=key,
        reach=reach,
        r=np.stack([_r_replicates(m, rows.group) for m in moments]),
        ndcg=np.stack([_ratio_replicates(sums, sizes, rows.group) for sums, sizes in ndcg]),
        neighbours=profiles[0],
        own=profiles[1],
    )


def _check(
    planted: Planted,
    votes: Array,
    rows: _Rows,
    answer: Answer,
    folds: Array,
    drive: Drive,
    num_neighbours: int,
    num_controls: int,
) -> dict[str, float | None]:
    """The same methods on the planted truth, beside its ceiling, which is known."""
    y = planted.y
    models = tuple(MODELS[int(v[1:, 0].argmax())] for v in (answer.r, answer.ndcg))
    models = tuple(dict.fromkeys(models))
    fit = drive(_models(rows, y, folds, num_controls, "ceiling-planted-models", models))
    profile = None
    if answer.neighbours is not None:
        profile, _ = _profiles(rows, y, drive, num_neighbours, "ceiling-planted-neighbours")
    known = np.nanmean(ndcg_by_query(planted.m.astype(np.float64), y, rows.offsets))
    voted = np.nanmean(ndcg_by_query(votes.astype(np.float64), y, rows.offsets))
    r = [float(_r_replicates(m, rows.group)[0]) for m in np.swapaxes(fit.moments, 0, 1)]
    ndcg = (fit.ndcg.sum(axis=0) / fit.sizes.sum()).tolist()
    return {
        "r": planted.largest_r,
        "model r": r[0],
        "Lipschitz": None if profile is None else float(at_distance_zero(profile, 1)[0]),
        "differentiable": None if profile is None else float(at_distance_zero(profile, 2)[0]),
        "ndcg": float(known),
        "model ndcg": ndcg[-1],
        "votes ndcg": float(voted),
    }


def _models(
    rows: _Rows,
    y: Array,
    folds: Array,
    num_controls: int,
    name: str,
    models: tuple[str, ...] = MODELS,
) -> CrossFitted:
    return CrossFitted(
        z=rows.z, y=y, offsets=rows.offsets, conversation=rows.conversation, fold=folds,
        num_controls=num_controls, name=name, models=models,
    )  # fmt: skip


def _profiles(
    rows: _Rows, y: Array, drive: Drive, num_neighbours: int, name: str
) -> tuple[Profile, Profile]:
    """What the neighbours in other groups, and in the own conversation, are."""
    search = NeighbourSearch(
        z=rows.z, y=y, conversation=rows.conversation, query=rows.query, group=rows.group,
        num_neighbours=num_neighbours, name=name,
    )  # fmt: skip
    found = drive(search)
    group = rows.group[rows.conversation]
    base = base_rates(y, group)
    return other_profile(found, group[y], base), own_profile(found, group[y], base)


def _estimates(answers: Sequence[Answer], level: float, n: int) -> dict[str, Interval]:
    """Every number with its interval, by the name that a reader sees."""
    over_all = 1 - (1 - level) / len(HELD_OUT)
    out: dict[str, Interval] = {}
    for a in answers:
        at_least = a.r[a.best_r]
        values: dict[str, tuple[Array, float]] = {
            "held-out r of the linear weights": (a.r[0], level),
            "held-out r of the best (the ceiling is at least this)": (at_least, over_all),
        }
        if _divides(at_least):
            values["linear r as a share of the best's (of the ceiling: at most this)"] = (
                a.r[0] / at_least, over_all,
            )  # fmt: skip
        values |= {k: (v, level) for k, v in _from_neighbours(a).items()}
        values |= {
            "held-out nDCG@10 of the linear weights": (a.ndcg[0], level),
            "held-out nDCG@10 of the best (the ceiling is at least this)": (
                a.ndcg[a.best_ndcg], over_all,
            ),
        }  # fmt: skip
        for what, (replicates, at) in values.items():
            out[f"{NAMES[a.key]}: {what}"] = group_jackknife(replicates, at, n)
    return out


def _from_neighbours(a: Answer) -> dict[str, Array]:
    if a.neighbours is None or a.own is None:
        return {}
    rough = at_distance_zero(a.neighbours, 1)
    out = {
        "ceiling of r, estimated from neighbours, truth Lipschitz": rough,
        "ceiling of r, estimated from neighbours, truth twice differentiable": at_distance_zero(
            a.neighbours, 2
        ),
        "ceiling of r with the own conversation known, truth Lipschitz": at_distance_zero(a.own, 1),
    }
    if _divides(rough):
        out["linear r as a share of the estimated ceiling (truth Lipschitz)"] = a.r[0] / rough
    return out


def _divides(replicates: Array) -> bool:
    """Whether an estimate stands clear enough of 0 to divide by: its 95% interval excludes 0."""
    half = group_jackknife(replicates, 0.95, 0)
    return bool((replicates > 0).all() and half.low > 0)


def _rows(prepared: Prepared, columns: Sequence[str]) -> _Rows:
    blocks, clusters = prepared.blocks, prepared.clusters
    place = {c: k for k, c in enumerate(clusters)}
    lengths = np.concatenate([np.diff(b.offsets) for b in blocks])
    of_query = np.array([place[c] for b in blocks for c in b.clusters])
    x = np.concatenate([b.rows(columns) for b in blocks], axis=1)
    return _Rows(
        z=normal_scores(x.T),
        y=np.concatenate([b.relevant for b in blocks]).astype(bool),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        conversation=np.repeat(of_query, lengths),
        query=np.repeat(np.arange(len(lengths)), lengths),
        group=deal_folds(clusters, MAX_GROUPS),
    )


def _subset(rows: _Rows, columns: Sequence[int]) -> _Rows:
    return _Rows(
        z=np.ascontiguousarray(rows.z[:, columns]), y=rows.y, offsets=rows.offsets,
        conversation=rows.conversation, query=rows.query, group=rows.group,
    )  # fmt: skip


def _without_each(by_conversation: Array, group: Array) -> Array:
    """Totals over all groups, then without each, ``[1 + groups, ...]``."""
    sums = np.zeros((group.max() + 1, *by_conversation.shape[1:]))
    np.add.at(sums, group, by_conversation)
    total = sums.sum(axis=0)
    return np.concatenate([total[None], total - sums])


def _r_replicates(moments: Array, group: Array) -> Array:
    return pearson(_without_each(moments, group), np.ones((1, 1)))[:, 0]


def _ratio_replicates(sums: Array, sizes: Array, group: Array) -> Array:
    return _without_each(sums, group) / _without_each(sizes, group)


def _mean_replicates(by_query: Array, rows: _Rows) -> Array:
    conversation = rows.conversation[rows.offsets[:-1]]
    has, C = np.isfinite(by_query), len(rows.group)
    sums = np.bincount(conversation[has], by_query[has], C)
    return _ratio_replicates(sums, np.bincount(conversation[has], minlength=C), rows.group)


def _impossible(clusters: int) -> Outcome:
    return Outcome(
        name="ceiling",
        title="How far from the ceiling",
        paragraph=(
            "How close do the linear weights come to the best that any function of the same "
            "signals could do? That needs conversations to learn from and others to judge by, at "
            f"least three; here there are {clusters}. No share of what is possible can be said."
        ),
        estimates={},
        diagnostics={"conversations": clusters},
        computations=(),
    )

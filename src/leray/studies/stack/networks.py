"""M4: do networks over the four signals retrieve better than the best linear weights?

The networks are chosen and trained without the conversations that they are judged on; the linear
rival of the same loss is the exact optimum on the same rows. Differences are paired by
conversation, and simultaneous over the two losses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from leray.data.preparation import Prepared
from leray.evidence.bootstrap import (
    Interval,
    correlations,
    jackknife_se,
    ratio_means,
    studentised_ends,
)
from leray.evidence.moments import covariances
from leray.evidence.optimum import simplex_optimum
from leray.evidence.resampling import ClusterBootstrap, Resamples
from leray.memory.blocks import FOUR, Block, with_tau
from leray.memory.comparison import Comparison, Scorer, compare
from leray.memory.network_search import (
    Fitted,
    NetworkSearch,
    deal_folds,
    exhaustive,
    halving,
    linear_scores,
    network_scores,
)
from leray.memory.networks import LOSSES, Candidate, distinct_space
from leray.studies.claims import claim
from leray.studies.importance import Drive, Evidence
from leray.studies.intervals import FEW_CLUSTERS
from leray.studies.outcome import Outcome
from leray.studies.stack.network_details import candidate_values, learned

Array = np.ndarray
NAMES = {"pearson": "Pearson loss", "logistic": "logistic loss"}
SIMPLEX = "linear, simplex"


def run(
    prepared: Prepared,
    evidence: Evidence,
    drive: Drive,
    *,
    num_rows: int = 20_000,
    num_folds: int = 5,
    exhaustive: bool = False,
    level: float,
    candidates: tuple[Candidate, ...] | None = None,
    num_epochs: int = 1_000,
    num_resamples: int = 10_000,
) -> Outcome:
    """Search, refit, score the conversations left out, and compare.

    Args:
        prepared: The blocks.
        evidence: The decay time and the moments are taken from it.
        drive: Runs a computation to its result.
        num_rows: Rows to train on in each fold.
        num_folds: Outer folds, by conversation.
        exhaustive: Train every candidate to the end instead of successive halving.
        level: Of every interval; differences hold it together over the two losses.
        candidates: The space; by default the 219.
        num_epochs: The longest training.
        num_resamples: Cluster resamples behind the studentised intervals.

    Returns:
        An :class:`Outcome` with ``M4`` among its estimates, unless there are fewer than three
        conversations.
    """
    space = distinct_space() if candidates is None else candidates
    if len(prepared.clusters) < 3:
        return _impossible(len(prepared.clusters))
    columns = with_tau(FOUR, evidence.taus[evidence.tau])
    folds = deal_folds(prepared.clusters, num_folds)
    search = _search(prepared, columns, folds, space, num_rows, num_epochs, full=exhaustive)
    fitted: list[Fitted] = drive(search)
    by_place = {(f.fold, f.loss): f for f in fitted}
    scorers = _scorers(by_place, space, columns, folds, _simplex_weights(evidence, folds))
    comparison = compare(prepared.blocks, scorers, prepared.clusters)
    bootstrap = _bootstrap(evidence, comparison, num_resamples)
    drawn = drive(bootstrap)
    estimates = _estimates(comparison, drawn, level)
    best = max(LOSSES, key=lambda loss: estimates[_difference(loss)].estimate)
    effects = learned(prepared, columns, [f for f in fitted if f.loss == best], space)
    return Outcome(
        name="networks",
        title="Networks against the best linear weights",
        paragraph=_paragraph(search, estimates, effects, best),
        estimates=estimates,
        diagnostics=_diagnostics(search, fitted, effects, num_rows, full=exhaustive),
        computations=(search.name, bootstrap.name),
        details={
            "loss": best,
            "effects": effects,
            "candidates": candidate_values(fitted, space),
            "winners": [
                {"fold": f.fold, "loss": f.loss, "name": space[f.winner].name, "epochs": f.epochs}
                for f in fitted
            ],
            "num_rows": num_rows,
            "num_folds": int(folds.max()) + 1,
        },
    )


def _search(
    prepared: Prepared,
    columns: list[str],
    folds: Array,
    space: tuple[Candidate, ...],
    num_rows: int,
    num_epochs: int,
    *,
    full: bool,
) -> NetworkSearch:
    place = dict(zip(prepared.clusters, folds, strict=True))
    of_rows = [
        np.full(rows.stop - rows.start, place[cluster])
        for b in prepared.blocks
        for cluster, _, rows in b.by_cluster()
    ]
    rungs = exhaustive(len(space), num_epochs) if full else halving(len(space), num_epochs)
    return NetworkSearch(
        x=np.concatenate([b.rows(columns) for b in prepared.blocks], axis=1),
        y=np.concatenate([b.relevant for b in prepared.blocks]),
        folds=np.concatenate(of_rows),
        candidates=space,
        rungs=rungs,
        num_rows=num_rows,
    )


def _simplex_weights(evidence: Evidence, folds: Array) -> Array:
    """The exact weights on all rows of the other folds, ``[folds, 4]``."""
    sums = evidence.moments[evidence.tau]
    left = np.stack([sums[folds != k].sum(axis=0) for k in range(folds.max() + 1)])
    return simplex_optimum(covariances(left)).w


def _scorers(
    fitted: dict[tuple[int, str], Fitted],
    space: tuple[Candidate, ...],
    columns: list[str],
    folds: Array,
    weights: Array,
) -> dict[str, Scorer]:
    """Five methods; a conversation is scored by the models that never saw it.

    A logistic model's score is its probability, which is what r asks for; ranks do not change.
    """

    def scorer(score: Callable[[Fitted, Array], Array], loss: str) -> Scorer:
        def of(block: Block, cluster: int) -> Array:
            f = score(fitted[int(folds[cluster]), loss], block.rows(columns)).astype(np.float64)
            return special.expit(f) if loss == "logistic" else f

        return of

    def network(model: Fitted, x: Array) -> Array:
        return network_scores(model, space, x)

    scorers: dict[str, Scorer] = {}
    for loss in LOSSES:
        scorers[_network(loss)] = scorer(network, loss)
        scorers[_linear(loss)] = scorer(linear_scores, loss)
    scorers[SIMPLEX] = lambda b, c: weights[folds[c]] @ b.rows(columns).astype(np.float64)
    return scorers


def _network(loss: str) -> str:
    return f"network, {NAMES[loss]}"


def _linear(loss: str) -> str:
    return f"linear, {NAMES[loss]}"


def _difference(loss: str) -> str:
    return f"nDCG@10 difference, {NAMES[loss]}"


def _bootstrap(evidence: Evidence, c: Comparison, num_resamples: int) -> ClusterBootstrap:
    """Resample conversations; the models stay as they were trained."""
    return ClusterBootstrap(
        moments=evidence.moments[[evidence.tau]],
        grid=np.eye(len(FOUR))[:1],
        grid_tau=0,
        scores=c.scores,
        sums=_sums(c),
        sizes=c.sizes,
        num_resamples=num_resamples,
        resamples_per_step=min(1_000, -(-num_resamples // 2)),
        name="networks-bootstrap",
    )


def _sums(c: Comparison) -> Array:
    """nDCG@10 of every method, then the difference of each loss, ``[clusters, methods + 2]``."""
    alone = [c.metric(m, "ndcg_10") for m in c.methods]
    pairs = [c.metric(_network(k), "ndcg_10") - c.metric(_linear(k), "ndcg_10") for k in LOSSES]
    return np.stack([*alone, *pairs], axis=1)


def _estimates(c: Comparison, drawn: Resamples, level: float) -> dict[str, Interval]:
    theta, se, pivots = _means(c, drawn)
    num = len(c.methods)
    differences = _simultaneous(theta[num:], se[num:], pivots[:, num:], len(c.sizes), level)
    estimates = {"M4": _larger(differences)}
    estimates |= {_difference(k): i for k, i in zip(LOSSES, differences, strict=True)}
    alone = _one_by_one(theta[:num], se[:num], pivots[:, :num], len(c.sizes), level, 0.0)
    estimates |= {f"nDCG@10, {m}": i for m, i in zip(c.methods, alone, strict=True)}
    return estimates | _correlations(c, level)


def _means(c: Comparison, drawn: Resamples) -> tuple[Array, Array, Array]:
    """θ, its jackknife standard error, and the resampled t = (θ* − θ)/se*."""
    C = len(c.sizes)
    theta, _ = ratio_means(np.ones(C), _sums(c), c.sizes)
    left, _ = ratio_means(1.0 - np.eye(C), _sums(c), c.sizes)
    safe = np.where(drawn.means_se > 0, drawn.means_se, 1.0)
    pivots = np.where(drawn.means_se > 0, (drawn.means - theta) / safe, 0.0)
    return theta, jackknife_se(left), pivots


def _simultaneous(theta: Array, se: Array, pivots: Array, C: int, level: float) -> list[Interval]:
    """Intervals that hold together, the level shared out (Bonferroni).

    Each has its own quantiles of t*, not those of the largest |t*|: one difference may be far more
    skewed than the other, and would stretch both sides of both.
    """
    shared = 1 - (1 - level) / len(theta)
    return [
        replace(i, level=level, kind=f"{i.kind}, Bonferroni over losses")
        for i in _one_by_one(theta, se, pivots, C, shared, -1.0)
    ]


def _larger(differences: Sequence[Interval]) -> Interval:
    """The larger of several, from intervals that hold together."""
    first = differences[0]
    return _interval(
        max(i.estimate for i in differences),
        max(i.low for i in differences),
        max(i.high for i in differences),
        first.level,
        f"{first.kind}; the larger",
        first.n,
    )


def _one_by_one(
    theta: Array, se: Array, pivots: Array, C: int, level: float, floor: float
) -> list[Interval]:
    """An interval for each mean, cut at ``floor`` and 1, the ends of its range."""
    if C < FEW_CLUSTERS:
        half = special.stdtrit(C - 1, (1 + level) / 2) * se
        low, high, kind = theta - half, theta + half, "jackknife-t"
    else:
        (low, high), kind = studentised_ends(pivots, theta, se, level), "studentised"
    return [
        _interval(t, max(a, floor), min(b, 1.0), level, kind, C)
        for t, a, b in zip(theta, low, high, strict=True)
    ]


def _correlations(c: Comparison, level: float) -> dict[str, Interval]:
    """r of every method and of the differences, by the jackknife over conversations."""
    C = len(c.sizes)
    r, left = (correlations(w, c.scores)[0] for w in (np.ones(C), 1.0 - np.eye(C)))
    place = {m: k for k, m in enumerate(c.methods)}
    wanted = {f"r, {m}": np.eye(len(place))[k] for m, k in place.items()}
    for loss in LOSSES:
        pair = np.eye(len(place))[[place[_network(loss)], place[_linear(loss)]]]
        wanted[f"r difference, {NAMES[loss]}"] = pair[0] - pair[1]
    contrasts = np.stack([*wanted.values()], axis=1)
    theta, se = r @ contrasts, jackknife_se(left @ contrasts)
    half = special.stdtrit(C - 1, (1 + level) / 2) * se
    return {
        name: _interval(t, t - h, t + h, level, "jackknife-t", C)
        for name, t, h in zip(wanted, theta, half, strict=True)
    }


def _interval(t: float, low: float, high: float, level: float, kind: str, n: int) -> Interval:
    return Interval(
        estimate=float(t), low=float(low), high=float(high), level=level, kind=kind, n=n
    )


def _diagnostics(
    search: NetworkSearch,
    fitted: list[Fitted],
    effects: dict[str, Any],
    num_rows: int,
    *,
    full: bool,
) -> dict[str, float | int | str | bool | None]:
    winners = Counter(
        "-".join(map(str, search.candidates[f.winner].hidden)) or "none" for f in fitted
    )
    return {
        "candidates": len(search.candidates),
        "search": "exhaustive" if full else "successive halving",
        "longest training, epochs": search.rungs[-1].epochs,
        "rows to train on": num_rows,
        "folds": search.num_folds,
        "hidden layers that won": ", ".join(f"{h} ({n})" for h, n in winners.most_common()),
        "epochs of the winners": ", ".join(str(f.epochs) for f in fitted),
        "linear share of the best networks": float(np.mean(effects["linear_share"])),
    }


def _paragraph(
    search: NetworkSearch,
    estimates: dict[str, Interval],
    effects: dict[str, Any],
    best: str,
) -> str:
    m4 = estimates["M4"]
    folds, largest = search.num_folds, max(effects["interactions"], key=_mean_strength)
    ours, rival = (estimates[f"nDCG@10, {f(best)}"].estimate for f in (_network, _linear))
    straight = float(np.mean(effects["linear_share"]))
    null = claim("M4").null
    if m4.high <= null:
        answer = f"no network gains more than {null:g}: linear is near enough to the best"
    elif m4.low > null:
        answer = (
            f"the network gains more than {null:g}: linear weights leave something on the table"
        )
    else:
        answer = f"these conversations cannot tell whether it is more than {null:g}"
    for loss in LOSSES:
        by_r = estimates[f"r difference, {NAMES[loss]}"]
        if by_r.low > 0:
            answer += (
                f"; by correlation, which is not ranking, the network with the {NAMES[loss]} is "
                f"ahead by {_signed(by_r.estimate)} ({_signed(by_r.low)} to {_signed(by_r.high)})"
            )
    return (
        f"Could a neural network weigh the four signals better than a sum can? "
        f"{len(search.candidates)} networks were trained for up to {search.rungs[-1].epochs:,} "
        f"epochs, for two kinds of loss; each time the winner was chosen and trained on other "
        f"conversations than those it was judged on ({folds} folds). "
        f"On conversations never seen, the best of them (with the {NAMES[best]}) retrieves with a "
        f"mean nDCG@10 of {ours:.3f}; the best linear weights for the same loss, from the same "
        f"rows, reach {rival:.3f}. The difference is {_signed(m4.estimate)} "
        f"({_signed(m4.low)} to {_signed(m4.high)} at {100 * m4.level:g}% over both losses); "
        f"{answer}. A straight line in the signals accounts for {100 * straight:.0f}% of what "
        f"these networks compute; the pair that they combine most is {largest['pair'][0]} with "
        f"{largest['pair'][1]}. The interval says how other conversations would differ, with the "
        f"networks as they are; it does not include how another training would, and other networks "
        f"or other signals could do better."
    )


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def _mean_strength(pair: dict[str, Any]) -> float:
    return float(np.mean(pair["strength"]))


def _impossible(num_clusters: int) -> Outcome:
    return Outcome(
        name="networks",
        title="Networks against the best linear weights",
        paragraph=(
            "Networks must be trained on some conversations, chosen on others and judged on yet "
            f"others, which needs at least three; here there are {num_clusters}. So nothing was "
            "trained, and whether linear weights are near the best is open."
        ),
        estimates={},
        diagnostics={"conversations": num_clusters},
        computations=(),
    )

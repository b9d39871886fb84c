"""The nested search: which network is best, chosen and trained without the rows it is judged on.

Clusters (conversations) are dealt into F folds. For each fold k and each loss, one shard:

1. **search**: all candidates train on the folds other than k and k + 1 and are compared on fold
   k + 1 (mod F). Successive halving: each rung trains the candidates that are left up to its
   number of epochs, going on from where they were, and keeps the best third.
2. **refit**: the winner trains anew on all folds other than k, for as many epochs as were best,
   from three starts; the one that fits these rows best is kept, since a start can fail.
3. the **linear rival** of the same loss is fitted exactly, to the rows of the refit.

A candidate is compared by the best value that it had at any checkpoint so far, so stopping early
is part of the search. Nothing of fold k is read before the models are finished.

Source: Jamieson and Talwalkar, Non-stochastic best arm identification (AISTATS 2016).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leray.evidence.resampling import RandomKey, Samples
from leray.memory.networks import (
    LINEAR,
    LOSSES,
    Array,
    Candidate,
    Loss,
    Population,
    Sample,
    case_control,
    case_control_weights,
    distinct_space,
    first_bias,
    goodness,
    least_squares_line,
    weighted_moments,
)

NUM_EPOCHS = 1_000
ETA = 3  # a rung keeps one candidate in so many, and trains so many times as long
NUM_RUNGS = 5
NUM_STARTS = 3  # of the refit
_FLOPS = 3e11  # of a step: a few seconds on one core
_ALONE = 16 * (1 << 20)  # what an epoch costs besides its arithmetic, in operations


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """So many candidates train until they have seen so many epochs."""

    num_alive: int
    epochs: int


def halving(num_candidates: int, num_epochs: int = NUM_EPOCHS) -> tuple[Rung, ...]:
    """Successive halving with η = 3 in five rungs: 219 candidates → 73 → 24 → 8 → 2."""
    return tuple(
        Rung(
            num_alive=max(1, num_candidates // ETA**k),
            epochs=max(1, round(num_epochs / ETA ** (NUM_RUNGS - 1 - k))),
        )
        for k in range(NUM_RUNGS)
    )


def exhaustive(num_candidates: int, num_epochs: int = NUM_EPOCHS) -> tuple[Rung, ...]:
    """Every candidate to the end."""
    return (Rung(num_alive=num_candidates, epochs=num_epochs),)


def deal_folds(clusters: Sequence[str], num_folds: int) -> Array:
    """The fold of each cluster: in the order of their SHA-256, dealt out in turn.

    With fewer clusters than folds each is a fold of its own.

    Raises:
        ValueError: for fewer than three clusters: one to train on, one to choose by, one to judge.
    """
    if len(clusters) < 3:
        raise ValueError(f"a nested search needs at least three clusters, got {len(clusters)}")
    if num_folds < 3:
        raise ValueError(f"a nested search needs at least three folds, got {num_folds}")
    order = np.argsort([hashlib.sha256(c.encode()).hexdigest() for c in clusters])
    folds = np.empty(len(clusters), np.int64)
    folds[order] = np.arange(len(clusters)) % min(num_folds, len(clusters))
    return folds


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What one fold and loss yielded.

    Args:
        fold, loss: Which.
        winner: Index of the candidate.
        epochs: How long it was trained.
        params: Its parameters.
        mean, scale: How inputs are standardised, ``[d]``.
        line: (a, b) such that a + b f estimates the truth; (0, 1) under the logistic loss.
        linear: The rival's coefficients on standardised inputs, intercept first.
        values: At each checkpoint, what each candidate was compared by (NaN once dropped).
        epochs_seen: The checkpoints.
        linear_value: The linear rival fitted to the search's training rows, compared likewise.
    """

    fold: int
    loss: Loss
    winner: int
    epochs: int
    params: Array
    mean: Array
    scale: Array
    line: Array
    linear: Array
    values: Array
    epochs_seen: Array
    linear_value: float


@dataclass(frozen=True, kw_only=True)
class NetworkSearch:
    """One shard for each fold and loss; its steps are the rungs, then the refit.

    Args:
        x: The signals of every row, float32 ``[d, rows]``, d a multiple of four.
        y: Truth, boolean.
        folds: The fold of each row.
        candidates: The space.
        rungs: See :func:`halving` and :func:`exhaustive`.
        num_rows: Rows to train on, a case–control sample; as many to choose by.
        losses: Which.

    Result: a :class:`Fitted` for each shard.
    """

    x: Array
    y: Array
    folds: Array
    candidates: tuple[Candidate, ...] = distinct_space()
    rungs: tuple[Rung, ...] = halving(219)
    num_rows: int = 20_000
    losses: tuple[Loss, ...] = LOSSES
    name: str = "networks"

    @property
    def num_folds(self) -> int:
        """F."""
        return int(self.folds.max()) + 1

    @property
    def num_shards(self) -> int:
        return self.num_folds * len(self.losses)

    @property
    def num_steps(self) -> int:
        return len(self.schedule()) + 1

    def schedule(self) -> list[tuple[int, int]]:
        """For each step of the search: its rung, and the epochs seen at its end.

        A step is at most a few seconds even where the costliest candidates survive.
        """
        population = Population(self.candidates, len(self.x))
        costs = np.sort(population.flops(self.num_rows) + _ALONE)[::-1]
        steps, seen = [], 0
        for k, rung in enumerate(self.rungs):
            pieces = math.ceil(costs[: rung.num_alive].sum() * (rung.epochs - seen) / _FLOPS)
            pieces = min(max(pieces, 1), rung.epochs - seen)
            steps += [(k, seen + (rung.epochs - seen) * (i + 1) // pieces) for i in range(pieces)]
            seen = rung.epochs
        return steps

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:
        """Draw the rows and the parameters."""
        rng = key.generator()
        rows = {p: case_control(self.y, r, self.num_rows, rng) for p, r in self._parts(shard)}
        population = Population(self.candidates, len(self.x))
        bias = first_bias(self._loss(shard), self._sample(shard, "fit", rows["fit"]))
        params = population.draw(bias, rng)
        return {
            **rows,
            "params": params,
            "first": np.zeros_like(params),
            "second": np.zeros_like(params),
            "best": np.full(len(self.candidates), -np.inf),
            "best_epochs": np.zeros(len(self.candidates), np.int64),
            "shard": shard,
        }

    def step(
        self, state: dict[str, Any], step_index: int, key: RandomKey
    ) -> tuple[dict[str, Any], Samples]:
        """One piece of a rung, or the refit."""
        if step_index == self.num_steps - 1:
            return state, self._refit(state, key.generator())
        return self._search(state, step_index, key.generator())

    def _search(
        self, state: dict[str, Any], step_index: int, rng: np.random.Generator
    ) -> tuple[dict[str, Any], Samples]:
        schedule, shard = self.schedule(), state["shard"]
        rung, until = schedule[step_index]
        seen = schedule[step_index - 1][1] if step_index else 0
        loss = self._loss(shard)
        fit, centre = self._standardised(shard, "fit", state["fit"])
        choose, _ = self._standardised(shard, "choose", state["choose"], centre)
        population = Population(self.candidates, len(self.x))
        alive = best_first(state["best"])[: self.rungs[rung].num_alive]
        moving = {k: state[k].copy() for k in ("params", "first", "second", "best", "best_epochs")}
        adam = (moving["params"], moving["first"], moving["second"])
        population.train(*adam, np.sort(alive), fit, loss, range(seen, until), rng)
        value = np.full(len(self.candidates), np.nan)
        for k in map(int, alive):
            f = population.scores(adam[0][population.own(k)], k, choose.x)
            value[k] = goodness(loss, f, choose)
            if value[k] > moving["best"][k]:
                moving["best"][k], moving["best_epochs"][k] = value[k], until
        return {**state, **moving}, {"value": value, "epochs": np.array(until)}

    def _refit(self, state: dict[str, Any], rng: np.random.Generator) -> Samples:
        shard, loss = state["shard"], self._loss(state["shard"])
        winner = int(best_first(state["best"])[0])
        epochs = int(state["best_epochs"][winner])
        sample, (mean, scale) = self._standardised(shard, "refit", state["refit"])
        params, f = self._best_start(self.candidates[winner], sample, loss, epochs, rng)
        line = least_squares_line(f, sample) if loss == "pearson" else np.array([0.0, 1.0])
        fit, centre = self._standardised(shard, "fit", state["fit"])
        choose, _ = self._standardised(shard, "choose", state["choose"], centre)
        return {
            "line": line,
            "winner": np.array(winner),
            "epochs": np.array(epochs),
            "params": params,
            "mean": mean,
            "scale": scale,
            "linear": LINEAR[loss](sample),
            "linear_value": np.array(goodness(loss, linear(LINEAR[loss](fit), choose.x), choose)),
        }

    def _best_start(
        self,
        candidate: Candidate,
        sample: Sample,
        loss: Loss,
        epochs: int,
        rng: np.random.Generator,
    ) -> tuple[Array, Array]:
        """Parameters, and the scores of the sample, of the start that fits the sample best."""
        population = Population([candidate] * NUM_STARTS, len(self.x))
        params = population.draw(first_bias(loss, sample), rng)
        moments = np.zeros_like(params), np.zeros_like(params)
        starts = np.arange(NUM_STARTS)
        population.train(params, *moments, starts, sample, loss, range(epochs), rng)
        own = [params[population.own(k)] for k in range(NUM_STARTS)]
        every = [population.scores(p, k, sample.x) for k, p in enumerate(own)]
        best = max(range(NUM_STARTS), key=lambda k: goodness(loss, every[k], sample))
        return own[best], every[best]

    def result(self, samples: list[list[Samples]]) -> list[Fitted]:
        return [
            Fitted(
                fold=shard // len(self.losses),
                loss=self._loss(shard),
                winner=int(last["winner"]),
                epochs=int(last["epochs"]),
                params=last["params"],
                mean=last["mean"],
                scale=last["scale"],
                line=last["line"],
                linear=last["linear"],
                values=np.stack([s["value"] for s in steps]),
                epochs_seen=np.array([int(s["epochs"]) for s in steps]),
                linear_value=float(last["linear_value"]),
            )
            for shard, (*steps, last) in enumerate(samples)
        ]

    def _loss(self, shard: int) -> Loss:
        return self.losses[shard % len(self.losses)]

    def _parts(self, shard: int) -> list[tuple[str, Array]]:
        """The rows to fit on, to choose by, and to refit on."""
        out = shard // len(self.losses)
        choose = (out + 1) % self.num_folds
        kept = self.folds != out
        return [
            ("fit", np.flatnonzero(kept & (self.folds != choose))),
            ("choose", np.flatnonzero(self.folds == choose)),
            ("refit", np.flatnonzero(kept)),
        ]

    def _sample(self, shard: int, part: str, chosen: Array) -> Sample:
        rows = dict(self._parts(shard))[part]
        weight = case_control_weights(self.y, rows, chosen)
        return Sample(x=self.x[:, chosen], y=self.y[chosen], weight=weight)

    def _standardised(
        self, shard: int, part: str, chosen: Array, centre: tuple[Array, Array] | None = None
    ) -> tuple[Sample, tuple[Array, Array]]:
        """The sample in standard units: its own weighted ones, or those given."""
        sample = self._sample(shard, part, chosen)
        mean, scale = standard_units(sample) if centre is None else centre
        x = standardise(sample.x, mean, scale)
        return Sample(x=x, y=sample.y, weight=sample.weight), (mean, scale)


def best_first(values: Array) -> Array:
    """Candidates by value, ties by their number."""
    return np.argsort(-values, kind="stable")


def standard_units(sample: Sample) -> tuple[Array, Array]:
    """The weighted mean and standard deviation (1 where constant), ``[d]`` each."""
    mean, S, _ = weighted_moments(sample)
    spread = np.sqrt(np.diagonal(S))
    return mean, np.where(spread > 1e-6 * np.maximum(np.abs(mean), 1e-6), spread, 1.0)


def standardise(x: Array, mean: Array, scale: Array) -> Array:
    """(x − mean)/scale, float32."""
    return ((x - mean[:, None]) / scale[:, None]).astype(np.float32)


def linear(coefficients: Array, x: Array) -> Array:
    """The linear rival's scores."""
    return coefficients[0] + coefficients[1:] @ x


def network_scores(fitted: Fitted, candidates: Sequence[Candidate], x: Array) -> Array:
    """The winner's scores a + b f, float64, on rows in the signals' own units ``[d, rows]``."""
    population = Population([candidates[fitted.winner]], len(x))
    f = population.scores(fitted.params, 0, standardise(x, fitted.mean, fitted.scale))
    return fitted.line[0] + fitted.line[1] * f.astype(np.float64)


def linear_scores(fitted: Fitted, x: Array) -> Array:
    """The linear rival's scores on rows in the signals' own units."""
    return linear(fitted.linear, standardise(x, fitted.mean, fitted.scale))

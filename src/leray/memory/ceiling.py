"""How well signals can rank turns: flexible models from below, and a planted truth beside.

What a model reaches on conversations that it was not fitted on is a lower bound of what any
function of the signals could reach, whatever the model; up to the error of sampling. How much it
falls short is not observable, so a truth is planted on the same signals, whose ceiling is known.

Two models, their settings fixed on synthetic rows: a logistic regression with all squares and
products, which is smooth, and gradient boosting of squared error, which is not. Both learn from a
case–control sample: every relevant pair and a random sample of the others, weighted back.

Source: Prentice and Pyke, Logistic disease incidence models and case-control studies (Biometrika
1979), for the intercept; Breiman, Meisel and Purcell, Variable kernel estimates of multivariate
densities (Technometrics 1977), for :class:`NeighbourVotes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special
from scipy.spatial import KDTree
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from leray.evidence.resampling import RandomKey, Samples, Stateless
from leray.memory.retrieval import METRICS, query_metrics

Array = np.ndarray
MODELS = ("quadratic logistic", "gradient boosting")
_MOST_LIKELY = 0.95  # a planted truth is nowhere more certain


class CrossFit(NamedTuple):
    """What each model did on the conversations left out.

    ``moments [conversations, models, 6]``: packed sums of (1, score, truth) about 0; ``ndcg
    [conversations, models]``: nDCG@10 summed over the ``sizes [conversations]`` queries that have
    something relevant.
    """

    moments: Array
    ndcg: Array
    sizes: Array


@dataclass(frozen=True, kw_only=True)
class CrossFitted(Stateless):
    """Both models, fitted without each fold of conversations; a shard is a fold, a step a model.

    Args:
        z: The signals, about normal, ``[rows, d]``.
        y: The truth.
        offsets: Query k owns the rows ``offsets[k]:offsets[k + 1]``.
        conversation: Of each row.
        fold: Of each conversation.
        num_controls: Irrelevant rows to learn from, at most.

    Result: :class:`CrossFit`.
    """

    z: Float[Array, "rows d"]
    y: Bool[Array, " rows"]
    offsets: Int[Array, " queries_and_one"]
    conversation: Int[Array, " rows"]
    fold: Int[Array, " conversations"]
    models: tuple[str, ...] = MODELS
    num_controls: int = 30_000
    name: str = "ceiling-models"

    @property
    def num_shards(self) -> int:
        return int(self.fold.max()) + 1

    @property
    def num_steps(self) -> int:
        return len(self.models)

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        return {"fold": shard}

    def step(
        self, state: dict[str, Any], step_index: int, key: RandomKey
    ) -> tuple[dict[str, Any], Samples]:
        model = self.models[step_index]
        judged = self.fold[self.conversation] == state["fold"]
        rows, weights = case_control(
            self.y, np.flatnonzero(~judged), self.num_controls, key.generator()
        )
        score = np.zeros(len(self.y))
        score[judged] = FITS[model](self.z[rows], self.y[rows], weights)(self.z[judged])
        conversations = self.conversation[self.offsets[:-1]]
        ndcg = ndcg_by_query(score, self.y, self.offsets)
        counted = np.isfinite(ndcg) & (self.fold[conversations] == state["fold"])
        C = len(self.fold)
        return state, {
            "moments": score_moments(score[judged], self.y[judged], self.conversation[judged], C),
            "ndcg": np.bincount(conversations[counted], ndcg[counted], C),
            "sizes": np.bincount(conversations[counted], minlength=C),
        }

    def result(self, samples: list[list[Samples]]) -> CrossFit:
        def total(name: str) -> Array:
            return np.sum([[s[name] for s in shard] for shard in samples], axis=0)

        sizes = total("sizes")[0].astype(np.float64)
        return CrossFit(np.swapaxes(total("moments"), 0, 1), total("ndcg").T, sizes)


class Planted(NamedTuple):
    """A truth whose law is known: ``m [rows]`` its probability, ``y [rows]`` one draw."""

    m: Array
    y: Array

    @property
    def largest_r(self) -> float:
        """The largest correlation that any function of the signals has, √(Var m / (π(1 − π)))."""
        m = self.m.astype(np.float64)
        return float(np.sqrt(m.var() / (m.mean() * (1 - m.mean()))))


@dataclass(frozen=True, kw_only=True)
class PlantedTruth(Stateless):
    """Draw labels from what gradient boosting learns on all rows, as if that were the truth.

    It has seen the labels, so it is rougher than what it learnt from: a hard truth to estimate.

    Result: :class:`Planted`, with the mean of m equal to that of y.
    """

    z: Float[Array, "rows d"]
    y: Bool[Array, " rows"]
    num_controls: int = 30_000
    name: str = "ceiling-planted"
    num_shards: int = 1
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        rng = key.generator()
        rows, weights = case_control(self.y, np.arange(len(self.y)), self.num_controls, rng)
        m = boosting(self.z[rows], self.y[rows], weights)(self.z)
        m = np.clip(m, 0.0, None)
        m = np.minimum(m * self.y.mean() / m.mean(), _MOST_LIKELY).astype(np.float32)
        return state, {"m": m, "y": rng.random(len(m)) < m}

    def result(self, samples: list[list[Samples]]) -> Planted:
        return Planted(samples[0][0]["m"], samples[0][0]["y"])


@dataclass(frozen=True, kw_only=True)
class NeighbourVotes(Stateless):
    """m̂ from the positives of all other queries, the same conversation's included.

    m̂(x) = Σ_j κ(‖x − x_j‖ / R_j) over the positives j of other queries, R_j the distance from j to
    its k-th nearest row and κ(u) = 1 − u² within it: the sample-point form of the k-nearest-
    neighbour estimate, with one search a positive instead of one a row. k = 2/π, so that a
    neighbourhood holds about two positives where the signals say nothing. Optimistic, since
    it knows the conversation's other queries, and pessimistic, since it is rough: no bound.

    Args:
        z: The signals, ``[rows, d]``.
        truths: Truths to do it for, ``[truths, rows]``; a shard each.
        query: Of each row.

    Result: scores, ``[truths, rows]``.

    Cost: one tree over all rows, and k rows a positive.
    """

    z: Float[Array, "rows d"]
    truths: Bool[Array, "truths rows"]
    query: Int[Array, " rows"]
    name: str = "ceiling-votes"
    num_steps: int = 1

    @property
    def num_shards(self) -> int:
        return len(self.truths)

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        return {"truth": shard}

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Samples]:
        y = self.truths[state["truth"]]
        k = num_voters(y)
        tree = KDTree(self.z, balanced_tree=False, compact_nodes=False)
        score = np.zeros(len(y))
        positives = np.flatnonzero(y)
        for part in np.array_split(positives, max(1, len(positives) * k // 1_000_000)):
            far, row = tree.query(self.z[part], k=k)  # k is at least 2
            radius = np.maximum(far[:, -1:], np.finfo(np.float32).tiny)
            vote = (1 - (far / radius) ** 2) * (self.query[row] != self.query[part, None])
            score += np.bincount(row.ravel(), vote.ravel(), len(y))
        return state, {"score": score.astype(np.float32)}

    def result(self, samples: list[list[Samples]]) -> Float[Array, "truths rows"]:
        return np.stack([shard[0]["score"] for shard in samples])


def num_voters(y: Array) -> int:
    """k = 2/π, at most a tenth of the rows."""
    return int(min(np.ceil(2 / y.mean()), max(len(y) // 10, 2)))


def case_control(
    y: Array, rows: Array, num_controls: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Every relevant one of these rows and a sample of the others: the rows and their weights."""
    cases, controls = rows[y[rows]], rows[~y[rows]]
    kept = rng.choice(controls, min(num_controls, len(controls)), replace=False)
    weights = np.repeat([1.0, len(controls) / max(len(kept), 1)], [len(cases), len(kept)])
    return np.concatenate([cases, kept]), weights


def quadratic_logistic(z: Array, y: Array, weights: Array) -> Callable[[Array], Array]:
    """P(y = 1) by logistic regression on z_i and z_i z_j, ridge penalty 1 on standardised columns.

    Fitted unweighted; the weight of the controls moves the intercept alone.
    """
    i, j = np.triu_indices(z.shape[1])
    columns = np.concatenate([z, z[:, i] * z[:, j]], axis=1).astype(np.float64)
    scale = columns.std(axis=0)
    scale[scale == 0] = 1.0
    fitted = LogisticRegression(solver="newton-cholesky", max_iter=200).fit(columns / scale, y)
    beta = fitted.coef_[0] / scale
    d = z.shape[1]
    A = np.zeros((d, d), np.float32)
    A[i, j] = beta[d:]
    constant = float(fitted.intercept_[0]) - np.log(weights[~y][0])
    b = beta[:d].astype(np.float32)
    return lambda x: special.expit(
        np.einsum("rd,rd->r", x @ A + b, x).astype(np.float64) + constant
    )


def boosting(z: Array, y: Array, weights: Array) -> Callable[[Array], Array]:
    """E[y | z] by 60 small trees on squared error."""
    model = HistGradientBoostingRegressor(
        max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=40, max_bins=64,
        early_stopping=False,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    return model.fit(z, y.astype(np.float64), sample_weight=weights).predict


FITS: dict[str, Callable[[Array, Array, Array], Callable[[Array], Array]]] = {
    MODELS[0]: quadratic_logistic,
    MODELS[1]: boosting,
}


def score_moments(
    score: Array, y: Array, cluster: Array, num_clusters: int
) -> Float[Array, "clusters 6"]:
    """Sums of (1, s, y, s², sy, y²) by cluster: the packed moments of (1, s, y) about 0."""
    products = (np.ones(len(y)), score, y, score**2, score * y, y)
    return np.stack([np.bincount(cluster, p, num_clusters) for p in products], axis=1)


def ndcg_by_query(score: Array, y: Array, offsets: Array) -> Float[Array, " queries"]:
    """nDCG@10 of each query; NaN where nothing is relevant."""
    lengths = np.diff(offsets)
    asked = np.add.reduceat(y.astype(np.int64), offsets[:-1]) > 0
    rows = np.repeat(asked, lengths)
    out = np.full(len(lengths), np.nan)
    if asked.any():
        kept = np.concatenate([[0], np.cumsum(lengths[asked])])
        out[asked] = query_metrics(score[rows], y[rows], kept)[:, METRICS.index("ndcg_10")]
    return out

"""Would data made by the fitted Gaussian model look like the data? Replicates from moments alone.

Given parameters, a conversation's effects θ_c are Gaussian: with x = D Zᵀ(y − Zm) and P = M⁻¹
(see `leray.evidence.bayes`), D⁻¹(θ_c − m) ~ N(P x/σ², P). Given θ_c the moments of replicated
truth are exact: Zᵀy* = ZᵀZ θ + u, u ~ N(0, σ² ZᵀZ), and y*ᵀy* = θᵀZᵀZθ + 2θᵀu + σ²(|ξ|² + χ²) with
ξ the standard normals behind u and χ² on the n − rank Z degrees that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from leray.evidence.bayes import GaussianData
from leray.evidence.density import Array
from leray.evidence.resampling import RandomKey, Samples, Stateless

STATISTICS = (
    "mean r, new conversations",
    "spread of r, new conversations",
    "spread of the truth's variance, same conversations",
)


class Parameters(NamedTuple):
    """Draws of the model's parameters: ``w [N, d]``, ``b``, ``mu``, ``sigma [N]``,
    ``tau [N, d + 1]``."""

    w: Array
    b: Array
    mu: Array
    sigma: Array
    tau: Array


class Check(NamedTuple):
    """Observed and replicated correlations and statistics.

    ``r [C]`` each conversation's Pearson r of the weighted signals with the truth, and ``ends
    [2, C]`` the 2.5% and 97.5% of its replicates with the conversation's own effects.
    ``statistics`` maps a name to (observed, p, 5% and 95% of the replicates); p is the share of
    replicates that are at least as large as the observed.
    """

    r: Array
    ends: Array
    statistics: dict[str, tuple[float, float, float, float]]


@dataclass(frozen=True, kw_only=True)
class PredictiveCheck(Stateless):
    """Compare conversations' correlations and variances with those the model would make.

    Two replications: the *same* conversations again, with their own effects, and *new* ones of
    the same population and sizes. A p near 0 or 1 says that the model does not make such data.

    Args:
        data: The moments.
        parameters: Draws from the posterior, some hundreds.
        weights: On the raw signals, of the score whose r is looked at.
    """

    data: GaussianData
    parameters: Parameters
    weights: Float[Array, " d"]
    name: str = "predictive check"
    num_shards: int = 1
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        rng, data, drawn = key.generator(), self.data, self.parameters
        gram = np.moveaxis(data.gram, -1, 0)
        score = self.weights * data.unit
        means = np.column_stack([drawn.mu, drawn.b[:, None] * drawn.w * data.unit])
        own = conditional_effects(data, means, drawn, rng)
        new = means[:, None] + drawn.tau[:, None] * rng.normal(size=own.shape)
        r, spread = _summary(gram, data.cross.T, data.square, score)
        r_own, spread_own = _summary(gram, *replicate(data, own, drawn.sigma, rng), score)
        r_new, _ = _summary(gram, *replicate(data, new, drawn.sigma, rng), score)
        compared = (
            _compared(r.mean(), r_new.mean(axis=1)),
            _compared(r.std(), r_new.std(axis=1)),
            _compared(np.log(spread).std(), np.log(spread_own).std(axis=1)),
        )
        ends = np.quantile(r_own, [0.025, 0.975], axis=0)
        return state, {"r": r, "ends": ends, "compared": np.array(compared)}

    def result(self, samples: list[list[Samples]]) -> Check:
        s = samples[0][0]
        rows = [tuple(row) for row in s["compared"].tolist()]
        return Check(s["r"], s["ends"], dict(zip(STATISTICS, rows, strict=True)))


def conditional_effects(
    data: GaussianData,
    means: Float[Array, "draws v"],
    parameters: Parameters,
    rng: np.random.Generator,
) -> Float[Array, "draws clusters v"]:
    """Exact draws of every conversation's intercept and slopes given the parameters.

    Cost: a Cholesky of [d + 1, d + 1] a draw and conversation.
    """
    gram, variance = np.moveaxis(data.gram, -1, 0), parameters.sigma[:, None, None] ** 2
    tau = parameters.tau[:, None]
    x = tau * (data.cross.T - np.einsum("cij,nj->nci", gram, means))
    scaled = gram * (tau[..., :, None] * tau[..., None, :]) / variance[..., None]
    L = np.linalg.cholesky(scaled + np.eye(gram.shape[-1]))
    normal = rng.normal(size=x.shape)
    half = np.linalg.solve(L, (x / variance)[..., None])[..., 0]
    standard = np.linalg.solve(np.swapaxes(L, -1, -2), (half + normal)[..., None])[..., 0]
    return means[:, None] + tau * standard


def replicate(
    data: GaussianData,
    effects: Float[Array, "draws clusters v"],
    sigma: Float[Array, " draws"],
    rng: np.random.Generator,
) -> tuple[Float[Array, "draws clusters v"], Float[Array, "draws clusters"]]:
    """Zᵀy* and y*ᵀy* of replicated truth, exactly, for every draw and conversation."""
    gram = np.moveaxis(data.gram, -1, 0)
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-12 * values[:, -1:]
    root = vectors * np.sqrt(np.where(kept, values, 0.0))[:, None, :]
    normal = rng.normal(size=effects.shape) * kept
    s = sigma[:, None]
    u = s[..., None] * np.einsum("cij,ncj->nci", root, normal)
    fitted = np.einsum("cij,ncj->nci", gram, effects)
    left = rng.chisquare(np.maximum(data.rows - kept.sum(axis=1), 1e-9), size=effects.shape[:2])
    noise = s**2 * ((normal**2).sum(axis=-1) + left)
    square = (effects * (fitted + 2 * u)).sum(axis=-1) + noise
    return fitted + u, square


def _summary(gram: Array, cross: Array, square: Array, score: Array) -> tuple[Array, Array]:
    """r of the score with the truth, and the truth's variance, by conversation."""
    n = gram[:, 0, 0]
    mean = gram[:, 0, 1:] @ score / n
    variance = np.einsum("i,cij,j->c", score, gram[:, 1:, 1:], score) / n - mean**2
    y = cross[..., 0] / n
    spread = np.maximum(square / n - y**2, np.finfo(float).tiny)
    covariance = cross[..., 1:] @ score / n - mean * y
    scale = np.sqrt(np.maximum(variance, 0.0) * spread)
    return np.where(scale > 0, covariance / np.where(scale > 0, scale, 1.0), 0.0), spread


def _compared(observed: float, replicated: Array) -> tuple[float, float, float, float]:
    low, high = np.quantile(replicated, [0.05, 0.95])
    above = float((replicated >= observed).mean())
    return float(observed), above, float(low), float(high)

"""Importance sampling around the mode: an answer that owes nothing to a Markov chain.

The posterior's mode ẑ and curvature H = −∇² log p on R^p give the proposal q, a multivariate t
with ν degrees of freedom, location ẑ and scale H⁻¹; draws are weighted by p/q, and the weights'
tail is smoothed by a generalised Pareto fit whose shape k̂ says whether they can be trusted
(k̂ ≤ 0.7). Where the posterior is skewed the proposal is refitted: location and scale become the
mean and covariance under the smoothed weights, and new draws are made.

Source: Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling (JMLR 2024);
Cappé et al., Population Monte Carlo (JCGS 2004), for the refitting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from arviz_stats.base.array import array_stats
from jaxtyping import Float
from scipy import linalg, special

from leray.evidence.density import (
    Array,
    Data,
    Model,
    potentials,
)
from leray.evidence.mode import Mode, find_mode
from leray.evidence.resampling import RandomKey, Samples, Stateless

DEGREES = 5.0
TRUSTED = 0.7
"""The largest k̂ at which smoothed importance weights are relied on."""


class Weighted(NamedTuple):
    """Draws ``z [N, p]`` with smoothed, normalised log weights and what they say of themselves.

    ``first_k_hat`` belongs to the proposal at the mode, ``k_hat`` to the one used.
    """

    z: Array
    log_weights: Array
    k_hat: float
    first_k_hat: float
    mode: Mode

    @property
    def effective(self) -> float:
        """Kish's effective number of draws, 1/Σ w²."""
        return float(1 / (np.exp(self.log_weights) ** 2).sum())

    def even(self, num: int) -> Float[Array, "num p"]:
        """Draws of equal weight, by systematic resampling at the middle of each of num strata."""
        cumulated = np.cumsum(np.exp(self.log_weights))
        at = (np.arange(num) + 0.5) / num * cumulated[-1]
        return self.z[np.searchsorted(cumulated, at)]


def smoothed(log_ratios: Float[Array, " draws"]) -> tuple[Float[Array, " draws"], float]:
    """Pareto-smoothed, normalised log weights, and k̂."""
    log_weights, k_hat = array_stats.psislw(-log_ratios)
    return np.asarray(log_weights), float(k_hat)


def importance_sample(
    model: Model,
    data: Data,
    mode: Mode,
    num_draws: int,
    rng: np.random.Generator,
    *,
    num_refits: int = 2,
) -> Weighted:
    """Weighted draws from the t around the mode, refitted ``num_refits`` times."""
    proposal, first, drawn = mode, np.inf, None
    for refit in range(num_refits + 1):
        z, log_q = student_t(proposal, num_draws, rng)
        log_weights, k_hat = smoothed(-potentials(model, data, z) - log_q)
        drawn = Weighted(z, log_weights, k_hat, k_hat if refit == 0 else first, mode)
        first = drawn.first_k_hat
        w = np.exp(log_weights)
        centre = w @ z
        proposal = Mode(centre, (w * (z - centre).T) @ (z - centre))
    assert drawn is not None
    return drawn


def student_t(proposal: Mode, num: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draws of the multivariate t and their log densities."""
    location, covariance = proposal
    p, nu = len(location), DEGREES
    root = np.linalg.cholesky(covariance)
    normal = rng.normal(size=(num, p))
    divisor = np.sqrt(rng.chisquare(nu, size=num) / nu)
    standard = normal / divisor[:, None]
    constant = special.gammaln((nu + p) / 2) - special.gammaln(nu / 2)
    constant -= p / 2 * np.log(nu * np.pi) + np.log(np.diagonal(root)).sum()
    log_q = constant - (nu + p) / 2 * np.log1p((standard**2).sum(axis=1) / nu)
    return location + standard @ root.T, log_q


def log_normal_density(z: Array, location: Array, root: Array) -> Float[Array, " draws"]:
    """log N(z; location, root rootᵀ)."""
    standard = linalg.solve_triangular(root, (z - location).T, lower=True)
    constant = len(location) / 2 * np.log(2 * np.pi) + np.log(np.diagonal(root)).sum()
    return -constant - 0.5 * (standard**2).sum(axis=0)


@dataclass(frozen=True, kw_only=True)
class LaplaceImportance(Stateless):
    """Find the mode and sample around it, in one step."""

    model: Model
    data: Any
    num_draws: int = 10_000
    name: str = "laplace"
    num_shards: int = 1
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        mode = find_mode(self.model, self.data)
        drawn = importance_sample(self.model, self.data, mode, self.num_draws, key.generator())
        arrays = {"z": drawn.z, "log_weights": drawn.log_weights}
        arrays |= {"location": mode.location, "covariance": mode.covariance}
        return state, arrays | {"k_hat": np.array([drawn.k_hat, drawn.first_k_hat])}

    def result(self, samples: list[list[Samples]]) -> Weighted:
        s = samples[0][0]
        mode = Mode(s["location"], s["covariance"])
        last, first = s["k_hat"].tolist()
        return Weighted(s["z"], s["log_weights"], last, first, mode)

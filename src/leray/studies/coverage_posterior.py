"""How often posterior intervals hold the truth: the model's own data, and data that break it.

Parameters are drawn from the prior in every setting, so that under its own model a posterior
interval covers at exactly its level, and what is missed elsewhere is the setting's doing. No data
set is discarded: where the importance sampler's k̂ exceeds 0.7, NUTS takes over.

Notation: C conversations of n rows; w, b, τ as in :mod:`leray.evidence.bayes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Float

from leray.evidence.bayes import (
    GaussianData,
    Priors,
    gaussian_model,
    log_marginal,
    moments_data,
)
from leray.evidence.density import Array, Model, constrained
from leray.evidence.diagnostics import posterior_interval, weight_interval
from leray.evidence.mode import Mode, find_mode
from leray.evidence.resampling import Samples, Stateless
from leray.evidence.sbc import (
    INFORMATIVE,
    Seeded,
    SimulationBasedCalibration,
    Truth,
    flat_start,
    posterior_draws,
)
from leray.evidence.variational import Fit, VariationalFits, fit_draws
from leray.memory.synthetic import autoregression
from leray.runs.seeds import Key
from leray.studies.coverage_data import DEGREES
from leray.studies.coverage_methods import LEVELS

POSTERIOR, INTERCEPTS, FULL_RANK = "posterior", "posterior, intercepts only", "VI, full rank"
WEIGHTS, REPORTED, SLOPE = "weights", "weights, as reported", "slope b"
QUANTITIES = (WEIGHTS, REPORTED, SLOPE)
_NO_SPREAD = 1e-4  # what stands for slopes that do not vary
_NUM_DRAWS = 2_000


class Law(NamedTuple):
    """How data sets of a setting are made, and how many of them in a step, by which methods."""

    name: str
    repeats: int
    methods: tuple[str, ...]
    rho: float = 0.0
    heavy_tails: bool = False
    equal_slopes: bool = False


LAWS = (
    Law("slopes that vary", 3, (POSTERIOR, FULL_RANK)),
    Law("slopes that vary", 1, (INTERCEPTS,)),
    Law("equal slopes", 1, (POSTERIOR, INTERCEPTS), equal_slopes=True),
    Law("serial dependence", 1, (POSTERIOR, INTERCEPTS, FULL_RANK), rho=0.8),
    Law("heavy tails", 1, (POSTERIOR, FULL_RANK), heavy_tails=True),
)
ENTRIES = tuple((law, method) for law in LAWS for method in law.methods)


@dataclass(frozen=True, kw_only=True)
class PosteriorCoverage(Stateless):
    """Whether 90% and 95% intervals of weights and slope held the truth, by setting and method.

    Args:
        num_rounds: A multiple of ``num_shards``; a round is one pass through ``LAWS``.
        num_clusters, num_rows: C and n.
        unit: u, one a signal, with mean 1.
        num_importance: Draws of the importance sampler.
        num_gradient_steps: Of variational inference.

    Result: for each of ``ENTRIES`` the share held, ``[data sets, quantities, levels]``; and k̂ of
    every importance sample.
    """

    num_rounds: int
    num_clusters: int = 40
    num_rows: int = 60
    unit: tuple[float, ...] = (1.3, 0.5, 0.6, 1.6)
    priors: Priors = INFORMATIVE
    num_importance: int = 2_000
    num_gradient_steps: int = 10_000
    rounds_per_step: int = 1
    name: str = "posterior coverage"
    num_shards: int = 2

    @property
    def num_steps(self) -> int:
        return -(-self.num_rounds // (self.num_shards * self.rounds_per_step))

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: Key,
    ) -> tuple[dict[str, Any], Samples]:
        rounds = [self._round(key.child(k)) for k in range(self.rounds_per_step)]
        return state, {name: np.concatenate([one[name] for one in rounds]) for name in rounds[0]}

    def result(self, samples: list[list[Samples]]) -> dict[str, Array]:
        flat = [s for shard in samples for s in shard]
        return {name: np.concatenate([s[name] for s in flat]) for name in flat[0]}

    def _round(self, key: Key) -> Samples:
        held: dict[str, list[Array]] = {}
        k_hats: list[float] = []
        for k, law in enumerate(LAWS):
            for repeat in range(law.repeats):
                place = key.child(k).child(repeat)
                truth, data = self.dataset(law, place.generator())
                for method in law.methods:
                    drawn, k_hat = self._draws(method, data, place.child(method))
                    held.setdefault(entry(law, method), []).append(self._held(drawn, truth))
                    k_hats += [] if k_hat is None else [k_hat]
        return {name: np.stack(v) for name, v in held.items()} | {"k_hat": np.array(k_hats)}

    def dataset(self, law: Law, rng: np.random.Generator) -> tuple[Truth, GaussianData]:
        """Parameters from the prior, and the moments of data that they and the law give."""
        C, n, d = self.num_clusters, self.num_rows, len(self.unit)
        prior = SimulationBasedCalibration(num_clusters=C, priors=self.priors, unit=self.unit)
        truth = prior.truth(rng)
        if law.equal_slopes:
            truth = truth._replace(tau=truth.tau * (np.arange(d + 1) == 0))
        z = autoregression((C, d + 1, n), law.rho, rng).swapaxes(1, 2)
        x = (z[..., :d] + z[..., d:]) / np.sqrt(2)
        noise = autoregression((C, n), law.rho, rng)
        if law.heavy_tails:
            noise = rng.standard_t(DEGREES, (C, n)) / np.sqrt(DEGREES / (DEGREES - 2))
        Z = np.concatenate([np.ones((C, n, 1)), x], axis=2)
        mean = np.append(truth.mu, truth.b * truth.w * np.array(self.unit))
        effects = mean + truth.tau * rng.normal(size=(C, d + 1))
        y = np.einsum("cni,ci->cn", Z, effects) + truth.sigma * noise
        V = np.concatenate([Z, y[..., None]], axis=2)
        full = np.einsum("cni,cnj->cij", V, V)
        return truth, moments_data(full, np.array(self.unit), self.priors)

    def _draws(
        self, method: str, data: GaussianData, key: Key
    ) -> tuple[dict[str, Array], float | None]:
        """Draws of the method's posterior by site, and k̂ where an importance sampler made them."""
        rng = key.generator()
        model = intercepts_only_model if method == INTERCEPTS else gaussian_model
        if method == FULL_RANK:
            z = self._variational(data, rng)
            return constrained(model, data, z), None
        drawn = posterior_draws(model, data, self.num_importance, rng)
        return constrained(model, data, drawn.even(_NUM_DRAWS)), drawn.k_hat

    def _variational(self, data: GaussianData, rng: np.random.Generator) -> Array:
        fits = VariationalFits(
            model=gaussian_model,
            data=data,
            mode=_mode(gaussian_model, data),
            num_gradient_steps=self.num_gradient_steps,
            gradient_steps_per_step=self.num_gradient_steps,
            num_seeds=1,
        )
        full_rank = 0  # the shard of the family
        key = Seeded(int(rng.integers(2**62)))
        _, s = fits.step(fits.init(full_rank, key), 0, key)
        return fit_draws(Fit(s["location"][0], s["root"][0], s["bound"][0]), _NUM_DRAWS, rng)

    def _held(self, drawn: dict[str, Array], truth: Truth) -> Float[Array, "quantities levels"]:
        rows = []
        for level in LEVELS:
            w = [posterior_interval(v, level, self.num_clusters) for v in drawn["w"].T]
            reported = [weight_interval(v, level, self.num_clusters) for v in drawn["w"].T]
            slope = posterior_interval(drawn["b"], level, self.num_clusters)
            shares = [
                np.mean([i.low <= t <= i.high for i, t in zip(each, truth.w, strict=True)])
                for each in (w, reported)
            ]
            rows.append([*shares, float(slope.low <= truth.b <= slope.high)])
        return np.array(rows).T


def entry(law: Law, method: str) -> str:
    """The name of a law and a method among the result."""
    return f"{law.name}: {method}"


def intercepts_only_model(data: GaussianData) -> None:
    """The Gaussian model without slopes that vary: what an analysis that forgets them would use."""
    alpha, slope, noise, centre, spread = data.priors
    d = len(data.unit)
    w = numpyro.sample("w", dist.Dirichlet(alpha * jnp.ones(d)))
    b = numpyro.sample("b", dist.HalfNormal(slope))
    mu = jnp.asarray(numpyro.sample("mu", dist.Normal(0.0, centre)))
    sigma = numpyro.sample("sigma", dist.HalfNormal(noise))
    tau = numpyro.sample("tau", dist.HalfNormal(spread))
    mean = jnp.concatenate([mu[None], b * w * data.unit])
    log_tau = jnp.append(jnp.log(tau), jnp.full(d, jnp.log(_NO_SPREAD)))
    numpyro.factor("y", log_marginal(data, mean, log_tau, jnp.log(sigma)))


def _mode(model: Model, data: GaussianData) -> Mode:
    try:
        return find_mode(model, data)
    except ArithmeticError:
        return flat_start(model, data)

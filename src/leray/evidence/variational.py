"""Variational inference: the Gaussian on R^p that is nearest to the posterior, by gradient steps.

Maximises the evidence lower bound E_q[log p(data, z)] + H(q) over q = N(m, LLᵀ) with L lower
triangular (full rank) or diagonal (mean field), on the same model that NUTS samples. The gradient
is that of ``num_particles`` reparametrised draws; Adam with a step size that decays from
``rate`` to a thousandth of it. A fit starts at the posterior's mode, with the standard deviations
of the curvature there.

Source: Kucukelbir et al., Automatic differentiation variational inference (JMLR 2017); NumPyro.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal
from numpyro.infer.svi import SVIState
from numpyro.infer.util import constrain_fn
from numpyro.optim import Adam

from leray.evidence.density import (
    ONE_THREAD,
    Array,
    Data,
    Model,
    by_site,
    potentials,
)
from leray.evidence.laplace import log_normal_density, smoothed
from leray.evidence.mode import Mode
from leray.evidence.nuts import flatten, unflatten
from leray.evidence.resampling import RandomKey, Samples

Family = Literal["full-rank", "mean-field"]
FAMILIES: tuple[Family, ...] = ("full-rank", "mean-field")
RECORDED = 100  # gradient steps whose bounds are averaged to one recorded value


class Fit(NamedTuple):
    """q = N(``location``, ``root`` ``root``ᵀ) on R^p, and the lower bound along the way, averaged
    over a hundred gradient steps."""

    location: Float[Array, " p"]
    root: Float[Array, "p p"]
    bound: Float[Array, " recorded"]


Fits = dict[Family, list[Fit]]
"""For each family a fit a seed."""


@dataclass(frozen=True, kw_only=True)
class VariationalFits:
    """Fits of both families from several seeds: a shard is a family, a step a chunk.

    Args:
        model, data: The density.
        mode: Where the fits start.
        num_gradient_steps: Of each fit, a multiple of ``gradient_steps_per_step``.
        num_seeds: Fits of each family, which differ only in their random draws.
        num_particles: Draws behind one gradient.
        rate: The first step size.
    """

    model: Model
    data: Any
    mode: Mode
    num_gradient_steps: int = 10_000
    gradient_steps_per_step: int = 2_500
    num_seeds: int = 3
    num_particles: int = 8
    rate: float = 0.02
    name: str = "variational"

    def __post_init__(self) -> None:
        if self.num_gradient_steps % self.gradient_steps_per_step:
            raise ValueError(
                f"{self.num_gradient_steps} gradient steps are not a multiple of "
                f"{self.gradient_steps_per_step}"
            )

    @property
    def num_shards(self) -> int:
        return len(FAMILIES)

    @property
    def num_steps(self) -> int:
        return self.num_gradient_steps // self.gradient_steps_per_step

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:
        """Every seed's fit at the mode."""
        seeds = key.generator().integers(2**31, size=self.num_seeds)
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
        whole = _begin(self.model, self._settings(shard), self.data, self._start, keys)
        return {"family": shard} | flatten(whole)

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Samples]:
        family = state["family"]
        settings, start, num = self._settings(family), self._start, self.gradient_steps_per_step
        keys = jax.vmap(jax.random.key)(jnp.zeros(self.num_seeds, dtype=int))
        layout = jax.eval_shape(partial(_begin, self.model, settings), self.data, start, keys)
        whole = unflatten(state, layout)
        whole, fits = _advance(self.model, settings, num, self.data, start, whole)
        location, root, losses = map(np.asarray, fits)
        # XLA sums the losses (not their gradients) in an order that differs from run to run, by
        # one unit in the last of 53 bits; 24 are kept.
        bound = -losses.reshape(self.num_seeds, -1, math.gcd(num, RECORDED)).mean(axis=2)
        fitted = {"location": location, "root": root, "bound": bound.astype(np.float32)}
        return {"family": family} | flatten(whole), fitted

    def result(self, samples: list[list[Samples]]) -> Fits:
        return {
            family: [
                Fit(
                    steps[-1]["location"][k],
                    steps[-1]["root"][k],
                    np.concatenate([s["bound"][k] for s in steps]),
                )
                for k in range(self.num_seeds)
            ]
            for family, steps in zip(FAMILIES, samples, strict=True)
        }

    @property
    def _start(self) -> jax.Array:
        """The mode, and the curvature's standard deviations, ``[2, p]``."""
        location, covariance = self.mode
        return jnp.asarray(np.stack([location, np.sqrt(np.diagonal(covariance))]))

    def _settings(self, family: int) -> tuple[Family, int, int, float]:
        return FAMILIES[family], self.num_gradient_steps, self.num_particles, self.rate


def fit_draws(fit: Fit, num: int, rng: np.random.Generator) -> Float[Array, "num p"]:
    """Draws of q on R^p."""
    return fit.location + rng.normal(size=(num, len(fit.location))) @ fit.root.T


def reliability(model: Model, data: Data, fit: Fit, z: Float[Array, "draws p"]) -> float:
    """k̂ of q as a proposal for the posterior: above 0.7 it misses mass that matters.

    Source: Yao, Vehtari, Simpson and Gelman, Yes, but did it work? (ICML 2018).
    """
    log_q = log_normal_density(z, fit.location, fit.root)
    return smoothed(-potentials(model, data, z) - log_q)[1]


def _machine(
    model: Model, settings: tuple[Family, int, int, float], data: Data, start: jax.Array
) -> SVI:
    """NumPyro's inference object; made anew wherever JAX traces."""
    family, num_steps, num_particles, rate = settings
    values = constrain_fn(model, (data,), {}, by_site(model, data, start[0]))
    guide = (AutoMultivariateNormal if family == "full-rank" else AutoDiagonalNormal)(
        model, init_loc_fn=init_to_value(values=values)
    )

    def step_size(step: jax.Array) -> jax.Array:
        return rate * 1e-3 ** (step / num_steps)

    return SVI(model, guide, Adam(step_size), Trace_ELBO(num_particles=num_particles))


@partial(jax.jit, static_argnums=(0, 1))
def _begin(
    model: Model,
    settings: tuple[Family, int, int, float],
    data: Data,
    start: jax.Array,
    keys: jax.Array,
) -> SVIState:
    svi = _machine(model, settings, data, start)
    full = settings[0] == "full-rank"
    scale = {"auto_scale_tril": jnp.diag(start[1])} if full else {"auto_scale": start[1]}
    first = {"auto_loc": start[0], **scale}
    return jax.vmap(lambda key: svi.init(key, data, init_params=first))(keys)


@partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=ONE_THREAD)
def _advance(
    model: Model,
    settings: tuple[Family, int, int, float],
    num_steps: int,
    data: Data,
    start: jax.Array,
    state: SVIState,
) -> tuple[SVIState, tuple[jax.Array, ...]]:
    svi = _machine(model, settings, data, start)
    svi.init(jax.random.key(0), data)  # sets the guide up; the state is not used

    def update(state: SVIState, _: None) -> tuple[SVIState, jax.Array]:
        return svi.update(state, data)

    def one_seed(state: SVIState) -> tuple[SVIState, tuple[jax.Array, ...]]:
        state, losses = jax.lax.scan(update, state, None, length=num_steps)
        fitted = svi.get_params(state)
        full = settings[0] == "full-rank"
        root = fitted["auto_scale_tril"] if full else jnp.diag(fitted["auto_scale"])
        return state, (fitted["auto_loc"], root, losses)

    return jax.lax.map(one_seed, state)  # one after another: smaller arrays stay in the cache

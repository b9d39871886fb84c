r"""The Gaussian model of conversations whose intercepts *and* slopes vary, from moments alone.

For conversation c with n rows, Z = [1, x] and truth y, everything in pooled standard deviations::

    y = a_c + Σ_k x_k β_ck + ε,   ε ~ N(0, σ²),   a_c ~ N(μ, τ_0²),   β_ck ~ N(b w_k u_k, τ_k²),
    w ~ Dirichlet(α, …, α),   b, σ, τ ~ HalfNormal,   μ ~ Normal.

w lies on the simplex of the *raw* signals, so that it compares with `optimum.simplex_optimum`:
u_k = s_k / s̄, s_k the pooled standard deviation of signal k and s̄ their mean, and b counts in
s_y / s̄. Intercepts are at the moment table's origin. Rows of a conversation are taken as
independent given its intercept and slopes.

Intercepts and slopes are integrated out. With D = diag(τ), m = (μ, b w u), r = Zᵀ(y − Zm),
M = I + D ZᵀZ D/σ², P = M⁻¹ and p = P D r::

    −2 log p(y) = n log 2πσ² + log|M| + (|y − Zm|² − rᵀD p/σ²)/σ²

needs only ZᵀZ, Zᵀy and yᵀy; and so does the gradient, which P and p give in closed form:
∂/∂m = D⁻¹p/σ², ∂/∂log τ_k = p_k²/σ⁴ − 1 + P_kk, ∂/∂log σ = (|y − Zm|² − rᵀDp/σ² − |p|²/σ²)/σ²
− n + (d + 1) − tr P. A gradient costs O(conversations · d³), whatever the number of rows.

Source: Woodbury's identity; Gelman et al., Bayesian Data Analysis (3rd ed.), chapter 15.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Float

from leray.evidence.density import Array, Traced
from leray.evidence.moments import covariances, unpack


class Priors(NamedTuple):
    """Scales of the priors, in pooled standard deviations: weak at 1, since |r| ≤ 1.

    ``concentration`` α of the Dirichlet; ``slope`` of b, ``noise`` of σ, ``centre`` of μ,
    ``spread`` of every τ.
    """

    concentration: float = 1.0
    slope: float = 1.0
    noise: float = 1.0
    centre: float = 1.0
    spread: float = 1.0


class GaussianData(NamedTuple):
    """What the model sees of the data: standardised moments, conversations last.

    ``gram`` ZᵀZ ``[d+1, d+1, C]``, ``cross`` Zᵀy ``[d+1, C]``, ``square`` yᵀy ``[C]``,
    ``rows`` n ``[C]``, ``unit`` u ``[d]``, and the scales of the priors.
    """

    gram: Array
    cross: Array
    square: Array
    rows: Array
    unit: Array
    priors: Priors


def gaussian_data(
    sums: Float[Array, "clusters packed"], priors: Priors | None = None
) -> tuple[GaussianData, Float[Array, " scales"]]:
    """Standardise the packed moments of (1, x, y) by the pooled standard deviations.

    Returns:
        The data, and the d + 1 standard deviations (s_1, …, s_d, s_y) that they were divided by.

    Raises:
        ValueError: if a signal or the truth is constant.
    """
    pooled = covariances(sums.sum(axis=0))
    scales = np.sqrt(np.append(np.diagonal(pooled.S), pooled.s))
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError("the Gaussian model needs signals and a truth that are not constant")
    full = unpack(sums) / np.outer(np.append(1.0, scales), np.append(1.0, scales))
    return moments_data(full, scales[:-1] / scales[:-1].mean(), priors or Priors()), scales


def moments_data(
    full: Float[Array, "clusters v v"], unit: Float[Array, " d"], priors: Priors
) -> GaussianData:
    """Second moments of (1, x, y) by conversation, already on the scale of the model."""
    return GaussianData(
        gram=np.ascontiguousarray(np.moveaxis(full[:, :-1, :-1], 0, -1)),
        cross=np.ascontiguousarray(full[:, :-1, -1].T),
        square=full[:, -1, -1].copy(),
        rows=full[:, 0, 0].copy(),
        unit=unit,
        priors=Priors(*map(float, priors)),
    )


def gaussian_model(data: GaussianData) -> None:
    """The model above as NumPyro has it; NUTS, variational inference and Laplace all use it."""
    alpha, slope, noise, centre, spread = data.priors
    d = len(data.unit)
    w = numpyro.sample("w", dist.Dirichlet(alpha * jnp.ones(d)))
    b = numpyro.sample("b", dist.HalfNormal(slope))
    mu = jnp.asarray(numpyro.sample("mu", dist.Normal(0.0, centre)))
    sigma = numpyro.sample("sigma", dist.HalfNormal(noise))
    tau = numpyro.sample("tau", dist.HalfNormal(spread * jnp.ones(d + 1)).to_event(1))
    mean = jnp.concatenate([mu[None], b * w * data.unit])
    numpyro.factor("y", log_marginal(data, mean, jnp.log(tau), jnp.log(sigma)))


@jax.custom_vjp
def log_marginal(data: GaussianData, mean: Traced, log_tau: Traced, log_sigma: Traced) -> jax.Array:
    """log p(y | m, τ, σ), summed over conversations, its gradient in closed form.

    Args:
        data: The moments.
        mean: m, ``[d + 1]``.
        log_tau: ``[d + 1]``.
        log_sigma: A scalar.
    """
    return _value_and_gradient(data, mean, log_tau, log_sigma)[0]


def _forward(data, mean, log_tau, log_sigma):
    out = _value_and_gradient(data, mean, log_tau, log_sigma)
    return out[0], out[1:]


def _backward(gradient, cotangent):
    v = (len(gradient) - 1) // 2
    scaled = cotangent * gradient
    return None, scaled[:v], scaled[v : 2 * v], scaled[-1]


log_marginal.defvjp(_forward, _backward)


def _value_and_gradient(
    data: GaussianData, mean: Traced, log_tau: Traced, log_sigma: Traced
) -> jax.Array:
    """The value, ∂m, ∂log τ and ∂log σ in one vector ``[2 (d + 1) + 2]``."""
    tau, variance = jnp.exp(log_tau), jnp.exp(2 * log_sigma)
    v = len(mean)
    r = data.cross - (data.gram * mean[None, :, None]).sum(axis=1)
    residual = data.square - (mean[:, None] * (data.cross + r)).sum(axis=0)
    x = tau[:, None] * r
    scaled = data.gram * (tau[:, None] * tau / variance)[:, :, None]
    P, log_det = _inverse(jnp.eye(v)[:, :, None] + scaled)
    p = (P * x[None]).sum(axis=1)
    diagonal = jnp.stack([P[k, k] for k in range(v)])
    explained, squares = (x * p).sum(axis=0) / variance, (p * p).sum(axis=0) / variance
    n = data.rows
    value = n * jnp.log(2 * jnp.pi * variance) + log_det + (residual - explained) / variance
    by_mean = p / (tau[:, None] * variance)
    by_tau = p * p / variance**2 - 1 + diagonal
    by_sigma = (residual - explained - squares) / variance - n + v - diagonal.sum(axis=0)
    stacked = jnp.concatenate([-0.5 * value[None], by_mean, by_tau, by_sigma[None]])
    return stacked.sum(axis=1)


def _inverse(M: jax.Array) -> tuple[jax.Array, jax.Array]:
    """M⁻¹ and log|M| of positive definite ``[v, v, C]``, by v sweeps over all C at once.

    Elementwise over conversations, so that XLA makes a few loops of it; the pivots of I + a
    positive semi-definite matrix are at least 1, so no exchange of rows is needed.
    """
    log_det = 0.0
    for k in range(M.shape[0]):
        here = jnp.arange(M.shape[0]) == k
        log_det += jnp.log(M[k, k])
        inverse = 1 / M[k, k]
        row, column = M[k] * inverse, M[:, k]
        swept = M - column[:, None, :] * row[None, :, :]
        swept = jnp.where(here[:, None, None], row[None], swept)
        corner = jnp.where(here[:, None, None], inverse, -column[:, None, :] * inverse)
        M = jnp.where(here[None, :, None], corner, swept)
    return M, jnp.asarray(log_det)

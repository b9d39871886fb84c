"""The Gaussian model: its marginal against dense Gaussians, its gradient against differences."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leray.evidence.bayes import (
    GaussianData,
    Priors,
    gaussian_data,
    gaussian_model,
    log_marginal,
    moments_data,
)
from leray.evidence.density import constrained, coordinates, dimension, potentials
from leray.evidence.moments import moment_table

SIZES = (7, 12, 30)


def rows(d: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(n, d)), rng.normal(size=n)) for n in SIZES]


def data_of(blocks, d: int) -> GaussianData:
    V = [np.column_stack([np.ones(len(y)), x, y]) for x, y in blocks]
    full = np.stack([v.T @ v for v in V])
    return moments_data(full, np.linspace(0.5, 1.5, d), Priors())


def dense(blocks, mean, tau, sigma) -> float:
    """Σ log N(y; Zm, σ²I + Z diag(τ²) Zᵀ), conversation by conversation."""
    total = 0.0
    for x, y in blocks:
        Z = np.column_stack([np.ones(len(y)), x])
        covariance = sigma**2 * np.eye(len(y)) + (Z * tau**2) @ Z.T
        total += stats.multivariate_normal(Z @ mean, covariance).logpdf(y)
    return float(total)


@pytest.mark.parametrize("d", [1, 4])
@pytest.mark.parametrize("spread", [1e-3, 0.5, 20.0])
def test_oracle_the_marginal_is_a_dense_gaussian(d, spread):
    blocks, rng = rows(d), np.random.default_rng(1)
    mean, tau = rng.normal(size=d + 1), spread * rng.uniform(0.5, 2, size=d + 1)
    ours = log_marginal(data_of(blocks, d), mean, np.log(tau), np.log(np.array(0.7)))
    assert float(ours) == pytest.approx(dense(blocks, mean, tau, 0.7), rel=1e-10)


def test_oracle_the_gradient_is_that_of_central_differences():
    d, h = 4, 1e-5
    blocks, rng = rows(d), np.random.default_rng(2)
    at = np.concatenate([rng.normal(size=d + 1), rng.normal(size=d + 1), [-0.3]])

    def split(z):
        return z[: d + 1], z[d + 1 : -1], z[-1]

    ours = jax.grad(lambda z: log_marginal(data_of(blocks, d), *split(z)))(at)

    def f(z):
        mean, log_tau, log_sigma = split(z)
        return dense(blocks, mean, np.exp(log_tau), np.exp(log_sigma))

    differences = [(f(at + h * e) - f(at - h * e)) / (2 * h) for e in np.eye(len(at))]
    np.testing.assert_allclose(ours, differences, rtol=1e-5, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(len(SIZES))))
def test_identity_the_order_of_conversations_does_not_matter(order):
    blocks = rows(2)
    at = (np.array([0.1, 0.2, -0.3]), np.array([-1.0, 0.0, 0.5]), np.array(0.1))
    shuffled = [blocks[k] for k in order]
    first, second = (float(log_marginal(data_of(b, 2), *at)) for b in (blocks, shuffled))
    assert first == pytest.approx(second, rel=1e-12)


def test_oracle_the_potential_is_prior_times_likelihood_times_jacobian():
    d = 3
    blocks, rng = rows(d), np.random.default_rng(3)
    data = data_of(blocks, d)
    p = dimension(gaussian_model, data)
    assert coordinates(gaussian_model, data) == [
        "b", "mu", "sigma", "tau[0]", "tau[1]", "tau[2]", "tau[3]", "w[0]", "w[1]",
    ]  # fmt: skip
    z, h = rng.normal(size=p) * 0.5, 1e-6

    def free(point):
        """The parameters that vary freely: of the simplex, all but the last."""
        s = {k: v[0] for k, v in constrained(gaussian_model, data, point[None]).items()}
        return np.concatenate([[s["b"], s["mu"], s["sigma"]], s["tau"], s["w"][:-1]])

    at = constrained(gaussian_model, data, z[None])
    w, b, mu, sigma, tau = (at[k][0] for k in ("w", "b", "mu", "sigma", "tau"))
    log_prior = stats.dirichlet.logpdf(w, np.ones(d)) + stats.norm.logpdf(mu)
    log_prior += stats.halfnorm.logpdf([b, sigma, *tau]).sum()
    jacobian = np.stack([(free(z + h * e) - free(z - h * e)) / (2 * h) for e in np.eye(p)])
    mean = np.append(mu, b * w * data.unit)
    want = log_prior + dense(blocks, mean, tau, sigma) + np.linalg.slogdet(jacobian)[1]
    assert -potentials(gaussian_model, data, z[None])[0] == pytest.approx(want, abs=1e-4)


def test_identity_units_of_signals_and_truth_only_enter_the_unit_vector():
    rng = np.random.default_rng(4)
    blocks = [(f"c{k}", rng.normal(size=(2, 40)), rng.normal(size=40)) for k in range(3)]
    scaled = [(c, x * np.array([[10.0], [1.0]]), 5 * y) for c, x, y in blocks]
    first, scales = gaussian_data(moment_table(blocks, ("a", "b")).sums)
    second, more = gaussian_data(moment_table(scaled, ("a", "b")).sums)
    np.testing.assert_allclose(first.gram, second.gram, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(first.cross, second.cross, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(more / scales, [10, 1, 5], rtol=1e-9)
    np.testing.assert_allclose(second.unit, more[:2] / more[:2].mean(), rtol=1e-12)


def test_a_constant_signal_is_refused():
    rng = np.random.default_rng(5)
    table = moment_table([("c", np.ones((1, 9)), rng.normal(size=9))], ("a",))
    with pytest.raises(ValueError, match="not constant"):
        gaussian_data(table.sums)

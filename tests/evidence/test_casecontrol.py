"""The logistic model of a case–control sample: likelihood, sampling, and what the offset does."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import optimize, special

from leray.evidence.casecontrol import (
    CaseControlStart,
    case_control,
    log_likelihood,
    logistic_model,
    quadratic,
    standard_effects,
)
from leray.evidence.density import constrained, coordinates, dimension, potentials
from leray.runs import Key

SLOPES = np.array([1.0, -0.5])


def conversation(n: int, seed: int, intercept: float = -4.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, n))
    return x, rng.uniform(size=n) < special.expit(intercept + SLOPES @ x)


def sample(conversations, ratio=4, seed=0):
    blocks = [(k, x, y) for k, (x, y) in enumerate(conversations)]
    return case_control(blocks, np.zeros(2), np.ones(2), ratio, np.random.default_rng(seed))


def test_oracle_the_likelihood_is_the_bernoulli_one_and_its_gradient_that_of_differences():
    data = sample([conversation(500, 1), conversation(900, 2)])
    effects = np.random.default_rng(3).normal(size=(2, 3))

    def dense(theta):
        total = 0.0
        for k, c in enumerate(data.owner):
            kept = data.sign[k] != 0
            logit = theta[c] @ data.x[k][:, kept] + data.offset[k, kept]
            total += special.log_expit(data.sign[k, kept] * logit).sum()
        return total

    assert float(log_likelihood(data, effects)) == pytest.approx(dense(effects), rel=1e-12)
    ours = jax.grad(lambda t: log_likelihood(data, t))(effects)
    differences = optimize.approx_fprime(effects.ravel(), lambda t: dense(t.reshape(2, 3)), 1e-6)
    np.testing.assert_allclose(np.ravel(ours), np.asarray(differences), rtol=1e-3, atol=1e-3)


def test_the_sample_holds_every_positive_and_four_negatives_for_each():
    conversations = [conversation(2_000, 1), (np.zeros((2, 5)), np.zeros(5, bool)),
                     conversation(30, 7, intercept=2.0)]  # fmt: skip
    data = sample(conversations)
    assert data.clusters.tolist() == [0, 2]  # the one without a positive is left out
    for k, c in enumerate(data.clusters):
        positives = int(conversations[c][1].sum())
        negatives = len(conversations[c][1]) - positives
        own = data.owner == k
        assert (data.sign[own] > 0).sum() == positives
        assert (data.sign[own] < 0).sum() == min(4 * positives, negatives)
        want = -np.log(min(4 * positives, negatives) / negatives)
        np.testing.assert_allclose(data.offset[own][data.sign[own] != 0], want)
    assert (data.x[np.broadcast_to(data.sign[:, None] == 0, data.x.shape)] == 0).all()
    with pytest.raises(ValueError, match="both labels"):
        sample([(np.zeros((2, 5)), np.zeros(5, bool))])


def test_statistical_the_offset_gives_back_the_effects_of_all_rows():
    data = sample([conversation(60_000, 11)], ratio=4)

    def loss(theta):
        return -float(log_likelihood(data, theta[None]))

    def gradient(theta):
        return -np.ravel(jax.grad(lambda t: log_likelihood(data, t))(theta[None]))

    found = optimize.minimize(loss, np.zeros(3), jac=gradient, method="BFGS")
    errors = np.sqrt(np.diagonal(found.hess_inv))
    assert (np.abs(found.x - np.array([-4.0, *SLOPES])) < 4.5 * errors).all()


def test_oracle_the_quadratic_is_the_second_order_taylor_polynomial():
    data = sample([conversation(3_000, 1), conversation(900, 2)])
    at = np.random.default_rng(5).normal(size=(2, 3))
    H, g = quadratic(data, at)
    gradient = jax.grad(lambda t: log_likelihood(data, t))(at)
    np.testing.assert_allclose(g - np.einsum("cij,cj->ci", H, at), gradient, atol=1e-9)
    h, slope = 1e-5, jax.jit(jax.grad(lambda t: log_likelihood(data, t)))
    for step in h * np.eye(6).reshape(6, 2, 3):
        difference = (slope(at + step) - slope(at - step)) / (2 * h)
        want = np.einsum("cij,cj->ci", H, step / h)
        np.testing.assert_allclose(-np.asarray(difference), want, rtol=1e-4, atol=1e-4)


def test_identity_the_density_of_the_effects_does_not_depend_on_the_change_of_variables():
    plain = sample([conversation(3_000, 1), conversation(900, 2)])
    H, g = quadratic(plain, np.tile([-4.0, *SLOPES], (2, 1)))
    moved = plain._replace(curvature=H, natural=g)
    rng = np.random.default_rng(6)
    z = rng.normal(size=dimension(logistic_model, moved)) * 0.5
    at = {k: v[0] for k, v in constrained(logistic_model, moved, z[None]).items()}
    mean, tau = np.append(at["mu"], at["b"] * at["w"] * plain.unit), at["tau"]
    standard, log_det = standard_effects(moved, mean, tau, at["zeta"])
    # The same effects without the change: ζ = D⁻¹(θ − m), and |dθ/dζ| loses the factor |M|^-½.
    names = coordinates(logistic_model, plain)
    same = z.copy()
    same[[n.startswith("zeta") for n in names]] = np.ravel(standard)
    ours, theirs = (
        potentials(logistic_model, d, v[None])[0] for d, v in ((moved, z), (plain, same))
    )
    assert ours - 0.5 * float(log_det) == pytest.approx(theirs, rel=1e-10)
    # and the change does what it is for: M⁻¹ D(g − Hm) solves the penalised quadratic
    solved, _ = standard_effects(moved, mean, tau, np.zeros((2, 3)))
    for c in range(2):
        M = np.eye(3) + np.outer(tau, tau) * H[c]
        want = np.linalg.solve(M, tau * (g[c] - H[c] @ mean))
        np.testing.assert_allclose(solved[c], want, rtol=1e-9)


def test_the_start_holds_the_spreads_and_finds_the_slopes():
    # Weights are never negative: the second slope is planted positive here.
    made = []
    for seed in range(6):
        x, _ = conversation(4_000, seed)
        rng = np.random.default_rng(50 + seed)
        made.append((x, rng.uniform(size=4_000) < special.expit(-4 + x[0] + 0.5 * x[1])))
    start = CaseControlStart(rows=tuple(made), centre=np.zeros(2), scale=np.ones(2))
    data, mode = start.result([[start.step({}, 0, Key.root(0))[1]]])
    names = coordinates(logistic_model, data)
    held = np.array([n.startswith("tau") for n in names])
    np.testing.assert_allclose(mode.location[held], np.log(0.3))
    assert np.linalg.eigvalsh(mode.covariance).min() > 0
    found = {k: v[0] for k, v in constrained(logistic_model, data, mode.location[None]).items()}
    positives = (data.sign > 0).sum()
    # a logistic slope's standard error is near 1/√(positives) for unit signals
    np.testing.assert_allclose(
        found["b"] * found["w"], [1.0, 0.5], atol=5 / np.sqrt(positives) + 0.1
    )


def test_many_short_conversations_find_a_start_and_little_padding():
    # A thousand coordinates, where BFGS lost its way; 15 rows each, so pieces are short.
    made = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).normal(size=(4, 50)), np.zeros(50, bool)
        y[np.argsort(-(np.array([0.1, 0.6, 0.2, 0.1]) @ x))[:3]] = True
        made.append((x, y))
    start = CaseControlStart(rows=tuple(made), centre=np.zeros(4), scale=np.ones(4))
    data, mode = start.result([[start.step({}, 0, Key.root(0))[1]]])
    assert data.x.shape == (200, 5, 16)
    names = coordinates(logistic_model, data)
    effects = np.array([n.startswith("zeta") for n in names])
    assert (mode.location[effects] == 0).all()
    assert (np.diagonal(mode.covariance)[effects] == 1).all()
    assert np.linalg.eigvalsh(mode.covariance).min() > 0
    found = {k: v[0] for k, v in constrained(logistic_model, data, mode.location[None]).items()}
    assert found["w"].argmax() == 1
    assert found["b"] > 1

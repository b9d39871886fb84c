"""The candidates, the rows they see, and what trained networks find."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from leray.memory.networks import (
    Candidate,
    Loss,
    Population,
    Sample,
    case_control,
    case_control_weights,
    distinct_space,
    first_bias,
    goodness,
    linear_logistic,
    linear_pearson,
    nominal_space,
    weighted_moments,
)


def planted(num_rows: int, *, product: float, seed: int = 0) -> Sample:
    """Truth by a logistic model of x₀ and x₁ plus ``product`` times x₂ x₃; all rows kept."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, num_rows)).astype(np.float32)
    z = x[0] + 0.5 * x[1] + product * x[2] * x[3] - 1.5
    return Sample(x=x, y=rng.random(num_rows) < 1 / (1 + np.exp(-z)), weight=np.ones(num_rows))


def train(
    candidate: Candidate, sample: Sample, loss: Loss, epochs: int
) -> tuple[Population, np.ndarray]:
    population = Population([candidate], 4)
    params = population.draw(first_bias(loss, sample), np.random.default_rng(0))
    moments = np.zeros_like(params), np.zeros_like(params)
    rng = np.random.default_rng(1)
    population.train(params, *moments, np.array([0]), sample, loss, range(epochs), rng)
    return population, params


def test_the_space_is_252_of_which_219_differ() -> None:
    """Oracle: the numbers of the design; 6 × 36 + 3."""
    assert len(nominal_space()) == 252
    space = distinct_space()
    assert len(space) == len(set(space)) == 219
    assert sum(not c.hidden for c in space) == 3
    assert (
        Candidate(
            hidden=(64, 32, 16), dropout=0.0, learning_rate=0.1, activation="relu"
        ).num_params(4)
        == 5 * 64 + 65 * 32 + 33 * 16 + 17
    )


@pytest.mark.parametrize(
    "wrong", [{"hidden": (6,)}, {"activation": "gelu"}, {"dropout": 1.0}, {"hidden": (0,)}]
)
def test_a_candidate_that_the_kernel_cannot_train_is_refused(wrong: dict) -> None:
    """Identity: the message names what came."""
    good = {"hidden": (8,), "dropout": 0.1, "learning_rate": 0.01, "activation": "relu"}
    with pytest.raises(ValueError, match=r"multiples of four|dropout"):
        Candidate(**(good | wrong))


def test_case_control_keeps_the_relevant_and_fills_with_others() -> None:
    """Identity: counts, no row twice, only rows that were offered."""
    rng = np.random.default_rng(0)
    y = rng.random(10_000) < 0.01
    rows = np.flatnonzero(rng.random(10_000) < 0.8)
    chosen = case_control(y, rows, 1_000, rng)
    assert len(chosen) == len(set(chosen)) == 1_000
    assert np.isin(chosen, rows).all()
    assert y[chosen].sum() == y[rows].sum()
    few = case_control(y, rows, 60, rng)
    assert y[few].sum() == 30
    assert len(case_control(y, rows, 50_000, rng)) == len(rows)


def test_weighted_moments_are_those_of_the_population() -> None:
    """Statistical: mean, covariances and prevalence, over 300 samples.

    The tolerance is 5 standard errors of the mean of the 300, from their own spread.
    """
    rng = np.random.default_rng(0)
    n = 20_000
    y = rng.random(n) < 0.02
    x = (rng.normal(size=(4, n)) + y * np.array([[1.0], [0.5], [0.0], [-1.0]])).astype(np.float32)
    rows = np.arange(n)
    drawn, chosen = [], rows
    for _ in range(300):
        chosen = case_control(y, rows, 1_500, rng)
        weight = case_control_weights(y, rows, chosen)
        sample = Sample(x=x[:, chosen], y=y[chosen], weight=weight)
        assert weight.mean() == pytest.approx(1)
        assert sample.prevalence == pytest.approx(y.mean())
        mean, S, b = weighted_moments(sample)
        drawn.append(np.concatenate([mean, S.ravel(), b]))
    whole = np.cov(np.vstack([x, y]), bias=True)
    truth = np.concatenate([x.mean(axis=1), whole[:4, :4].ravel(), whole[:4, 4]])
    error = np.std(drawn, axis=0) / np.sqrt(300)
    # A covariance about the sample's own mean is low by its variance, about 1/1,500 of it.
    np.testing.assert_array_less(np.abs(np.mean(drawn, axis=0) - truth), 5 * error + 1e-3)
    unweighted = x[:, chosen].mean(axis=1) - x.mean(axis=1)
    assert np.abs(unweighted).max() > 0.1  # without weights the sample is far from the population


def test_the_linear_rivals_are_the_optima() -> None:
    """Oracle: weighted least squares by numpy, weighted logistic regression by scikit-learn."""
    s = planted(2_000, product=0.0)
    w = np.where(s.y, 1.0, 3.0)
    s = Sample(x=s.x, y=s.y, weight=w / w.mean())
    design = np.vstack([np.ones(2_000), s.x]).T * np.sqrt(s.weight)[:, None]
    exact = np.linalg.lstsq(design, s.y * np.sqrt(s.weight), rcond=None)[0][1:]
    np.testing.assert_allclose(linear_pearson(s)[1:], exact, rtol=1e-5)
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12)
    model.fit(s.x.T.astype(np.float64), s.y, sample_weight=s.weight)
    expected = np.append(model.intercept_, model.coef_[0])
    np.testing.assert_allclose(linear_logistic(s), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", ["pearson", "logistic"])
def test_a_network_without_a_hidden_layer_finds_the_linear_optimum(loss: Loss) -> None:
    """Oracle: one minibatch is all rows, so Adam descends the whole loss.

    Adam's last steps are of the order of its rate, .01, against weights of size 1: within 1% of
    the optimum in direction, and for the logistic loss in size.
    """
    s = planted(480, product=0.0)
    w = np.where(s.y, 1.0, 3.0)
    s = Sample(x=s.x, y=s.y, weight=w / w.mean())
    rate = Candidate(hidden=(), dropout=0.0, learning_rate=0.01, activation="relu")
    _, params = train(rate, s, loss, 3_000)
    if loss == "pearson":
        exact, found = linear_pearson(s)[1:], params[:4].astype(np.float64)
        cosine = exact @ found / np.linalg.norm(exact) / np.linalg.norm(found)
        assert cosine > 1 - 1e-4
    else:
        # The rival's ridge of one row in 480 draws its weights in by about 1/(480 · p(1−p)) ≈ 1%.
        exact = linear_logistic(s)
        np.testing.assert_allclose(np.append(params[4], params[:4]), exact, rtol=0.03, atol=0.02)


@pytest.mark.parametrize("loss", ["pearson", "logistic"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "elu"])
def test_a_planted_product_is_found(loss: Loss, activation: str) -> None:
    """Statistical: on fresh rows the network beats the linear optimum by far.

    x₂ x₃ with coefficient 2 carries most of the signal, and no linear function sees it; the gains
    asked for are over 5 standard errors of a correlation of 4,000 rows (1/√4000 = .016).
    """
    s, fresh = planted(4_000, product=2.0), planted(4_000, product=2.0, seed=1)
    c = Candidate(hidden=(32, 16), dropout=0.0, learning_rate=0.01, activation=activation)
    population, params = train(c, s, loss, 60)
    gain = goodness("pearson", population.scores(params, 0, fresh.x), fresh) - goodness(
        "pearson", linear_pearson(s)[1:] @ fresh.x, fresh
    )
    assert gain > 0.08


@pytest.mark.parametrize("loss", ["pearson", "logistic"])
def test_where_the_truth_is_linear_nothing_is_gained(loss: Loss) -> None:
    """Statistical: the difference of two nearly equal scores on fresh rows is within 3 × .016."""
    s, fresh = planted(4_000, product=0.0), planted(4_000, product=0.0, seed=1)
    c = Candidate(hidden=(8,), dropout=0.0, learning_rate=0.01, activation="tanh")
    population, params = train(c, s, loss, 30)
    gain = goodness("pearson", population.scores(params, 0, fresh.x), fresh) - goodness(
        "pearson", linear_pearson(s)[1:] @ fresh.x, fresh
    )
    assert abs(gain) < 0.048


def test_goodness_is_weighted() -> None:
    """Oracle: a row of weight 3 is three rows; what is not finite is worst of all."""
    s = planted(200, product=0.0)
    times = np.random.default_rng(0).integers(1, 4, 200)
    weighted = Sample(x=s.x, y=s.y, weight=times / times.mean())
    f, again = s.x[0] + 0.3, np.repeat(s.x[0] + 0.3, times)
    y = np.repeat(s.y, times).astype(float)
    assert goodness("pearson", f, weighted) == pytest.approx(np.corrcoef(again, y)[0, 1])
    p = 1 / (1 + np.exp(-again.astype(float)))
    log_loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert goodness("logistic", f, weighted) == pytest.approx(-log_loss)
    assert goodness("pearson", np.full(200, np.nan), weighted) == -np.inf
    assert goodness("pearson", np.ones(200), weighted) == 0.0

"""Replicates from moments against replicates of rows, and effects against dense conditioning."""

from __future__ import annotations

import numpy as np

from leray.evidence.bayes import Priors, moments_data
from leray.evidence.predictive import (
    STATISTICS,
    Parameters,
    PredictiveCheck,
    conditional_effects,
    replicate,
)
from leray.runs import Key

SIZES = (8, 25)


def blocks(seed=0, sigma=0.8):
    rng = np.random.default_rng(seed)
    out = []
    for n in SIZES:
        Z = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
        out.append((Z, Z @ np.array([0.2, 0.5, 0.1]) + sigma * rng.normal(size=n)))
    return out


def data_of(rows):
    full = [np.column_stack([Z, y]) for Z, y in rows]
    return moments_data(np.stack([v.T @ v for v in full]), np.array([1.2, 0.8]), Priors())


def parameters(num):
    return Parameters(
        w=np.tile([0.7, 0.3], (num, 1)),
        b=np.full(num, 0.6),
        mu=np.full(num, 0.1),
        sigma=np.full(num, 0.8),
        tau=np.tile([0.5, 0.2, 0.4], (num, 1)),
    )


def test_statistical_effects_have_the_moments_of_dense_conditioning():
    rows, num = blocks(), 40_000
    mean, tau, sigma = np.array([0.1, 0.5, 0.1]), np.array([0.5, 0.2, 0.4]), 0.8
    drawn = conditional_effects(
        data_of(rows), np.tile(mean, (num, 1)), parameters(num), np.random.default_rng(1)
    )
    for c, (Z, y) in enumerate(rows):
        V = sigma**2 * np.eye(len(y)) + (Z * tau**2) @ Z.T
        gain = (tau**2 * Z).T @ np.linalg.inv(V)
        want = mean + gain @ (y - Z @ mean)
        covariance = np.diag(tau**2) - gain @ Z * tau**2
        sd = np.sqrt(np.diagonal(covariance))
        assert (np.abs(drawn[:, c].mean(axis=0) - want) < 5 * sd / np.sqrt(num)).all()
        scale = 5 * np.outer(sd, sd) * np.sqrt(2 / num)
        assert (np.abs(np.cov(drawn[:, c].T) - covariance) < scale).all()


def test_statistical_replicated_moments_are_those_of_replicated_rows():
    rows, num, sigma = blocks(), 40_000, 0.8
    effects = np.array([0.3, -0.5, 0.9])
    cross, square = replicate(
        data_of(rows), np.tile(effects, (num, 2, 1)), np.full(num, sigma),
        np.random.default_rng(2),
    )  # fmt: skip
    rng = np.random.default_rng(3)
    for c, (Z, _) in enumerate(rows):
        y = Z @ effects + sigma * rng.normal(size=(num, len(Z)))
        by_rows = np.column_stack([y @ Z, (y**2).sum(axis=1)])
        ours = np.column_stack([cross[:, c], square[:, c]])
        error = by_rows.std(axis=0) * np.sqrt(2 / num)
        assert (np.abs(ours.mean(axis=0) - by_rows.mean(axis=0)) < 5 * error).all()
        first, second = np.cov(ours.T), np.cov(by_rows.T)
        sd = np.sqrt(np.diagonal(second))
        # entries of a sample covariance err by about sd·sd·√(2/n), twice that for a χ² tail
        assert (np.abs(first - second) < 10 * np.outer(sd, sd) * np.sqrt(2 / num)).all()


def test_a_model_that_made_the_data_passes_and_unequal_noise_does_not():
    rng, num = np.random.default_rng(4), 300

    def made(sigmas):
        rows = []
        for sigma in sigmas:
            Z = np.column_stack([np.ones(400), rng.normal(size=(400, 2))])
            rows.append((Z, Z @ rng.normal([0.1, 0.5, 0.15], [0.5, 0.2, 0.4])
                         + sigma * rng.normal(size=400)))  # fmt: skip
        return data_of(rows)

    weights = np.array([0.7, 0.3])
    drawn = parameters(num)
    same = PredictiveCheck(data=made([0.8] * 20), parameters=drawn, weights=weights)
    check = same.result([[same.step({}, 0, Key.root(0))[1]]])
    assert tuple(check.statistics) == STATISTICS
    assert all(0.001 < row[1] < 0.999 for row in check.statistics.values())
    inside = (check.ends[0] <= check.r) & (check.r <= check.ends[1])
    assert inside.mean() > 0.7
    odd = PredictiveCheck(data=made([0.1, 3.0] * 10), parameters=drawn, weights=weights)
    spread = odd.result([[odd.step({}, 0, Key.root(0))[1]]]).statistics[STATISTICS[2]]
    assert spread[1] == 0.0

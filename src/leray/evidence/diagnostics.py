"""Whether draws can be trusted, and how far two posteriors lie apart."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from arviz_stats.base.array import array_stats
from jaxtyping import Float, Int
from scipy import stats

from leray.evidence.bootstrap import Interval
from leray.evidence.laplace import smoothed

Array = np.ndarray
EDGE = 0.01
"""A weight whose lower equal-tailed end is below this cannot be told from zero."""


class Mixing(NamedTuple):
    """Rank-normalised R-hat, bulk and tail effective sample size of one parameter."""

    r_hat: float
    bulk: float
    tail: float


def mixing(draws: Float[Array, "chains draws"]) -> Mixing:
    """Source: Vehtari et al., Rank-normalization, folding, and localization (BA 2021)."""
    each: list[Any] = [
        array_stats.rhat(draws, chain_axis=0, draw_axis=1, method="rank"),
        array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk"),
        array_stats.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95)),
    ]
    return Mixing(*map(float, each))


def rank_counts(draws: Float[Array, "chains draws"], bins: int) -> Int[Array, "chains bins"]:
    """How many of each chain's draws fall in each bin of their ranks among all chains.

    Chains that sample the same distribution give even counts.
    """
    ranks = stats.rankdata(draws, method="ordinal").reshape(draws.shape) - 1
    place = (ranks * bins // draws.size).astype(int)
    return np.stack([np.bincount(chain, minlength=bins) for chain in place])


def weight_interval(draws: Float[Array, " draws"], level: float, n: int) -> Interval:
    """An interval for a weight on the simplex from its posterior draws.

    Equal-tailed, unless an end comes within 0.01 of 0 or 1: a Dirichlet posterior has no mass on
    the boundary itself, so an equal-tailed interval never holds a weight that is truly zero. Such
    a weight gets [0, u], kind ``upper``, with the same u as the equal-tailed one, so that each
    end still errs by at most (1 − level)/2 though the data chose the form; and [l, 1], kind
    ``lower``, at 1. The rule was fixed before any data were seen.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    kind = "equal-tailed posterior"
    if low < EDGE:
        low, kind = 0.0, "upper"
    elif high > 1 - EDGE:
        high, kind = 1.0, "lower"
    return _interval(draws, low, high, level, kind, n)


def posterior_interval(draws: Float[Array, " draws"], level: float, n: int) -> Interval:
    """Posterior mean with the equal-tailed interval."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return _interval(draws, low, high, level, "equal-tailed posterior", n)


def _interval(draws: Array, low: float, high: float, level: float, kind: str, n: int) -> Interval:
    return Interval(
        estimate=float(draws.mean()), low=float(low), high=float(high), level=level, kind=kind, n=n
    )


class Sensitivity(NamedTuple):
    """The posterior under another prior, by reweighting draws: ``mean [k]``, ``shift [k]`` in
    posterior standard deviations, and the k̂ of the weights."""

    mean: Array
    shift: Array
    k_hat: float


def reweighted(draws: Float[Array, "draws k"], log_ratio: Float[Array, " draws"]) -> Sensitivity:
    """What another prior would have given: weights p'(θ)/p(θ), Pareto-smoothed.

    Source: Kallioinen et al., Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling (Statistics and Computing 2024).
    """
    log_weights, k_hat = smoothed(log_ratio)
    mean = np.exp(log_weights) @ draws
    return Sensitivity(mean, (mean - draws.mean(axis=0)) / draws.std(axis=0), k_hat)


class Distances(NamedTuple):
    """The largest 1-Wasserstein distance over parameters, in standard deviations of the first
    posterior: the estimate, its bootstrap resamples, and each parameter's own distance."""

    largest: float
    resampled: Array
    each: Array


def largest_wasserstein(
    chains: Float[Array, "chains draws k"],
    fits: Float[Array, "fits fit_draws k"],
    num_resamples: int,
    rng: np.random.Generator,
    *,
    num_blocks: int = 50,
    num_points: int = 2_000,
) -> Distances:
    """max_k W₁(F_k, G_k)/sd_k between a Markov chain's draws and those of several fits.

    W₁ = ∫ |F − G|, by the trapezoid rule on a grid over both ranges. G is the mean over the
    fits (they differ only by the seed of their optimisation). A resample takes as many blocks of
    the chains as there are, with replacement, a chain being cut into ``num_blocks``, and a fit at
    random: Monte Carlo error of the chain, and what the seed of a fit changes.

    Cost: B · blocks · points · k multiplications.
    """
    num_chains, num_draws, k = chains.shape
    length = num_draws // num_blocks
    blocks = chains[:, : length * num_blocks].reshape(num_chains * num_blocks, length, k)
    counts = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), num_resamples)
    chosen = rng.integers(len(fits), size=num_resamples)
    each, resampled = np.empty(k), np.empty((num_resamples, k))
    for j in range(k):
        column, sd = fits[:, :, j], chains[:, :, j].std()
        low = min(column.min(), blocks[:, :, j].min())
        grid = np.linspace(low, max(column.max(), blocks[:, :, j].max()), num_points)
        width = grid[1] - grid[0]
        F = np.stack([_distribution(block, grid) for block in blocks[:, :, j]])
        G = np.stack([_distribution(fit, grid) for fit in column])
        each[j] = _area(F.mean(axis=0) - G.mean(axis=0), width) / sd
        resampled[:, j] = _area(counts @ F / len(blocks) - G[chosen], width) / sd
    return Distances(float(each.max()), resampled.max(axis=1), each)


def _distribution(draws: Array, grid: Array) -> Array:
    return np.searchsorted(np.sort(draws), grid, side="right") / len(draws)


def _area(difference: Array, width: float) -> Array:
    gap = np.abs(difference)
    return np.asarray((gap[..., 1:] + gap[..., :-1]).sum(axis=-1) * width / 2)

"""The cluster bootstrap, and the intervals that are made from it.

Whole clusters (conversations) are drawn with replacement, since the rows within one depend on
each other. A statistic is a function of sums over clusters, so B resamples are one product
``counts [B, C] @ sums [C, K]``.

Interval kinds, each with what it needs:

- ``percentile``: quantiles of the resampled statistic;
- ``bca``: bias-corrected and accelerated, the acceleration from the jackknife;
- ``jackknife-t``: θ ± t_{C−1} se, se from leaving one cluster out (the form for few clusters);
- ``studentised``: quantiles of the resampled t = (θ* − θ)/se*, with se* in every resample;
- ``upper``, ``lower``: one-sided, for a weight that may stand on the boundary of the simplex.

How each covers is measured by ``benchmarks/calibration.py``.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 11 to 14; Efron,
Better bootstrap confidence intervals (JASA 1987); Bell and McCaffrey (Survey Methodology 2002)
for why the jackknife with few clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import special

Array = np.ndarray
_BOUNDARY = 1e-9  # a weight closer than this to 0 or 1 stands there
Kind = Literal["percentile", "bca", "jackknife-t", "studentised", "upper", "lower"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate with its interval; ``level`` and ``kind`` are never implied.

    A one-sided bound (kinds ``upper``, ``lower``) puts the other end at the edge of the range
    of the parameter, or at infinity.
    """

    estimate: float
    low: float
    high: float
    level: float
    kind: str
    n: int


def resample_counts(
    num_resamples: int, num_clusters: int, rng: np.random.Generator
) -> Float[Array, "resamples clusters"]:
    """How often each cluster is drawn in each resample: Multinomial(C; 1/C, …, 1/C)."""
    draws = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_resamples)
    return draws.astype(np.float64)


def leave_one_out(sums: Float[Array, "clusters packed"]) -> Float[Array, "clusters packed"]:
    """The totals without each cluster in turn: total − sums."""
    return sums.sum(axis=0) - sums


def jackknife_se(left_out: Float[Array, "clusters ..."]) -> Array:
    """The jackknife standard error √((C−1)/C Σ (θ_(c) − θ̄_(·))²), over the first axis."""
    C = left_out.shape[0]
    centred = left_out - left_out.mean(axis=0)
    return np.sqrt((C - 1) / C * (centred**2).sum(axis=0))


def percentile_ends(samples: Float[Array, "resamples ..."], level: float) -> tuple[Array, Array]:
    """Equal-tailed quantiles of the resampled statistic."""
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return low, high


def bca_ends(
    samples: Float[Array, "resamples ..."],
    estimate: Float[Array, "*shape"],
    left_out: Float[Array, "clusters ..."],
    level: float,
) -> tuple[Array, Array]:
    """Efron's bias-corrected and accelerated ends.

    z₀ = Φ⁻¹(#{θ* < θ}/B) with ties counted half; a = Σu³/(6 (Σu²)^{3/2}), u_c = θ̄_(·) − θ_(c).
    """
    B = samples.shape[0]
    below = (samples < estimate).mean(axis=0) + 0.5 * (samples == estimate).mean(axis=0)
    z0 = special.ndtri(np.clip(below, 0.5 / B, 1 - 0.5 / B))
    u = left_out.mean(axis=0) - left_out
    spread = (u**2).sum(axis=0) ** 1.5
    a = np.where(spread > 0, (u**3).sum(axis=0) / (6 * np.where(spread > 0, spread, 1.0)), 0.0)
    z = special.ndtri((1 - level) / 2)
    ends = [special.ndtr(z0 + (z0 + q) / (1 - a * (z0 + q))) for q in (z, -z)]
    flat = np.sort(samples.reshape(B, -1), axis=0)
    low, high = (_column_quantile(flat, np.ravel(p)).reshape(estimate.shape) for p in ends)
    return low, high


def jackknife_t_ends(
    estimate: Array, left_out: Float[Array, "clusters ..."], level: float
) -> tuple[Array, Array]:
    """θ ± t_{C−1} times the jackknife standard error."""
    half = special.stdtrit(left_out.shape[0] - 1, (1 + level) / 2) * jackknife_se(left_out)
    return estimate - half, estimate + half


def root_jackknife_t_ends(
    estimate: Array, left_out: Float[Array, "clusters ..."], level: float
) -> tuple[Array, Array]:
    """The jackknife-t of √θ, squared: for shares that are not negative and may be near 0.

    A share that is quadratic in what was estimated has a spread in proportion to its root.
    """
    low, high = jackknife_t_ends(np.sqrt(estimate), np.sqrt(left_out), level)
    return np.maximum(low, 0.0) ** 2, high**2


def studentised_ends(
    pivots: Float[Array, "resamples ..."], estimate: Array, se: Array, level: float
) -> tuple[Array, Array]:
    """θ − q_{1−α/2}(t*) se to θ − q_{α/2}(t*) se, t* = (θ* − θ)/se*."""
    low, high = percentile_ends(pivots, level)
    return estimate - high * se, estimate - low * se


def weight_intervals(
    estimate: Float[Array, " d"],
    resampled: Float[Array, "resamples d"],
    left_out: Float[Array, "clusters d"],
    level: float,
) -> list[Interval]:
    """An interval for each fitted weight on the simplex, one-sided where it may be 0 or 1.

    A weight whose estimate is 0, or that is 0 in a share of at least (1 − level)/2 of the
    resamples, gets the interval [0, u], kind ``upper``; symmetrically [u, 1], kind ``lower``, at 1.
    Otherwise ``jackknife-t``, clipped to [0, 1]. The bound u is the quantile of the resampled
    weight that leaves (1 − level)/4 beyond it, expanded for few clusters: with α = (1 − level)/4
    it stands at the probability Φ(√(C/(C−1)) t_{C−1, α}) from the end.

    Not (1 − level): the data choose between the two forms, and where the truth is small the
    two-sided one already errs by (1 − level)/2 when it is chosen. Not the estimate plus a
    multiple of its standard error: at an estimate of 0 the jackknife's standard error is often 0.

    Args:
        estimate: The weights fitted on everything, on the simplex.
        resampled: Refitted in every cluster resample.
        left_out: Refitted without each cluster.
        level: Of each interval by itself.

    Raises:
        ValueError: for fewer than two clusters.

    Source: Hesterberg, What teachers should know about the bootstrap (American Statistician
    2015), for the expansion; Andrews (Econometrica 2000) for why the boundary needs care.
    """
    C = left_out.shape[0]
    if C < 2:
        raise ValueError(f"a cluster interval needs at least two clusters, got {C}")
    tail = (1 - level) / 2
    low, high = (np.clip(e, 0.0, 1.0) for e in jackknife_t_ends(estimate, left_out, level))
    beyond = special.ndtr(np.sqrt(C / (C - 1)) * special.stdtrit(C - 1, tail / 2))
    floor, ceiling = np.quantile(resampled, [beyond, 1 - beyond], axis=0)
    zero = (estimate <= _BOUNDARY) | ((resampled <= _BOUNDARY).mean(axis=0) >= tail)
    one = (estimate >= 1 - _BOUNDARY) | ((resampled >= 1 - _BOUNDARY).mean(axis=0) >= tail)
    intervals = []
    for j, w in enumerate(estimate):
        if zero[j] and not (one[j] and w > 0.5):
            kind, ends = "upper", (0.0, max(ceiling[j], w))
        elif one[j]:
            kind, ends = "lower", (min(floor[j], w), 1.0)
        else:
            kind, ends = "jackknife-t", (low[j], high[j])
        intervals.append(
            Interval(
                estimate=float(w),
                low=float(ends[0]),
                high=float(ends[1]),
                level=level,
                kind=kind,
                n=C,
            )
        )
    return intervals


def _column_quantile(sorted_columns: Array, probabilities: Array) -> Array:
    """The p-quantile (linear interpolation) of each sorted column, one p a column."""
    B = sorted_columns.shape[0]
    place = np.clip(probabilities, 0.0, 1.0) * (B - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, B - 1)
    column = np.arange(sorted_columns.shape[1])
    fraction = place - below
    return (1 - fraction) * sorted_columns[below, column] + fraction * sorted_columns[above, column]


def ratio_means(
    weights: Float[Array, "*batch clusters"],
    sums: Float[Array, "clusters k"],
    sizes: Float[Array, " clusters"],
) -> tuple[Array, Array]:
    """Means over rows of weighted clusters, θ = Σ n_c s_c / Σ n_c m_c, and their standard errors.

    se² = C/(C−1) · Σ n_c (s_c − θ m_c)² / (Σ n_c m_c)², the linearised variance of a ratio. With
    ``weights`` of ones it is the estimate; with counts, every resample at once.

    Returns:
        θ and se, each ``[*batch, k]``.
    """
    C = sums.shape[0]
    rows = (weights @ sizes)[..., None]
    theta = (weights @ sums) / rows
    squares = weights @ sums**2
    cross = weights @ (sums * sizes[:, None])
    spread = squares - 2 * theta * cross + theta**2 * (weights @ sizes**2)[..., None]
    return theta, np.sqrt(np.maximum(spread, 0.0) * C / max(C - 1, 1)) / rows


def correlations(
    weights: Float[Array, "*batch clusters"], sums: Float[Array, "clusters k 6"]
) -> tuple[Array, Array]:
    """Pearson's r of k scores with the truth under weighted clusters, and its standard errors.

    ``sums`` are the packed moments of (1, score, truth), one origin a score. The standard error
    is linearised: se² = C/(C−1) · Σ n_c (∇r · M_c)², ∇r at the weighted total.

    Returns:
        r and se, each ``[*batch, k]``.
    """
    C, k, _ = sums.shape
    r, se = [], []
    for j in range(k):
        total = weights @ sums[:, j]
        value, gradient = _correlation_gradient(total)
        influence = gradient @ sums[:, j].T
        r.append(value)
        se.append(np.sqrt((weights * influence**2).sum(axis=-1) * C / max(C - 1, 1)))
    return np.stack(r, axis=-1), np.stack(se, axis=-1)


def _correlation_gradient(total: Array) -> tuple[Array, Array]:
    """r and ∂r/∂(n, Σx, Σy, Σx², Σxy, Σy²), which packs as (1,1) (1,x) (1,y) (x,x) (x,y) (y,y)."""
    n, x, y, xx, xy, yy = np.moveaxis(total, -1, 0)
    sxy, sxx, syy = n * xy - x * y, n * xx - x * x, n * yy - y * y
    scale = np.sqrt(np.maximum(sxx, 0.0) * np.maximum(syy, 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    r = np.where(scale > 0, sxy / safe, 0.0)
    a, b = r / (2 * np.where(sxx > 0, sxx, 1.0)), r / (2 * np.where(syy > 0, syy, 1.0))
    gradient = np.stack(
        [
            xy / safe - a * xx - b * yy,
            -y / safe + 2 * a * x,
            -x / safe + 2 * b * y,
            -a * n,
            n / safe,
            -b * n,
        ],
        axis=-1,
    )
    return r, np.where(scale[..., None] > 0, gradient, 0.0)

"""Two systems on the same seeds and the same documents: the difference, and how sure it is.

With D_sd the difference of summed losses of seed s on document d, and n_d the document's tokens,

    θ = Σ_sd D_sd / (S Σ_d n_d),    θ_s = Σ_d D_sd / Σ_d n_d.

- seeds: Student's t over the θ_s: what another training run would change, these documents given;
- both: seeds and documents resampled independently of each other and crossed (the pigeonhole
  bootstrap). Percentiles alone cannot leave the range of the θ_s and are much too narrow for a few
  seeds; deviations are therefore stretched by √(S/(S−1)) t/z, Student's quantile over the normal;
- a sign-flip test over seeds: under the null that the two systems are exchangeable in every pair,
  the θ_s may change sign together with any choice of seeds; exact where 2^S patterns are listed.

Source: Owen, The pigeonhole bootstrap (Annals of Applied Statistics 2007); Bouthillier et al.,
Accounting for variance in machine learning benchmarks (MLSys 2021), for seeds as the unit.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from leray.evidence.bootstrap import Interval

MAX_LISTED = 20
"""Seeds up to which all sign patterns are listed."""


def by_seed(
    differences: Float[np.ndarray, "seeds documents"], tokens: Int[np.ndarray, " documents"]
) -> Float[np.ndarray, " seeds"]:
    """θ_s."""
    return differences.sum(axis=1) / tokens.sum()


def t_interval(values: Float[np.ndarray, " n"], level: float) -> Interval:
    """The mean of independent values with Student's interval; infinite for a single one."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        reach = np.inf
    else:
        spread = np.std(values, ddof=1) / np.sqrt(n)
        reach = float(stats.t.ppf((1 + level) / 2, n - 1) * spread)
    kind = "Student's t over seeds"
    return Interval(estimate=mean, low=mean - reach, high=mean + reach, level=level, kind=kind, n=n)


def crossed_interval(
    differences: Float[np.ndarray, "seeds documents"],
    tokens: Int[np.ndarray, " documents"],
    level: float,
    generator: np.random.Generator,
    num_resamples: int = 10_000,
) -> Interval:
    """Percentiles of the pigeonhole bootstrap over seeds and documents."""
    s, d = differences.shape
    seeds = generator.multinomial(s, np.full(s, 1 / s), size=num_resamples)
    documents = generator.multinomial(d, np.full(d, 1 / d), size=num_resamples)
    sums = np.einsum("bs,sd,bd->b", seeds, differences, documents, optimize=True)
    drawn = sums / (s * (documents @ tokens))
    estimate = float(differences.sum() / (s * tokens.sum()))
    if s < 2:
        low, high = -np.inf, np.inf
    else:
        t, z = stats.t.ppf((1 + level) / 2, s - 1), stats.norm.ppf((1 + level) / 2)
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        low, high = estimate + (ends - estimate) * np.sqrt(s / (s - 1)) * t / z
    kind = "stretched percentiles, pigeonhole bootstrap over seeds and documents"
    return Interval(
        estimate=estimate, low=float(low), high=float(high), level=level, kind=kind, n=s
    )


def sign_flip_p_value(values: Float[np.ndarray, " n"]) -> float:
    """Two-sided, exact: the share of sign patterns whose |mean| is at least the observed one.

    Raises:
        ValueError: More than 20 values, whose patterns are too many to list.

    >>> sign_flip_p_value(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    n = len(values)
    if not 1 <= n <= MAX_LISTED:
        raise ValueError(f"1 to {MAX_LISTED} values are needed to list all signs; got {n}")
    patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    sums = np.abs((1 - 2 * patterns) @ values)
    return float(np.mean(sums >= abs(values.sum()) * (1 - 1e-12)))


def compute_to_reach(
    fractions: Float[np.ndarray, " budgets"],
    losses: Float[np.ndarray, "seeds budgets"],
    targets: Float[np.ndarray, " seeds"],
) -> Float[np.ndarray, " seeds"]:
    """For every seed, the fraction of the compute at which its loss first reaches its target.

    Runs of several lengths, each with its own whole schedule, give a curve of loss against the
    logarithm of compute; between two lengths it is a line. NaN where no budget reaches the target,
    and the smallest budget where that one does already: then no more is known than "at most".

    Args:
        fractions: Of the compute, increasing.
    """
    found = np.full(len(targets), np.nan)
    x = np.log(fractions)
    for s, target in enumerate(targets):
        reached = np.flatnonzero(losses[s] <= target)
        if not len(reached):
            continue
        k = int(reached[0])
        if k == 0:
            found[s] = fractions[0]
            continue
        share = (losses[s, k - 1] - target) / (losses[s, k - 1] - losses[s, k])
        found[s] = np.exp(x[k - 1] + share * (x[k] - x[k - 1]))
    return found

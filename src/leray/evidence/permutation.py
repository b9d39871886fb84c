"""Permutation tests by the group that the data's dependence allows.

A permutation test is exact where the null distribution of the labels is invariant under the group
that is drawn from. Three groups, by what may be assumed:

- rows are exchangeable: for a random relabelling σ, {σ ∘ shift_k ∘ σ⁻¹} is a subgroup of the
  symmetric group, and one FFT gives the statistic under all n of its elements;
- rows of a conversation depend on each other but are stationary: rotate each conversation's
  labels, all its queries together, by an angle of its own (the group ∏_c Z_{T_c});
- only conversations are independent: flip the sign of each conversation's paired difference.

The variances do not change under any of these, so only Xᵀy_π is needed. The largest statistic
over everything that was searched is compared with its own null distribution, so the p-value of
the best configuration pays for the search. Signals are x ``[d, rows]``, C clusters.

Source: Lehmann and Romano, Testing Statistical Hypotheses (2005), 15.2; Westfall and Young (1993)
for the maximum; Phipson and Smyth (2010) for p = (b + 1)/(m + 1), which is never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy import fft

Array = np.ndarray
_EXACT_SIGN_FLIPS = 14  # up to 2^14 flips are enumerated instead of drawn
_TIE = 1e-12  # two statistics closer than this (relative) are one value computed in two ways


@dataclass(frozen=True, kw_only=True, slots=True)
class TestResult:
    """A p-value with what it is: the statistic, the group, one- or two-sided, how many draws."""

    statistic: float
    p_value: float
    two_sided: bool
    num_permutations: int
    group: str


def p_value(null: Float[Array, " draws"], observed: float, *, identity_in_null: bool) -> float:
    """The share of the group at least as extreme; the identity counts, so it is never zero."""
    b = int((null >= observed - _TIE * abs(observed)).sum())
    return b / len(null) if identity_in_null else (b + 1) / (len(null) + 1)


def rotation_products(
    x: Sequence[Float[Array, "d _"]], y: Sequence[Float[Array, " _"]]
) -> Float[Array, "rotations d"]:
    """Σ_q x_q · y_q rotated by every angle, for the queries q of one conversation together.

    Row k rotates the labels of query q by ⌊k n_q/N⌋ places of its n_q, where N is the largest
    n_q. Where all lists are equally long this is the group Z_N exactly; where they grow (each
    query sees only what was said before it) it turns all queries by the same fraction, which is
    a group only up to rounding, and the p-value is approximate.

    Cost: one FFT a query and signal, O(d n log n).
    """
    N = max(len(labels) for labels in y)
    total = np.zeros((N, x[0].shape[0]))
    for signals, labels in zip(x, y, strict=True):
        n = len(labels)
        every = _circular(signals, labels)
        total += every[:, (np.arange(N) * n) // N].T
    return total


def _circular(x: Array, y: Array) -> Array:
    """Σ_t x[j, t] y[(t − k) mod n] for every signal j and rotation k: a cross-correlation."""
    spectrum = np.asarray(fft.rfft(x, axis=1)) * np.conj(np.asarray(fft.rfft(y)))
    return np.asarray(fft.irfft(spectrum, len(y), axis=1))


def score_flips(
    x: Sequence[Float[Array, "d _"]], y: Sequence[Float[Array, " _"]]
) -> Float[Array, "2 d"]:
    """Σ_q x_q · (y_q − ȳ_q) for the queries of one conversation together, and its negative.

    Under the null of no mean association within lists, the sum is as likely as its negative,
    whatever depends on what within the conversation. This is the test where lists grow (each
    query sees only what was said before it), since rotating lists of different lengths breaks
    what queries share: its false-positive rate at .05 was measured at 7% there, that of the flips
    at 5% (``benchmarks/calibration.py``).
    """
    total = sum(
        (signals @ (labels - labels.mean()) for signals, labels in zip(x, y, strict=True)),
        start=np.zeros(x[0].shape[0]),
    )
    return np.stack([total, -total])


def draw_elements(
    products: Sequence[Float[Array, "_ d"]], num_draws: int, rng: np.random.Generator
) -> Float[Array, "draws d"]:
    """Xᵀy under random elements of a product of groups: one for each conversation, summed."""
    total = np.zeros((num_draws, products[0].shape[1]))
    for table in products:
        total += table[rng.integers(len(table), size=num_draws)]
    return total


def shift_products(
    x: Float[Array, "d rows"], y: Float[Array, " rows"], rng: np.random.Generator
) -> Float[Array, "rows d"]:
    """Xᵀy under all n elements of a random conjugate of the cyclic group; row 0 is the identity.

    Only where rows are exchangeable. Then ``p_value(..., identity_in_null=True)`` is exact with
    one draw of σ; several σ pooled are no subgroup.
    """
    order = rng.permutation(len(y))
    return _circular(x[:, order], y[order]).T


def sign_flips(
    num_clusters: int, num_draws: int, rng: np.random.Generator
) -> tuple[Float[Array, "draws clusters"], bool]:
    """Signs ±1 for each cluster: all 2^C where few enough (then True), otherwise random draws."""
    if num_clusters <= _EXACT_SIGN_FLIPS:
        return np.array(list(product((1.0, -1.0), repeat=num_clusters))), True
    return rng.choice((1.0, -1.0), size=(num_draws, num_clusters)), False


def sign_flip_test(
    differences: Float[Array, "clusters comparisons"],
    num_draws: int,
    rng: np.random.Generator,
    *,
    two_sided: bool = True,
) -> list[TestResult]:
    """Test of each paired comparison, corrected for all of them by the maximum.

    Under the null a conversation's difference is as likely as its negative. The statistic is
    t = Σ_c δ_c / √(Σ_c δ_c²), which flips leave on one scale for all comparisons, or |t|.

    Args:
        differences: The summed difference of each conversation (a row each).
        num_draws: Random flips, where there are too many to enumerate.
        two_sided: Any difference, or else only a positive one.
    """
    size = np.abs if two_sided else np.asarray
    flips, exact = sign_flips(len(differences), num_draws, rng)
    norm = np.sqrt((differences**2).sum(axis=0))
    unit = differences / np.where(norm > 0, norm, 1.0)
    null = size(flips @ unit).max(axis=1)
    observed = size(unit.sum(axis=0))
    return [
        TestResult(
            statistic=float(t),
            p_value=p_value(null, float(t), identity_in_null=exact),
            two_sided=two_sided,
            num_permutations=len(flips),
            group="sign flips by conversation" + (", all of them" if exact else ""),
        )
        for t in observed
    ]

"""Interaction effects: what products of signals explain of the truth beyond the signals themselves.

The linear model is y ≈ β₀ + Σ β_j z_j over standardised signals; beyond it stand the products
z_i z_j (i < j) and the squares z_j². All is read off one moment table of these columns:

- *gain*: 1 − SSE/SST on conversations left out of the fit, with the products minus without,
  Σ_c (SSE_c^linear − SSE_c^full) / Σ_c SST_c;
- *test* of each term: s_c = Σ rows of (the term's residual on the signals) × (the linear model's
  residual), whose sum is 0 in expectation if the term adds nothing; signs of conversations are
  flipped, and the largest |Σ s_c| / √(Σ s_c²) over all terms makes p family-wise.

Notation: d signals, C conversations; u = (−β₀, −β, 1) gives SSE_c = uᵀ M_c u.

Source: Frisch and Waugh (1933) for residuals on residuals; Hemerik, Goeman and Finos (JRSS B 2020)
for flipping the signs of scores; Westfall and Young (1993) for the maximum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from leray.evidence.bootstrap import Interval, jackknife_t_ends
from leray.evidence.moments import MomentTable, moment_table, unpack
from leray.evidence.permutation import sign_flip_test

Array = np.ndarray
Rows = tuple[str, Array, Array]
"""A cluster, its signals ``[d, rows]`` and its truth ``[rows]``."""


class Term(NamedTuple):
    """A product or square: which signals, its coefficient beside the linear part, and p.

    ``coefficient`` is in units of y a standard deviation of each signal, all terms fitted
    together; ``statistic`` and the family-wise ``p_value`` are of the term by itself.
    """

    signals: tuple[str, str]
    coefficient: float
    statistic: float
    p_value: float


class Interactions(NamedTuple):
    """Held-out R² of the linear fit and what products, then squares too, add to it."""

    linear: Interval
    products: Interval
    with_squares: Interval
    terms: list[Term]


def interaction_table(blocks: Iterable[Rows], table: MomentTable) -> MomentTable:
    """Moments of the standardised signals, their products and squares, by cluster.

    Args:
        blocks: The rows.
        table: Moments of the same signals; its means and deviations standardise them.

    Cost: one pass; with d = 4, 14 columns, 136 products a row.
    """
    d, n = len(table.signals), table.num_rows
    total = unpack(table.total)
    shift = total[0, 1 : d + 1] / n
    mean = table.origin[:d] + shift
    variance = np.diagonal(total)[1 : d + 1] / n - shift**2
    scale = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0)
    pairs = term_pairs(d)

    def columns() -> Iterable[Rows]:
        for cluster, x, y in blocks:
            z = (x - mean[:, None]) * scale[:, None]
            yield cluster, np.vstack([z, *(z[i] * z[j] for i, j in pairs)]), y

    names = [*table.signals, *(f"{table.signals[i]} × {table.signals[j]}" for i, j in pairs)]
    return moment_table(columns(), names)


def term_pairs(d: int) -> list[tuple[int, int]]:
    """The products i < j first, then the squares."""
    pairs = [*combinations_with_replacement(range(d), 2)]
    return sorted(pairs, key=lambda p: p[0] == p[1])


def interactions(
    table: MomentTable,
    signals: Sequence[str],
    level: float,
    rng: np.random.Generator,
    num_flips: int = 10_000,
) -> Interactions:
    """Gains and tests from a table that :func:`interaction_table` made.

    Args:
        table: Its first d columns are the signals.
        signals: The d names, as the terms are to be called.
        level: Of each interval, jackknife-t over conversations.
        rng: Draws sign flips where there are too many conversations for all of them.

    Raises:
        ValueError: for fewer than two clusters.
    """
    if len(table.clusters) < 2:
        raise ValueError("leaving conversations out needs at least two of them")
    d = len(signals)
    pairs = term_pairs(d)
    num_products = sum(i != j for i, j in pairs)
    moments = unpack(table.sums)
    linear = list(range(1, d + 1))
    products = list(range(1, d + num_products + 1))
    everything = list(range(1, moments.shape[-1] - 1))
    none, base, some, full = (
        held_out_errors(moments, c) for c in ([], linear, products, everything)
    )
    scores = term_scores(moments, d)
    beta = fit(moments.sum(axis=0), everything)[d + 1 :]
    tests = sign_flip_test(scores, num_flips, rng)
    return Interactions(
        linear=share_interval(none - base, none, level),
        products=share_interval(base - some, none, level),
        with_squares=share_interval(base - full, none, level),
        terms=[
            Term((signals[i], signals[j]), float(b), t.statistic, t.p_value)
            for (i, j), b, t in zip(pairs, beta, tests, strict=True)
        ],
    )


def fit(moments: Float[Array, "v v"], columns: Sequence[int]) -> Float[Array, " k"]:
    """Least squares of the last variable on a constant and these columns, constant first.

    A column that is constant or depends on others gets the solution of least norm.
    """
    keep = [0, *columns]
    A, right = moments[np.ix_(keep, keep)], moments[keep, -1]
    scale = np.sqrt(np.where(np.diagonal(A) > 0, np.diagonal(A), 1.0))
    inverse = np.linalg.pinv(A / np.outer(scale, scale), rcond=1e-10, hermitian=True)
    return inverse @ (right / scale) / scale


def held_out_errors(moments: Float[Array, "c v v"], columns: Sequence[int]) -> Float[Array, " c"]:
    """The sum of squared errors on each conversation of a fit on the others.

    No column gives the total sum of squares, about the mean of the others.
    """
    total = moments.sum(axis=0)
    keep = [0, *columns, moments.shape[-1] - 1]
    out = np.empty(len(moments))
    for c, own in enumerate(moments):
        u = np.append(-fit(total - own, columns), 1.0)
        out[c] = u @ own[np.ix_(keep, keep)] @ u
    return out


def term_scores(moments: Float[Array, "c v v"], d: int) -> Float[Array, "c terms"]:
    """s_c of every term: residual of the term on the signals × residual of the linear model."""
    total = moments.sum(axis=0)
    v = total.shape[0]
    linear = list(range(d + 1))
    inverse = np.linalg.pinv(total[np.ix_(linear, linear)], rcond=1e-10, hermitian=True)
    residual = np.eye(v)[:, d + 1 :]
    residual[: d + 1] = -inverse @ total[: d + 1, d + 1 :]  # columns: the terms, then y
    return np.einsum("vt,cvw,w->ct", residual[:, :-1], moments, residual[:, -1])


def share_interval(part: Float[Array, " c"], total: Float[Array, " c"], level: float) -> Interval:
    """Σ part / Σ total over conversations, with its jackknife-t interval.

    It takes what was fitted on the other conversations as given. No interval (NaN) with one
    conversation.
    """
    estimate = part.sum(keepdims=True) / total.sum()
    low = high = np.full(1, np.nan)
    if len(part) > 1:
        left = (part.sum() - part) / (total.sum() - total)
        low, high = jackknife_t_ends(estimate, left[:, None], level)
    return Interval(
        estimate=float(estimate[0]), low=float(low[0]), high=float(high[0]), level=level,
        kind="jackknife-t", n=len(part),
    )  # fmt: skip

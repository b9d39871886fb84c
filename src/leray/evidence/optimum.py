"""The exact best weights: argmax of Pearson's r over the simplex {w ≥ 0, Σw = 1}.

r(w) = wᵀb / √(wᵀSw · s) does not depend on the scale of w, so its maximum over the simplex is
w = z/Σz with z = argmin_{z ≥ 0} ½ zᵀSz − bᵀz, a non-negative least-squares problem (S = LLᵀ,
min ‖Lᵀz − L⁻¹b‖). Where no b_j > 0, z = 0 and r is quasi-convex on w ≥ 0, so the best single
signal is the maximum. For few signals the 2^d − 1 supports are enumerated, which batches over
resamples: among the supports whose unconstrained solution is positive, the largest bᵀz wins.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from leray.evidence.moments import Array, Covariances

MAX_ENUMERATED = 7  # 127 supports; above it one NNLS a problem is cheaper
_CONSTANT = 1e-12  # a signal whose variance is below this share of the largest is constant


class Optimum(NamedTuple):
    """The best weights ``w [..., d]``, their correlation ``r [...]``, and the KKT residual.

    ``residual`` is the largest violation of the optimality conditions of z, relative to
    max|b|: zero (to rounding) certifies the global optimum, since the problem is convex.
    """

    w: Array
    r: Array
    residual: Array


def simplex_optimum(moments: Covariances) -> Optimum:
    """The weights on the simplex that maximise Pearson's r, with their optimality residual.

    Args:
        moments: ``S [..., d, d]``, ``b [..., d]``, ``s [...]``; leading axes are a batch.

    Returns:
        An :class:`Optimum`; constant signals get weight 0.

    Raises:
        ValueError: if every signal is constant, or y is, in some problem of the batch.

    Cost: 2^d − 1 small solves for d ≤ 7, otherwise one NNLS a problem.
    Source: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23, for NNLS.
    """
    S, b, s = (np.asarray(m, dtype=np.float64) for m in moments)
    batch, d = b.shape[:-1], b.shape[-1]
    S, b, s = S.reshape(-1, d, d), b.reshape(-1, d), s.reshape(-1)
    variance = np.diagonal(S, axis1=1, axis2=2)
    varies = varying(variance)
    if not (varies.any(axis=1) & (s > 0)).all():
        raise ValueError("no optimum: every signal is constant, or the truth is")
    b = np.where(varies, b, 0.0)
    z = _enumerate(S, b, varies) if d <= MAX_ENUMERATED else _each_nnls(S, b, varies)
    residual = _kkt_residual(S, b, z)
    single = _best_single(b, variance, varies)
    weight = np.where((z > 0).any(axis=1, keepdims=True), z, single)
    w = weight / weight.sum(axis=1, keepdims=True)
    r = np.einsum("nj,nj->n", w, b) / np.sqrt(np.einsum("ni,nij,nj->n", w, S, w) * s)
    return Optimum(w.reshape(*batch, d), r.reshape(batch), residual.reshape(batch))


def varying(variance: Float[Array, "*batch d"]) -> Bool[Array, "*batch d"]:
    """Which signals are not constant, by their variances: more than 1e-12 of the largest."""
    return variance > _CONSTANT * variance.max(axis=-1, keepdims=True)


def fixed_optimum(
    S: Float[Array, "d d"], b: Float[Array, "problems d"], s: float
) -> Float[Array, " problems"]:
    """max r over the simplex for many b that share one S, as under permutations of the truth.

    The inverse of every support's block is computed once, so a problem costs 2^d − 1 small
    products. Signals that are constant are left out.
    """
    variance = np.diagonal(S)
    usable = np.flatnonzero(varying(variance))
    largest = (b[:, usable] / np.sqrt(variance[usable])).max(axis=1)  # the best single signal
    for k in range(2, len(usable) + 1):
        for support in map(list, combinations(usable, k)):
            z = b[:, support] @ np.linalg.pinv(S[np.ix_(support, support)], hermitian=True)
            value = np.einsum("nk,nk->n", z, b[:, support])
            inside = (z > 0).all(axis=1)
            largest[inside] = np.maximum(largest[inside], np.sqrt(value[inside]))
    return largest / np.sqrt(s)


def _enumerate(S: Array, b: Array, varies: Array) -> Array:
    d = b.shape[1]
    best, z = np.zeros(len(b)), np.zeros_like(b)
    sizes = chain.from_iterable(combinations(range(d), k) for k in range(1, d + 1))
    for support in map(list, sizes):
        usable = np.logical_and.reduce(varies[:, support], axis=1)
        block = S[:, support][:, :, support]
        solution = _solve(
            np.where(usable[:, None, None], block, np.eye(len(support))), b[:, support]
        )
        value = np.einsum("nk,nk->n", solution, b[:, support])
        better = usable & (solution > 0).all(axis=1) & (value > best)
        best[better] = value[better]
        z[better] = 0.0
        z[np.ix_(better, support)] = solution[better]
    return z


def _solve(blocks: Array, right: Array) -> Array:
    """Solve each block; a singular one gets the least-norm solution."""
    try:
        return np.linalg.solve(blocks, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return (np.linalg.pinv(blocks, hermitian=True) @ right[..., None])[..., 0]


def _each_nnls(S: Array, b: Array, varies: Array) -> Array:
    from scipy.optimize import nnls  # half a second to import, and seldom needed

    z = np.zeros_like(b)
    for n, keep in enumerate(varies):
        # S = (V √λ)(V √λ)ᵀ serves where S is singular, as Cholesky's factor would not.
        variance, V = np.linalg.eigh(S[n][np.ix_(keep, keep)])
        kept = variance > _CONSTANT * variance[-1]
        L = V[:, kept] * np.sqrt(variance[kept])
        z[n, keep] = nnls(L.T, V[:, kept].T @ b[n, keep] / np.sqrt(variance[kept]))[0]
    return z


def _best_single(b: Array, variance: Array, varies: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        alone = np.where(varies, b / np.sqrt(variance), -np.inf)
    return np.eye(b.shape[1])[alone.argmax(axis=1)]


def _kkt_residual(S: Array, b: Array, z: Array) -> Array:
    slope = b - np.einsum("nij,nj->ni", S, z)
    violation = np.where(z > 0, np.abs(slope), np.maximum(slope, 0.0))
    scale = np.abs(b).max(axis=1)
    return violation.max(axis=1) / np.where(scale > 0, scale, 1.0)

"""PARAFAC and Tucker decompositions of a tensor of four modes, and what they are judged by.

PARAFAC of rank R: T[i,j,k,l] ≈ Σ_r λ_r A[i,r] B[j,r] C[k,r] D[l,r], with columns of unit length.
Alternating least squares find a local minimum only, so it starts many times. What makes the
restarts cheap:

1. *exact compression*: a mode longer than the product of the others is replaced by the triangular
   factor of its unfolding, T_(n) = QR; distances stay as they are;
2. *truncation*: all starts run on a core of at most ten by ten by …, the leading subspaces of each
   mode; the best few then run on the whole (compressed) tensor, so that the result is a
   stationary point of the problem itself and truncation only decides where to start;
3. *shared products*: A and B are updated from one product of T with the Khatri-Rao product of C
   and D, and C and D from one with that of A and B.

Notation: i j k l the modes (I J K L long), m = (k, l), r the R factors.

Source: Bro and Andersson, Improving the speed of multiway algorithms (1998), for compression; Bro
and Kiers, A new efficient method for determining the number of components (2003), for the core
consistency; Lorenzo-Seva and ten Berge, Tucker's congruence coefficient (2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorly as tl
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from tensorly.cp_tensor import CPTensor
from tensorly.decomposition import parafac as tensorly_parafac
from tensorly.decomposition import tucker as tensorly_tucker

from leray.evidence.compiled import compiled

Array = np.ndarray
_CORE = 10  # the longest mode of the core on which the starts run, at least twice the rank
_KEPT = 5  # one start in so many, the best, goes on to the whole tensor
_START_TOLERANCE = 1e-6  # of the share explained, on the core


class Parafac(NamedTuple):
    """Factors of unit columns, the largest first, and how well they fit.

    ``weights [R]``; ``factors`` one ``[mode, R]`` each; ``fit`` the share of the sum of squares
    that is explained; ``start_fits`` what every start reached on the truncated core.
    """

    weights: Array
    factors: tuple[Array, ...]
    fit: float
    start_fits: Array


class Tucker(NamedTuple):
    """A core, orthonormal factors (defined up to rotation) and the share explained."""

    core: Array
    factors: tuple[Array, ...]
    fit: float


def parafac(
    tensor: Float[Array, "i j k l"],
    rank: int,
    rng: np.random.Generator,
    *,
    num_restarts: int = 20,
    num_iterations: int = 500,
    tolerance: float = 1e-9,
) -> Parafac:
    """The best of many alternating least-squares fits.

    Args:
        tensor: Four modes, not all zero.
        rank: R.
        rng: Draws the starts, normal.
        num_restarts: How many starts.
        num_iterations: At most so many on the core, and again on the whole.
        tolerance: It has converged when an iteration explains less than this share more; a start
            on the core, which only has to find its valley, when less than a millionth.

    Raises:
        ValueError: for a tensor that is zero or not finite.

    Cost: an iteration is two products of the tensor with R columns.
    """
    size = float(np.vdot(tensor, tensor))
    if not np.isfinite(size) or size == 0:
        raise ValueError("a tensor to decompose must be finite and not all zero")
    whole, outer = compress(tensor)
    core, inner = truncate(whole, max(_CORE, 2 * rank))
    starts = [rng.standard_normal((num_restarts, n, rank)) for n in core.shape]
    left = _fit(core, starts, num_iterations, size * max(tolerance, _START_TOLERANCE))
    start_fits = 1 - (left + size - float(np.vdot(core, core))) / size
    best = np.argsort(left, kind="stable")[: max(1, num_restarts // _KEPT)]
    kept = [u @ f[best] for u, f in zip(inner, starts, strict=True)]
    errors = _fit(whole, kept, num_iterations, size * tolerance)
    first = int(errors.argmin())
    factors = [q @ f[first] for q, f in zip(outer, kept, strict=True)]
    return _normal_form(factors, 1 - float(errors[first]) / size, start_fits)


def refine_with_tensorly(
    tensor: Float[Array, "i j k l"],
    fitted: Parafac,
    *,
    num_iterations: int = 500,
    tolerance: float = 1e-9,
) -> Parafac:
    """TensorLy's PARAFAC started at a fit: the same minimum, to rounding, if the fit is one."""
    whole, outer = compress(tensor)
    start = [q.T @ f for q, f in zip(outer, fitted.factors, strict=True)]
    start[-1] = start[-1] * fitted.weights
    weights, factors = tensorly_parafac(
        tl.tensor(whole), len(fitted.weights), n_iter_max=num_iterations, tol=tolerance,
        init=CPTensor((None, start)),  # pyright: ignore[reportArgumentType]
        random_state=0,
    )  # fmt: skip
    found = [np.asarray(f) for f in factors]
    found[-1] = found[-1] * np.asarray(weights)
    rest = whole - np.asarray(tl.cp_to_tensor((None, found)))
    fit = 1 - float(np.vdot(rest, rest) / np.vdot(whole, whole))
    back = [q @ f for q, f in zip(outer, found, strict=True)]
    return _normal_form(back, fit, fitted.start_fits)


def tucker(tensor: Float[Array, "i j k l"], ranks: Sequence[int]) -> Tucker:
    """TensorLy's Tucker decomposition (orthogonal iteration) of the compressed tensor.

    Args:
        ranks: One a mode; more than the mode is long, or than the other ranks multiply to, is
            capped.
    """
    whole, outer = compress(tensor)
    capped = [min(r, n) for r, n in zip(ranks, whole.shape, strict=True)]
    capped = [min(r, int(np.prod(capped)) // r) for r in capped]
    found: Any = tensorly_tucker(tl.tensor(whole), rank=capped, n_iter_max=500, tol=1e-8)
    core, factors = np.asarray(found[0]), found[1]
    fit = float(np.vdot(core, core) / np.vdot(whole, whole))
    back = tuple(q @ np.asarray(f) for q, f in zip(outer, factors, strict=True))
    return Tucker(core, back, fit)


def compress(tensor: Float[Array, "i j k l"]) -> tuple[Array, list[Array]]:
    """The tensor with every over-long mode replaced by its triangular factor, and the bases.

    Exact: T = core ×_n Q_n with orthonormal columns, so that every least-squares fit of the core
    is one of T, with the same error.
    """
    core, bases = tensor, []
    for mode, length in enumerate(tensor.shape):
        if length * length > core.size:  # longer than the product of the others
            q, r = np.linalg.qr(_unfold(core, mode))
            core = _fold(r, mode, core.shape)
            bases.append(q)
        else:
            bases.append(np.eye(length))
    return np.ascontiguousarray(core, dtype=np.float64), bases


def truncate(tensor: Float[Array, "i j k l"], longest: int) -> tuple[Array, list[Array]]:
    """The projection on the leading subspaces of each mode (truncated HOSVD), and the bases."""
    core, bases = tensor, []
    for mode, length in enumerate(tensor.shape):
        if length > longest:
            unfolded = _unfold(core, mode)
            basis = np.linalg.eigh(unfolded @ unfolded.T)[1][:, ::-1][:, :longest]
            core = _fold(basis.T @ unfolded, mode, core.shape)
        else:
            basis = np.eye(length)
        bases.append(basis)
    return np.ascontiguousarray(core), bases


def core_consistency(tensor: Float[Array, "i j k l"], fitted: Parafac) -> float:
    """CORCONDIA, in percent: 100 (1 − Σ (G − I)²/R), G the least-squares Tucker core.

    G = T ×_n A_n⁺, I superdiagonal. 100 where the factors are the whole story; near 0 or below
    where their products interact. With more factors than a mode is long, the factors of that mode
    depend on each other and G is the core of least norm, so that the value is lower.
    """
    core = tensor
    scaled = [*fitted.factors[:-1], fitted.factors[-1] * fitted.weights]
    for mode, factor in enumerate(scaled):
        core = _fold(np.linalg.pinv(factor) @ _unfold(core, mode), mode, core.shape)
    rank = len(fitted.weights)
    ideal = np.zeros(core.shape)
    ideal[(np.arange(rank),) * core.ndim] = 1.0
    return 100 * (1 - float(((core - ideal) ** 2).sum()) / rank)


def congruence(a: Sequence[Array], b: Sequence[Array]) -> Float[Array, " r"]:
    """Tucker's congruence of matched factors: |Π over modes of the cosine|, largest first.

    Factors are matched so that the sum is largest (Hungarian method). Signs are free: a factor may
    change sign in two modes.

    Args:
        a, b: One ``[mode, R]`` for each mode that is compared, the same modes in both.
    """
    cosines = np.ones((a[0].shape[1], b[0].shape[1]))
    for x, y in zip(a, b, strict=True):
        cosines = cosines * (_unit(x)[0].T @ _unit(y)[0])
    rows, columns = linear_sum_assignment(-np.abs(cosines))
    return np.sort(np.abs(cosines[rows, columns]))[::-1]


def khatri_rao(factors: Sequence[Array]) -> Float[Array, "entries r"]:
    """Columns are the outer products of the factors' columns, the last mode running fastest."""
    out = factors[0]
    for factor in factors[1:]:
        out = (out[:, None] * factor[None]).reshape(-1, factor.shape[1])
    return out


def _fit(tensor: Array, factors: list[Array], num_iterations: int, gain: float) -> Array:
    """Improve stacked factors ``[starts, mode, R]`` in place; their squared errors."""
    errors = np.empty(len(factors[0]))
    factors[:] = map(np.ascontiguousarray, factors)
    a, b, c, d = factors
    flat = tensor.reshape(tensor.shape[0] * tensor.shape[1], -1)
    turned = np.ascontiguousarray(flat.T)
    _als_kernel(flat, turned, a, b, c, d, num_iterations, gain, errors)
    return np.maximum(errors, 0.0)


def _normal_form(factors: Sequence[Array], fit: float, start_fits: Array) -> Parafac:
    """Unit columns, the largest weight first, signs in the first mode only."""
    weights = np.ones(factors[0].shape[1])
    unit = []
    for factor in factors:
        columns, norms = _unit(factor)
        weights = weights * norms
        unit.append(columns)
    for mode in range(1, len(unit)):
        largest = np.abs(unit[mode]).argmax(axis=0)
        sign = np.where(np.take_along_axis(unit[mode], largest[None], axis=0)[0] < 0, -1.0, 1.0)
        unit[mode] = unit[mode] * sign
        unit[0] = unit[0] * sign
    order = np.argsort(-weights, kind="stable")
    return Parafac(weights[order], tuple(u[:, order] for u in unit), fit, start_fits)


def _unit(factor: Array) -> tuple[Array, Array]:
    norms = np.linalg.norm(factor, axis=0)
    return factor / np.where(norms > 0, norms, 1.0), norms


def _unfold(tensor: Array, mode: int) -> Array:
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def _fold(unfolded: Array, mode: int, shape: tuple[int, ...]) -> Array:
    rest = [n for k, n in enumerate(shape) if k != mode]
    return np.moveaxis(unfolded.reshape(unfolded.shape[0], *rest), 0, mode)


@compiled
def _als_kernel(flat, turned, a, b, c, d, num_iterations, gain, errors):
    # flat is T as [i·j, k·l], turned its transpose; both contiguous.
    rank = a.shape[2]
    size = 0.0
    for x in flat.ravel():
        size += x * x
    ab = np.empty((a.shape[1] * b.shape[1], rank))
    cd = np.empty((c.shape[1] * d.shape[1], rank))
    for s in range(len(errors)):
        A, B, C, D = a[s], b[s], c[s], d[s]
        last = np.inf
        for _ in range(num_iterations):
            _outer(C, D, cd)
            product = np.dot(flat, cd)
            _solve(_over_second(product, B), B, C, D, A)
            _normalise(A)
            _solve(_over_first(product, A), A, C, D, B)
            _normalise(B)
            _outer(A, B, ab)
            product = np.dot(turned, ab)
            _solve(_over_second(product, D), A, B, D, C)
            _normalise(C)
            right = _over_first(product, C)
            _solve(right, A, B, C, D)
            # ‖T − M‖² = ‖T‖² − 2⟨T, M⟩ + ‖M‖²
            gram = np.dot(A.T, A) * np.dot(B.T, B) * np.dot(C.T, C) * np.dot(D.T, D)
            errors[s] = size - 2 * (right * D).sum() + gram.sum()
            if last - errors[s] < gain:
                break
            last = errors[s]


@compiled
def _over_second(product, second):
    # Σ_j product[i·j, r] second[j, r]
    n, rank = second.shape
    out = np.zeros((product.shape[0] // n, rank))
    for i in range(out.shape[0]):
        for j in range(n):
            for r in range(rank):
                out[i, r] += product[i * n + j, r] * second[j, r]
    return out


@compiled
def _over_first(product, first):
    # Σ_i product[i·j, r] first[i, r]
    n, rank = product.shape[0] // first.shape[0], first.shape[1]
    out = np.zeros((n, rank))
    for i in range(first.shape[0]):
        for j in range(n):
            for r in range(rank):
                out[j, r] += product[i * n + j, r] * first[i, r]
    return out


@compiled
def _outer(left, right, out):
    n = right.shape[0]
    for i in range(left.shape[0]):
        for j in range(n):
            for r in range(left.shape[1]):
                out[i * n + j, r] = left[i, r] * right[j, r]


@compiled
def _solve(right, u, v, w, out):
    gram = np.dot(u.T, u) * np.dot(v.T, v) * np.dot(w.T, w)
    rank = gram.shape[0]
    for r in range(rank):  # enough that a factor which vanished does not stop the rest
        gram[r, r] += 1e-13 * np.trace(gram) / rank + 1e-300
    out[:] = np.linalg.solve(gram, right.T.copy()).T


@compiled
def _normalise(factor):
    for r in range(factor.shape[1]):
        norm = np.sqrt((factor[:, r] ** 2).sum())
        if norm > 0:
            factor[:, r] /= norm

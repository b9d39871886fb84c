"""Global sections of large sheaves: kernels of sparse coboundaries, with a certificate.

A section is a vector that δ = δ_0 takes to zero, and δ has one block of rows for every edge. Over
GF(p) the kernel comes from sparse elimination, an unknown of a vertex given by those of its parent.
Integers over ℚ or floats are solved modulo a prime and lifted; sections that hold exactly, as many
as the rank modulo p leaves, prove the rank over ℚ, for reducing modulo p never raises a rank.

Over floats, with σ_1 ≥ … ≥ σ_n the singular values of δ and rows S of it alone giving δ_S:

1. Orthonormal X, k columns, with ‖δX‖ ≤ e prove that the last k of the σ_i are ≤ e (min–max).
2. In δ_Sᵀδ_S − t² = LDLᵀ as many entries of D are negative as singular values of δ_S lie below t
   (Sylvester's law of inertia), up to the backward error of the factors (Weyl).
3. σ_i(δ) ≥ σ_i(δ_S), since δᵀδ − δ_Sᵀδ_S has no negative eigenvalue. So if only k values of δ_S lie
   below t, then σ_{n−k} of δ is ≥ t and, with 1, its rank is n − k.

S begins with a spanning forest, whose factors are as sparse as it is, and grows by the edges that
the low vectors of δ_S violate most, so that a graph whose whole Laplacian would fill its factors
needs few more equations than unknowns. δᵀδ squares: what lies below about 10⁻⁶ ‖δ‖ in float64 and
is not zero is left undecided.

Source: Golub and Van Loan, Matrix Computations (4th ed.), 8.1 (min–max, Sylvester, Weyl); Higham,
Accuracy and Stability of Numerical Algorithms (2nd ed.), 9.3 (the error of LU is below γ |L||U|);
Wang, Guy and Wang, P-adic reconstruction of rational numbers (SIGSAM Bulletin 1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.sparse.linalg import SuperLU, splu

from leray.algebra.elimination import sparse_kernel
from leray.algebra.fields import Field, Floats, Matrix, PrimeField
from leray.algebra.rank import (
    LARGEST_INTEGER,
    LARGEST_PRIME,
    MARGIN,
    RankCertificate,
    exact_certificate,
)
from leray.errors import LerayError

_Sparse = sparse.csr_array | sparse.csc_array

EPS = float(np.finfo(np.float64).eps)
MOST_ENTRIES = 40_000_000
"""Of a basis, which is dense."""
MOST_WORK = 1e8
"""n · k², from which on more equations are tried before a basis is made."""
RESOLVED = 1e-6
"""The threshold t that is tried first, relative to the norm."""


@dataclass(frozen=True, eq=False)
class Equations:
    """The coboundary of a sheaf from the vertices to the edges of a graph, by blocks."""

    matrix: sparse.csr_array
    """``[Σ dim F(e), Σ dim F(v)]``: int64 over exact fields, float64 over floats."""
    edges: np.ndarray
    """The places of both ends, ``[num_edges, 2]``."""
    edge_dims: np.ndarray
    vertex_dims: np.ndarray


@dataclass(frozen=True, eq=False)
class Sections:
    """The kernel of δ_0 and the reason to believe that it is all of it."""

    candidates: Matrix
    """Columns that δ_0 takes to zero, up to the error of the certificate."""
    certificate: RankCertificate
    """Of δ_0; over floats ``smallest`` is a proven lower bound and ``next`` an upper one."""

    @property
    def basis(self) -> Matrix:
        """A basis of the global sections, ``[Σ dim F(v), dim H⁰]``; orthonormal over floats.

        Raises:
            UndecidedRankError: The certificate does not decide how many there are.
        """
        self.certificate.value("δ_0")
        return self.candidates


def sections_of(equations: Equations, field: Field) -> Sections:
    """All solutions of the equations over their field.

    Raises:
        LerayError: The basis would be too large to write down; over ℚ, sections whose numerators
            and denominators exceed about 32,000.
    """
    if isinstance(field, PrimeField):
        basis = _modular(equations, field.p)
        return Sections(basis, _exactly(equations, basis))
    if not isinstance(field, Floats) or (field.error == 0 and _is_integer(equations.matrix)):
        basis = _lifted(equations, _modular(equations, LARGEST_PRIME))
        if basis is not None:
            made = field.matrix(basis)
            return Sections(
                made if field.exact else torch.linalg.qr(made)[0], _exactly(equations, basis)
            )
    if isinstance(field, Floats):
        return _by_inertia(equations, field)
    raise LerayError(
        f"the sections over {field.name} have numerators or denominators above "
        f"{math.isqrt(LARGEST_PRIME // 2)}, too large to lift; count them over GF(p)"
    )


def _exactly(equations: Equations, basis: np.ndarray) -> RankCertificate:
    rows, columns = _shape(equations.matrix)
    return exact_certificate(columns - basis.shape[1], (rows, columns))


def _modular(equations: Equations, p: int) -> np.ndarray:
    """The kernel modulo p, eliminating from the leaves of a spanning forest to its roots."""
    order, _ = _walk(equations.edges, len(equations.vertex_dims))
    columns = _spread(order[::-1], equations.vertex_dims)
    found = sparse_kernel(sparse.csr_array(equations.matrix[:, columns]), p)
    out = np.empty_like(found)
    out[columns] = found
    return out


def _lifted(equations: Equations, residues: np.ndarray) -> np.ndarray | None:
    """Integers that solve the equations over ℚ and reduce to multiples of the residues, if found.

    They are independent as the residues are.
    """
    p, bound = LARGEST_PRIME, math.isqrt(LARGEST_PRIME // 2)
    out = residues.copy()
    for column in out.T:
        scale = 1
        while True:
            balanced = scale * column % p
            balanced[balanced > p // 2] -= p
            large = np.abs(balanced) > bound
            if not large.any():
                break
            denominator = _denominator(int(balanced[large.argmax()]) % p, p, bound)
            scale *= denominator
            if denominator == 1 or scale > bound:
                return None
        column[:] = balanced
    entries = sparse.csr_array(equations.matrix.astype(np.int64))
    heaviest = max(abs(entries).sum(axis=1).max(initial=0), 1)
    if heaviest * bound >= 2**62 or (entries @ out).any():
        return None
    return out


def _denominator(residue: int, p: int, bound: int) -> int:
    """The b of a/b ≡ residue modulo p with |a| ≤ bound, by half of Euclid's algorithm."""
    r0, r1, s0, s1 = p, residue, 0, 1
    while r1 > bound:
        q = r0 // r1
        r0, r1, s0, s1 = r1, r0 - q * r1, s1, s0 - q * s1
    return abs(s1)


def _by_inertia(equations: Equations, field: Floats) -> Sections:
    """The kernel over floats, by 1 to 3 above on a growing set of edges."""
    a, unit = equations.matrix, torch.finfo(field.dtype).eps
    (rows, columns), norm = _shape(a), _norm(a)
    error = field.error + (unit + max(rows, columns, 1) * EPS) * norm
    threshold = max(2 * MARGIN * error, RESOLVED * norm) or 1.0
    owner = np.repeat(np.arange(len(equations.edges)), equations.edge_dims)
    chosen, count = _first_edges(equations), columns + 1
    more = 16
    while True:
        part, before = sparse.csr_array(a[chosen[owner]]), count
        split = _split(part, threshold, norm)
        count = split.count
        if columns * count**2 > MOST_WORK and count < before and not chosen.all():
            chosen = _twice(equations, chosen)
            continue
        basis, following = _lowest(part, split, error)
        left = a @ basis
        size = float(np.linalg.norm(left)) + 2 * EPS * math.sqrt(count) * norm
        if size <= error:
            smallest = split.raised(following) if columns > count else math.inf
            found = RankCertificate(
                rank=columns - count, shape=(rows, columns), exact=False, error=error,
                smallest=smallest, next=size,
            )  # fmt: skip
            return Sections(field.matrix(basis), found)
        if chosen.all():
            return _undecided(basis, left, split.threshold, error, field)
        broken = np.bincount(owner, (left**2).sum(axis=1), len(chosen))
        broken[chosen] = -1
        more = max(4 * more, 2 * count)
        chosen[np.argsort(-broken)[:more]] = True
        chosen |= chosen.mean() > 0.5


def _undecided(
    basis: np.ndarray, left: np.ndarray, threshold: float, error: float, field: Floats
) -> Sections:
    """Singular values between the error and the threshold, which nothing here can tell apart."""
    values = np.linalg.norm(left, axis=0)
    zero = values <= error
    smallest = float(values[~zero].min(initial=math.inf))
    rows, columns = left.shape[0], basis.shape[0]
    certificate = RankCertificate(
        rank=columns - int(zero.sum()), shape=(rows, columns), exact=False, smallest=smallest,
        error=max(error, threshold / MARGIN), next=float(values[zero].max(initial=0.0)),
    )  # fmt: skip
    return Sections(field.matrix(basis[:, zero]), certificate)


@dataclass(frozen=True, eq=False)
class _Split:
    """How many singular values of a matrix may lie below a threshold, and a bound on the others."""

    gram: sparse.csc_array
    norm: float
    terms: int
    """The most terms in a sum of the product δᵀδ."""
    threshold: float
    count: int
    floor: float
    """Proven: all but ``count`` singular values are at least this."""

    def raised(self, following: float) -> float:
        """A higher floor, if there is one not far below what is about the next singular value."""
        for t in (following / 2, following / 16):
            if self.threshold < t < math.inf:
                count, floor = _below(self.gram, t, self.norm, self.terms)
                if count == self.count and floor > self.floor:
                    return floor
        return self.floor


def _split(a: sparse.csr_array, threshold: float, norm: float) -> _Split:
    gram = sparse.csc_array(a.T @ a)
    terms = int(np.bincount(a.indices, minlength=1).max(initial=0))
    for k in range(12):
        t = 2**k * threshold
        count, floor = _below(gram, t, norm, terms)
        if floor:
            return _Split(gram, norm, terms, t, count, floor)
    raise LerayError(
        "no threshold separates the singular values of δ_0 in float64: scale the restrictions to "
        "similar sizes"
    )


def _lowest(a: sparse.csr_array, split: _Split, goal: float) -> tuple[np.ndarray, float]:
    """The right singular vectors below the threshold, and about the next singular value."""
    n, k = _shape(split.gram)[0], split.count
    if n * (k + 2) > MOST_ENTRIES:
        raise LerayError(
            f"there are up to {k} sections: a basis of {n} × {k} is more than {MOST_ENTRIES} "
            "entries; take the components of the graph one by one"
        )
    lu = _factored(split.gram, (split.threshold / 10) ** 2)
    # Any start will do, for what it leads to is checked; this one is the same every time.
    x = np.linalg.qr(np.random.default_rng(0).normal(size=(n, min(k + 2, n))))[0]
    values = low = np.zeros(0)
    for _ in range(6):
        # s²(δᵀδ + s²)⁻¹x, written so that rounding is relative to δx, which goes to zero.
        x = np.linalg.qr(x - lu.solve(a.T @ (a @ x)))[0]
        moved = a @ x
        values, turned = np.linalg.eigh(moved.T @ moved)
        x = x @ turned
        low = np.ascontiguousarray(x[:, :k])
        if np.linalg.norm(a @ low) <= goal / 4:
            break
    return low, math.sqrt(max(values[k], 0.0)) if n > k else math.inf


def _below(gram: sparse.csc_array, t: float, norm: float, terms: int) -> tuple[int, float]:
    """How many eigenvalues of δᵀδ may lie below t², and a proven bound for all others; 0 if none.

    Where the pivots are not diagonal or the factors grow too much, nothing is proven.
    """
    try:
        lu = _factored(gram, -(t**2))
    except RuntimeError:  # a pivot is exactly zero
        return 0, 0.0
    lower, upper = abs(lu.L), sparse.csr_array(lu.U)
    if not np.array_equal(lu.perm_r, lu.perm_c):
        return 0, 0.0
    pivots = upper.diagonal()
    turned = abs(sparse.csr_array(lu.L.T.multiply(pivots[:, None])) - upper)
    longest = int(np.bincount(lower.indices).max()) + 1
    rounding = longest * EPS * _norm_of_product(lower, abs(upper))
    rounding += _norm_of_product(lower, turned) + (terms + 2) * EPS * norm**2
    rest = t**2 - 1.01 * rounding
    return int((pivots < 0).sum()), math.sqrt(rest) if rest > t**2 / 4 else 0.0


def _factored(gram: sparse.csc_array, shift: float) -> SuperLU:
    """δᵀδ + shift = LU by diagonal pivots, so that U = DLᵀ up to rounding."""
    shifted = sparse.csc_array(gram + shift * sparse.eye_array(_shape(gram)[0]))
    options = {"SymmetricMode": True}
    return splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)


def _norm_of_product(a: _Sparse, b: _Sparse) -> float:
    """A bound on the spectral norm of ab, both without negative entries, not multiplied out."""
    rows = a @ (b @ np.ones(_shape(b)[1]))
    columns = b.T @ (a.T @ np.ones(_shape(a)[0]))
    return math.sqrt(float(np.max(rows, initial=0.0)) * float(np.max(columns, initial=0.0)))


def _norm(a: sparse.csr_array) -> float:
    """A bound on the spectral norm of |a|."""
    absolute = abs(a)
    rows, columns = absolute.sum(axis=1), absolute.sum(axis=0)
    return math.sqrt(rows.max(initial=0.0) * columns.max(initial=0.0))


def _first_edges(equations: Equations) -> np.ndarray:
    """Spanning forests, one after the other, until there are as many equations as unknowns."""
    chosen = _with_forest(equations, np.zeros(len(equations.edges), dtype=bool))
    # Nine tenths: a forest lacks the equations of its roots, which are those of the sections.
    while equations.edge_dims[chosen].sum() < 0.9 * equations.vertex_dims.sum():
        if chosen.all():
            break
        chosen = _with_forest(equations, chosen)
    return chosen


def _twice(equations: Equations, chosen: np.ndarray) -> np.ndarray:
    """More forests, until there are twice as many edges or all."""
    goal = min(2 * int(chosen.sum()), len(chosen))
    while chosen.sum() < goal:
        chosen = _with_forest(equations, chosen)
    return chosen


def _with_forest(equations: Equations, chosen: np.ndarray) -> np.ndarray:
    """These edges and a spanning forest of the graph of all others."""
    places = np.flatnonzero(~chosen)
    _, tree = _walk(equations.edges[places], len(equations.vertex_dims))
    out = chosen.copy()
    out[places[tree]] = True
    return out


def _walk(edges: np.ndarray, num_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """The vertices, each component from a root outwards; and which edges join one to its parent."""
    n = num_vertices
    graph = sparse.coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    roots = np.unique(labels, return_index=True)[1]
    # One more vertex joined to every root: a single walk reaches all components.
    tails, heads = np.append(edges[:, 0], np.full(len(roots), n)), np.append(edges[:, 1], roots)
    joined = sparse.csr_array((np.ones(len(tails)), (tails, heads)), shape=(n + 1, n + 1))
    order, parents = breadth_first_order(joined, n, directed=False)
    tree = (parents[edges[:, 0]] == edges[:, 1]) | (parents[edges[:, 1]] == edges[:, 0])
    return order[1:], tree


def _spread(order: np.ndarray, dims: np.ndarray) -> np.ndarray:
    """The coordinates of the stalks, stalk by stalk in this order."""
    ends, sizes = np.cumsum(dims), dims[order]
    firsts = (ends - dims)[order] - (np.cumsum(sizes) - sizes)
    return np.repeat(firsts, sizes) + np.arange(int(sizes.sum()))


def _is_integer(a: sparse.csr_array) -> bool:
    data = a.data
    return bool((np.abs(data) <= LARGEST_INTEGER).all() and (data == np.round(data)).all())


def _shape(a: _Sparse) -> tuple[int, int]:
    return cast("tuple[int, int]", a.shape)

"""The moment table: what one pass over the rows keeps, and all that linear questions need.

For signals x (d of them) and truth y, every conversation c (the *cluster*: what is resampled)
keeps M_c = Σ v vᵀ over its rows, with v = (1, x − o_x, y − o_y) and o a fixed origin near the
mean, so that nothing cancels. M_c is symmetric: (d+2)(d+3)/2 numbers, packed row by row from its
upper triangle. Tables add, so they stream and merge; a resample of conversations is a product
``counts @ sums``.

Notation: d signals, C clusters, K = (d+2)(d+3)/2, S the covariance of the signals, b their
covariance with y, s the variance of y (all with divisor n). Leading axes broadcast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from leray.evidence.compiled import compiled

Array = np.ndarray


class Covariances(NamedTuple):
    """Second moments about the mean: ``S [..., d, d]``, ``b [..., d]``, ``s [...]``."""

    S: Array
    b: Array
    s: Array


@dataclass(frozen=True, kw_only=True)
class MomentTable:
    """Second moments of (1, x − origin_x, y − origin_y), a row for each cluster.

    Args:
        signals: The names of the d signals.
        clusters: The ids of the C clusters.
        origin: What was subtracted from (x, y), shape ``[d + 1]``.
        sums: The packed sums, float64, shape ``[C, K]``.
    """

    signals: tuple[str, ...]
    clusters: tuple[str, ...]
    origin: Float[Array, " variables"]
    sums: Float[Array, "clusters packed"]

    def __post_init__(self) -> None:
        d = len(self.signals)
        want = (len(self.clusters), (d + 2) * (d + 3) // 2)
        if self.sums.shape != want or self.origin.shape != (d + 1,):
            raise ValueError(
                f"a moment table of {d} signals and {len(self.clusters)} clusters needs sums of "
                f"shape {want} and an origin of shape {(d + 1,)}; got {self.sums.shape} and "
                f"{self.origin.shape}"
            )

    @property
    def num_rows(self) -> int:
        """How many rows all clusters hold together."""
        return round(float(self.sums[:, 0].sum()))

    @property
    def total(self) -> Float[Array, " packed"]:
        """The sums over all clusters."""
        return self.sums.sum(axis=0)

    def merge(self, other: MomentTable) -> MomentTable:
        """The table of both row sets; a cluster that stands in both becomes one.

        Raises:
            ValueError: if the signals differ.
        """
        if other.signals != self.signals:
            raise ValueError(f"cannot merge signals {self.signals} with {other.signals}")
        there = other.rebase(self.origin)
        names = dict.fromkeys(self.clusters + there.clusters)
        place = {name: k for k, name in enumerate(names)}
        sums = np.zeros((len(names), self.sums.shape[1]))
        np.add.at(sums, [place[c] for c in self.clusters], self.sums)
        np.add.at(sums, [place[c] for c in there.clusters], there.sums)
        return MomentTable(
            signals=self.signals, clusters=tuple(names), origin=self.origin, sums=sums
        )

    def rebase(self, origin: Float[Array, " variables"]) -> MomentTable:
        """The same rows about another origin: M' = A M Aᵀ with A = I, but A[1:, 0] = o − o'."""
        A = np.eye(len(self.origin) + 1)
        A[1:, 0] = self.origin - origin
        moved = A @ unpack(self.sums) @ A.T
        return MomentTable(
            signals=self.signals, clusters=self.clusters, origin=origin.copy(), sums=pack(moved)
        )

    def select(self, signals: Sequence[str]) -> MomentTable:
        """The table of some of the signals, in the order given."""
        index = [self.signals.index(name) for name in signals]
        keep = [0, *(i + 1 for i in index), len(self.signals) + 1]
        return MomentTable(
            signals=tuple(signals),
            clusters=self.clusters,
            origin=self.origin[[k - 1 for k in keep[1:]]],
            sums=pack(unpack(self.sums)[:, keep][:, :, keep]),
        )


@cache
def _upper(v: int) -> tuple[Array, Array]:
    """Rows and columns of the upper triangle: asked for at every evaluation of a search."""
    return np.triu_indices(v)


def pack(matrices: Float[Array, "*batch v v"]) -> Float[Array, "*batch packed"]:
    """The upper triangle of symmetric matrices, row by row."""
    i, j = _upper(matrices.shape[-1])
    return matrices[..., i, j]


def unpack(packed: Float[Array, "*batch packed"]) -> Float[Array, "*batch v v"]:
    """The symmetric matrices that :func:`pack` packed."""
    v = int((np.sqrt(8 * packed.shape[-1] + 1) - 1) / 2)
    i, j = _upper(v)
    full = np.empty((*packed.shape[:-1], v, v))
    full[..., i, j] = packed
    full[..., j, i] = packed
    return full


def moment_table(blocks: Iterable[tuple[str, Array, Array]], signals: Sequence[str]) -> MomentTable:
    """Stream blocks of rows into a table, in constant memory.

    Args:
        blocks: Triples (cluster id, x ``[d, rows]``, y ``[rows]``); a cluster may come in several.
            x has a signal a row, so that each signal is contiguous.
        signals: The d names.

    Returns:
        The table, about the mean of the first block.

    Raises:
        ValueError: for a shape that does not fit, for values that are not finite, or no rows.

    Cost: one pass; d²/2 multiplications a row.
    """
    d = len(signals)
    origin: Array | None = None
    sums: dict[str, Array] = {}
    for cluster, x, y in blocks:
        if x.ndim != 2 or x.shape != (d, len(y)):
            raise ValueError(f"cluster {cluster!r}: x must be [{d}, {len(y)}], got {x.shape}")
        if len(y) == 0:
            continue
        if origin is None:
            origin = np.append(x.mean(axis=1, dtype=np.float64), y.mean(dtype=np.float64))
        block = _block_sums(x, np.ascontiguousarray(y, dtype=np.float64), origin)
        if not np.isfinite(block).all():
            raise ValueError(f"cluster {cluster!r} holds a value that is not finite")
        sums[cluster] = sums[cluster] + block if cluster in sums else block
    if origin is None:
        raise ValueError("no rows: a moment table needs at least one")
    return MomentTable(
        signals=tuple(signals), clusters=tuple(sums), origin=origin, sums=np.stack([*sums.values()])
    )


def covariances(packed: Float[Array, "*batch packed"]) -> Covariances:
    """Centre packed sums: covariances with divisor n (the ratio r does not depend on it)."""
    full = unpack(packed)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = full[..., 0, 1:] / full[..., 0, :1]
        central = full[..., 1:, 1:] / full[..., :1, :1] - mean[..., :, None] * mean[..., None, :]
    return Covariances(central[..., :-1, :-1], central[..., :-1, -1], central[..., -1, -1])


def pearson(
    packed: Float[Array, "*batch packed"], weights: Float[Array, "configurations d"]
) -> Float[Array, "*batch configurations"]:
    """Pearson's r between Σ w_j x_j and y for every row of weights: wᵀb / √(wᵀSw · s).

    Zero where either side is constant.
    """
    S, b, s = covariances(packed)
    d = weights.shape[1]
    i, j = _upper(d)
    products = weights[:, i] * weights[:, j] * np.where(i == j, 1.0, 2.0)
    variance = S[..., i, j] @ products.T
    scale = np.sqrt(np.maximum(variance, 0.0) * np.maximum(s, 0.0)[..., None])
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (b @ weights.T) / scale
    return np.where(scale > 0, r, 0.0)


def _block_sums(x: Array, y: Array, origin: Array) -> Array:
    v = x.shape[0] + 2
    return _sums_kernel(np.ascontiguousarray(x), y, origin, np.zeros(v * (v + 1) // 2))


_TILE = 1024  # rows that stay in the first-level cache while every pair of columns is multiplied


@compiled
def _sums_kernel(x, y, origin, out):
    d, n = x.shape
    tile = np.empty((d + 2, _TILE))
    tile[0] = 1.0
    for start in range(0, n, _TILE):
        m = min(_TILE, n - start)
        for j in range(d):
            for t in range(m):
                tile[j + 1, t] = x[j, start + t] - origin[j]
        for t in range(m):
            tile[d + 1, t] = y[start + t] - origin[d]
        k = 0
        for i in range(d + 2):
            for j in range(i, d + 2):
                total = 0.0
                for t in range(m):
                    total += tile[i, t] * tile[j, t]
                out[k] += total
                k += 1
    return out

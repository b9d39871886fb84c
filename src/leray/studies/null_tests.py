"""Tests of planted data sets: the p-value of each way to permute, for the largest r of the simplex.

Each is made as a study makes it, from the same parts; what differs is the group, and so what must
not depend on what for the test to keep its level.
"""

from __future__ import annotations

import numpy as np

from leray.evidence.moments import covariances
from leray.evidence.optimum import fixed_optimum
from leray.evidence.permutation import p_value, rotation_products, shift_products, sign_flips
from leray.evidence.resampling import GroupTest
from leray.memory.synthetic import Planted
from leray.runs.seeds import Key


def rotation_p_value(planted: Planted, num_draws: int, key: Key) -> float:
    """The rotation test of a data set as the study makes it: rotations by conversation."""
    x, y = planted.rows()
    total = covariances(planted.moments().sum(axis=0))
    x_mean, y_mean = x.mean(axis=1)[:, None], y.mean()
    products = []
    for queries in planted.conversations():
        lists = [(q, slice(planted.lengths[q])) for q in queries]
        labels = [planted.y[q, seen] - y_mean for q, seen in lists]
        products.append(rotation_products([planted.x[q, :, s] - x_mean for q, s in lists], labels))
    test = GroupTest(
        products=np.concatenate(products),
        starts=np.cumsum([0, *map(len, products)]),
        columns=np.arange(len(x))[None],
        S=total.S[None],
        s=float(total.s),
        num_rows=len(y),
        num_permutations=num_draws,
        permutations_per_step=num_draws,
        num_shards=1,
    )
    return test.result([[test.step({}, 0, key)[1]]]).p_value


def score_flip_p_value(planted: Planted, num_draws: int, rng: np.random.Generator) -> float:
    """Flip the sign of each conversation's Xᵀy, y about the mean of its list.

    Under the null of no mean association it has mean 0, whatever depends on what within the
    conversation; exact where it is symmetric, otherwise as C grows.
    """
    total = covariances(planted.moments().sum(axis=0))
    seen = planted.seen
    y = np.where(seen, planted.y, 0.0)
    y = np.where(seen, y - (y.sum(axis=1) / planted.lengths)[:, None], 0.0)
    sums = np.add.reduceat(np.einsum("qjt,qt->qj", planted.x, y), planted.starts, axis=0)
    flips, exact = sign_flips(len(sums), num_draws, rng)
    n = planted.lengths.sum()
    largest = fixed_optimum(
        total.S, np.vstack([sums.sum(axis=0), flips @ sums]) / n, float(total.s)
    )
    return p_value(largest[1:], float(largest[0]), identity_in_null=exact)


def free_p_value(planted: Planted, rng: np.random.Generator) -> float:
    """Rows permuted as if they were exchangeable, which they are not: the naive test."""
    x, y = planted.rows()
    total = covariances(planted.moments().sum(axis=0))
    products = shift_products(x - x.mean(axis=1)[:, None], y - y.mean(), rng)
    largest = fixed_optimum(total.S, products / len(y), float(total.s))
    return p_value(largest, float(largest[0]), identity_in_null=True)

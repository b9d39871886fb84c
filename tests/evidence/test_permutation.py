"""Permutation tests against brute force, scipy, and their own promise under the null."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leray.evidence.permutation import (
    draw_elements,
    p_value,
    rotation_products,
    shift_products,
    sign_flip_test,
    sign_flips,
)

EPS = np.finfo(np.float64).eps
seeds = st.integers(0, 9_999)


def queries(seed: int, sizes: list[int], d: int = 2) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((d, n)) for n in sizes]
    return x, [rng.standard_normal(n) for n in sizes]


def rounding(x: list[np.ndarray], y: list[np.ndarray]) -> float:
    """An FFT of n numbers loses about ε log₂n of the norms: Σ_q |x_q||y_q|, ten times over."""
    return (
        10
        * EPS
        * sum(
            (1 + np.log2(len(b))) * np.linalg.norm(a) * np.linalg.norm(b)
            for a, b in zip(x, y, strict=True)
        )
    )


@given(seed=seeds, sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_rotations_are_those_of_roll(seed: int, sizes: list[int]) -> None:
    """Oracle: a loop over angles and queries, each label list turned by its share of the angle."""
    x, y = queries(seed, sizes)
    N = max(sizes)
    expected = [
        sum(
            (a @ np.roll(b, k * len(b) // N) for a, b in zip(x, y, strict=True)),
            start=np.zeros(2),
        )
        for k in range(N)
    ]
    np.testing.assert_allclose(rotation_products(x, y), expected, rtol=0, atol=rounding(x, y))


def test_the_first_rotation_is_none() -> None:
    """Identity: row 0 is Xᵀy itself."""
    x, y = queries(1, [7, 9, 4])
    expected = sum(a @ b for a, b in zip(x, y, strict=True))
    np.testing.assert_allclose(rotation_products(x, y)[0], expected, atol=rounding(x, y))


@given(seed=seeds, sizes=st.lists(st.integers(1, 15), min_size=1, max_size=6))
def test_rotating_lists_that_grow_keeps_each_querys_labels(seed: int, sizes: list[int]) -> None:
    """Identity: with indicators of the queries as signals, every row counts their labels."""
    rng = np.random.default_rng(seed)
    y = [(rng.random(n) < 0.4).astype(float) for n in sizes]
    x = [np.zeros((len(sizes), n)) for n in sizes]
    for q, ones in enumerate(x):
        ones[q] = 1.0
    counts = rotation_products(x, y)
    expected = np.tile([labels.sum() for labels in y], (max(sizes), 1))
    np.testing.assert_allclose(counts, expected, atol=rounding(x, y))


def test_equal_lists_make_a_group() -> None:
    """Identity: rotating the labels beforehand only moves the rows, so the set stays the same."""
    x, y = queries(2, [11, 11, 11])
    turned = rotation_products(x, [np.roll(b, 4) for b in y])
    expected = np.roll(rotation_products(x, y), -4, axis=0)
    np.testing.assert_allclose(turned, expected, atol=rounding(x, y))


def test_drawn_rotations_are_sums_of_one_row_of_each_table() -> None:
    """Oracle: every combination of angles is found, about equally often, and nothing else.

    Statistical part: 6,000 draws over 6 combinations; 1,000 ± 5 √(6,000 · 1/6 · 5/6).
    """
    tables = [np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [10.0]])]
    drawn = draw_elements(tables, 6_000, np.random.default_rng(3))
    values, counts = np.unique(drawn[:, 0], return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 2, 10, 11, 12])
    np.testing.assert_allclose(counts, 1_000, atol=5 * np.sqrt(6_000 * 5 / 36))


@given(seed=seeds, n=st.integers(1, 14))
def test_shifts_are_those_of_a_conjugate_of_roll(seed: int, n: int) -> None:
    """Oracle: x in a random order against y in that order, rolled; the identity comes first."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((3, n)), rng.standard_normal(n)
    order = np.random.default_rng(seed + 1).permutation(n)
    expected = [x[:, order] @ np.roll(y[order], k) for k in range(n)]
    found = shift_products(x, y, np.random.default_rng(seed + 1))
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding([x], [y]))
    np.testing.assert_allclose(found[0], x @ y, rtol=0, atol=rounding([x], [y]))


@given(null=st.lists(st.floats(-5, 5), min_size=1, max_size=40), observed=st.floats(-9, 9))
def test_p_is_a_share_of_the_group_and_never_zero(null: list[float], observed: float) -> None:
    """Identity: with the identity among the draws or beside them, 1/group ≤ p ≤ 1."""
    draws = np.array(null)
    beside = p_value(draws, observed, identity_in_null=False)
    assert 1 / (len(null) + 1) <= beside <= 1
    among = p_value(np.append(draws, observed), observed, identity_in_null=True)
    assert 1 / (len(null) + 1) <= among <= 1
    assert among == pytest.approx(beside)


def test_one_value_computed_in_two_ways_is_a_tie() -> None:
    """Identity: (.1 + .2) + .3 counts as at least .1 + (.2 + .3), which rounds otherwise."""
    one, other = (0.1 + 0.2) + 0.3, 0.1 + (0.2 + 0.3)
    assert one != other
    for null, observed in ((one, other), (other, one), (-one, -other), (-other, -one)):
        assert p_value(np.array([null]), observed, identity_in_null=True) == 1


def test_few_clusters_enumerate_all_signs() -> None:
    """Oracle: the 2^C rows of itertools, each once; above the limit, the number asked for."""
    flips, exact = sign_flips(4, 10, np.random.default_rng(0))
    assert exact
    assert {tuple(row) for row in flips} == set(product((-1.0, 1.0), repeat=4))
    assert len(flips) == 16
    flips, exact = sign_flips(30, 10, np.random.default_rng(0))
    assert not exact
    assert flips.shape == (10, 30)
    assert set(np.unique(flips)) == {-1.0, 1.0}


@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_are_scipys(seed: int) -> None:
    """Oracle: permutation_test with permutation_type="samples", all 2^C flips, two-sided.

    scipy doubles the smaller tail; the statistic is symmetric under a flip of all signs, so that
    is the share of |Σδ| at least the observed, as ours. √Σδ² does not change under flips.
    """
    differences = np.random.default_rng(seed).normal(0.4, 1.0, 9)
    (ours,) = sign_flip_test(differences[:, None], 10, np.random.default_rng(0))
    theirs = stats.permutation_test(
        (differences,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=1_000,
    )
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-12)
    assert ours.num_permutations == 2**9
    assert ours.two_sided
    assert ours.statistic == pytest.approx(
        abs(differences.sum()) / np.linalg.norm(differences), rel=1e-12
    )


def test_the_maximum_over_comparisons_is_brute_force() -> None:
    """Oracle: a loop over all flips and comparisons; each is compared with the largest."""
    differences = np.random.default_rng(5).normal(0.3, 1.0, (7, 3))
    unit = differences / np.linalg.norm(differences, axis=0)
    largest = [max(abs(np.dot(f, u)) for u in unit.T) for f in product((1, -1), repeat=7)]
    for result, u in zip(
        sign_flip_test(differences, 10, np.random.default_rng(0)), unit.T, strict=True
    ):
        expected = np.mean([value >= abs(u.sum()) * (1 - 1e-12) for value in largest])
        assert result.p_value == pytest.approx(expected, abs=1e-12)


@given(seed=seeds, scale=st.floats(1e-6, 1e6))
def test_no_comparison_gains_by_its_units(seed: int, scale: float) -> None:
    """Identity: multiplying one comparison leaves every p-value as it is."""
    differences = np.random.default_rng(seed).standard_normal((6, 3))
    before = sign_flip_test(differences, 10, np.random.default_rng(0))
    after = sign_flip_test(differences * [1, scale, 1], 10, np.random.default_rng(0))
    assert [r.p_value for r in before] == [r.p_value for r in after]


def test_a_comparison_without_a_difference_has_p_one() -> None:
    """Identity: all zero against itself, beside one that differs."""
    differences = np.column_stack([np.zeros(8), np.ones(8)])
    nothing, everything = sign_flip_test(differences, 10, np.random.default_rng(0))
    assert nothing.p_value == 1
    assert everything.p_value == 2 / 2**8


def test_p_is_uniform_where_rows_are_exchangeable() -> None:
    """Statistical: 2,000 null data sets, the 40 shifts of one conjugate each, largest of 3 signals.

    The group has 40 elements, so p is uniform on {1/40, …, 1}; #{p ≤ a} is binomial.
    """
    rng = np.random.default_rng(6)
    n, runs = 40, 2_000
    p = np.empty(runs)
    for k in range(runs):
        null = shift_products(rng.standard_normal((3, n)), rng.standard_normal(n), rng).max(axis=1)
        p[k] = p_value(null, null[0], identity_in_null=True)
    assert p.min() >= 1 / n
    for a in (0.05, 0.1, 0.5, 0.9):
        assert abs((p <= a + 1e-9).mean() - a) <= 4.5 * np.sqrt(a * (1 - a) / runs)


def test_p_is_uniform_under_rotations_where_labels_are_stationary() -> None:
    """Statistical: 1,000 null data sets of 4 conversations; signals and labels both AR-like rings.

    Labels are moving averages around a ring, so every rotation has the same law however strongly
    neighbours depend on each other; p = (b + 1)/(m + 1) with m = 99 is uniform on {.01, …, 1}.
    """
    rng = np.random.default_rng(7)
    n, runs = 30, 1_000
    p = np.empty(runs)

    def ring() -> np.ndarray:
        noise = np.fft.rfft(rng.standard_normal((1, n)))
        return np.fft.irfft(noise / (1 + 5 * np.arange(noise.shape[1])), n)

    for k in range(runs):
        tables = [rotation_products([ring()], [ring()[0]]) for _ in range(4)]
        observed = float(sum(t[0, 0] for t in tables))
        p[k] = p_value(draw_elements(tables, 99, rng)[:, 0], observed, identity_in_null=False)
    for a in (0.05, 0.1, 0.5, 0.9):
        assert abs((p <= a + 1e-9).mean() - a) <= 4.5 * np.sqrt(a * (1 - a) / runs)

"""The moment table against the raw rows, and that tables add."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from leray.evidence.moments import (
    MomentTable,
    covariances,
    moment_table,
    pack,
    pearson,
    unpack,
)

Blocks = list[tuple[str, np.ndarray, np.ndarray]]
EPS = np.finfo(np.float64).eps


def random_blocks(seed: int, sizes: list[int], d: int = 3, shift: float = 0.0) -> Blocks:
    """Blocks of correlated rows; clusters a, b, c come again after the third block."""
    rng = np.random.default_rng(seed)
    blocks = []
    for k, n in enumerate(sizes):
        x = rng.standard_normal((d, n)) * np.arange(1, d + 1)[:, None]
        y = x[0] - 0.3 * x[-1] + rng.standard_normal(n)
        blocks.append(("abc"[k % 3], x + shift, y + shift))
    return blocks


def names(d: int) -> tuple[str, ...]:
    return tuple(f"s{j}" for j in range(d))


def all_rows(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.concatenate([x for _, x, _ in blocks], axis=1).astype(np.float64),
        np.concatenate([y for _, _, y in blocks]).astype(np.float64),
    )


def by_cluster(table: MomentTable) -> np.ndarray:
    """Sums with the clusters in alphabetical order, about the origin zero."""
    order = np.argsort(table.clusters)
    return table.rebase(np.zeros_like(table.origin)).sums[order]


def scipys_r(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.asarray(pearsonr(x, y))[0])


@pytest.mark.parametrize("shift", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pearson_is_that_of_the_raw_rows(dtype: type, shift: float) -> None:
    """Oracle: scipy.stats.pearsonr of X w with y, to 1e-10, whatever the centre and the type."""
    blocks = [
        (c, x.astype(dtype), y.astype(dtype))
        for c, x, y in random_blocks(1, [400, 1, 2500, 700, 0, 33, 1024], shift=shift)
    ]
    x, y = all_rows(blocks)
    rng = np.random.default_rng(2)
    weights = np.concatenate([np.eye(3), rng.dirichlet(np.ones(3), 6), rng.standard_normal((3, 3))])
    table = moment_table(blocks, names(3))
    # The reference sees rows centred beforehand, which changes no correlation; at a shift of 1e6
    # its own product w @ x would lose ε · 1e6 ≈ 2e-10 a row.
    centred = x - x.mean(axis=1, keepdims=True)
    expected = [scipys_r(w @ centred, y - y.mean()) for w in weights]
    np.testing.assert_allclose(pearson(table.total, weights), expected, rtol=0, atol=1e-10)


def test_pearson_of_each_cluster_is_that_of_its_rows() -> None:
    """Oracle: numpy's corrcoef within each cluster, whose rows came in several blocks."""
    blocks = random_blocks(3, [50, 60, 70, 80, 90, 100])
    table = moment_table(blocks, names(3))
    w = np.array([[0.2, 0.5, 0.3]])
    for k, cluster in enumerate(table.clusters):
        x, y = all_rows([b for b in blocks if b[0] == cluster])
        expected = np.corrcoef(w[0] @ x, y)[0, 1]
        assert pearson(table.sums, w)[k, 0] == pytest.approx(expected, abs=1e-10)


def test_covariances_are_numpys() -> None:
    """Oracle: numpy.cov with divisor n, to 1e-10."""
    blocks = random_blocks(4, [300, 200], d=4)
    x, y = all_rows(blocks)
    S, b, s = covariances(moment_table(blocks, names(4)).total)
    expected = np.cov(np.vstack([x, y]), bias=True)
    np.testing.assert_allclose(S, expected[:-1, :-1], atol=1e-10)
    np.testing.assert_allclose(b, expected[:-1, -1], atol=1e-10)
    np.testing.assert_allclose(s, expected[-1, -1], atol=1e-10)


def test_boolean_truth_and_strided_rows_are_read_as_they_stand() -> None:
    """Oracle: pearsonr; x transposed (not contiguous) and every second row, y boolean."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((2000, 2)).T[:, ::2], rng.random(1000) < 0.1
    r = pearson(moment_table([("a", x, y)], names(2)).total, np.eye(2))
    expected = [scipys_r(row, y.astype(float)) for row in x]
    np.testing.assert_allclose(r, expected, atol=1e-10)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    cut=st.integers(0, 5),
    seed=st.integers(0, 999),
)
def test_merging_is_streaming_the_whole(sizes: list[int], cut: int, seed: int) -> None:
    """Identity: any split of the blocks, merged, is the table of all of them."""
    blocks = random_blocks(seed, sizes, shift=3.0)
    cut = 1 + cut % (len(blocks) - 1)
    parts = [moment_table(b, names(3)) for b in (blocks[:cut], blocks[cut:])]
    merged, whole = parts[0].merge(parts[1]), moment_table(blocks, names(3))
    assert set(merged.clusters) == set(whole.clusters)
    assert merged.num_rows == whole.num_rows == sum(sizes)
    # Sums of at most 240 products, each below (3 + 5·3)², recentred once.
    tolerance = 240 * 18**2 * 8 * EPS * 10
    np.testing.assert_allclose(by_cluster(merged), by_cluster(whole), atol=tolerance, rtol=0)


@given(seed=st.integers(0, 999))
def test_merging_is_associative(seed: int) -> None:
    """Identity: (a + b) + c = a + (b + c)."""
    a, b, c = (moment_table([block], names(3)) for block in random_blocks(seed, [20, 30, 10]))
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    assert left.clusters == right.clusters
    tolerance = 60 * 15**2 * 8 * EPS * 10
    np.testing.assert_allclose(by_cluster(left), by_cluster(right), atol=tolerance, rtol=0)


def test_a_block_longer_than_a_tile_is_the_sum_of_its_pieces() -> None:
    """Identity: 5,000 rows at once, or in pieces of every size around the tile's 1,024."""
    ((_, x, y),) = random_blocks(6, [5000])
    cuts = [0, 1, 1024, 2047, 2048, 2049, 5000]
    pieces = [("a", x[:, i:j], y[i:j]) for i, j in pairwise(cuts)]
    whole, joined = moment_table([("a", x, y)], names(3)), moment_table(pieces, names(3))
    tolerance = 5000 * 15**2 * EPS * 10
    np.testing.assert_allclose(by_cluster(whole), by_cluster(joined), atol=tolerance, rtol=0)


@given(seed=st.integers(0, 999), shift=st.floats(-100, 100))
def test_another_origin_changes_no_correlation(seed: int, shift: float) -> None:
    """Identity: rebase moves the sums; covariances stay, and rebasing back gives the sums."""
    table = moment_table(random_blocks(seed, [30, 40]), names(3))
    moved = table.rebase(table.origin + shift)
    # Σ v² grows to 70·(15 + 100)², and centring cancels it: that is what is lost.
    tolerance = 70 * 115**2 * EPS * 10
    for before, after in zip(covariances(table.total), covariances(moved.total), strict=True):
        np.testing.assert_allclose(after, before, atol=tolerance, rtol=0)
    np.testing.assert_allclose(moved.rebase(table.origin).sums, table.sums, atol=tolerance, rtol=0)


@pytest.mark.parametrize("chosen", [("s2",), ("s2", "s0"), ("s1", "s0", "s2")])
def test_selecting_is_streaming_those_signals(chosen: tuple[str, ...]) -> None:
    """Identity: the table of some signals in some order, exactly."""
    blocks = random_blocks(7, [30, 40, 50, 60])
    rows = [int(c[1]) for c in chosen]
    selected = moment_table(blocks, names(3)).select(chosen)
    direct = moment_table([(c, x[rows], y) for c, x, y in blocks], chosen)
    assert selected.signals == chosen
    np.testing.assert_array_equal(selected.origin, direct.origin)
    np.testing.assert_array_equal(selected.sums, direct.sums)


@given(v=st.integers(1, 7), batch=st.integers(0, 3), seed=st.integers(0, 99))
def test_packing_is_undone_by_unpacking(v: int, batch: int, seed: int) -> None:
    """Identity: exactly, for any batch of symmetric matrices."""
    a = np.random.default_rng(seed).standard_normal((batch, v, v))
    symmetric = a + np.swapaxes(a, -1, -2)
    assert pack(symmetric).shape == (batch, v * (v + 1) // 2)
    np.testing.assert_array_equal(unpack(pack(symmetric)), symmetric)


def test_scores_that_are_constant_correlate_with_nothing() -> None:
    """Identity: r is 0 where the score or the truth is constant."""
    rng = np.random.default_rng(8)
    x = np.stack([np.full(50, 0.1), rng.standard_normal(50)])
    varying = moment_table([("a", x, rng.standard_normal(50))], names(2))
    constant = moment_table([("a", x, np.full(50, 0.7))], names(2))
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert pearson(varying.total, weights)[0] == 0
    np.testing.assert_array_equal(pearson(constant.total, weights), [0, 0])


@given(seed=st.integers(0, 999), n=st.integers(2, 400))
def test_a_cluster_whose_truth_is_constant_away_from_the_origin(seed: int, n: int) -> None:
    """Identity: r is 0 to rounding, and no warning where the variance rounds to below zero.

    With y = c in the cluster its variance rounds to 0 or to at least ε c²/2, and the covariance
    to a few ε c σ_x: r is at most a few √ε.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) == 0
    first, second = ((k, rng.standard_normal((1, n)), y & (k == "a")) for k in "ab")
    table = moment_table([first, second], ("x",))
    assert abs(pearson(table.sums, np.ones((1, 1)))[1, 0]) <= 10 * np.sqrt(EPS)


def test_empty_blocks_change_nothing() -> None:
    """Identity: a block without rows leaves the table as it is, and opens no cluster."""
    blocks = random_blocks(9, [20, 30])
    empty = ("z", np.empty((3, 0)), np.empty(0))
    table = moment_table([empty, *blocks, empty], names(3))
    assert table.clusters == ("a", "b")
    np.testing.assert_array_equal(table.sums, moment_table(blocks, names(3)).sums)


@pytest.mark.parametrize("blocks", [[], [("a", np.empty((3, 0)), np.empty(0))]])
def test_no_rows_are_refused(blocks: Blocks) -> None:
    """Golden: the error says what is needed."""
    with pytest.raises(ValueError, match="no rows"):
        moment_table(blocks, names(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.parametrize("block", [0, 1])
def test_values_that_are_not_finite_are_refused(bad: float, where: str, block: int) -> None:
    """Golden: the error names the cluster, whichever block and column hold the value."""
    blocks = random_blocks(10, [20, 30])
    cluster, x, y = blocks[block]
    (x[1] if where == "x" else y)[7] = bad
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match=f"{cluster!r} holds a value that is not finite"),
    ):
        moment_table(blocks, names(3))


@pytest.mark.parametrize("shape", [(2, 5), (3, 4), (15,)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    """Golden: the error says which shape was wanted and which came."""
    with pytest.raises(ValueError, match=r"x must be \[3, 5\], got"):
        moment_table([("a", np.zeros(shape), np.zeros(5))], names(3))


def test_tables_of_other_signals_or_shapes_are_refused() -> None:
    """Golden: merging other signals, and sums that do not fit the names."""
    table = moment_table(random_blocks(11, [20]), names(3))
    with pytest.raises(ValueError, match="cannot merge"):
        table.merge(moment_table(random_blocks(11, [20], d=2), names(2)))
    with pytest.raises(ValueError, match="needs sums of shape"):
        MomentTable(signals=("x",), clusters=("a",), origin=np.zeros(2), sums=np.zeros((1, 5)))

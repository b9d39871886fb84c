"""Gaussian vectors and their Gram matrices: published vectors, numpy's own draws, exact laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leray.memory.gram import (
    U,
    bartlett_columns,
    box_muller,
    chi_square,
    fill_normals,
    fill_uniforms,
    gram_of_columns,
    gram_of_rows,
    literal_rows,
    next_normals,
    padded,
    streams,
    threefry,
    xoshiro,
)

KNOWN = (  # Random123's known answers for threefry2x32, 20 rounds: key, counter, result
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
)
WORDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(("key", "counter", "want"), KNOWN)
def test_threefry_gives_the_known_answers(key, counter, want):
    """Oracle: the vectors that Random123 publishes."""
    assert threefry(*map(U, key), *map(U, counter)) == want


def test_xoshiro_gives_the_known_answers():
    """Oracle: the first words from the state (1, 2, 3, 4), as the crate rand_xoshiro has them."""
    state, words = (U(1), U(2), U(3), U(4)), []
    for _ in range(10):
        word, *state = xoshiro(*state)
        words.append(int(word))
    assert words == [
        641, 1573767, 3222811527, 3517856514, 836907274,
        4247214768, 3867114732, 1355841295, 495546011, 621204420,
    ]  # fmt: skip


def test_streams_give_independent_normals():
    """Statistical: a million of one state pass Kolmogorov and Smirnov's test at 1e-4; rows, columns
    and the halves that share a word are uncorrelated within 4 standard errors."""
    state, z = np.empty((4, 500), dtype=U), np.empty((1_000, 1_000), dtype=np.float32)
    streams(U(1), U(2), U(3), 0, state)
    for row in z:
        next_normals(state, row)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    for a, b in ((z[:-1], z[1:]), (z[:, :-1], z[:, 1:]), (z[:, :500], z[:, 500:])):
        for f in (np.positive, np.square):
            assert abs(np.corrcoef(f(a).ravel(), f(b).ravel())[0, 1]) < 4 / np.sqrt(a.size)


@given(WORDS, WORDS)
def test_box_muller_is_the_formula(w0, w1):
    """Oracle: the same in double precision."""
    radius = np.sqrt(-2 * np.log(((w0 >> 1) + 0.5) / 2**31))
    angle = 2 * np.pi * w1 / 2**32
    got = box_muller(U(w0), U(w1))
    # The argument of the logarithm near 1 has 24 bits, so a radius r near 0 errs by 2⁻²⁴/r.
    tolerance = 4e-6 + 1e-7 / max(radius, 1e-3)
    np.testing.assert_allclose(
        got, radius * np.array([np.cos(angle), np.sin(angle)]), atol=tolerance
    )


def test_normals_and_uniforms_follow_their_laws():
    """Statistical: Kolmogorov and Smirnov at n = 200,000, each rejecting at 10⁻⁴."""
    normals, uniforms = np.empty(200_000, dtype=np.float32), np.empty(200_000)
    fill_normals(U(1), U(2), U(3), 0, normals)
    fill_uniforms(U(1), U(2), U(4), 0, uniforms)
    assert stats.kstest(normals.astype(float), "norm").pvalue > 1e-4
    assert stats.kstest(uniforms, "uniform").pvalue > 1e-4
    halves = np.corrcoef(normals[:100_000], normals[100_000:])[0, 1]
    assert abs(halves) < 5 / np.sqrt(100_000)


@pytest.mark.parametrize("freedom", [2, 3, 718, 768])
def test_chi_square_follows_its_law(freedom):
    """Statistical: Kolmogorov and Smirnov at n = 20,000, rejecting at 10⁻⁴."""
    rng = np.random.default_rng(freedom)
    proposals = zip(rng.standard_normal(20_000), rng.random(20_000), strict=True)
    drawn = [
        chi_square(U(5), U(freedom), U(c), 0, freedom, np.float32(x), u)
        for c, (x, u) in enumerate(proposals)
    ]
    assert stats.kstest(drawn, stats.chi2(freedom).cdf).pvalue > 1e-4


@pytest.mark.parametrize("n", [3, 8, 50, 51, 53])
def test_gram_of_columns_is_the_product(n):
    """Oracle: numpy."""
    C = np.zeros((padded(n), padded(n)), dtype=np.float32)
    C[:n, :n] = np.triu(np.random.default_rng(n).standard_normal((n, n)))
    G = np.full_like(C, np.nan)
    gram_of_columns(n, C, G)
    want = (C.T @ C)[:n, :n]
    upper = np.triu_indices(n)
    np.testing.assert_allclose(G[:n, :n][upper], want[upper], rtol=1e-4, atol=1e-4)


def _structure(n):
    parent = np.array([-1, 0, 1, 0, 2, 4][:n])
    return parent, np.array([0.0, 0.6, 0.3, 0.9, 0.5, 0.0][:n])


def _cosines(parent, strength):
    """E v_i·v_j/dim: the product along the tree."""
    L = np.zeros((len(parent), len(parent)))
    for i, (p, a) in enumerate(zip(parent, strength, strict=True)):
        L[i, i] = np.sqrt(1 - a**2)
        if p >= 0:
            L[i] += a * L[p]
    return L, L @ L.T


def _bartlett(num, n, dim, parent, strength):
    grams = np.empty((num, n, n))
    normals = np.empty(-(-n * (n + 1) // 4) * 2, dtype=np.float32)
    uniforms = np.empty(-(-n // 2) * 2)
    for c in range(num):
        C = np.zeros((padded(n), padded(n)), dtype=np.float32)
        G = np.empty_like(C)
        bartlett_columns(U(7), U(8), U(c), parent, strength, dim, normals, uniforms, C)
        gram_of_columns(n, C, G)
        grams[c] = np.triu(G[:n, :n]) + np.triu(G[:n, :n], 1).T
    return grams


def test_literal_rows_have_the_covariance_of_the_tree():
    """Statistical: E v_i·v_j/dim over 4,000 draws of 6 vectors, within 5 standard errors."""
    parent, strength = _structure(6)
    V, state = np.empty((6, 64), dtype=np.float32), np.empty((4, 32), dtype=U)
    grams = np.empty((4_000, 6, 6))
    for c in range(len(grams)):
        literal_rows(U(1), U(9), U(c), parent, strength, state, V)
        grams[c] = V @ V.T / 64
    error = grams.std(axis=0) / np.sqrt(len(grams))
    assert (np.abs(grams.mean(axis=0) - _cosines(parent, strength)[1]) < 5 * error).all()


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 99))
def test_gram_of_rows_is_the_product(threes, dim, seed):
    """Oracle: numpy's product in double precision, on and above the diagonal."""
    V = np.random.default_rng(seed).normal(size=(3 * threes, dim)).astype(np.float32)
    G = np.empty((len(V), len(V)), dtype=np.float32)
    gram_of_rows(V, G)
    want = V.astype(float) @ V.T.astype(float)
    np.testing.assert_allclose(np.triu(G), np.triu(want), atol=1e-6 * dim)


def test_bartlett_has_the_law_of_wishart():
    """Oracle: mean and covariance of Wishart(dim, Σ), every entry, within 5 standard errors."""
    n, dim = 6, 12
    parent, strength = _structure(n)
    S = _cosines(parent, strength)[1]
    grams = _bartlett(20_000, n, dim, parent, strength)
    error = grams.std(axis=0) / np.sqrt(len(grams))
    assert (np.abs(grams.mean(axis=0) - dim * S) < 5 * error).all()
    centred = grams - dim * S
    products = np.einsum("cij,ckl->cijkl", centred[:, :3, :3], centred[:, 2:5, 2:5])
    want = dim * (
        np.einsum("ik,jl->ijkl", S[:3, 2:5], S[:3, 2:5])
        + np.einsum("il,jk->ijkl", S[:3, 2:5], S[:3, 2:5])
    )
    spread = products.std(axis=0) / np.sqrt(len(grams))
    assert (np.abs(products.mean(axis=0) - want) < 5 * spread).all()


def test_bartlett_agrees_with_drawing_the_vectors_with_numpy():
    """Oracle: log det and the smallest eigenvalue of G, two-sample KS at 10⁻³ each."""
    n, dim, num = 6, 12, 4_000
    parent, strength = _structure(n)
    L = _cosines(parent, strength)[0]
    V = L @ np.random.default_rng(3).standard_normal((num, n, dim))
    naive, ours = V @ V.transpose(0, 2, 1), _bartlett(num, n, dim, parent, strength)
    for of in (lambda G: np.linalg.slogdet(G)[1], lambda G: np.linalg.eigvalsh(G)[:, 0]):
        assert np.asarray(stats.ks_2samp(of(naive), of(ours)))[1] > 1e-3

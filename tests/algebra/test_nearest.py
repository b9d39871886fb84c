"""The nearest complex: against a general optimiser, against planted complexes, and its refusals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from leray.algebra.nearest import nearest_complex
from leray.errors import LerayError


def drawn(seed: int, *dims: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(b, a, generator=g, dtype=torch.float64) for a, b in pairwise(dims)]


def planted(seed: int, *dims: int) -> list[torch.Tensor]:
    """A complex: every image inside a half of its space, which the next map kills."""
    g = torch.Generator().manual_seed(seed)
    halves = []
    for n in dims:
        q = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0]
        halves.append(q[:, : n // 2] @ q[:, : n // 2].mT)
    return [
        halves[i + 1] @ m @ (torch.eye(len(halves[i])).double() - halves[i])
        for i, m in enumerate(drawn(seed + 1, *dims))
    ]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_maps_reach_the_global_optimum(seed: int, relative: bool) -> None:
    """Oracle: scipy's optimiser over subspaces of every dimension, from many starts."""
    a, b = (m.numpy() for m in drawn(seed, 3, 4, 3))
    weights = (1 / (a**2).sum(), 1 / (b**2).sum()) if relative else (1.0, 1.0)
    total = weights[0] * (a**2).sum() + weights[1] * (b**2).sum()
    rng = np.random.default_rng(seed)

    def lost(flat: np.ndarray, k: int) -> float:
        basis = np.linalg.qr(flat.reshape(4, k))[0]
        p = basis @ basis.T
        away, hit = a - p @ a, b @ p
        return float(weights[0] * (away**2).sum() + weights[1] * (hit**2).sum())

    best = min(weights[0] * (a**2).sum(), weights[1] * (b**2).sum())  # P = 0 or P = I
    for k in (1, 2, 3):
        for _ in range(6):
            best = min(best, minimize(lost, rng.normal(size=4 * k), (k,), tol=1e-12).fun)
    found = nearest_complex([torch.tensor(a), torch.tensor(b)], relative=relative)
    assert found.is_global
    assert found.residual == pytest.approx((best / total) ** 0.5, rel=1e-6)


@given(st.integers(0, 10_000), st.floats(-8, -1))
def test_near_a_complex_it_is_nearer_than_the_planted_one(seed: int, size: float) -> None:
    true = planted(seed, 4, 6, 5)
    noise = [10**size * m for m in drawn(seed + 7, 4, 6, 5)]
    found = nearest_complex([t + n for t, n in zip(true, noise, strict=True)], relative=False)
    norm = sum(float((t + n).square().sum()) for t, n in zip(true, noise, strict=True)) ** 0.5
    away = sum(float(n.square().sum()) for n in noise) ** 0.5
    assert found.residual * norm <= away * (1 + 1e-9)


def test_a_complex_is_its_own_nearest() -> None:
    maps = planted(3, 4, 6, 6, 5)
    found = nearest_complex(maps, generator=torch.Generator().manual_seed(0))
    assert found.residual < 1e-12
    assert found.complex.betti_numbers() == (2, 1, 1, 3)


def test_more_maps_no_step_of_scipy_does_better() -> None:
    """Oracle: a general optimiser, started where ours stopped, gains nothing."""
    maps = drawn(5, 3, 4, 4, 3)
    found = nearest_complex(maps, generator=torch.Generator().manual_seed(0), relative=False)
    assert not found.is_global
    scipy_best = np.inf
    rng = np.random.default_rng(0)
    m = [x.numpy() for x in maps]
    for k1 in range(1, 4):
        for k2 in range(1, 4):

            def lost(flat: np.ndarray, k1: int = k1, k2: int = k2) -> float:
                bases = np.split(flat, [4 * k1])
                first, second = (
                    np.linalg.qr(x.reshape(4, -1))[0] for x in (bases[0], bases[1][: 4 * k2])
                )
                p, q = first @ first.T, second @ second.T
                made = (p @ m[0], q @ m[1] @ (np.eye(4) - p), m[2] @ (np.eye(4) - q))
                return sum(float(((x - y) ** 2).sum()) for x, y in zip(m, made, strict=True))

            for _ in range(4):
                start = rng.normal(size=4 * (k1 + k2))
                scipy_best = min(scipy_best, minimize(lost, start, tol=1e-10).fun)
    total = sum(float((x**2).sum()) for x in m)
    assert found.residual <= (scipy_best / total) ** 0.5 * (1 + 1e-6)


def test_units_do_not_matter_unless_asked() -> None:
    a, b = drawn(9, 4, 5, 4)
    same, small = nearest_complex([a, b]), nearest_complex([a, 1e-3 * b])
    assert small.residuals == pytest.approx(same.residuals)
    given_up = nearest_complex([a, 1e-3 * b], relative=False)
    assert given_up.residuals[1] > 10 * given_up.residuals[0]


def test_edges_and_refusals() -> None:
    (one,) = drawn(0, 3, 2)
    alone = nearest_complex([one])
    assert alone.residual == 0
    torch.testing.assert_close(alone.complex.d(0), one)
    zero = nearest_complex([torch.zeros(3, 2), torch.zeros(0, 3)])
    assert zero.residual == 0
    with pytest.raises(LerayError, match="needs at least one"):
        nearest_complex([])
    with pytest.raises(LerayError, match="map 0 ends in dimension 2, map 1 begins in 3"):
        nearest_complex([one, one])
    with pytest.raises(LerayError, match="not a finite number"):
        nearest_complex([one * torch.nan])
    with pytest.raises(LerayError, match="give a generator"):
        nearest_complex(drawn(0, 2, 2, 2, 2))

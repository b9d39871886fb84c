"""The exact optimum against general solvers, grids, and its own optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from leray.evidence.moments import Covariances
from leray.evidence.optimum import MAX_ENUMERATED, fixed_optimum, simplex_optimum, varying
from leray.memory.methods import landscape_grid, simplex_grid

# A solve of a k × k block loses about κ(S) ε; the problems below keep κ below 1e4.
ROUNDING = 1e4 * np.finfo(np.float64).eps * 10
seeds = st.integers(0, 9_999)


def problem(seed: int, d: int = 4, *, share_negative: float = 0.3) -> Covariances:
    """A random S with eigenvalues in [1, 20] before scaling; b and s that make a covariance."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    S = (q * np.geomspace(1, 20, d)) @ q.T
    scale = np.exp(rng.uniform(-1, 1, d))
    S *= np.outer(scale, scale)
    b = rng.uniform(0.1, 1.0, d) * np.where(rng.random(d) < share_negative, -1, 1) * scale
    return Covariances(S, b, np.array(b @ np.linalg.solve(S, b) * 1.5))


def correlation(m: Covariances, w: np.ndarray) -> np.ndarray:
    """r(w) = wᵀb / √(wᵀSw · s), a row of weights at a time."""
    return w @ m.b / np.sqrt(np.einsum("ni,ij,nj->n", w, m.S, w) * m.s)


def batch_of(problems: list[Covariances]) -> Covariances:
    return Covariances(*(np.stack(parts) for parts in zip(*problems, strict=True)))


@pytest.mark.parametrize("d", [1, 2, 4, 6, MAX_ENUMERATED + 2])
@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_is_nnlss(d: int, seed: int) -> None:
    """Oracle: scipy's NNLS of min ‖Lᵀz − L⁻¹b‖, normalised; on both sides of the enumeration."""
    m = problem(seed, d, share_negative=0.0 if d == 1 else 0.3)
    L = np.linalg.cholesky(m.S)
    z = nnls(L.T, np.linalg.solve(L, m.b))[0]
    found = simplex_optimum(m)
    assert (m.b > 0).any()
    np.testing.assert_allclose(found.w, z / z.sum(), atol=ROUNDING)
    assert found.r == pytest.approx(correlation(m, found.w[None])[0], abs=ROUNDING)


@pytest.mark.parametrize("seed", range(8))
def test_no_start_of_a_general_solver_does_better(seed: int) -> None:
    """Oracle: SLSQP on r itself from the corners, the centre and 8 random points."""
    m = problem(seed, share_negative=0.5)
    found = simplex_optimum(m)
    starts = [*np.eye(4) * 0.97 + 0.0075, np.full(4, 0.25)]
    starts += list(np.random.default_rng(seed).dirichlet(np.ones(4), 8))
    solved = [
        minimize(
            lambda w: -correlation(m, w[None])[0],
            start,
            method="SLSQP",
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        for start in starts
    ]
    best = min(solved, key=lambda s: s.fun)
    assert found.r >= -best.fun - ROUNDING
    # ftol = 1e-12 on r leaves √(1e-12) ≈ 1e-6 in w, up to the curvature of r (at most 1/20 here).
    assert found.r == pytest.approx(-best.fun, abs=1e-9)
    np.testing.assert_allclose(found.w, best.x, atol=1e-4)


@given(seed=seeds, share=st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_the_optimum_beats_every_point_of_the_grids(seed: int, share: float) -> None:
    """Identity: r is at least that of all 1,771 and all 169 points, up to rounding."""
    m = problem(seed, share_negative=share)
    found = simplex_optimum(m)
    for grid in (simplex_grid(4, 0.05), landscape_grid()[0]):
        assert found.r >= correlation(m, grid).max() - ROUNDING


@given(seed=seeds, d=st.sampled_from([2, 4, MAX_ENUMERATED, MAX_ENUMERATED + 1]))
def test_the_certificate_is_zero_at_the_optimum(seed: int, d: int) -> None:
    """Identity: on the simplex, and the optimality conditions hold to rounding."""
    m = problem(seed, d)
    found = simplex_optimum(m)
    assert (found.w >= 0).all()
    assert found.w.sum() == pytest.approx(1, abs=d * np.finfo(float).eps)
    assert found.residual <= ROUNDING


@settings(max_examples=15)
@given(seed=seeds)
def test_a_batch_is_a_loop(seed: int) -> None:
    """Identity: two leading axes give what each problem gives alone."""
    problems = [problem(seed + k, share_negative=k / 5) for k in range(6)]
    stacked = batch_of(problems)
    found = simplex_optimum(
        Covariances(
            stacked.S.reshape(2, 3, 4, 4), stacked.b.reshape(2, 3, 4), stacked.s.reshape(2, 3)
        )
    )
    assert found.w.shape == (2, 3, 4)
    for k, m in enumerate(problems):
        alone = simplex_optimum(m)
        np.testing.assert_allclose(found.w.reshape(6, 4)[k], alone.w, atol=ROUNDING)
        np.testing.assert_allclose(found.r.reshape(6)[k], alone.r, atol=ROUNDING)


@settings(max_examples=20)
@given(seed=seeds, share=st.sampled_from([0.0, 0.3, 0.7, 1.0]), d=st.integers(2, 5))
def test_problems_that_share_one_s_are_solved_alike(seed: int, share: float, d: int) -> None:
    """Identity: fixed_optimum is the r of simplex_optimum, whatever the signs of b."""
    m = problem(seed, d)
    rng = np.random.default_rng(seed)
    b = rng.uniform(0.01, 1, (20, d)) * np.where(rng.random((20, d)) < share, -1, 1)
    one_by_one = [simplex_optimum(Covariances(m.S, row, m.s)).r for row in b]
    np.testing.assert_allclose(fixed_optimum(m.S, b, float(m.s)), one_by_one, atol=ROUNDING)


@given(seed=seeds)
def test_the_order_of_signals_does_not_matter(seed: int) -> None:
    """Identity: permuting the signals permutes the weights."""
    m = problem(seed)
    p = np.random.default_rng(seed).permutation(4)
    found = simplex_optimum(Covariances(m.S[np.ix_(p, p)], m.b[p], m.s))
    expected = simplex_optimum(m)
    np.testing.assert_allclose(found.w, expected.w[p], atol=ROUNDING)
    np.testing.assert_allclose(found.r, expected.r, atol=ROUNDING)


@given(seed=seeds, factor=st.floats(1e-2, 1e2), signal=st.integers(0, 3))
def test_a_signal_in_other_units_gets_its_weight_in_other_units(
    seed: int, factor: float, signal: int
) -> None:
    """Identity: x_j → c x_j gives w_j → w_j/c before the weights are made to add to one."""
    m = problem(seed, share_negative=0.2)
    c = np.ones(4)
    c[signal] = factor
    scaled = simplex_optimum(Covariances(m.S * np.outer(c, c), m.b * c, m.s))
    expected = simplex_optimum(m)
    back = scaled.w * c
    # The condition number grows with the factor, squared.
    tolerance = ROUNDING * max(factor, 1 / factor) ** 2
    np.testing.assert_allclose(back / back.sum(), expected.w, atol=tolerance)
    np.testing.assert_allclose(scaled.r, expected.r, atol=tolerance)


@given(seed=seeds, unit=st.sampled_from([1e-8, 1e-3, 1e6]))
def test_the_units_of_the_truth_do_not_matter(seed: int, unit: float) -> None:
    """Identity: y → c y scales b by c and s by c²; weights and r stay."""
    m = problem(seed)
    found = simplex_optimum(Covariances(m.S, m.b * unit, m.s * unit**2))
    np.testing.assert_allclose(found.w, simplex_optimum(m).w, atol=ROUNDING)
    np.testing.assert_allclose(found.r, simplex_optimum(m).r, atol=ROUNDING)


@given(seed=seeds)
def test_where_nothing_helps_the_best_single_signal_wins(seed: int) -> None:
    """Identity: with every b ≤ 0 the weights are a corner, the one with the largest r."""
    m = problem(seed, share_negative=1.0)
    found = simplex_optimum(m)
    corners = correlation(m, np.eye(4))
    np.testing.assert_array_equal(found.w, np.eye(4)[corners.argmax()])
    assert found.r == pytest.approx(corners.max(), abs=ROUNDING)
    assert found.r < 0
    assert found.residual == 0


def test_truth_that_no_signal_knows_has_r_zero() -> None:
    """Identity: b = 0 gives r = 0 and still a point of the simplex."""
    m = problem(0)
    found = simplex_optimum(Covariances(m.S, np.zeros(4), m.s))
    assert found.r == 0
    assert found.w.sum() == 1


@pytest.mark.parametrize("left_over", [0.0, 1e-17])
@pytest.mark.parametrize("constant", [0, 2])
def test_a_constant_signal_gets_no_weight(constant: int, left_over: float) -> None:
    """Identity: the other weights are those without it, even where rounding left a variance."""
    m = problem(3, share_negative=0.0)
    S, b = m.S.copy(), m.b.copy()
    S[constant] = S[:, constant] = 0.0
    S[constant, constant], b[constant] = left_over, 1e-9
    rest = [j for j in range(4) if j != constant]
    found = simplex_optimum(Covariances(S, b, m.s))
    without = simplex_optimum(Covariances(m.S[np.ix_(rest, rest)], m.b[rest], m.s))
    assert found.w[constant] == 0
    np.testing.assert_allclose(found.w[rest], without.w, atol=ROUNDING)
    np.testing.assert_allclose(fixed_optimum(S, b[None], float(m.s)), without.r, atol=ROUNDING)


@pytest.mark.parametrize("d", [3, MAX_ENUMERATED])
@pytest.mark.parametrize("seed", range(10))
def test_a_duplicated_signal_changes_nothing(d: int, seed: int) -> None:
    """Identity: S is singular, yet r is that of the problem without the copy; both weights add."""
    m = problem(seed, d, share_negative=0.2)
    index = [*range(d), 0]
    S, b = m.S[np.ix_(index, index)], m.b[index]
    expected, found = simplex_optimum(m), simplex_optimum(Covariances(S, b, m.s))
    assert found.r == pytest.approx(expected.r, abs=ROUNDING)
    merged = found.w[:d].copy()
    merged[0] += found.w[d]
    np.testing.assert_allclose(merged, expected.w, atol=ROUNDING)
    np.testing.assert_allclose(fixed_optimum(S, b[None], float(m.s)), expected.r, atol=ROUNDING)


@pytest.mark.parametrize("spoil", ["signals", "truth"])
def test_nothing_that_varies_is_refused(spoil: str) -> None:
    """Golden: one bad problem in a batch is enough."""
    m = problem(0)
    bad = Covariances(m.S * (spoil != "signals"), m.b, m.s * (spoil != "truth"))
    with pytest.raises(ValueError, match="no optimum"):
        simplex_optimum(batch_of([m, bad]))


def test_signals_that_vary_by_rounding_alone_are_constant() -> None:
    """Identity: the optimum and the models leave out the same signals."""
    variance = np.array([[0.1, 1e-14, 0.0, 0.02], [1e-30, 1e-30, 0.0, 1e-30]])
    assert varying(variance).tolist() == [[True, False, False, True], [True, True, False, True]]

"""PARAFAC and Tucker: TensorLy and direct definitions as oracles, identities of compression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorly as tl
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group
from tensorly.decomposition import parafac as tensorly_parafac
from tensorly.decomposition import tucker as tensorly_tucker
from tensorly.metrics import congruence_coefficient

from leray.memory.parafac import (
    Parafac,
    compress,
    congruence,
    core_consistency,
    khatri_rao,
    parafac,
    refine_with_tensorly,
    truncate,
    tucker,
)

seeds = st.integers(0, 2**32 - 1)


def planted(seed: int, shape=(12, 9, 4, 3), rank: int = 2, noise: float = 0.0):
    rng = np.random.default_rng(seed)
    factors = [rng.normal(size=(n, rank)) for n in shape]
    tensor = np.asarray(tl.cp_to_tensor((None, factors)))
    return tensor + noise * tensor.std() * rng.normal(size=shape), factors


def model(fitted: Parafac) -> np.ndarray:
    return np.asarray(tl.cp_to_tensor((fitted.weights, list(fitted.factors))))


def test_oracle_planted_factors_are_found_exactly():
    tensor, factors = planted(0)
    fitted = parafac(tensor, 2, np.random.default_rng(1), num_iterations=2_000, tolerance=1e-14)
    np.testing.assert_allclose(model(fitted), tensor, atol=1e-4 * tensor.std())
    np.testing.assert_allclose(congruence(fitted.factors, factors), 1, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_oracle_the_fit_is_the_best_that_tensorly_finds(seed):
    tensor, _ = planted(seed, shape=(30, 11, 4, 3), rank=3, noise=1.0)
    fitted = parafac(tensor, 3, np.random.default_rng(seed))
    theirs = []
    for start in range(6):
        found = tensorly_parafac(
            tl.tensor(tensor), 3, n_iter_max=500, tol=1e-9, init="random", random_state=start
        )
        rest = tensor - np.asarray(tl.cp_to_tensor(found))
        theirs.append(1 - (rest**2).sum() / (tensor**2).sum())
    assert fitted.fit >= max(theirs) - 1e-5


def test_oracle_the_reported_fit_is_that_of_the_factors():
    tensor, _ = planted(3, noise=1.0)
    fitted = parafac(tensor, 2, np.random.default_rng(0))
    direct = 1 - ((tensor - model(fitted)) ** 2).sum() / (tensor**2).sum()
    assert fitted.fit == pytest.approx(direct, abs=1e-10)
    for factor in fitted.factors:
        np.testing.assert_allclose(np.linalg.norm(factor, axis=0), 1)
    assert (np.diff(fitted.weights) <= 0).all()


def test_oracle_tensorly_started_at_the_fit_stays_there():
    tensor, _ = planted(4, shape=(40, 10, 3, 3), rank=3, noise=0.5)
    fitted = parafac(tensor, 3, np.random.default_rng(0))
    refined = refine_with_tensorly(tensor, fitted)
    assert refined.fit == pytest.approx(fitted.fit, abs=1e-6)
    assert refined.fit >= fitted.fit - 1e-12
    assert congruence(fitted.factors, refined.factors).min() > 0.999


@given(seeds)
def test_identity_exact_compression_loses_nothing(seed):
    rng = np.random.default_rng(seed)
    tensor = rng.normal(size=(40, 3, 2, 3))
    core, bases = compress(tensor)
    assert core.shape == (18, 3, 2, 3)
    np.testing.assert_allclose(tl.tucker_to_tensor((core, bases)), tensor, atol=1e-12)
    for basis in bases:
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)


@given(seeds)
def test_identity_truncation_keeps_a_tensor_of_low_multilinear_rank(seed):
    tensor, _ = planted(seed, shape=(12, 11, 4, 3), rank=2)
    core, bases = truncate(tensor, 5)
    assert core.shape == (5, 5, 4, 3)
    back = np.asarray(tl.tucker_to_tensor((core, bases)))
    np.testing.assert_allclose(back, tensor, atol=1e-8 * np.abs(tensor).max())


def test_identity_rotating_a_mode_rotates_its_factor_only():
    tensor, _ = planted(5, shape=(20, 9, 4, 3), noise=0.3)
    rotation = ortho_group.rvs(20, random_state=0)
    plain = parafac(tensor, 2, np.random.default_rng(0))
    turned = parafac(np.einsum("ai,ijkl->ajkl", rotation, tensor), 2, np.random.default_rng(0))
    assert turned.fit == pytest.approx(plain.fit, abs=1e-6)
    back = (rotation.T @ turned.factors[0], *turned.factors[1:])
    assert congruence(plain.factors, back).min() > 0.999


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_oracle_core_consistency_by_its_definition(rank):
    tensor, _ = planted(6, shape=(7, 6, 4, 3), rank=2, noise=0.5)
    fitted = parafac(tensor, rank, np.random.default_rng(0))
    a, b, c, d = (*fitted.factors[:-1], fitted.factors[-1] * fitted.weights)
    design = np.kron(np.kron(np.kron(a, b), c), d)
    core = np.linalg.lstsq(design, tensor.ravel())[0].reshape((rank,) * 4)
    ideal = np.zeros_like(core)
    ideal[(np.arange(rank),) * 4] = 1
    direct = 100 * (1 - ((core - ideal) ** 2).sum() / rank)
    # The conditioning of the Kronecker product is that of four factors multiplied.
    assert core_consistency(tensor, fitted) == pytest.approx(direct, rel=1e-6)


def test_oracle_core_consistency_knows_the_planted_rank():
    tensor, _ = planted(7, shape=(30, 12, 4, 3), rank=2, noise=0.1)
    values = [
        core_consistency(tensor, parafac(tensor, r, np.random.default_rng(0))) for r in (1, 2, 3)
    ]
    assert values[0] == pytest.approx(100)
    assert values[1] > 95
    assert values[2] < 60


@given(seeds)
def test_oracle_congruence_of_one_mode_is_tensorlys(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 8, 3))
    # Theirs is the mean over matched columns; the matching that maximises it is the same.
    assert congruence([a], [b]).mean() == pytest.approx(congruence_coefficient(a, b)[0])


def test_identity_congruence_ignores_order_scale_and_pairs_of_signs():
    _, factors = planted(8, rank=3)
    order = [2, 0, 1]
    moved = [f[:, order] * scale for f, scale in zip(factors, (2.0, -1.0, -3.0, 0.5), strict=True)]
    np.testing.assert_allclose(congruence(factors, moved), 1)


@given(seeds)
def test_oracle_khatri_rao_columns_are_outer_products(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.normal(size=(n, 2)) for n in (3, 4, 2))
    direct = np.einsum("ir,jr,kr->ijkr", a, b, c).reshape(-1, 2)
    np.testing.assert_allclose(khatri_rao([a, b, c]), direct)


def test_oracle_tucker_fits_as_tensorly_alone_does():
    tensor, _ = planted(9, shape=(60, 5, 4, 2), rank=3, noise=1.0)
    ours = tucker(tensor, (10, 5, 3, 2))
    theirs: Any = tensorly_tucker(tl.tensor(tensor), rank=[10, 5, 3, 2], n_iter_max=500, tol=1e-8)
    assert ours.fit == pytest.approx(float((theirs[0] ** 2).sum() / (tensor**2).sum()), abs=1e-5)
    assert ours.core.shape == (10, 5, 3, 2)
    back = np.asarray(tl.tucker_to_tensor((ours.core, list(ours.factors))))
    direct = 1 - ((tensor - back) ** 2).sum() / (tensor**2).sum()
    assert ours.fit == pytest.approx(direct, abs=1e-8)


def test_oracle_tucker_ranks_are_capped_by_the_shape():
    tensor, _ = planted(10, shape=(4, 6, 4, 3))
    assert tucker(tensor, (10, 5, 3, 2)).core.shape == (4, 5, 3, 2)


def test_a_zero_tensor_is_refused():
    with pytest.raises(ValueError, match="not all zero"):
        parafac(np.zeros((3, 3, 3, 3)), 1, np.random.default_rng(0))

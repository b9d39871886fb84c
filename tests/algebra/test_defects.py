"""Defects of exactness: against dense formulas and scipy, their invariances and their nulls."""

from __future__ import annotations

import math
from dataclasses import replace
from inspect import unwrap  # past the shape checks of the test run

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import null_space, subspace_angles

from leray.algebra.defects import (
    STATISTICS,
    composition_defect,
    exactness_defect,
    principal_angles,
    smooth_defect,
)
from leray.algebra.nulls import NULLS, draw
from leray.errors import LerayError


def maps(seed: int, v: int = 9, u: int = 4, w: int = 5, batch: tuple[int, ...] = ()):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(*batch, v, u, generator=g, dtype=torch.float64)
    b = torch.randn(*batch, w, v, generator=g, dtype=torch.float64)
    return a, b


def rotation(n: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0]


def exact_pair(v: int, rank: int, extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """im A of dimension ``rank`` inside ker B of dimension ``rank + extra``."""
    q = rotation(v, 5)
    a = q[:, :rank] @ torch.diag(torch.linspace(1, 2, rank, dtype=torch.float64))
    return a, q[:, rank + extra :].mT * torch.linspace(2, 1, v - rank - extra).double()[:, None]


@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.05]))
def test_smooth_defect_is_its_dense_definition(seed: int, tau: float) -> None:
    """Oracle: the projectors written out, in numpy."""
    a, b = maps(seed)
    x, y = (m.numpy() / np.linalg.norm(m.numpy(), 2) for m in (a, b))
    eye = np.eye(9)
    p = x @ x.T @ np.linalg.inv(x @ x.T + tau**2 * eye)
    q = y.T @ y @ np.linalg.inv(y.T @ y + tau**2 * eye)
    found = smooth_defect(a, b, tau)
    assert float(found.violation) == pytest.approx(np.trace(p @ q), rel=1e-9)
    assert float(found.homology) == pytest.approx(np.trace((eye - p) @ (eye - q)), rel=1e-9)


@given(st.integers(0, 10_000))
def test_the_limit_counts_cosines_and_dimensions(seed: int) -> None:
    """As τ → 0: v is Σ cos² between im A and (ker B)^⊥, h is tr of the two complements' product."""
    a, b = maps(seed)
    image, rows = np.linalg.qr(a.numpy())[0], np.linalg.qr(b.numpy().T)[0]
    found = smooth_defect(a, b, 1e-4)
    cosines = np.linalg.svd(image.T @ rows, compute_uv=False)
    assert float(found.violation) == pytest.approx((cosines**2).sum(), abs=1e-3)
    rest = np.trace((np.eye(9) - image @ image.T) @ (np.eye(9) - rows @ rows.T))
    assert float(found.homology) == pytest.approx(rest, abs=1e-3)


@pytest.mark.parametrize(
    ("rank", "extra"), [(4, 0), (3, 2)], ids=["exact", "complex with homology"]
)
def test_planted_pairs(rank: int, extra: int) -> None:
    a, b = exact_pair(9, rank, extra)
    found = smooth_defect(a, b, 1e-5)
    assert float(composition_defect(a, b)) < 1e-28
    assert float(found.violation) < 1e-20
    assert float(found.homology) == pytest.approx(extra, abs=1e-5)  # rounding is eps/τ² = 2e-6


def test_zero_maps_are_not_exact() -> None:
    a, b = torch.zeros(9, 4, dtype=torch.float64), torch.zeros(5, 9, dtype=torch.float64)
    found = smooth_defect(a, b)
    assert float(found.violation) == 0
    assert float(found.homology) == pytest.approx(9)


@given(st.integers(0, 10_000), st.floats(-6, 6), st.floats(-6, 6))
def test_no_unit_and_no_rotation_matters(seed: int, x: float, y: float) -> None:
    a, b = maps(seed)
    turn = rotation(9, seed)
    c = 10**x * turn @ a @ rotation(4, seed)
    d = 10**y * rotation(5, seed) @ b @ turn.mT
    one, two = smooth_defect(a, b), smooth_defect(c, d)
    torch.testing.assert_close(composition_defect(a, b), composition_defect(c, d))
    torch.testing.assert_close(one.violation, two.violation, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(one.homology, two.homology, rtol=1e-7, atol=1e-12)


def test_gradients_are_right() -> None:
    """Oracle: finite differences."""
    a, b = (m.requires_grad_() for m in maps(3, 5, 3, 3))
    assert torch.autograd.gradcheck(composition_defect, (a, b))
    for name in ("violation", "homology"):
        assert torch.autograd.gradcheck(
            lambda x, y, name=name: getattr(smooth_defect(x, y, 0.2), name), (a, b)
        )


def test_descent_makes_an_exact_sequence() -> None:
    """Minimising v + h from random maps ends in BA = 0 with ranks that fill V."""
    a, b = (m.requires_grad_() for m in maps(11, 6, 3, 3))
    optimizer = torch.optim.LBFGS([a, b], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        found = smooth_defect(a, b, 0.05)
        loss = found.violation + found.homology
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    report = exactness_defect(
        a.detach(), b.detach(), null="rotated", generator=torch.Generator().manual_seed(0)
    )
    assert float(report.composition) < 1e-6
    assert int(report.dimension) == 0
    assert float(report.p_value("composition")) == 1 / 201


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 7))
def test_angles_are_scipys(seed: int, u: int, w: int) -> None:
    """Oracle: scipy's angles between orthonormal bases of im A and of ker B."""
    a, b = maps(seed, 8, u, w)
    found = principal_angles(a, b, (u, w))
    wanted = subspace_angles(a.numpy(), null_space(b.numpy()))
    np.testing.assert_allclose(found.numpy(), np.sort(wanted), atol=1e-12)


@pytest.mark.parametrize("angle", [1e-12, 1e-7, 0.3, math.pi / 2 - 1e-9])
def test_planted_angles_keep_their_digits(angle: float) -> None:
    q = rotation(7, 2)
    a = torch.stack([q[:, 0], math.cos(angle) * q[:, 1] + math.sin(angle) * q[:, 5]], -1)
    found = principal_angles(a, q[:, 4:].mT, (2, 3))
    assert float(found[0]) < 1e-15
    assert float(found[1]) == pytest.approx(angle, abs=3e-16 + 1e-9 * angle)


@pytest.mark.parametrize("null", NULLS)
def test_a_batch_is_its_pairs(null) -> None:
    a, b = maps(7, batch=(2, 3))
    report = exactness_defect(
        a, b, null=null, generator=torch.Generator().manual_seed(1), num_null=3
    )
    assert report.composition.shape == (2, 3)
    assert report.null_homology.shape == (3, 2, 3)
    assert report.p_value("violation").shape == (2, 3)
    assert report.angles is not None
    assert torch.equal(report.dimension, torch.zeros(2, 3, dtype=torch.int64))
    for i in range(2):
        for j in range(3):
            one = smooth_defect(a[i, j], b[i, j])
            torch.testing.assert_close(report.violation[i, j], one.violation)
            torch.testing.assert_close(report.homology[i, j], one.homology)
            torch.testing.assert_close(
                report.angles[i, j], principal_angles(a[i, j], b[i, j], (4, 5))
            )
    assert str(report).count("dim V = 9") == 6


def test_rotation_gives_one_on_average() -> None:
    """Statistical: E n‖BQA‖²/(‖A‖²‖B‖²) = 1 for every A and B; within 4.5 standard errors."""
    a, b = exact_pair(9, 4)
    draws = exactness_defect(
        a, b, null="rotated", generator=torch.Generator().manual_seed(2), num_null=2000
    ).null_composition
    assert abs(float(draws.mean()) - 1) < 4.5 * float(draws.std()) / math.sqrt(2000)


def test_p_values_of_the_null_itself_are_uniform() -> None:
    """Statistical: fresh normal maps against 19 fresh normal maps; p ≤ .1 in a tenth of 400."""
    g = torch.Generator().manual_seed(3)
    a = torch.randn(400, 6, 3, generator=g, dtype=torch.float64)
    b = torch.randn(400, 2, 6, generator=g, dtype=torch.float64)
    report = exactness_defect(a, b, null="initialised", generator=g, num_null=19)
    for of in ("composition", "violation", "homology"):
        hits = int((report.p_value(of) <= 0.1).sum())
        assert abs(hits - 40) < 4.5 * math.sqrt(400 * 0.1 * 0.9)


def test_what_each_null_keeps() -> None:
    a, b = maps(4)
    g = torch.Generator().manual_seed(4)
    x, y = draw(a, b, "rotated", g, None)
    torch.testing.assert_close(torch.linalg.svdvals(x), torch.linalg.svdvals(a))
    assert torch.equal(y, b)
    x, y = draw(a, b, "shuffled", g, None)
    for drawn, m in ((x, a), (y, b)):
        assert torch.equal(drawn.flatten().sort().values, m.flatten().sort().values)
        assert not torch.equal(drawn, m)
    x, _ = draw(a, b, "initialised", g, lambda shape, _: torch.ones(shape))
    assert bool((x == 1).all())


def test_refusals() -> None:
    a, b = maps(0)
    g = torch.Generator()
    with pytest.raises(LerayError, match=r"must be \[\.\.\., v, u\]"):
        unwrap(composition_defect)(b, b)
    with pytest.raises(LerayError, match="null must be one of rotated, shuffled, initialised"):
        unwrap(exactness_defect)(a, b, null="guess", generator=g)
    with pytest.raises(LerayError, match="has no effect on the null 'rotated'"):
        exactness_defect(a, b, null="rotated", generator=g, initialise=lambda s, _: torch.ones(s))
    with pytest.raises(LerayError, match="must return a tensor of shape"):
        exactness_defect(
            a, b, null="initialised", generator=g, initialise=lambda _, __: torch.ones(2, 2)
        )
    with pytest.raises(ValueError, match="a defect alone says nothing"):
        exactness_defect(a, b, null="rotated", generator=g, num_null=0)
    report = exactness_defect(a, b, null="rotated", generator=g, num_null=1)
    with pytest.raises(ValueError, match="of must be one of composition, violation, homology"):
        report.p_value("exactness")
    with pytest.raises(ValueError, match="tau must be > 0"):
        smooth_defect(a, b, 0.0)
    with pytest.raises(LerayError, match="rank of A must be 0 to 4; got 5"):
        principal_angles(a, b, (5, 1))


def test_undecided_ranks_are_said() -> None:
    a, b = maps(0)
    a = a.clone()
    a[:, 3] = a[:, 2] + 1e-13 * a[:, 3]
    report = exactness_defect(a, b, null="rotated", generator=torch.Generator(), num_null=1)
    assert report.angles is None
    assert "dim ker B − rank A = undecided" in str(report)


def test_rotations_are_uniform() -> None:
    """Statistical: no direction and no orientation is preferred; within 5 standard errors."""
    num, n = 4000, 3
    eye = torch.eye(n, dtype=torch.float64).expand(num, n, n)
    q, _ = draw(eye, eye, "rotated", torch.Generator().manual_seed(6), None)
    torch.testing.assert_close(q @ q.mT, eye)
    # Haar's measure: an entry has mean 0 and variance 1/n, and half of O(n) turns space over.
    assert float(q.mean(0).abs().max()) < 5 / math.sqrt(n * num)
    assert abs(float(torch.linalg.det(q).mean())) < 5 / math.sqrt(num)


def test_shuffles_are_uniform_and_independent() -> None:
    """Statistical: all 24 · 24 orders of two maps of 4 entries alike; within 5 standard errors."""
    num, orders = 57_600, 24 * 24
    m = torch.arange(4.0).reshape(2, 2).expand(num, 2, 2)
    x, y = draw(m, m, "shuffled", torch.Generator().manual_seed(7), None)
    names = torch.cat([x.flatten(1), y.flatten(1)], 1) @ 4.0 ** torch.arange(8)
    counts = names.unique(return_counts=True)[1].double()
    assert len(counts) == orders
    spread = math.sqrt(num / orders * (1 - 1 / orders))
    assert float((counts - num / orders).abs().max()) < 5 * spread


@pytest.mark.parametrize("of", STATISTICS)
def test_a_draw_as_exact_as_what_is_seen_counts(of: str) -> None:
    a, b = maps(1)
    report = exactness_defect(a, b, null="rotated", generator=torch.Generator(), num_null=4)
    seen = getattr(report, of)
    for steps, p in (([0, 0, 0, 0], 1), ([1, 1, 1, 1], 0.2), ([-1, 0, 1, 2], 0.6)):
        draws = seen + torch.tensor(steps, dtype=torch.float64)
        assert float(replace(report, **{f"null_{of}": draws}).p_value(of)) == p

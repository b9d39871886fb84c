"""Planted conversations: what is said to be known of them is true of a large sample."""

from dataclasses import replace

import numpy as np
import pytest

from leray.evidence.moments import covariances, moment_table, pearson
from leray.evidence.optimum import simplex_optimum
from leray.memory.synthetic import (
    Planted,
    autoregression,
    draw,
    grown,
    planted_optimum,
    score_moments,
)
from leray.studies.calibration import BOUNDARY, INTERIOR, NOTHING, ONE

CLUSTERS = 20_000


@pytest.fixture(scope="module")
def sums() -> np.ndarray:
    """Moments of 20,000 conversations, 3 million rows."""
    rng = np.random.default_rng(11)
    return np.concatenate([draw(INTERIOR, 1000, rng).moments() for _ in range(CLUSTERS // 1000)])


def batches(sums: np.ndarray, statistic) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of everything, and its standard error from 40 batches of conversations."""
    each = np.array([statistic(b.sum(axis=0)) for b in np.split(sums, 40)])
    return statistic(sums.sum(axis=0)), each.std(axis=0, ddof=1) / np.sqrt(40)


def test_covariances_r_and_optimum_are_those_of_a_large_sample(sums: np.ndarray) -> None:
    """Oracle: the closed form, within 4.5 standard errors that come from batches."""
    S, b, s = INTERIOR.covariances
    for measured, truth in (
        (lambda t: covariances(t).S, S),
        (lambda t: covariances(t).b, b),
        (lambda t: covariances(t).s, s),
        (lambda t: pearson(t, ONE[None])[0], INTERIOR.pearson(ONE)),
        (lambda t: simplex_optimum(covariances(t)).w, INTERIOR.optimum),
    ):
        value, se = batches(sums, measured)
        assert (np.abs(value - truth) < 4.5 * se).all()


def test_slopes_that_vary_add_to_the_variance_of_the_truth() -> None:
    """Identity: s = σ_a² + βᵀRβ + Σ R_jj σ_bj² + σ_e², whatever R is off its diagonal."""
    plain = replace(INTERIOR, slope_sd=np.zeros(4))
    more = float(INTERIOR.covariances.s - plain.covariances.s)
    np.testing.assert_allclose(more, (INTERIOR.slope_sd**2).sum(), rtol=1e-12)


def test_planted_boundary() -> None:
    """Identity: the weights asked for, a zero with a strictly negative slope; r falls elsewhere."""
    w = BOUNDARY.optimum
    np.testing.assert_allclose(w, [0.0, 0.03, 0.42, 0.55], atol=1e-12)
    S, b, _ = BOUNDARY.covariances
    z = w * (w @ b) / (w @ S @ w)
    np.testing.assert_allclose(b - S @ z, [-0.05, 0.0, 0.0, 0.0], atol=1e-12)
    assert BOUNDARY.slopes[0] < 0
    for other in np.random.default_rng(0).dirichlet(np.ones(4), size=200):
        assert BOUNDARY.pearson(other) < BOUNDARY.pearson(w)
    with pytest.raises(ValueError, match="gap"):
        planted_optimum(INTERIOR, w, np.array([0.0, 0.1, 0.0, 0.0]), 1.0)


def test_autoregression() -> None:
    """Statistical: variance 1 and lag correlations ρ^h, of 40,000 independent series."""
    n = 40_000
    u = autoregression((n, 12), 0.8, np.random.default_rng(5))
    for h in (0, 1, 5, 11):
        products = u[:, 0] * u[:, h]
        assert abs(products.mean() - 0.8**h) < 4.5 * products.std() / np.sqrt(n)
        late = u[:, 11] * u[:, 11 - h]
        assert abs(late.mean() - 0.8**h) < 4.5 * late.std() / np.sqrt(n)


def test_queries_of_a_conversation_share_their_part() -> None:
    """Statistical: 36% of the variance of signals and of the noise is common to two queries."""
    planted = draw(NOTHING, 4000, np.random.default_rng(6))
    pairs = np.array([q[0] for q in planted.conversations() if len(q) > 1])
    for values in (planted.x[:, 0], planted.y):
        products = values[pairs, 7] * values[pairs + 1, 7]
        truth = NOTHING.shared + (NOTHING.intercept_sd**2 if values is planted.y else 0.0)
        assert abs(products.mean() - truth) < 4.5 * products.std() / np.sqrt(len(pairs))


@pytest.mark.parametrize("growing", [False, True])
def test_moments_are_those_of_the_rows(growing: bool) -> None:
    """Oracle: the streaming moment table, conversation by conversation, and of the scores."""
    rng = np.random.default_rng(7)
    planted = draw(INTERIOR, 6, rng)
    planted = grown(planted, rng) if growing else planted
    x, y = planted.rows()
    blocks = []
    for c, queries in enumerate(planted.conversations()):
        rows = slice(planted.offsets[queries.start], planted.offsets[queries.stop])
        blocks.append((str(c), x[:, rows], y[rows]))
    want = moment_table(blocks, "abcd").rebase(np.zeros(5)).sums
    np.testing.assert_allclose(planted.moments(), want, rtol=1e-9, atol=1e-9)
    scored = ((c, ONE[None] @ rows, truth) for c, rows, truth in blocks)
    scores = moment_table(scored, ("score",)).rebase(np.zeros(2)).sums
    np.testing.assert_allclose(score_moments(want, ONE), scores, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("growing", [False, True])
def test_relevant_turns_are_the_largest_that_are_seen(growing: bool) -> None:
    """Identity: three a query, none unseen, all above the rest; y itself retrieves perfectly."""
    rng = np.random.default_rng(8)
    planted = draw(INTERIOR, 30, rng)
    planted = grown(planted, rng) if growing else planted
    relevant, seen = planted.relevant, planted.seen
    assert (relevant.sum(axis=1) == 3).all()
    assert not (relevant & ~seen).any()
    assert (planted.lengths.min() < 50) == growing
    lowest = np.where(relevant, planted.y, np.inf).min(axis=1)
    rest = np.where(seen & ~relevant, planted.y, -np.inf).max(axis=1)
    assert (lowest > rest).all()
    perfect = Planted(
        x=planted.y[:, None],
        y=planted.y,
        lengths=planted.lengths,
        starts=planted.starts,
        num_relevant=3,
    )
    np.testing.assert_allclose(perfect.ndcg(np.ones(1)), planted.sizes)


def test_shapes_and_ranges_are_checked() -> None:
    """Identity: what does not fit is refused with both shapes, or the range."""
    with pytest.raises((ValueError, TypeError), match="correlation"):  # where types are checked
        replace(INTERIOR, correlation=np.eye(3))
    with pytest.raises(ValueError, match="rho"):
        replace(INTERIOR, rho=1.0)
    with pytest.raises(ValueError, match="num_relevant"):
        replace(INTERIOR, num_relevant=12)

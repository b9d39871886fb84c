"""Nearest neighbours against planted truths whose correlation ratio is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial.distance import cdist

from leray.evidence.ceiling import (
    REFUSED_BEYOND,
    NeighbourSearch,
    Profile,
    at_distance_zero,
    at_rank,
    base_rates,
    correlation_ratio,
    group_jackknife,
    normal_scores,
    other_profile,
    own_profile,
    relative_reach,
    thinned,
)
from leray.runs import Key, MemoryStore, drive, no_progress

GROUPS = 8


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(1), progress=no_progress)


def planted(d: int, n: int, seed: int, *, slope: float = 1.5, shift: float = -1.9):
    """Normal signals and a probit truth m = Φ(shift + slope u), u their standardised mean.

    Closed form: with a = shift/√(1 + slope²), ρ = slope²/(1 + slope²), π = Φ(a) and
    E m² = P(Z₁ ≤ a, Z₂ ≤ a) for a normal pair with correlation ρ, by Owen's T function.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d))
    m = special.ndtr(shift + slope * z.sum(axis=1) / np.sqrt(d))
    y = rng.random(n) < m
    rho = slope**2 / (1 + slope**2)
    a = shift / np.sqrt(1 + slope**2)
    both = special.ndtr(a) - 2 * special.owens_t(a, np.sqrt((1 - rho) / (1 + rho)))
    pi = special.ndtr(a)
    eta = np.sqrt((both - pi**2) / (pi * (1 - pi)))
    return z.astype(np.float32), y, np.arange(n) * GROUPS // n, eta


def profile_of(z, y, conversation, K=32, query=None):
    search = NeighbourSearch(
        z=z, y=y, conversation=conversation, query=np.arange(len(y)) if query is None else query,
        group=np.arange(conversation.max() + 1), num_neighbours=K,
    )  # fmt: skip
    found = driven(search)
    base = base_rates(y, conversation)
    return (
        found,
        other_profile(found, conversation[y], base),
        own_profile(found, conversation[y], base),
    )


def test_oracle_neighbours_and_their_profile_are_those_of_all_distances():
    z, y, c, _ = planted(3, 240, 0)
    query = np.arange(240) // 4
    found, other, own = profile_of(z, y, c, K=5, query=query)
    positives = np.flatnonzero(y)
    far = cdist(z[positives].astype(float), z.astype(float))
    for without in range(-1, GROUPS):
        rows = positives[c[positives] != without]
        allowed = (c[rows][:, None] != c) & (c != without)
        there = np.where(allowed, far[c[positives] != without], np.inf)
        order = np.argsort(there, axis=1)[:, :5]
        np.testing.assert_allclose(other.rate[without + 1], y[order].mean(axis=0))
        expected = np.take_along_axis(there, order, axis=1)
        np.testing.assert_allclose(other.distance[without + 1], expected.mean(axis=0), rtol=1e-5)
    here = (c[positives][:, None] == c) & (query[positives][:, None] != query)
    order = np.argsort(np.where(here, far, np.inf), axis=1)[:, :5]
    np.testing.assert_allclose(own.rate[0], y[order].mean(axis=0))
    assert not np.isfinite(found.distance[c[positives], np.arange(len(positives))]).any()


def test_oracle_normal_scores_are_those_of_mean_ranks():
    x = np.random.default_rng(0).integers(0, 20, size=(200, 2)).astype(float)
    expected = special.ndtri((stats.rankdata(x, axis=0) - 0.5) / 200)
    np.testing.assert_allclose(normal_scores(x), expected, atol=1e-6)
    assert (normal_scores(np.ones((5, 1))) == 0).all()


@given(st.floats(0.1, 5), st.floats(-3, 3))
def test_identity_normal_scores_know_the_order_only(scale, shift):
    x = np.random.default_rng(1).normal(size=(50, 2))
    np.testing.assert_array_equal(normal_scores(np.exp(scale * x + shift)), normal_scores(x))


@given(st.floats(0.05, 0.9), st.floats(0.0, 0.5))
def test_identity_a_line_is_taken_to_its_intercept(intercept, slope):
    h = np.linspace(0.1, 0.4, 6)[None]
    rate = intercept - slope * h * intercept
    base = np.array([0.01])
    exact = correlation_ratio(np.array([intercept]), base)
    lipschitz = at_distance_zero(Profile(rate, h, h**2, base), 1)
    np.testing.assert_allclose(lipschitz, exact, rtol=1e-9)
    curved = Profile(intercept - slope * intercept * h**2, h, h**2, base)
    np.testing.assert_allclose(at_distance_zero(curved, 2), exact, rtol=1e-9)
    with pytest.raises(ValueError, match="allowed: 1"):
        at_distance_zero(curved, 3)


def test_statistical_thinning_by_weights_is_thinning_the_rows():
    """The nearest neighbour among a drawn half of the rows, against the closed form over ranks."""
    z, y, c, _ = planted(2, 8_000, 3)
    _, full, _ = profile_of(z, y, c, K=24)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(8):
        kept = y | (rng.random(len(y)) < 0.5)
        hidden = y & (rng.random(len(y)) >= 0.5)  # positives stay as queries, not as neighbours
        far = np.full(y.sum(), np.inf)
        label = np.zeros(y.sum())
        for g in range(GROUPS):
            rows = np.flatnonzero(kept & ~hidden & (c == g))
            asked = np.flatnonzero(c[y] != g)
            there = cdist(z[y][asked], z[rows])
            nearest = there.argmin(axis=1)
            closer = there.min(axis=1) < far[asked]
            far[asked] = np.minimum(far[asked], there.min(axis=1))
            label[asked[closer]] = y[rows[nearest[closer]]]
        drawn.append(correlation_ratio(np.array([label.mean()]), full.base[:1])[0])
    error = np.std(drawn, ddof=1) / np.sqrt(len(drawn))
    assert thinned(full, 0.5)[0] == pytest.approx(np.mean(drawn), abs=5 * error)
    assert thinned(full, 1.0)[0] == pytest.approx(at_rank(full, 1)[0])


@pytest.mark.parametrize("d", [1, 2, 4])
def test_statistical_neighbours_find_the_ceiling_in_low_dimension(d):
    """Means over 5 samples; 5% are allowed for the smoothness bias."""
    smooth, rough = [], []
    for seed in range(5):
        z, y, c, eta = planted(d, 10_000, seed)
        _, other, _ = profile_of(z, y, c, K=24)
        smooth.append(at_distance_zero(other, 2)[0] / eta)
        rough.append(at_distance_zero(other, 1)[0] / eta)
        assert relative_reach(z, y, c) < REFUSED_BEYOND
    error = np.std(rough, ddof=1) / np.sqrt(len(rough))
    assert np.mean(rough) == pytest.approx(1, abs=0.05 + 5 * error)
    assert np.mean(smooth) == pytest.approx(1, abs=0.05 + 5 * error)
    assert np.mean(smooth) < np.mean(rough) + 1e-3


def test_statistical_without_extrapolation_the_estimate_is_low_in_four_dimensions():
    ratios = []
    for seed in range(4):
        z, y, c, eta = planted(4, 6_000, 10 + seed)
        _, other, _ = profile_of(z, y, c)
        ratios.append(at_rank(other, 32)[0] / eta)
    error = np.std(ratios, ddof=1) / np.sqrt(len(ratios))
    assert np.mean(ratios) < 1 - 5 * error


def test_statistical_eighteen_dimensions_are_refused_and_would_mislead():
    z, y, c, eta = planted(18, 6_000, 0)
    assert relative_reach(z, y, c) > 2 * REFUSED_BEYOND
    _, other, _ = profile_of(z, y, c)
    assert at_rank(other, 32)[0] < 0.75 * eta


def test_statistical_no_signal_gives_no_ceiling():
    rng = np.random.default_rng(5)
    z, c = rng.normal(size=(9_000, 3)).astype(np.float32), np.arange(9_000) % GROUPS
    y = rng.random(9_000) < 0.05
    _, other, _ = profile_of(z, y, c)
    pairs = y.sum() * 32
    error = np.sqrt(y.mean() * (1 - y.mean()) / pairs)
    assert other.rate[0].mean() == pytest.approx(y.mean(), abs=5 * error)


def test_statistical_what_a_conversation_adds_shows_in_its_own_neighbours_only():
    """Labels that follow a sign of each conversation: m(x) averages over it, m_c does not."""
    rng = np.random.default_rng(6)
    c = np.repeat(np.arange(10), 800)
    x = rng.normal(size=(8_000, 1)).astype(np.float32)
    m = special.expit(-2 + 2 * (-1.0) ** c * x[:, 0])
    y = rng.random(8_000) < m
    _, other, own = profile_of(x, y, c, K=16)
    within = np.sqrt(m.var() / (m.mean() * (1 - m.mean())))
    assert at_distance_zero(own, 1)[0] == pytest.approx(within, abs=0.05)
    assert at_distance_zero(other, 1)[0] < 0.7 * within


def test_statistical_the_interval_covers():
    """40 samples at 95%: fewer than 33 covered would be 4 standard errors below the level."""
    covered = 0
    for seed in range(40):
        z, y, c, eta = planted(1, 1_500, 100 + seed)
        _, other, _ = profile_of(z, y, c, K=8)
        i = group_jackknife(at_distance_zero(other, 1), 0.95, GROUPS)
        covered += i.low <= eta <= i.high
    assert covered >= 33

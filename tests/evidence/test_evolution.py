"""Evolution and its rivals: identities of the landscape, oracles for what the searches find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.evidence.evolution import (
    CovarianceSearch,
    Evolution,
    RandomSearch,
    evaluations_until,
    exchange_directions,
    smoothness,
    squares_to_simplex,
    to_simplex,
)
from leray.evidence.moments import covariances, moment_table, pearson
from leray.evidence.optimum import simplex_optimum
from leray.memory.methods import simplex_grid
from leray.runs import Key, MemoryStore, drive, no_progress

seeds = st.integers(0, 2**32 - 1)


def packed(seed: int, d: int = 4, rows: int = 300) -> np.ndarray:
    """The packed sums of d correlated signals and a truth that depends on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(d, d)) @ rng.normal(size=(d, rows))
    y = rng.normal(size=d) @ x + 3 * rng.normal(size=rows)
    return moment_table([("all", x, y)], tuple("abcdefg"[:d])).total


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(3), progress=no_progress)


@given(seeds, st.floats(0, 1))
def test_identity_r_is_quasi_concave_where_it_is_positive(seed, share):
    rng = np.random.default_rng(seed)
    moments = packed(seed)
    w, v = rng.dirichlet(np.ones(4), 2)
    between = (1 - share) * w + share * v
    r_w, r_v, r_between = pearson(moments, np.stack([w, v, between]))
    if min(r_w, r_v) > 0:
        assert r_between >= min(r_w, r_v) - 1e-12


@given(seeds)
def test_identity_from_every_lesser_point_a_straight_line_climbs(seed):
    # The proof in the module: towards the optimum r exceeds its start at every share > 0.
    moments = packed(seed)
    w = np.random.default_rng(seed).dirichlet(np.ones(4))
    best = simplex_optimum(covariances(moments))
    r_w = pearson(moments, w[None])[0]
    if 0 < r_w < best.r * (1 - 1e-6):
        shares = np.array([1e-4, 1e-3, 1e-2, 0.1, 0.5])[:, None]
        assert (pearson(moments, (1 - shares) * w + shares * best.w) > r_w).all()


@given(seeds)
def test_identity_points_come_to_the_simplex_and_stay(seed):
    points = np.random.default_rng(seed).normal(size=(20, 5))
    for back in (to_simplex(points), squares_to_simplex(points)):
        assert (back >= 0).all()
        np.testing.assert_allclose(back.sum(axis=1), 1)
    np.testing.assert_allclose(to_simplex(to_simplex(points)), to_simplex(points))


def test_oracle_a_row_without_a_positive_weight_becomes_a_vertex():
    np.testing.assert_array_equal(to_simplex(np.array([[-3.0, -1.0, -2.0]])), [[0, 1, 0]])


def test_oracle_evolution_finds_an_inner_optimum_to_rounding():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 2000))
    y = np.array([0.1, 0.2, 0.3, 0.4]) @ x + rng.normal(size=2000)
    moments = moment_table([("all", x, y)], tuple("abcd")).total
    best = simplex_optimum(covariances(moments))
    found = driven(Evolution(moments=moments, num_signals=4, population=200, num_generations=80))
    r, weights = found.found
    assert best.r * (1 - 1e-8) < r <= best.r * (1 + 1e-12)
    np.testing.assert_allclose(weights, best.w, atol=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_identity_no_search_exceeds_the_exact_optimum_and_none_forgets_its_best(seed):
    moments = packed(seed)
    best = float(simplex_optimum(covariances(moments)).r)
    evolution = driven(Evolution(moments=moments, num_signals=4, population=40, num_generations=30))
    random = driven(RandomSearch(moments=moments, num_signals=4, num_evaluations=2_000))
    for search in (evolution, random):
        assert (search.best <= best + 1e-12).all()
        assert (np.diff(search.best, axis=1) >= 0).all()
        of_weights = pearson(moments, search.weights.reshape(-1, 4)).reshape(search.best.shape)
        np.testing.assert_allclose(of_weights, search.best, atol=1e-12)


def test_identity_evaluations_count_the_first_population_and_the_children():
    found = driven(
        Evolution(
            moments=packed(1), num_signals=4, population=40, num_generations=7,
            generations_per_step=3, num_shards=2,
        )
    )  # fmt: skip
    np.testing.assert_array_equal(found.evaluations, 40 + 20 * np.arange(8))
    assert found.best.shape == found.mean.shape == found.diversity.shape == (2, 8)


def test_statistical_a_tournament_of_three_picks_the_best_third_as_often_as_it_should():
    # The chance that the winner of three stands in the best third is 1 − (2/3)³. The survivors
    # of a generation without mutation and with α = anything lie between parents, so parents are
    # seen by marking: population k carries weight 1 on the first signal in the best third only.
    n, third = 3_000, 1_000
    population = np.zeros((n, 2))
    population[:third, 0] = 1.0
    population[third:, 1] = 1.0
    evolution = Evolution(moments=packed(0, d=2), num_signals=2, population=n, mutation_rate=0.0)
    fitness = -np.arange(n, dtype=float)
    rng = np.random.default_rng(4)
    merged, given_fitness = evolution.generation(population, fitness, rng)
    children = merged[~np.isin(given_fitness, fitness)]
    assert len(children) == n // 2
    chance = 1 - (2 / 3) ** 3
    # A child's first weight has the parents' mean as its expectation; Var ≤ p(1 − p) each.
    error = np.sqrt(chance * (1 - chance) / (n / 2))
    assert abs(children[:, 0].mean() - chance) < 4.5 * error


def test_identity_mutation_is_what_makes_the_spread_outlast_the_crossover():
    still = driven(
        Evolution(
            moments=packed(1), num_signals=4, population=40, num_generations=60, mutation_rate=0.0
        )
    )
    moving = driven(Evolution(moments=packed(1), num_signals=4, population=40, num_generations=60))
    assert still.diversity[:, -1].max() < 1e-3 < moving.diversity[:, -1].mean()


def test_oracle_the_library_reaches_the_exact_optimum_on_the_boundary_too():
    for seed in range(3):
        moments = packed(seed)
        best = float(simplex_optimum(covariances(moments)).r)
        for shard in driven(CovarianceSearch(moments=moments, num_signals=4, num_shards=2)):
            assert shard["best"][-1] == pytest.approx(best, rel=1e-6)
            assert shard["best"][-1] <= best + 1e-12
            assert (np.diff(shard["evaluations"]) > 0).all()


def test_identity_the_library_draws_from_the_key_alone():
    search = CovarianceSearch(moments=packed(2), num_signals=4, num_shards=1)
    np.random.seed(1)  # noqa: NPY002 — the global state, which must not matter
    first = search.step({}, 0, Key.root(5))[1]
    np.random.seed(2)  # noqa: NPY002
    second = search.step({}, 0, Key.root(5))[1]
    np.testing.assert_array_equal(first["best"], second["best"])


def test_oracle_smoothness_of_known_surfaces():
    n = 9
    ij = np.stack(np.divmod(np.arange(n * n), n), axis=1)
    x, y = (ij - n // 2).T.astype(float)
    axes = np.array([[1, 0], [0, 1]])
    hill = smoothness(-(x**2) - 2 * y**2, ij, axes)
    assert (hill.num_points, hill.local_maxima) == (n * n, 1)
    assert hill.second_difference == pytest.approx(4.0)  # ∂²/∂y² of 2y²
    egg_box = smoothness(np.cos(np.pi * x) * np.cos(np.pi * y), ij, axes)
    assert egg_box.local_maxima == (n * n + 1) // 2  # the cells of one colour of a chessboard
    assert smoothness(np.zeros(n * n), ij, axes).local_maxima == 0  # a plateau has no strict one


def test_oracle_neighbours_on_the_simplex_differ_by_one_exchange():
    directions = exchange_directions(4)
    assert len(directions) == 6
    assert (directions.sum(axis=1) == 0).all()
    points = np.rint(simplex_grid(4, 0.25) * 4).astype(np.int64)
    target = np.array([1, 1, 1, 1])
    r = -((points - target) ** 2).sum(axis=1).astype(float)
    assert smoothness(r, points, directions).local_maxima == 1


def test_oracle_evaluations_until_the_tolerance():
    evaluations, best = np.array([10, 20, 30]), np.array([0.5, 0.9, 1.0])
    assert evaluations_until(evaluations, best, 1.0, 0.1) == 20
    assert evaluations_until(evaluations, best, 1.1, 0.01) is None


def test_a_population_that_cannot_be_halved_twice_is_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        Evolution(moments=packed(0), num_signals=4, population=30)

"""Searching the simplex for the weights with the largest Pearson r: evolution and its rivals.

The landscape is r(w) = wᵀb / √(s wᵀSw) on {w ≥ 0, Σw = 1}. It needs no search, since
`leray.evidence.optimum` solves it exactly; what follows measures what a search finds of it.

**Every local maximum of r with r > 0 is global.** Let w be a local maximum with r(w) = t > 0 and v
any point with r(v) > t. On the segment w_λ = (1 − λ)w + λv put f(λ) = w_λᵀb − t √(s w_λᵀS w_λ).
It is linear minus convex (a norm of a linear function), so concave; f(0) = 0 and f(1) > 0, so
f(λ) ≥ λ f(1) > 0 for 0 < λ ≤ 1, that is, r(w_λ) > t arbitrarily close to w: a contradiction. By
the same f, min(r(w), r(v)) ≤ r(w_λ) wherever both are positive: r is quasi-concave where wᵀb > 0.

Notation: P the population, d the signals, g the generations.

Source: Goldberg and Deb, A comparative analysis of selection schemes used in genetic algorithms
(1991), for tournaments; Hansen and Ostermeier (Evolutionary Computation 2001) for the CMA-ES.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from leray.evidence.moments import Array, pearson
from leray.evidence.resampling import RandomKey, Samples, Stateless

_MAX_CMA_EVALUATIONS = 20_000


class Trajectory(NamedTuple):
    """How searches went, one a shard, each at g + 1 moments.

    ``evaluations [g + 1]`` of the fitness so far; the best r so far ``best [shards, g + 1]`` and
    its weights ``weights [shards, g + 1, d]``; the population's ``mean`` r and ``diversity``, the
    root mean square distance from its centre, ``[shards, g + 1]``.
    """

    evaluations: Array
    best: Array
    weights: Array
    mean: Array
    diversity: Array

    @property
    def found(self) -> tuple[float, Array]:
        """The best r of all shards, and its weights."""
        shard = int(self.best[:, -1].argmax())
        return float(self.best[shard, -1]), self.weights[shard, -1]


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """A genetic algorithm on the simplex, from several starts at once (a shard each).

    The better half survives; the other half are children: tournaments choose P/2 parents, pairs
    of parents give two children each by arithmetic crossover, αa + (1 − α)b and (1 − α)a + αb
    with α uniform, and a child mutates with probability ``mutation_rate``. Survivors keep their
    fitness, so a run evaluates P + g P/2 points and not g P.

    Args:
        moments: The packed sums of all conversations, ``[K]``.
        num_signals: d.
        population: P, a multiple of 4.
        tournament: How many are drawn for each parent; the fittest wins.
        mutation_scale: Standard deviation of the Gaussian step of every weight.

    Raises:
        ValueError: for a population that is not a positive multiple of 4.

    Cost: a step is 50 generations, each a product [P/2, d(d+1)/2] and a sort.
    """

    moments: Array
    num_signals: int
    population: int = 1_000
    num_generations: int = 500
    generations_per_step: int = 50
    tournament: int = 3
    mutation_rate: float = 0.1
    mutation_scale: float = 0.1
    name: str = "genetic"
    num_shards: int = 4

    def __post_init__(self) -> None:
        if self.population <= 0 or self.population % 4:
            raise ValueError(f"a population of {self.population}: allowed are multiples of 4")

    @property
    def num_steps(self) -> int:
        return -(-self.num_generations // self.generations_per_step)

    def init(self, shard: int, key: RandomKey) -> dict[str, Any]:  # noqa: ARG002
        """A population drawn uniformly from the simplex, the fittest first."""
        start = key.generator().dirichlet(np.ones(self.num_signals), self.population)
        population, fitness = _sorted(start, self.fitness(start))
        return {"population": population, "fitness": fitness}

    def step(
        self, state: dict[str, Any], step_index: int, key: RandomKey
    ) -> tuple[dict[str, Any], Samples]:
        rng = key.generator()
        population, fitness = state["population"], state["fitness"]
        done = step_index * self.generations_per_step
        rows = [_summary(population, fitness)] if step_index == 0 else []
        for _ in range(min(self.generations_per_step, self.num_generations - done)):
            population, fitness = self.generation(population, fitness, rng)
            rows.append(_summary(population, fitness))
        samples = {k: np.array([row[k] for row in rows]) for k in rows[0]}
        return {"population": population, "fitness": fitness}, samples

    def fitness(self, weights: Float[Array, "points d"]) -> Float[Array, " points"]:
        """Pearson's r of every row of weights: one product for all."""
        return pearson(self.moments, weights)

    def generation(
        self, population: Array, fitness: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """The next population and its fitness, the fittest first, as it is given."""
        half = len(population) // 2
        # Sorted by fitness: the winner of a tournament is the entrant that stands first.
        winners = rng.integers(len(population), size=(half, self.tournament)).min(axis=1)
        a, b = population[winners[0::2]], population[winners[1::2]]
        share = rng.random((half // 2, 1))
        children = np.concatenate([b + share * (a - b), a + share * (b - a)])
        mutant = rng.random(half) < self.mutation_rate
        steps = rng.normal(scale=self.mutation_scale, size=(int(mutant.sum()), self.num_signals))
        children[mutant] = to_simplex(children[mutant] + steps)
        return _sorted(
            np.concatenate([population[:half], children]),
            np.concatenate([fitness[:half], self.fitness(children)]),
        )

    def result(self, samples: list[list[Samples]]) -> Trajectory:
        born = np.arange(self.num_generations + 1) * (self.population // 2)
        return _trajectory(self.population + born, samples)


@dataclass(frozen=True, kw_only=True)
class RandomSearch(Stateless):
    """Points drawn uniformly from the simplex, the best so far kept; a step is all of a shard.

    Args:
        moments: The packed sums of all conversations, ``[K]``.
        num_evaluations: Points in each shard, looked at in batches of ``batch``.
    """

    moments: Array
    num_signals: int
    num_evaluations: int
    batch: int = 500
    name: str = "genetic-random"
    num_shards: int = 4
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        rng = key.generator()
        best, rows = (-np.inf, np.zeros(self.num_signals)), []
        for _ in range(self.num_evaluations // self.batch):
            points = rng.dirichlet(np.ones(self.num_signals), self.batch)
            r = pearson(self.moments, points)
            k = int(r.argmax())
            best = max(best, (float(r[k]), points[k]), key=lambda pair: pair[0])
            rows.append({**_summary(points, r), "best": best[0], "weights": best[1]})
        return state, {k: np.array([row[k] for row in rows]) for k in rows[0]}

    def result(self, samples: list[list[Samples]]) -> Trajectory:
        batches = np.arange(1, self.num_evaluations // self.batch + 1)
        return _trajectory(batches * self.batch, samples)


@dataclass(frozen=True, kw_only=True)
class CovarianceSearch(Stateless):
    """The CMA-ES of the library ``cma`` on x ∈ ℝᵈ, w = x²/Σx² (so that w reaches the boundary).

    It ends by the library's own criteria; a step is a whole search.

    Result: for each shard, evaluations so far, the best r so far and its weights at every
    iteration (``[iterations]``, ``[iterations]``, ``[iterations, d]``).
    """

    moments: Array
    num_signals: int
    name: str = "genetic-cma"
    num_shards: int = 4
    num_steps: int = 1

    def step(
        self,
        state: dict[str, Any],
        step_index: int,  # noqa: ARG002
        key: RandomKey,
    ) -> tuple[dict[str, Any], Samples]:
        import cma  # an optional library, which a run without this rival does not need

        rng = key.generator()
        scale = np.abs(pearson(self.moments, np.eye(self.num_signals))).max()
        options = {
            "randn": lambda *shape: rng.standard_normal(shape),
            "seed": np.nan,
            "verbose": -9,
            "maxfevals": _MAX_CMA_EVALUATIONS,
            "tolfun": 1e-13,
            "tolx": 1e-12,
        }
        start = np.sqrt(np.full(self.num_signals, 1 / self.num_signals))
        search = cma.CMAEvolutionStrategy(start, 0.3, options)
        evaluations, best, weights = [], [], []
        while not search.stop():
            asked = search.ask()
            points = squares_to_simplex(np.array(asked))
            r = pearson(self.moments, points)
            search.tell(asked, list(-r / scale))
            k = int(r.argmax())
            better = not best or r[k] > best[-1]
            evaluations.append(search.countevals)
            best.append(float(r[k]) if better else best[-1])
            weights.append(points[k] if better else weights[-1])
        return state, {
            "evaluations": np.array(evaluations),
            "best": np.array(best),
            "weights": np.array(weights),
        }

    def result(self, samples: list[list[Samples]]) -> list[Samples]:
        return [shard[0] for shard in samples]


def to_simplex(points: Float[Array, "points d"]) -> Float[Array, "points d"]:
    """Negative weights become 0, then each row is divided by its sum.

    A row without a positive weight becomes the vertex of its largest.
    """
    clipped = np.maximum(points, 0.0)
    total = clipped.sum(axis=1, keepdims=True)
    vertex = np.eye(points.shape[1])[points.argmax(axis=1)]
    return np.where(total > 0, clipped / np.where(total > 0, total, 1.0), vertex)


def squares_to_simplex(points: Float[Array, "points d"]) -> Float[Array, "points d"]:
    """w = x²/Σx², which covers the whole simplex, its boundary included."""
    squares = points**2
    return squares / squares.sum(axis=1, keepdims=True)


def evaluations_until(
    evaluations: Array, best: Float[Array, " moments"], optimum: float, tolerance: float
) -> int | None:
    """Evaluations when the best so far first stood within ``tolerance`` of the optimum.

    The tolerance is relative; None where it never did.
    """
    near = best >= optimum - tolerance * abs(optimum)
    return int(evaluations[near.argmax()]) if near.any() else None


class Smoothness(NamedTuple):
    """Strict local maxima among ``num_points``, and the largest |second difference| of r."""

    num_points: int
    local_maxima: int
    second_difference: float


def smoothness(
    r: Float[Array, " points"], coordinates: Int[Array, "points k"], directions: Int[Array, "m k"]
) -> Smoothness:
    """How smooth r is on a lattice whose neighbours differ by ± one of the directions.

    A strict local maximum exceeds all its neighbours; the second difference along a direction u
    is r(p + u) − 2 r(p) + r(p − u).

    Args:
        r: A value a point.
        coordinates: The points as whole numbers, each once.
        directions: m of them, no two opposite.
    """
    place = {tuple(p): k for k, p in enumerate(coordinates.tolist())}
    highest = np.ones(len(r), dtype=bool)
    largest = 0.0
    for u in directions:
        after = np.array([place.get(tuple(p), -1) for p in (coordinates + u).tolist()])
        before = np.array([place.get(tuple(p), -1) for p in (coordinates - u).tolist()])
        for other in (after, before):
            highest &= (other < 0) | (r > r[other])
        inside = (after >= 0) & (before >= 0)
        bend = np.abs(r[after] - 2 * r + r[before])[inside]
        largest = max(largest, float(bend.max(initial=0.0)))
    return Smoothness(len(r), int(highest.sum()), largest)


def exchange_directions(d: int) -> Int[Array, "m d"]:
    """e_i − e_j for i < j: on the simplex, one step from one weight to another."""
    units = np.eye(d, dtype=np.int64)
    return np.array([units[i] - units[j] for i, j in combinations(range(d), 2)])


def _sorted(population: Array, fitness: Array) -> tuple[Array, Array]:
    order = np.argsort(-fitness, kind="stable")
    return population[order], fitness[order]


def _summary(population: Array, fitness: Array) -> dict[str, Any]:
    k = int(fitness.argmax())
    centred = population - population.mean(axis=0)
    return {
        "best": fitness[k],
        "weights": population[k],
        "mean": fitness.mean(),
        "diversity": np.sqrt(np.vdot(centred, centred) / len(population)),
    }


def _trajectory(evaluations: Array, samples: list[list[Samples]]) -> Trajectory:
    names = ("best", "weights", "mean", "diversity")
    joined = (np.stack([np.concatenate([s[n] for s in shard]) for shard in samples]) for n in names)
    return Trajectory(evaluations, *joined)

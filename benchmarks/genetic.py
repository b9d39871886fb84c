"""The genetic algorithm, 1,000 × 500, ours and as others do it, on equal work.

    python benchmarks/genetic.py

- *the document's way*: the same algorithm, fitness by ``np.corrcoef`` of the weighted signals with
  the truth over all rows, a set of weights at a time; measured on ``--loop-evaluations`` of them
  and multiplied up to the 251,000 that ours makes;
- *pymoo's GA*: the library's operators (tournament, simulated binary crossover, polynomial
  mutation) with the same population, offspring and generations, and **our** fitness, so that what
  differs is the algorithm's own cost; w = x/Σx on the unit cube;
- *DEAP*: where it is installed, its own loop with the same sizes, fitness by table as well.

Rows are drawn: signals standard normal, a truth that depends on them. One core, one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from importlib.util import find_spec
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np

from leray.evidence.evolution import CovarianceSearch, Evolution, to_simplex
from leray.evidence.moments import Covariances, MomentTable, covariances, moment_table, pearson
from leray.evidence.optimum import simplex_optimum
from leray.runs import Key

Array = np.ndarray
POPULATION, GENERATIONS, SEED = 1_000, 500, 0
OFFSPRING = POPULATION // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--loop-evaluations", type=int, default=20)
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(4, options.rows))
    y = np.array([0.02, 0.05, 0.2, 0.1]) @ x + rng.normal(size=options.rows)
    moment_table([("warm", x[:, :100], y[:100])], ("a", "b", "c", "d"))  # compile
    start = time.process_time()
    table = moment_table([("all", x, y)], ("a", "b", "c", "d"))
    pass_seconds = time.process_time() - start
    optimum = float(simplex_optimum(covariances(table.total)).r)
    seconds, r = ours(table)
    print(f"{options.rows:,} rows; {POPULATION:,} × {GENERATIONS} generations; CPU seconds")
    print(f"the pass that makes the moment table, once for all methods: {pass_seconds:.3f}")
    print(f"{'':<34}{'seconds':>12}{'ratio':>12}{'regret / r':>14}")
    report("ours", seconds, seconds, 1 - r / optimum)
    loop = naive(x, y, options.loop_evaluations)
    report("ours, the pass included", seconds + pass_seconds, seconds, 1 - r / optimum)
    label = f"loop of corrcoef (from {options.loop_evaluations})"
    report(label, loop, seconds + pass_seconds, None)
    peers = [("pymoo GA, our fitness", with_pymoo), ("DEAP, our fitness", with_deap)]
    for name, method in peers:
        if find_spec(name.split()[0].rstrip(",").lower()) is None:
            print(f"{name:<34}{'not installed':>12}")
            continue
        taken, found = method(table)
        report(name, taken, seconds, 1 - found / optimum)
    taken, shard = clocked(lambda: cma_search(table))
    print(
        f"CMA-ES of cma: {taken:.3f} s, {shard['evaluations'][-1]:,} evaluations, regret "
        f"{max(0.0, 1 - shard['best'][-1] / optimum):.1e}"
    )
    moments = covariances(table.total)
    exact = clocked(lambda: [simplex_optimum(Covariances(*moments)) for _ in range(100)])[0] / 100
    print(f"the exact optimum, which makes all of these moot: {1e3 * exact:.2f} ms")


def report(name: str, seconds: float, ours_seconds: float, regret: float | None) -> None:
    """One line: CPU seconds, how many times ours, and the relative regret."""
    shown = "" if regret is None else f"{max(0.0, regret):.1e}"
    print(f"{name:<34}{seconds:>12.3f}{seconds / ours_seconds:>12,.1f}{shown:>14}")


def clocked(work: Any) -> tuple[float, Any]:
    """CPU seconds of this process, and what came out."""
    start = time.process_time()
    out = work()
    return time.process_time() - start, out


def ours(table: MomentTable) -> tuple[float, float]:
    """One start, all generations; the median of three runs."""
    search = Evolution(
        moments=table.total, num_signals=4, population=POPULATION, num_generations=GENERATIONS,
        num_shards=1,
    )  # fmt: skip

    def work() -> float:
        key = Key.root(SEED)
        state, samples = search.init(0, key), []
        for k in range(search.num_steps):
            state, made = search.step(state, k, key.child(k))
            samples.append(made)
        return search.result([samples]).found[0]

    runs = [clocked(work) for _ in range(3)]
    return sorted(runs)[1]


def naive(x: Array, y: Array, num_evaluations: int) -> float:
    """Seconds of all evaluations by np.corrcoef over the rows, from some of them."""
    weights = np.random.default_rng(SEED).dirichlet(np.ones(4), num_evaluations)

    def work() -> list[float]:
        return [float(np.corrcoef(w @ x, y)[0, 1]) for w in weights]

    return clocked(work)[0] / num_evaluations * (POPULATION + GENERATIONS * OFFSPRING)


def with_pymoo(table: MomentTable) -> tuple[float, float]:
    """pymoo's genetic algorithm: 500 offspring a generation, survival of the fittest."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    class Correlation(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=4, n_obj=1, xl=0.0, xu=1.0)

        def _evaluate(self, x: Array, out: dict[str, Array], *_: Any, **__: Any) -> None:
            out["F"] = -pearson(table.total, to_simplex(x))[:, None]

    algorithm = GA(pop_size=POPULATION, n_offsprings=OFFSPRING)
    seconds, found = clocked(
        lambda: minimize(Correlation(), algorithm, ("n_gen", GENERATIONS + 1), seed=SEED)
    )
    return seconds, -float(found.F[0])


def with_deap(table: MomentTable) -> tuple[float, float]:
    """DEAP's eaMuPlusLambda with a blend crossover and a Gaussian mutation."""
    import random

    from deap import algorithms, base, creator, tools  # pyright: ignore[reportMissingImports]

    random.seed(SEED)
    creator.create("Fitness", base.Fitness, weights=(1.0,))
    creator.create("Individual", list, fitness=creator.Fitness)
    box = base.Toolbox()
    box.register("gene", random.random)
    box.register("individual", tools.initRepeat, creator.Individual, box.gene, 4)
    box.register("population", tools.initRepeat, list, box.individual)
    box.register("evaluate", lambda w: (float(pearson(table.total, to_simplex(np.array([w])))[0]),))
    box.register("mate", tools.cxBlend, alpha=0.0)
    box.register("mutate", tools.mutGaussian, mu=0.0, sigma=0.1, indpb=1.0)
    box.register("select", tools.selTournament, tournsize=3)
    start = box.population(n=POPULATION)
    seconds, (last, _) = clocked(
        lambda: algorithms.eaMuPlusLambda(
            start, box, POPULATION, OFFSPRING, 0.9, 0.1, GENERATIONS, verbose=False
        )
    )
    return seconds, max(w.fitness.values[0] for w in last)


def cma_search(table: MomentTable) -> dict[str, Array]:
    """One search of the library."""
    search = CovarianceSearch(moments=table.total, num_signals=4)
    return search.step({}, 0, Key.root(SEED))[1]


if __name__ == "__main__":
    main()

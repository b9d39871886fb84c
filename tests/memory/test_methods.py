"""Grids, candidates and the published formulas against small loops."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.memory.blocks import (
    AGE,
    ALL,
    DAY,
    FIVE,
    FOUR,
    HOUR,
    RECENCY,
    Block,
    decay_name,
)
from leray.memory.methods import (
    EQUAL,
    FITTED,
    FORMULAS,
    INTUITIVE,
    OPTIMAL,
    ORDER,
    compact,
    landscape_grid,
    linear,
    linear_candidates,
    simplex_grid,
)

TAUS = (HOUR, 30 * DAY)
COLUMNS = (*(decay_name(t) for t in TAUS), *ALL[1:], RECENCY, AGE)


def small_block(seed: int = 0, sizes: tuple[int, ...] = (5, 1, 7)) -> Block:
    """Random signals, a few of them tied; the latest candidate of each query comes last."""
    rng = np.random.default_rng(seed)
    rows = sum(sizes)
    x = (rng.integers(0, 9, (len(COLUMNS), rows)) / 8).astype(np.float32)
    x[-2] = np.concatenate([np.arange(1, n + 1) / n for n in sizes])
    x[-1] = np.concatenate([np.arange(n, 0, -1) * 5.0 for n in sizes])
    relevant = np.zeros(rows, dtype=bool)
    relevant[np.cumsum(sizes) - 1] = True
    return Block(
        history="h",
        signals=COLUMNS,
        x=x,
        relevant=relevant,
        offsets=np.cumsum([0, *sizes]),
        clusters=("a", "a", "b"),
    )


def column(block: Block, name: str) -> list[list[float]]:
    """A signal, query by query."""
    values = block.rows((name,))[0].astype(float)
    return [p.tolist() for p in np.split(values, block.offsets[1:-1])]


def min_max(v: list[float]) -> list[float]:
    low, high = min(v), max(v)
    return [(x - low) / (high - low) if high > low else 0.5 for x in v]


def mean_rank(v: list[float], i: int) -> float:
    """The place of i from the top, the tied sharing the mean of theirs."""
    return 1 + sum(x > v[i] for x in v) + (sum(x == v[i] for x in v) - 1) / 2


@pytest.mark.parametrize(("d", "step"), [(1, 0.5), (2, 0.25), (3, 0.1), (4, 0.05), (5, 0.1)])
def test_the_simplex_grid_is_every_multiple_once(d: int, step: float) -> None:
    """Oracle: C(parts + d − 1, d − 1) distinct points of the simplex, multiples of the step."""
    grid, parts = simplex_grid(d, step), round(1 / step)
    assert len(grid) == math.comb(parts + d - 1, d - 1) == len(np.unique(grid, axis=0))
    counts = np.rint(grid * parts).astype(int)
    np.testing.assert_array_equal(counts / parts, grid)
    np.testing.assert_array_equal(counts.sum(axis=1), parts)
    assert (counts >= 0).all()


def test_the_landscape_is_thirteen_by_thirteen() -> None:
    """Oracle: a double loop over .10, .15, …, .70, the rest 2:1; beyond 1, divided by the sum."""
    expected, beyond = [], []
    for decay, surprise in product([k / 20 for k in range(2, 15)], repeat=2):
        rest = max(0.0, 1 - decay - surprise)
        total = max(1.0, decay + surprise)
        beyond.append(round(20 * (decay + surprise)) > 20)
        expected.append([decay / total, surprise / total, rest * 2 / 3, rest / 3])
    weights, renormalised = landscape_grid()
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(renormalised, beyond)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-15)
    assert renormalised.sum() == 36


def test_fixed_weights_are_the_sources() -> None:
    """Golden: as published; the "optimal" ones are (.10, .60, .20, .10)."""
    assert FOUR == ("decay", "surprise", "relevance", "habituation")
    assert (INTUITIVE, OPTIMAL) == ((0.40, 0.30, 0.20, 0.10), (0.10, 0.60, 0.20, 0.10))
    assert EQUAL == (0.25,) * 4
    assert {c.method for c in linear_candidates(TAUS)} | set(FORMULAS) | set(FITTED) == set(ORDER)


@pytest.mark.parametrize("taus", [TAUS[:1], TAUS])
def test_every_candidate_is_its_weights_at_its_decay_time(taus: tuple[float, ...]) -> None:
    """Identity: the columns times the weights are the linear method that `compact` names."""
    block = small_block()
    for c in linear_candidates(taus):
        assert set(c.taus) <= set(taus)
        for k in range(0, len(c.weights), max(1, len(c.weights) // 7)):
            names, values, tau = compact(c, k)
            direct = c.weights[k] @ block.rows(c.signals)
            # Sums of at most six products of numbers up to 1, in another order.
            np.testing.assert_allclose(linear(block, names, values, tau), direct, atol=1e-14)
            assert values.sum() == pytest.approx(1, abs=1e-12)


def test_candidates_are_multiplied_by_the_decay_times() -> None:
    """Oracle: counts; one τ allows the finer grid, several the coarser one at each τ."""
    one, two = ({c.method: len(c.weights) for c in linear_candidates(t)} for t in (TAUS[:1], TAUS))
    assert (one["ndcg"], two["ndcg"]) == (1771, 2 * 286)
    assert (one["hybrid"], two["hybrid"]) == (1001, 2 * 1001)
    assert (two["decay"], two["equal"], two["relevance"]) == (2, 2, 1)


def test_linear_scores_are_sums() -> None:
    """Oracle: a loop, ``decay`` read from the column of its τ."""
    block = small_block()
    found = linear(block, FIVE, np.array([0.1, 0.2, 0.3, 0.4, 0.5]), TAUS[1])
    names = [decay_name(TAUS[1]), *FIVE[1:]]
    rows = [np.concatenate(column(block, n)) for n in names]
    expected = sum(w * r for w, r in zip((0.1, 0.2, 0.3, 0.4, 0.5), rows, strict=True))
    np.testing.assert_allclose(found, expected, atol=1e-14)


@given(seed=st.integers(0, 99))
def test_fusion_adds_reciprocal_mean_ranks(seed: int) -> None:
    """Oracle: Σ 1/(60 + rank) over relevance and BM25, by a loop."""
    block = small_block(seed)
    parts = zip(column(block, "relevance"), column(block, "lexical"), strict=True)
    expected = [
        sum(1 / (60 + mean_rank(v, i)) for v in (a, b)) for a, b in parts for i in range(len(a))
    ]
    np.testing.assert_allclose(FORMULAS["rrf"](block), expected, rtol=1e-12)


@given(seed=st.integers(0, 99))
def test_generative_agents_as_published_and_as_coded(seed: int) -> None:
    """Oracle: by a loop; a signal that is constant within a query counts one half.

    The paper: .995^hours, surprise and relevance, min-max scaled, added. Its code: .99 to the
    place from the oldest, with weights .5, 3 for relevance and 2 for importance.
    """
    block = small_block(seed)
    paper, code = [], []
    for age, recency, surprise, near in zip(
        *(column(block, n) for n in (AGE, RECENCY, "surprise", "relevance")), strict=True
    ):
        fading, s, r = min_max([0.995**a for a in age]), min_max(surprise), min_max(near)
        paper += [sum(v) for v in zip(fading, s, r, strict=True)]
        n = len(age)
        place = min_max([0.99 ** (1 + sum(u < v for u in recency)) for v in recency])
        assert n == 1 or place[0] == 1  # the oldest is favoured, as in the code
        code += [0.5 * p + 3 * b + 2 * a for p, a, b in zip(place, s, r, strict=True)]
    # Signals are float32, and so is what is made of them.
    np.testing.assert_allclose(FORMULAS["genagents_paper"](block), paper, rtol=0, atol=2e-6)
    np.testing.assert_allclose(FORMULAS["genagents_code"](block), code, rtol=0, atol=4e-6)


def test_langchain_adds_a_fading_of_one_percent_an_hour() -> None:
    """Oracle: .99^hours + cosine, by a loop."""
    block = small_block()
    expected = [
        0.99**a + r
        for ages, near in zip(column(block, AGE), column(block, "relevance"), strict=True)
        for a, r in zip(ages, near, strict=True)
    ]
    np.testing.assert_allclose(FORMULAS["langchain"](block), expected, rtol=0, atol=4e-7)


def test_random_is_one_score_for_all() -> None:
    """Identity: with ties in expectation, a random order."""
    assert not FORMULAS["random"](small_block()).any()


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_no_formula_looks_at_another_query_or_at_the_truth(name: str) -> None:
    """Identity: other queries changed and all labels turned round, a query's scores stay."""
    block = small_block()
    x = block.x.copy()
    x[:, block.offsets[1] :] += 0.5
    other = Block(
        history="h", signals=COLUMNS, x=x, relevant=~block.relevant, offsets=block.offsets,
        clusters=block.clusters,
    )  # fmt: skip
    own = slice(0, int(block.offsets[1]))
    np.testing.assert_array_equal(FORMULAS[name](other)[own], FORMULAS[name](block)[own])

"""Interactions: least squares by statsmodels' definitions, planted products, the test's level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.evidence.moments import moment_table, unpack
from leray.memory.interactions import (
    fit,
    held_out_errors,
    interaction_table,
    interactions,
    share_interval,
    term_pairs,
    term_scores,
)

seeds = st.integers(0, 2**32 - 1)
NAMES = ("decay", "surprise", "relevance", "habituation")


def rows(seed: int, product: float = 0.0, conversations: int = 12, n: int = 150):
    rng = np.random.default_rng(seed)
    out = []
    for c in range(conversations):
        x = rng.normal(size=(4, n)) + rng.normal(size=(4, 1))
        y = np.array([0.5, 0.0, 1.0, 0.2]) @ x + product * x[0] * x[2] + rng.normal(size=n)
        out.append((f"c{c}", x, y))
    return out


def tabled(blocks):
    return interaction_table(blocks, moment_table(blocks, NAMES))


def columns(blocks):
    x = np.concatenate([b[1] for b in blocks], axis=1)
    z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    return np.vstack([z, *(z[i] * z[j] for i, j in term_pairs(4))])


@given(seeds)
@settings(max_examples=10)
def test_oracle_the_fit_is_least_squares_on_the_rows(seed):
    blocks = rows(seed, product=0.3, conversations=3)
    z = columns(blocks)
    y = np.concatenate([b[2] for b in blocks])
    moments = unpack(tabled(blocks).total)
    # The table is about an origin of its own: slopes agree, the constant is shifted.
    design = np.column_stack([np.ones(len(y)), z.T])
    want = np.linalg.lstsq(design, y)[0]
    np.testing.assert_allclose(fit(moments, range(1, 15))[1:], want[1:], atol=1e-8)


def test_oracle_held_out_errors_are_those_of_predictions():
    blocks = rows(1, product=0.3, conversations=4)
    z, y = columns(blocks), np.concatenate([b[2] for b in blocks])
    which = np.repeat(np.arange(4), 150)
    moments = unpack(tabled(blocks).sums)
    design = np.column_stack([np.ones(len(y)), z[:4].T])
    errors, totals = held_out_errors(moments, [1, 2, 3, 4]), held_out_errors(moments, [])
    for c in range(4):
        others = which != c
        beta = np.linalg.lstsq(design[others], y[others])[0]
        assert errors[c] == pytest.approx(((y - design @ beta)[~others] ** 2).sum())
        assert totals[c] == pytest.approx(((y[~others] - y[others].mean()) ** 2).sum())


def test_oracle_scores_are_residual_on_residual():
    blocks = rows(2, conversations=5)
    z, y = columns(blocks), np.concatenate([b[2] for b in blocks])
    design = np.column_stack([np.ones(len(y)), z[:4].T])
    hat = design @ np.linalg.pinv(design)
    product = (z[4:] - z[4:] @ hat.T) * (y - hat @ y)
    want = np.stack([part.sum(axis=1) for part in np.split(product, 5, axis=1)])
    np.testing.assert_allclose(term_scores(unpack(tabled(blocks).sums), 4), want, atol=1e-8)


def test_oracle_a_planted_product_is_found_and_no_other():
    blocks = rows(3, product=0.3)
    found = interactions(tabled(blocks), NAMES, 0.95, np.random.default_rng(0))
    p = {t.signals: t.p_value for t in found.terms}
    best = min(p, key=lambda k: p[k])
    assert best == ("decay", "relevance")
    assert 2 / 2**12 <= p[best] < 0.05  # at least the identity and its mirror image, of all flips
    assert sum(v < 0.05 for v in p.values()) == 1
    assert found.products.low > 0
    # With squares, which are noise here, hardly more: no more than their chance share.
    assert found.with_squares.estimate == pytest.approx(found.products.estimate, abs=0.01)
    coefficient = {t.signals: t.coefficient for t in found.terms}[best]
    deviations = np.concatenate([b[1] for b in blocks], axis=1).std(axis=1)
    assert coefficient == pytest.approx(0.3 * deviations[0] * deviations[2], abs=0.1)


def test_statistical_without_products_nothing_is_gained_and_p_keeps_its_level():
    smallest, gains = [], []
    for seed in range(60):
        found = interactions(
            tabled(rows(100 + seed, conversations=10, n=40)), NAMES, 0.9, np.random.default_rng(0)
        )
        smallest.append(min(t.p_value for t in found.terms))
        gains.append(found.products.estimate)
    rejected = np.mean(np.array(smallest) <= 0.1)
    assert rejected <= 0.1 + 4.5 * np.sqrt(0.1 * 0.9 / 60)
    assert np.mean(gains) < 0  # terms that add nothing cost on conversations left out


def test_identity_scaling_signals_changes_nothing():
    blocks = rows(5, product=0.2)
    scaled = [(c, x * np.array([[2.0], [0.1], [5.0], [1.0]]) + 3, y) for c, x, y in blocks]
    a, b = (
        interactions(tabled(r), NAMES, 0.95, np.random.default_rng(0)) for r in (blocks, scaled)
    )
    assert a.products.estimate == pytest.approx(b.products.estimate)
    assert [t.p_value for t in a.terms] == [t.p_value for t in b.terms]


def test_terms_are_six_products_and_four_squares():
    pairs = term_pairs(4)
    assert len(pairs) == 10
    assert all(i < j for i, j in pairs[:6])
    assert pairs[6:] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_one_conversation_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        interactions(tabled(rows(0, conversations=1)), NAMES, 0.95, np.random.default_rng(0))


def test_oracle_the_share_interval_is_the_jackknifes():
    part, total = np.array([1.0, 2.0, 4.0]), np.array([3.0, 4.0, 5.0])
    judged = share_interval(part, total, 0.95)
    left = np.array([6 / 9, 5 / 8, 3 / 7])
    se = np.sqrt(2 / 3 * ((left - left.mean()) ** 2).sum())
    assert judged.estimate == pytest.approx(7 / 12)
    assert judged.high - judged.estimate == pytest.approx(4.302653 * se, rel=1e-6)
    assert np.isnan(share_interval(part[:1], total[:1], 0.95).low)

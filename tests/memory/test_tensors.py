"""The data tensor: against the moment table, direct loops, and planted structure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.evidence.moments import covariances, moment_table
from leray.memory.blocks import Block
from leray.memory.parafac import Parafac
from leray.memory.tensors import (
    HeldOutFactors,
    Lists,
    RankSearch,
    data_tensor,
    describe,
    explained,
    lists_of,
    lists_of_arrays,
    outcomes,
    permute_cells,
)
from leray.runs import Key, MemoryStore, drive, no_progress

seeds = st.integers(0, 2**32 - 1)


def driven(computation):
    return drive(computation, store=MemoryStore(), key=Key.root(2), progress=no_progress)


def random_lists(seed: int, conversations: int = 4) -> list[Lists]:
    rng = np.random.default_rng(seed)
    out = []
    for c in range(conversations):
        offsets = np.cumsum([0, *rng.integers(5, 40, 3)])
        n = int(offsets[-1])
        x = rng.normal(size=(4, n)) * [[1.0], [3.0], [0.1], [1.0]] + 5
        out.append(Lists(c, x, rng.random(n) < 0.2, rng.normal(size=n), offsets))
    return out


@given(seeds)
def test_identity_summed_over_cells_it_is_the_covariance_of_the_moment_table(seed):
    lists = random_lists(seed)
    tensor = data_tensor(lists, 4, num_positions=7)
    rows = [(str(one.cluster), one.x, one.relevant.astype(float)) for one in lists]
    S, b, _ = covariances(moment_table(rows, tuple("abcd")).total)
    summed = np.einsum("cp,cpj->j", tensor.counts, tensor.values[..., 0]) / tensor.counts.sum()
    np.testing.assert_allclose(summed, b / np.sqrt(np.diagonal(S)), atol=1e-12)


def test_oracle_an_entry_is_the_mean_over_its_pairs():
    lists = random_lists(3)
    tensor = data_tensor(lists, 4, num_positions=5)
    x = np.concatenate([one.x for one in lists], axis=1)
    y = np.concatenate([outcomes(one) for one in lists], axis=1)
    one, want = lists[2], []
    for start, end in zip(one.offsets[:-1], one.offsets[1:], strict=True):
        for t in range(end - start):
            if t * 5 // (end - start) == 3:
                z = (one.x[:, start + t] - x.mean(axis=1)) / x.std(axis=1)
                want.append(np.outer(z, outcomes(one)[:, start + t] - y.mean(axis=1)))
    assert tensor.counts[2, 3] == len(want)
    np.testing.assert_allclose(tensor.values[2, 3], np.mean(want, axis=0), atol=1e-12)


def test_oracle_outcomes_of_a_list_of_twelve():
    score = np.array([1.0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 10])
    relevant = np.zeros(12, dtype=bool)
    relevant[[0, 11, 10]] = True
    importance, retrieval, usefulness = outcomes(
        Lists(0, np.zeros((4, 12)), relevant, score, np.array([0, 12]))
    )
    np.testing.assert_array_equal(importance, relevant)
    # Ranks: turn 11 first, 1 second, …; turns 0 and 9 tie, the earlier is tenth, the later 11th.
    assert retrieval.tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    np.testing.assert_allclose(usefulness[[0, 10, 11]], [1 / np.log2(11), 1 / np.log2(13), 1.0])
    assert usefulness[1:10].sum() == 0


def test_oracle_blocks_are_cut_at_conversations():
    rng = np.random.default_rng(0)
    names = ("decay@60", "surprise", "relevance", "habituation", "lexical")
    x = rng.random((5, 9)).astype(np.float32)
    relevant = np.array([1, 0, 0, 0, 1, 0, 0, 0, 1], dtype=bool)
    block = Block(
        history="h", signals=names, x=x, relevant=relevant, offsets=np.array([0, 3, 5, 9]),
        clusters=("b", "b", "a"),
    )  # fmt: skip
    first, second = lists_of([block], ("a", "b"), 60.0)
    assert (first.cluster, second.cluster) == (1, 0)
    np.testing.assert_array_equal(first.offsets, [0, 3, 5])
    np.testing.assert_array_equal(second.offsets, [0, 4])
    np.testing.assert_array_equal(second.x, x[:4, 5:])
    np.testing.assert_allclose(second.score, x[2, 5:] + x[4, 5:])


def test_oracle_arrays_of_a_generator_fill_one_cell_a_turn():
    rng = np.random.default_rng(1)
    signals, y = rng.normal(size=(20, 50, 4)), rng.random((20, 50)) < 0.1
    tensor = data_tensor(lists_of_arrays(signals, y, signals[..., 2]), 20)
    assert tensor.values.shape == (20, 50, 4, 3)
    assert (tensor.counts == 1).all()
    z = (signals - signals.mean(axis=(0, 1))) / signals.std(axis=(0, 1))
    np.testing.assert_allclose(tensor.values[..., 0], z * (y - y.mean())[:, :, None], atol=1e-12)


def test_oracle_a_constant_signal_and_empty_cells_are_zero():
    lists = [
        Lists(0, np.ones((4, 3)), np.array([True, False, False]), np.ones(3), np.array([0, 3]))
    ]
    tensor = data_tensor(lists, 1, num_positions=10)
    assert (tensor.values == 0).all()
    assert tensor.counts.sum() == 3
    assert (tensor.counts == 0).sum() == 7


@given(seeds)
def test_identity_explained_is_the_projection_on_the_factors(seed):
    rng = np.random.default_rng(seed)
    factors = [rng.normal(size=(n, 2)) for n in (5, 4, 3)]
    inside = np.einsum("cr,pr,jr,or->cpjo", rng.normal(size=(3, 2)), *factors)
    np.testing.assert_allclose(explained(inside, factors), (inside**2).sum(axis=(1, 2, 3)))
    anything = rng.normal(size=(3, 5, 4, 3))
    part = explained(anything, factors)
    assert (part <= (anything**2).sum(axis=(1, 2, 3)) + 1e-9).all()


@given(seeds)
def test_identity_permuted_cells_keep_their_outcomes_together(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, 4, 2, 3))
    moved = permute_cells(values, rng)
    for before, after in zip(values, moved, strict=True):
        assert sorted(map(tuple, before.reshape(-1, 3))) == sorted(map(tuple, after.reshape(-1, 3)))


def planted(noise: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(n, 2)) for n in (16, 10, 4, 3)]
    tensor = np.einsum("cr,pr,jr,or->cpjo", *factors)
    return tensor + noise * tensor.std() * rng.normal(size=tensor.shape)


def test_statistical_planted_structure_is_explained_and_noise_is_not():
    clean = driven(HeldOutFactors(values=planted(0.5), rank=2, num_null=5))
    # The signal's share is 1/(1 + .25) = .8; two directions of 120 explain about 1/60 of noise.
    assert clean.share == pytest.approx(0.8 + 0.2 * 2 / 120, abs=0.05)
    assert clean.null_shares.max() < 0.4
    noise = np.random.default_rng(1).normal(size=(16, 10, 4, 3))
    empty = driven(HeldOutFactors(values=noise, rank=2, num_null=5))
    # Σ explained/Σ total is a mean of 16 shares of 2 in 120 squares: Beta(1, 59), sd .0164/√16.
    assert abs(empty.share - 2 / 120) < 5 * 0.0164 / 4


def test_identity_shards_hold_different_tensors_and_the_first_is_the_observed():
    values = planted(0.5)
    one = HeldOutFactors(values=values, rank=2, num_null=4)
    held_out = driven(one)
    assert held_out.null.shape == (4, 16)
    assert len({*held_out.null_shares.tolist()}) == 4
    np.testing.assert_allclose(held_out.total, (values**2).sum(axis=(1, 2, 3)))
    assert (held_out.explained <= held_out.total).all()


def test_statistical_the_planted_rank_is_the_largest_that_returns_in_halves():
    ranks = driven(RankSearch(values=planted(0.3), max_rank=3, num_restarts=6, num_splits=4))
    agreement = [np.median(r.agreement.min(axis=1)) for r in ranks]
    assert agreement[1] > 0.9 > agreement[2]
    assert ranks[1].core_consistency > 90 > ranks[2].core_consistency
    fits = [r.fitted.fit for r in ranks]
    assert fits == sorted(fits)


def test_oracle_factors_are_named_by_what_is_largest():
    position = np.zeros((50, 2))
    position[40:, 0] = 1
    position[:, 1] = 1
    signal = np.array([[0.1, 0.0], [0.2, 0.0], [-0.9, 0.1], [0.0, 0.9]])
    outcome = np.array([[0.9, 0.1], [0.1, 0.1], [0.0, 0.9]])
    fitted = Parafac(
        np.array([2.0, 1.0]), (np.ones((3, 2)), position, signal, outcome), 0.5, np.ones(1)
    )
    first, second = describe(fitted, ("decay", "surprise", "relevance", "habituation"))
    assert (first["signal"], first["position"], first["outcome"]) == (
        "relevance", "late in the list", "importance",
    )  # fmt: skip
    assert (second["signal"], second["position"], second["outcome"]) == (
        "habituation", "throughout the list", "usefulness",
    )  # fmt: skip

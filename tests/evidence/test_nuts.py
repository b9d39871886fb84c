"""NUTS: chains stopped and resumed give the same bits; known moments are recovered."""

from __future__ import annotations

import io

import jax
import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from evidence.bell import bell, bell_model
from leray.evidence.mode import find_mode
from leray.evidence.nuts import NutsChains, flatten
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.runs.computation import canonical_state


def chains(**options) -> NutsChains:
    data = bell()
    mode = find_mode(bell_model, data)
    sizes = {"num_warmup": 500, "num_draws": 2_000, "draws_per_step": 500, "target_accept": 0.9}
    return NutsChains(model=bell_model, data=data, mode=mode, **(sizes | options))


@pytest.fixture(scope="module")
def drawn():
    return drive(chains(), store=MemoryStore(), key=Key.root(5), progress=no_progress)


def test_identity_a_resumed_chain_is_bit_for_bit_an_uninterrupted_one():
    computation = chains(num_warmup=100, num_draws=100, draws_per_step=50)
    key = Key.root(1)

    def go(state, first, last):
        out = []
        for k in range(first, last):
            state, samples = computation.step(canonical_state(state), k, key.child(k))
            out.append(samples)
        return state, out

    _, whole = go(computation.init(0, key), 0, 4)
    state, head = go(computation.init(0, key), 0, 2)
    file = io.BytesIO()
    np.savez(file, **state)
    jax.clear_caches()  # as in another process: everything is compiled anew
    file.seek(0)
    with np.load(file) as stored:
        _, tail = go({name: stored[name] for name in stored.files}, 2, 4)
    for a, b in zip(whole, head + tail, strict=True):
        for name, values in a.items():
            np.testing.assert_array_equal(values, b[name])
    assert [len(s["z"]) for s in whole] == [0, 0, 50, 50]  # warm-up is not kept


def test_statistical_the_moments_of_a_bell_are_recovered(drawn):
    data = bell()
    assert drawn.z.shape == (4, 2_000, 3)
    assert not drawn.diverging.any()
    for j in range(3):
        column = drawn.z[..., j]
        axes = {"chain_axis": 0, "draw_axis": 1}
        mean_error, sd_error = (
            np.asarray(array_stats.mcse(column, method=m, **axes)).item() for m in ("mean", "sd")
        )
        assert abs(column.mean() - data.mean[j]) < 4.5 * mean_error
        assert abs(column.std() - np.sqrt(data.covariance[j, j])) < 4.5 * sd_error


def test_statistical_the_acceptance_is_near_its_target_and_chains_differ(drawn):
    assert drawn.acceptance.mean() == pytest.approx(0.9, abs=0.07)
    assert len(np.unique(drawn.z[:, 0, 0])) == 4


def test_identity_the_state_holds_arrays_only():
    state = chains().init(0, Key.root(2))
    assert canonical_state(state).keys() == state.keys()
    assert flatten({"a": np.zeros(2)}).keys() == {"leaf_00"}


def test_chunks_must_divide_both_phases():
    with pytest.raises(ValueError, match="multiples"):
        chains(num_warmup=300)

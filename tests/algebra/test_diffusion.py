"""Harmonic extension: lines, networks, least energy, uniqueness; the rate of diffusion."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.algebra.diffusion import NotUniqueError, diffusion, harmonic_extension
from leray.algebra.fields import Floats, Q
from leray.algebra.random_sheaves import random_sheaf
from leray.algebra.sheaves import constant_sheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

FLOATS = Floats()


def test_oracle_on_a_path_it_is_linear_interpolation():
    path = SimplicialComplex.of([(i, i + 1) for i in range(10)])
    ends = FLOATS.matrix([[2.0, 0.0], [7.0, 1.0]])
    found = harmonic_extension(constant_sheaf(path, 1, FLOATS), [0, 10], ends)
    want = torch.stack([torch.linspace(a, b, 11, dtype=torch.float64) for a, b in ends.T], 1)
    torch.testing.assert_close(found.value, want)
    assert found.energy == pytest.approx(10 * (0.5**2 + 0.1**2))
    assert found.certificate.rank == 9


def test_oracle_on_a_graph_it_solves_the_laplacian_of_networkx():
    graph = nx.connected_watts_strogatz_graph(30, 4, 0.3, seed=1)
    space = SimplicialComplex.of([tuple(e) for e in graph.edges])
    laplacian = nx.laplacian_matrix(graph, nodelist=range(30)).toarray().astype(float)
    fixed, free = [3, 11, 20], [v for v in range(30) if v not in (3, 11, 20)]
    values = np.array([[1.0], [-2.0], [0.5]])
    want = np.linalg.solve(laplacian[np.ix_(free, free)], -laplacian[np.ix_(free, fixed)] @ values)
    found = harmonic_extension(constant_sheaf(space, 1, FLOATS), fixed, FLOATS.matrix(values))
    np.testing.assert_allclose(found.value[free].numpy(), want, atol=1e-12)
    np.testing.assert_array_equal(found.value[fixed].numpy(), values)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_identity_no_other_values_have_less_energy(seed):
    rng = np.random.default_rng(seed)
    space = SimplicialComplex.of([(0, 1, 2), (2, 3), (1, 3)])
    sheaf = random_sheaf(space, (1, 2), FLOATS, rng)
    size = sum(sheaf.stalks[0][1:3])
    values = torch.as_tensor(rng.normal(size=(size, 1)))
    d, start = sheaf.coboundary(0), sheaf.stalks[0][0]
    free = [*range(start), *range(start + size, d.shape[1])]
    if FLOATS.kernel(d[:, free]).shape[1]:
        with pytest.raises(NotUniqueError, match="vanish at"):
            harmonic_extension(sheaf, [1, 2], values)
        return
    found = harmonic_extension(sheaf, [1, 2], values)
    for _ in range(5):
        other = found.value.clone()
        other[free] += torch.as_tensor(rng.normal(size=(len(free), 1)) * 1e-2)
        assert FLOATS.size(d @ other) ** 2 >= found.energy


def test_what_cannot_be_extended_is_refused():
    two = SimplicialComplex.of([(0, 1), (2, 3)])
    sheaf = constant_sheaf(two, 1, FLOATS)
    one = FLOATS.matrix([[1.0]])
    with pytest.raises(NotUniqueError, match="dimension 1"):
        harmonic_extension(sheaf, [0], one)
    with pytest.raises(LerayError, match="needs a norm"):
        harmonic_extension(constant_sheaf(two, 1, Q), [0], Q.matrix([[1]]))
    with pytest.raises(LerayError, match="9 is no vertex"):
        harmonic_extension(sheaf, [9], one)
    with pytest.raises(LerayError, match="0 comes twice"):
        harmonic_extension(sheaf, [0, 0], FLOATS.cat([one, one], 0))
    with pytest.raises(LerayError, match="need 2 rows"):
        harmonic_extension(sheaf, [0, 2], one)
    everything = harmonic_extension(
        sheaf, [0, 1, 2, 3], FLOATS.matrix([[0.0], [1.0], [0.0], [0.0]])
    )
    assert everything.energy == 1.0


@pytest.mark.parametrize("k", [1, 5], ids=["smallest", "largest"])
def test_oracle_on_a_path_the_rate_is_a_cosine_and_attained(k):
    """The eigenvalues are 2 − 2 cos(πk/n), so the rate is cos(π/n); both ends shrink by it."""
    n, constant = 6, 3.0
    path = SimplicialComplex.of([(i, i + 1) for i in range(n - 1)])
    wave = torch.cos(torch.pi * k * (torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]
    for num_steps in range(4):
        found = diffusion(constant_sheaf(path, 1, FLOATS), wave + constant, num_steps)
        assert found.rate == pytest.approx(np.cos(np.pi / n), rel=1e-12)
        sign = 1 if k == 1 else (-1) ** num_steps
        torch.testing.assert_close(found.limit, torch.full_like(wave, constant))
        torch.testing.assert_close(found.value, constant + sign * found.rate**num_steps * wave)

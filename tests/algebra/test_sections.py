"""Global sections of large sheaves: planted ones, paths, holonomy, gaps, against dense ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leray.algebra.fields import GF, Floats, Q
from leray.algebra.rank import MARGIN, UndecidedRankError
from leray.algebra.sheaves import constant_sheaf, graph_sheaf
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

SINGLE = Floats(dtype=torch.float32)


def path(n):
    return SimplicialComplex.of(np.stack([np.arange(n - 1), np.arange(1, n)], 1))


def grid(n):
    v = np.arange(n * n).reshape(n, n)
    across = np.stack([v[:, :-1].ravel(), v[:, 1:].ravel()], 1)
    return SimplicialComplex.of(
        np.concatenate([across, np.stack([v[:-1], v[1:]], -1).reshape(-1, 2)])
    )


def random_graph(n, m, rng):
    """A random tree and m other edges."""
    tree = [(int(rng.integers(v)), v) for v in range(1, n)]
    more = rng.integers(0, n, (m, 2))
    return SimplicialComplex.of(tree + more[more[:, 0] != more[:, 1]].tolist())


def planted(graph, d, k, field, rng):
    """Edge maps Y_e h_v⁻¹ with h_v random, and the first k columns of Y_e the same at both ends.

    Its sections are then at least x(v) = h_v c, c in the first k coordinates, on a connected graph,
    and generically no others.
    """
    n, m = graph.f_vector
    if field.exact:
        lower = np.tril(rng.integers(0, field.p, (n, d, d)), -1)
        inverse = np.eye(d, dtype=int) + lower
        y = rng.integers(0, field.p, (m, 2, d, d))
    else:
        inverse = np.linalg.qr(rng.normal(size=(n, d, d)))[0]
        y = np.linalg.qr(rng.normal(size=(m, 2, d, d)))[0]
    y[:, 1, :, :k] = y[:, 0, :, :k]
    ends = np.searchsorted(graph.names, graph.faces[1])
    maps = y @ inverse[ends]
    return graph_sheaf(graph, maps % field.p if field.exact else maps, field)


@pytest.mark.parametrize("field", [GF(3), GF(101), Floats(), SINGLE], ids=lambda f: f.name)
@pytest.mark.parametrize("more", [0, 14])
def test_oracle_sparse_sections_are_the_dense_kernel(field, more):
    """The dimension and the space are those of the dense kernel, planted or not."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sheaf = planted(random_graph(12, more, rng), 3, seed % 3, field, rng)
        found, dense = sheaf.sections(), field.kernel(sheaf.coboundary(0))
        assert found.basis.shape == dense.shape
        assert found.basis.shape[1] >= seed % 3
        assert found.certificate.rank == field.rank(sheaf.coboundary(0)).value()
        both = field.cat([dense, found.basis], 1)
        if field.exact:
            assert field.rank(both).value() == dense.shape[1]
        else:
            apart = found.basis - dense @ (dense.T @ found.basis)
            assert field.size(apart) < 1e4 * torch.finfo(field.dtype).eps
            values = torch.linalg.svdvals(sheaf.coboundary(0).double())
            smallest = float(values[found.certificate.rank - 1])
            assert smallest / 40 < found.certificate.smallest < smallest * 1.001


@pytest.mark.parametrize("field", [GF(101), Floats()], ids=lambda f: f.name)
def test_oracle_fifty_thousand_edges_have_the_planted_sections(field):
    rng = np.random.default_rng(0)
    sheaf = planted(grid(159), 2, 1, field, rng)
    assert sheaf.space.f_vector == (25281, 50244)
    found = sheaf.sections()
    assert found.certificate.decided
    assert found.basis.shape == (2 * 25281, 1)
    left = sheaf.sparse_coboundary(0) @ np.asarray(found.basis)
    assert not (left % field.p).any() if field.exact else np.linalg.norm(left) < 1e-10


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_oracle_a_long_path_in_single_precision_is_connected(scale):
    """Its smallest singular value that is not zero is 2 scale sin(π/2n) = 3.1e-4 scale.

    By integers exactly; times 0.1, which no float holds, by the certificate.
    """
    n, field = 10_000, SINGLE
    sheaf = graph_sheaf(path(n), np.full((n - 1, 2, 1, 1), scale), field)
    found = sheaf.sections()
    assert found.certificate.decided
    assert found.certificate.exact == (scale == 1.0)
    assert sheaf.global_sections().shape == (n, 1)
    torch.testing.assert_close(found.basis.abs(), torch.full((n, 1), n**-0.5), rtol=1e-3, atol=0)
    if scale < 1:
        smallest = 2 * scale * np.sin(np.pi / (2 * n))
        assert smallest / 40 < found.certificate.smallest <= smallest * 1.001
        assert found.certificate.smallest > MARGIN * found.certificate.error


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_oracle_holonomy_decides_how_many_sections_a_connection_has(dtype):
    """With holonomy trivial d, with a rotation about an axis 1, with rotations about two 0."""
    rng, field, space = np.random.default_rng(3), Floats(dtype=dtype), grid(12)
    frames = np.linalg.qr(rng.normal(size=(space.f_vector[0], 3, 3)))[0]
    tails, heads = np.searchsorted(space.names, space.faces[1]).T
    for num_axes, sections in enumerate((3, 1, 0)):
        turned = np.tile(np.eye(3), (space.f_vector[1], 1, 1))
        for edge, axis in zip((7, 90), range(num_axes), strict=False):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            turned[edge][[i, j, i, j], [i, j, j, i]] = np.cos(1), np.cos(1), -np.sin(1), np.sin(1)
        maps = np.stack([turned @ frames[tails], frames[heads]], 1)
        assert graph_sheaf(space, maps, field).sections().basis.shape[1] == sections


@pytest.mark.parametrize("weak", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_oracle_a_weak_link_is_right_or_undecided(weak, dtype):
    """Two cliques joined by one edge of this weight have one section, by the dense values two only
    where the second is no larger than the error of the entries."""
    five = [(i, j) for i in range(5) for j in range(i)]
    space = SimplicialComplex.of(five + [(i + 5, j + 5) for i, j in five] + [(0, 5)])
    maps = np.full((space.f_vector[1], 2, 1, 1), 0.7)
    maps[space.faces[1].tolist().index([0, 5])] = weak
    sheaf = graph_sheaf(space, maps, Floats(dtype=dtype))
    found, values = sheaf.sections(), torch.linalg.svdvals(sheaf.coboundary(0).double())
    if weak >= (1e-4 if dtype == torch.float64 else 1e-2):
        assert found.certificate.decided
    if found.certificate.decided:
        assert found.basis.shape[1] == int((values <= found.certificate.error).sum())
        assert found.basis.shape[1] == 1 or dtype == torch.float32
    else:
        with pytest.raises(UndecidedRankError, match="undecided"):
            _ = found.basis


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_oracle_many_components(scale):
    """Three hundred triangles have three hundred sections, by integers and by the certificate."""
    corners = 3 * np.arange(300)[:, None] + np.array([[0, 1], [1, 2], [0, 2]]).reshape(-1)
    space = SimplicialComplex.of(corners.reshape(-1, 2))
    found = graph_sheaf(space, np.full((900, 2, 1, 1), scale), Floats()).sections()
    assert found.certificate.exact == (scale == 1.0)
    assert found.basis.shape == (900, 300)
    torch.testing.assert_close(found.basis.T @ found.basis, torch.eye(300, dtype=torch.float64))


def test_oracle_integers_are_exact_over_the_rationals():
    """Weights 1 and 2 up a path: the section has denominators; round a cycle there is none."""
    maps = np.ones((9, 2, 1, 1), dtype=int)
    maps[:, 0] = 2
    sheaf = graph_sheaf(path(10), maps, Q)
    found = sheaf.sections()
    assert found.certificate.exact
    assert found.basis.shape == (10, 1)
    assert not Q.size(Q.mul(sheaf.coboundary(0), found.basis))
    assert [int(x / found.basis[0, 0]) for x in found.basis[:, 0]] == [2**k for k in range(10)]
    long = graph_sheaf(path(40), np.tile(maps[:1], (39, 1, 1, 1)), Q)
    with pytest.raises(LerayError, match="too large to lift"):
        long.sections()
    # 2³¹ is 1 modulo 2³¹ − 1: what solves the equation there lifts, and does not solve it over ℚ.
    with pytest.raises(LerayError, match="too large to lift"):
        graph_sheaf(path(2), np.array([[[[2**31]], [[1]]]]), Q).sections()
    floats = graph_sheaf(path(40), np.tile(maps[:1], (39, 1, 1, 1)).astype(float), Floats())
    assert not floats.sections().certificate.exact
    assert floats.sections().basis.shape[1] == 1
    with pytest.raises(LerayError, match="needs integers below"):
        graph_sheaf(path(2), np.array([[[[Q.matrix([[1]])[0, 0] / 2]], [[1]]]]), Q).sections()


def test_what_is_known_of_the_entries_counts():
    """With an error of 1e-3 a link of 1e-2 is undecided, and one of 1e-5 is none."""
    space = path(3)
    for weak, decided in ((1e-2, False), (0.5, True)):
        maps = np.full((2, 2, 1, 1), 0.7)
        maps[1] = weak
        found = graph_sheaf(space, maps, Floats(error=1e-3)).sections()
        assert found.certificate.decided == decided


@pytest.mark.parametrize("field", [Q, GF(2), Floats()], ids=lambda f: f.name)
def test_degenerate_sheaves(field):
    points = SimplicialComplex.of([(0,), (4,)])
    assert constant_sheaf(points, 2, field).global_sections().shape == (4, 4)
    with pytest.raises(LerayError, match="there is no edge"):
        constant_sheaf(points, 2, field).sections()
    assert constant_sheaf(path(4), 0, field).sections().basis.shape == (0, 0)
    zero = graph_sheaf(path(3), np.zeros((2, 2, 1, 2), dtype=int), field).sections()
    assert zero.basis.shape == (6, 6)
    assert constant_sheaf(path(3), 1, field).sections().basis.shape == (3, 1)

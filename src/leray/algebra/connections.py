"""Connections on graphs: sheaves whose maps are invertible, and their holonomy.

Transport along an edge (u, v), u < v, is an isomorphism g_uv: F(u) → F(v). A section has
x(v) = g_uv x(u) on every edge, so on a connected graph it is fixed by its value at one vertex, and
exists where the composition of transports around every closed walk, the holonomy, fixes that value.

Source: Hansen and Ghrist, Toward a spectral theory of cellular sheaves (J. Appl. Comput. Topology
2019), 3; Singer and Wu, Vector diffusion maps (Comm. Pure Appl. Math. 2012).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from leray.algebra.fields import Field, Matrix
from leray.algebra.posets import NotASheafError
from leray.algebra.sheaves import CellularSheaf
from leray.algebra.simplicial import SimplicialComplex


def connection_sheaf(
    graph: SimplicialComplex, transport: Mapping[tuple[int, int], Matrix], field: Field
) -> CellularSheaf:
    """Vector spaces on a graph with an isomorphism along every edge.

    Args:
        graph: Of dimension 1.
        transport: At (u, v) with u < v, the map from the stalk of u to that of v, ``[d, d]``.

    A section x has x(v) = g_uv x(u) on every edge.

    Raises:
        NotASheafError: The complex is no graph, an edge has no map, or a map is not invertible.
    """
    if graph.dimension != 1:
        raise NotASheafError(f"a connection lives on a graph; got dimension {graph.dimension}")
    edges, maps = set(map(tuple, graph.faces[1].tolist())), {}
    if set(transport) != edges:
        edge = min(set(transport) ^ edges)
        state = "has no transport" if edge in edges else "is no edge of the graph, u < v"
        raise NotASheafError(f"{edge} {state}")
    d = next(iter(transport.values())).shape[0]
    for tau, (u, v) in enumerate(graph.faces[1].tolist()):
        g = transport[u, v]
        if field.rank(g).value(f"the transport along ({u}, {v})") < d:
            raise NotASheafError(f"the transport along ({u}, {v}) is not invertible")
        tail, head = np.searchsorted(graph.names, [u, v]).tolist()
        maps[tail, tau], maps[head, tau] = g, field.identity(d)
    return CellularSheaf(graph, tuple((d,) * n for n in graph.f_vector), (maps,), field)


def holonomy(
    transport: Mapping[tuple[int, int], Matrix], cycle: Sequence[int], field: Field
) -> Matrix:
    """The composition of transports once around a closed walk, ``[d, d]``, in the first stalk.

    Args:
        cycle: Vertices; the last is joined to the first.

    Raises:
        NotASheafError: Fewer than two vertices, or a step along what is no edge.
    """
    steps = list(pairwise([*cycle, *cycle[:1]]))
    for u, v in steps:
        if (min(u, v), max(u, v)) not in transport:
            raise NotASheafError(f"the cycle goes from {u} to {v}, where there is no edge")
    if not steps:
        raise NotASheafError("a cycle needs vertices; got none")
    (d, *_) = {m.shape[0] for m in transport.values()}
    out = field.identity(d)
    for u, v in steps:
        step = transport[u, v] if u < v else field.solve(transport[v, u], field.identity(d))
        out = field.mul(step, out)
    return out

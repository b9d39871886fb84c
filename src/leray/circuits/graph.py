"""The computation graph: sources that write to the stream, targets that read it, edges between.

    sources   the inputs (token, position), layers.i.heads.h, layers.i.mlp
    targets   layers.i.heads.h.query, .key, .value, layers.i.mlp, output

An edge leads from a source to every target after it; the heads of one layer do not see each other.
A target's input is the sum of what its edges carry, so a circuit is a set of edges, and removing
one replaces one summand.

Source: Elhage et al. 2021 (the view); Conmy et al., ACDC (arXiv 2304.14997, the graph with heads'
queries, keys and values apart).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from leray.circuits.nodes import Transformer
from leray.errors import LerayError, nearest

PARTS = ("query", "key", "value")
OUTPUT = "output"


class Edge(NamedTuple):
    """From a source to a target, by their names."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} → {self.target}"


@dataclass(frozen=True)
class Graph:
    """Sources and targets in the order of computation.

    Args:
        sources: Names.
        targets: Names.
        num_before: For every target, how many sources come before it: its edges.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    num_before: tuple[int, ...]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Target by target, each with its sources in order."""
        pairs = zip(self.targets, self.num_before, strict=True)
        return tuple(Edge(s, t) for t, n in pairs for s in self.sources[:n])

    @cached_property
    def places(self) -> dict[Edge, int]:
        """The number of every edge."""
        return {edge: i for i, edge in enumerate(self.edges)}

    def mask(self, edges: Iterable[Edge]) -> Bool[Tensor, " edges"]:
        """True on the edges given.

        Raises:
            LerayError: An edge that the graph has not.
        """
        mask = torch.zeros(len(self.edges), dtype=torch.bool)
        for edge in edges:
            if edge not in self.places:
                near = nearest(str(edge), map(str, self.edges))
                raise LerayError(f"no edge '{edge}' among {len(self.edges)} edges{near}")
            mask[self.places[edge]] = True
        return mask

    def by_pairs(self, values: Shaped[Tensor, "*p edges"]) -> Shaped[Tensor, "*p targets sources"]:
        """Values of edges as a matrix, 0 where there is no edge."""
        before = torch.arange(len(self.sources)) < torch.tensor(self.num_before)[:, None]
        pairs = values.new_zeros(*values.shape[:-1], *before.shape)
        pairs[..., before.to(values.device)] = values
        return pairs


def graph_of(model: Transformer) -> Graph:
    """The graph of a model, one node for every head and every MLP."""
    sources, targets, num_before = [*model.inputs], [], []
    for i, layer in enumerate(model.blocks):
        heads = [f"layers.{i}.heads.{h}" for h in range(layer.heads.number)]
        targets += [f"{head}.{part}" for head in heads for part in PARTS]
        num_before += [len(sources)] * (len(PARTS) * len(heads))
        sources += heads
        targets.append(f"layers.{i}.mlp")
        num_before.append(len(sources))
        sources.append(f"layers.{i}.mlp")
    targets.append(OUTPUT)
    num_before.append(len(sources))
    return Graph(tuple(sources), tuple(targets), tuple(num_before))

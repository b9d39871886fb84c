"""Circuits on disk: one safetensors file with the scores of all edges, and where they come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors.torch import save
from torch import Tensor, nn

from leray.circuits.graph import Graph, graph_of
from leray.circuits.nodes import Transformer
from leray.errors import LerayError
from leray.runs.files import atomic_write
from leray.runs.tensors import open_tensors

FORMAT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Circuit:
    """Edges of one model.

    Args:
        scores: What each edge of the graph is worth.
        mask: Which are in the circuit.
        found: What found it: the task, the examples, the seed, the measure.
    """

    graph: Graph
    scores: Float[Tensor, " edges"]
    mask: Bool[Tensor, " edges"]
    found: dict[str, Any]


def digest_of(model: nn.Module) -> str:
    """SHA-256 of the names, kinds, shapes and bytes of parameters and buffers, in their order."""
    whole = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        whole.update(f"{name} {array.dtype} {list(array.shape)} ".encode())
        whole.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def _digest_of(scores: Tensor, mask: Tensor) -> str:
    """SHA-256 of what the file's tensors hold."""
    whole = hashlib.sha256()
    for x in (scores, mask):
        whole.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def save_circuit(path: Path, circuit: Circuit, model: Transformer) -> None:
    """Write the file whole or not at all.

    Raises:
        LerayError: It cannot be written.
    """
    told = {
        "format": FORMAT,
        "model": digest_of(model),
        "edges": [str(edge) for edge in circuit.graph.edges],
        "found": circuit.found,
        "content": _digest_of(circuit.scores, circuit.mask),
    }
    arrays = {"scores": circuit.scores.cpu().contiguous(), "mask": circuit.mask.cpu().contiguous()}
    atomic_write(path, save(arrays, {"circuit": json.dumps(told, allow_nan=False)}))


def load_circuit(path: Path, model: Transformer) -> Circuit:
    """The circuit of a file, which must be of this model.

    Raises:
        LerayError: There is no such file, it is none, or it is of another model.
    """
    try:
        with open_tensors(path) as file:
            told = json.loads((file.metadata() or {})["circuit"])
            scores, mask = file.get_tensor("scores"), file.get_tensor("mask")
        own = told["format"] == FORMAT and told["content"] == _digest_of(scores, mask)
        theirs, edges, found = told["model"], told["edges"], dict(told["found"])
    except FileNotFoundError as error:
        raise LerayError(
            f"no circuit at {str(path)!r}: give a file that `leray circuits find --out` wrote"
        ) from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LerayError(
            f"{path} holds no whole circuit: give a file that `leray circuits find --out` wrote"
        ) from error
    graph = graph_of(model)
    num = len(graph.edges)
    if theirs != digest_of(model) or edges != [str(edge) for edge in graph.edges]:
        raise LerayError(
            f"the circuit in {path} is of another model (weights {str(theirs)[:12]}, here "
            f"{digest_of(model)[:12]}): find it anew in this one"
        )
    fits = scores.shape == mask.shape == (num,) and scores.is_floating_point()
    if not (own and fits and mask.dtype == torch.bool and bool(scores.isfinite().all())):
        raise LerayError(
            f"{path} is damaged, or of another format: it holds not what was written, scores and a "
            f"mask of {num} edges; find the circuit anew"
        )
    return Circuit(graph=graph, scores=scores, mask=mask, found=found)

"""A head with true backups: copies of which any one may go, and not all.

Halving a head's output between two copies makes no backup: without one of them half is missing.
What reads the copies must saturate. Here c copies of a head write what they attend to, z in
{0, 1}ᵏ, to a fresh subspace of the stream, where their sum S adds up, and an MLP writes on

    step(S) W_O,   step(x) = clip(100 (x − θ) + ½, 0, 1),   θ = (c − ½)/2

so that the rest of the model reads what it read before. With two copies removal of one leaves S = 1
where z = 1, which is above θ = ¾: no ablation to zero sees either copy, nor does the mean where no
coordinate of z is 1 on more than ¾ of the inputs. Another *value* in one of two copies is always
seen: with f(v, v) = v for all v, f(u, v) would have to be both u and v. Three copies outvote it
(θ = 1¼), so none of the three is seen by any ablation on its own.

Source: Wang et al. 2022 (backup name movers), for the phenomenon; the construction is ours.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.circuits.graph import Edge
from leray.circuits.plain import PlainHeads, PlainLayer, PlainMLP, PlainTransformer
from leray.errors import LerayError

STEEPNESS = 100.0
NEARLY = 1e-2


@torch.no_grad()
def with_backups(
    model: PlainTransformer,
    circuit: Iterable[Edge],
    inputs: Int[Tensor, "b t"],
    *,
    layer: int,
    head: int,
    num_copies: int = 2,
) -> tuple[PlainTransformer, tuple[Edge, ...]]:
    """The same function computed with copies of one head, and its circuit.

    The copies are the head itself and new last heads of its layer. The layer's own MLP moves to a
    layer of its own, after that of the vote.

    Args:
        circuit: Of the model.
        inputs: On which the head must attend to exactly one value, or to none.
        num_copies: At least 2.

    Raises:
        LerayError: Fewer than 2 copies, or a head that mixes values.
    """
    if num_copies < 2:
        raise LerayError(f"num_copies must be at least 2; got {num_copies}")
    _check_picks(model, inputs, layer, head)
    old = model.blocks[layer]
    k = old.heads.value.shape[-1]
    num_new = k + 1  # the sum S, and a constant
    blocks = [_widened(block, num_new) for block in model.blocks]
    own = blocks[layer]
    writes = F.pad(torch.eye(k).to(old.heads.output), (len(model.unembedding), 1))
    output = own.heads.output.clone()
    output[head] = writes

    def copied(w: Tensor) -> Tensor:
        return torch.cat([w, w[head : head + 1].expand(num_copies - 1, -1, -1)])

    heads = PlainHeads(
        copied(own.heads.query), copied(own.heads.key), copied(own.heads.value), copied(output),
        own.heads.scale,
    )  # fmt: skip
    none = own.heads.query[:0], own.heads.key[:0], own.heads.value[:0], own.heads.output[:0]
    vote = _vote(own.heads.output[head], num_copies)
    blocks[layer : layer + 1] = [
        PlainLayer(heads, vote), PlainLayer(PlainHeads(*none, own.heads.scale), own.mlp)
    ]  # fmt: skip
    token = F.pad(model.token, (0, num_new))
    token[:, -1] = 1
    wider = PlainTransformer(
        token, F.pad(model.position, (0, num_new)), blocks,
        F.pad(model.unembedding, (0, 0, 0, num_new)),
    )  # fmt: skip
    return wider, _with_copies(circuit, old.heads.number, layer, head, num_copies)


def copies_of(layer: int, head: int, num_heads: int, num_copies: int) -> tuple[str, ...]:
    """The names of the copies of a head in a layer that had ``num_heads``."""
    numbers = (head, *range(num_heads, num_heads + num_copies - 1))
    return tuple(f"layers.{layer}.heads.{number}" for number in numbers)


def _check_picks(model: PlainTransformer, inputs: Tensor, layer: int, head: int) -> None:
    words, places = model.embedded(inputs)
    x = words + places
    for block in model.blocks[:layer]:
        x = block(x)
    heads = model.blocks[layer].heads
    q, k, v = (x @ w[head] for w in (heads.query, heads.key, heads.value))
    picked = (q @ k.mT / heads.scale).softmax(dim=-1) @ v
    away = float((picked - picked.round().clamp(0, 1)).abs().max())
    if away > NEARLY:
        raise LerayError(
            f"head {head} of layer {layer} mixes values, {away:.2g} from 0 or 1; a vote needs a "
            "head that picks one: choose another"
        )


def _widened(block: PlainLayer, num_new: int) -> PlainLayer:
    """The same layer on a stream with new last coordinates that it neither reads nor writes."""
    rows, columns = (0, 0, 0, num_new), (0, num_new)
    heads = block.heads
    return PlainLayer(
        PlainHeads(
            F.pad(heads.query, rows), F.pad(heads.key, rows), F.pad(heads.value, rows),
            F.pad(heads.output, columns), heads.scale,
        ),
        PlainMLP(F.pad(block.mlp.up, rows), F.pad(block.mlp.down, columns)),
    )  # fmt: skip


def _vote(output: Tensor, num_copies: int) -> PlainMLP:
    """step(S) W_O as two rectified units a coordinate; ``output`` is W_O, ``[k, d]``."""
    k, width = output.shape
    threshold = (num_copies - 0.5) / 2
    up = output.new_zeros(width, 2, k)
    up[-1 - k : -1] = STEEPNESS * torch.eye(k).to(output)[:, None]
    up[-1] = (output.new_tensor([0.5, -0.5]) - STEEPNESS * threshold)[:, None]
    return PlainMLP(up.flatten(1), torch.cat([output, -output]))


def _with_copies(
    circuit: Iterable[Edge], num_heads: int, layer: int, head: int, num_copies: int
) -> tuple[Edge, ...]:
    """The circuit's edges by their new names, those of the head once for every copy."""
    old, vote = f"layers.{layer}.heads.{head}", f"layers.{layer}.mlp"
    copies = copies_of(layer, head, num_heads, num_copies)

    def moved(name: str) -> str:
        first, *rest = name.split(".")
        if first != "layers" or int(rest[0]) < layer or rest[:2] == [str(layer), "heads"]:
            return name
        return ".".join([first, str(int(rest[0]) + 1), *rest[1:]])

    edges = [Edge("token", vote), *(Edge(copy, vote) for copy in copies)]
    for source, target in circuit:
        written = vote if source == old else moved(source)
        node, _, part = target.rpartition(".")
        read = [f"{copy}.{part}" for copy in copies] if node == old else [moved(target)]
        edges += [Edge(written, name) for name in read]
    return tuple(dict.fromkeys(edges))

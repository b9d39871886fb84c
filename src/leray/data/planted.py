"""Transformers whose circuits are known: compiled programs, and models trained to do the same.

The files lie in ``data/programs``: ``benchmarks/planted/compile.py`` made the models with Tracr,
``benchmarks/planted/circuits.py`` found and checked their circuits. ``trained-*.safetensors`` and
``trained.json`` are of ``benchmarks/planted/train.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import permutations, product
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load
from torch import Tensor

from leray.circuits.ablation import Task
from leray.circuits.graph import Edge
from leray.circuits.plain import PlainTransformer, transformer_of
from leray.errors import LerayError, nearest

FOLDER = "programs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A program as a transformer.

    Args:
        model: In double precision; its outputs are the directions ``outputs``.
        circuit: The edges that the program needs.
        tokens: The vocabulary, in the order of its numbers.
        inputs: Every input: the first token of all, then each sequence of the alphabet.
        categorical: Whether the output is the largest coordinate, else its value.
        directions: What every coordinate of the residual stream means; none in trained models.
        outputs: Which directions are read.
        reference_inputs: Some inputs,
        reference_outputs: and what Tracr's own model puts out on them.
    """

    name: str
    model: PlainTransformer
    circuit: tuple[Edge, ...]
    tokens: tuple[str, ...]
    inputs: Int[Tensor, "b t"]
    categorical: bool
    directions: tuple[str, ...]
    outputs: tuple[str, ...]
    reference_inputs: Int[Tensor, "r t"]
    reference_outputs: Float[Tensor, "r t o"]


def task_of(program: Program, most: int | None = None, seed: int = 0) -> Task:
    """The program on its inputs, corrupted to other inputs of its own; all but the first count.

    Args:
        most: How many inputs, drawn without replacement; all by default.
        seed: Of the draw and of the pairing.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(program.inputs), generator=generator)
    clean = program.inputs[order[:most]]
    counted = torch.ones_like(clean, dtype=torch.bool)
    counted[:, 0] = False
    return Task(clean, clean.roll(1, dims=0), counted)


@cache
def _read(name: str) -> dict[str, Any]:
    return json.loads((files("leray.data") / FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def program_names() -> tuple[str, ...]:
    """The programs there are."""
    return tuple(_read("programs"))


def trained_names() -> tuple[str, ...]:
    """The programs that a model was trained to do."""
    return tuple(_read("trained"))


def load_trained(name: str) -> Program:
    """The model that was trained to do a program, and the circuit it was verified to have.

    Raises:
        LerayError: There is none of this name.
    """
    _check(name, trained_names(), "trained model")
    stored = _read("trained")[name]
    return replace(
        load_program(name),
        model=_model(_arrays(f"trained-{name}"), stored["scale"]),
        circuit=_edges(stored["circuit"]),
        directions=(),
    )


def load_program(name: str) -> Program:
    """A compiled program by its name.

    Raises:
        LerayError: There is none of this name.
    """
    _check(name, program_names(), "program")
    meaning, arrays = _read("programs")[name], _arrays(name)
    inputs, outputs = arrays.pop("reference.inputs"), arrays.pop("reference.outputs")
    tokens = meaning["tokens"]
    return Program(
        name=name,
        model=_model(arrays, meaning["scale"]),
        circuit=_edges(_read("circuits")[name]),
        tokens=tuple(tokens),
        inputs=_sequences(
            [tokens.index(token) for token in meaning["alphabet"]],
            meaning["length"],
            tokens.index(meaning["bos"]),
            distinct=meaning["distinct"],
        ),
        categorical=meaning["categorical"],
        directions=tuple(meaning["directions"]),
        outputs=tuple(meaning["outputs"]),
        reference_inputs=inputs,
        reference_outputs=outputs,
    )


def _check(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise LerayError(f"no {what} {name!r}; there are {', '.join(known)}{nearest(name, known)}")


def _arrays(name: str) -> dict[str, Tensor]:
    return load((files("leray.data") / FOLDER / f"{name}.safetensors").read_bytes())


def _model(arrays: dict[str, Tensor], scale: float) -> PlainTransformer:
    return transformer_of({name: a.double() for name, a in arrays.items()}, scale)


def _edges(pairs: list[list[str]]) -> tuple[Edge, ...]:
    return tuple(Edge(*pair) for pair in pairs)


def _sequences(alphabet: list[int], length: int, first: int, *, distinct: bool) -> Tensor:
    """``[b, 1 + length]``, all sequences in order."""
    rows = permutations(alphabet, length) if distinct else product(alphabet, repeat=length)
    return torch.tensor([[first, *row] for row in rows])

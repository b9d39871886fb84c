"""Programs compiled to transformers, whose circuits are known.

The files lie in ``data/programs``: ``benchmarks/planted/compile.py`` made the models with Tracr,
``benchmarks/planted/circuits.py`` found and checked their circuits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    """A compiled program.

    Args:
        model: In double precision; its outputs are the directions ``outputs``.
        tokens: The vocabulary, in the order of its numbers.
        inputs: Every input: the first token of all, then each sequence of the alphabet.
        categorical: Whether the output is the largest coordinate, else its value.
        directions: What every coordinate of the residual stream means.
        outputs: Which directions are read.
        reference_inputs: Some inputs,
        reference_outputs: and what Tracr's own model puts out on them.
    """

    name: str
    model: PlainTransformer
    tokens: tuple[str, ...]
    inputs: Int[Tensor, "b t"]
    categorical: bool
    directions: tuple[str, ...]
    outputs: tuple[str, ...]
    reference_inputs: Int[Tensor, "r t"]
    reference_outputs: Float[Tensor, "r t o"]

    @property
    def circuit(self) -> tuple[Edge, ...]:
        """The edges that the program needs."""
        return tuple(Edge(*pair) for pair in _read("circuits")[self.name])


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


def load_program(name: str) -> Program:
    """A program by its name.

    Raises:
        LerayError: There is none of this name.
    """
    known = program_names()
    if name not in known:
        raise LerayError(f"no program {name!r}; there are {', '.join(known)}{nearest(name, known)}")
    meaning = _read("programs")[name]
    arrays = load((files("leray.data") / FOLDER / f"{name}.safetensors").read_bytes())
    inputs, outputs = arrays.pop("reference.inputs"), arrays.pop("reference.outputs")
    tokens = meaning["tokens"]
    return Program(
        name=name,
        model=transformer_of({n: a.double() for n, a in arrays.items()}, meaning["scale"]),
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


def _sequences(alphabet: list[int], length: int, first: int, *, distinct: bool) -> Tensor:
    """``[b, 1 + length]``, all sequences in order."""
    rows = permutations(alphabet, length) if distinct else product(alphabet, repeat=length)
    return torch.tensor([[first, *row] for row in rows])

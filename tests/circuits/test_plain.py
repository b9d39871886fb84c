"""Compiled programs: Tracr's own outputs, what the programs mean, and rotations of the stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from leray.circuits.plain import rotated, transformer_of
from leray.data.planted import Program, load_program, program_names
from leray.errors import LerayError

MEANINGS: dict[str, Callable[[list[str]], Sequence[object]]] = {
    "count": lambda x: [x.count("a")] * len(x),
    "first": lambda x: [x[0]] * len(x),
    "fraction-previous": lambda x: [x[: i + 1].count("a") / (i + 1) for i in range(len(x))],
    "histogram": lambda x: [x.count(a) for a in x],
    "histogram-twice": lambda x: [
        sum(x.count(b) == x.count(a) for b in x) for a in x
    ],
    "length": lambda x: [len(x)] * len(x),
    "mirrored": lambda x: [a == b for a, b in zip(x, reversed(x), strict=True)],
    "repeated": lambda x: [x.count(a) > 1 for a in x],
    "reverse": lambda x: x[::-1],
    "sort": sorted,
    "sort-by-frequency": lambda x: sorted(x, key=x.count, reverse=True),
    "sort-distinct": sorted,
}  # fmt: skip


def answers(program: Program) -> list[list[object]]:
    """What the model says on every input: the name of the largest output, or the output."""
    with torch.no_grad():
        outputs = program.model(program.inputs)[:, 1:]
    if not program.categorical:
        return outputs[..., 0].tolist()
    values = [name.rpartition(":")[2] for name in program.outputs]
    return [[values[i] for i in row] for row in outputs.argmax(dim=-1).tolist()]


@pytest.mark.parametrize("name", program_names())
def test_a_program_puts_out_what_tracr_does(name: str) -> None:
    """Oracle: Tracr's own model, in JAX, and the same with its stream rotated."""
    program = load_program(name)
    turned = rotated(program.model, torch.Generator().manual_seed(1))
    for model in (program.model, turned):
        apart = model(program.reference_inputs).detach() - program.reference_outputs
        assert float(apart.abs().max()) < 1e-5
    assert float((turned.token - program.model.token).detach().abs().max()) > 0.1


@pytest.mark.parametrize("name", MEANINGS)
def test_a_program_computes_what_its_name_says(name: str) -> None:
    """Oracle: the same in Python, on every input."""
    program = load_program(name)
    rows = [[program.tokens[i] for i in row[1:]] for row in program.inputs.tolist()]
    wanted = [MEANINGS[name](row) for row in rows]
    if program.categorical:
        assert answers(program) == [[str(x) for x in row] for row in wanted]
    else:
        assert answers(program) == [pytest.approx(row, abs=1e-6) for row in wanted]


def test_parameters_have_names() -> None:
    """Identity: by module, one for every array."""
    model = load_program("histogram").model
    assert [name for name, _ in model.named_parameters()] == [
        "token", "position", "unembedding", "layers.0.heads.query", "layers.0.heads.key",
        "layers.0.heads.value", "layers.0.heads.output", "layers.0.mlp.up", "layers.0.mlp.down",
    ]  # fmt: skip


def test_what_does_not_fit_is_named() -> None:
    """Identity: one clear line each."""
    model = load_program("first").model
    with pytest.raises(LerayError, match="9 tokens came; the model has 7 places"):
        model(torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(LerayError, match="tokens 0 to 5 came; the vocabulary is 0 to 4"):
        model(torch.tensor([[0, 5]]))
    with pytest.raises(LerayError, match="no array 'token'"):
        transformer_of({}, 1.0)
    with pytest.raises(LerayError, match=r"no program 'revers'.*did you mean 'reverse'"):
        load_program("revers")

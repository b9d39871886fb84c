"""Write the circuit of every program, checked in three ways, to ``circuits.json``.

    python benchmarks/planted/circuits.py --out src/leray/data/programs

The circuit is that of :mod:`leray.circuits.influence` on all inputs, those of a corrupted run in
random order. It is written only if

- every edge leads from a node that writes a direction to one whose weights read it;
- ablating all other edges at once, in each of the three ways, leaves every output as it was;
- ablating any one of its edges, in the best of the three ways, changes an output, and ablating any
  other edge in none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from leray.circuits.ablation import Task, ablated, divergence, replacements
from leray.circuits.graph import Edge, Graph
from leray.circuits.influence import known_circuit
from leray.circuits.patching import clean_run, patched
from leray.circuits.plain import PlainTransformer
from leray.data.planted import load_program, program_names, task_of

UNCHANGED, CHANGED = 1e-6, 1e-3


def in_common(model: PlainTransformer, graph: Graph) -> Tensor:
    """``[edges]``, whether the source writes a direction that the target's weights read."""
    writes = [model.token.any(dim=0), model.position.any(dim=0)]
    reads = []
    for layer in model.blocks:
        heads, mlp = layer.heads, layer.mlp
        moved, matched = heads.value @ heads.output, heads.query @ heads.key.mT
        for h in range(heads.number):
            reads += [matched[h].any(dim=1), matched[h].any(dim=0), moved[h].any(dim=1)]
            writes.append(moved[h].any(dim=0))
        reads.append(mlp.up.any(dim=1))
        writes.append(mlp.down.any(dim=0))
    reads.append(model.unembedding.any(dim=1))
    written = torch.stack(writes)
    rows = zip(reads, graph.num_before, strict=True)
    return torch.cat([(written[:n] & read).any(dim=1) for read, n in rows])


@torch.no_grad()
def circuit_of(model: PlainTransformer, task: Task) -> tuple[Edge, ...]:
    """The edges, after all checks."""
    run = clean_run(model, task)
    graph, clean = run.graph, model(task.clean)
    circuit = known_circuit(model, task)
    assert not bool((circuit & ~in_common(model, graph)).any())
    every = replacements(model, task, run.written)
    for replaced in every:
        others = ablated(model, graph, task.clean, replaced, ~circuit[None])[0]
        assert float(divergence(others, clean, task).max()) < UNCHANGED
    effects = patched(run, task, every).amax(dim=0)
    assert float(effects[circuit].min()) > CHANGED
    assert float(effects[~circuit].max()) < UNCHANGED
    return tuple(edge for edge, true in zip(graph.edges, circuit.tolist(), strict=True) if true)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    folder = parser.parse_args().out
    lines = []
    for name in program_names():
        program = load_program(name)
        circuit = circuit_of(program.model, task_of(program))
        lines.append(f"{json.dumps(name)}: {json.dumps(circuit)}")
        print(f"{name:20s}{len(circuit):4d} edges", flush=True)
    (folder / "circuits.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

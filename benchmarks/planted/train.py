"""Train transformers to do what compiled programs do, under every ablation.

    OMP_NUM_THREADS=1 python benchmarks/planted/train.py --out src/leray/data/programs

A model of dense random weights, larger than the program, is given the program's circuit: each node
of the program stands at a node of the model, and every edge of the model is *true*, an edge of the
program, or *spare*. Adam then lowers the squared distance between

- the model's outputs with a random set of its edges ablated, by resampling, mean or zero, and
- the compiled program's outputs with the true edges among them ablated in the same way,

so that true edges carry what the program's edges carry (interchange interventions) and spare ones
change nothing (strictness). Nothing of the compiled weights enters but these outputs. Lest spare
nodes fall silent, each must write what varies over the inputs by ``BUSY`` or more, where nobody
reads it.

A model is stored only if, on all inputs and in double precision, with D the squared distance of the
outputs when all edges are ablated, the largest over the three ways (:func:`measured`):

- no output is further than ``RIGHT`` from the program's, and the largest is the same;
- ablating all spare edges at once, in each of the three ways, keeps F ≥ ``KEPT``;
- ablating any one spare edge has in no way an effect above ``SMALL`` D;
- ablating any one true edge has in one of the ways an effect above ``LARGE`` D.

Shapes: r rows (inputs, each with its own set of edges), t time, d width, n edges into one layer's
targets, s sources, o outputs.

Source: Geiger et al., Inducing causal structure for interpretable neural networks (arXiv
2112.00826); Gupta et al., InterpBench (arXiv 2407.14494), for strictness. Ours differs in that
edges are replaced, not nodes, and in three ways.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from leray.circuits.ablation import ablated, divergence, messages, replacements
from leray.circuits.graph import OUTPUT, Edge, Graph, graph_of
from leray.circuits.nodes import Transformer
from leray.circuits.patching import clean_run, patched
from leray.circuits.plain import PlainTransformer, transformer_of
from leray.data.planted import Program, load_program, task_of

NUM_HEADS, WIDTH, HEAD_WIDTH, HIDDEN = 6, 32, 8, 32
RATE, ROWS, FEW, BUSY = 4e-3, 100, 0.15, 1.0
RIGHT, KEPT, SMALL, LARGE = 0.1, 0.99, 1e-3, 5e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How a model is trained.

    Args:
        num_layers: Of the model.
        seed: Of the weights, the places and all draws.
    """

    num_layers: int
    seed: int
    num_steps: int = 1500


PROGRAMS = {
    "detect-pattern": Training(num_layers=4, seed=0),
    "pair-balance": Training(num_layers=4, seed=1),
    "sort-distinct": Training(num_layers=4, seed=3),
    "same-as-first": Training(num_layers=3, seed=4, num_steps=2200),
    "fraction-previous": Training(num_layers=3, seed=5, num_steps=2200),
    "first": Training(num_layers=3, seed=6, num_steps=2500),
}


def untrained(program: Program, num_layers: int, generator: torch.Generator) -> PlainTransformer:
    """A larger model of normal weights, the variance of a sum's terms one over their number."""
    num_tokens, num_places = len(program.model.token), len(program.model.position)
    num_writers = num_layers * (NUM_HEADS + 1)

    def drawn(*shape: int, terms: int) -> Tensor:
        return torch.randn(shape, generator=generator) / math.sqrt(terms)

    arrays = {
        "token": drawn(num_tokens, WIDTH, terms=2),
        "position": drawn(num_places, WIDTH, terms=2),
        "unembedding": drawn(WIDTH, len(program.outputs), terms=WIDTH),
    }
    for i in range(num_layers):
        arrays |= {
            f"layers.{i}.heads.{part}": drawn(NUM_HEADS, WIDTH, HEAD_WIDTH, terms=WIDTH)
            for part in ("query", "key", "value")
        }
        arrays[f"layers.{i}.heads.output"] = drawn(
            NUM_HEADS, HEAD_WIDTH, WIDTH, terms=HEAD_WIDTH * num_writers
        )
        arrays[f"layers.{i}.mlp.up"] = drawn(WIDTH, HIDDEN, terms=WIDTH)
        arrays[f"layers.{i}.mlp.down"] = drawn(HIDDEN, WIDTH, terms=HIDDEN * num_writers)
    return transformer_of(arrays, math.sqrt(HEAD_WIDTH))


def placed(program: Program, num_layers: int, generator: torch.Generator) -> dict[Edge, Edge]:
    """The program's edges, and where they stand in the model: layers in order, heads drawn."""
    blocks = program.model.blocks
    layers = torch.randperm(num_layers, generator=generator)[: len(blocks)].sort().values.tolist()
    names = {"token": "token", "position": "position", OUTPUT: OUTPUT}
    for i, (block, layer) in enumerate(zip(blocks, layers, strict=True)):
        heads = torch.randperm(NUM_HEADS, generator=generator)[: block.heads.number].tolist()
        names[f"layers.{i}.mlp"] = f"layers.{layer}.mlp"
        for h, head in enumerate(heads):
            old, new = f"layers.{i}.heads.{h}", f"layers.{layer}.heads.{head}"
            names[old] = new
            names |= {f"{old}.{part}": f"{new}.{part}" for part in ("query", "key", "value")}
    return {edge: Edge(names[edge.source], names[edge.target]) for edge in program.circuit}


def intervened(
    model: Transformer,
    graph: Graph,
    tokens: Int[Tensor, "r t"],
    replaced: Float[Tensor, "s r t d"],
    masks: Bool[Tensor, "r edges"],
) -> Float[Tensor, "r t o"]:
    """The outputs with each row's own edges ablated; gradients flow through all of it.

    Args:
        replaced: What each source writes where its edge is ablated.
        masks: True where an edge is ablated.
    """
    shares = graph.by_pairs(masks.to(replaced))
    away: list[Tensor] = []
    others = replaced.unbind()
    x, place = replaced.new_zeros(replaced.shape[1:]), 0

    def write(*new: Tensor) -> None:
        nonlocal x
        away.extend(r - m for m, r in zip(new, others[len(away) :], strict=False))
        x = x + torch.stack(new).sum(dim=0)

    def read(num_targets: int) -> Tensor:
        nonlocal place
        own = shares[:, place : place + num_targets, : len(away)]
        place += num_targets
        moved = own @ torch.stack(away, dim=1).flatten(2)
        return x[:, None] + moved.unflatten(2, x.shape[1:])

    write(*model.embedded(tokens))
    for layer in model.blocks:
        q, k, v = read(3 * layer.heads.number).unflatten(1, (-1, 3)).unbind(dim=2)
        write(*layer.heads(q, k, v).unbind(dim=1))
        write(layer.mlp(read(1)[:, 0]))
    return model.output(read(1)[:, 0])


@dataclass(frozen=True, slots=True)
class Draw:
    """What one step ablates.

    Args:
        kinds: For every row 0, 1 or 2: by resampling, by the mean, to zero.
        masks: The edges of the model that are ablated.
    """

    clean: Int[Tensor, "r t"]
    corrupted: Int[Tensor, "r t"]
    kinds: Int[Tensor, " r"]
    masks: Bool[Tensor, "r edges"]


def drawn(
    inputs: Int[Tensor, "b t"],
    graph: Graph,
    true: Bool[Tensor, " edges"],
    generator: torch.Generator,
) -> Draw:
    """Inputs and edges to ablate in each.

    Spare edges: a random share of them, none and all included, and in half of the rows those of few
    sources only, lest errors learn to cancel. True edges: none in half of the rows, else one, or
    all from one source.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def whole(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    source = torch.tensor([graph.sources.index(edge.source) for edge in graph.edges])
    clean, corrupted = inputs[whole(len(inputs), ROWS)], inputs[whole(len(inputs), ROWS)]
    rates = (1.5 * uniform(ROWS, 1) - 0.25).clamp(0, 1)
    some = uniform(ROWS, len(graph.sources)) < torch.where(uniform(ROWS, 1) < 0.5, 1, FEW)
    spare = ~true & some[:, source] & (uniform(ROWS, len(true)) < rates)
    numbers = true.nonzero()[:, 0]
    chosen = numbers[whole(len(numbers), ROWS)][:, None]
    one = chosen == torch.arange(len(true))
    alike = true & (source[chosen] == source)
    what = uniform(ROWS, 1)
    masks = spare | (one & (what < 0.25)) | (alike & (what >= 0.75))
    return Draw(clean, corrupted, whole(3, ROWS), masks)


def outputs_of(
    model: Transformer, graph: Graph, draw: Draw, masks: Bool[Tensor, "r edges"]
) -> tuple[Float[Tensor, "r t o"], Float[Tensor, "s r t d"]]:
    """The outputs with edges ablated in the way of each row, and the messages without."""
    clean, corrupted = messages(model, draw.clean), messages(model, draw.corrupted)
    kinds = draw.kinds[:, None, None]
    mean = clean.mean(dim=1, keepdim=True)
    replaced = corrupted.where(kinds == 0, mean.where(kinds == 1, 0))
    return intervened(model, graph, draw.clean, replaced, masks), clean


def idleness(written: Float[Tensor, "s r t d"]) -> Tensor:
    """How far the messages' standard deviations over inputs fall short of ``BUSY``."""
    spread = written.var(dim=1).sum(dim=2).mean(dim=1).add(1e-12).sqrt()
    return (BUSY - spread).clamp(min=0).square().mean()


def trained(program: Program, how: Training) -> tuple[PlainTransformer, tuple[Edge, ...]]:
    """The model, and the circuit that it was trained to have."""
    generator = torch.Generator().manual_seed(how.seed)
    model = untrained(program, how.num_layers, generator)
    places = placed(program, how.num_layers, generator)
    compiled = copy.deepcopy(program.model).float().requires_grad_(False)
    graph, theirs = graph_of(model), graph_of(compiled)
    old = torch.tensor([theirs.places[edge] for edge in places])
    new = torch.tensor([graph.places[edge] for edge in places.values()])
    true = graph.mask(places.values())
    used = {edge.source for edge in places.values()}
    idle = torch.tensor([source not in used for source in graph.sources])
    scale = float(compiled(program.inputs)[:, 1:].var(dim=(0, 1)).sum())
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, how.num_steps, pct_start=0.05, cycle_momentum=False
    )
    for step in range(how.num_steps):
        draw = drawn(program.inputs, graph, true, generator)
        masks = torch.zeros(ROWS, len(theirs.edges), dtype=torch.bool)
        masks[:, old] = draw.masks[:, new]
        with torch.no_grad():
            wanted, _ = outputs_of(compiled, theirs, draw, masks)
        outputs, written = outputs_of(model, graph, draw, draw.masks)
        away = (outputs - wanted)[:, 1:].square().sum(dim=2)
        loss = away.mean() / scale + idleness(written[idle])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 250 == 0:
            print(
                f"{program.name:20s}{step + 1:6d} steps, loss {float(loss.detach()):.1e}",
                flush=True,
            )
    return model, tuple(places.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What says that a circuit is true.

    Args:
        outputs: The largest distance of an output from the program's.
        right: The share of places where the largest output is the program's (one of them, where it
            has several).
        kept: F of the circuit by ablation.
        spare: The largest effect of one spare edge, over the three ways, as a fraction of D.
        true: The least effect of one true edge, in the best of the three ways.
    """

    outputs: float
    right: float
    kept: tuple[float, ...]
    spare: float
    true: float


@torch.no_grad()
def measured(program: Program, model: PlainTransformer, circuit: tuple[Edge, ...]) -> Measures:
    """On all inputs of the program; the model in double precision."""
    task = task_of(program)
    run = clean_run(model, task)
    clean, wanted = run.outputs_of_all()[:, 1:], program.model(task.clean)[:, 1:]
    said = wanted.gather(2, clean.argmax(dim=2, keepdim=True))[..., 0]
    every, true = replacements(model, task, run.written), run.graph.mask(circuit)
    effects = patched(run, task, every).amax(dim=0)
    alone = [ablated(model, run.graph, task.clean, r, ~true[None])[0] for r in every]
    lost = [float(divergence(y, run.outputs_of_all(), task).mean()) for y in alone]
    ends = [model.output(r.sum(dim=0)) for r in every]
    all_lost = [float(divergence(y, run.outputs_of_all(), task).mean()) for y in ends]
    return Measures(
        outputs=float((clean - wanted).abs().max()),
        right=float((said > wanted.amax(dim=2) - RIGHT).double().mean()),
        kept=tuple(1 - a / b for a, b in zip(lost, all_lost, strict=True)),
        spare=float(effects[~true].max()) / max(all_lost),
        true=float(effects[true].min()) / max(all_lost),
    )


def passes(measures: Measures) -> bool:
    """Whether the circuit is verified."""
    return (
        measures.outputs <= RIGHT and measures.right == 1 and min(measures.kept) >= KEPT
        and measures.spare <= SMALL and measures.true >= LARGE
    )  # fmt: skip


def arrays_of(model: PlainTransformer) -> dict[str, Tensor]:
    return {name: w.detach().contiguous() for name, w in model.named_parameters()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--only", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    index = args.out / "trained.json"
    stored = json.loads(index.read_text()) if index.exists() else {}
    for name in args.only:
        program = load_program(name)
        model, circuit = trained(program, PROGRAMS[name])
        arrays = arrays_of(model)
        scale = model.blocks[0].heads.scale
        model = transformer_of({n: a.double() for n, a in arrays.items()}, scale)
        measures = measured(program, model, circuit)
        said = "stored" if passes(measures) else "not stored"
        print(f"{name:20s}{len(circuit):3d} true edges of {len(graph_of(model).edges)}, {said}:")
        print(json.dumps(asdict(measures)), flush=True)
        if passes(measures):
            save_file(arrays, args.out / f"trained-{name}.safetensors")
            stored[name] = {"scale": scale, "circuit": circuit, "verified": asdict(measures)}
        lines = [f"{json.dumps(n)}: {json.dumps(stored[n])}" for n in PROGRAMS if n in stored]
        index.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

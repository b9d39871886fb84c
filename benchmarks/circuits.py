"""How well the edges of planted circuits are found, and in what share of exact patching's time.

    python benchmarks/circuits.py --out docs/benchmarks/circuits.txt

The area under the ROC curve of edges' scores against the true edges, for exact patching (the
largest effect of three ablations), for attribution patching and its integrated gradients (ten
steps) by ablation, and for ``find_edges``. Scores below a millionth of the largest exact effect are
ties: what is smaller is rounding in single precision. Every program three times: as it was
compiled; with its stream rotated; and rotated with noise on every weight, normal with 1e-4 of the
root mean square of the largest matrix of its kind, so that nearly no edge does exactly nothing.
Then the models that were trained to do a program (``benchmarks/planted/train.py``).

The true edges of compiled programs were stored only where exact patching on all inputs agrees, and
trained models only where it parts true edges from spare ones, so that its area is 1 by
construction, but for the inputs left out here.

Then heads with two or three copies that back each other up: the share of the copies' edges that
show something, for exact patching and for ``find_edges``, and the false edges of the latter.

Seconds of the processor on one thread, the least of three where exact patching takes below a
second; exact patching runs in batches, from each edge's target on, and each method includes the
clean and the corrupted runs that it needs.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from leray.circuits.ablation import ABLATIONS, Task, replacements
from leray.circuits.attribution import eap, eap_ig
from leray.circuits.backups import copies_of, with_backups
from leray.circuits.finder import find_edges
from leray.circuits.patching import clean_run, patched
from leray.circuits.plain import PlainTransformer, rotated
from leray.data.planted import (
    Program,
    load_program,
    load_trained,
    program_names,
    task_of,
    trained_names,
)  # fmt: skip
from leray.errors import LerayError

NUM_INPUTS, NUM_STEPS, NOISE, TIE = 128, 10, 1e-4, 1e-6
MEAN, WORST, SHARE, RECALL = 0.985, 0.93, 0.2, 0.95
METHODS = (
    "exact", *(f"EAP {a}" for a in ABLATIONS), *(f"IG {a}" for a in ABLATIONS), "IG max", "ours",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    num_edges: int
    areas: tuple[float, ...]
    """By method."""
    exact_seconds: float
    our_seconds: float


def turned(model: PlainTransformer) -> PlainTransformer:
    return rotated(model, torch.Generator().manual_seed(0))


def noisy(model: PlainTransformer) -> PlainTransformer:
    """The model rotated, with noise on every weight."""
    moved, generator = turned(model), torch.Generator().manual_seed(1)
    kinds: dict[str, list[Tensor]] = {}
    for name, w in moved.named_parameters():
        kinds.setdefault(name.rpartition(".")[2], []).append(w)
    with torch.no_grad():
        for alike in kinds.values():
            size = torch.stack([w.square().mean() for w in alike]).amax().sqrt()
            for w in alike:
                w.add_(NOISE * size * torch.randn(w.shape, generator=generator, dtype=w.dtype))
    return moved


def programs(change: Callable[[PlainTransformer], PlainTransformer]) -> list[Program]:
    """The compiled programs, each with its model changed."""
    every = map(load_program, program_names())
    return [replace(program, model=change(program.model)) for program in every]


VARIANTS: dict[str, Callable[[], list[Program]]] = {
    "compiled": lambda: programs(lambda model: model),
    "rotated": lambda: programs(turned),
    "rotated, noisy": lambda: programs(noisy),
    "trained": lambda: [load_trained(name) for name in trained_names()],
}


def timed(run: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The result and the seconds it took."""
    seconds = []
    while True:
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
        if len(seconds) == 3 or seconds[0] > 1:
            return result, min(seconds)


def exactly(model: PlainTransformer, task: Task) -> Tensor:
    with torch.no_grad():
        run = clean_run(model, task)
        return patched(run, task, replacements(model, task, run.written)).amax(dim=0)


def attributed(model: PlainTransformer, task: Task) -> list[Tensor]:
    """EAP and its integrated gradients by ablation, and the largest of the latter."""
    run = clean_run(model, task)
    every = replacements(model, task, run.written)
    gradients = [eap_ig(run, task, r, NUM_STEPS) for r in every]
    return [*(eap(run, task, r) for r in every), *gradients, torch.stack(gradients).amax(dim=0)]


def area(scores: Tensor, true: Tensor, tie: float) -> float:
    return float(roc_auc_score(true, scores.where(scores > tie, 0)))


def row_of(program: Program) -> Row:
    model, task = program.model.requires_grad_(False), task_of(program, NUM_INPUTS)
    exact, exact_seconds = timed(lambda: exactly(model, task))
    ours, our_seconds = timed(lambda: find_edges(model, task).scores)
    true = clean_run(model, task).graph.mask(program.circuit)
    tie = TIE * float(exact.max())
    areas = tuple(area(s, true, tie) for s in (exact, *attributed(model, task), ours))
    return Row(program.name, len(true), areas, exact_seconds, our_seconds)


def share_of(rows: list[Row]) -> float:
    return sum(row.our_seconds for row in rows) / sum(row.exact_seconds for row in rows)


def table(title: str, rows: list[Row]) -> tuple[str, list[str]]:
    """The lines, and what was missed."""
    head = f"{title:22s}{'edges':>6s}" + "".join(f"{m:>13s}" for m in METHODS)
    lines = [head + f"{'exact s':>10s}{'ours s':>8s}{'share':>7s}"]
    for row in rows:
        areas = "".join(f"{a:13.3f}" for a in row.areas)
        share = row.our_seconds / row.exact_seconds
        lines.append(
            f"{row.name:22s}{row.num_edges:6d}{areas}{row.exact_seconds:10.3f}"
            f"{row.our_seconds:8.3f}{share:7.2f}"
        )
    columns = list(zip(*(row.areas for row in rows), strict=True))
    means, worst = [sum(c) / len(c) for c in columns], [min(c) for c in columns]
    largest = max(rows, key=lambda row: row.num_edges)
    share = share_of(rows)
    others = share_of([row for row in rows if row is not largest])
    lines.append(f"{'mean':28s}" + "".join(f"{m:13.3f}" for m in means))
    lines.append(f"{'worst':28s}" + "".join(f"{w:13.3f}" for w in worst))
    lines.append(f"share of all seconds {share:.3f}, without {largest.name} {others:.3f}")
    missed = [
        f"{title}: {what}"
        for what, bad in (
            ("mean", means[-1] < MEAN), ("worst", worst[-1] < WORST), ("time", share > SHARE)
        )
        if bad
    ]  # fmt: skip
    return "\n".join(lines) + "\n", missed


def backups() -> tuple[str, list[str]]:
    """Every program with copies of its last head that can have them."""
    lines = [
        f"{'copies of a head':22s}{'edges':>6s}{'copies':>8s}{'their edges':>13s}"
        f"{'exact':>8s}{'ours':>8s}{'false':>7s}"
    ]
    missed = []
    for name in program_names():
        program = load_program(name)
        layer = max(int(e.source.split(".")[1]) for e in program.circuit if "heads" in e.source)
        for num_copies in (2, 3):
            try:
                model, circuit = with_backups(
                    program.model, program.circuit, program.inputs,
                    layer=layer, head=0, num_copies=num_copies,
                )  # fmt: skip
            except LerayError:
                break  # a head that mixes values has no backups of this kind
            model, task = turned(model), task_of(program, NUM_INPUTS)
            found, exact = find_edges(model, task), exactly(model, task)
            number = program.model.blocks[layer].heads.number
            copies = copies_of(layer, 0, number, num_copies)
            theirs = found.graph.mask(
                e for e in circuit if e.source in copies or e.target.rpartition(".")[0] in copies
            )
            false = int((found.circuit & ~found.graph.mask(circuit)).sum())
            seen = float((exact > found.nothing)[theirs].double().mean())
            recall = float(found.circuit[theirs].double().mean())
            if recall < RECALL:
                missed.append(f"backups of {name}")
            lines.append(
                f"{name:22s}{len(theirs):6d}{num_copies:8d}{int(theirs.sum()):13d}"
                f"{seen:8.2f}{recall:8.2f}{false:7d}"
            )
    return "\n".join(lines) + "\n", missed


def report() -> str:
    lines = [
        "python benchmarks/circuits.py",
        f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}; "
        f"float64, at most {NUM_INPUTS} inputs",
        f"asked: mean {MEAN:g}, worst {WORST:g}, share {SHARE:g}, recall {RECALL:g}",
        "",
    ]
    missed = []
    for title, variant in VARIANTS.items():
        text, short = table(title, [row_of(program) for program in variant()])
        lines.append(text)
        missed += short
    text, short = backups()
    missed += short
    return "\n".join([*lines, text, f"missed: {', '.join(missed) or 'nothing'}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the output here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = report()
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text)


if __name__ == "__main__":
    main()

"""What SmolLM2-135M can do, and how small the circuits are.

    python benchmarks/pretrained.py --out docs/benchmarks/pretrained.txt

Every task of `leray.circuits.english`: the share of 200 positive prompts whose answer is the first
of all tokens, and for every control the share in which the behaviour's answer is not. Where the
least of these exceeds .99 a circuit is found on 8 pairs and measured on 8 others: the number of
edges from which on faithfulness F (resample ablation) stays at least .9, for ``rank_edges``, for
integrated gradients alone (EAP-IG, its first step) and for edges in a random order, and F of all
three at ten sizes. ACDC needs a pass for every edge still read: its time is one pass's, measured,
times the edges, so an upper bound.

The prompts of this report are drawn from seeds on which no task was looked at. Seconds are wall
time on one thread.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from leray.circuits.ablation import Task, ablated, messages
from leray.circuits.english import TASKS
from leray.circuits.faithfulness import Curve, faithfulness, smallest
from leray.circuits.graph import graph_of
from leray.circuits.llama import Llama
from leray.circuits.ranking import rank_edges
from leray.data.pretrained import PACKAGED, Pretrained, load_pretrained
from leray.train.english import accuracies, answer_tokens, task_of_english

ABLE, LEAST, NUM_PROMPTS, NUM_PAIRS = 0.99, 0.9, 200, 8
SCORE_SEED, FIND_SEED, JUDGE_SEED = 1000, 2000, 3000


def circuits(pretrained: Pretrained, name: str) -> Iterator[str]:
    """The lines of one task's circuits."""
    english = TASKS[name]
    model = Llama(pretrained.model, answer_tokens(pretrained, english))
    task, judged = (
        task_of_english(pretrained, english, NUM_PAIRS, np.random.default_rng(seed))
        for seed in (FIND_SEED, JUDGE_SEED)
    )
    start = time.perf_counter()
    found = rank_edges(model, task)
    seconds = time.perf_counter() - start
    num = len(found.scores)
    chance = torch.rand(num, generator=torch.Generator().manual_seed(FIND_SEED))
    curves: dict[str, tuple[Curve, int]] = {}
    for title, scores in (("ours", found.scores), ("EAP-IG", found.attributed), ("random", chance)):
        curve = faithfulness(model, judged, scores)
        curves[title] = curve, smallest(model, judged, scores, curve, LEAST)
    sizes = ", ".join(f"{title} {size}" for title, (_, size) in curves.items())
    ours = curves["ours"][1]
    alone = int(found.circuit.sum())
    hours = acdc_hours(model, judged)
    yield (
        f"{name}: F ≥ {LEAST:g} from {sizes} of {num} edges on; ours {100 * ours / num:.3f}%; "
        f"{seconds:.0f} s to find"
    )
    yield f"  of the 100 best edges {alone} are missed alone; ACDC would take up to {hours:.0f} h"
    yield "  edges  " + "".join(f"{n:8d}" for n in curves["ours"][0].sizes)
    for title, (curve, _) in curves.items():
        yield f"  {title:7s}" + "".join(f"{f:8.3f}" for f in curve.values)


@torch.no_grad()
def acdc_hours(model: Llama, task: Task) -> float:
    """What a pass with the edges apart would take for every edge."""
    graph = graph_of(model)
    mask = torch.ones(1, len(graph.edges), dtype=torch.bool)
    corrupted = messages(model, task.corrupted)
    start = time.perf_counter()
    ablated(model, graph, task.clean, corrupted, mask)
    return (time.perf_counter() - start) * len(graph.edges) / 3600


def report() -> Iterator[str]:
    start = time.perf_counter()
    pretrained = load_pretrained(PACKAGED)
    yield "python benchmarks/pretrained.py"
    yield (
        f"SmolLM2-135M-Instruct, {pretrained.kept_as}; {platform.machine()}, "
        f"{torch.get_num_threads()} thread, torch {torch.__version__}, float32"
    )
    yield f"{NUM_PROMPTS} prompts of each kind; asked: more than {ABLE:g} on each"
    yield ""
    able = []
    for name, english in TASKS.items():
        scores = accuracies(pretrained, english, NUM_PROMPTS, np.random.default_rng(SCORE_SEED))
        least = min(scores.values())
        controls = ", ".join(f"{control} {x:.3f}" for control, x in scores.items() if control)
        verdict = "" if least > ABLE else "  not able"
        yield f"{name:16s}{least:6.3f}  positive {scores['']:.3f}; {controls}{verdict}"
        able += [name] * (least > ABLE)
    yield f"{time.perf_counter() - start:.0f} s"
    for name in able:
        yield ""
        yield from circuits(pretrained, name)
    yield ""
    yield f"{time.perf_counter() - start:.0f} s in all"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the output here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for line in report():
        print(line, flush=True)
        lines.append(line)
    if args.out is not None:
        args.out.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()

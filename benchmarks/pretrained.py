"""What SmolLM2-135M can do, and how small the circuits are.

    python benchmarks/pretrained.py > docs/benchmarks/pretrained.txt

Every task of `leray.circuits.english`: the share of 200 positive prompts whose answer is the first
of all tokens, and for every control the share in which the behaviour's answer is not. Where the
least of these exceeds .99 a circuit is found on 8 pairs and measured on 8 others: the number of
edges from which on faithfulness F (resample ablation) stays at least .9, for ``rank_edges``, for
integrated gradients alone (EAP-IG, its first step) and, of the ten sizes only, for edges in a
random order, and F of all three at ten sizes. With ``--scores`` there are no circuits, with
``--circuits NAME`` only these. ACDC needs a pass for every edge still read: its time is one pass's,
measured, times the edges, so an upper bound.

The prompts of this report are drawn from seeds on which no task was looked at. Seconds are wall
time on one thread.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from leray.circuits.ablation import Task, ablated, messages
from leray.circuits.english import TASKS
from leray.circuits.faithfulness import faithfulness, smallest
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
    ranked = {"ours": found.scores, "EAP-IG": found.attributed, "random": chance}
    curves = {title: faithfulness(model, judged, scores) for title, scores in ranked.items()}
    least = {
        title: smallest(model, judged, ranked[title], curves[title], LEAST)
        for title in ("ours", "EAP-IG")
    }
    below = [
        n for n, f in zip(curves["random"].sizes, curves["random"].values, strict=True) if f < LEAST
    ]
    least["random"] = min(n for n in curves["random"].sizes if n > max(below, default=0))
    sizes = ", ".join(f"{title} {size}" for title, size in least.items())
    ours = least["ours"]
    alone = int(found.circuit.sum())
    hours = acdc_hours(model, judged)
    yield (
        f"{name}: F ≥ {LEAST:g} from {sizes} of {num} edges on; ours {100 * ours / num:.3f}%; "
        f"{seconds:.0f} s to find"
    )
    yield f"  of the 100 best edges {alone} are missed alone; ACDC would take up to {hours:.0f} h"
    yield "  edges  " + "".join(f"{n:8d}" for n in curves["ours"].sizes)
    for title, curve in curves.items():
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


def scores(pretrained: Pretrained) -> Iterator[tuple[str, bool]]:
    """A line for every task, and whether the model is able."""
    for name, english in TASKS.items():
        found = accuracies(pretrained, english, NUM_PROMPTS, np.random.default_rng(SCORE_SEED))
        least = min(found.values())
        controls = ", ".join(f"{control} {x:.3f}" for control, x in found.items() if control)
        verdict = "" if least > ABLE else "  not able"
        yield f"{name:16s}{least:6.3f}  positive {found['']:.3f}; {controls}{verdict}", not verdict


def report(only_scores: bool, names: list[str]) -> Iterator[str]:
    start = time.perf_counter()
    pretrained = load_pretrained(PACKAGED)
    yield shlex.join(["python", "benchmarks/pretrained.py", *sys.argv[1:]])
    yield (
        f"SmolLM2-135M-Instruct, {pretrained.kept_as}; {platform.machine()}, "
        f"{torch.get_num_threads()} thread, torch {torch.__version__}, float32"
    )
    if not names:
        yield f"{NUM_PROMPTS} prompts of each kind; asked: more than {ABLE:g} on each"
        yield ""
        told = list(scores(pretrained))
        yield from (line for line, _ in told)
        names = [name for name, (_, able) in zip(TASKS, told, strict=True) if able]
    for name in () if only_scores else names:
        yield ""
        yield from circuits(pretrained, name)
    yield ""
    yield f"{time.perf_counter() - start:.0f} s in all"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scores", action="store_true", help="no circuits")
    parser.add_argument("--circuits", nargs="*", default=[], choices=TASKS, help="no scores")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for line in report(args.scores, args.circuits):
        print(line, flush=True)


if __name__ == "__main__":
    main()

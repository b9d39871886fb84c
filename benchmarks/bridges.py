"""How well planted bridges are found, beside Fisher information.

    python benchmarks/bridges.py --out docs/benchmarks/bridges.txt

Models with planted bridges (`leray.circuits.bridged`), of three kinds: as they are trained (plain:
no wrong labels, units not rescaled; noise and dead units all the same) and made hard; and one case
in which Fisher information does well: bridges that all six capabilities own, their input weights an
eighth of the size. Precision and recall are of the best 1% of all weights, whose truth is which
unit a weight is of; no more than ``most`` of them can be true. Seeds 0 to 3 chose the method. A
model counts where removing any bridge costs two capabilities at least .05 of what they know, and no
other unit does; those that do not count are named.

- ours: T − E T with r = 2; ours, T: without the null; 2nd F w²: without slices and null;
- Fisher: the sum over capabilities of the diagonal, labels drawn from the model, as is usual; min
  Fisher, 2nd Fisher: the least and the second-largest instead of the sum; with w² as well;
- Fisher/mean: each tensor's sum over its mean, so that no tensor outweighs the others by its scale;
- size: |w|; random.

The ratio's interval is the lower end of ours over the upper end of Fisher's and so on, both
Student's t over seeds at .975 (Bonferroni), Fisher's upper end that of one hit a model or more.
`map` is the area under the curve of the map of dependence for whether two capabilities own a
bridge together, over ordered pairs. `q` is how many weights have a false discovery rate of .05,
and how many of these are true. Seconds are of the processor, on one thread beside other work.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from leray.circuits import bridged_models
from leray.circuits.bridged import Bridged, Planting, Wiring, drawn_owners, lost_by_unit, planted
from leray.circuits.bridges import dependence, find_bridges, needs_of, size_strata
from leray.circuits.importance import fisher
from leray.evidence.paired import t_interval

K, NEEDED, TOP, FACTOR = 6, 0.05, 0.01, 3.0
FIRST_SEED = 100
EVERYONE = tuple(range(K))
METHODS = (
    "ours", "ours, T", "2nd F w²", "Fisher", "Fisher w²", "min Fisher", "2nd Fisher",
    "min F w²", "Fisher/mean", "size", "random",
)  # fmt: skip
Kind = Callable[[Planting, torch.Generator], Wiring]


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of model, how many bridges, and what makes it hard."""

    name: str
    kind: Kind
    num_bridges: int
    rescaled: float = 4.0
    wrong: float = 1 / 3
    bridge_scale: float = 1.0
    small: bool = False

    def planting(self, generator: torch.Generator) -> Planting:
        shared = (EVERYONE,) * self.num_bridges
        if not self.small:
            everyone = self.num_bridges > 1
            shared = drawn_owners(self.num_bridges, K, generator, everyone=everyone)
        return Planting(
            shared=shared,
            num_capabilities=K,
            rescaled=self.rescaled,
            wrong=self.wrong,
            bridge_scale=self.bridge_scale,
        )


_KINDS = ((bridged_models.layers, 4), (bridged_models.stream, 3), (bridged_models.heads, 1))
CASES = (
    *(Case(f"{kind.__name__}, hard", kind, n) for kind, n in _KINDS),
    *(Case(f"{kind.__name__}, plain", kind, n, 1.0, 0.0) for kind, n in _KINDS),
    Case("stream, small bridges of all", bridged_models.stream, 6, 1.0, 0.0, 1 / 8, small=True),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Of one model: by method, precision, recall, area and seconds; and what is said beside."""

    values: np.ndarray
    num: int
    num_true: int
    map_area: float
    discovered: int
    discovered_true: int
    least_bridge: float
    most_other: float


def measured(case: Case, seed: int) -> Found | None:
    """None where what was planted is not needed."""
    generator = torch.Generator().manual_seed(seed)
    planting = case.planting(generator)
    model = planted(case.kind(planting, generator), planting, generator)
    owners, lost = lost_by_unit(model)
    second, is_bridge = lost.topk(2, dim=1).values[:, 1], owners.sum(dim=1) >= 2
    least, most = float(second[is_bridge].min()), float(second[~is_bridge].max())
    if least < NEEDED or most > NEEDED:
        return None
    truth = model.truth
    strata, needs, ours_seconds = _ours(model)
    start = time.process_time()
    found = find_bridges(needs, strata)
    ours_seconds += time.process_time() - start
    scores = _rivals(model, generator)
    scores |= {"ours": (found.score, ours_seconds), "ours, T": (found.statistic, ours_seconds)}
    ask = dependence(model.model, model.answers, needs, strata, generator)
    together = (owners[is_bridge][:, :, None] & owners[is_bridge][:, None]).any(dim=0)
    pairs = ~torch.eye(K, dtype=torch.bool)
    both = 0 < int(together[pairs].sum()) < K * (K - 1)
    area = roc_auc_score(together[pairs], ask.beyond[pairs]) if both else float("nan")
    called = found.q_value <= 0.05
    values = [[*_judged(scores[m][0], truth), scores[m][1]] for m in METHODS]
    return Found(
        np.array(values), len(truth), int(truth.sum()), float(area),
        int(called.sum()), int((called & truth).sum()), least, most,
    )  # fmt: skip


def _ours(model: Bridged) -> tuple[Tensor, Tensor, float]:
    start = time.process_time()
    strata, needs = size_strata(model.model), needs_of(model.model, model.answers)
    return strata, needs, time.process_time() - start


def _rivals(model: Bridged, generator: torch.Generator) -> dict[str, tuple[Tensor, float]]:
    start = time.process_time()
    rows = []
    for i in range(K):

        def logits(example: Tensor, i: int = i) -> Tensor:
            return model.model(example[None]).chunk(K, dim=-1)[i]

        own = fisher(model.model, list(model.inputs), logits, generator)
        rows.append(torch.cat([x.flatten() for x in own.values()]))
    f, shares = torch.stack(rows), []
    sizes = [p.numel() for p in model.model.parameters()]
    for piece in f.sum(dim=0).split(sizes):
        shares.append(piece / piece.mean().clamp(min=1e-30))
    seconds = time.process_time() - start
    w = torch.cat([p.detach().flatten() for p in model.model.parameters()]).abs()
    cost = f * w.square()
    return {
        "2nd F w²": (cost.topk(2, dim=0).values[1], seconds),
        "Fisher": (f.sum(dim=0), seconds),
        "Fisher w²": (cost.sum(dim=0), seconds),
        "min Fisher": (f.amin(dim=0), seconds),
        "2nd Fisher": (f.topk(2, dim=0).values[1], seconds),
        "min F w²": (cost.amin(dim=0), seconds),
        "Fisher/mean": (torch.cat(shares), seconds),
        "size": (w, 0.0),
        "random": (torch.rand(len(w), generator=generator), 0.0),
    }


def _judged(scores: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """Precision and recall of the best 1%, and the area."""
    top = scores.argsort(descending=True)[: int(TOP * len(scores))]
    hits = float(truth[top].sum())
    return hits / len(top), hits / float(truth.sum()), float(roc_auc_score(truth, scores))


def report_of(case: Case, num_seeds: int) -> tuple[str, bool]:
    """A case's table, and whether ours has three times Fisher's precision, interval and all."""
    found, refused, seed = [], [], FIRST_SEED
    while len(found) < num_seeds:
        one = measured(case, seed)
        if one is None:
            refused.append(seed)
        else:
            found.append(one)
        seed += 1
    values = np.stack([f.values for f in found])  # [seeds, methods, what]
    num, num_true = found[0].num, found[0].num_true
    most = min(1.0, num_true / int(TOP * num))
    lines = [
        f"{case.name}: {num:,} weights, {num_true} of bridges ({num_true / num:.2%}), most "
        f"{most:.3f}; seeds {FIRST_SEED} to {seed - 1}"
        + (f" without {', '.join(map(str, refused))}" if refused else ""),
        f"removal: every bridge costs two capabilities {min(f.least_bridge for f in found):.2f} "
        f"or more, any other unit a second one {max(f.most_other for f in found):.3f} at most",
        f"{'':12s}{'precision':>10s}{'[.95]':>16s}{'recall':>8s}{'AUROC':>8s}{'seconds':>9s}",
    ]
    for i, name in enumerate(METHODS):
        p = t_interval(values[:, i, 0], 0.95)
        _, recall, area, seconds = values[:, i].mean(axis=0)
        lines.append(
            f"{name:12s}{p.estimate:10.3f}{f'[{p.low:.3f}, {p.high:.3f}]':>16s}{recall:8.3f}"
            f"{area:8.3f}{seconds:9.2f}"
        )
    low = _ratio(lines, values, 1 / int(TOP * num))
    areas = [f.map_area for f in found if np.isfinite(f.map_area)]
    if areas:
        a = t_interval(np.array(areas), 0.95)
        lines.append(f"map {a.estimate:.3f} [{a.low:.3f}, {a.high:.3f}]")
    called, true = (sum(x) for x in zip(*((f.discovered, f.discovered_true) for f in found),
                                        strict=True))  # fmt: skip
    lines.append(f"q: {called} weights of all {len(found)} models, {true} of them true")
    return "\n".join(lines) + "\n", low >= FACTOR


def _ratio(lines: list[str], values: np.ndarray, one_hit: float) -> float:
    """Ours over Fisher; the lower end."""
    ours, theirs = (t_interval(values[:, METHODS.index(m), 0], 0.975) for m in ("ours", "Fisher"))
    estimate, low, high = (
        a / b if b > 0 else float("inf")
        for a, b in (
            (ours.estimate, theirs.estimate),
            (ours.low, max(theirs.high, one_hit)),
            (ours.high, theirs.low),
        )
    )
    lines.append(f"ours / Fisher {estimate:.1f} [{low:.1f}, {high:.1f}]")
    return low


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", help="cases whose name begins so")
    parser.add_argument("--out", type=Path, help="also write the output here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "python benchmarks/bridges.py",
        f"{platform.machine()}, 1 thread, torch {torch.__version__}; {args.seeds} seeds a case; "
        f"asked: {FACTOR:g} times Fisher's precision in the top {TOP:.0%}",
        "",
    ]
    print("\n".join(lines))
    missed = []
    for case in CASES:
        if args.only and not case.name.startswith(args.only):
            continue
        text, good = report_of(case, args.seeds)
        if not good:
            missed.append(case.name)
        print(text, flush=True)
        lines.append(text)
    last = f"missed, the lower end counts: {'; '.join(missed) or 'nothing'}"
    print(last)
    if args.out is not None:
        args.out.write_text("\n".join([*lines, last, ""]))


if __name__ == "__main__":
    main()

"""What the parts of the default are worth where it was chosen: the least is left out, and again.

    python benchmarks/elimination.py --text "../shared/data/text/wikitext2.*.txt" --device cuda \
        --out docs/benchmarks/elimination.txt

Models of the architecture study's headline: its size, its length, all of the tuning split, seeds
that no run of the study has, three rates each, the best one in the mean over the seeds. The report
split is not read. While a part is worth less than the claims' margin, the least one is left out.
Each model leaves a line of JSON beside the output, and is not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leray.data.cache import cache_home
from leray.lm.flops import train_flops_per_token
from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.architecture import SIZES, TUNE_SEED, all_variants, at_rate
from leray.studies.architecture_claims import MARGIN
from leray.studies.variants import Variant, configured
from leray.train.text import read_texts
from leray.train.tokens import TokenFiles, token_files
from leray.train.training import Training, weightless

PART = SIZES["headline"].headline
assert PART is not None
SCALE, RATES = PART.scale, PART.rates
(DEFAULT,) = (v for v in all_variants(SCALE) if v.role == "default")
LEFT_OUT: dict[str, dict[str, Any]] = {
    "recurrence": {"recurrent": None, "windows": [SCALE.context // 16] * 2 + [0]},
    "forgetting": {"forgetting": None},
    "coboundary": {"mixing": None},
    "cup": {"feedforward": "swiglu"},
    "gate": {"gated": None},
}
"""What the default without a part changes; None takes a switch away."""


@dataclass(frozen=True)
class Setting:
    text: str
    num_seeds: int
    device: str


@lru_cache(maxsize=1)
def files_of(text: str) -> TokenFiles:
    return token_files(read_texts(text), "bytes", cache_home() / "tokens")


def without(parts: tuple[str, ...]) -> Variant:
    """The default without these parts."""
    model = dict(DEFAULT.changes["model"])
    for part in parts:
        model |= LEFT_OUT[part]
    model = {k: v for k, v in model.items() if v is not None}
    name = " ".join(("default", *(f"− {p}" for p in sorted(parts))))
    return replace(DEFAULT, name=name, changes={"model": model})


def trained(variant: Variant, setting: Setting) -> dict[str, Any]:
    """The losses on the tuning split: ``{rate: [by seed]}``."""
    torch.set_num_threads(1)
    files, started = files_of(setting.text), time.monotonic()
    tables = SCALE.tables()
    whole = {**tables["schedule"], "interval": SCALE.num_steps}
    config = configured(variant, {**tables, "schedule": whole}, files.vocabulary.size)
    runs = list(product(RATES, range(TUNE_SEED, TUNE_SEED + setting.num_seeds)))
    tune, starts = files.splits["tune"], files.starts["tune"]
    training = Training(
        configs=tuple(at_rate(config, r) for r, _ in runs),
        seeds=tuple(s for _, s in runs),
        tokens=files.splits["train"],
        tune=tune,
        tune_starts=starts,
        report=tune,  # all of it is read after the last step
        report_starts=starts,
        device=setting.device,
        name="elimination",
    )
    workers = len(runs) if training.in_threads else 1
    curves = drive(
        training, store=MemoryStore(), key=Key.root(0), workers=workers, progress=no_progress
    )
    losses = [c.report.mean for c in curves if c.report is not None]
    by_rate = np.reshape(losses, (len(RATES), setting.num_seeds))
    return {
        "name": variant.name,
        "flops": train_flops_per_token(weightless(config.model), SCALE.context, pages=False),
        "rates": dict(zip(map(str, RATES), by_rate.tolist(), strict=True)),
        "seconds": time.monotonic() - started,
    }


def best(row: dict[str, Any]) -> np.ndarray:
    """By seed, at the rate with the least mean."""
    return np.array(min(row["rates"].values(), key=np.mean))


def told(row: dict[str, Any], whole: dict[str, Any]) -> str:
    tried = "  ".join(f"{r}: {np.mean(x):.4f}" for r, x in row["rates"].items())
    gap = best(row) - best(whole)
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    less = "" if row is whole else f"  {gap.mean():+.4f} ± {error:.4f}"
    return f"{row['name']:45} {row['flops'] / 1e6:5.2f}  {tried}{less}"


def lines(setting: Setting, rounds: int, processes: int, kept: Path) -> Iterator[str]:
    rows = [json.loads(x) for x in kept.read_text().splitlines()] if kept.is_file() else []
    known = {row["name"]: row for row in rows}
    left: tuple[str, ...] = ()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for _ in range(rounds):
            rest = [p for p in LEFT_OUT if p not in left]
            wanted = [without(left), *(without((*left, p)) for p in rest)]
            tasks = [pool.submit(trained, v, setting) for v in wanted if v.name not in known]
            for row in (task.result() for task in tasks):
                known[row["name"]] = row
                with kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            whole, *tried = (known[v.name] for v in wanted)
            yield from (told(row, whole) for row in (whole, *tried))
            worth = [float((best(row) - best(whole)).mean()) for row in tried]
            if not worth or min(worth) >= MARGIN:
                break
            left = (*left, rest[int(np.argmin(worth))])
            yield f"{left[-1]} is worth less than {MARGIN}, and least"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--text", default="stdlib")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=len(LEFT_OUT))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    found = [
        f"{a.text}: {SCALE.num_tokens:,} tokens, nats a byte on the tuning split, {a.seeds} seeds;",
        "MFLOP a token, the mean at each multiple of the rates, less the first ± standard error",
    ]
    setting = Setting(a.text, a.seeds, a.device)
    for line in lines(setting, a.rounds, a.processes, a.out.with_suffix(".jsonl")):
        found.append(line)
        print(line, flush=True)
    a.out.write_text("\n".join(found) + "\n")


if __name__ == "__main__":
    main()

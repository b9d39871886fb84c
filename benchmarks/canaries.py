"""What the canary monitor finds, undoes and costs: the table of a run of its study.

    leray study canaries --preset full --seed 6 --out runs/canaries
    python benchmarks/canaries.py runs/canaries --out docs/benchmarks/canaries.txt

Beside what the run measured: how often the bets call an intact capability broken where it fails as
often as is just allowed, at every check of a run, which is more than healthy training does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from leray.circuits.canaries import Betting
from leray.circuits.faults import KINDS
from leray.circuits.monitor import MonitorConfig
from leray.commands.study_canaries import lines
from leray.evidence.calibration import Rate

NUM_CAPABILITIES, NUM_CHECKS = 4, 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--simulated", type=int, default=1000, help="runs of bets")
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    result = json.loads((a.run / "result.json").read_text())
    faults = json.loads((a.run / "details.json").read_text())["faults"]
    (verdict,) = result["verdicts"]
    found = [
        f"preset {result['preset']}, seed {result['seed']}, {result['healthy']['runs']['trials']} "
        "episodes; rates with Wilson's intervals at .95",
        "check: kept by going back to the last check before the fault, were it known; without: by",
        "doing nothing; a full rollback keeps 0",
        "",
        *lines(result),
        *_quantiles(faults),
        "",
        f"C5 {verdict['verdict']}: kept {verdict['estimate']:.3f}, "
        f"[{verdict['interval'][0]:.3f}, {verdict['interval'][1]:.3f}] at {verdict['level']:g}, "
        f"{verdict['interval_kind']}, n = {verdict['n']}",
        "",
        *_simulated(a.simulated),
    ]
    a.out.write_text("\n".join(found) + "\n")
    print("\n".join(found))


def _quantiles(faults: dict[str, list]) -> list[str]:
    """Of what was kept, by kind, of every fault that was planted, whether it broke anything."""
    kind, kept, left, healthy = (
        np.array(faults[k]) for k in ("kind", "kept", "left", "undone_healthy")
    )
    found = [f"{'all planted':<11}{'kept: min':>10}{'.1':>8}{'median':>8}{'left: max':>11}"
             f"{'healthy steps undone, mean':>28}"]  # fmt: skip
    for i, name in enumerate(KINDS):
        low, tenth, median = np.quantile(kept[kind == i], [0, 0.1, 0.5])
        found.append(
            f"{name:<11}{low:>10.3f}{tenth:>8.3f}{median:>8.3f}{left[kind == i].max():>11.3f}"
            f"{healthy[kind == i].mean():>28.2f}"
        )
    return found


def _simulated(num: int) -> list[str]:
    """Runs in which every capability fails exactly as often as is allowed."""
    c = MonitorConfig()
    generator = np.random.default_rng(0)
    bound = c.tolerance + 0.05
    alarms = 0
    for _ in range(num):
        betting = Betting([bound] * NUM_CAPABILITIES, c.level)
        for _ in range(NUM_CHECKS):
            betting.begin()
            for k in range(NUM_CAPABILITIES):
                for _ in range(c.num_draws):
                    drawn = (generator.random(c.num_drawn) < bound).astype(float)
                    if betting.read(k, drawn) < 0:
                        break
            if betting.broken():
                alarms += 1
                break
    low, high = Rate(hits=alarms, trials=num).wilson(0.95)
    return [
        f"false alarms at the bound: {alarms} of {num:,} simulated runs of {NUM_CHECKS} checks of "
        f"{NUM_CAPABILITIES} capabilities",
        f"[{low:.4f}, {high:.4f}], level {c.level:g}",
    ]


if __name__ == "__main__":
    main()

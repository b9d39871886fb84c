"""A model of one run of the architecture study less the models of another: equal seeds are paired.

    python benchmarks/paired.py docs/architecture/wikitext2 docs/architecture/wikitext2-supported

Both runs must have trained on one text, at one scale; intervals are Student's t over seeds, at the
level of the study's claims.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from leray.evidence.paired import t_interval
from leray.studies.architecture_claims import SIMULTANEOUS


def losses(result: dict[str, Any]) -> dict[str, np.ndarray]:
    return {row["method"]: np.array(row["by_seed"]) for row in result["headline"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs=2, type=Path)
    parser.add_argument("--method", default="default", help="of the first run")
    a = parser.parse_args()
    one, other = (json.loads((run / "result.json").read_text()) for run in a.runs)
    for same in ("data", "headline_scale"):
        if one[same] != other[same]:
            raise SystemExit(f"{same} differs: {one[same]} and {other[same]}")
    mine = losses(one)[a.method]
    print(f"{a.method} of {a.runs[0]}, {mine.mean():.4f} nats a byte, less those of {a.runs[1]}:")
    for name, theirs in losses(other).items():
        gap = t_interval(mine - theirs, SIMULTANEOUS)
        print(
            f"{name:20} {theirs.mean():.4f}  "
            f"{gap.estimate:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}], {gap.n} seeds"
        )


if __name__ == "__main__":
    main()

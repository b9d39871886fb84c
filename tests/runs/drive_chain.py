"""A process to kill: drives a slow chain in a run folder, as the command line would.

    python drive_chain.py FOLDER WORKERS

It exits with 130 when interrupted, like ``leray``.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from run_computations import AutoregressiveChain

from leray.runs import Interrupted, Key, RunFolder

CHAIN = AutoregressiveChain(num_steps=10, seconds=0.03)


def main(path: Path, workers: int) -> int:
    """Start the run, or go on with it where there is one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    there = (path / "status.json").exists()
    run = RunFolder.resume(path) if there else RunFolder.create(path, "chain", {"seed": 7})
    try:
        with run:
            result = run.drive(CHAIN, key=Key.root(run.config["seed"]), workers=workers)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 130
    print(json.dumps([float(x).hex() for x in result.ravel()]))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))

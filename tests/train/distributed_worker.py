"""One process of several: commands of leray one after the other, as `torchrun` would start them.

A command ``forget RUN`` takes the last interval out of a run, in the process that leads, as if it
had been stopped before.
"""

import json
import os
import sys
from pathlib import Path

import torch

from leray.cli import main


def forget(run: Path) -> None:
    last = max((run / "checkpoints" / "training").iterdir())
    last.unlink()
    (run / "model.safetensors").rename(run / "before.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, *arguments in json.loads(Path(sys.argv[1]).read_text()):
        code = 0
        if name != "forget":
            code = main([name, *arguments])
        elif os.environ["RANK"] == "0":
            forget(Path(arguments[0]))
        if code:
            sys.exit(code)

"""`leray verdicts`: the verdicts of several runs in one Markdown page."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Options of `leray verdicts`.

    Args:
        runs: Folders of finished runs.
        out: The Markdown file to write; stdout where it is not given.
        json: One JSON object on stdout: the verdicts of every run.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path | None = None
    json: bool = False

    def run(self) -> int:
        """Write the page."""
        from leray.errors import LerayError
        from leray.report.ledger import Judged, ledger
        from leray.runs.files import atomic_write

        if not self.runs:
            raise LerayError("leray verdicts needs at least one folder of a finished run; got none")
        judged = [Judged.read(folder) for folder in dict.fromkeys(self.runs)]
        page = ledger(judged)
        if self.json:
            print(json.dumps({"runs": [run.plain() for run in judged]}, ensure_ascii=False))
        elif self.out is None:
            print(page, end="")
        if self.out is not None:
            atomic_write(self.out, page)
            print(f"verdicts: {self.out}", file=sys.stderr)
        return 0

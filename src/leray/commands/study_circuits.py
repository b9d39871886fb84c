"""`leray study circuits`: how large circuits are, what they share, and whether they carry over."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.commands.judged import refuse_beside_resume, verdict_table
from leray.errors import plain


@dataclass(frozen=True, kw_only=True)
class StudyCircuits:
    """Options of `leray study circuits`.

    Args:
        preset: quick (minutes, three models), or full (eleven).
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        workers: Processes; the numbers do not depend on it. By default one a core.
        json: One JSON object on stdout.
    """

    preset: str = "quick"
    out: Path | None = None
    resume: Path | None = None
    workers: int | None = None
    json: bool = False

    def run(self) -> int:
        """Run or resume the study."""
        from leray.report.circuits_page import publish
        from leray.studies.circuits import CircuitsRequest, run_circuits

        if self.resume is not None:
            refuse_beside_resume(self, ("preset", "out"))
        result, folder = run_circuits(
            CircuitsRequest(preset=self.preset),
            out=self.out,
            resume=self.resume,
            workers=self.workers,
            publish=publish,
        )
        if self.json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        show(result, folder)
        return 0


def show(result: dict[str, Any], folder: Path) -> None:
    """Circuits and verdicts, on stderr."""
    from rich.console import Console
    from rich.table import Table

    from leray.report.circuits_page import HEADS, row_cells

    console = Console(stderr=True, highlight=False)
    circuits = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADS:
        circuits.add_column(heading)
    for row in result["table"]:
        circuits.add_row(*row_cells(row))
    console.print(f"edges that keep .9, of {result['edges']}:")
    console.print(circuits)
    console.print(verdict_table(result["verdicts"], ".4f"))
    console.print(f"report: {plain(str(folder / 'report.html'))}", markup=False)
    sys.stderr.flush()

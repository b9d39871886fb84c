"""`leray study protection`: learn something new in many ways, and say what each forgets."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.commands.judged import refuse_beside_resume, verdict_table
from leray.errors import plain


@dataclass(frozen=True, kw_only=True)
class StudyProtection:
    """Options of `leray study protection`.

    Args:
        preset: quick (minutes) or full; both can be resumed.
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        device: cpu, cuda, cuda:1.
        workers: Processes; the numbers do not depend on it. By default one a core.
        json: One JSON object on stdout.
    """

    preset: str = "quick"
    out: Path | None = None
    resume: Path | None = None
    device: str = "cpu"
    workers: int | None = None
    json: bool = False

    def run(self) -> int:
        """Run or resume the study."""
        from leray.report.protection_page import publish
        from leray.studies.protection import ProtectionRequest, run_protection

        if self.resume is not None:
            refuse_beside_resume(self, ("preset", "out", "device"))
        result, folder = run_protection(
            ProtectionRequest(preset=self.preset, device=self.device),
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
    """What each method forgets, and the verdicts, on stderr."""
    from rich.console import Console
    from rich.table import Table

    from leray.report.protection_page import row_cells

    console = Console(stderr=True, highlight=False)
    methods = Table(box=None, pad_edge=False, header_style="bold")
    heads = ("method", "rate", "strength", "forgotten", "nats", "steps", "short", "last", "matched")
    for heading in heads:
        methods.add_column(heading, justify="left" if heading == "method" else "right")
    for row in result["table"]:
        methods.add_row(*row_cells(row))
    console.print(f"where the new loss first is {result['target']:.3f} nats a byte:")
    console.print(methods)
    console.print(verdict_table(result["verdicts"], "+.4f"))
    console.print(f"report: {plain(str(folder / 'report.html'))}", markup=False)
    sys.stderr.flush()

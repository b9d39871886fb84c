"""`leray study protection`: learn something new in many ways, and say what each forgets."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.errors import LerayError, plain


@dataclass(frozen=True, kw_only=True)
class StudyProtection:
    """Options of `leray study protection`.

    Args:
        preset: quick (minutes), full, or large (hours); all can be resumed.
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
            default = StudyProtection()
            names = ("preset", "out", "device")
            given = [f"--{n}" for n in names if getattr(self, n) != getattr(default, n)]
            if given:
                raise LerayError(
                    f"{', '.join(given)} beside --resume: the run's own settings hold; leave it "
                    "out, or start a new run without --resume"
                )
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
    from rich.text import Text

    from leray.report.protection_page import row_cells

    console = Console(stderr=True, highlight=False)
    methods = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("method", "rate", "strength", "forgotten", "nats", "steps", "short"):
        methods.add_column(heading, justify="left" if heading == "method" else "right")
    for row in result["table"]:
        methods.add_row(*row_cells(row))
    console.print(f"where the new loss first is {result['target']:.3f} nats a byte:")
    console.print(methods)
    verdicts = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("claim", "verdict", "difference", "interval"):
        verdicts.add_column(heading)
    colours = {"supported": "green", "refuted": "red", "undecided": "yellow"}
    for v in result["verdicts"]:
        ends = v["interval"]
        verdicts.add_row(
            Text(f"{v['claim']} {v['statement']}"),
            Text(v["verdict"], style=f"bold {colours[v['verdict']]}"),
            "–" if v["estimate"] is None else f"{v['estimate']:+.4f}",
            "–" if ends is None else f"[{ends[0]:+.4f}, {ends[1]:+.4f}]",
        )
    console.print(verdicts)
    console.print(f"report: {plain(str(folder / 'report.html'))}", markup=False)
    sys.stderr.flush()

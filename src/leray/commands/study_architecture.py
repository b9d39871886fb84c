"""`leray study architecture`: train every variant, judge the claims, write a report."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.commands.judged import refuse_beside_resume, verdict_table
from leray.errors import plain


@dataclass(frozen=True, kw_only=True)
class StudyArchitecture:
    """Options of `leray study architecture`.

    Args:
        text: A file, a pattern of files, a folder, stdlib or logicstream.
        preset: quick (minutes); screen, headline, parts (headline, and the default without each of
            its parts), narrow, wide, or full: all of them (hours, resumable).
        seed: Of the resamples; training has seeds of its own.
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        device: cpu, cuda, cuda:1. By default cpu, or where the run that goes on began.
        workers: Processes; the numbers do not depend on it. By default one a core.
        json: One JSON object on stdout.
    """

    text: str = "stdlib"
    preset: str = "quick"
    seed: int = 0
    out: Path | None = None
    resume: Path | None = None
    device: str | None = None
    workers: int | None = None
    json: bool = False

    def run(self) -> int:
        """Run or resume the study."""
        from leray.report.architecture_page import publish
        from leray.studies.architecture_session import ArchitectureRequest, run_architecture

        if self.resume is not None:
            refuse_beside_resume(self, ("text", "preset", "seed", "out"))
        request = ArchitectureRequest(
            text=self.text, preset=self.preset, seed=self.seed, device=self.device or "cpu"
        )
        result, folder = run_architecture(
            request,
            out=self.out,
            resume=self.resume,
            workers=self.workers,
            publish=publish,
            device=self.device,
        )
        if self.json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        show(result, folder)
        return 0


def show(result: dict[str, Any], folder: Path) -> None:
    """Losses and verdicts, on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    losses = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("variant", "nats a token", "parameters", "MFLOP a token", "rate"):
        losses.add_column(heading, justify="left" if heading == "variant" else "right")
    for row in result["table"]:
        losses.add_row(
            Text(f"{row['method']} ({row['what']})"),
            f"{row['metrics']['loss']['estimate']:.4f}",
            f"{row['parameters']:,}",
            f"{row['flops_per_token'] / 1e6:.2f}",
            f"{row['rate']:g}",
        )
    console.print(losses)
    console.print(verdict_table(result["verdicts"], "+.4f"))
    for kind, share in result["compute_share"].items():
        if share is not None:
            console.print(
                "the default reaches the baseline's final loss with "
                f"{share['estimate']:.0%} of its {'training FLOPs' if kind == 'flops' else kind}"
            )
    console.print(f"report: {plain(str(folder / 'report.html'))}", markup=False)
    sys.stderr.flush()

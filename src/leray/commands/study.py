"""`leray study`: run a study, show its verdicts, say where its report is."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StudyImportance:
    """Options of `leray study importance`.

    Args:
        data: chitchat (the embedded default), chitchat:A-B, locomo:PATH, qmsum:PATH,
            chatgpt:PATH, jsonl:PATH, or a .jsonl file.
        preset: How much is computed; quick: bootstrap and permutation.
        seed: The root of all randomness.
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        embedder: A folder with another sentence-transformers model.
        device: Where texts are embedded: cpu, cuda, cuda:1.
        workers: Processes; the numbers do not depend on it.
        include_text: Quote the texts of the conversations in the report.
        json: One JSON object on stdout.
    """

    data: str = "chitchat"
    preset: str = "quick"
    seed: int = 0
    out: Path | None = None
    resume: Path | None = None
    embedder: Path | None = None
    device: str = "cpu"
    workers: int = 1
    include_text: bool = False
    json: bool = False

    def run(self) -> int:
        """Run or resume the study."""
        from leray.studies.session import Request, run_importance

        result, folder = run_importance(
            Request(
                data=self.data,
                preset=self.preset,
                seed=self.seed,
                embedder=self.embedder,
                device=self.device,
                include_text=self.include_text,
            ),
            out=self.out,
            resume=self.resume,
            workers=self.workers,
            publish=_publish,
        )
        if self.json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        show(result, folder)
        return 0


def _publish(*what: Any) -> None:
    """Write the report; its figures are imported only when there is something to draw."""
    from leray.report.page import publish

    publish(*what)


def show(result: dict[str, Any], folder: Path) -> None:
    """The verdicts and what to do, on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    data = result["data"]
    console.print(
        f"\n{data['name']}: {data['queries']:,} queries over {data['turns']:,} turns, "
        f"{data['clusters']} {data['cluster_unit']} ({data['truth']} truth)",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("claim", "verdict", "estimate", "interval", "status"):
        table.add_column(heading)
    colours = {"supported": "green", "refuted": "red", "undecided": "yellow"}
    for v in result["verdicts"]:
        table.add_row(
            Text(f"{v['claim']} {v['statement']}"),
            Text(v["verdict"], style=f"bold {colours[v['verdict']]}"),
            "–" if v["estimate"] is None else f"{v['estimate']:.3f}",
            "–" if v["interval"] is None else "[{:.3f}, {:.3f}]".format(*v["interval"]),
            v["status"],
        )
    console.print(table)
    for v in result["verdicts"]:
        if v["note"]:
            console.print(f"{v['claim']}: {v['note']}", markup=False, style="dim")
    for what in ("repaired", "dropped"):
        counts = ", ".join(f"{n:,} {kind}" for kind, n in data[what].items())
        if counts:
            console.print(f"{what}: {counts}", markup=False, style="dim")
    console.print(f"\n{result['advice']}", markup=False, style="bold")
    seconds = ", ".join(f"{m['name']} {m['seconds']:.1f} s" for m in result["methods"])
    console.print(f"{seconds}\nreport: {folder / 'report.html'}", markup=False)
    sys.stderr.flush()

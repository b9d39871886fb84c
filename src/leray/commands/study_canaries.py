"""`leray study canaries`: break models that go on learning, undo what broke them, judge C5."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.commands.judged import refuse_beside_resume, verdict_table
from leray.errors import plain


@dataclass(frozen=True, kw_only=True)
class StudyCanaries:
    """Options of `leray study canaries`.

    Args:
        preset: quick (minutes: one base model, 36 faults) or full (two, 204 faults; resumable).
        seed: The root of all randomness.
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        workers: Processes; the numbers do not depend on it. By default one a core.
        json: One JSON object on stdout.
    """

    preset: str = "quick"
    seed: int = 0
    out: Path | None = None
    resume: Path | None = None
    workers: int | None = None
    json: bool = False

    def run(self) -> int:
        """Run or resume the study."""
        from leray.report.canaries_page import publish
        from leray.studies.canaries_session import CanariesRequest, run_canaries

        if self.resume is not None:
            refuse_beside_resume(self, ("preset", "seed", "out"))
        request = CanariesRequest(preset=self.preset, seed=self.seed)
        result, folder = run_canaries(
            request, out=self.out, resume=self.resume, workers=self.workers, publish=publish
        )
        if self.json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        show(result, folder)
        return 0


def show(result: dict[str, Any], folder: Path) -> None:
    """What was found and undone, by kind of fault, and the verdict, on stderr."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, width=136)
    console.print(Text("\n".join(lines(result))))
    console.print(verdict_table(result["verdicts"], ".3f"))
    for v in result["verdicts"]:
        console.print(plain(v["note"]), markup=False, style="dim")
    console.print(f"report: {plain(str(folder / 'report.html'))}", markup=False)
    sys.stderr.flush()


def lines(result: dict[str, Any]) -> list[str]:
    """The table by kind of fault and what else was measured, as text."""
    from leray.report.canaries_page import RATES, share

    head = (
        f"{'fault':<11}{'planted':>8}{'broke':>6}{'in time':>22}{'at once':>22}{'ranked first':>22}"
        f"{'restored':>22}{'kept':>7}{'check':>7}{'without':>9}"
    )
    found = [head]
    for row in result["table"]:
        rates = "".join(f"{share(row[name]):>22}" for name in RATES)
        kept, check, without = (_estimate(m) for m in _kept(row))
        found.append(
            f"{row['method']:<11}{row['planted']:>8}{row['broke']:>6}{rates}{kept:>7}{check:>7}{without:>9}"
        )
    h, c, d = result["healthy"], result["cost"], result["dependencies"]
    found += [
        "",
        f"healthy runs with an alarm: {share(h['runs'])}, {h['checks']:,} checks",
        f"steps take {c['overhead']:+.1%} (quartiles {c['overhead_quartiles'][0]:+.1%}, "
        f"{c['overhead_quartiles'][1]:+.1%}) of the processor's time; the ring holds "
        f"{c['ring_bytes'] / c['weight_bytes']:.1f} times the weights",
        f"corrupted module named first: {share(d['module_first'])}; which module hurts which "
        f"capability: AUROC {_number(d['auroc'])}",
        "",
    ]
    return found


def _kept(row: dict[str, Any]) -> list[dict[str, Any] | None]:
    """With what was undone, by going back to the last check before the fault, by doing nothing."""
    return [row["metrics"][k] for k in ("kept", "kept_last_check", "kept_without")]


def _estimate(metric: dict[str, Any] | None) -> str:
    return _number(None if metric is None else metric["estimate"])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

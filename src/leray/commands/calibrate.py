"""`leray calibrate`: measure what the intervals cover and how often the tests cry wolf."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.errors import LerayError

_DATASETS = 3_000


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Options of `leray calibrate`.

    Args:
        datasets: Planted data sets of the commonest cell; 100 for a trial, which decides little.
        seed: The root of all randomness.
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        workers: Processes, by default one a core; the numbers do not depend on it.
        json: One JSON object on stdout.
    """

    datasets: int = _DATASETS
    seed: int = 0
    out: Path | None = None
    resume: Path | None = None
    workers: int | None = None
    json: bool = False

    def run(self) -> int:
        """Run or resume; what was missed is said, not hidden behind an exit code."""
        if self.resume is not None:
            self._check_resume(self.resume)
        from leray.studies.calibrate import Request, run_calibrate

        result, folder = run_calibrate(
            Request(datasets=self.datasets, seed=self.seed),
            out=self.out,
            resume=self.resume,
            workers=self.workers,
            publish=_publish,
        )
        if self.json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        show(result, folder)
        return 0

    def _check_resume(self, path: Path) -> None:
        """Refuse options that the resumed run settles, and a folder that holds another study."""
        from leray.runs import RunFolder
        from leray.runs.reopening import check_config

        given = [
            f"--{name}"
            for name, default in (("datasets", _DATASETS), ("seed", 0), ("out", None))
            if getattr(self, name) != default
        ]
        if given:
            raise LerayError(
                f"{', '.join(given)} cannot change with --resume, for the run's own settings hold: "
                "leave it out, or start a new run without --resume"
            )
        folder = RunFolder.resume(path)
        if folder.study != "calibrate":
            raise LerayError(
                f"{path} holds a run of {folder.study!r:.60}, by its status.json; "
                "allowed: 'calibrate'"
            )
        check_config(folder.config, path, {"datasets": int, "seed": int}, ("datasets", "seed"))


def _publish(*what: Any) -> None:
    from leray.report.calibration_page import publish

    publish(*what)


def show(result: dict[str, Any], folder: Path) -> None:
    """What was met and what was not, on stderr."""
    from leray.report.calibration_page import unmet

    summary = result["summary"]
    print(
        f"\n{summary['met']} criteria met, {summary['missed']} missed, {summary['undecided']} "
        f"undecided at {result['datasets']:,} data sets",
        file=sys.stderr,
    )
    for line in unmet(result):
        print(f"missed: {line}", file=sys.stderr)
    print(f"report: {folder / 'report.html'}", file=sys.stderr)

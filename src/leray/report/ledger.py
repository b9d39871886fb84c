"""The verdicts of several runs in one Markdown page: claims down, data across, each dated."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leray.errors import LerayError
from leray.evidence.verdict import Claim
from leray.figures import numbers
from leray.report.judged import UNITS, was_judged
from leray.studies.ledgers import LEDGERS

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A finished run: what it judged, when, and the hash of its manifest."""

    result: Row
    date: str
    manifest: str

    @classmethod
    def read(cls, folder: Path) -> Judged:
        """From the folder of a finished run, or one with its result alone, such as those in docs/.

        Raises:
            LerayError: if a file is missing or no JSON.
        """
        try:
            result = json.loads((folder / "result.json").read_bytes())
            if not (folder / "status.json").exists() and not (folder / "MANIFEST.sha256").exists():
                return cls(result=result, date=numbers.MISSING, manifest=numbers.MISSING)
            status = json.loads((folder / "status.json").read_bytes())
            manifest = hashlib.sha256((folder / "MANIFEST.sha256").read_bytes()).hexdigest()
            return cls(result=result, date=status["finished"][:10], manifest=manifest)
        except FileNotFoundError as error:
            raise LerayError(
                f"{folder} holds no finished run, for it has no {Path(error.filename or '').name}: "
                "give the folder that a run printed"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LerayError(f"cannot read the run in {folder}: {error}") from error

    def plain(self) -> Row:
        """As JSON has it."""
        return {
            "data": self.result["data"]["name"],
            "preset": self.result["preset"],
            "seed": self.result["seed"],
            "date": self.date,
            "manifest": self.manifest,
            "verdicts": self.result["verdicts"] + self.result.get("simulated", []),
        }


def ledger(runs: list[Judged]) -> str:
    """Markdown: a table of all verdicts, then each claim with its data, then the runs."""
    lines = ["# Verdicts", ""]
    for study, claims in LEDGERS.items():
        own = [r for r in runs if r.result.get("study", "importance") == study]
        about = (_MEMORY, "conversations") if study == "importance" else (_MODELS, "seeds")
        lines += _judged(own, claims, *about)
    lines += ["## The runs", "", "| data | preset | seed | date | hash of the manifest |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {_cell(r.result['data']['name'])} | {r.result['preset']} | {r.result['seed']} "
        f"| {r.date} | `{r.manifest[:16]}` |"
        for r in runs
    ]
    return "\n".join(lines) + "\n"


_MEMORY = (
    "Made by `leray verdicts RUN…` from the runs named at the end; nothing here is typed by hand. "
    "Intervals are simultaneous over the nine claims. *Confirmatory*: the data shaped neither the "
    "claim nor the design; *replication*: they did, or other verdicts on them were known when the "
    "claim was fixed. Verdicts on simulated conversations follow from what was planted in them. M9 "
    "takes the largest gain of all fitted methods as its estimate, and the largest lower end among "
    "them, that of the surest, as the lower end of its interval."
)
_MODELS = (
    "Made by `leray verdicts RUN…` from the runs named at the end; nothing here is typed by hand. "
    "A claim is supported where its whole interval is beyond its margin and refuted where none of "
    "it is. Intervals are Student's t over seeds, simultaneous over the claims. *Confirmatory* and "
    "*replication* say whether the text had chosen what is compared."
)


def _judged(runs: list[Judged], claims: tuple[Claim, ...], intro: str, n_is: str) -> list[str]:
    """The claims of one study, each with its data; nothing without runs of it."""
    if not runs:
        return []
    rows = [(run, row) for run in runs for row in run.result["verdicts"]] + _simulated(runs)
    lines = [intro, ""]
    for claim in claims:
        about = [(run, row) for run, row in rows if row["claim"] == claim.id]
        lines += [f"## {claim.id} {claim.statement}", "", f"Estimated: {claim.estimand}.", ""]
        lines += [_table(about, n_is) if about else "No run has judged it.", ""]
    return lines


def _simulated(runs: list[Judged]) -> list[tuple[Judged, Row]]:
    """Verdicts on simulated conversations, those that several runs repeat once: by the first."""
    kept: list[tuple[Judged, Row]] = []
    for run in runs:
        for row in run.result.get("simulated", []):
            if all(row != other for _, other in kept):
                kept.append((run, row))
    return kept


def _table(about: list[tuple[Judged, Row]], n_is: str) -> str:
    head = (
        f"| data | verdict | estimate | interval | {n_is} | status | date | run |\n"
        + "|---" * 8
        + "|"
    )
    return "\n".join([head, *(_line(run, row) for run, row in about)])


def _line(run: Judged, row: Row) -> str:
    verdict = f"**{row['verdict']}**" if was_judged(row) else "not judged"
    note = f"<br>{_cell(row['note'])}" if row["note"] else ""
    interval = numbers.MISSING if row["interval"] is None else _ends(row["interval"])
    return (
        f"| {_cell(row['data'])} | {verdict}{note} | {_short(row['estimate'])} | {interval} "
        f"| {row['n']:,} {UNITS.get(row['claim'], '')}".rstrip()
        + f" | {row['status']} | {run.date} | `{run.manifest[:8]}` |"
    )


def _ends(interval: list[float]) -> str:
    return f"[{_short(interval[0])}, {_short(interval[1])}]"


def _short(value: float | None) -> str:
    return numbers.MISSING if value is None else f"{value:.3g}"


def _cell(text: str) -> str:
    """Text that cannot leave its cell, nor mark anything up."""
    plain = " ".join(text.split())
    for sign in "\\|<>*_`[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain

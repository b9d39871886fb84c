"""`leray study`: run a study, show its verdicts, say where its report is."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from leray.errors import LerayError, plain

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class StudyImportance:
    """Options of `leray study importance`.

    Args:
        data: chitchat (the embedded default), chitchat:A-B, synthetic, synthetic:N,
            locomo:PATH, qmsum:PATH, chatgpt:PATH, jsonl:PATH, or a .jsonl file.
        preset: quick (bootstrap, permutation, genetic search), montecarlo, bayes, or full:
            everything in one report.
        seed: The root of all randomness.
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        embedder: A folder with another sentence-transformers model.
        device: Where texts are embedded: cpu, cuda, cuda:1.
        workers: Processes; the numbers do not depend on it. By default 1 for the quick preset,
            else one a core.
        scheduler: The address of a Dask scheduler whose workers make the steps instead.
        literal: With montecarlo or full: conversations simulated with every embedding drawn
            (10,000 unless given; a million takes some minutes).
        exhaustive_networks: With full: train all 219 networks to the end.
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
    workers: int | None = None
    scheduler: str | None = None
    literal: int | None = None
    exhaustive_networks: bool = False
    include_text: bool = False
    json: bool = False

    def run(self) -> int:
        """Run or resume the study."""
        from leray.studies.session import Request, run_importance

        if self.resume is not None:
            _refuse_without_effect(self)
            _check_run(self.resume)
        result, folder = run_importance(
            Request(
                data=self.data,
                preset=self.preset,
                seed=self.seed,
                embedder=self.embedder,
                device=self.device,
                include_text=self.include_text,
                literal=self.literal,
                exhaustive_networks=self.exhaustive_networks,
            ),
            out=self.out,
            resume=self.resume,
            workers=self.workers,
            scheduler=self.scheduler,
            publish=_publish,
        )
        if self.json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        show(result, folder)
        return 0


_HOLD_ON_RESUME = ("resume", "workers", "scheduler", "json")


def _refuse_without_effect(options: StudyImportance) -> None:
    """Refuse what is given beside --resume and is part of the run that is resumed."""
    given = [
        f"--{f.name.replace('_', '-')}"
        for f in fields(options)
        if f.name not in _HOLD_ON_RESUME and getattr(options, f.name) != f.default
    ]
    if given:
        verb = "has" if len(given) == 1 else "have"
        raise LerayError(
            f"{', '.join(given)} {verb} no effect with --resume, for the run's own settings hold: "
            "leave it out, or start a new run without --resume"
        )


def _check_run(path: Path) -> None:
    """Refuse a folder that holds another study, damaged settings, or paths from elsewhere."""
    from leray.data.fingerprint import path_of_data
    from leray.runs import RunFolder
    from leray.runs.reopening import check_config
    from leray.studies.session import Request

    folder = RunFolder.resume(path)
    if folder.study != "importance":
        raise LerayError(
            f"{path} holds a run of {folder.study!r:.60}, by its status.json; allowed: 'importance'"
        )
    types = {name: _stored(hint) for name, hint in get_type_hints(Request).items()}
    check_config(folder.config, path, types, ("data", "preset", "seed"))
    embedder = folder.config.get("embedder")
    for used in (path_of_data(folder.config["data"]), Path(embedder) if embedder else None):
        away = used is not None and not used.is_absolute() and not used.exists()
        if away and folder.directory not in (None, Path.cwd()):
            here = shlex.quote(str(path.resolve()))
            raise LerayError(
                f"no {str(used)!r} here: the run was started in {folder.directory}, where its "
                f"paths count from; resume it there with --resume {here}"
            )


def _stored(hint: Any) -> type:
    """The type that a setting has in config.toml; one that is None is not written."""
    kind = next(k for k in get_args(hint) or (hint,) if k is not type(None))
    return str if kind is Path else kind


def _publish(*what: Any) -> None:
    """Write the report; its figures are imported only when there is something to draw."""
    from leray.report.page import publish

    publish(*what)


def show(result: dict[str, Any], folder: Path) -> None:
    """The verdicts and what to do, on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from leray.evidence.verdict import NOT_JUDGED

    console = Console(stderr=True, highlight=False)
    data = result["data"]
    console.print(
        f"\n{plain(data['name'])}: {data['queries']:,} queries over {data['turns']:,} turns, "
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
            Text("not judged", style="bold")
            if v["method"] == NOT_JUDGED
            else Text(v["verdict"], style=f"bold {colours[v['verdict']]}"),
            "–" if v["estimate"] is None else f"{v['estimate']:.3f}",
            "–" if v["interval"] is None else "[{:.3f}, {:.3f}]".format(*v["interval"]),
            v["status"],
        )
    console.print(table)
    for v in result["verdicts"]:
        if v["note"]:
            console.print(f"{v['claim']}: {plain(v['note'])}", markup=False, style="dim")
    for what in ("repaired", "dropped"):
        counts = ", ".join(f"{n:,} {plain(kind)}" for kind, n in data[what].items())
        if counts:
            console.print(f"{what}: {counts}", markup=False, style="dim")
    for method, why in result["left_out"].items():
        console.print(f"left out: {method} ({why})", markup=False, style="dim")
    console.print(f"\n{result['advice']}", markup=False, style="bold")
    console.print(_times(result))
    console.print(f"report: {folder / 'report.html'}", markup=False)
    sys.stderr.flush()


def _times(result: dict[str, Any]) -> Table:
    """Every method's time here beside what the source claims for it."""
    from rich.table import Table

    from leray.figures import numbers

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    table.add_column("here", justify="right")
    table.add_column("claimed", justify="right")
    for row in result["methods"]:
        table.add_row(row["name"], numbers.seconds(row["seconds"]), numbers.seconds(row["claimed"]))
    if any(row["claimed"] for row in result["methods"]):
        total = sum(row["seconds"] for row in result["methods"])
        whole = "12 to 16 h" if result["preset"] == "full" else numbers.MISSING
        table.add_row("together", numbers.seconds(total), whole, style="bold")
    return table

"""`leray bundle` and `leray reproduce`: a run in one archive, and the same numbers from it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from leray.studies.reproduce import Reproduction

EQUAL, DIFFERENT = 0, 3
_SHOWN = 40  # differences in the table; --json has all


@dataclass(frozen=True, kw_only=True)
class BundleRun:
    """Options of `leray bundle`.

    Args:
        folder: The folder of a finished run.
        out: The archive to write; by default the run's name with .zip, beside it.
        include_data: Put your own data (jsonl, chatgpt) in as well; where the licence allows it,
            data are in it anyway.
        json: One JSON object on stdout.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Path | None = None
    include_data: bool = False
    json: bool = False

    def run(self) -> int:
        """Write the archive and say where it is."""
        from leray.data.fingerprint import sha256_of
        from leray.studies.packing import pack

        path = pack(self.folder, self.out, include_data=self.include_data)
        size, digest = path.stat().st_size, sha256_of(path)
        if self.json:
            print(json.dumps({"bundle": str(path), "bytes": size, "sha256": digest}))
        print(f"{path}: {size:,} bytes, SHA-256 {digest}", file=sys.stderr)
        print(f"repeat it with: leray reproduce {path}", file=sys.stderr)
        return EQUAL


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Options of `leray reproduce`.

    Args:
        bundle: The archive that leray bundle wrote.
        data: Where the data are here, such as locomo:PATH; by default those in the bundle, or
            where they were.
        embedder: A folder with the sentence-transformers model of the run, if it was another than
            the packaged one.
        out: The folder of the new run, new or empty; by default one below runs/.
        workers: Processes; the numbers do not depend on it; by default as many as the study takes.
        scheduler: Address of a Dask scheduler whose workers make the steps instead.
        json: One JSON object on stdout.
    """

    bundle: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BUNDLE")]
    data: str | None = None
    embedder: Path | None = None
    out: Path | None = None
    workers: int | None = None
    scheduler: str | None = None
    json: bool = False

    def run(self) -> int:
        """Run again, compare every number, show the differences; 3 where there are some."""
        from leray.report.page import publish
        from leray.studies.reproduce import reproduce

        done = reproduce(
            self.bundle,
            publish=publish,
            data=self.data,
            embedder=self.embedder,
            out=self.out,
            workers=self.workers,
            scheduler=self.scheduler,
        )
        if self.json:
            print(json.dumps(_plain(done), ensure_ascii=True, allow_nan=False))
        show(done)
        return EQUAL if done.equal else DIFFERENT


def _plain(done: Reproduction) -> dict[str, Any]:
    return {
        "equal": done.equal,
        "run": str(done.run),
        "exact": done.agreement.exact,
        "other": list(done.other),
        "numbers": done.agreement.num_numbers,
        "texts": done.agreement.num_texts,
        "same_source": done.same_source,
        "same_samples": done.same_samples,
        "differences": [asdict(d) for d in done.agreement.differences],
    }


def show(done: Reproduction) -> None:
    """The differences as a table, on stderr; what a bundle says is escaped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    found = done.agreement.differences
    if found:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("where", "in the bundle", "now", "difference", "allowed", "kind"):
            table.add_column(heading, overflow="fold")
        for d in found[:_SHOWN]:
            gap = "–" if d.allowed is None else f"{abs(d.before - d.now):.3g}"
            allowed = "none" if d.allowed is None else f"{d.allowed:.3g}"
            cells = (_cell(d.where), _cell(d.before), _cell(d.now), gap, allowed, d.kind)
            table.add_row(*map(Text, cells))
        console.print(table)
        if len(found) > _SHOWN:
            console.print(f"and {len(found) - _SHOWN:,} more (--json has all)")
    how = "to 1e-9, on the same versions and processor"
    if done.other:
        how = "within the tolerances for another environment (docs/reproduce.md)"
        console.print(f"other here: {'; '.join(done.other)}", markup=False, style="dim")
    if not done.same_source:
        console.print("the source of leray is not what made the bundle", style="dim")
    verdict = "all agree" if done.equal else f"{len(found):,} differ"
    samples = "the same bytes" if done.same_samples else "other bytes"
    console.print(
        f"{done.agreement.num_numbers:,} numbers and {done.agreement.num_texts:,} texts compared "
        f"{how}: {verdict}",
        markup=False,
        style="bold green" if done.equal else "bold red",
    )
    console.print(f"samples.parquet: {samples}\nnew run: {done.run}", markup=False)


def _cell(value: Any) -> str:
    from leray.runs.bundle import printable

    return "–" if value is None else printable(str(value), 80)

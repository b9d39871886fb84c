"""What travels with a run so that someone else can repeat it, as one archive.

::

    README.txt          what it is, and the one command that repeats it
    bundle.json         study, seed, command, the claims as judged, the data by SHA-256
    constraints.txt     every package with its version, as pip reads it
    distributions.json  SHA-256 of the installed files of each package, processor
    run/                the files of the run: config.toml, env.json, samples.parquet, verdicts.json,
                        result.json, details.json, weights.json, report.html, figures/, …
    data/               the data, where their licence allows it
    MANIFEST.sha256     SHA-256 of all of these
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shlex
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from leray.data.fingerprint import (
    DRAWN,
    PACKAGES,
    corpus_sha256,
    data_files,
    kind_of_data,
    path_of_data,
    sha256_of,
)
from leray.data.sources import load
from leray.errors import LerayError
from leray.memory.conversations import Corpus
from leray.runs.bundle import Content, write_archive
from leray.runs.environment import PACKAGE
from leray.runs.files import MANIFEST
from leray.runs.folder import RunFolder

FORMAT = 1
STUDIES = {"importance": ("leray.studies.importance", "leray.studies.claims")}
"""Where a study's protocol stands (the text at the top of a module), and where its claims."""

YOURS = ("jsonl", "chatgpt")
"""Kinds of data that belong to the person who runs the study, who may say that they travel."""

_LEFT_OUT = ("checkpoints/", MANIFEST)  # samples.parquet has what the checkpoints have


def pack(run: Path, out: Path | None, *, include_data: bool) -> Path:
    """Write the archive of a finished run; of the same run twice, the same bytes.

    Args:
        run: The folder of the run.
        out: The archive; None for the run's own name with ``.zip`` beside it.
        include_data: Put personal data in as well; where the licence allows it they always are.

    Returns:
        The path of the archive.

    Raises:
        LerayError: The run is not finished or was changed since, its data are not here or may not
            travel, or the archive cannot be written.
    """
    if out is not None and not out.parent.is_dir():
        raise LerayError(
            f"there is no folder {out.parent} for the archive: make it, or change --out"
        )
    folder = RunFolder.resume(run)
    _require_finished(folder, run)
    files = _run_files(run)
    result = _read_json(run / "result.json")
    spec = str(folder.config["data"])
    corpus = load(spec)
    _require_same_data(corpus, result, run)
    travelling = _travelling(spec, corpus, folder.config, include_data)
    about = _about(folder, result, corpus, spec, included=bool(travelling))
    environment = _read_json(run / "env.json")
    parts: dict[str, Content] = {
        "README.txt": _readme(about, environment, run.resolve().name).encode(),
        "bundle.json": _json(about),
        "constraints.txt": _constraints(environment).encode(),
        "distributions.json": _json(installed(environment.get("processor"))),
        **{f"run/{name}": path for name, path in files.items()},
        **{f"data/{name}": path for name, path in travelling.items()},
    }
    path = run.resolve().with_name(f"{run.resolve().name}.zip") if out is None else out
    write_archive(path, parts)
    return path


def installed(made_on: str | None) -> dict[str, Any]:
    """The processor of the run, and for each package the SHA-256 of what its wheel installed.

    A wheel's RECORD lists its files with their hashes; lines that depend on where or by what it
    was installed are left out. Packages without one (editable ones) are null, ours is hashed.
    """
    hashes = {d.metadata["Name"]: _record_sha256(d) for d in metadata.distributions()}
    return {
        "processor": made_on,
        "leray_source": source_sha256(),
        "records": dict(sorted(hashes.items(), key=lambda item: item[0].lower())),
    }


def _require_finished(folder: RunFolder, run: Path) -> None:
    if folder.state != "done":
        raise LerayError(
            f"the run in {run} is {folder.state}, not done; finish it with: {folder.resume_command}"
        )
    if folder.study not in STUDIES:
        raise LerayError(f"a run of {folder.study!r} has no bundle; allowed: {', '.join(STUDIES)}")


def _run_files(run: Path) -> dict[str, Path]:
    """The files that the run's manifest names, each as it was when the run ended."""
    files = {}
    try:
        for line in (run / MANIFEST).read_text().splitlines():
            expected, _, name = line.partition("  ")
            if name.startswith(_LEFT_OUT):
                continue
            if sha256_of(run / name) != expected:
                raise LerayError(f"{run / name} was changed after the run: run the study again")
            files[name] = run / name
    except OSError as error:
        raise LerayError(
            f"the run in {run} is not whole: {Path(error.filename).name}: {error.strerror}; "
            "run the study again"
        ) from error
    return files


def _require_same_data(corpus: Corpus, result: Mapping[str, Any], run: Path) -> None:
    """Refuse data that changed since the run: by their hash, or else by what was counted."""
    was = result["data"]
    recorded = was.get("sha256")
    counts = (len(corpus.conversations), corpus.truth, corpus.report.repaired)
    same = counts == (was["conversations"], was["truth"], was["repaired"])
    if not same or recorded not in (None, corpus_sha256(corpus)):
        raise LerayError(
            f"the data {was['name']} are not what the run in {run} saw: bring those back, or run "
            "the study again"
        )


def _travelling(
    spec: str, corpus: Corpus, config: Mapping[str, Any], include_data: bool
) -> dict[str, Path]:
    """The data files that go into the archive, by name."""
    kind = kind_of_data(spec)
    if include_data and kind in DRAWN:
        raise LerayError(
            f"{kind} data are drawn anew where they are used: leave out --include-data"
        )
    if include_data and kind in PACKAGES:
        raise LerayError(
            f"{kind} is the package {PACKAGES[kind][0]} on PyPI, whose version and hash stand in "
            "the bundle: leave out --include-data"
        )
    if include_data and not corpus.redistributable and kind not in YOURS:
        raise LerayError(f"the licence of {kind} does not let it travel: leave out --include-data")
    if kind not in PACKAGES and (corpus.redistributable or include_data):
        return {f.name: f.path for f in data_files(spec)}
    if config.get("include_text") and not corpus.redistributable:
        more = "; or pass --include-data" if kind in YOURS else ""
        raise LerayError(
            f"the report quotes texts of {kind}, which do not travel: run the study again without "
            f"--include-text{more}"
        )
    return {}


def _about(
    folder: RunFolder, result: Mapping[str, Any], corpus: Corpus, spec: str, *, included: bool
) -> dict[str, Any]:
    study, ledger = map(importlib.import_module, STUDIES[folder.study])
    path = path_of_data(spec)
    return {
        "format": FORMAT,
        "leray": metadata.version("leray"),
        "study": folder.study,
        "protocol": study.__doc__,
        "claims": [_claim(v, ledger.CLAIMS) for v in result["verdicts"]],
        "config": folder.config,
        "seed": {
            "root": result["seed"],
            "keys": "SHA-256 of (root, computation, shard, step) seeds PCG64",
            "computations": list(folder.seconds),
        },
        "command": _command(folder),
        "data": {
            "spec": spec,
            "kind": kind_of_data(spec),
            "is_folder": path is not None and path.is_dir(),
            "package": _package(kind_of_data(spec)),
            "redistributable": corpus.redistributable,
            "included": included,
            "content_sha256": corpus_sha256(corpus),
            "files": [
                {"name": f.name, "size": f.size, "sha256": f.sha256} for f in data_files(spec)
            ],
        },
    }


def _claim(verdict: Mapping[str, Any], ledger: Iterable[Any]) -> dict[str, Any]:
    """A claim by the hash that it was judged under, with its fields where they still hash so."""
    fields = next((c for c in ledger if c.hash == verdict["claim_hash"]), None)
    names = ("id", "statement", "source", "estimand", "direction", "null", "margin", "level")
    return {
        "id": verdict["claim"],
        "hash": verdict["claim_hash"],
        "statement": verdict["statement"],
        "fields": None if fields is None else {n: getattr(fields, n) for n in names},
    }


def _command(folder: RunFolder) -> str:
    words = [f"leray study {folder.study}"]
    for name, value in folder.config.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not False:
            words.append(f"{option} {shlex.quote(str(value))}")
    return " ".join(words)


def _package(kind: str) -> str | None:
    return (
        f"{PACKAGES[kind][0]}=={metadata.version(PACKAGES[kind][0])}" if kind in PACKAGES else None
    )


def _readme(about: Mapping[str, Any], environment: Mapping[str, Any], name: str) -> str:
    data = about["data"]
    here = data["included"] or data["package"] or data["kind"] in DRAWN
    where = "" if here else f" --data {data['kind']}:PATH"
    if data["kind"] in DRAWN:
        which = f"{data['spec']} is drawn anew by leray, always the same."
    elif data["package"]:
        which = f"They are the package {data['package']}."
    elif data["included"]:
        which = "They are in data/."
    else:
        which = f"They may not travel: get {data['kind']} yourself; bundle.json has their SHA-256."
    return (
        f"The run {name} of the study {about['study']!r}, made with leray {about['leray']}, Python "
        f"{environment['python']}.\n\n"
        "To repeat it and compare every number:\n\n"
        "    pip install -c constraints.txt leray      (or from a checkout of "
        f"{environment['git_commit']})\n"
        f"    leray reproduce THIS-FILE.zip{where}\n\n"
        "It ends with 0 where all numbers agree and with 3 where some differ.\n\n"
        f"It was made by:\n\n    {about['command']}\n\n"
        f"The data: {which}\n"
        "To check the files by hand: unzip, then sha256sum -c MANIFEST.sha256\n"
        "What was found is in run/report.html; each claim, as judged, in bundle.json.\n"
    )


def _constraints(environment: Mapping[str, Any]) -> str:
    packages = environment["packages"].items()
    return "".join(f"{name}=={version}\n" for name, version in packages if name != "leray")


def _record_sha256(distribution: Any) -> str | None:
    record = distribution.read_text("RECORD")
    if record is None:
        return None
    lines = (line.rsplit(",", 2) for line in record.splitlines())
    kept = sorted(
        f"{entry[0]},{entry[1]}"
        for entry in lines
        if len(entry) == 3 and entry[1] and not entry[0].startswith("..")
        if ".dist-info/" not in entry[0] and not entry[0].endswith(".pyc")
    )
    return hashlib.sha256("\n".join(kept).encode()).hexdigest() if kept else None


def source_sha256() -> str:
    """SHA-256 of our own modules, for a commit does not say what was changed since."""
    whole = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        whole.update(f"{path.relative_to(PACKAGE).as_posix()} {sha256_of(path)}\n".encode())
    return whole.hexdigest()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LerayError(f"cannot read {path}: {error}; run the study again") from error

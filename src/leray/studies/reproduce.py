"""Repeat the run of a bundle and compare every number.

A bundle comes from anywhere: it is unpacked safely (`leray.runs.bundle`), read as text, and the
data that it names are taken only where their SHA-256 is the one it was made with.
"""

from __future__ import annotations

import json
import math
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, get_args, get_type_hints

from leray.data.encoders import find_encoder
from leray.data.fingerprint import (
    DRAWN,
    PACKAGES,
    corpus_sha256,
    data_files,
    kind_of_data,
    sha256_of,
)
from leray.data.sources import KINDS, load
from leray.errors import LerayError
from leray.runs.bundle import MIB, printable, read_archive
from leray.runs.environment import environment, processor
from leray.studies.agreement import Agreement, compare
from leray.studies.packing import FORMAT, STUDIES, source_sha256
from leray.studies.session import Publish, Request, run_importance

_TEXT_BYTES = 64 * MIB
_NEEDED = (
    "bundle.json", "distributions.json", "run/config.toml", "run/env.json", "run/result.json",
    "run/verdicts.json",
)  # fmt: skip
_NUMERIC_EXTRAS = ("stack",)
_BELOW = frozenset({"jaxlib", "llvmlite"})  # what numbers depend on beside our own requirements


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What a bundle says, its files checked against its manifest and still unpacked.

    Args:
        path: The archive.
        folder: Where it is unpacked.
        digests: SHA-256 of each file.
        about: ``bundle.json``: study, claims, data, command.
        config: The request.
        result: What came out.
        verdicts: What was judged.
        env: The environment of the run.
        processor: The processor of the machine that made the bundle.
        source: SHA-256 of the source of leray there.
    """

    path: Path
    folder: Path
    digests: dict[str, str]
    about: dict[str, Any]
    config: dict[str, Any]
    result: dict[str, Any]
    verdicts: list[Any]
    env: dict[str, Any]
    processor: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """What repeating a bundle showed.

    Args:
        run: The folder of the new run.
        agreement: Every value compared.
        other: In what the environments differ; empty where numbers must agree to 1e-9.
        same_source: Whether leray's own files are those that made the bundle.
        same_samples: Whether ``samples.parquet`` came out with the same bytes.
    """

    run: Path
    agreement: Agreement
    other: tuple[str, ...]
    same_source: bool
    same_samples: bool

    @property
    def equal(self) -> bool:
        """Whether nothing differs beyond its tolerance."""
        return not self.agreement.differences


def reproduce(
    path: Path,
    *,
    publish: Publish,
    data: str | None = None,
    embedder: Path | None = None,
    out: Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Reproduction:
    """Check the bundle and the data, run the same request, compare.

    Args:
        path: The archive that `leray.studies.packing.pack` wrote, by anyone.
        publish: Writes the report of the new run.
        data: Where the data are here; None for those in the bundle, or where they were.
        embedder: Where the encoder is here, if the run used another than the packaged one.
        out: The folder of the new run; None for one below ``runs/``.
        workers: Processes; the numbers do not depend on it. None: as many as the study takes.
        scheduler: Address of a Dask scheduler whose workers make the steps instead.

    Raises:
        LerayError: The bundle is refused, the data are not here or are others, or the run fails.
    """
    with tempfile.TemporaryDirectory(prefix="leray-bundle-") as folder:
        bundle = open_bundle(path, Path(folder))
        spec = _data_here(bundle, data)
        request = replace(_request(bundle, embedder), data=spec)
        other = tuple(_other(bundle))
        result, run = run_importance(
            request, out=out, resume=None, workers=workers, scheduler=scheduler, publish=publish
        )
        agreement = compare(
            {**bundle.result, "verdicts.json": {"verdicts": bundle.verdicts}},
            {**result, "verdicts.json": {"verdicts": _json_file(run / "verdicts.json")}},
            exact=not other,
        )
        same = sha256_of(run / "samples.parquet") == bundle.digests.get("run/samples.parquet")
        return Reproduction(
            run=run,
            agreement=agreement,
            other=other,
            same_source=bundle.source == source_sha256(),
            same_samples=same,
        )


def open_bundle(path: Path, folder: Path) -> Bundle:
    """Unpack a bundle into an empty folder and read what it says.

    Raises:
        LerayError: It is refused, or is no bundle that this version reads.
    """
    digests = read_archive(path, folder)
    missing = [name for name in _NEEDED if name not in digests]
    if missing:
        raise LerayError(f"{path} is no bundle: it has no {missing[0]}")
    about, distributions, env, result, verdicts = (
        _json_file(folder / name, path) for name in _NEEDED if name.endswith(".json")
    )
    try:
        config = tomllib.loads((folder / "run/config.toml").read_text())
    except (ValueError, RecursionError):
        raise LerayError(f"{path} is no bundle: run/config.toml is not TOML") from None
    for name, value in (("bundle.json", about), ("run/env.json", env), ("run/result.json", result)):
        if not isinstance(value, dict):
            raise LerayError(f"{path} is no bundle: {name} holds no object")
    if about.get("format") != FORMAT or about.get("study") not in STUDIES:
        raise LerayError(
            f"{path} has format {printable(repr(about.get('format')), 20)} and study "
            f"{printable(repr(about.get('study')), 40)}; this version of leray reads format "
            f"{FORMAT} of {', '.join(STUDIES)}"
        )
    made_by = distributions if isinstance(distributions, dict) else {}
    return Bundle(
        path=path,
        folder=folder,
        digests=digests,
        about=about,
        config=config,
        result=result,
        verdicts=verdicts if isinstance(verdicts, list) else [],
        env=env,
        processor=str(made_by.get("processor")),
        source=str(made_by.get("leray_source")),
    )


def _request(bundle: Bundle, embedder: Path | None) -> Request:
    """The request of the bundle; its values are a stranger's, so their types are checked."""
    hints = get_type_hints(Request)
    for name, value in bundle.config.items():
        types = get_args(hints.get(name)) or (hints.get(name),)
        if type(value) not in [str if t is Path else t for t in types]:
            raise LerayError(
                f"run/config.toml of {bundle.path} sets {printable(repr(name), 40)} to "
                f"{printable(repr(value), 40)}, which this version of leray does not know"
            )
    request = Request.of(bundle.config)
    if embedder is not None:
        request = replace(request, embedder=embedder)
    weights = _json_file(bundle.folder / "run/weights.json", bundle.path)
    used = weights.get("embedder") if isinstance(weights, dict) else None
    if isinstance(used, dict):
        _require_encoder(request, used)
    return request


def _require_encoder(request: Request, used: Mapping[str, Any]) -> None:
    try:
        here = find_encoder(request.embedder, device=request.device).fingerprint()
    except LerayError as error:
        raise LerayError(
            f"the run embedded texts with {printable(str(used.get('name')), 60)}: {error}; pass "
            "--embedder with its folder"
        ) from None
    if here != used.get("fingerprint"):
        raise LerayError(
            f"the run embedded texts with {printable(str(used.get('name')), 60)}, fingerprint "
            f"{printable(str(used.get('fingerprint')), 12)}; here is another one, {here[:12]}: "
            "pass --embedder with the folder of the same files"
        )


def _data_here(bundle: Bundle, asked: str | None) -> str:
    """The spec of the data as they are here, their content checked.

    Taken are, in this order: what the user names, what is in the bundle, the package that the
    bundle names, and what lies where the run found it, if the same bytes are there.
    """
    about = bundle.about.get("data")
    if not isinstance(about, dict) or about.get("kind") not in KINDS:
        raise LerayError(f"{bundle.path} does not say which data it is about")
    spec = asked or _data_in_bundle(bundle, about) or _data_where_they_were(bundle, about)
    if asked is not None and kind_of_data(asked) != about["kind"]:
        raise LerayError(
            f"the run is about {about['kind']} data, not {asked!r}; pass --data "
            f"{_wanted(about['kind'])}"
        )
    corpus = load(spec)
    if corpus_sha256(corpus) != about.get("content_sha256"):
        raise LerayError(
            f"the data {spec} are not those of the run: {_changed(spec, about)}; pass --data "
            f"{_wanted(about['kind'])} with the same files"
        )
    return spec


def _data_in_bundle(bundle: Bundle, about: Mapping[str, Any]) -> str | None:
    names = [n for n in bundle.digests if n.startswith("data/")]
    if not names or about["kind"] in PACKAGES:
        return None
    path = bundle.folder / ("data" if about.get("is_folder") else names[0])
    return f"{about['kind']}:{path}"


def _data_where_they_were(bundle: Bundle, about: Mapping[str, Any]) -> str:
    """The recorded spec, where it names a package or files of the recorded sizes and hashes.

    A stranger's path is not opened before its size is right: it could be a device.
    """
    kind, spec = about["kind"], str(about.get("spec"))
    if kind in PACKAGES:
        if kind_of_data(spec) == kind:
            return spec
    elif kind_of_data(spec) == kind and _same_files(spec, about):
        return spec
    package, files = about.get("package"), _recorded(about)
    raise LerayError(
        f"the data of {bundle.path} are not here ({package or kind}, {len(files)} files, the first "
        f"{printable(next(iter(files), 'unnamed'), 60)!r}): pass --data {_wanted(kind)}"
    )


def _same_files(spec: str, about: Mapping[str, Any]) -> bool:
    root = Path(spec.removeprefix(f"{about['kind']}:")).expanduser()
    for name, (size, digest) in _recorded(about).items():
        path = root / name if about.get("is_folder") else root
        try:
            status = path.stat()
        except (OSError, ValueError):
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != size or sha256_of(path) != digest:
            return False
    return True


def _recorded(about: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    files = about.get("files")
    rows = [f for f in files if isinstance(f, dict)] if isinstance(files, list) else []
    return {str(f.get("name")): (f.get("size"), f.get("sha256")) for f in rows}


def _changed(spec: str, about: Mapping[str, Any]) -> str:
    """Which files are others, as far as files tell."""
    was = {name: digest for name, (_, digest) in _recorded(about).items()}
    now = {f.name: f.sha256 for f in data_files(spec)}
    other = sorted(n for n in was | now if was.get(n) != now.get(n))
    if not other:
        return "the same files are read otherwise by this version of leray"
    named = ", ".join(printable(n, 40) for n in other[:3]) + ", …" * (len(other) > 3)
    return f"{len(other)} of {len(was | now)} files differ ({named})"


def _wanted(kind: str) -> str:
    return kind if kind in (*PACKAGES, *DRAWN) else f"{kind}:PATH"


def _other(bundle: Bundle) -> list[str]:
    """In what this environment differs from the run's, as far as numbers may depend on it."""
    here = environment()
    found = []
    for name in ("python", "machine"):
        if bundle.env.get(name) != here[name]:
            was = printable(str(bundle.env.get(name)), 40)
            found.append(f"{name} {here[name]} instead of {was}")
    if bundle.processor != processor():
        found.append(f"processor {processor()} instead of {printable(bundle.processor, 60)}")
    was = _versions(bundle.env.get("packages"))
    now = _versions(here["packages"])
    for name in sorted(_numeric_packages()):
        if was.get(name) != now.get(name):
            before = printable(str(was.get(name, "none")), 20)
            found.append(f"{name} {now.get(name, 'none')} instead of {before}")
    return found


def _versions(packages: Any) -> dict[str, str]:
    if not isinstance(packages, dict):
        return {}
    return {_normal(str(name)): str(version) for name, version in packages.items()}


def _numeric_packages() -> set[str]:
    """Our requirements, without the extras that no number depends on; and ourselves."""
    names = {"leray", *_BELOW}
    for requirement in metadata.requires("leray") or []:
        extra = re.search(r"extra == ['\"]([^'\"]+)", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name and (extra is None or extra[1] in _NUMERIC_EXTRAS):
            names.add(_normal(name[0]))
    return names


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _json_file(path: Path, bundle: Path | None = None) -> Any:
    """JSON of finite numbers from a file that nobody vouches for."""
    source = path if bundle is None else f"{path.name} of {bundle}"
    try:
        if path.stat().st_size > _TEXT_BYTES:
            raise LerayError(f"{source} is larger than {_TEXT_BYTES:,} bytes")
        return json.loads(
            path.read_bytes(), parse_float=_finite, parse_int=_small, parse_constant=_refused
        )
    except FileNotFoundError:
        return None
    except RecursionError:
        raise LerayError(f"{source} is nested too deeply") from None
    except LerayError:
        raise
    except ValueError as error:
        raise LerayError(f"{source} is not JSON: {printable(str(error))}") from None


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _small(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _refused(text: str) -> float:
    raise ValueError(f"{text} is no number")

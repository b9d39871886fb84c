"""Golden runs of bundles: repeated, changed, tampered with, without their data."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leray.data.fingerprint import corpus_sha256, data_files
from leray.data.jsonl import load_jsonl
from leray.errors import LerayError
from leray.runs import RunFolder
from leray.studies.claims import CLAIMS
from leray.studies.packing import pack
from leray.studies.presets import PRESETS, Preset
from leray.studies.reproduce import Reproduction, open_bundle, reproduce
from leray.studies.session import Request, run_importance
from planted import write_planted


def run(data: str, out: Path, **options: Any) -> Path:
    request = Request(data=data, **options)
    run_importance(request, out=out, resume=None, workers=1, publish=report)
    return out


def report(folder: RunFolder, *_: Any) -> None:
    folder.write("report.html", "<p>the report</p>")


def again(bundle: Path, out: Path, **options: Any) -> Reproduction:
    return reproduce(bundle, publish=report, out=out, **options)


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """The quick preset with a fifth of its draws, as nothing here depends on how many there are."""
    few = Preset(methods=(), num_resamples=2_000, num_permutations=20_000, num_sign_flips=20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", few)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on six planted conversations, its data, and its bundle with and without them."""
    home = tmp_path_factory.mktemp("home")
    data = write_planted(home / "mine.jsonl", 6)
    run(str(data), home / "run")
    pack(home / "run", home / "with.zip", include_data=True)
    pack(home / "run", home / "without.zip", include_data=False)
    return home


def repacked(bundle: Path, to: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A bundle with one file changed and a manifest that vouches for it."""
    with zipfile.ZipFile(bundle) as archive:
        parts = {n: archive.read(n) for n in archive.namelist() if n != "MANIFEST.sha256"}
    parts[name] = change(parts[name])
    lines = [f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in sorted(parts.items())]
    with zipfile.ZipFile(to, "w") as archive:
        for n, content in {**parts, "MANIFEST.sha256": "".join(lines).encode()}.items():
            archive.writestr(n, content)
    return to


def with_json(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return changed


def test_a_bundle_holds_what_someone_else_needs(home: Path, tmp_path: Path) -> None:
    """Golden run: every file checks by hand, and the claims hash as they were judged."""
    shutil.unpack_archive(home / "with.zip", tmp_path)
    check = ["sha256sum", "-c", "--quiet", "MANIFEST.sha256"]
    subprocess.run(check, cwd=tmp_path, check=True, capture_output=True)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files >= {
        "README.txt", "bundle.json", "constraints.txt", "distributions.json", "data/mine.jsonl",
        "run/config.toml", "run/env.json", "run/samples.parquet", "run/verdicts.json",
        "run/result.json", "run/details.json", "run/report.html", "run/weights.json",
    }  # fmt: skip
    assert not [f for f in files if "checkpoints" in f]
    about = json.loads((tmp_path / "bundle.json").read_text())
    judged = {v["claim"] for v in json.loads((tmp_path / "run" / "verdicts.json").read_text())}
    assert {c["id"]: c["hash"] for c in about["claims"]} == {
        c.id: c.hash for c in CLAIMS if c.id in judged
    }
    assert about["claims"][0]["fields"]["margin"] == CLAIMS[0].margin
    assert "protocol" in about["protocol"]
    assert about["seed"]["root"] == 0
    assert "leray reproduce" in (tmp_path / "README.txt").read_text()
    digest = hashlib.sha256((home / "mine.jsonl").read_bytes()).hexdigest()
    assert [f["sha256"] for f in about["data"]["files"]] == [digest]


def test_bundled_twice_it_has_the_same_bytes(home: Path, tmp_path: Path) -> None:
    """Identity: names, times and order are fixed."""
    pack(home / "run", tmp_path / "again.zip", include_data=True)
    assert (tmp_path / "again.zip").read_bytes() == (home / "with.zip").read_bytes()


def test_an_unchanged_bundle_repeats_exactly(home: Path, tmp_path: Path) -> None:
    """Golden run: from the data in it, wherever they came from; every number to 1e-9."""
    done = again(home / "with.zip", tmp_path / "run")
    assert done.equal, done.agreement.differences
    assert (done.other, done.same_source, done.same_samples) == ((), True, True)
    assert done.agreement.exact
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert done.agreement.num_numbers > 0.9 * len(list(numbers(result)))


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [n for item in items for n in numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_changed_numbers_are_found_with_another_environment_too(home: Path, tmp_path: Path) -> None:
    """Golden run: a number, a verdict and a version changed; a whole new run tells."""

    def change(result: Any) -> None:
        result["weights"]["r"] += 0.01
        result["verdicts"][0]["verdict"] = "changed"

    bundle = repacked(home / "with.zip", tmp_path / "a.zip", "run/result.json", with_json(change))
    bundle = repacked(
        bundle, tmp_path / "b.zip", "run/env.json",
        with_json(lambda env: env["packages"].update(numpy="1.0\x1b[2J")),
    )  # fmt: skip
    done = again(bundle, tmp_path / "run")
    where = [d.where for d in done.agreement.differences]
    assert where == ["weights/r", "verdicts/M1/verdict"]
    assert not done.agreement.exact
    assert len(done.other) == 1
    assert "instead of 1.0\\x1b[2J" in done.other[0]


def test_data_are_found_where_they_were_or_named(home: Path, tmp_path: Path) -> None:
    """Golden run: without the data, gone, changed, of another kind: what to pass."""
    data = home / "mine.jsonl"
    moved = data.rename(tmp_path / "elsewhere.jsonl")
    try:
        with pytest.raises(LerayError, match=r"not here .*'mine.jsonl'\): pass --data jsonl:PATH"):
            again(home / "without.zip", tmp_path / "a")
        with pytest.raises(LerayError, match="is about jsonl data, not 'chitchat'"):
            again(home / "without.zip", tmp_path / "a", data="chitchat")
        other = write_planted(tmp_path / "other.jsonl", 6, seed=9)
        with pytest.raises(LerayError, match=r"are not those of the run: 2 of 2 files differ"):
            again(home / "without.zip", tmp_path / "a", data=str(other))
        assert not (tmp_path / "a").exists()
        assert again(home / "without.zip", tmp_path / "a", data=f"jsonl:{moved}").equal
    finally:
        moved.rename(data)


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("run/result.json", lambda c: c.replace(b'"seed": 0', b'"seed": NaN'), "not JSON: NaN"),
        ("run/result.json", lambda c: c.replace(b'"seed": 0', b'"seed": 1e999'), "not JSON"),
        ("run/result.json", lambda _c: b"[" * 99_999, "nested too deeply"),
        ("run/result.json", lambda _c: b"[]", "holds no object"),
        ("run/config.toml", lambda _c: b"seed = ", "is not TOML"),
        ("run/config.toml", lambda c: c + b'shell = "rm"\n', "does not know"),
        ("run/config.toml", lambda c: c.replace(b"seed = 0", b'seed = "0"'), "does not know"),
        ("run/config.toml", lambda c: c + b"embedder = 5\n", "does not know"),
        ("bundle.json", lambda c: c.replace(b'"format": 1', b'"format": 9'), "reads format 1"),
        ("bundle.json", lambda c: c.replace(b'"kind": "jsonl"', b'"kind": "x"'), "which data"),
    ],
)  # fmt: skip
def test_what_a_stranger_writes_is_checked(
    name: str, change: Callable[[bytes], bytes], why: str, home: Path, tmp_path: Path
) -> None:
    """Golden run: one printable line, and no run is begun."""
    bundle = repacked(home / "with.zip", tmp_path / "a.zip", name, change)
    with pytest.raises(LerayError, match=why) as error:
        again(bundle, tmp_path / "run")
    assert str(error.value).isprintable()
    assert not (tmp_path / "run").exists()


def test_a_strangers_path_is_not_read(home: Path, tmp_path: Path) -> None:
    """Golden run: the bundle says that its data are an endless device."""

    def change(about: Any) -> None:
        about["data"]["spec"] = "jsonl:/dev/zero"

    bundle = repacked(home / "without.zip", tmp_path / "a.zip", "bundle.json", with_json(change))
    with pytest.raises(LerayError, match="are not here"):
        again(bundle, tmp_path / "run")


def test_a_tampered_file_is_refused(home: Path, tmp_path: Path) -> None:
    """Golden run: without a new manifest the change shows before anything is used."""
    with zipfile.ZipFile(home / "with.zip") as old, zipfile.ZipFile(tmp_path / "a.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b"0.1", b"0.2") if "result" in name else content)
    with pytest.raises(LerayError, match=r"'run/result.json' is not what MANIFEST.sha256 says"):
        again(tmp_path / "a.zip", tmp_path / "run")
    with pytest.raises(LerayError, match="No such file"):
        open_bundle(tmp_path / "none.zip", tmp_path)


def test_a_run_that_changed_or_never_ended_is_not_bundled(home: Path, tmp_path: Path) -> None:
    """Golden run: the run's own manifest guards it, and its status must be done."""
    shutil.copytree(home / "run", tmp_path / "run")
    (tmp_path / "run" / "verdicts.json").write_text("[]\n")
    with pytest.raises(LerayError, match="was changed after the run"):
        pack(tmp_path / "run", None, include_data=False)
    status = tmp_path / "run" / "status.json"
    status.write_text(status.read_text().replace('"done"', '"interrupted"'))
    with pytest.raises(LerayError, match="is interrupted, not done; finish it with: leray study"):
        pack(tmp_path / "run", None, include_data=False)
    with pytest.raises(LerayError, match="is no run folder"):
        pack(tmp_path, None, include_data=False)


def test_data_that_changed_since_the_run_are_not_bundled(tmp_path: Path) -> None:
    """Golden run: another number of conversations."""
    data = write_planted(tmp_path / "mine.jsonl", 2)
    run(str(data), tmp_path / "run")
    write_planted(data, 3)
    with pytest.raises(LerayError, match="are not what the run in"):
        pack(tmp_path / "run", None, include_data=False)


def test_texts_and_licences(tmp_path: Path, shared_data: Path) -> None:
    """Golden run: a report that quotes travels with its data or not at all; LoCoMo never does."""
    data = write_planted(tmp_path / "mine.jsonl", 2)
    run(str(data), tmp_path / "run", include_text=True)
    with pytest.raises(LerayError, match=r"quotes texts of jsonl.*or pass --include-data"):
        pack(tmp_path / "run", None, include_data=False)
    pack(tmp_path / "run", None, include_data=True)
    assert (tmp_path / "run.zip").exists()
    one = next((shared_data / "locomo").glob("*.json"))
    run(f"locomo:{one}", tmp_path / "locomo")
    with pytest.raises(LerayError, match="the licence of locomo does not let it travel"):
        pack(tmp_path / "locomo", None, include_data=True)
    path = pack(tmp_path / "locomo", None, include_data=False)
    with zipfile.ZipFile(path) as archive:
        assert not [n for n in archive.namelist() if n.startswith("data/")]


def test_the_content_is_hashed_and_not_the_file(tmp_path: Path) -> None:
    """Identity: other spelling, same hash; any value that counts, another one."""
    path = write_planted(tmp_path / "a.jsonl", 2)
    before = corpus_sha256(load_jsonl(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    def digest(changed: list[Any]) -> str:
        other = tmp_path / "b.jsonl"
        other.write_text("".join(json.dumps(line, indent=None) + "\n\n" for line in changed))
        assert data_files(str(other))[0].sha256 != data_files(str(path))[0].sha256
        return corpus_sha256(load_jsonl(other))

    assert digest([dict(reversed(line.items())) for line in lines]) == before
    for key, value in (("text", "x"), ("speaker", "x"), ("time", 1.0), ("embedding", [1.0] * 16)):
        assert digest([{**lines[0], key: value}, *lines[1:]]) != before
    assert digest([*lines[:-1], {**lines[-1], "evidence": ["t1", "t2"]}]) != before
    assert digest([{**line, "person": "p"} for line in lines]) != before

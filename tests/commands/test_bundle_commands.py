"""`leray bundle` and `leray reproduce` as a user meets them: exit codes, one line, JSON."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from leray.cli import main
from leray.studies.presets import PRESETS, Preset
from planted import write_planted


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """The quick preset with a fifth of its draws, as nothing here depends on how many there are."""
    few = Preset(methods=(), num_resamples=2_000, num_permutations=20_000, num_sign_flips=20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", few)
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, with its data, of a run on three planted conversations."""
    home = tmp_path_factory.mktemp("home")
    data = write_planted(home / "mine.jsonl", 3)
    assert main(["study", "importance", "--data", str(data), "--out", str(home / "run")]) == 0
    assert main(["bundle", str(home / "run"), "--include-data"]) == 0
    return home / "run.zip"


def changed(bundle: Path, to: Path, *, vouched: bool) -> Path:
    """The bundle with one number of its result changed, with a new manifest or with the old."""
    with zipfile.ZipFile(bundle) as archive:
        parts = {n: archive.read(n) for n in archive.namelist()}
    result = json.loads(parts["run/result.json"])
    result["table"][1]["metrics"]["ndcg_10"]["estimate"] *= 1.001
    parts["run/result.json"] = json.dumps(result).encode()
    manifest = parts.pop("MANIFEST.sha256")
    if vouched:
        lines = [f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in parts.items()]
        manifest = "".join(lines).encode()
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in {**parts, "MANIFEST.sha256": manifest}.items():
            archive.writestr(name, content)
    return to


def test_equal_is_0(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Golden run: people read stderr, programs one JSON object on stdout."""
    assert main(["reproduce", str(bundle), "--out", str(tmp_path / "run"), "--json"]) == 0
    out, error = capsys.readouterr()
    said = json.loads(out)
    assert (said["equal"], said["exact"], said["differences"]) == (True, True, [])
    assert said["numbers"] > 500
    assert "all agree" in error
    assert (tmp_path / "run" / "report.html").exists()


def test_a_difference_is_3(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden run: the table names the number, both values and what was allowed."""
    other = changed(bundle, tmp_path / "other.zip", vouched=True)
    assert main(["reproduce", str(other), "--out", str(tmp_path / "run"), "--json"]) == 3
    out, error = capsys.readouterr()
    (difference,) = json.loads(out)["differences"]
    assert difference["where"] == "table/relevance/metrics/ndcg_10/estimate"
    assert difference["before"] == pytest.approx(difference["now"] * 1.001, rel=1e-12)
    assert "1 differ" in error


@pytest.mark.parametrize("command", ["bundle", "reproduce"])
def test_failure_is_1_and_one_line(
    command: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden run: a run bundled over another file, and a bundle that was tampered with."""
    args = {
        "bundle": [str(bundle.with_suffix("")), "--out", str(bundle)],
        "reproduce": [str(changed(bundle, tmp_path / "other.zip", vouched=False))],
    }
    assert main([command, *args[command]]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error


def test_usage_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Golden run: without the archive, and with an option that does not exist."""
    assert main(["reproduce"]) == 2
    assert main(["bundle", "run", "--inclde-data"]) == 2
    assert "--include-data" in capsys.readouterr().err

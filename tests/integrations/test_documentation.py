"""``docs/memory.md`` does what it says, with the files that it shows and the packaged encoder."""

import re
from pathlib import Path

import pytest

from leray.memory.weights import LinearWeights

PAGE = Path(__file__).resolve().parents[2] / "docs" / "memory.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, and a cache of its own."""
    (tmp_path / "weights.json").write_text(blocks("json")[0], encoding="utf-8")
    (tmp_path / "conversation.jsonl").write_text(blocks("jsonl")[0], encoding="utf-8")
    monkeypatch.setenv("LERAY_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Golden: every Python block, one after another."""
    names: dict = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["best"][0].turn.id == "1"
    assert len(names["best"]) == 3
    assert sum(names["best"][0].shares.values()) == pytest.approx(names["best"][0].score)
    assert {r.turn.id for r in names["memory"].rank("a swim in the lake", top=2)} == {"1", "4"}
    assert (names["same"].predict(names["X"]) == names["model"].predict(names["X"])).all()
    assert "jackknife-t" in capsys.readouterr().out


def test_the_weights_of_the_page_are_written_like_that() -> None:
    """Identity: the file that is shown is what the package writes."""
    text = blocks("json")[0]
    assert LinearWeights.from_json(text).to_json() == text

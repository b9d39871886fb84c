"""`leray memory rank`: what it prints, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from leray.commands.memory import MemoryRank, rank_command
from leray.errors import LerayError
from leray.integrations.weights_file import write_weights
from leray.memory.weights import LinearWeights

LINES = [
    {"turn": "1", "speaker": "A", "text": "we saw [bold]the lake[/bold]\x1b[31m", "time": 0},
    {"turn": "2", "speaker": "B", "text": "a long walk " * 20, "time": 60},
    {"turn": "3", "speaker": "A", "text": "", "caption": "the lake at night"},
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Weights that need no encoder, and a conversation with a bad line."""
    monkeypatch.setenv("COLUMNS", "140")
    weights, conversation = tmp_path / "w.json", tmp_path / "c.jsonl"
    values = np.array([0.75, 0.25])
    signals = ("lexical", "decay")
    write_weights(weights, LinearWeights(method="mine", signals=signals, values=values, tau=3600.0))
    lines = [json.dumps({"conversation": "c", **line}) for line in LINES]
    conversation.write_text("\n".join([*lines, "not JSON"]), encoding="utf-8")
    return weights, conversation


def test_the_table(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Golden: plain text, shares that add up, and what was left out on stderr."""
    assert rank_command(*files, "the lake", 2) == 0
    out, err = capsys.readouterr()
    rows = out.splitlines()
    assert rows[0].split() == ["turn", "time", "speaker", "score", "lexical", "decay", "text"]
    assert "[bold]the lake[/bold]" in out
    assert "\x1b" not in out
    assert "the lake at night" in out
    assert len(rows) == 3
    assert "left out 1: line not JSON" in err
    assert "ranked 3 turns in" in err


def test_large_scores_stay_short(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden: the largest weights that a file may hold, in the table and as JSON."""
    values = np.array([1e15, -1e15])
    large = LinearWeights(method="m", signals=("lexical", "length"), values=values)
    write_weights(files[0], large)
    assert rank_command(*files, "the lake", 2) == 0
    assert "e+1" in (out := capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= 140
    assert rank_command(*files, "the lake", 2, json=True) == 0
    json.loads(capsys.readouterr().out)


def test_a_narrow_terminal(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden: the shares stand below the text, the largest first."""
    monkeypatch.setenv("COLUMNS", "80")
    rank_command(*files, "walk", 1)
    out = capsys.readouterr().out
    assert "lexical +0.750, decay +0.250" in out
    assert "…" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Golden: one object, with everything of the table in full."""
    weights, conversation = files
    options = MemoryRank(
        weights=weights, conversation=str(conversation), query="walk", top=1, time="60", json=True
    )
    assert options.run() == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["query"], content["method"], content["turns"]) == ("walk", "mine", 3)
    (first,) = content["ranked"]
    assert (first["turn"], first["speaker"], first["time"]) == ("2", "B", "1970-01-01T00:01:00Z")
    assert first["text"] == LINES[1]["text"]
    assert first["shares"] == {"lexical": 0.75, "decay": 0.25}
    assert first["score"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": "noon"}, "time is 'noon'; allowed: ISO 8601"),
        ({"history": "d"}, "no history 'd'"),
        ({"time": "noon"}, "or leave it out"),
        ({"device": "banana"}, "device 'banana' cannot be used here"),
        ({"top": 0}, "top is 0"),
        ({"weights": Path("absent.json")}, "cannot read 'absent.json'"),
        ({"conversation": "absent.jsonl"}, "no file or folder 'absent.jsonl'"),
    ],
)
def test_what_cannot_be_used(files: tuple[Path, Path], change: dict, message: str) -> None:
    """Oracle: the line that the user reads."""
    options = {"weights": files[0], "conversation": str(files[1]), "query": "x"} | change
    with pytest.raises(LerayError, match=message):
        MemoryRank(**options).run()

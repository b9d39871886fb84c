"""The command line as a user meets it: help, errors in one line, exit codes, JSON on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leray.cli import COMMANDS, main
from planted import write_planted


def leray(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leray.cli", *args],
        capture_output=True, text=True, check=False, **options,  # pyright: ignore
    )  # fmt: skip


def one_line(error: str) -> str:
    lines = error.strip().splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_lists_every_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """Golden run: grouped, with defaults and an example for each command."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"leray {name}" in shown
        assert command.example in shown
        assert command.group in shown
    assert "--data chitchat --preset quick --seed 0" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """Golden run: options are documented."""
    done = leray(*name.split(), "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert "Example:" in done.stdout


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """Golden run: usage errors exit with 2."""
    assert main(["studdy", "importance"]) == 2
    assert "did you mean 'study importance'?" in one_line(capsys.readouterr().err)
    assert main(["study"]) == 2
    assert "needs one more word: importance" in one_line(capsys.readouterr().err)


def test_an_unknown_option_names_the_nearest() -> None:
    """Golden run: the option that was meant is in the message."""
    done = leray("study", "importance", "--sed", "3")
    assert done.returncode == 2
    assert "--seed" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "locomoo:x"], "did you mean 'locomo'"),
        (["--data", "/nowhere/x.jsonl"], "no file or folder"),
        (["--preset", "quik"], "did you mean 'quick'"),
        (["--resume", "/nowhere"], "is no run folder"),
        (["--embedder", "/nowhere", "--data", "planted"], "no folder /nowhere"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden run: no traceback, exit 1, and no run folder is left behind by a wrong path."""
    data = write_planted(tmp_path / "planted.jsonl", 2)
    args = [str(data) if a == "planted" else a for a in args]
    assert main(["study", "importance", "--out", str(tmp_path / "run"), *args]) == 1
    assert words in one_line(capsys.readouterr().err)


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    """Golden run: people read stderr, programs read stdout."""
    data = write_planted(tmp_path / "planted.jsonl", 3)
    done = leray("study", "importance", "--data", str(data), "--out", str(tmp_path / "r"), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {
        "study", "run", "preset", "seed", "data", "table", "weights", "methods", "verdicts",
        "advice",
    }  # fmt: skip
    assert "M9" in done.stderr
    assert (tmp_path / "r" / "report.html").exists()


def test_a_read_only_output_folder_is_one_line(tmp_path: Path) -> None:
    """Golden run: a folder that cannot be written (a file in its way, since root writes all)."""
    data = write_planted(tmp_path / "planted.jsonl", 2)
    blocker = tmp_path / "file"
    blocker.write_text("")
    done = leray("study", "importance", "--data", str(data), "--out", str(blocker / "run"))
    assert done.returncode == 1
    assert str(blocker) in one_line(done.stderr)


def test_data_check_says_line_by_line_what_is_wrong(tmp_path: Path) -> None:
    """Golden run: exits 0 while usable rows remain, 1 where none do."""
    path = write_planted(tmp_path / "data.jsonl", 2)
    lines = path.read_text().splitlines()
    lines[4] = lines[4][: len(lines[4]) // 2]
    path.write_text("\n".join(lines))
    done = leray("data", "check", str(path))
    assert done.returncode == 0
    assert "line 5" in done.stderr
    assert "dropped 1" in done.stdout
    path.write_text("not json\n")
    done = leray("data", "check", str(path))
    assert done.returncode == 1
    one_line(done.stderr)


def test_the_ledger_of_claims_is_fixed(capsys: pytest.CaptureFixture[str]) -> None:
    """Golden run: estimand, region and level of every claim."""
    assert main(["claims", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert [c["id"] for c in claims] == ["M1", "M2", "M3", "M9"]
    assert main(["claims"]) == 0
    assert "it lies in [0.5, 0.7]" in capsys.readouterr().out


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """Golden run: SIGINT once → exit 130 and the command to resume, which then ends well."""
    import signal
    import time

    data = write_planted(tmp_path / "planted.jsonl", 24, num_turns=200, num_queries=20)
    out = tmp_path / "run"
    args = [sys.executable, "-m", "leray.cli", "study", "importance", "--data", str(data)]
    child = subprocess.Popen([*args, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    while not list(out.glob("checkpoints/*/*.safetensors")):
        assert child.poll() is None
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130, error
    assert f"leray study importance --resume {out}" in error
    assert leray("study", "importance", "--resume", str(out)).returncode == 0

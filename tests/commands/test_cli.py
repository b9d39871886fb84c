"""The command line as a user meets it: help, errors in one line, exit codes, JSON on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leray.cli import COMMANDS, main
from leray.runs import RunFolder
from leray.studies.session import Request
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
    out = [] if "--resume" in args else ["--out", str(tmp_path / "run")]
    assert main(["study", "importance", *out, *args]) == 1
    assert words in one_line(capsys.readouterr().err)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a finished run, started in tmp_path on data with a relative path."""
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "planted.jsonl", 2)
    with RunFolder.create(Path("run"), "importance", Request(data="planted.jsonl").config()):
        pass
    return tmp_path / "run"


def files(path: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "7"], "--seed has no effect with --resume"),
        (
            ["--out", "z", "--data", "o.jsonl", "--device", "cuda", "--include-text"],
            "--data, --out, --device, --include-text have no effect with --resume",
        ),
    ],
)
def test_options_without_effect_beside_resume_are_named(
    finished: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden run: a setting that has no effect is an error; the folder stays as it was."""
    before = files(finished)
    assert main(["study", "importance", "--resume", str(finished), *more]) == 1
    assert said in one_line(capsys.readouterr().err)
    assert files(finished) == before


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("config.toml", 'data = "planted.jsonl"', "data = 5", "'data' is int; allowed: str"),
        ("config.toml", None, "", "config.toml is damaged, for it does not say 'data'"),
        ("status.json", '"importance"', '"frob"', "holds a run of 'frob'"),
        ("status.json", None, "", "status.json is damaged, for it is empty"),
    ],
)
def test_a_damaged_run_is_refused_and_left(
    finished: Path,
    name: str,
    old: str | None,
    new: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Golden run: one line that names the file, what is wrong, and how to mend it."""
    text = (finished / name).read_text()
    (finished / name).write_text(new if old is None else text.replace(old, new))
    before = files(finished)
    assert main(["study", "importance", "--resume", str(finished)]) == 1
    assert said in one_line(capsys.readouterr().err)
    assert files(finished) == before


def test_a_run_resumed_elsewhere_says_where_it_was_started(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Golden run: relative paths count from the folder in which the run was started."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["study", "importance", "--resume", str(finished)]) == 1
    error = one_line(capsys.readouterr().err)
    assert f"no 'planted.jsonl' here: the run was started in {tmp_path}," in error
    assert f"--resume {finished}" in error


def test_control_characters_of_data_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden run: in an error and in a note they are escapes that can be read."""
    assert main(["data", "check", "\x1b[31mno\x07.jsonl"]) == 1
    error = one_line(capsys.readouterr().err)
    assert "\x1b" not in error
    assert "\x07" not in error
    path = tmp_path / "own.jsonl"
    said = {"conversation": "c", "turn": "1", "text": "x", "signals": {"\x1b]0;t\x07": 1}}
    query = {"conversation": "c\x1b[2J", "query": "1", "text": "x", "evidence": ["\x9b31m"]}
    path.write_text("\n".join(json.dumps(line) for line in (said, query)))
    assert main(["data", "check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in out + err)
    weights = tmp_path / "w.json"
    weights.write_text('{"format": "leray.weights/1", "weights": {"lexical": 1}}')
    path.write_text("".join(json.dumps({**said, "conversation": f"c\x1b{k}"}) + "\n" for k in "ab"))
    args = ["--weights", str(weights), "--conversation", str(path), "--query", "x"]
    assert main(["memory", "rank", *args]) == 1
    error = one_line(capsys.readouterr().err)
    assert "\x1b" not in error
    assert "name one with --history" in error


def test_a_warning_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden run: what it says, and not where in the source; with --debug as Python has it."""
    import warnings

    def warn(_: list[str]) -> int:
        warnings.warn("the cache\nis damaged", stacklevel=2)
        return 0

    monkeypatch.setattr("leray.cli._dispatch", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([]) == 0
        assert capsys.readouterr().err == "warning: the cache is damaged\n"
    with pytest.warns(UserWarning, match="the cache"):
        main(["--debug"])


def test_data_check_names_the_truth_and_how_far_callbacks_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden run: the truth that a study uses, queries that cross conversations, and one of each.

    Of two conversations of one person a word is rare that is in one of them, so none reaches back.
    """
    texts = ["fjord", "zebra", *["well"] * 12, "zebra"]
    lines = [
        {"conversation": f"c{c}", "turn": str(k), "text": t, "person": "p", "embedding": [1, k]}
        for c, some in enumerate((texts, ["well", "zebra"][:1]))
        for k, t in enumerate(some)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["data", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "2 conversations, 16 turns, 1 query found (callback truth)" in out
    assert "0 queries with a source in an earlier conversation" in out
    assert "dropped 16: ready embedding not used: callback truth masks words" in out
    assert main(["data", "check", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["truth"], found["callbacks"], found["reaching_back"]) == ("callback", 1, 0)
    write_planted(path, 1)
    assert main(["data", "check", str(path)]) == 0
    assert "1 conversation, 30 turns, 4 queries (evidence truth)" in capsys.readouterr().out


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    """Golden run: people read stderr, programs read stdout."""
    data = write_planted(tmp_path / "planted.jsonl", 3)
    done = leray("study", "importance", "--data", str(data), "--out", str(tmp_path / "r"), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {
        "study", "run", "preset", "seed", "data", "table", "weights", "methods", "verdicts",
        "advice", "stack", "left_out", "simulated",
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
    assert [c["id"] for c in claims][:9] == [f"M{k}" for k in range(1, 10)]
    studies = {"architecture", "circuits", "protection", "canaries"}
    assert {c["study"] for c in claims[9:]} == studies
    assert main(["claims"]) == 0
    assert "it lies in [0.5, 0.7]" in capsys.readouterr().out


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """Golden run: SIGINT once → exit 130 and the command to resume, which then ends well."""
    import signal
    import time

    data = write_planted(tmp_path / "planted.jsonl", 24, num_turns=200, num_queries=20)
    out = tmp_path / "run"
    args = [sys.executable, "-m", "leray.cli", "study", "importance", "--data", str(data)]
    # Tests that a shell runs in the background ignore SIGINT, and what they start would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen([*args, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    while not list(out.glob("checkpoints/*/*.safetensors")):
        assert child.poll() is None
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130, error
    assert f"leray study importance --resume {out}" in error
    assert leray("study", "importance", "--resume", str(out)).returncode == 0

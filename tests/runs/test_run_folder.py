"""The run folder: whole files, honest status, a manifest that verifies, errors that help."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_computations import AutoregressiveChain, ResampledMean

from leray.errors import LerayError
from leray.runs import Interrupted, Key, RunFolder, atomic_write, no_progress, parquet, read_events
from leray.runs.events import append_event
from leray.runs.parquet import write_samples
from leray.runs.reopening import check_config
from leray.runs.toml import to_toml

CONFIG = {"seed": 7, "preset": "quick", "grid": {"steps": [1, 2], "tau": 30.0}}
KEY = Key.root(7)
SMALL = ResampledMean(data=np.arange(5.0), chunk=3, num_shards=2, num_steps=2)


@dataclass
class Found:
    claim: str
    estimate: np.float64


def complete(path: Path | None = None) -> RunFolder:
    with RunFolder.create(path, "demo", CONFIG) as run:
        run.drive(SMALL, key=KEY, progress=no_progress)
        run.write("report.html", "<p>report</p>")
        run.write("figures/forest.svg", b"<svg/>")
        run.write_verdicts([Found("M1", np.float64(0.5)), {"claim": "M2", "x": np.arange(2)}])
    return run


def test_a_whole_run(tmp_path: Path) -> None:
    """Golden run: every file is there and says what it should; sha256sum verifies the manifest."""
    run = complete(tmp_path / "out")
    files = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert files == {
        "config.toml", "env.json", "status.json", "events.jsonl", "samples.parquet",
        "verdicts.json", "report.html", "figures/forest.svg", "MANIFEST.sha256",
        *(f"checkpoints/resample/{i}-{j}.safetensors" for i in (0, 1) for j in (0, 1)),
    }  # fmt: skip
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", "MANIFEST.sha256"],
        cwd=run.path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.stdout.count(": OK") == len(files) - 1
    assert tomllib.loads((run.path / "config.toml").read_text()) == CONFIG
    status = json.loads((run.path / "status.json").read_text())
    assert (status["study"], status["state"]) == ("demo", "done")
    assert status["started"] <= status["finished"]
    assert list(status["seconds"]) == ["resample"]
    assert json.loads((run.path / "verdicts.json").read_text()) == [
        {"claim": "M1", "estimate": 0.5},
        {"claim": "M2", "x": [0, 1]},
    ]
    assert [e["event"] for e in read_events(run.path / "events.jsonl")] == [
        "run_created", "run_started", "computation_started", "computation_finished", "run_done",
    ]  # fmt: skip


def test_the_samples_are_in_the_table(tmp_path: Path) -> None:
    """Identity: a row per computation, shard, step and name; values and shape rebuild the array."""
    from pyarrow import parquet

    with RunFolder.create(tmp_path, "demo", CONFIG) as run:
        chain = run.drive(AutoregressiveChain(), key=KEY, progress=no_progress)
        means = run.drive(SMALL, key=KEY, progress=no_progress)
    rows = parquet.read_table(tmp_path / "samples.parquet").to_pylist()
    assert len(rows) == 3 * 6 * 2 + 2 * 2
    found = [r["values"] for r in rows if (r["computation"], r["name"]) == ("resample", "means")]
    np.testing.assert_array_equal(np.concatenate(found), means)
    one = [r for r in rows if (r["name"], r["shard"], r["step"]) == ("mean", 2, 5)]
    np.testing.assert_array_equal(np.reshape(one[0]["values"], one[0]["shape"]), chain[2, 5, :2])
    assert next(r["shape"] for r in rows if r["name"] == "sum") == []


def test_a_run_without_samples_is_whole(tmp_path: Path) -> None:
    """Golden run: an empty table, not a failure."""
    from pyarrow import parquet

    with RunFolder.create(tmp_path, "demo", {}):
        pass
    assert parquet.read_table(tmp_path / "samples.parquet").num_rows == 0


def test_a_finished_run_opened_again_stays_whole(tmp_path: Path) -> None:
    """Golden run: seconds add up, and the manifest is made anew."""
    run = complete(tmp_path)
    with RunFolder.resume(tmp_path) as again:
        assert not (tmp_path / "MANIFEST.sha256").exists()
        again.drive(SMALL, key=KEY, progress=no_progress)
    assert again.seconds["resample"] >= run.seconds["resample"]
    subprocess.run(["sha256sum", "-c", "--quiet", "MANIFEST.sha256"], cwd=tmp_path, check=True)


def test_the_environment_names_no_person(tmp_path: Path) -> None:
    """Golden run: versions and platform are there; host and user are not."""
    RunFolder.create(tmp_path, "demo", {})
    text = (tmp_path / "env.json").read_text()
    env = json.loads(text)
    assert env["python"] == platform.python_version()
    assert "numpy" in env["packages"]
    facts = {"python", "platform", "machine", "processor", "cpu_count", "git_commit", "packages"}
    assert set(env) == facts
    assert re.search(rf"\b{re.escape(platform.node())}\b", text) is None
    assert str(Path.home()) not in text


def test_the_default_folder_is_named_by_study_time_and_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden run: runs/<study>-<UTC>-<hash>, and never the same folder twice."""
    monkeypatch.chdir(tmp_path)
    runs = [RunFolder.create(None, "demo", CONFIG) for _ in range(3)]
    assert len({r.path for r in runs}) == 3
    assert re.fullmatch(r"runs/demo-\d{8}T\d{6}Z-[0-9a-f]{8}", str(runs[0].path))


@pytest.mark.parametrize(
    ("error", "state"), [(Interrupted("stopped", None), "interrupted"), (KeyError("k"), "failed")]
)
def test_the_status_says_how_it_ended(error: BaseException, state: str, tmp_path: Path) -> None:
    """Golden run: the state, in the status and in the events; no manifest for what is not done."""
    with pytest.raises(type(error)), RunFolder.create(tmp_path, "demo", {}):
        raise error
    assert RunFolder.resume(tmp_path).state == state
    assert read_events(tmp_path / "events.jsonl")[-1]["event"] == f"run_{state}"
    assert not (tmp_path / "MANIFEST.sha256").exists()


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    """Golden run: a run of the same study says --resume; anything else says choose another."""
    complete(tmp_path / "run")
    with pytest.raises(LerayError, match=r"holds a run of 'demo': go on with it by --resume"):
        RunFolder.create(tmp_path / "run", "demo", CONFIG)
    with pytest.raises(LerayError, match="is not empty"):
        RunFolder.create(tmp_path / "run", "other", CONFIG)
    (tmp_path / "file").write_text("")
    with pytest.raises(LerayError, match=r"cannot write .*file"):
        RunFolder.create(tmp_path / "file", "demo", CONFIG)


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    """Golden run: one line each for no folder, no run, and a run whose files are damaged."""
    with pytest.raises(LerayError, match=r"is no run folder, for it has no status\.json"):
        RunFolder.resume(tmp_path / "absent")
    run = complete(tmp_path / "run")
    (run.path / "config.toml").write_text("seed = = 7")
    with pytest.raises(LerayError, match=r"config\.toml is damaged, for it is not TOML"):
        RunFolder.resume(run.path)


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    """Golden run: the second is refused while the first is at work, and let in after."""
    with RunFolder.create(tmp_path, "demo", {}):
        with pytest.raises(LerayError, match="another process is working on"):
            RunFolder.resume(tmp_path).__enter__()
        assert RunFolder.resume(tmp_path).state == "running"
    with RunFolder.resume(tmp_path):
        pass


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """Golden run: temporary files go when the run is opened again."""
    complete(tmp_path)
    for folder in (tmp_path, tmp_path / "figures", tmp_path / "checkpoints" / "resample"):
        (folder / ".x.123.tmp").write_bytes(b"half")
    with RunFolder.resume(tmp_path):
        pass
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_torn_event_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    """Golden run: reading skips it; the next event begins on its own line."""
    path = tmp_path / "events.jsonl"
    append_event(path, "first", n=1)
    with path.open("ab") as file:
        file.write(b'{"time": "2026-01-01T00:0')
    append_event(path, "second")
    assert [e["event"] for e in read_events(path)] == ["first", "second"]


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden run: one line that names the path; the old content stands; no temporary file stays."""
    path = tmp_path / "report.html"
    atomic_write(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(LerayError, match=r"report\.html: the disk is full: free some space"):
            atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_goes_on_after_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Identity: the disk fills in the middle; after there is space the result has the same bits."""
    run = RunFolder.create(tmp_path, "demo", CONFIG)
    chain = AutoregressiveChain()
    real, calls = os.fsync, iter(range(40))

    def fills(descriptor: int) -> None:
        if next(calls) >= 20:
            full_disk()
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills)
        with pytest.raises(LerayError, match="the disk is full"), run:
            run.drive(chain, key=KEY, progress=no_progress)
    stored = list((tmp_path / "checkpoints" / "chain").iterdir())
    assert 0 < len(stored) < 18
    with RunFolder.resume(tmp_path) as again:
        result = again.drive(chain, key=KEY, progress=no_progress)
    with RunFolder.create(tmp_path / "other", "demo", CONFIG) as other:
        np.testing.assert_array_equal(other.drive(chain, key=KEY, progress=no_progress), result)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full")
def test_the_full_device_is_named(tmp_path: Path) -> None:
    """Golden run: the system's own ENOSPC, through an event file that is /dev/full."""
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(LerayError, match=r"events\.jsonl: the disk is full"):
        append_event(tmp_path / "events.jsonl", "any")


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden run: EROFS and EACCES say that another folder is needed (root may write anywhere)."""
    for code, said in ((errno.EROFS, "read-only file system"), (errno.EACCES, "may not write")):

        def refuse(*_: object, code: int = code, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", refuse)
            with pytest.raises(
                LerayError, match=rf"cannot write .*out: .*{said}.*: choose another folder"
            ):
                RunFolder.create(tmp_path / "out", "demo", {})


TEXT = st.text("aB1_-. #=[]'\"\\\n\r\t\0\x1f\x7f\x85é\u2028🎲", max_size=6)
PLAIN = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = st.recursive(
    PLAIN | st.lists(PLAIN, max_size=3),
    lambda v: st.dictionaries(TEXT, v, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_toml_reads_back_what_was_written(config: dict) -> None:
    """Identity: tomllib ∘ to_toml = id, types included."""
    back = tomllib.loads(to_toml(config))
    assert back == config
    assert repr(back) == repr({k: back[k] for k in back})


def test_toml_keeps_what_equality_does_not_see() -> None:
    """Oracle: NaN, types, and a refusal of None."""
    back = tomllib.loads(to_toml({"n": math.nan, "f": 1.0, "i": 1, "b": True}))
    assert math.isnan(back["n"])
    assert [type(back[k]) for k in "fib"] == [float, int, bool]
    with pytest.raises(TypeError, match="'x' is NoneType"):
        to_toml({"x": None})


def test_the_table_does_not_depend_on_the_order_of_names(tmp_path: Path) -> None:
    """Identity: equal samples in any order of names give equal bytes."""
    samples = {name: np.arange(3.0) for name in ("b", "c", "a")}
    turned = dict(reversed(samples.items()))
    for k, some in enumerate((samples, turned)):
        write_samples(tmp_path / f"{k}.parquet", [("chain", 0, 0, some)])
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()


def test_the_table_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what was recorded, read back from several row groups."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(parquet, "GROUP", 10)
    rng = np.random.default_rng(0)
    recorded = [("c", 0, k, {"x": rng.normal(size=(k, 3)), "n": np.array(k)}) for k in range(6)]
    write_samples(tmp_path / "s.parquet", recorded)
    file = pq.ParquetFile(tmp_path / "s.parquet")
    assert file.num_row_groups > 2
    rows = {(r["step"], r["name"]): r for r in file.read().to_pylist()}
    assert len(rows) == 12
    for _, _, k, samples in recorded:
        for name, array in samples.items():
            found = np.reshape(rows[k, name]["values"], rows[k, name]["shape"])
            assert (found == array).all()
    write_samples(tmp_path / "none.parquet", [])
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_stored_samples_come_back_in_one_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Identity: whatever order safetensors gives, which differs between processes."""
    from leray.runs import store

    run = RunFolder.create(tmp_path, "demo", CONFIG)
    run.drive(AutoregressiveChain(), key=KEY, progress=no_progress)
    real = store.load_tensors
    orders = []
    for turn in (list, lambda items: list(reversed(items))):
        monkeypatch.setattr(store, "load_tensors", lambda d, t=turn: dict(t(real(d).items())))
        orders.append([list(samples) for *_, samples in run.store.recorded()])
    assert orders[0] == orders[1]
    assert all(names == sorted(names) for names in orders[0])


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


OTHER = ResampledMean(data=np.arange(5.0) + 1, chunk=3, num_shards=2, num_steps=2)


def test_a_refused_resume_leaves_a_finished_run_as_it_was(tmp_path: Path) -> None:
    """Identity: every file byte for byte, the manifest included; the message is in words."""
    complete(tmp_path)
    before = contents(tmp_path)
    said = r"the data differ from those of that run \(data\)"
    with pytest.raises(LerayError, match=said), RunFolder.resume(tmp_path) as run:
        run.drive(OTHER, key=KEY, progress=no_progress)
    assert contents(tmp_path) == before
    with pytest.raises(KeyboardInterrupt), RunFolder.resume(tmp_path):
        raise KeyboardInterrupt
    assert contents(tmp_path) == before


def test_a_resume_that_fails_later_says_so(tmp_path: Path) -> None:
    """Golden run: where something was written, the run is no longer what it was."""
    complete(tmp_path)
    run = RunFolder.resume(tmp_path).__enter__()
    run.write("report.html", "<p>half</p>")
    run.__exit__(LerayError, LerayError("no"), None)
    assert RunFolder.resume(tmp_path).state == "failed"
    assert not (tmp_path / "MANIFEST.sha256").exists()


GOOD = '{"study": "demo", "state": "done", "seconds": {}}'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("status.json", "", "it is empty"),
        ("status.json", "{", "it is not JSON"),
        ("status.json", "\udcff", "it is not JSON"),
        ("status.json", "[]", "it is no object in braces"),
        ("status.json", "{}", "'study' is no text"),
        ("status.json", GOOD.replace('"done"', "[]"), "'state' is not one of"),
        ("status.json", GOOD.replace('"done"', '"ended"'), "'state' is not one of"),
        ("status.json", GOOD.replace(', "seconds": {}', ""), "'seconds' is no object of numbers"),
        ("status.json", GOOD.replace("{}}", '{"x": "1"}}'), "'seconds' is no object of numbers"),
        ("config.toml", "seed = = 7", "it is not TOML"),
        ("config.toml", "\udcff", "it is not TOML"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    """Oracle: the line that the user reads: which file, what is wrong, how to mend it."""
    complete(tmp_path)
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LerayError) as caught:
        RunFolder.resume(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path / name} is damaged, for {said}" in message
    assert "restore it from a copy, or" in message
    assert "\n" not in message


def test_the_mend_for_a_damaged_status_works(tmp_path: Path) -> None:
    """Golden run: what the message says to write is enough to go on."""
    complete(tmp_path)
    (tmp_path / "status.json").write_text("[]")
    with pytest.raises(LerayError) as caught:
        RunFolder.resume(tmp_path)
    text = re.search(r"write (\{.*\}) into it", str(caught.value))
    assert text is not None
    (tmp_path / "status.json").write_text(text[1])
    with RunFolder.resume(tmp_path) as run:
        run.drive(SMALL, key=KEY, progress=no_progress)
    assert RunFolder.resume(tmp_path).state == "done"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": 5}, "'data' is int; allowed: str"),
        ({"seed": True}, "'seed' is bool; allowed: int"),
        ({"data": None}, "it does not say 'data'"),
    ],
)
def test_settings_that_no_run_wrote_are_refused(change: dict, said: str, tmp_path: Path) -> None:
    """Oracle: the file, what is wrong, how to mend it."""
    config = {k: v for k, v in ({"data": "x", "seed": 1} | change).items() if v is not None}
    types = {"data": str, "seed": int, "embedder": str}
    with pytest.raises(LerayError, match=rf"config\.toml is damaged, for {said}: restore it"):
        check_config(config, tmp_path, types, ("data", "seed"))
    check_config({"data": "x", "seed": 1, "new": []}, tmp_path, types, ("data", "seed"))


def test_a_run_on_a_read_only_disk_is_left_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden run: one line that says what to do, for --out would not help; nothing is changed."""
    complete(tmp_path)
    before = contents(tmp_path)

    real = Path.open

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def read_only(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return real(path, mode, *rest, **more) if mode in ("r", "rb") else refuse()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        patch.setattr(Path, "replace", refuse)
        patch.setattr(Path, "open", read_only)
        with pytest.raises(LerayError, match=r"cannot go on .*read-only.*--resume the copy") as one:
            RunFolder.resume(tmp_path).__enter__()
    assert "--out" not in str(one.value)
    assert contents(tmp_path) == before
    with RunFolder.resume(tmp_path):  # the lock is free again
        pass


def test_ctrl_c_outside_a_step_says_how_to_go_on(tmp_path: Path) -> None:
    """Golden run: the command is in the message, whatever was going on."""
    with pytest.raises(Interrupted) as caught, RunFolder.create(tmp_path, "demo", CONFIG):
        raise KeyboardInterrupt
    assert str(caught.value).endswith(f"continue with: leray study demo --resume {tmp_path}")
    assert caught.value.resume_command == f"leray study demo --resume {tmp_path}"
    assert RunFolder.resume(tmp_path).state == "interrupted"


def test_a_full_disk_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden run: the command, and not another folder, for the run is already here."""
    run = RunFolder.create(tmp_path, "demo", CONFIG)
    run.__enter__()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(LerayError, match="the disk is full") as bare:
        run.write("report.html", "x")
    with pytest.raises(LerayError, match="the disk is full") as caught:
        run.__exit__(LerayError, bare.value, None)
    assert str(caught.value).endswith(
        f"free some space; then continue with: leray study demo --resume {tmp_path}"
    )

"""A ChatGPT export: the path that was kept, what is skipped, and broken or hostile files."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from leray.data import chatgpt
from leray.data.chatgpt import load_chatgpt
from leray.errors import LerayError


def node(
    name: str,
    parent: str | None,
    role: str | None = None,
    parts: list[Any] | None = None,
    time: float | None = None,
    *,
    kind: str = "text",
) -> dict[str, Any]:
    message = {
        "author": {"role": role},
        "create_time": time,
        "content": {"content_type": kind, "parts": parts},
    }
    return {"id": name, "parent": parent, "children": [], "message": message if role else None}


def tree(*nodes: dict[str, Any], current: str | None = None, **more: Any) -> dict[str, Any]:
    mapping = {n["id"]: n for n in nodes}
    for n in nodes:
        if n["parent"] in mapping:
            mapping[n["parent"]]["children"].append(n["id"])
    return {"title": "t", "mapping": mapping, "current_node": current, **more}


BRANCHED = (
    node("root", None),
    node("s", "root", "system", [""], None),
    node("u1", "s", "user", ["first question"], 10.0),
    node("a1", "u1", "assistant", ["discarded answer"], 30.0),
    node("a2", "u1", "assistant", ["kept answer"], 20.0),
    node("u2", "a2", "user", ["thanks", {"asset_pointer": "file"}], 25.0, kind="multimodal_text"),
    node("t", "u2", "tool", ["result"], 26.0),
    node("c", "t", "assistant", None, 27.0, kind="code"),
    node("a3", "c", "assistant", [""], 28.0),
    node("a4", "a3", "assistant", ["done"], 29.0),
)


def write(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_the_kept_path_is_followed(tmp_path: Path) -> None:
    """Oracle: a tree with a discarded answer, a picture, a tool and an empty message."""
    corpus = load_chatgpt(write(tmp_path, [tree(*BRANCHED, current="a4", conversation_id="k")]))
    (c,) = corpus.conversations
    assert [t.text for t in c.turns] == ["first question", "kept answer", "thanks", "done"]
    assert [t.speaker for t in c.turns] == ["user", "assistant", "user", "assistant"]
    assert [t.time for t in c.turns] == [10.0, 20.0, 25.0, 29.0]
    assert (c.id, c.person, corpus.truth, corpus.seen) == ("k", "me", "callback", False)
    assert corpus.report.repaired == {}
    assert corpus.report.dropped == {
        "message of system or tool": 2,
        "part that is not text": 1,
        "message of another content type": 1,
        "message without text": 1,
    }


def test_the_other_branch_is_followed_when_it_was_kept(tmp_path: Path) -> None:
    """Oracle: the same tree, left at its other answer."""
    (c,) = load_chatgpt(write(tmp_path, [tree(*BRANCHED, current="a1")])).conversations
    assert [t.text for t in c.turns] == ["first question", "discarded answer"]


@pytest.mark.parametrize("current", [None, "nowhere"])
def test_without_current_node_the_latest_leaf_is_taken(tmp_path: Path, current: str | None) -> None:
    """Oracle: the discarded answer came at 30, the end of the other branch at 29."""
    corpus = load_chatgpt(write(tmp_path, [tree(*BRANCHED, current=current)]))
    assert corpus.conversations[0].turns[-1].text == "discarded answer"
    assert corpus.report.repaired == {"current_node missing": 1}


def test_circles_and_times_are_mended(tmp_path: Path) -> None:
    """Oracle: a circle, a missing time, one that runs backwards and half a surrogate pair."""
    circle = tree(
        node("x", "z", "user", ["one \ud83d\ude00 \ud83d"], 5.0),
        node("y", "x", "assistant", ["two"], None),
        node("z", "y", "user", ["three"], 4.0),
        current="z",
        id="same",
    )
    corpus = load_chatgpt(write(tmp_path, [circle, circle, {"mapping": 3}, 4, tree()]))
    first, second = corpus.conversations
    assert [t.text for t in first.turns] == ["one 😀 �", "two", "three"]
    assert [t.time for t in first.turns] == [5.0, 5.0, 5.0]
    assert (first.id, second.id) == ("same", "same#2")
    assert corpus.report.repaired == {
        "circle of messages": 2,
        "message without time": 2,
        "time going backwards": 2,
        "conversation id used twice": 1,
        "current_node missing": 1,
    }
    assert corpus.report.dropped == {
        "conversation without messages": 2,
        "conversation without text": 1,
    }


@pytest.mark.parametrize(
    ("created", "times"),
    [
        ((None, 5.0, None), (5.0, 5.0, 5.0)),
        ((None, None, None), (9.0, 9.0, 9.0)),
        ((1.0, 2.0, float("nan")), (1.0, 2.0, 2.0)),
    ],
)
def test_missing_times_are_taken_from_what_is_near(
    tmp_path: Path, created: tuple[float | None, ...], times: tuple[float, ...]
) -> None:
    """Oracle: the message before, else the first known, else the conversation's own time."""
    names = ("x", "y", "z")
    nodes = [
        node(n, p, "user", ["said"], t)
        for n, p, t in zip(names, (None, *names), created, strict=False)
    ]
    export = write(tmp_path, [tree(*nodes, current="z", create_time=9.0)])
    (c,) = load_chatgpt(export).conversations
    assert tuple(t.time for t in c.turns) == times


def test_a_truncated_export_keeps_its_whole_conversations(tmp_path: Path) -> None:
    """Identity: cut anywhere, the conversations that are whole come out as before."""
    trees = [tree(*BRANCHED, current="a4", id=f"c{i}") for i in range(3)]
    whole = json.dumps(trees, indent=1)
    path = tmp_path / "conversations.json"
    ends = [len(json.dumps(trees[:n], indent=1)) - 2 for n in (1, 2, 3)]
    for cut in range(ends[0], len(whole), 97):
        path.write_text(whole[:cut], encoding="utf-8")
        corpus = load_chatgpt(path)
        assert len(corpus.conversations) == sum(end <= cut for end in ends)
        assert corpus.report.dropped["rest of a broken file"] == 1


def test_the_archive_is_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity: the archive and its member give the same; nothing is written beside it."""
    path = write(tmp_path, [tree(*BRANCHED, current="a4")])
    folder = tmp_path / "zip"
    folder.mkdir()
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "export/conversations.json")
        archive.writestr("../evil.json", "[]")
    assert load_chatgpt(folder / "export.zip").conversations == load_chatgpt(path).conversations
    assert [p.name for p in folder.iterdir()] == ["export.zip"]
    monkeypatch.setattr(chatgpt, "MAX_BYTES", 100)
    with pytest.raises(LerayError, match="larger than 100 bytes"):
        load_chatgpt(folder / "export.zip")


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    """Oracle: an object, an empty list, words, other bytes, archives without it or cut short."""
    path = tmp_path / "x"
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("chat.html", "x" * 1000)
    other = (tmp_path / "other.zip").read_bytes()
    broken = bytearray(other.replace(b"chat.html", b"c.json   "))
    for raw in (b"{}", b"[]", b"hello", b"\xff\xfe\xff", b"", other, other[40:], bytes(broken)):
        path.write_bytes(raw)
        with pytest.raises(LerayError) as caught:
            load_chatgpt(path)
        assert "\n" not in str(caught.value)

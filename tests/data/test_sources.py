"""Data by name: what is loaded, and what is refused in one line."""

from pathlib import Path

import pytest

from leray.data.sources import load
from leray.errors import LerayError

LINE = '{"conversation": "c", "turn": "1", "text": "hello"}\n'


def test_a_bare_jsonl_path_is_a_jsonl_source(tmp_path: Path) -> None:
    """Identity: with and without the kind, the same conversations."""
    path = tmp_path / "own.jsonl"
    path.write_text(LINE, encoding="utf-8")
    assert load(str(path)).conversations == load(f"jsonl:{path}").conversations
    assert load(str(path)).name == f"jsonl:{path}"


def test_a_kind_is_passed_what_follows_the_colon(shared_data: Path) -> None:
    """Oracle: the number of conversations in the real files."""
    assert len(load(f"locomo:{shared_data / 'locomo'}").conversations) == 10


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("chitchta", "did you mean 'chitchat'"),
        ("lokomo:x", "did you mean 'locomo'"),
        ("", "allowed: chitchat, chitchat:A-B, synthetic, synthetic:N, locomo:PATH"),
        ("locomo", "write locomo:PATH"),
        ("locomo:", "write locomo:PATH"),
        ("qmsum:nowhere", "no file or folder 'nowhere'"),
        ("nowhere.jsonl", "no file or folder"),
        ("jsonl:~nobody-here/x", "no file or folder"),
        ("jsonl:a\0b", "no file or folder"),
        (f"jsonl:{'a' * 5000}", "no file or folder"),
    ],
)
def test_what_cannot_be_loaded_is_named(spec: str, message: str) -> None:
    """Oracle: the line that the user reads."""
    with pytest.raises(LerayError) as caught:
        load(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["jsonl", "chatgpt"])
def test_a_folder_in_place_of_a_file_is_named(kind: str, tmp_path: Path) -> None:
    """Oracle: the system's own reason, in one line."""
    with pytest.raises(LerayError, match="Is a directory"):
        load(f"{kind}:{tmp_path}")


def test_a_file_of_no_named_kind_asks_for_one(tmp_path: Path) -> None:
    """Oracle: the line that the user reads."""
    path = tmp_path / "conversations.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(LerayError, match=f"such as chatgpt:{path}"):
        load(str(path))

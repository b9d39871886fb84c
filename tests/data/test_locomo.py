"""LoCoMo: the counts of the design on the real files, and each quirk on a made one."""

import json
from pathlib import Path

import pytest

from leray.data.locomo import load_locomo, session_time
from leray.errors import LerayError


def test_counts_of_the_real_files(shared_data: Path) -> None:
    """Oracle: 10 conversations, 5,882 turns, 1,982 questions, 1,192,166 pairs, 2,820 positive."""
    corpus = load_locomo(shared_data / "locomo")
    cs = corpus.conversations
    assert len(cs) == 10
    assert sum(len(c.turns) for c in cs) == 5_882
    assert sum(len(c.queries) for c in cs) == 1_982
    assert sum(len(c.turns) * len(c.queries) for c in cs) == 1_192_166
    assert sum(len(q.evidence or ()) for c in cs for q in c.queries) == 2_820
    assert corpus.report.repaired == {
        "evidence ids in one string": 4,
        "evidence id misspelt": 2,
        "evidence id named twice": 1,
    }
    assert corpus.report.dropped == {
        "session date without turns": 16,
        "question without evidence": 4,
        "evidence id of no turn": 2,
        "evidence id that cannot be read": 1,
    }
    assert len(corpus.report.notes) == 30
    assert corpus.truth == "evidence"
    assert corpus.seen
    assert not corpus.redistributable


def test_turns_of_the_real_files(shared_data: Path) -> None:
    """Identity: ids are unique, times do not decrease, evidence exists, queries carry no time."""
    captions = 0
    for c in load_locomo(shared_data / "locomo").conversations:
        ids = [t.id for t in c.turns]
        times = [t.time for t in c.turns if t.time is not None]
        assert len(set(ids)) == len(ids) == len(times)
        assert times == sorted(times)
        assert all(q.time is None and set(q.evidence or ()) <= set(ids) for q in c.queries)
        captions += sum(t.caption is not None for t in c.turns)
    assert captions == 1_226


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("1:56 pm on 8 May, 2023", 1683554160.0),
        ("12:00 am on 1 January, 1970", 0.0),
        ("12:09 pm on 1 January, 1970", 43740.0),
        ("31:00 am on 1 May, 2023", None),
        ("1:00 am on 31 June, 2023", None),
        ("1:00 am on 3 Brumaire, 2023", None),
        ("yesterday", None),
    ],
)
def test_session_time(date: str, time: float | None) -> None:
    """Oracle: times worked out by hand."""
    assert session_time(date) == time


def test_each_quirk_is_mended_or_counted(tmp_path: Path) -> None:
    """Oracle: a conversation whose every fault is known."""

    def turn(key: str, **more: object) -> dict[str, object]:
        return {"speaker": "A", "dia_id": key, "text": "said", **more}

    raw = {
        "session_10": [turn("D10:1"), turn("D10:1"), turn("D10:2", text=" ")],
        "session_10_date_time": "never",
        "session_2": [
            turn("D2:1", blip_caption="a cat"),
            turn("D2:2", text="", blip_caption="a dog"),
            7,
        ],
        "session_2_date_time": "1:56 pm on 8 May, 2023",
        "session_3_date_time": "1:56 pm on 9 May, 2023",
        "session_4": "none",
        "qa": [
            {"question": "a?", "evidence": ["D2:1; D10:1", "D:2:01", "D", 3, "D9:9"], "answer": 4},
            {"question": "b?", "evidence": ["D9:9"]},
            {"question": "c?"},
            {"question": 5, "evidence": ["D2:1"]},
            "d?",
        ],
    }
    (tmp_path / "1.json").write_text(json.dumps(raw), encoding="utf-8")
    (tmp_path / "2.json").write_text('{"session_1": [', encoding="utf-8")
    (tmp_path / "3.json").write_text("[]", encoding="utf-8")
    corpus = load_locomo(tmp_path)
    (c,) = corpus.conversations
    assert [t.id for t in c.turns] == ["D2:1", "D2:2", "D10:1"]
    assert [t.time for t in c.turns] == [1683554160.0, 1683554160.0, None]
    assert [t.caption for t in c.turns] == ["a cat", "a dog", None]
    assert [(q.id, q.evidence) for q in c.queries] == [("q1", ("D2:1", "D10:1"))]
    assert corpus.report.repaired == {
        "evidence ids in one string": 1,
        "evidence id misspelt": 1,
        "evidence id named twice": 1,
    }
    assert corpus.report.dropped == {
        "turn without id or text": 1,
        "session date without turns": 1,
        "session date that cannot be read": 1,
        "turn id used twice": 1,
        "turn without text": 1,
        "evidence id that cannot be read": 2,
        "evidence id of no turn": 2,
        "question without evidence": 2,
        "question without text": 2,
        "file not JSON": 1,
        "file not an object": 1,
    }


def test_a_folder_without_conversations_is_refused(tmp_path: Path) -> None:
    """Oracle: one line that says what is expected."""
    with pytest.raises(LerayError, match="session_1_date_time"):
        load_locomo(tmp_path)

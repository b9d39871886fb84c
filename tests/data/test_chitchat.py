"""The chit-chat loader: its choice by rank, its times and its counts.

Nothing of ranks 25 to 64 but the number of turns is looked at: they are held out.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from leray.data import chitchat
from leray.data.chitchat import load_chitchat
from leray.data.reading import read_json
from leray.errors import LerayError
from leray.memory.conversations import Corpus
from leray.memory.labels import words

RAW = {
    "b": {
        "messages": [
            [{"text": "Hello you", "timestamp": "2018-05-02T19:38:15Z", "sender": "x"}],
            [
                {"text": " ", "timestamp": "2018-05-02T19:38:16Z", "sender": "y"},
                {"text": "late", "timestamp": "2018-05-02T19:38:20", "sender": "y"},
                {"text": "early", "timestamp": "2018-05-02T15:38:18-04:00", "sender": "x"},
            ],
        ]
    },
    "a": {
        "messages": [
            [
                {"text": "one hello", "timestamp": "noon", "sender": "p"},
                {"text": "two", "timestamp": "2018-05-02", "sender": "q"},
                {"text": "three", "timestamp": "2018-05-03T00:00:00.5Z", "sender": "q"},
                {"text": "four", "timestamp": "2018-05-03 00:00:01", "sender": "q"},
            ]
        ]
    },
    "alone": {"messages": [[{"text": "hello", "timestamp": "2018-05-02", "sender": "p"}] * 9]},
}


@pytest.fixture(scope="module")
def raw() -> Any:
    return read_json(chitchat._dataset_path())


@pytest.fixture(scope="module")
def longest() -> Corpus:
    return load_chitchat("1-24")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(RAW), encoding="utf-8")
    monkeypatch.setattr(chitchat, "_dataset_path", lambda: tmp_path / "dataset.json")


def test_the_longest_chats_are_those_of_the_design(longest: Corpus) -> None:
    """Oracle: 20,690 messages in 24 chats, as the design counted them."""
    assert sum(len(c.turns) for c in longest.conversations) == 20_690
    assert len(longest.conversations) == 24
    assert [len(c.turns) for c in longest.conversations][:3] == [1580, 1489, 1136]
    assert longest.seen
    assert longest.redistributable
    assert longest.truth == "callback"
    assert longest.report.repaired == longest.report.dropped == {}
    for c in longest.conversations:
        times = [t.time for t in c.turns]
        assert times == sorted(times, key=lambda t: t or 0)
        assert {t.speaker for t in c.turns} == {"A", "B"}
        assert c.turns[0].speaker == "A"


def test_words_are_counted_over_the_whole_collection(longest: Corpus, raw: Any) -> None:
    """Oracle: a count of three words over all chats, one message at a time."""
    assert longest.collection_size == 7168
    assert longest.num_word_conversations is not None
    for word in ("guitar", "volleyball", "don't"):
        holding = 0
        for chat in raw.values():
            texts = [m["text"] for burst in chat["messages"] for m in burst]
            near = [text for text in texts if word in text.lower()]
            holding += any(word in words(text) for text in near)
        assert longest.num_word_conversations[word] == holding


def test_the_default_is_forty_unseen_chats(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the number of conversations and turns; the contents are held out."""
    monkeypatch.setattr(chitchat, "read_json", lambda _: raw)
    monkeypatch.setattr(chitchat, "_num_word_conversations", lambda _: {})  # slow, tested above
    corpus = load_chitchat()
    assert corpus.name == "chitchat"
    assert len(corpus.conversations) == 40
    assert sum(len(c.turns) for c in corpus.conversations) == 19_498
    assert not corpus.seen
    assert "shaped the design" in corpus.description
    assert "calibrated at 40 clusters" in corpus.description


@pytest.mark.usefixtures("small")
def test_repairs_and_drops_are_counted() -> None:
    """Oracle: a collection whose every fault is known."""
    corpus = load_chitchat("1-2")
    first, second = corpus.conversations
    assert (first.id, second.id) == ("a", "b")  # both have four messages; ties go by id
    assert [t.text for t in second.turns] == ["Hello you", "early", "late"]
    assert [t.id for t in second.turns] == ["1", "4", "3"]
    assert [t.speaker for t in second.turns] == ["A", "A", "B"]
    assert [t.time for t in second.turns] == [1525289895.0, 1525289898.0, 1525289900.0]
    assert [t.time for t in first.turns] == [None, 1525219200.0, 1525305600.5, 1525305601.0]
    assert corpus.report.repaired == {"time going backwards": 1}
    assert corpus.report.dropped == {"message without text": 1, "time that cannot be read": 1}
    assert corpus.num_word_conversations is not None
    assert corpus.num_word_conversations["hello"] == 3
    assert corpus.collection_size == 3


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("ranks", ["0-1", "2-1", "1-3", "1", "x-y", "-1-2", "1-²"])
def test_impossible_ranks_are_refused(ranks: str) -> None:
    """Oracle: one line that names what came and what is allowed."""
    with pytest.raises(LerayError, match="1 ≤ A ≤ B ≤ 2"):
        load_chitchat(ranks)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the command that installs it."""
    monkeypatch.setattr(chitchat, "find_spec", lambda _: None)
    with pytest.raises(LerayError, match="pip install chitchat-dataset"):
        load_chitchat()

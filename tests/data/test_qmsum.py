"""QMSum: the counts of the real files, and spans that keep their meaning."""

import json
from pathlib import Path

import pytest

from leray.data.qmsum import load_qmsum
from leray.errors import LerayError
from leray.memory.conversations import Corpus


@pytest.fixture(scope="module")
def corpus(shared_data: Path) -> Corpus:
    return load_qmsum(shared_data / "qmsum")


def test_counts_of_the_real_files(corpus: Corpus) -> None:
    """Oracle: meetings, turns and specific queries counted by another reading of the files."""
    cs = corpus.conversations
    assert len(cs) == 70
    assert sum(len(c.queries) for c in cs) == 244 + 237
    assert sum(len(c.turns) for c in cs) == 20_718 + 20_123 - 2_158 == 38_683
    assert sum(len(q.evidence or ()) for c in cs for q in c.queries) == 25_294
    assert corpus.report.repaired == {"turn with transcriber's marks": 12_944}
    assert corpus.report.dropped == {"general query without spans": 72, "turn without words": 2_158}
    assert [cs[0].id, cs[-1].id] == ["val-1", "test-35"]
    assert not any("{" in t.text for c in cs for t in c.turns)
    assert not corpus.seen
    assert corpus.redistributable


def test_evidence_is_the_span_in_the_raw_file(shared_data: Path, corpus: Corpus) -> None:
    """Oracle: the first meeting's spans, taken straight from the transcript."""
    with (shared_data / "qmsum" / "val.jsonl").open(encoding="utf-8") as handle:
        raw = json.loads(handle.readline())
    meeting = corpus.conversations[0]
    said = {t.id: t for t in meeting.turns}
    assert len(meeting.queries) == len(raw["specific_query_list"])
    for query, asked in zip(meeting.queries, raw["specific_query_list"], strict=True):
        inside = {i for a, b in asked["relevant_text_span"] for i in range(int(a), int(b) + 1)}
        assert set(query.evidence or ()) == {str(i) for i in inside} & set(said)
    for index, turn in enumerate(raw["meeting_transcripts"]):
        if str(index) in said and "{" not in turn["content"]:
            assert said[str(index)].text == " ".join(turn["content"].split())


def test_each_fault_is_mended_or_counted(tmp_path: Path) -> None:
    """Oracle: a meeting whose every fault is known."""
    contents = ["Well {vocalsound} yes .", "{disfmarker}", ".", "No .", None]
    spans = {
        "inside": [["0", "1"]],
        "clipped": [["3", "9"], [-2, 0]],
        "outside": [["7", "9"]],
        "wordless": [["1", "2"]],
        "unreadable": [["a", "b"], [1], 4],
        "none": None,
    }
    raw = {
        "meeting_transcripts": [{"speaker": "A", "content": c} for c in contents],
        "specific_query_list": [
            *({"query": q, "relevant_text_span": s} for q, s in spans.items()),
            {"query": ""},
        ],
        "general_query_list": [{"query": "all"}],
    }
    path = tmp_path / "own.jsonl"
    path.write_text(f"{json.dumps(raw)}\n\n[]\n{{\n{{}}\n", encoding="utf-8")
    corpus = load_qmsum(path)
    (meeting,) = corpus.conversations
    assert meeting.id == "own-1"
    assert [(t.id, t.text) for t in meeting.turns] == [("0", "Well yes ."), ("3", "No .")]
    assert [q.evidence for q in meeting.queries] == [("0",), ("0", "3")]
    assert corpus.report.repaired == {"turn with transcriber's marks": 1, "span clipped": 2}
    assert corpus.report.dropped == {
        "turn without words": 3,
        "general query without spans": 1,
        "span outside the meeting": 1,
        "span that cannot be read": 3,
        "query without evidence": 4,
        "query without text": 1,
        "line not an object": 1,
        "line not JSON": 1,
        "meeting without turns": 1,
    }


def test_a_folder_without_meetings_is_refused(tmp_path: Path) -> None:
    """Oracle: one line that says what is expected."""
    with pytest.raises(LerayError, match=r"val\.jsonl"):
        load_qmsum(tmp_path)

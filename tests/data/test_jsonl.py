"""A person's own file: the documented format, every bad line named, nothing else lost."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.data.jsonl import load_jsonl
from leray.data.records import TURN_SIGNALS
from leray.errors import LerayError
from leray.integrations.look_back import MEASURES
from leray.memory.conversations import Corpus
from leray.memory.growing import OF_TURN

DOCUMENTED = [
    '{"conversation": "c1", "turn": "D1:3", "speaker": "A", "text": "I got a dog.",'
    ' "time": "2023-05-08T13:56:00", "caption": "a small dog"}',
    '{"conversation": "c1", "turn": "D1:4", "speaker": "B", "text": "What is its name?",'
    ' "time": "2023-05-08T15:57:00+02:00"}',
    '{"conversation": "c1", "turn": "D1:5", "text": "Rex.", "time": 1683554280}',
    '{"conversation": "c1", "query": "q7", "text": "Who got a dog?", "time": null,'
    ' "evidence": ["D1:3"]}',
]


def read(tmp_path: Path, *lines: str | dict[str, Any]) -> Corpus:
    path = tmp_path / "own.jsonl"
    written = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(written), encoding="utf-8")
    return load_jsonl(path)


def turn(name: str, **more: Any) -> dict[str, Any]:
    return {"conversation": "c1", "turn": name, "text": "said", **more}


def query(name: str, **more: Any) -> dict[str, Any]:
    return {"conversation": "c1", "query": name, "text": "asked", "evidence": ["1"], **more}


def test_the_documented_example(tmp_path: Path) -> None:
    """Oracle: the lines of ``docs/data.md``, worked out by hand."""
    corpus = read(tmp_path, *DOCUMENTED)
    (c,) = corpus.conversations
    assert [t.time for t in c.turns] == [1683554160.0, 1683554220.0, 1683554280.0]
    assert [t.speaker for t in c.turns] == ["A", "B", ""]
    assert c.turns[0].spoken == "A: I got a dog. [shares a small dog]"
    assert [(q.id, q.time, q.evidence) for q in c.queries] == [("q7", None, ("D1:3",))]
    assert (corpus.truth, corpus.seen, corpus.redistributable) == ("evidence", False, False)
    assert corpus.report.notes == []


def test_the_documentation_shows_these_lines() -> None:
    """Golden: the example in the documentation is the one tested here."""
    docs = Path(__file__).resolve().parents[2] / "docs" / "data.md"
    assert "\n".join(DOCUMENTED) in docs.read_text(encoding="utf-8")


def test_ready_vectors_signals_and_persons(tmp_path: Path) -> None:
    """Oracle: what a person brings arrives as it was."""
    corpus = read(
        tmp_path,
        turn("1", embedding=[3, 4.5], signals={"surprise": 0.5}),
        turn("2", embedding=[0, 1], person="Ann"),
        turn("3", embedding=[0, 1], person="Bob"),
        turn("4", text="", caption="a cat", embedding=[1, 1]),
    )
    (c,) = corpus.conversations
    assert c.person == "Ann"
    assert c.turns[0].signals == {"surprise": 0.5}
    assert c.turns[0].embedding is not None
    np.testing.assert_array_equal(c.turns[0].embedding, [3, 4.5])
    assert corpus.truth == "callback"
    assert corpus.report.repaired == {"second person of a conversation": 1}
    assert len(c.turns) == 4


BAD: list[tuple[str | dict[str, Any], str, str]] = [
    ('{"conversation": "c1", "tu', "line not JSON", "not JSON"),
    ("[" * 100_000, "line not JSON", "nested too deeply"),
    ('["c1"]', "line not an object", "a list came"),
    ({"conversation": "c1", "trun": "9", "text": "x"}, "neither turn nor query", "mean 'turn'"),
    (turn("9", query="9"), "both turn and query", "allowed: one of them"),
    (turn("9", text=None), "wrong type", "'text' is null; allowed: text in quotes"),
    (turn("9", text=" "), "empty text", "at least one character"),
    (turn(""), "empty id", "'turn' is empty"),
    ({"conversation": "c1", "turn": "9"}, "key missing", "'text' is missing"),
    (turn("9", conversation=3), "wrong type", "the number 3"),
    (turn("9", speaker=["A"]), "wrong type", "'speaker' is a list"),
    (turn("9", time="soon"), "unreadable time", "'time' is 'soon'; allowed: ISO 8601"),
    (turn("9", time=float("nan")), "unreadable time", "the number nan"),
    (turn("9", time=1683554160000), "unreadable time", "seconds since 1970"),
    (turn("9", time=True), "unreadable time", "true or false"),
    (turn("9", embedding=[1.0, float("nan")]), "embedding not finite", "the number nan"),
    (turn("9", embedding=[1.0, 10**400]), "embedding not finite", "finite numbers"),
    (turn("9", embedding=[1.0, 1e39]), "embedding not finite", "the number 1e+39"),
    (turn("9", embedding=[1.0, True]), "wrong type", "true or false"),
    (turn("9", embedding=[1.0, "2"]), "wrong type", "'embedding' holds text"),
    (turn("9", embedding=[]), "embedding not a list of numbers", "'embedding' is empty"),
    (turn("9", embedding="AAAA"), "embedding not a list of numbers", "'embedding' is text"),
    (turn("9", embedding=[0, 0.0]), "embedding of zeros", "zero throughout"),
    (turn("9", signals=[1]), "wrong type", "'signals' is a list"),
    (turn("9", signals={"m": float("-inf")}), "signal not finite", "signal 'm' is the number -inf"),
    (turn("9", signals={"surprise": 1e7}), "signal too large", "numbers within ±1,000,000"),
    (turn("1"), "duplicate turn id", "came on line 1"),
    (query("9", evidence=["7"]), "unknown evidence id", "'7' is no usable turn"),
    (query("9", evidence=[]), "evidence not a list of ids", "'evidence' is empty"),
    (query("9", evidence="1"), "evidence not a list of ids", "'evidence' is text"),
    (query("9", evidence=[1]), "evidence not a list of ids", "something else in it than text"),
    (query("9", time="2020-01-01"), "query before the first turn", "null for the end"),
    (query("q"), "duplicate query id", "came on line 3"),
    (query("9", evidence=None), "query without evidence", "others have it"),
    (query("9", conversation="empty"), "conversation without turns", "has no usable turn"),
]


@pytest.mark.parametrize(("bad", "kind", "reason"), BAD)
def test_each_bad_line_is_named_and_nothing_else_is_lost(
    tmp_path: Path, bad: str | dict[str, Any], kind: str, reason: str
) -> None:
    """Oracle: a good file with one bad line on line 4; the note names it, all else stays."""
    good = [turn("1", time="2021-01-01T00:00:00Z"), turn("2"), query("q")]
    corpus = read(tmp_path, *good, bad, turn("3"))
    (c,) = corpus.conversations
    assert [t.id for t in c.turns] == ["1", "2", "3"]
    assert [q.id for q in c.queries] == ["q"]
    assert corpus.report.dropped.get(kind) == 1
    notes = [note for note in corpus.report.notes if reason in note]
    assert len(notes) == 1
    assert "line 4" in notes[0] or "lines 4" in notes[0]
    assert all("said" not in note and "asked" not in note for note in corpus.report.notes)


def test_part_of_the_evidence_may_be_unknown(tmp_path: Path) -> None:
    """Oracle: the id of no turn is dropped, the question stays with the other."""
    corpus = read(tmp_path, turn("1"), turn("2"), query("q", evidence=["7", "1", "1"]))
    assert corpus.conversations[0].queries[0].evidence == ("1",)
    assert corpus.report.dropped == {"unknown evidence id": 1}


def test_queries_without_evidence_leave_callback_truth(tmp_path: Path) -> None:
    """Oracle: no line names evidence, so the query lines have no effect and are counted."""
    corpus = read(tmp_path, turn("1"), query("q", evidence=None))
    assert corpus.truth == "callback"
    assert corpus.conversations[0].queries == ()
    assert corpus.report.dropped == {"query without evidence": 1}


@pytest.mark.parametrize(
    "stray", [["nowhere"], ["1", "2"]], ids=["no such turn", "all that was said"]
)
def test_a_stray_query_leaves_callback_truth(tmp_path: Path, stray: list[str]) -> None:
    """Oracle: evidence that tells nothing apart decides nothing; the line is named and counted."""
    corpus = read(tmp_path, turn("1"), turn("2"), query("q", evidence=stray))
    assert corpus.truth == "callback"
    assert corpus.conversations[0].queries == ()
    assert sum(corpus.report.dropped.values()) >= 1
    assert all("line 3" in note for note in corpus.report.notes)


def test_evidence_counts_where_a_person_said_it(tmp_path: Path) -> None:
    """Oracle: all of its own conversation, but not all of the person's history."""
    lines = [
        {"conversation": "c0", "turn": "1", "text": "before", "time": 1, "person": "p"},
        turn("1", time=9, person="p"),
        query("q", person="p"),
    ]
    assert read(tmp_path, *lines).truth == "evidence"


def test_signals_without_effect_are_named_with_the_nearest(tmp_path: Path) -> None:
    """Oracle: a slip and a signal that belongs to a query as well; the line stays."""
    corpus = read(tmp_path, turn("1", signals={"suprise": 0.5, "relevance": 1, "length": 2}))
    assert corpus.conversations[0].turns[0].signals == {"length": 2.0}
    assert corpus.report.repaired == {"signal without effect": 2}
    assert corpus.report.notes[0].startswith(
        "repaired: line 1: signal 'suprise' ignored; did you mean 'surprise'?; allowed: surprise,"
    )


def test_the_signals_with_effect_are_those_that_are_applied() -> None:
    """Identity: what a memory replaces, which equals what a study replaces (tests of recall)."""
    assert set(TURN_SIGNALS) == {*OF_TURN, *MEASURES}


def test_one_of_a_thing_is_no_plural(tmp_path: Path) -> None:
    """Oracle: the sentence of the report."""
    corpus = read(tmp_path, turn("1"))
    assert corpus.description.startswith("Your own data: 1 conversation with 1 turn;")


def test_times_that_go_backwards_are_sorted(tmp_path: Path) -> None:
    """Oracle: a turn without a time stays behind the one it followed."""
    corpus = read(tmp_path, turn("1", time=20), turn("2"), turn("3", time=10), turn("4", time=20))
    assert [t.id for t in corpus.conversations[0].turns] == ["3", "1", "2", "4"]
    assert corpus.report.repaired == {"time going backwards": 1}
    assert corpus.report.notes[0].startswith("repaired: line 3")


def test_unknown_keys_are_named_with_the_nearest(tmp_path: Path) -> None:
    """Oracle: the key has no effect, the line stays."""
    corpus = read(tmp_path, turn("1", speeker="A"), query("q", caption="none here"))
    assert corpus.report.repaired == {"unknown key": 2}
    assert "did you mean 'speaker'" in corpus.report.notes[0]


def test_vectors_of_another_length_drop_their_lines(tmp_path: Path) -> None:
    """Oracle: the most frequent length stays, wherever the odd one stands."""
    corpus = read(
        tmp_path, turn("1", embedding=[1]), *(turn(n, embedding=[1, 2]) for n in ("2", "3"))
    )
    assert [t.id for t in corpus.conversations[0].turns] == ["2", "3"]
    assert corpus.report.dropped == {"embedding of another length": 1}


def test_a_line_without_vector_turns_all_off(tmp_path: Path) -> None:
    """Oracle: no turn is lost, no vector is used, and the note says what to do."""
    lines = [turn("1", embedding=[1]), turn("2", embedding=[1, 2]), turn("3")]
    corpus = read(tmp_path, *lines, query("q", embedding=[1]))
    (c,) = corpus.conversations
    assert [t.embedding for t in c.turns] == [None] * 3
    assert c.queries[0].embedding is None
    assert corpus.report.dropped == {"ready embeddings ignored": 1}
    assert "line 3" in corpus.report.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """Identity: the same turns from UTF-8 with a mark and from UTF-16 with one."""
    mark = "\N{BOM}" if encoding in ("utf-16-le", "utf-16-be") else ""
    path = tmp_path / "own.jsonl"
    line = json.dumps(turn("1", text="Grüße 😀"), ensure_ascii=False)
    path.write_text(f"{mark}{line}\r\n", encoding=encoding, newline="")
    corpus = load_jsonl(path)
    assert corpus.conversations[0].turns[0].text == "Grüße 😀"
    assert corpus.report.repaired == ({"UTF-16 file": 1} if "16" in encoding else {})


def test_bytes_that_do_not_decode_drop_one_line(tmp_path: Path) -> None:
    """Oracle: Latin-1 on line 2, half a surrogate pair on line 3."""
    lines = [json.dumps(turn("1")), '{"conversation": "c1", "turn": "2", "text": "é"}']
    raw = "\n".join([*lines, json.dumps(turn("3", text="\ud83d"))]).encode("latin-1")
    path = tmp_path / "own.jsonl"
    path.write_bytes(raw)
    corpus = load_jsonl(path)
    assert [(t.id, t.text) for t in corpus.conversations[0].turns] == [("1", "said"), ("3", "�")]
    assert corpus.report.dropped == {"line not UTF-8": 1}
    assert corpus.report.notes[0].startswith("dropped: line 2: byte 46")


def test_nothing_usable_is_one_line_with_the_first_notes(tmp_path: Path) -> None:
    """Oracle: three of four notes, and no line break."""
    with pytest.raises(LerayError) as caught:
        read(tmp_path, "{", "[]", query("q"), "}")
    message = str(caught.value)
    assert message.count("dropped:") == 3
    assert "\n" not in message
    with pytest.raises(LerayError, match="it is empty"):
        read(tmp_path, "")


GOOD = [
    turn(str(i), conversation=f"c{i % 2}", time=1000.0 + i, embedding=[1.0, i], speaker="A")
    for i in range(6)
] + [query("q", conversation="c0", evidence=["0", "2"], embedding=[1.0, 0.5])]
JUNK = st.one_of(
    *(st.none(), st.booleans(), st.floats(), st.integers(), st.text()),
    st.lists(st.floats(), max_size=3),
)


@st.composite
def mutilations(draw: st.DrawFn) -> tuple[int, bytes]:
    """The index of a line and what stands in its place."""
    index = draw(st.integers(0, len(GOOD) - 1))
    raw = json.dumps(GOOD[index]).encode()
    how = draw(st.sampled_from(["cut", "bytes", "insert", "key", "value"]))
    if how == "cut":
        return index, raw[: draw(st.integers(0, len(raw) - 1))]
    if how == "bytes":
        return index, draw(st.binary(max_size=40))
    if how == "insert":
        at = draw(st.integers(0, len(raw)))
        return index, raw[:at] + draw(st.binary(min_size=1, max_size=4)) + raw[at:]
    record = dict(GOOD[index])
    key = draw(st.sampled_from(sorted(record)))
    if how == "key":
        record[draw(st.text(max_size=8))] = record.pop(key)
    else:
        record[key] = draw(JUNK)
    return index, json.dumps(record).encode()


@settings(max_examples=80, deadline=None)
@given(mutilation=mutilations())
def test_mutilation_loses_no_other_line(mutilation: tuple[int, bytes]) -> None:
    """Identity: whatever becomes of one line, the turns of all other lines are there."""
    index, damaged = mutilation
    raw = [json.dumps(record).encode() for record in GOOD]
    raw[index] = damaged
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.jsonl"
        path.write_bytes(b"\n".join(raw))
        corpus = load_jsonl(path)
    found = {(c.id, t.id) for c in corpus.conversations for t in c.turns}
    others = [r for i, r in enumerate(GOOD) if i != index and "turn" in r]
    assert {(r["conversation"], r["turn"]) for r in others} <= found
    for c in corpus.conversations:
        times = [t.time for t in c.turns if t.time is not None]
        assert times == sorted(times)
        assert all(set(q.evidence or ()) <= {t.id for t in c.turns} for q in c.queries)


@settings(max_examples=80, deadline=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_at_all_are_an_error_in_one_line(raw: bytes) -> None:
    """Identity: bytes that are no such file raise ``LerayError`` and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.jsonl"
        path.write_bytes(raw)
        with pytest.raises(LerayError) as caught:
            load_jsonl(path)
    assert "\n" not in str(caught.value)

"""Truth and its leaks: what is relevant, what is masked, what is compared, what is seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.memory.conversations import Conversation, Query, Turn, histories
from leray.memory.labels import (
    MIN_GAP,
    RARE_SHARE,
    Asked,
    callback_asks,
    document_frequency,
    evidence_asks,
    mask,
    num_reaching_back,
    words,
)

COMMON = ["well", "yes", "okay", "nice"]
RARE = ["zebra", "Quartz", "o'clock", "yacht", "FJORD"]
SIZE = 1_000  # conversations in the collection: rare words may occur in 5 of them
FREQUENCY = dict.fromkeys(COMMON, 900) | {w.lower(): 5 for w in RARE}


def conversation(
    texts: list[str],
    *,
    id: str = "c",
    times: list[float | None] | None = None,
    queries: tuple[Query, ...] = (),
    person: str | None = None,
) -> Conversation:
    when = times or [float(60 * k) for k in range(len(texts))]
    turns = tuple(
        Turn(id=f"t{k}", speaker="Ann", text=text, time=time)
        for k, (text, time) in enumerate(zip(texts, when, strict=True))
    )
    return Conversation(id=id, turns=turns, queries=queries, person=person)


def callback(texts: list[str]) -> Asked:
    ((history, _),) = histories([conversation(texts)])
    return callback_asks(history, FREQUENCY, SIZE)


def sources(texts: list[str]) -> dict[str, int]:
    """Where each rare word stands first, by a loop."""
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        for w in words(text):
            if FREQUENCY.get(w, 0) <= RARE_SHARE * SIZE:
                first.setdefault(w, i)
    return first


chats = st.lists(
    st.lists(st.sampled_from(COMMON + RARE), min_size=1, max_size=3).map(" ".join),
    min_size=1,
    max_size=40,
)


@given(texts=chats)
def test_callbacks_are_later_uses_of_rare_words(texts: list[str]) -> None:
    """Oracle: by a loop over messages: sources more than ten turns back are relevant, no other."""
    first, asked = sources(texts), callback(texts)
    expected = {}
    for i, text in enumerate(texts):
        # A word said first in this very turn is no callback.
        relevant = {first[w] for w in words(text) if w in first and i - first[w] > MIN_GAP}
        if relevant:
            expected[i] = relevant
    found = {int(a.query.id[1:]): set(a.candidates[a.relevant]) for a in asked.asks}
    assert found == {i: r for i, r in expected.items() if i in found}
    assert len(expected) - len(found) == asked.dropped.total()


@given(texts=chats)
def test_no_word_taken_up_is_left_in_the_query(texts: list[str]) -> None:
    """Identity: the label does not leak through the query, in any case of letters."""
    first = sources(texts)
    for ask in callback(texts).asks:
        i = int(ask.query.id[1:])
        taken = {w for w in words(texts[i]) if w in first and i - first[w] > MIN_GAP}
        assert taken
        assert not taken & set(words(ask.query.text))
        kept = [w for w in words(f"Ann: {texts[i]}") if w not in taken]
        assert words(ask.query.text) == kept


@given(texts=chats)
def test_no_rare_first_word_is_left_in_the_turn_alone(texts: list[str]) -> None:
    """Identity: neither does it leak through signals of the turn alone; other turns stay whole."""
    first, asked = sources(texts), callback(texts)
    for i, (text, alone) in enumerate(zip(texts, asked.alone, strict=True)):
        own = {w for w, k in first.items() if k == i} | {"ann"} & set(first)
        if alone is None:
            assert not {w for w, k in first.items() if k == i}
        else:
            assert not own & set(words(alone))
            assert words(alone) == [w for w in words(f"Ann: {text}") if w not in own]


@given(texts=chats)
def test_candidates_are_matched_and_more_than_ten_back(texts: list[str]) -> None:
    """Identity: every candidate says first as many rare words as some relevant one, and all do."""
    firsts = Counter(sources(texts).values())
    for ask in callback(texts).asks:
        i = int(ask.query.id[1:])
        wanted = {firsts[k] for k in ask.candidates[ask.relevant]}
        assert ask.candidates.tolist() == [
            k for k in range(max(0, i - MIN_GAP)) if firsts[k] in wanted
        ]
        assert ask.relevant.any()
        assert not ask.relevant.all()
        assert ask.time == 60.0 * i


@pytest.mark.parametrize(("gap", "found"), [(MIN_GAP, 0), (MIN_GAP + 1, 1)])
def test_ten_turns_back_is_too_near(gap: int, found: int) -> None:
    """Oracle, by hand: a word first said in turn 1, taken up ``gap`` turns later."""
    texts = ["fjord", "zebra", *["well"] * (gap - 1), "zebra"]
    asked = callback(texts)
    assert len(asked.asks) == found
    for ask in asked.asks:
        assert ask.candidates.tolist() == [0, 1]
        assert ask.relevant.tolist() == [False, True]
        assert ask.query.text == "Ann:"


def test_a_source_that_nothing_is_like_is_dropped_and_counted() -> None:
    """Golden: with no other candidate there is nothing to rank."""
    asked = callback(["zebra", *["well"] * 12, "zebra"])
    assert asked.asks == []
    assert asked.dropped == {"message with no turn to tell its source from": 1}


@pytest.mark.parametrize(("count", "found"), [(5, 1), (6, 0)])
def test_rare_is_at_most_one_in_two_hundred_conversations(count: int, found: int) -> None:
    """Oracle, by hand: 5 of 1,000 is rare, 6 is not."""
    ((history, _),) = histories([conversation(["fjord", "zebra", *["well"] * 12, "zebra"])])
    frequency = {"well": 900, "fjord": 1, "zebra": count}
    assert len(callback_asks(history, frequency, SIZE).asks) == found


def test_words_are_counted_once_a_conversation() -> None:
    """Oracle, by hand."""
    c, d = conversation(["Dog dog", "dog!"]), conversation(["cat and dog"], id="d")
    assert document_frequency([c, d]) == {"dog": 2, "cat": 1, "and": 1}


@given(
    text=st.text(max_size=40),
    hidden=st.sets(st.sampled_from(["dog", "o'clock", "été"]), max_size=2),
)
def test_masking_twice_is_masking_once(text: str, hidden: set[str]) -> None:
    """Identity: and no hidden word is left, and a text without one is returned as it was."""
    once = mask(text, hidden)
    assert mask(once, hidden) == once
    assert not hidden & set(words(once))
    if not hidden & set(words(text)):
        assert once == text


def test_masking_hides_whole_words_in_any_case() -> None:
    """Oracle, by hand: inside another word it stays."""
    assert mask("Dog, DOGS and a dog's Dog!", {"dog"}) == ", DOGS and a dog's !"


def test_evidence_sees_no_turn_after_the_query() -> None:
    """Oracle, by hand: turns at 0, 60, …, 300 s; asked at 120 s, exactly then, and at the end."""
    queries = (
        Query(id="q0", text="?", time=120.0, evidence=("t1", "t5")),
        Query(id="q1", text="?", time=119.9, evidence=("t1", "t5")),
        Query(id="q2", text="?", time=None, evidence=("t1", "t5")),
    )
    ((history, members),) = histories([conversation(["a"] * 6, queries=queries)])
    asks = evidence_asks(history, members).asks
    assert [a.candidates.tolist() for a in asks] == [[0, 1, 2], [0, 1], [0, 1, 2, 3, 4, 5]]
    assert [np.flatnonzero(a.relevant).tolist() for a in asks] == [[1], [1], [1, 5]]
    assert [a.time for a in asks] == [120.0, 119.9, 300.0]
    assert [a.cluster for a in asks] == ["c", "c", "c"]


@given(
    when=st.lists(st.floats(0, 400), min_size=1, max_size=4),
    evidence=st.sets(st.integers(0, 7), max_size=5),
)
def test_evidence_never_reaches_beyond_the_time_of_asking(
    when: list[float], evidence: set[int]
) -> None:
    """Identity: candidates are all turns up to the query's time; the dropped are counted."""
    marked = tuple(f"t{k}" for k in sorted(evidence))  # t6 and t7 do not exist
    queries = tuple(
        Query(id=f"q{k}", text="?", time=t, evidence=marked) for k, t in enumerate(when)
    )
    ((history, members),) = histories([conversation(["a"] * 6, queries=queries)])
    asked = evidence_asks(history, members)
    for ask in asked.asks:
        assert (history.times[ask.candidates] <= ask.time).all()
        assert len(ask.candidates) == sum(60.0 * k <= ask.time for k in range(6))
        assert set(ask.candidates[ask.relevant]) == {
            k for k in evidence if 60.0 * k <= ask.time and k < 6
        }
    assert len(asked.asks) + asked.dropped.total() == len(queries)


def test_a_query_without_usable_evidence_is_dropped_by_kind() -> None:
    """Golden: nothing marked before it, only marked turns before it, and before the first turn."""
    queries = (
        Query(id="q0", text="?", evidence=("t9",)),
        Query(id="q1", text="?", evidence=("t0", "t1")),
        Query(id="q2", text="?", time=-5.0, evidence=("t0",)),
    )
    ((history, members),) = histories([conversation(["a", "b"], queries=queries)])
    asked = evidence_asks(history, members)
    assert asked.asks == []
    assert asked.dropped.total() == 3
    assert asked.dropped["query with no evidence before it"] >= 1
    assert asked.dropped["query with only evidence before it"] >= 1


def test_a_persons_conversations_are_one_history_in_the_order_of_time() -> None:
    """Oracle, by hand: queries look back on earlier conversations, in their own cluster."""
    asks = (Query(id="q", text="?", evidence=("t0",)),)
    late = conversation(["a", "b"], id="late", times=[100.0, 110.0], person="p", queries=asks)
    early = conversation(
        ["c", "d", "e"], id="early", times=[1.0, 2.0, 3.0], person="p", queries=asks
    )
    other = conversation(["f", "g"], id="other", queries=asks)
    joined = histories([late, other, early])
    assert [h.id for h, _ in joined] == ["p", "other"]
    history, members = joined[0]
    assert history.conversations == ("early", "late")
    assert [t.text for t in history.turns] == list("cdeab")
    assert history.conversation.tolist() == [0, 0, 0, 1, 1]
    first, second = evidence_asks(history, members).asks
    assert (first.cluster, first.candidates.tolist()) == ("early", [0, 1, 2])
    assert np.flatnonzero(first.relevant).tolist() == [0]
    # Its own t0, not that of the earlier conversation.
    assert (second.cluster, second.candidates.tolist()) == ("late", [0, 1, 2, 3, 4])
    assert np.flatnonzero(second.relevant).tolist() == [3]


def test_callbacks_reach_into_a_persons_earlier_conversations() -> None:
    """Oracle, by hand: said first in one conversation, taken up in the next."""
    early = conversation(["fjord", "zebra", *["well"] * 10], id="early", person="p")
    late = conversation(["well", "zebra"], id="late", times=[9_000.0, 9_060.0], person="p")
    ((history, _),) = histories([early, late])
    (ask,) = callback_asks(history, FREQUENCY, SIZE).asks
    assert ask.cluster == "late"
    assert ask.candidates[ask.relevant].tolist() == [1]
    assert ask.time == 9_060.0


def test_a_person_and_a_conversation_of_one_name_stay_apart() -> None:
    """Identity: a conversation that stands alone is not joined to a person named like it."""
    joined = histories([conversation(["a"], id="x"), conversation(["b"], id="y", person="x")])
    assert [len(h.turns) for h, _ in joined] == [1, 1]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([None, None, None], [0, 0, 0]),
        ([5.0, None, 7.0], [5, 5, 7]),
        ([None, 5.0, None], [5, 5, 5]),
    ],
)
def test_a_missing_time_is_the_last_one_known(
    times: list[float | None], expected: list[float]
) -> None:
    """Oracle, by hand; before the first known time it is that one; without any, zero."""
    ((history, _),) = histories([conversation(["a"] * 3, times=times)])
    np.testing.assert_array_equal(history.times, expected)


def overlapping() -> list[Conversation]:
    """Conversation A at 0, 10, …, 100 s; B of the same person at 50, …, 60 s, and a timeless C."""
    long = conversation(["a"] * 11, id="A", times=[10.0 * k for k in range(11)], person="p")
    asks = (
        Query(id="q", text="?", time=55.5, evidence=("t5",)),
        Query(id="end", text="?", evidence=("t5",)),
    )
    short = conversation(
        ["b"] * 11, id="B", times=[50.0 + k for k in range(11)], person="p", queries=asks
    )
    untimed = conversation(["c"] * 2, id="C", times=[None, None], person="p")
    return [long, short, untimed]


def test_overlapping_conversations_leak_no_future() -> None:
    """Oracle, by hand: asked at 55.5, what was said by then in either conversation, no more."""
    ((history, members),) = histories(overlapping())
    assert history.conversations == ("A", "B", "C")
    assert (np.diff(history.times) >= 0).all()
    known = [
        (history.conversations[c], t.id)
        for c, t in zip(history.conversation, history.turns, strict=True)
    ]
    assert known[5:8] == [("A", "t5"), ("B", "t0"), ("B", "t1")]
    assert known[-2:] == [("C", "t0"), ("C", "t1")]
    asked, at_end = evidence_asks(history, members).asks
    assert [known[i] for i in asked.candidates] == [
        *(("A", f"t{k}") for k in range(6)),
        *(("B", f"t{k}") for k in range(6)),
    ]
    assert [known[i] for i in asked.candidates[asked.relevant]] == [("B", "t5")]
    # Asked at the end of B: all of B, and of A what was said by 60 s.
    assert {known[i] for i in at_end.candidates} == {
        *(("A", f"t{k}") for k in range(7)),
        *(("B", f"t{k}") for k in range(11)),
    }
    assert at_end.time == 60.0


@given(
    starts=st.lists(st.integers(0, 20), min_size=2, max_size=4),
    gaps=st.lists(st.none() | st.integers(0, 9), min_size=5, max_size=5),
    when=st.floats(0, 80),
)
def test_no_query_sees_what_was_said_later(
    starts: list[int], gaps: list[int | None], when: float
) -> None:
    """Identity: with overlaps and missing times; each conversation keeps its own order."""
    some = []
    for c, start in enumerate(starts):
        time, times = float(start), []
        for gap in gaps:
            time += gap or 0
            times.append(None if gap is None else time)
        asks = (Query(id="q", text="?", time=when, evidence=("t0",)),)
        some.append(conversation(["a"] * 5, id=f"c{c}", times=times, person="p", queries=asks))
    ((history, members),) = histories(some)
    assert (np.diff(history.times) >= 0).all()
    for k in range(len(some)):
        own = [t.id for t, c in zip(history.turns, history.conversation, strict=True) if c == k]
        assert own == [f"t{i}" for i in range(5)]
    for ask in evidence_asks(history, members).asks:
        seen = set(ask.candidates.tolist())
        for i, turn in enumerate(history.turns):
            if turn.time is not None:
                assert (i in seen) == (turn.time <= when)


def test_callbacks_of_overlapping_conversations_look_back_in_time() -> None:
    """Oracle, by hand: said first at 5 s in B, again at 100 s in A, though A began before B."""
    first = conversation(
        ["well"] * 3 + ["zebra"], id="A", times=[0.0, 1.0, 99.0, 100.0], person="p"
    )
    times: list[float | None] = [4.0, 5.0, *(10.0 + k for k in range(12)), 200.0]
    second = conversation(
        ["fjord", "zebra", *["well"] * 12, "fjord"], id="B", times=times, person="p"
    )
    ((history, _),) = histories([first, second])
    asked = callback_asks(history, FREQUENCY, SIZE)
    assert [(a.cluster, a.time) for a in asked.asks] == [("A", 100.0), ("B", 200.0)]
    for ask in asked.asks:
        assert (history.times[ask.candidates] < ask.time).all()
    assert [history.turns[int(a.candidates[a.relevant][0])].text for a in asked.asks] == [
        "zebra", "fjord"
    ]  # fmt: skip
    assert num_reaching_back(asked) == 1


def test_the_queries_of_a_conversation_stand_together() -> None:
    """Identity: where conversations alternate, each cluster is still one run of queries."""
    texts = ["fjord", "zebra", *["well"] * 12, "fjord", "zebra", "fjord"]
    many = [
        conversation(texts, id=f"c{k}", times=[2.0 * i + k for i in range(len(texts))], person="p")
        for k in range(2)
    ]
    ((history, _),) = histories(many)
    clusters = [a.cluster for a in callback_asks(history, FREQUENCY, SIZE).asks]
    assert len(set(clusters)) == 2
    assert clusters == sorted(clusters)


def test_histories_never_share_an_id() -> None:
    """Identity: a person called like a conversation, or like the name made for one."""
    some = [
        conversation(["a"], id="x"),
        conversation(["a"], id="person x"),
        conversation(["b"], id="y", person="x"),
        conversation(["c"], id="z", person="conversation x"),
    ]
    ids = [h.id for h, _ in histories(some)]
    assert ids == ["x", "person x", "person person x", "conversation x"]

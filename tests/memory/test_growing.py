"""A history that grows: its signals are those of the same history taken at once."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leray.memory import signals
from leray.memory.conversations import History, Turn
from leray.memory.growing import GrowingHistory
from leray.memory.postings import Postings

WORDS = st.sampled_from(["lake", "summer", "dog", "pasta", "we", "the", "a", "Ann"])
TURNS = st.lists(st.lists(WORDS, max_size=6), min_size=1, max_size=12)


@given(turns=TURNS, query=st.lists(WORDS | st.just("unheard"), max_size=5))
def test_bm25_by_postings(turns: list[list[str]], query: list[str]) -> None:
    """Oracle: the sparse matrix that a study uses."""
    postings = Postings()
    for turn in turns:
        postings.add(turn)
    np.testing.assert_allclose(
        postings.bm25(query), signals.Bm25(turns).scores([query])[0], rtol=1e-12, atol=1e-15
    )


@given(turns=TURNS.filter(any), more=TURNS)
def test_surprisal_by_postings(turns: list[list[str]], more: list[list[str]]) -> None:
    """Oracle: the definition, before and after the counts have grown."""
    postings = Postings()
    for some in (turns, turns + more):
        for turn in some[len(postings) :]:
            postings.add(turn)
        counts = Counter(w for t in some for w in t)
        want = signals.surprisal(some, counts, counts.total())
        np.testing.assert_allclose(postings.surprisal(), want, rtol=1e-9, atol=1e-9)


@given(
    times=st.lists(
        st.none() | st.sampled_from([0.0, 60.0, 1860.0, 9000.0]), min_size=1, max_size=9
    ),
    breaks=st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_times_and_sessions(times: list[float | None], breaks: list[bool]) -> None:
    """Identity: the times of a `History`, and the sessions that follow from them."""
    turns = tuple(Turn(id=str(i), speaker="A", text="x", time=t) for i, t in enumerate(times))
    place = np.cumsum(breaks[: len(turns)])
    grown = GrowingHistory()
    for turn, k in zip(turns, place, strict=True):
        grown.append(turn, str(k))
    names = tuple(str(k) for k in range(place[-1] + 1))
    whole = History(id="h", turns=turns, conversation=place, conversations=names)
    np.testing.assert_array_equal(grown.times, whole.times)
    np.testing.assert_array_equal(
        grown.of_turn("session"), signals.session_position(whole.times, place)
    )

"""Keys: one stream for each name, and never one stream for two names."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leray.runs import Key

NAMES = st.lists(st.integers() | st.text("ab1i-é"), max_size=4)


def follow(names: list[int | str]) -> Key:
    key = Key.root(7)
    for name in names:
        key = key.child(name)
    return key


def test_no_collisions_among_a_hundred_thousand_names() -> None:
    """Identity: different paths, different digests."""
    paths = itertools.product([7], ["a", "ab", "1", 1, ""], range(20), range(1000))
    assert len({Key(path).digest() for path in paths}) == 100_000


@given(NAMES, NAMES)
def test_digests_are_equal_exactly_when_paths_are(one: list, other: list) -> None:
    """Identity: the digest is injective on paths, type of name and place of cuts included."""
    same = list(map(repr, one)) == list(map(repr, other))
    assert (follow(one).digest() == follow(other).digest()) == same


def test_cuts_and_types_matter() -> None:
    """Identity: ("a", "bc") is not ("ab", "c"), and 1 is not "1"."""
    assert follow(["a", "bc"]).digest() != follow(["ab", "c"]).digest()
    assert follow([1]).digest() != follow(["1"]).digest()
    assert Key.root(1).digest() != Key.root(-1).digest()


def test_a_stream_starts_again_and_differs_from_its_neighbours() -> None:
    """Identity: the same key, the same draws; another key, other draws."""
    key = Key.root(7).child("bootstrap").child(3)
    np.testing.assert_array_equal(key.generator().random(8), key.generator().random(8))
    assert not np.any(key.generator().random(8) == key.child(0).generator().random(8))


def test_streams_of_neighbours_are_independent() -> None:
    """Statistical: first draws over 5,000 steps are uniform and uncorrelated with the next step's.

    Tolerance: Kolmogorov–Smirnov p > 1e-4; the correlation within 4.5 standard errors, 1/√n.
    """
    root = Key.root(7).child("steps")
    first = np.array([root.child(step).generator().random() for step in range(5_000)])
    assert stats.kstest(first, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4.5 / np.sqrt(len(first))


def test_the_stream_is_the_published_one() -> None:
    """Golden run: the first draw of a key, so that a change of the derivation is noticed."""
    assert Key.root(7).child("bootstrap").child(0).digest().hex()[:16] == "7af3a38cbd97d30b"

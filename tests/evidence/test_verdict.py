"""From interval to verdict: a partition, monotone, and honest about what it would take."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leray.evidence.bootstrap import Interval
from leray.evidence.verdict import Claim, decide, judge, not_judged, num_needed

DIRECTIONS = ("greater", "less", "within")
GRID = [k / 4 for k in range(-4, 5)]  # exact in binary, so that ends meet edges

directions = st.sampled_from(DIRECTIONS)
quarters = st.sampled_from(GRID)
margins = st.sampled_from([0.0, 0.25, 0.5])
ends = st.tuples(quarters, quarters).map(sorted)


def claim(direction: str = "greater", null: float = 0.0, margin: float = 0.25) -> Claim:
    return Claim(
        id="X1",
        statement="it is so",
        source="a test",
        estimand="a number",
        direction=direction,  # pyright: ignore[reportArgumentType]
        null=null,
        margin=margin,
        level=0.95,
    )


def interval(
    estimate: float, low: float, high: float, n: int = 20, level: float = 0.95
) -> Interval:
    return Interval(estimate=estimate, low=low, high=high, level=level, kind="test", n=n)


def true_at(c: Claim, theta: float) -> bool:
    """The claim as its definition has it."""
    if c.direction == "greater":
        return theta >= c.null + c.margin
    if c.direction == "less":
        return theta <= c.null - c.margin
    return abs(theta - c.null) <= c.margin


@given(direction=directions, null=quarters, margin=margins, between=ends)
def test_a_verdict_says_where_all_of_the_interval_lies(
    direction: str, null: float, margin: float, between: list[float]
) -> None:
    """Oracle: the claim at every eighth in the interval: true of all, of none, or of some.

    Every edge of every region is a quarter, so eighths meet each open piece and each edge.
    """
    c, (low, high) = claim(direction, null, margin), between
    points = [k / 8 for k in range(math.floor(low * 8), math.ceil(high * 8) + 1)]
    truth = {true_at(c, theta) for theta in points}
    expected = {frozenset({True}): "supported", frozenset({False}): "refuted"}
    assert decide(c, low, high) == expected.get(frozenset(truth), "undecided")


@given(direction=directions, null=quarters, margin=margins, outer=ends, inner=ends)
def test_a_smaller_interval_never_takes_a_decision_back(
    direction: str, null: float, margin: float, outer: list[float], inner: list[float]
) -> None:
    """Identity: inside an interval that decides, every interval decides the same."""
    assume(outer[0] <= inner[0] and inner[1] <= outer[1])
    c = claim(direction, null, margin)
    before = decide(c, *outer)
    assert before == "undecided" or decide(c, *inner) == before


@given(null=quarters, margin=margins, between=ends)
def test_greater_and_less_are_mirror_images(
    null: float, margin: float, between: list[float]
) -> None:
    """Identity: changing every sign changes the direction and nothing else."""
    low, high = between
    mirrored = decide(claim("less", -null, margin), -high, -low)
    assert decide(claim("greater", null, margin), low, high) == mirrored


def test_an_endless_interval_can_decide_on_one_side_only() -> None:
    """Identity: one-sided bounds."""
    assert decide(claim("greater"), 0.3, math.inf) == "supported"
    assert decide(claim("greater"), -math.inf, 0.2) == "refuted"
    assert decide(claim("within"), 0.3, math.inf) == "refuted"
    assert decide(claim("within"), 0.0, math.inf) == "undecided"


@pytest.mark.parametrize("bad", [(math.nan, 1.0), (0.0, math.nan), (1.0, 0.0)])
def test_what_is_no_interval_is_refused(bad: tuple[float, float]) -> None:
    """Golden: NaN, and ends in the wrong order."""
    with pytest.raises(ValueError, match="not an interval"):
        decide(claim(), *bad)


@given(
    direction=directions,
    null=quarters,
    margin=st.sampled_from([0.25, 0.5]),
    estimate=st.floats(-2, 2),
    reach=st.tuples(st.floats(0.01, 3), st.floats(0.01, 3)),
    n=st.integers(2, 500),
)
def test_as_many_clusters_as_needed_decide(
    direction: str, null: float, margin: float, estimate: float, reach: tuple[float, float], n: int
) -> None:
    """Identity: at n_needed the interval, shrunk by √(n/n_needed), decides; at half of it, not.

    The half is only asked of where n_needed is not the floor n + 1.
    """
    c = claim(direction, null, margin)
    before = interval(estimate, estimate - reach[0], estimate + reach[1], n)
    edges = [e for e in c.region if math.isfinite(e)]
    assume(min(abs(e - estimate) for e in edges) > 1e-6)
    assume(decide(c, before.low, before.high) == "undecided")
    needed = num_needed(c, before)
    assert needed is not None
    assert needed > n

    def at(m: float) -> str:
        # A hair narrower, since at exactly n_needed the end may stand on the edge.
        shrink = math.sqrt(n / m) * (1 - 1e-9)
        return decide(c, estimate - reach[0] * shrink, estimate + reach[1] * shrink)

    assert at(needed) != "undecided"
    if needed > n + 1:
        assert at(needed * 0.5) == "undecided"


def test_no_number_of_clusters_decides_on_the_edge() -> None:
    """Identity: an estimate on the margin stays there; an endless interval does not shrink."""
    assert num_needed(claim(), interval(0.25, 0.0, 0.5)) is None
    assert num_needed(claim(), interval(0.0, -1.0, math.inf)) is None


def test_an_endless_side_that_does_not_matter_is_no_obstacle() -> None:
    """Oracle, by hand: 20 · (.5/.25)² = 80; the upper side is away from the only edge."""
    assert num_needed(claim(), interval(0.5, 0.0, math.inf)) == 80


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "X2"),
        ("statement", "it is not so"),
        ("source", "another test"),
        ("estimand", "another number"),
        ("direction", "less"),
        ("null", 1e-12),
        ("margin", 0.25 + 1e-12),
        ("level", 0.9),
    ],
)
def test_a_claim_changed_afterwards_has_another_hash(field: str, value: object) -> None:
    """Identity: every field counts, by as little as a float can show."""
    before = claim()
    assert dataclasses.replace(before, **{field: value}).hash != before.hash  # pyright: ignore[reportArgumentType]
    assert dataclasses.replace(before).hash == before.hash


def test_every_field_of_a_claim_is_in_the_list_above() -> None:
    """Identity: a field added later must be hashed, and tested, too."""
    marks = test_a_claim_changed_afterwards_has_another_hash.pytestmark  # pyright: ignore[reportFunctionMemberAccess]
    assert {case[0] for case in marks[0].args[1]} == {f.name for f in dataclasses.fields(Claim)}


@pytest.mark.parametrize("bad", [{"margin": -0.1}, {"level": 0.0}, {"level": 1.0}])
def test_a_claim_without_meaning_is_refused(bad: dict[str, float]) -> None:
    """Golden: a negative margin, a level of 0 or 1."""
    with pytest.raises(ValueError, match="claim X1"):
        dataclasses.replace(claim(), **bad)  # pyright: ignore[reportArgumentType]


@given(direction=directions, between=ends, seen=st.booleans())
def test_a_verdict_is_complete_in_itself(direction: str, between: list[float], seen: bool) -> None:
    """Identity: the claim, the interval as it came, and n_needed only where undecided."""
    c, (low, high) = claim(direction), between
    given_interval = interval((low + high) / 2, low, high)
    v = judge(c, given_interval, data="some", seen=seen, method="by hand", p_value=0.5, note="!")
    assert v.verdict == decide(c, low, high)
    assert v.status == ("replication" if seen else "confirmatory")
    assert (v.claim, v.statement, v.claim_hash) == (c.id, c.statement, c.hash)
    assert (v.estimate, v.interval) == ((low + high) / 2, (low, high))
    assert (v.margin, v.null, v.level, v.interval_kind) == (c.margin, c.null, 0.95, "test")
    assert (v.n, v.p_value, v.note, v.method) == (20, 0.5, "!", "by hand")
    assert v.n_needed == (num_needed(c, given_interval) if v.verdict == "undecided" else None)


def test_an_interval_of_too_low_a_level_judges_nothing() -> None:
    """Golden: the claim's level is a promise."""
    with pytest.raises(ValueError, match=r"needs level 0.95, got 0.9"):
        judge(claim(), interval(1.0, 0.5, 2.0, level=0.9), data="", seen=True, method="")
    stricter = judge(claim(), interval(1.0, 0.5, 2.0, level=0.99), data="", seen=True, method="")
    assert (stricter.verdict, stricter.level) == ("supported", 0.99)


def test_a_claim_that_cannot_be_judged_is_undecided_and_says_why() -> None:
    """Golden: no estimate, no interval, the reason in the note."""
    v = not_judged(claim(), data="some", seen=False, n=1, why="one conversation only")
    assert (v.verdict, v.estimate, v.interval, v.n_needed) == ("undecided", None, None, None)
    assert (v.note, v.n, v.claim_hash) == ("one conversation only", 1, claim().hash)

"""`Memory`: what an assistant ranks with equals what a study fits."""

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.errors import LerayError
from leray.integrations import recall
from leray.integrations.recall import Memory
from leray.integrations.warm import WarmEmbedder
from leray.memory.blocks import ALL, FIVE, Embedded, block
from leray.memory.conversations import Conversation, Query, Turn, histories
from leray.memory.labels import Ask, Asked
from leray.memory.methods import linear
from leray.memory.weights import Embedder, LinearWeights

TAU = 3600.0
WORDS = ["lake", "summer", "dog", "pasta", "we", "the", "Ann", "really", "why?"]
NAMES = ["Ann", "Ben Lake", ""]


def embed(texts: Sequence[str]) -> np.ndarray:
    """A vector for each text, drawn from its hash around a common direction."""
    seeds = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") for t in texts]
    own = np.array([np.random.default_rng(s).standard_normal(6) for s in seeds])
    return (own + 1.0).astype(np.float32)


def weights(signals: Sequence[str] = ALL, *, seed: int = 0) -> LinearWeights:
    values = np.random.default_rng(seed).standard_normal(len(signals))
    return LinearWeights(method="logistic", signals=tuple(signals), values=values, tau=TAU)


TURN = st.fixed_dictionaries(
    {
        "speaker": st.sampled_from(NAMES),
        "text": st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
        "caption": st.none() | st.just("a small dog"),
        "step": st.sampled_from([None, 0.0, 90.0, 4000.0]),
        "signals": st.none()
        | st.sampled_from([{"surprise": 0.25}, {"length": 2.0, "surprisal": 3.0}]),
    }
)


# Plain values: the shape checker of the test run draws samples, which a strategy must not.
SPOKEN = st.lists(st.lists(TURN, min_size=1, max_size=7), min_size=1, max_size=3)


def conversations(spoken: list[list[dict[str, Any]]]) -> list[Conversation]:
    """The conversations of one person, in the order of time; a timeless one stands alone."""
    out, time = [], 0.0
    for k, said in enumerate(spoken):
        turns = []
        for i, fields in enumerate(said):
            step = fields["step"]
            time += step or 0.0
            rest = {name: value for name, value in fields.items() if name != "step"}
            turns.append(Turn(id=str(i), time=None if step is None else time, **rest))
        out.append(Conversation(id=f"c{k}", turns=tuple(turns), person="p"))
    return [c for c in out if any(t.time is not None for t in c.turns)] or out[:1]


def studied(given: list[Conversation], query: str, chosen: LinearWeights) -> np.ndarray:
    """The scores of all turns as a study computes them, for a query at the end."""
    history = histories(given)[0][0]
    n = len(history.turns)
    ask = Ask(
        query=Query(id="q", text=query),
        cluster="c0",
        candidates=np.arange(n),
        relevant=np.zeros(n, dtype=bool),
        time=float(history.times[-1]),
    )
    asked = Asked(history=history, asks=[ask], alone=[None] * n, dropped=Counter())
    rows = embed([t.spoken for t in history.turns])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    q = embed([query])
    vectors = Embedded(turns=unit, alone=unit, queries=q / np.linalg.norm(q))
    return linear(block(asked, vectors, (TAU,)), chosen.signals, chosen.values, TAU)


def remember(given: list[Conversation], chosen: LinearWeights) -> Memory:
    history = histories(given)[0][0]
    memory = Memory(chosen, embed=embed)
    memory.extend(history.turns, [history.conversations[k] for k in history.conversation])
    return memory


QUERY = st.lists(st.sampled_from([*WORDS, "unheard"]), min_size=1, max_size=5).map(" ".join)


@settings(deadline=None, max_examples=25)
@given(spoken=SPOKEN, query=QUERY, seed=st.integers(0, 99))
def test_scores_are_those_of_a_study(
    spoken: list[list[dict[str, Any]]], query: str, seed: int
) -> None:
    """Oracle: the block of a study, with all 18 signals."""
    chosen, said = weights(seed=seed), conversations(spoken)
    memory = remember(said, chosen)
    ranked = memory.rank(query, top=len(memory))
    want = studied(said, query, chosen)
    place = {id(t): i for i, t in enumerate(memory.turns)}
    found = np.array([r.score for r in ranked])
    np.testing.assert_allclose(found, want[[place[id(r.turn)] for r in ranked]], atol=1e-5)
    assert (np.diff(found) <= 1e-6).all()
    for r in ranked:
        assert sum(r.shares.values()) == pytest.approx(r.score, abs=1e-12)
        assert tuple(r.shares) == ALL


@settings(deadline=None, max_examples=25)
@given(spoken=SPOKEN, query=QUERY)
def test_one_by_one_is_the_same_as_at_once(spoken: list[list[dict[str, Any]]], query: str) -> None:
    """Identity: turns added one by one, with rankings in between, and all at once."""
    chosen, said = weights(), conversations(spoken)
    whole = remember(said, chosen)
    grown = Memory(chosen, embed=embed)
    history = histories(said)[0][0]
    for turn, k in zip(history.turns, history.conversation, strict=True):
        grown.add(turn, history.conversations[k])
        grown.rank(query, 1)
    one, other = (
        {(r.conversation, r.turn.id): r.score for r in m.rank(query, 99)} for m in (whole, grown)
    )
    assert one == pytest.approx(other, abs=1e-6)


def turns(n: int, **fields: Any) -> list[Turn]:
    rng = np.random.default_rng(n)
    said = rng.choice(WORDS, (n, 5))
    return [Turn(id=str(i), speaker="Ann", text=" ".join(w), **fields) for i, w in enumerate(said)]


def test_the_best_come_first_and_ties_as_they_were_said() -> None:
    """Oracle: a full stable sort."""
    memory = Memory(weights(["length"]), embed=embed)
    memory.extend(turns(50))
    memory.extend([Turn(id="long", speaker="", text="a b c d e f g")])
    sign = memory.weights.values[0]
    ids = [r.turn.id for r in memory.rank("x", 5)]
    assert ids == (["long", "0", "1", "2", "3"] if sign > 0 else ["0", "1", "2", "3", "4"])


def test_turns_said_after_the_query_are_left_out() -> None:
    """Identity: the same scores for what had been said, whatever form the time has."""
    memory = Memory(weights(["decay"]), embed=embed)
    memory.extend([Turn(id=str(i), speaker="", text="x", time=3600.0 * i) for i in range(5)])
    moment = datetime(1970, 1, 1, 2, tzinfo=UTC)
    forms = [7200, 7200.0, "1970-01-01T02:00:00", "1970-01-01T03:00+01:00", moment]
    for time in [*forms, moment.replace(tzinfo=None)]:
        ranked = memory.rank("x", 9, time=time)
        assert {r.turn.id for r in ranked} == {"0", "1", "2"}
        newest = next(r for r in ranked if r.turn.id == "2")
        assert newest.score == pytest.approx(memory.weights.values[0])
    later = memory.rank("x", 9, time=4 * 3600.0 + TAU)
    newest = next(r for r in later if r.turn.id == "4")
    assert newest.shares["decay"] == pytest.approx(memory.weights.values[0] * np.exp(-1))


def test_only_what_has_a_weight_is_computed() -> None:
    """Identity: without a weight on embeddings nothing is embedded."""

    def never(texts: Sequence[str]) -> np.ndarray:
        raise AssertionError(texts)

    memory = Memory(weights(["lexical", "named", "decay"]), embed=never)
    memory.extend(turns(3))
    assert len(memory.rank("lake")) == 3
    none = LinearWeights(method="m", signals=("relevance", "lexical"), values=np.array([0.0, 1.0]))
    silent = Memory(none, embed=never)
    silent.extend(turns(3))
    assert set(silent.rank("lake")[0].shares) == {"lexical"}


def test_an_empty_memory_has_nothing_to_say() -> None:
    """Identity: no turn, no answer; an empty extension changes nothing."""
    memory = Memory(weights(), embed=embed)
    memory.extend([])
    assert memory.rank("anything") == []
    assert len(memory) == 0


BROUGHT = {"embedding": np.ones(6)}


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.rank("x", 0), "top is 0; allowed: 1 and more"),
        (lambda m: m.rank("x", time="yesterday"), "time is 'yesterday'; allowed: ISO 8601"),
        (lambda m: m.rank("x", time=float("nan")), "time is nan; allowed"),
        (lambda m: m.rank("x", time=-1.0), "before the first turn"),
        (lambda m: m.rank("x", embedding=np.zeros(6)), "zero or not finite"),
        (
            lambda m: m.rank("x", embedding=np.ones(5)),
            "query's vector has 5 numbers, the turns' have 6",
        ),
        (lambda m: m.add(Turn(id="n", speaker="", text="x", time=np.inf)), "turn 'n': time inf"),
        (lambda m: m.extend(turns(1, **BROUGHT)), "some turns carry an embedding and some do not"),
        (lambda m: m.extend(turns(2), ["c"]), "2 turns need as many conversations, not 1"),
    ],
)
def test_what_cannot_be_used_is_named_and_changes_nothing(use, message: str) -> None:
    """Oracle: the line that the user reads."""
    memory = Memory(weights(), embed=embed)
    memory.extend(turns(4, time=0.0))
    with pytest.raises(LerayError, match=message):
        use(memory)
    assert len(memory) == len(memory.rank("x")) == 4


def test_ready_vectors_need_a_ready_query() -> None:
    """Oracle: nobody knows what made them, unless it is named."""
    memory = Memory(weights(["relevance"]))
    memory.extend(turns(3, **BROUGHT))
    with pytest.raises(LerayError, match="the turns carry their own embeddings"):
        memory.rank("x")
    share = memory.rank("x", embedding=np.ones(6))[0].shares["relevance"]
    assert share == pytest.approx(memory.weights.values[0], rel=1e-6)
    named = Memory(weights(["relevance"]), embed=embed)
    named.extend(turns(3, **BROUGHT))
    assert len(named.rank("x")) == 3


def test_embed_and_embedder_exclude_each_other() -> None:
    """Oracle: a setting without effect is an error."""
    with pytest.raises(LerayError, match="embed replaces the encoder"):
        Memory(weights(), embed=embed, device="cuda")
    with pytest.raises(LerayError, match="has no effect without a conversation"):
        Memory.load(weights(), history="c1")
    memory = Memory(weights(["lexical"]))
    memory.extend(turns(1))
    with pytest.raises(LerayError, match="relevance has no weight"):
        memory.rank("x", embedding=np.ones(6))


LINES = '{"conversation": "c1", "turn": "1", "text": "the lake"}\n'


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other", r"fitted with the embedder other, but mine is used here: fit them again"),
        ("mine", r"embedder mine, and the model of that name here has other files: fit"),
    ],
)
def test_another_embedder_is_warned_of(name: str, said: str) -> None:
    """Oracle: the line that the user reads, also where the names are the same."""

    class Used(WarmEmbedder):
        def __init__(self) -> None:
            pass

        def describe(self) -> Embedder:
            return Embedder(name="mine", fingerprint="a")

    fitted = replace(weights(), embedder=Embedder(name=name, fingerprint="b"))
    with pytest.warns(UserWarning, match=said):
        recall._compare_embedders(fitted, Used())


def test_one_history_of_several_is_named(tmp_path: Path) -> None:
    """Oracle: which one, with the nearest name."""
    path = tmp_path / "own.jsonl"
    path.write_text(LINES + LINES.replace('c1"', 'c10"'), encoding="utf-8")
    five = weights(FIVE)
    with pytest.raises(LerayError, match=r"holds 2 histories \(c1, c10\): name one with --history"):
        Memory.load(five, path, embed=embed)
    with pytest.raises(LerayError, match=r"no history 'c11' in .*; did you mean 'c1"):
        Memory.load(five, path, embed=embed, history="c11")
    memory = Memory.load(five, path, embed=embed, history="c10")
    assert memory.rank("lake")[0].conversation == "c10"


def test_importing_the_package_costs_nothing() -> None:
    """Golden: a fresh interpreter; numpy comes with the first use."""
    code = (
        "import sys, leray; assert 'numpy' not in sys.modules; "
        "assert 'Memory' in dir(leray); leray.Turn; "
        "from leray import ImportanceModel, Memory; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

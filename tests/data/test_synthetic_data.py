"""Simulated conversations as data: their law, their truth, and what the loader refuses."""

import numpy as np
import pytest

from leray.data.preparation import ask, prepare
from leray.data.sources import load
from leray.errors import LerayError
from leray.memory.blocks import FOUR, with_tau
from leray.memory.generator import ConversationLaw
from leray.memory.simulation import planted_sample


def test_signals_and_truth_are_those_of_the_simulation() -> None:
    """Oracle: what the kernel of the simulated million computes for the same conversations."""
    n, law = 30, ConversationLaw()
    corpus = load(f"synthetic:{n}")
    prepared = prepare(ask(corpus), corpus, lambda _: pytest.fail("embedded"), (law.tau,))
    planted = planted_sample(law, n, np.random.default_rng(0), mode="literal")
    assert prepared.num_pairs == n * law.num_turns
    for c, block in enumerate(prepared.blocks):
        ours = block.rows(with_tau(FOUR, law.tau))
        np.testing.assert_allclose(ours.T, planted.signals[c], atol=2e-6)
        np.testing.assert_array_equal(block.relevant, planted.relevant[c])


def test_the_name_says_which_conversations() -> None:
    """Identity: a longer draw begins with a shorter one; the default is 200."""
    few, more = load("synthetic:3"), load("synthetic:5")
    for a, b in zip(few.conversations, more.conversations, strict=False):
        assert [t.time for t in a.turns] == [t.time for t in b.turns]
        assert a.queries[0].evidence == b.queries[0].evidence
        np.testing.assert_array_equal(a.turns[7].embedding, b.turns[7].embedding)
    assert len(load("synthetic").conversations) == 200


@pytest.mark.parametrize("number", ["0", "10001", "-3", "many", "1e3", "9999999"])
def test_what_cannot_be_drawn_is_refused(number: str) -> None:
    """Oracle: the line that the user reads."""
    with pytest.raises(LerayError, match="1 ≤ N ≤ 10,000, such as synthetic:200"):
        load(f"synthetic:{number}")

"""Synthetic conversations as data: turns whose embeddings are drawn and whose truth is planted.

What every loader gives, from the law that the simulated million is drawn from (see
`leray.memory.generator`), so that methods which need turns and queries, and not summaries of a
million conversations, are seen on it too. Every conversation has 50 turns and one query; its
evidence are the three turns with the largest planted truth. Turns say nothing: what needs words
(BM25) finds none. The draw is fixed, so the name alone says which conversations these are.
"""

from __future__ import annotations

import re

import numpy as np

from leray.errors import LerayError
from leray.memory.conversations import Conversation, Corpus, LoadReport, Query, Turn
from leray.memory.generator import ConversationLaw
from leray.memory.simulation import literal_conversation, planted_sample, root_words

NUM_CONVERSATIONS = 200  # as many as intervals are calibrated at
MAX_CONVERSATIONS = 10_000
_ASKED = 1_767_225_600.0  # 2026-01-01 UTC: the time of every query
_SEED = 0


def load_synthetic(number: str = "") -> Corpus:
    """The first conversations of a fixed draw.

    Args:
        number: How many; empty for 200.

    Raises:
        LerayError: It is not a whole number from 1 to 10,000.

    Cost: 0.3 ms and 160 kB a conversation.
    """
    n = (
        NUM_CONVERSATIONS
        if not number
        else int(number)
        if re.fullmatch("[0-9]{1,6}", number)
        else 0
    )
    if not 1 <= n <= MAX_CONVERSATIONS:
        raise LerayError(
            f"synthetic:{number} names no conversations; allowed: synthetic:N with "
            f"1 ≤ N ≤ {MAX_CONVERSATIONS:,}, such as synthetic:{NUM_CONVERSATIONS}"
        )
    law = ConversationLaw()
    relevant = planted_sample(law, n, np.random.default_rng(_SEED), mode="literal").relevant
    words = root_words(np.random.default_rng(_SEED))
    weights = ", ".join(f"{w:.2f}" for w in law.weights)
    return Corpus(
        name=f"synthetic:{n}" if n != NUM_CONVERSATIONS else "synthetic",
        conversations=tuple(_conversation(law, words, c, relevant[c]) for c in range(n)),
        truth="evidence",
        report=LoadReport(),
        description=(
            f"{n} simulated conversation{'s' * (n != 1)} of {law.num_turns} turns and one query, "
            f"whose truth was planted: weights {weights} on decay, surprise, relevance and "
            "habituation, with slopes that vary and noise that follows itself. What holds here "
            "holds of this law."
        ),
        seen=True,
        redistributable=True,
    )


def _conversation(
    law: ConversationLaw, words: np.ndarray, c: int, relevant: np.ndarray
) -> Conversation:
    drawn = literal_conversation(law, words, c)
    turns = tuple(
        Turn(
            id=str(t + 1),
            speaker="AB"[t % 2],
            text=f"turn {t + 1:02d}",
            time=_ASKED - float(drawn.ages[t]),
            embedding=drawn.vectors[t],
        )
        for t in range(law.num_turns)
    )
    query = Query(
        id="q",
        text="which turns matter",
        time=_ASKED,
        evidence=tuple(turns[t].id for t in np.flatnonzero(relevant)),
        embedding=drawn.vectors[law.num_turns],
    )
    return Conversation(id=f"synthetic {c + 1}", turns=turns, queries=(query,))

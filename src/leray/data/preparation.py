"""From a corpus to blocks: queries and their truth, then vectors, then signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from leray.errors import LerayError
from leray.memory.blocks import Block, Embedded, block
from leray.memory.conversations import Corpus, Query, Turn, histories
from leray.memory.labels import Asked, callback_asks, document_frequency, evidence_asks

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts to unit vectors, float32 ``[texts, dim]``."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Blocks, one a history, and what was counted on the way.

    ``clusters`` are what is resampled: the conversations in which queries were asked.
    """

    blocks: tuple[Block, ...]
    clusters: tuple[str, ...]
    num_histories: int
    num_turns: int
    num_queries: int
    num_pairs: int
    num_positives: int
    dropped: dict[str, int]


def ask(corpus: Corpus) -> list[Asked]:
    """The usable queries of every history, by the corpus's kind of truth.

    Raises:
        LerayError: if no query is left, saying why each was dropped.
    """
    joined = histories(corpus.conversations)
    if corpus.truth == "evidence":
        asked = [evidence_asks(h, members) for h, members in joined]
    else:
        frequency = corpus.num_word_conversations or document_frequency(corpus.conversations)
        size = corpus.collection_size or len(corpus.conversations)
        asked = [callback_asks(h, frequency, size) for h, _ in joined]
    if not any(a.asks for a in asked):
        dropped = sum((a.dropped for a in asked), start=Counter[str]())
        found = ", ".join(f"{n} {kind}" for kind, n in dropped.items()) or "no query at all"
        need = (
            "queries whose evidence names earlier turns"
            if corpus.truth == "evidence"
            else "messages that take up a rare word said more than ten turns before"
        )
        raise LerayError(f"{corpus.name}: nothing to learn from ({found}); it needs {need}")
    return asked


def prepare(
    asked: Sequence[Asked], corpus: Corpus, embed: Embed, taus: Sequence[float]
) -> Prepared:
    """Embed what needs it, all texts of all histories at once, and compute the blocks."""
    used = [a for a in asked if a.asks]
    vectors = _vectors(used, embed, ready=corpus.truth == "evidence")
    with threadpool_limits(limits=1):  # many small products: threads would only wait on each other
        blocks = tuple(block(a, v, taus) for a, v in zip(used, vectors, strict=True))
    dropped = sum((a.dropped for a in asked), start=unused_embeddings(corpus))
    return Prepared(
        blocks=blocks,
        clusters=tuple(dict.fromkeys(c for b in blocks for c in b.clusters)),
        num_histories=len(asked),
        num_turns=sum(len(a.history.turns) for a in asked),
        num_queries=sum(len(a.asks) for a in used),
        num_pairs=sum(b.x.shape[1] for b in blocks),
        num_positives=int(sum(b.relevant.sum() for b in blocks)),
        dropped=dict(dropped),
    )


def unused_embeddings(corpus: Corpus) -> Counter[str]:
    """How many turns bring a ready vector that a study of these data does not use, by the reason.

    Callback truth masks words, so a vector made of the unmasked text would leak the label.
    """
    if corpus.truth == "evidence":
        return Counter()
    num = sum(t.embedding is not None for c in corpus.conversations for t in c.turns)
    reason = "ready embedding not used: callback truth masks words"
    return Counter({reason: num} if num else {})


def _vectors(asked: Sequence[Asked], embed: Embed, *, ready: bool) -> list[Embedded]:
    """Vectors for every history; ready ones are used for evidence truth only."""
    items: list[tuple[str, np.ndarray | None]] = []
    for a in asked:
        items += [_item(t.spoken, t, ready=ready) for t in a.history.turns]
        items += [(text, None) for text in a.alone if text is not None]
        items += [_item(q.query.text, q.query, ready=ready) for q in a.asks]
    rows = iter(_unit_rows(items, embed))
    out = []
    for a in asked:
        turns = np.stack([next(rows) for _ in a.history.turns])
        alone = turns.copy()
        masked = [i for i, text in enumerate(a.alone) if text is not None]
        for i in masked:
            alone[i] = next(rows)
        out.append(
            Embedded(turns=turns, alone=alone, queries=np.stack([next(rows) for _ in a.asks]))
        )
    return out


def _item(text: str, holder: Turn | Query, *, ready: bool) -> tuple[str, np.ndarray | None]:
    return text, holder.embedding if ready else None


def _unit_rows(items: Sequence[tuple[str, np.ndarray | None]], embed: Embed) -> list[np.ndarray]:
    missing = [text for text, vector in items if vector is None]
    computed = iter(embed(missing)) if missing else iter(())
    rows = [_unit(v) if v is not None else next(computed) for _, v in items]
    dims = sorted({len(r) for r in rows})
    if len(dims) > 1:
        raise LerayError(
            f"embeddings of {' and '.join(map(str, dims))} numbers cannot be compared: give every "
            "turn and every query its embedding, or none, or name the model with --embedder"
        )
    return rows


def _unit(vector: np.ndarray) -> np.ndarray:
    v = np.asarray(vector, dtype=np.float32)
    norm = float(np.linalg.norm(v))
    if not np.isfinite(norm) or norm == 0:
        raise LerayError("an embedding is zero or not finite: every vector needs a direction")
    return v / norm

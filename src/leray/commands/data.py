"""`leray data check`: what is in a source, and what is wrong with it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from leray.errors import LerayError, plain

if TYPE_CHECKING:
    from leray.memory.conversations import Corpus


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Options of `leray data check`.

    Args:
        source: A file in the documented format, or chitchat, synthetic, locomo:PATH,
            qmsum:PATH, chatgpt:PATH, jsonl:PATH.
        json: One JSON object on stdout instead of text.
    """

    source: tyro.conf.Positional[str]
    json: bool = False

    def run(self) -> int:
        """Print a line a finding, then the counts; exits 0 when usable rows remain."""
        from leray.data.preparation import unused_embeddings
        from leray.data.reading import counted
        from leray.data.sources import load

        corpus = load(self.source)
        report = corpus.report
        turns = sum(len(c.turns) for c in corpus.conversations)
        queries = sum(len(c.queries) for c in corpus.conversations)
        callbacks = _callbacks(corpus) if corpus.truth == "callback" else {}
        dropped = {**report.dropped, **unused_embeddings(corpus)}
        counts = {
            "source": corpus.name,
            "description": corpus.description,
            "truth": corpus.truth,
            "conversations": len(corpus.conversations),
            "turns": turns,
            "queries": queries,
            **callbacks,
            "repaired": report.repaired,
            "dropped": dropped,
        }
        if self.json:
            print(json.dumps({**counts, "notes": report.notes}, indent=1, ensure_ascii=False))
            return 0
        for note in report.notes:
            print(plain(note), file=sys.stderr)
        asked = counted(queries, "query", "queries")
        if callbacks:
            asked = f"{counted(callbacks['callbacks'], 'query', 'queries')} found"
        conversations = counted(len(corpus.conversations), "conversation")
        said = f"{conversations}, {counted(turns, 'turn')}, {asked} ({corpus.truth} truth)"
        print(f"{plain(corpus.name)}: {said}")
        if callbacks:
            back = counted(callbacks["reaching_back"], "query", "queries")
            print(f"  {back} with a source in an earlier conversation")
        for what, found in (("repaired", report.repaired), ("dropped", dropped)):
            for kind, number in found.items():
                print(f"  {what} {number:,}: {plain(kind)}")
        return 0


def _callbacks(corpus: Corpus) -> dict[str, int]:
    """How many queries callback truth finds, and how many reach into another conversation."""
    from leray.data.preparation import ask
    from leray.memory.labels import num_reaching_back

    try:
        asked = ask(corpus)
    except LerayError:  # none at all
        return {"callbacks": 0, "reaching_back": 0}
    num = sum(len(a.asks) for a in asked)
    return {"callbacks": num, "reaching_back": sum(map(num_reaching_back, asked))}

"""`leray data check`: what is in a source, and what is wrong with it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import tyro


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Options of `leray data check`.

    Args:
        source: A file in the documented format, or chitchat, locomo:PATH, qmsum:PATH,
            chatgpt:PATH, jsonl:PATH.
        json: One JSON object on stdout instead of text.
    """

    source: tyro.conf.Positional[str]
    json: bool = False

    def run(self) -> int:
        """Print a line a finding, then the counts; exits 0 when usable rows remain."""
        from leray.data.sources import load

        corpus = load(self.source)
        report = corpus.report
        turns = sum(len(c.turns) for c in corpus.conversations)
        queries = sum(len(c.queries) for c in corpus.conversations)
        counts = {
            "source": corpus.name,
            "description": corpus.description,
            "truth": corpus.truth,
            "conversations": len(corpus.conversations),
            "turns": turns,
            "queries": queries,
            "repaired": report.repaired,
            "dropped": report.dropped,
        }
        if self.json:
            print(json.dumps({**counts, "notes": report.notes}, indent=1, ensure_ascii=False))
            return 0
        for note in report.notes:
            print(note, file=sys.stderr)
        asked = f"{queries:,} queries" if queries else "callback truth finds the queries"
        print(
            f"{corpus.name}: {len(corpus.conversations):,} conversations, {turns:,} turns, {asked}"
        )
        for what, found in (("repaired", report.repaired), ("dropped", report.dropped)):
            for kind, number in found.items():
                print(f"  {what} {number:,}: {kind}")
        return 0

"""`leray claims`: the ledger of what can be judged."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Options of `leray claims`.

    Args:
        json: One JSON object on stdout instead of text.
    """

    json: bool = False

    def run(self) -> int:
        """Print every claim with what fixes it."""
        from leray.studies.ledgers import LEDGERS

        rows = [
            {"study": study, **asdict(c), "hash": c.hash}
            for study, ledger in LEDGERS.items()
            for c in ledger
        ]
        if self.json:
            print(json.dumps({"claims": rows}, indent=1, ensure_ascii=False))
            return 0
        for row in rows:
            print(f"{row['id']}  {row['statement']}", file=sys.stdout)
            print(f"    estimand  {row['estimand']}")
            print(f"    true if   {_region(row)}; level {row['level']:g}")
            print(f"    source    {row['source']}; study {row['study']}; hash {row['hash'][:12]}")
        return 0


def _region(row: dict) -> str:
    null, margin = row["null"], row["margin"]
    if row["direction"] == "within":
        return f"it lies in [{null - margin:g}, {null + margin:g}]"
    side = (
        ("at least", null + margin) if row["direction"] == "greater" else ("at most", null - margin)
    )
    return f"it is {side[0]} {side[1]:g}"

"""`leray algebra`: cohomology of complexes that come in files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class AlgebraBetti:
    """Options of `leray algebra betti`.

    Args:
        simplices: A text file of facets: one a line, vertices separated by blanks, faces implied.
        field: Q, or a prime for the integers modulo it.
        json: One JSON object on stdout instead of a table.
    """

    simplices: Path
    field: str = "Q"
    json: bool = False

    def run(self) -> int:
        """Read, rank and print."""
        from leray.algebra.fields import field_named
        from leray.algebra.simplicial import SimplicialComplex
        from leray.data.simplices import read_simplices

        field = field_named(self.field)
        space = SimplicialComplex.of(read_simplices(self.simplices).facets)
        ranks = space.ranks(field)
        betti = space.betti_from(ranks)
        if self.json:
            import json

            certificates = [c.plain() for c in ranks]
            print(json.dumps({"betti": betti, "field": field.name, "certificates": certificates}))
            return 0
        for k, (cells, number) in enumerate(zip(space.f_vector, betti, strict=True)):
            why = f"   rank d_{k} = {ranks[k].rank:,}, {ranks[k].how}" if k < len(ranks) else ""
            print(f"H^{k}   {number:>8,}   of {cells:,} cells{why}", file=sys.stderr)
        print(
            f"Euler characteristic {space.euler_characteristic:,} over {field.name}",
            file=sys.stderr,
        )
        return 0

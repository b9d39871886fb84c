"""`leray algebra betti`: Betti numbers of complexes that come in files."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from leray.errors import LerayError


@dataclass(frozen=True, kw_only=True)
class AlgebraBetti:
    """Options of `leray algebra betti`; one of the two files.

    Args:
        simplices: A text file of facets: one a line, vertices separated by blanks, faces implied.
        complex: A JSON file of a cochain complex: its differentials as matrices.
        field: Q, a prime for the integers modulo it, float64 or float32.
        json: One JSON object on stdout instead of a table.
    """

    simplices: Path | None = None
    complex: Path | None = None
    field: str = "Q"
    json: bool = False

    def run(self) -> int:
        """Read, rank and print."""
        from leray.algebra.fields import field_named

        field = field_named(self.field)
        one_file(self.simplices, self.complex)
        if self.simplices is not None:
            from leray.algebra.simplicial import SimplicialComplex
            from leray.data.simplices import read_simplices

            space = SimplicialComplex.of(read_simplices(self.simplices).facets)
            ranks, cells, lowest = space.ranks(field), list(space.f_vector), 0
            betti, more = list(space.betti_from(ranks)), {}
        else:
            assert self.complex is not None
            from leray.data.complexes import read_complex

            c = read_complex(self.complex, field).complex
            betti, ranks = list(c.betti_numbers()), tuple(c.certificates.values())
            cells, lowest = [c.dim(n) for n in c.degrees], c.lowest
            more = {"lowest": lowest}
        if self.json:
            certificates = [c.plain() for c in ranks]
            found = {"betti": betti, "field": field.name, "certificates": certificates, **more}
            print(json.dumps(found))
            return 0
        what = "cells" if self.complex is None else "dimensions"
        for k, (size, number) in enumerate(zip(cells, betti, strict=True)):
            rank = ranks[k] if k < len(ranks) else None
            why = f"   rank d_{lowest + k} = {rank.rank:,}, {rank.how}" if rank else ""
            print(f"H^{lowest + k}   {number:>8,}   of {size:,} {what}{why}", file=sys.stderr)
        euler = sum((-1) ** ((lowest + k) % 2) * size for k, size in enumerate(cells))
        print(f"Euler characteristic {euler:,} over {field.name}", file=sys.stderr)
        return 0


def one_file(simplices: Path | None, complex_: Path | None) -> None:
    """Make sure that exactly one of the two was given.

    Raises:
        LerayError: Both or none.
    """
    if (simplices is None) == (complex_ is None):
        came = "none" if simplices is None else "both"
        raise LerayError(f"give --simplices FILE or --complex FILE, one of them; got {came}")

"""`leray algebra pages` and `leray algebra barcode`: what a filtration of a complex shows."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leray.commands.algebra import one_file
from leray.commands.figure_file import check_output, write_figure
from leray.errors import LerayError, plain

if TYPE_CHECKING:
    from leray.algebra.fields import Field
    from leray.algebra.persistence import Filtration, Persistence
    from leray.algebra.spectral import FilteredComplex, SpectralSequence

MOST_LEVELS = 100
"""From the lowest to the highest: the ranks of all pages are a table of pairs of levels."""
MOST_ENTRIES = 1_000_000
"""Of one differential: the pages are found densely."""


@dataclass(frozen=True, kw_only=True)
class AlgebraPages:
    """Options of `leray algebra pages`; one of the two files.

    Args:
        simplices: A text file of facets, each with its level after #; a face enters with the first
            facet that holds it. Levels that are not all integers are numbered 0, 1, 2, …
        complex: A JSON file of a cochain complex with "levels".
        field: Q, a prime for the integers modulo it, float64 or float32.
        page: The number of a page, or all, to the page at which it stabilises.
        figure: A file to draw into, .png or .svg; one that is there is replaced.
        json: One JSON object on stdout instead of a table.
    """

    simplices: Path | None = None
    complex: Path | None = None
    field: str = "Q"
    page: str = "all"
    figure: Path | None = None
    json: bool = False

    def run(self) -> int:
        """Read, find the pages, print and draw."""
        from leray.algebra.fields import field_named
        from leray.algebra.spectral import SpectralSequence

        field = field_named(self.field)
        one_file(self.simplices, self.complex)
        check_output(self.figure)
        chosen = None if self.page == "all" else _page_number(self.page)
        filtered, values = self._filtered(field)
        source = self.simplices or self.complex
        assert source is not None
        sequence = SpectralSequence(filtered)
        result = {"file": plain(source.name), **_pages(sequence, chosen), "levels": values}
        if self.figure is not None:
            from leray.figures.spectral import spectral_pages

            write_figure(self.figure, spectral_pages(result))
        if self.json:
            print(json.dumps(result, ensure_ascii=False))
        else:
            _page_table(result)
        return 0

    def _filtered(self, field: Field) -> tuple[FilteredComplex, list[float] | None]:
        """The filtered complex, and what levels 0, 1, … were where they had to be numbered."""
        import numpy as np

        from leray.algebra.persistence import integer_levels
        from leray.algebra.spectral import FilteredComplex

        if self.simplices is not None:
            filtration = _filtration(self.simplices)
            cells = filtration.space.f_vector
            _check_size(self.simplices, cells, integer_levels(filtration.levels))
            values = np.unique(np.concatenate(filtration.levels))
            return filtration.cochains(field), _numbered(values)
        assert self.complex is not None
        from leray.data.complexes import read_complex

        read = read_complex(self.complex, field)
        if read.levels is None:
            raise LerayError(f'{str(self.complex)!r} has no "levels": give every basis vector one, '
                             'such as {"0": [0, 1], "1": [2]}, by degree')  # fmt: skip
        given = [np.asarray(read.levels[n], dtype=np.float64) for n in read.complex.degrees]
        levels = integer_levels(given)
        _check_size(self.complex, [len(a) for a in given], levels)
        by_degree = {n: a.tolist() for n, a in zip(read.complex.degrees, levels, strict=True)}
        try:
            filtered = FilteredComplex(read.complex, by_degree)
        except LerayError as error:
            raise type(error)(f"{str(self.complex)!r}: {error}") from None
        return filtered, _numbered(np.unique(np.concatenate(given)))


@dataclass(frozen=True, kw_only=True)
class AlgebraBarcode:
    """Options of `leray algebra barcode`.

    Args:
        simplices: A text file of facets, each with its level after #; a face enters with the first
            facet that holds it.
        field: A prime, for the integers modulo it.
        figure: A file to draw into, .png or .svg; one that is there is replaced.
        json: One JSON object on stdout instead of a table.
    """

    simplices: Path
    field: str = "2"
    figure: Path | None = None
    json: bool = False

    def run(self) -> int:
        """Read, pair, print and draw."""
        from leray.algebra.fields import field_named
        from leray.algebra.persistence import persistence

        field = field_named(self.field)
        check_output(self.figure)
        found = persistence(_filtration(self.simplices), field)
        result = {"file": plain(self.simplices.name), **_intervals(found)}
        if self.figure is not None:
            from leray.figures.barcode import barcode

            write_figure(self.figure, barcode(result))
        if self.json:
            print(json.dumps(result, ensure_ascii=False))
            return 0
        for n, bars in enumerate(result["intervals"]):
            stay = result["betti"][n]
            print(f"H^{n}   {len(bars):,} intervals, {stay:,} of which never end; "
                  f"{result['zero_length'][n]:,} pairs of one level", file=sys.stderr)  # fmt: skip
            lengths = [b for b in bars if b[1] is not None]
            for birth, death in sorted(lengths, key=lambda b: b[0] - b[1])[:5]:
                print(f"      [{birth:g}, {death:g}), of length {death - birth:g}", file=sys.stderr)
        print(f"over {result['field']}; the longest five that end are shown, --json has all",
              file=sys.stderr)  # fmt: skip
        return 0


def _filtration(path: Path) -> Filtration:
    from leray.algebra.persistence import Filtration
    from leray.data.simplices import read_simplices

    read = read_simplices(path)
    if read.levels is None:
        raise LerayError(f"the facets of {path} have no level: write one after each, such as "
                         "0 1 2 # 0.5")  # fmt: skip
    return Filtration.by_facets(read.facets, read.levels)


def _check_size(path: Path, cells: Any, levels: list[Any]) -> None:
    """Refuse what would take a day.

    Raises:
        LerayError: Too many levels, or too large a differential.
    """
    import itertools

    every = [level for own in levels for level in own.tolist()] or [0]
    if max(every) - min(every) >= MOST_LEVELS:
        raise LerayError(
            f"{path} has levels from {min(every)} to {max(every)}; allowed for pages: "
            f"{MOST_LEVELS} in a row; round them, or take leray algebra barcode"
        )
    largest = max((a * b for a, b in itertools.pairwise(cells)), default=0)
    if largest > MOST_ENTRIES:
        raise LerayError(
            f"{path} has a differential of {largest:,} entries; allowed for pages: "
            f"{MOST_ENTRIES:,}; take leray algebra barcode for large complexes"
        )


def _numbered(values: Any) -> list[float] | None:
    """The levels that were numbered 0, 1, …; None where integers stayed as they are."""
    return None if (values == values.round()).all() else values.tolist()


def _page_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise LerayError(f"--page must be all or a number from 0; got {text!r}")
    return int(text)


def _pages(sequence: SpectralSequence, chosen: int | None) -> dict[str, Any]:
    c, last = sequence.filtered.complex, sequence.stabilizes_at
    return {
        "field": c.field.name,
        "exact": c.field.exact,
        "lowest": c.lowest,
        "dimensions": [c.dim(n) for n in c.degrees],
        "pages": [
            {
                "r": r,
                "terms": _terms(sequence.dimensions(r)),
                "differentials": _differentials(sequence, r),
            }
            for r in (range(last + 1) if chosen is None else [chosen])
        ],
        "stabilizes_at": last,
        "limit": _terms(sequence.dimensions(last)),
        "abutment": _terms(sequence.abutment()),
        "betti": list(c.betti_numbers()),
    }


def _terms(found: Mapping[tuple[int, int], int]) -> list[dict[str, int]]:
    return [{"p": p, "q": q, "dim": dim} for (p, q), dim in sorted(found.items())]


def _differentials(sequence: SpectralSequence, r: int) -> list[dict[str, Any]]:
    """The ranks of d_r that are not zero."""
    return [
        {"from": [a, n - a], "to": [b, n + 1 - b], "rank": rank}
        for n, by in sequence.pairs.items()
        for (a, b), rank in sorted(by.items())
        if b - a == r
    ]


def _page_table(result: dict[str, Any]) -> None:
    for page in result["pages"]:
        print(f"E_{page['r']}", file=sys.stderr)
        out = {tuple(d["from"]): d for d in page["differentials"]}
        for term in page["terms"]:
            one = out.get((term["p"], term["q"]))
            to = f"   rank {one['rank']:,} to ({one['to'][0]}, {one['to'][1]})" if one else ""
            print(f"  ({term['p']}, {term['q']})   {term['dim']:>8,}{to}", file=sys.stderr)
    same = "is" if result["limit"] == result["abutment"] else "is not"
    print(
        f"stabilises at E_{result['stabilizes_at']} over {result['field']}; the limit {same} the "
        f"abutment; Betti numbers {', '.join(map(str, result['betti']))}",
        file=sys.stderr,
    )
    if result["levels"] is not None:
        print(f"levels 0 to {len(result['levels']) - 1} stand for {result['levels'][0]:g} to "
              f"{result['levels'][-1]:g}", file=sys.stderr)  # fmt: skip


def _intervals(found: Persistence) -> dict[str, Any]:
    faces = found.filtration.space.f_vector
    return {
        "field": found.field.name,
        "faces": list(faces),
        "intervals": [
            [[a, None if b == float("inf") else b] for a, b in found.intervals(n).tolist()]
            for n in range(len(faces))
        ],
        "zero_length": [found.num_zero_length(n) for n in range(len(faces))],
        "betti": list(found.betti_numbers),
    }

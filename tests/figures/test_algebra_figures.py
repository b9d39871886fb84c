"""Pages and barcodes from written results: XML with a name, data and n on the figure, every mark.

What is written is read back: numbers in boxes, ranks at arrows, a bar for every interval.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib.image as mpl_image
import pytest

from leray.figures.barcode import MOST_BARS, barcode
from leray.figures.spectral import MOST_PANELS, spectral_pages
from leray.figures.style import BLUE, GREEN, VERMILLION, Picture

SVG = "{http://www.w3.org/2000/svg}"


def _terms(*rows: tuple[int, int, int]) -> list[dict[str, int]]:
    return [{"p": p, "q": q, "dim": dim} for p, q, dim in rows]


def pages(**changes: Any) -> dict[str, Any]:
    """Three pages; d_0 of rank 17, d_1 of rank 23, and a limit of one class."""
    made = [
        {"r": 0, "terms": _terms((0, 0, 40), (0, 1, 17), (1, 0, 1234)),
         "differentials": [{"from": [0, 0], "to": [0, 1], "rank": 17}]},
        {"r": 1, "terms": _terms((0, 0, 23), (1, 0, 1234)),
         "differentials": [{"from": [0, 0], "to": [1, 0], "rank": 23}]},
        {"r": 2, "terms": _terms((1, 0, 1211)), "differentials": []},
    ]  # fmt: skip
    return {
        "file": "a <b> & $c^.json", "field": "GF(2)", "exact": True, "lowest": -1,
        "dimensions": [40, 1251], "pages": made, "stabilizes_at": 2, "limit": _terms((1, 0, 1211)),
    } | changes  # fmt: skip


def long_pages(count: int, spread: int = 2) -> dict[str, Any]:
    """One differential in every third page."""
    made = []
    for r in range(count):
        one = {"from": [0, 0], "to": [min(r, spread), 1 - min(r, spread)], "rank": 1}
        terms = _terms((0, 0, 5), (spread, -spread, 2))
        made.append({"r": r, "terms": terms, "differentials": [one] if r % 3 == 1 else []})
    return pages(pages=made, stabilizes_at=count, limit=_terms((0, 0, 5)))


def bars(intervals: Any = None, **changes: Any) -> dict[str, Any]:
    given = intervals or [[[0.0, None], [0.0, 0.5]], [], [[0.25, 1.5], [0.5, 0.75], [1.0, None]]]
    return {
        "file": "rips\x1b.txt", "field": "GF(3)", "faces": [4, 6, 4], "intervals": given,
        "zero_length": [2, 0, 1],
    } | changes  # fmt: skip


def words(picture: Picture) -> list[str]:
    return [e.text or "" for e in ET.fromstring(picture.svg).iter(f"{SVG}text")]


def paths(picture: Picture, colour: str) -> list[str]:
    """The paths that are drawn in a colour."""
    found = ET.fromstring(picture.svg).iter(f"{SVG}path")
    return [e.get("d", "") for e in found if colour in e.get("style", "")]


@pytest.mark.parametrize(("draw", "result"), [(spectral_pages, pages()), (barcode, bars())])
def test_each_is_a_picture_that_says_what_it_shows(draw, result):
    picture = draw(result)
    root = ET.fromstring(picture.svg)
    assert root.findtext(f"{SVG}title") == picture.title
    assert root.findtext(f"{SVG}desc", "").startswith(picture.caption[:7])
    assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", picture.svg))
    assert not {e.tag.removeprefix(SVG) for e in root.iter()} & {"script", "image", "metadata"}
    flat = " ".join(" ".join(root.itertext()).split())
    assert picture.caption.replace("\x1b", "\ufffd") in flat
    height, width, _ = mpl_image.imread(io.BytesIO(picture.png)).shape
    assert min(height, width) > 300


def test_every_term_and_every_rank_is_on_its_page():
    picture = spectral_pages(pages())
    shown = words(picture)
    titles = [t for t in shown if t.startswith("E")]
    assert titles == ["E₀", "E₁", "E₂ = E∞"]
    first, second, third = (shown.index(t) for t in titles)
    assert sorted(shown[first + 1 : first + 5]) == ["1,234", "17", "17", "40"]
    assert sorted(shown[second + 1 : second + 4]) == ["1,234", "23", "23"]
    assert shown[third + 1] == "1,211"
    assert "n = 40 + 1,251 basis vectors in degrees -1 to 0, over GF(2)." in picture.caption
    assert "Data: a <b> & $c^.json, n = 40" in " ".join(shown)
    assert "It stabilises at E_2." in picture.alt
    assert "E₂ = E∞: 1211 at (1, 0)." in picture.alt


def test_arrows_are_as_many_as_differentials():
    drawn = paths(spectral_pages(pages()), f"stroke: {VERMILLION}")
    assert len(drawn) == 2 * 2  # a line and a head
    none = pages(pages=[], stabilizes_at=0, limit=_terms((0, 0, 1)))
    assert paths(spectral_pages(none), VERMILLION) == []
    assert "E₀ = E∞" in words(spectral_pages(none))


def test_many_pages_leave_out_those_without_arrows_and_say_so():
    few, many = spectral_pages(long_pages(5)), spectral_pages(long_pages(90))
    assert sum(t.startswith("E") for t in words(few)) == 6
    assert "Not drawn" not in few.caption
    assert sum(t.startswith("E") for t in words(many)) == MOST_PANELS
    assert words(many).count("E₄") == 1
    assert words(many).count("E₅") == 0
    assert "Not drawn: 67 pages of those before the last." in many.caption


def test_a_wide_grid_is_shaded_without_numbers():
    picture = spectral_pages(long_pages(4, spread=60))
    assert "darker of larger dimension, to 5" in picture.caption
    assert "5" not in [t for t in words(picture) if not t.startswith("E")][:2]
    root = ET.fromstring(picture.svg)
    assert float((root.get("width") or "").removesuffix("pt")) < 72 * 13.5


def test_nothing_at_all_is_a_picture():
    assert "E₀ = E∞: zero." in spectral_pages(pages(pages=[], stabilizes_at=0, limit=[])).alt


def test_every_interval_is_a_bar_and_what_stays_an_arrow():
    picture = barcode(bars())
    scale, found = 0.0, []
    for colour in (BLUE, GREEN):
        for d in paths(picture, f"stroke: {colour}"):
            x, _, end, _ = map(float, re.findall(r"[-\d.]+", d))
            scale = scale or 2 * (end - x)  # the first bar has length 1/2
            found.append((end - x) / scale)
    assert len(found) == 5
    assert [found[0], *found[2:4]] == pytest.approx([0.5, 1.25, 0.25], abs=1e-4)
    assert min(found[1] - 1.5, found[4] - 0.5) > 0  # beyond the last end, where their arrows are
    uses = [e.get("style", "") for e in ET.fromstring(picture.svg).iter(f"{SVG}use")]
    assert [style for style in uses if style] == [f"fill: {BLUE}", f"fill: {GREEN}"]
    assert "in dimension 0 2 bars, 1 of which never end; in dimension 2 3 bars, 1 of" in picture.alt
    shown = words(picture)
    assert "H⁰" in shown
    assert "H¹" not in shown
    assert "H²" in shown
    assert "5 bars, counted at the left" in picture.caption
    assert "Left out: 3 pairs of one level." in picture.caption


def test_hundreds_of_bars_are_the_longest_in_a_figure_of_a_page():
    many = [[0.0, None]] + [[k / 1000, k / 1000 + (k % 300 + 1) / 300] for k in range(900)]
    picture = barcode(bars([many, [[0.1, 0.2]]]))
    assert f"Drawn: of each dimension the {MOST_BARS} longest." in picture.caption
    root = ET.fromstring(picture.svg)
    assert float((root.get("height") or "").removesuffix("pt")) < 72 * 9
    assert "901" in words(picture)


def test_one_level_alone_is_drawn():
    assert "1 bar, counted" in barcode(bars([[[2.0, None]]])).caption

"""Every figure: a document of its own (golden), nameable, repeatable, safe to stand in a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import written_details, written_result

from leray.figures import numbers, words
from leray.figures.catalogue import draw
from leray.figures.forest import forest
from leray.figures.style import Picture
from leray.figures.weights import decay_times

SVG = "{http://www.w3.org/2000/svg}"
TAUS = (120.0, 3600.0, 86400.0, 30 * 86400.0)


@pytest.fixture(scope="module")
def pictures() -> dict[str, Picture]:
    return draw(written_result(), written_details(taus=TAUS))


def test_all_are_drawn(pictures):
    assert list(pictures) == [
        "weights", "null", "decay-times", "landscape", "forest", "distributions", "correlations",
    ]  # fmt: skip


def test_each_is_xml_with_a_name_and_loads_nothing(pictures):
    for picture in pictures.values():
        root = ET.fromstring(picture.svg)
        assert root.tag == f"{SVG}svg"
        assert root.findtext(f"{SVG}title") == picture.title
        assert root.findtext(f"{SVG}desc") == picture.alt
        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert not tags & {"script", "style", "image", "foreignObject", "metadata", "a"}
        assert "text" in tags
        assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", picture.svg))


def test_ids_are_unique_in_a_page_and_every_link_has_its_end(pictures):
    page = "".join(p.svg for p in pictures.values())
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_captions_name_data_n_and_intervals(pictures):
    for picture in pictures.values():
        assert "jsonl:chats.jsonl" in picture.caption
        assert "10 conversations" in picture.caption
        assert "interval" in picture.caption.lower()
    assert "95%, studentised, by conversation" in pictures["forest"].caption
    assert "95%, one-sided upper bound or jackknife-t" in pictures["weights"].caption


def test_the_landscape_shows_the_source_and_the_optimum(pictures):
    svg = pictures["landscape"].svg
    for label in ("best of the grid", "exact optimum", "source's “optimal”", "renormalised"):
        assert label in svg
    assert "r 0.0838 at decay 0.003, surprise 0.143" in pictures["landscape"].caption


def test_a_second_draw_is_identical_whatever_a_persons_own_settings(pictures):
    with mpl.rc_context({"lines.linewidth": 9, "axes.grid": True, "savefig.transparent": True}):
        assert draw(written_result(), written_details(taus=TAUS)) == pictures


def test_one_decay_time_needs_no_figure():
    assert decay_times(written_result(), written_details()) is None


def test_several_decay_times_are_named(pictures):
    svg = pictures["decay-times"].svg
    for label in ("2 min", "1 h", "1 d", "30 d", "chosen: 30 days"):
        assert f">{label}<" in svg


def test_one_conversation_has_no_intervals():
    pictures = draw(written_result(one=True), written_details(one=True))
    assert "No intervals: with one conversation" in pictures["weights"].caption
    assert "No intervals: with one conversation" in pictures["forest"].caption
    for picture in pictures.values():
        ET.fromstring(picture.svg)


def test_without_details_the_result_alone_is_drawn():
    assert list(draw(written_result(), {})) == ["weights", "forest"]


@settings(max_examples=15, deadline=None)
@given(st.text() | st.sampled_from(["$x^", "</text><script>", "]]>", "&amp;", "a\nb", "\ud800"]))
def test_any_name_is_shown_as_text(name):
    result = written_result()
    result["table"] = result["table"][:1]
    result["table"][0]["method"] = name
    picture = forest(result, {})
    assert picture is not None
    root = ET.fromstring(picture.svg)
    assert not list(root.iter(f"{SVG}script"))
    assert words.method(name).short.strip() in "".join(root.itertext())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_use_true_minus_signs_and_no_minus_zero(value):
    text = numbers.decimal(value)
    assert "-" not in text
    assert text != "−0.000"


@given(st.floats(min_value=1e-12, max_value=1))
def test_p_values_are_never_zero(p):
    assert float(numbers.probability(p)) == pytest.approx(p, rel=0.06)

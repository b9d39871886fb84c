"""The Monte Carlo figures from written details: XML with a name, captions with data and n."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from leray.figures.montecarlo import modes, montecarlo

SVG = "{http://www.w3.org/2000/svg}"


def written(observed=((10, 160, 20, 150), (100, 160, 140, 152))):
    pair = {
        "a": "fitted", "b": "relevance", "metric": "nDCG@10", "mean": 0.1, "sd": 0.5, "d": 0.2,
        "d_se": 0.001, "needed": 199, "curve": [[10, 0.08], [1_000, 0.999], [1_000_000, 1.0]],
        "observed": [list(o) for o in observed],
    }  # fmt: skip
    field = {
        "num_conversations": 1_000_000, "num_literal": 10_000, "num_turns": 50,
        "convergence": {"method": "document", "level": 0.95,
                        "rows": [[10, 0.5, 0.1], [1_000, 0.52, 0.01], [1_000_000, 0.51, 0.0003]]},
        "power": {"alpha": 0.05, "pairs": [pair, pair | {"d": 0.0, "needed": None}]},
        "modes": [{"name": f"{what} r, fitted", "gram": 0.5, "gram_se": 0.01, "literal": 0.51,
                   "literal_se": 0.01, "z": z} for what, z in (("mean", -0.7), ("sd", 1.2))],
    }  # fmt: skip
    return {"stack": {"montecarlo": field}}


@pytest.mark.parametrize("draw", [montecarlo, modes])
def test_each_is_a_picture_that_says_what_it_shows(draw):
    picture = draw({}, written())
    root = ET.fromstring(picture.svg)
    assert root.findtext(f"{SVG}title") == picture.title
    assert root.findtext(f"{SVG}desc") == picture.alt
    assert "Data: synthetic, 1,000,000 conversations of 50 turns." in picture.caption
    assert "interval" in picture.caption


def test_words_are_the_numbers():
    picture, compared = montecarlo({}, written()), modes({}, written())
    assert picture is not None
    assert compared is not None
    assert "intervals: 95%, normal, by conversation" in picture.caption
    assert "dots the share of 160 separate small studies" in picture.caption
    assert "199 of conversations for 80% power" in picture.alt
    assert "no number of conversations" in picture.alt
    assert "the largest is 1.2 standard errors" in compared.alt


@pytest.mark.parametrize("draw", [montecarlo, modes])
def test_nothing_is_drawn_of_nothing(draw):
    assert draw({}, {}) is None
    assert draw({}, {"stack": {}}) is None


def test_without_small_studies_the_curves_remain():
    assert montecarlo({}, written(observed=())) is not None

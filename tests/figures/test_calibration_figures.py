"""Figures and page of a calibration, from a small made-up result."""

from __future__ import annotations

import copy
from xml.etree import ElementTree

import pytest

from leray.figures.calibration import draw
from leray.report.calibration_page import render, table, unmet


def _row(**given):
    row = {
        "method": "cluster bootstrap, bca",
        "quantity": "r of fixed weights",
        "setting": "own model",
        "conversations": 40,
        "level": 0.95,
        "nominal": 0.95,
        "coverage": 0.951,
        "mc_error": 0.004,
        "mc_interval": [0.943, 0.958],
        "num_datasets": 4000,
        "criterion": "95% ± 2",
        "met": "met",
    }
    return row | given


def _rejection(**given):
    row = {
        "method": "rotations <b>",
        "setting": "own model",
        "conversations": 40,
        "level": 0.05,
        "nominal": 0.05,
        "rate": 0.05,
        "mc_error": 0.003,
        "mc_interval": [0.044, 0.057],
        "num_datasets": 4000,
        "criterion": "5% ± 1.5",
        "met": "met",
    }
    return row | given


@pytest.fixture
def result():
    return {
        "study": "calibrate",
        "seed": 0,
        "datasets": 4000,
        "rows": [
            _row(),
            _row(conversations=200, coverage=0.9, mc_interval=[0.89, 0.91], met="missed"),
            _row(setting="heavy tails", coverage=0.7, mc_interval=[0.68, 0.72], met=None,
                 criterion=None),
            _row(level=0.9, coverage=0.9, mc_interval=[0.89, 0.91], criterion="90% ± 2"),
        ],
        "false_positives": [
            _rejection(),
            _rejection(conversations=10, rate=0.4, mc_interval=[0.38, 0.42], criterion=None,
                       met=None),
            _rejection(level=0.01, rate=0.01, mc_interval=[0.008, 0.013]),
        ],
        "sbc": {
            "method": "simulation-based calibration of the posterior",
            "num_datasets": 64,
            "conversations": 40,
            "ranked_among": 3,
            "k_hat_above": 0.015625,
            "by_nuts": 1,
            "discarded": 0,
            "parameters": [
                {"name": "w[0]", "p_ecdf": 0.4, "p_chi_square": 0.3},
                {"name": "b", "p_ecdf": 0.2, "p_chi_square": 0.1},
            ],
            "criterion": "smallest p of 2 parameters at least 0.0250",
            "met": "met",
        },
        "summary": {"met": 3, "missed": 1, "undecided": 0},
        "methods": [{"name": "sbc", "seconds": 12.5}],
        "run": "runs/calibrate",
    }  # fmt: skip


@pytest.fixture
def details():
    return {
        "sbc": {
            "z": [0.25, 0.5, 0.75],
            "names": ["w[0]", "b"],
            "differences": [[0.01, 0.0, -0.01], [0.0, 0.02, 0.01]],
            "band": [[-0.1, -0.12, -0.1], [0.1, 0.12, 0.1]],
            "num_datasets": 64,
        }
    }


def test_four_figures_that_are_xml_and_say_what_was_missed(result, details):
    pictures = draw(result, details)
    assert [*pictures] == [
        "calibration-coverage-95",
        "calibration-coverage-90",
        "calibration-ranks",
        "calibration-false-positives",
    ]
    for picture in pictures.values():
        ElementTree.fromstring(picture.svg)
        assert "64" in picture.caption or "4,000" in picture.caption
    assert "200 conversations, 90%" in pictures["calibration-coverage-95"].alt
    assert "none" in pictures["calibration-coverage-90"].alt


def test_nothing_to_draw_gives_no_figure(result):
    empty = copy.deepcopy(result) | {"rows": [], "false_positives": []}
    assert draw(empty, {}) == {}


def test_the_page_escapes_and_loads_nothing(result, details):
    page = render(result, details)
    assert "rotations &lt;b&gt;" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_what_was_missed_stands_in_the_table_and_the_page(result, details):
    (line,) = unmet(result)
    assert line == (
        "cluster bootstrap, bca, r of fixed weights, 200 conversations: 90.0% ± 0.40 where "
        "95% ± 2 was asked"
    )
    assert f"missed: {line}" in table(result)
    assert line in render(result, details)
    sbc = copy.deepcopy(result)
    sbc["sbc"]["met"] = "missed"
    assert len(unmet(sbc)) == 2

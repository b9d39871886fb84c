"""Agreement of two results: every number counts, and each kind has its tolerance."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.studies.agreement import HALF_WIDTHS, compare

RESULT: dict[str, Any] = {
    "run": "/a",
    "seed": 3,
    "data": {"name": "jsonl:/a/b", "description": "12 of /a/b", "queries": 48},
    "table": [
        {"method": "bm25", "metrics": {"r": {"estimate": 0.2, "interval": [0.1, 0.3], "n": 12}}},
        {"method": "rrf", "metrics": {"r": {"estimate": 0.3, "interval": None, "level": 0.95}}},
    ],
    "weights": {"r": 0.08, "p_value": 1e-5, "tau_seconds": 600.0},
    "methods": [{"name": "bootstrap", "seconds": 1.5, "claimed": 1800.0}],
    "verdicts": [
        {"claim": "M1", "verdict": "refuted", "data": "jsonl:/a/b", "n_needed": 40, "note": "0.2"}
    ],
    "stack": [{"name": "bayes", "diagnostics": {"ess": 900.0, "seconds": 3.0, "ok": True}}],
    "advice": "Use jsonl:/a/b weights: they gain +0.064",
}  # fmt: skip


def changed(path: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(RESULT)
    *above, last = [int(k) if k.isdigit() else k for k in path.split("/")]
    holder: Any = result
    for key in above:
        holder = holder[key]
    holder[last] = value
    return result


def found(now: Any, *, exact: bool) -> list[str]:
    return [d.where for d in compare(RESULT, now, exact=exact).differences]


@pytest.mark.parametrize("exact", [True, False])
def test_a_result_agrees_with_itself_elsewhere(exact: bool) -> None:
    """Identity: another folder, other seconds, another place of the data; all else the same."""
    now = copy.deepcopy(RESULT)
    now |= {"run": "/c", "advice": "Use jsonl:/c/d weights: they gain +0.064"}
    now["data"] |= {"name": "jsonl:/c/d", "description": "12 of /c/d"}
    now["verdicts"][0]["data"] = "jsonl:/c/d"
    now["methods"][0]["seconds"] = 99.0
    now["stack"][0]["diagnostics"]["seconds"] = 99.0
    assert found(now, exact=exact) == []
    assert compare(RESULT, now, exact=exact).num_numbers == 14


LEAVES = [
    ("seed", 4, "seed"), ("data/queries", 49, "data/queries"),
    ("table/0/metrics/r/estimate", 0.22, "table/bm25/metrics/r/estimate"),
    ("table/0/metrics/r/interval/1", 0.33, "table/bm25/metrics/r/interval/1"),
    ("table/1/metrics/r/estimate", 0.31, "table/rrf/metrics/r/estimate"),
    ("table/1/metrics/r/interval", [0.1, 0.2], "table/rrf/metrics/r/interval"),
    ("weights/r", 0.09, "weights/r"), ("weights/p_value", 0.01, "weights/p_value"),
    ("weights/tau_seconds", 120.0, "weights/tau_seconds"),
    ("methods/0/claimed", 1.0, "methods/bootstrap/claimed"),
    ("verdicts/0/verdict", "supported", "verdicts/M1/verdict"),
    ("verdicts/0/n_needed", 400, "verdicts/M1/n_needed"),
    ("stack/0/diagnostics/ess", 100.0, "stack/bayes/diagnostics/ess"),
    ("stack/0/diagnostics/ok", False, "stack/bayes/diagnostics/ok"),
]  # fmt: skip


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("path", "value", "where"), LEAVES)
def test_one_changed_value_is_named(path: str, value: Any, where: str, exact: bool) -> None:
    """Identity: whichever it is, it and no other is reported, under either sort."""
    assert found(changed(path, value), exact=exact) == [where]


@given(relative=st.floats(-1e-6, 1e-6))
def test_exact_is_one_part_in_a_billion(relative: float) -> None:
    """Identity: 1e-9 relative decides, in both directions."""
    now = changed("weights/r", 0.08 * (1 + relative))
    if abs(abs(relative) - 1e-9) > 1e-10:
        assert (found(now, exact=True) == []) == (abs(relative) < 1e-9)
    assert found(now, exact=False) == []


def test_intervals_may_move_by_their_monte_carlo_error() -> None:
    """Statistical: ends of 400 percentile intervals of 10,000 draws stay within the tolerance.

    It is five standard errors of the difference: the share beyond is below 1e-5, so none of 400.
    """
    rng = np.random.default_rng(5)
    ends = np.quantile(rng.standard_normal((400, 10_000)), [0.025, 0.975], axis=1).T
    exact = 1.959964
    gaps = np.abs(np.diff(ends.reshape(200, 2, 2), axis=1)).ravel() / exact
    assert gaps.max() < HALF_WIDTHS
    se = math.sqrt(2 * 0.025 * 0.975 / 10_000) / 0.0584507 / exact
    assert gaps.max() > se, "the tolerance would be tested by nothing"
    assert HALF_WIDTHS / se == pytest.approx(5.2, abs=0.2)


def test_missing_and_new_values() -> None:
    """Golden run: what is gone always counts, what is new only on the same versions."""
    fewer, more = copy.deepcopy(RESULT), copy.deepcopy(RESULT)
    del fewer["weights"]["r"]
    fewer["table"] = fewer["table"][:1]
    more["weights"]["new"] = 1.0
    for exact in (True, False):
        assert found(fewer, exact=exact) == ["table/rrf", "weights/r"]
    assert found(more, exact=True) == ["weights/new"]
    assert found(more, exact=False) == []


def test_differences_are_ready_for_json() -> None:
    """Golden run: values of any sort, absent ones as null."""
    differences = compare(RESULT, {"run": 1}, exact=True).differences
    assert differences
    json.dumps([[d.where, d.before, d.now, d.kind, d.allowed] for d in differences])

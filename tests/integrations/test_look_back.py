"""Signals that look back at all turns: by spans, kept on disk, never trusted blindly."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.integrations import look_back as module
from leray.integrations.look_back import MEASURES, look_back
from leray.memory import signals


def unit_rows(n: int, seed: int = 0) -> np.ndarray:
    """Rows around a common direction, so that some cosines pass .6."""
    rows = np.random.default_rng(seed).standard_normal((n, 5)) + 1.0
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 300), cut=st.integers(0, 299), seed=st.integers(0, 9))
def test_a_span_has_the_values_of_the_whole(n: int, cut: int, seed: int) -> None:
    """Oracle: the signals of a study, for any place to cut at."""
    E, start = unit_rows(n, seed), min(cut, n - 1)
    whole = {"surprise": signals.surprise(E, E), "habituation": signals.habituation(E, E)}
    for name, measure in MEASURES.items():
        np.testing.assert_allclose(measure(E, start, n), whole[name][start:], atol=1e-6)


def test_tiles_do_not_change_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity: small tiles, the same number of echoes."""
    E = unit_rows(200)
    want = signals.habituation(E, E)[150:]
    monkeypatch.setattr(module, "_TILE", 16)
    monkeypatch.setattr(module, "_CELLS", 400)
    np.testing.assert_array_equal(module.habituation(E, 150, 200), want)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Spans that were computed, with spans of ten turns."""
    made: list[tuple[int, int]] = []

    def measure(E: np.ndarray, start: int, stop: int) -> np.ndarray:
        made.append((start, stop))
        return module.habituation(E, start, stop)

    monkeypatch.setattr(module, "SPAN", 10)
    monkeypatch.setitem(MEASURES, "habituation", measure)
    return made


def test_a_second_start_computes_nothing(tmp_path: Path, calls: list) -> None:
    """Identity: the same values, read; and only what is new where the history has grown."""
    E = unit_rows(35)
    first = look_back("habituation", E[:24], tmp_path)
    assert calls == [(0, 10), (10, 20), (20, 24)]
    calls.clear()
    np.testing.assert_array_equal(look_back("habituation", E[:24], tmp_path), first)
    assert calls == []
    grown = look_back("habituation", E, tmp_path)
    assert calls == [(20, 30), (30, 35)]
    np.testing.assert_allclose(grown, signals.habituation(E, E), rtol=1e-6)


def test_other_turns_before_are_another_history(tmp_path: Path, calls: list) -> None:
    """Identity: a span is found only where everything before it is the same too."""
    E = unit_rows(30)
    look_back("habituation", E, tmp_path)
    changed = E.copy()
    changed[0] = -E[0]
    calls.clear()
    look_back("habituation", changed, tmp_path)
    assert calls == [(0, 10), (10, 20), (20, 30)]


def test_damage_is_found_and_mended(tmp_path: Path, calls: list) -> None:
    """Identity: a changed byte, a cut file: computed again, the same values."""
    E = unit_rows(30)
    want = look_back("habituation", E, tmp_path)
    one, two, _ = sorted(tmp_path.iterdir())
    content = bytearray(one.read_bytes())
    content[40] ^= 1
    one.write_bytes(bytes(content))
    two.write_bytes(two.read_bytes()[:-4])
    calls.clear()
    np.testing.assert_array_equal(look_back("habituation", E, tmp_path), want)
    assert len(calls) == 2
    calls.clear()
    look_back("habituation", E, tmp_path)
    assert calls == []


@pytest.mark.usefixtures("calls")
def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    """Oracle: one warning, and the right values."""
    (tmp_path / "file").write_text("")
    E = unit_rows(30)
    with pytest.warns(UserWarning, match="are not kept: cannot write") as caught:
        values = look_back("habituation", E, tmp_path / "file" / "below")
    assert len(caught) == 1
    np.testing.assert_allclose(values, signals.habituation(E, E), rtol=1e-6)


def test_a_short_history_leaves_no_file(tmp_path: Path, calls: list) -> None:
    """Identity: what takes no time is not kept."""
    look_back("habituation", unit_rows(10), tmp_path)
    assert calls == [(0, 10)]
    assert list(tmp_path.iterdir()) == []

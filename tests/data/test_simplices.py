"""Files of facets: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from leray.data.simplices import read_simplices
from leray.errors import LerayError


def test_facets_with_and_without_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("# a triangle and a point\n0 1 2\n\n  -7\n")
    assert read_simplices(path).facets == [(0, 1, 2), (-7,)]
    assert read_simplices(path).levels is None
    path.write_text("0 1 # 0.5\n1 2 #2\n")
    assert read_simplices(path).levels == [0.5, 2.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no facet"),
        ("# only words\n", "holds no facet"),
        ("0 1\n0 x\n", "line 2: '0 x' is no facet"),
        ("0 1.5\n", "line 1"),
        ("0 1 0\n", "line 1: '0 1 0' has a vertex twice"),
        ("0 1 # soon\n", "'soon' after # is no level"),
        ("0 1 # nan\n", "'nan' after # is no level"),
        ("0 1 # 1\n1 2\n", "1 of 2 facets have a level"),
        ("0 99999999999\n", "beyond"),
        ("0 \x1b[31m1\n", r"\\x1b\[31m1' is no facet"),
    ],
)
def test_what_is_no_file_of_facets_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(LerayError, match=words):
        read_simplices(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(LerayError, match="cannot read"):
        read_simplices(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(LerayError, match="cannot read"):
        read_simplices(tmp_path / "binary")

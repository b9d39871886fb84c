"""`leray algebra betti` on files of facets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from algebra.spaces import KLEIN, RP2, three_torus
from leray.cli import main


def _written(path: Path, facets) -> str:
    path.write_text("".join(" ".join(map(str, f)) + "\n" for f in facets))
    return str(path)


@pytest.mark.parametrize(("field", "betti"), [("Q", [1, 1, 0]), ("2", [1, 2, 1]), ("3", [1, 1, 0])])
def test_golden_the_klein_bottle(tmp_path: Path, capsys, field, betti):
    path = _written(tmp_path / "k.txt", KLEIN)
    assert main(["algebra", "betti", "--simplices", path, "--field", field, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["betti"] == betti
    assert found["field"] == {"Q": "Q", "2": "GF(2)", "3": "GF(3)"}[field]
    assert all(c["exact"] and c["decided"] for c in found["certificates"])


def test_golden_a_table_for_people(tmp_path: Path, capsys):
    path = _written(tmp_path / "p.txt", RP2)
    assert main(["algebra", "betti", "--simplices", path, "--field", "2"]) == 0
    printed = capsys.readouterr().err
    assert "H^2          1   of 10 cells" in printed
    assert "Euler characteristic 1 over GF(2)" in printed


def test_large_matrices_over_q_say_that_a_prime_was_used(tmp_path: Path, capsys):
    path = _written(tmp_path / "t.txt", three_torus(8).tolist())
    assert main(["algebra", "betti", "--simplices", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["betti"] == [1, 3, 3, 1]
    assert [c["modulus"] for c in found["certificates"]] == [0, 2**31 - 1, 2**31 - 1]


@pytest.mark.parametrize("field", ["R", "4", "-2", "1e3"])
def test_unknown_fields_are_one_line(tmp_path: Path, capsys, field):
    path = _written(tmp_path / "k.txt", KLEIN)
    assert main(["algebra", "betti", "--simplices", path, f"--field={field}"]) == 1
    assert capsys.readouterr().err.startswith("error: ")

"""`leray algebra` on files of matrices and of filtrations: sequences, pages, barcodes, errors."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import gudhi
import numpy as np
import pytest

from algebra.spaces import RP2, TORUS, hopf_filtration
from leray.algebra.fields import Q
from leray.cli import main

PNG = b"\x89PNG\r\n\x1a\n"
CIRCLE = {"differentials": [[[-1, 1, 0], [0, -1, 1], [-1, 0, 1]]]}
EDGE = {"differentials": [[[-1, 1]]]}
ENDS = {"dimensions": [2, 0]}
PAIR = {  # the interval and its two ends, as cochains: 0 → C(I, ∂I) → C(I) → C(∂I) → 0
    "A": {"dimensions": [0, 1]}, "B": EDGE, "C": ENDS,
    "f": [[[], []], [[1]]], "g": [[[1, 0], [0, 1]], []],
}  # fmt: skip
TRIANGLE = "0 1 # 0\n1 2 # 0.5\n0 2 # 2\n0 1 2 # 3.25\n"


def written(folder: Path, name: str, content: object) -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def hopf(folder: Path) -> str:
    filtered = hopf_filtration(Q)
    d = [[[int(x.p) for x in row] for row in m.tolist()] for m in filtered.complex.differentials]
    levels = {str(n): list(own) for n, own in filtered.levels.items()}
    return written(folder, "hopf.json", {"differentials": d, "levels": levels})


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    assert main(["algebra", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def one_line(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["algebra", *args]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    return line


def test_golden_betti_numbers_of_a_complex(tmp_path, capsys):
    path = written(tmp_path, "c.json", CIRCLE | {"lowest": -3})
    for field in ("Q", "2", "float64"):
        found = said(capsys, "betti", "--complex", path, "--field", field)
        assert (found["betti"], found["lowest"]) == ([1, 1], -3)
        assert [c["rank"] for c in found["certificates"]] == [2]
    assert main(["algebra", "betti", "--complex", path]) == 0
    printed = capsys.readouterr().err
    assert "H^-3          1   of 3 dimensions   rank d_-3 = 2, exact" in printed
    assert "Euler characteristic 0 over Q" in printed


def test_golden_a_sequence_of_maps_node_by_node(tmp_path, capsys):
    path = written(
        tmp_path, "m.json", {"maps": [[[1], [0], [0]], [[0, 1, 0]]], "names": ["U", "V", "W"]}
    )
    found = said(capsys, "sequence", "--file", path)
    rows = [(n["name"], n["dim"], n["rank_in"], n["rank_out"], n["defect"], n["is_exact"])
            for n in found["nodes"]]  # fmt: skip
    assert rows == [("U", 1, 0, 1, 0, True), ("V", 3, 1, 1, 1, False), ("W", 1, 1, 0, 0, True)]
    assert found["is_exact"] is False
    assert main(["algebra", "sequence", "--file", path]) == 0
    printed = capsys.readouterr().err
    assert "V           3          1          1  not exact: dim ker/im = 1" in printed
    assert "not exact over Q, with zeros at both ends" in printed


def test_golden_what_composes_to_something_and_what_is_undecided_are_results(tmp_path, capsys):
    path = written(tmp_path, "m.json", {"maps": [[[1], [0]], [[1, 0]]]})
    found = said(capsys, "sequence", "--file", path)
    assert [n["is_complex"] for n in found["nodes"]] == [True, False, True]
    assert main(["algebra", "sequence", "--file", path]) == 0
    assert "the composition is not 0 (relative size 1)" in capsys.readouterr().err
    path = written(tmp_path, "u.json", {"maps": [[[0.5, 0], [0, 1e-15]]]})
    found = said(capsys, "sequence", "--file", path, "--field", "float64")
    assert (found["is_exact"], found["nodes"][0]["rank_out"]) == (None, None)
    assert found["nodes"][0]["outgoing"]["decided"] is False
    assert main(["algebra", "sequence", "--file", path, "--field", "float64"]) == 0
    printed = capsys.readouterr().err
    assert "undecided: the error bound of a rank leaves it open" in printed
    assert "undecided over float64" in printed


@pytest.mark.parametrize("field", ["Q", "2", "float64"])
def test_golden_the_long_exact_sequence_of_the_interval_and_its_ends(tmp_path, capsys, field):
    """H⁰(I) = 1 → H⁰(∂I) = 2 → H¹(I, ∂I) = 1 → 0: the connecting map is onto."""
    path = written(tmp_path, "pair.json", PAIR)
    found = said(capsys, "sequence", "--file", path, "--field", field)
    dims = {n["name"]: n["dim"] for n in found["nodes"]}
    assert [dims[k] for k in ("H^0(A)", "H^0(B)", "H^0(C)", "H^1(A)", "H^1(B)")] == [0, 1, 2, 1, 0]
    assert found["is_exact"] is True
    first = found["connecting"][0]
    assert (first["from"], first["to"], first["rank"]) == ("H^0(C)", "H^1(A)", 1)
    assert first["shape"] == [1, 2]
    assert len(first["matrix"]) == 1
    assert abs(sum(abs(x) for x in first["matrix"][0])) > 0.5
    assert main(["algebra", "sequence", "--file", path, "--field", field]) == 0
    printed = capsys.readouterr().err
    assert "H^0(C) → H^1(A), of rank 1" in printed
    assert "H^1(A)       1          1          0  exact" in printed


def test_golden_fractions_are_text(tmp_path, capsys):
    """The lift of 1 along g = 2 has d = 1/2."""
    halved = PAIR | {"B": {"differentials": [[[1]]]}, "C": {"dimensions": [1, 0]},
                     "f": [[[]], [[1]]], "g": [[[2]], []]}  # fmt: skip
    found = said(capsys, "sequence", "--file", written(tmp_path, "h.json", halved))
    assert found["connecting"][0]["matrix"] == [["1/2"]]


@pytest.mark.parametrize("field", ["Q", "2", "float64"])
def test_golden_the_pages_of_the_hopf_map(tmp_path, capsys, field):
    path, figure = hopf(tmp_path), tmp_path / "pages.png"
    found = said(capsys, "pages", "--complex", path, "--field", field, "--figure", str(figure))
    assert [page["r"] for page in found["pages"]] == [0, 1, 2, 3]
    corner = [(t["p"], t["q"], t["dim"]) for t in found["pages"][2]["terms"]]
    assert corner == [(0, 0, 1), (0, 1, 1), (2, 0, 1), (2, 1, 1)]
    assert found["pages"][2]["differentials"] == [{"from": [0, 1], "to": [2, 0], "rank": 1}]
    assert found["stabilizes_at"] == 3
    assert found["limit"] == found["abutment"] == found["pages"][3]["terms"]
    assert (found["betti"], found["levels"]) == ([1, 0, 0, 1], None)
    assert figure.read_bytes().startswith(PNG)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_golden_one_page_as_a_table(tmp_path, capsys):
    assert main(["algebra", "pages", "--complex", hopf(tmp_path), "--page", "1"]) == 0
    printed = capsys.readouterr().err
    assert "E_1\n  (0, 0)          4   rank 3 to (1, 0)" in printed
    assert "E_2" not in printed
    assert (
        "stabilises at E_3 over Q; the limit is the abutment; Betti numbers 1, 0, 0, 1" in printed
    )


def test_golden_pages_and_bars_of_facets_with_levels(tmp_path, capsys):
    """A triangle that closes at 2, as level 2 of 0, 0.5, 2, 3.25, and fills at 3.25."""
    path = written(tmp_path, "t.txt", TRIANGLE)
    found = said(capsys, "pages", "--simplices", path)
    assert found["levels"] == [0.0, 0.5, 2.0, 3.25]
    assert found["pages"][1]["differentials"] == [{"from": [2, -1], "to": [3, -1], "rank": 1}]
    assert found["limit"] == found["abutment"] == [{"p": 0, "q": 0, "dim": 1}]
    bars = said(capsys, "barcode", "--simplices", path, "--field", "3")
    assert bars["intervals"] == [[[0.0, None]], [[2.0, 3.25]], []]
    assert (bars["zero_length"], bars["betti"], bars["faces"]) == ([2, 0, 0], [1, 0, 0], [3, 3, 1])
    assert main(["algebra", "pages", "--simplices", path]) == 0
    assert "levels 0 to 3 stand for 0 to 3.25" in capsys.readouterr().err
    assert main(["algebra", "barcode", "--simplices", path]) == 0
    printed = capsys.readouterr().err
    assert "H^1   1 intervals, 0 of which never end; 0 pairs of one level" in printed
    assert "[2, 3.25), of length 1.25" in printed


@pytest.mark.parametrize("p", [2, 3])
def test_oracle_the_barcode_of_a_file_is_gudhis(tmp_path, capsys, p):
    """Facets of the torus and of the projective plane, each with a level of its own."""
    rng = np.random.default_rng(p)
    facets = [*TORUS, *((10 + a, 10 + b, 10 + c) for a, b, c in RP2)]
    levels = rng.permutation(len(facets)) / 4
    text = "".join(f"{' '.join(map(str, f))} # {t}\n" for f, t in zip(facets, levels, strict=True))
    figure = tmp_path / "b.svg"
    found = said(capsys, "barcode", "--simplices", written(tmp_path, "f.txt", text),
                 "--field", str(p), "--figure", str(figure))  # fmt: skip
    tree = gudhi.SimplexTree()
    for facet, level in sorted(zip(facets, levels, strict=True), key=lambda ft: -ft[1]):
        tree.insert(facet, level)  # a face takes the lower of two levels
    tree.compute_persistence(homology_coeff_field=p, persistence_dim_max=True)
    for n, bars in enumerate(found["intervals"]):
        wanted = sorted(map(tuple, tree.persistence_intervals_in_dimension(n).tolist()))
        assert sorted((a, np.inf if b is None else b) for a, b in bars) == wanted
    assert found["betti"] == ([2, 3, 2] if p == 2 else [2, 2, 1])
    assert ET.fromstring(figure.read_text()).tag.endswith("svg")


def test_figures_replace_what_is_there_and_name_their_data(tmp_path, capsys):
    path, figure = written(tmp_path, "t.txt", TRIANGLE), tmp_path / "a.svg"
    figure.write_text("old")
    assert main(["algebra", "pages", "--simplices", path, "--figure", str(figure)]) == 0
    assert f"figure: {figure}" in capsys.readouterr().err
    words = "".join(ET.fromstring(figure.read_text()).itertext())
    assert "Data: t.txt, n = 3 + 3 + 1 basis vectors in degrees 0 to 2, over Q." in words


def _bad(folder: Path) -> dict[str, str]:
    (folder / "latin.json").write_bytes(b'{"maps": "\xe9"}')
    return {
        "hopf": hopf(folder),
        "triangle": written(folder, "t.txt", TRIANGLE),
        "plain": written(folder, "p.txt", "0 1\n1 2\n"),
        "circle": written(folder, "c.json", CIRCLE),
        "ragged": written(folder, "r.json", {"maps": [[[1, 2], [3]]]}),
        "nan": written(folder, "n.json", '{"maps": [[[NaN]]]}'),
        "huge": written(folder, "h.json", '{"maps": [[[1e999]]]}'),
        "deep": written(folder, "d.json", "[" * 100_000),
        "none": str(folder / "none\x1b[31m.json"),
        "latin": str(folder / "latin.json"),
        "folder": str(folder),
        "unreal": written(folder, "u.json", {"differentials": [[[1]], [[1]]]}),
        "unfiltered": written(folder, "f.json", EDGE | {"levels": {"0": [0, 1], "1": [0]}}),
        "far": written(folder, "far.json", EDGE | {"levels": {"0": [0, 1], "1": [1000000]}}),
        "half": written(folder, "half.json", {"maps": [[["1/2"]]]}),
        "split": written(folder, "s.json", PAIR | {"g": [[[1, 0], [1, 0]], []]}),
        "large": written(folder, "l.txt", "".join(f"{k} {k + 1} # 0\n" for k in range(1_100))),
        "undecided": written(folder, "un.json", {"differentials": [[[0.5, 0], [0, 1e-15]]],
                                                 "levels": {"0": [0, 0], "1": [0, 0]}}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("betti", "one of them; got none"),
        ("betti --simplices @triangle --complex @circle", "one of them; got both"),
        ("pages", "one of them; got none"),
        ("pages --simplices @triangle --complex @circle", "one of them; got both"),
        ("betti --complex @unreal", "u.json': d_1 d_0 is not zero"),
        ("betti --complex @circle --field 4", "needs a prime"),
        ("betti --complex @undecided --field float64", "is undecided"),
        ("sequence --file @none", r"none\x1b[31m.json"),
        ("sequence --file @folder", "cannot read"),
        ("sequence --file @latin", "is not UTF-8: byte"),
        ("sequence --file @ragged", "maps[0][1] has 1 of 2"),
        ("sequence --file @nan", "NaN is no number of JSON"),
        ("sequence --file @huge --field float64", "maps[0][0][0] is the number inf"),
        ("sequence --file @deep", "nested too deeply"),
        ("sequence --file @half --field 2", "maps[0]: 1/2 has no value in GF(2)"),
        ("sequence --file @half --field R", "field must be Q, a prime, float64 or float32"),
        ("sequence --file @split", "is not exact at B^0: ker/im has dimension 1"),
        ("pages --complex @circle", 'c.json\' has no "levels"'),
        ("pages --simplices @plain", "p.txt have no level: write one after each"),
        ("pages --complex @unfiltered", "f.json': d_0 lowers a level"),
        ("pages --complex @far", "levels from 0 to 1000000; allowed for pages: 100"),
        ("pages --simplices @large", "a differential of 1,211,100 entries"),
        ("pages --complex @undecided --field float64", "is undecided"),
        ("pages --complex @hopf --page=-1", "--page must be all or a number from 0; got '-1'"),
        ("pages --complex @hopf --page two", "--page must be all or a number from 0; got 'two'"),
        ("pages --complex @hopf --figure @triangle", "must end in .png or .svg; got"),
        ("pages --complex @hopf --figure /nowhere/a.png", "give a file in a folder that is there"),
        ("barcode --simplices @plain", "p.txt have no level"),
        ("barcode --simplices @triangle --field Q", "persistence is found over GF(p); got Q"),
        ("barcode --simplices @triangle --figure a.pdf", "must end in .png or .svg; got 'a.pdf'"),
        ("barcode --simplices @folder", "cannot read"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(tmp_path, capsys, args, words):
    paths = _bad(tmp_path)
    given = [paths[a[1:]] if a.startswith("@") else a for a in args.split()]
    assert words in one_line(capsys, *given)

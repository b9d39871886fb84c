"""JSON of complexes and sequences: what is read, and what is refused with its key and place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import flint
import numpy as np
import pytest
import torch

from leray.algebra.complexes import NotACochainMapError, NotAComplexError
from leray.algebra.exact import NotExactError, ShortExactSequence
from leray.algebra.fields import GF, Field, Floats, Q
from leray.data.complexes import MapSequence, read_complex, read_sequence
from leray.errors import LerayError

CIRCLE = {"differentials": [[[-1, 1, 0], [0, -1, 1], [-1, 0, 1]]]}
POINT: dict[str, Any] = {"dimensions": [1]}
SHORT = {"A": POINT, "B": {"dimensions": [2]}, "C": POINT,
         "f": [[[1], [0]], []], "g": [[[0, 1]], []]}  # fmt: skip


def written(folder: Path, content: object) -> Path:
    path = folder / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("field", [Q, GF(2), Floats()], ids=lambda f: f.name)
def test_a_complex_with_all_its_keys(tmp_path: Path, field: Field) -> None:
    levels = {"-1": [0, 0, 0.5], "0": [1, 1, 1]}
    found = read_complex(written(tmp_path, CIRCLE | {"lowest": -1, "levels": levels}), field)
    assert found.complex.betti_numbers() == (1, 1)
    assert list(found.complex.degrees) == [-1, 0]
    assert found.levels == {-1: [0.0, 0.0, 0.5], 0: [1.0, 1.0, 1.0]}
    assert read_complex(written(tmp_path, CIRCLE), field).levels is None


def test_matrices_without_rows_or_columns_come_with_dimensions(tmp_path: Path) -> None:
    empty = {"dimensions": [0, 2, 1, 0], "differentials": [[], [[1, 0]], []]}
    c = read_complex(written(tmp_path, empty), Q).complex
    assert [d.shape for d in c.differentials] == [(2, 0), (1, 2), (0, 1)]
    assert c.betti_numbers() == (0, 1, 0, 0)
    rows = {"dimensions": [0, 2], "differentials": [[[], []]]}
    assert read_complex(written(tmp_path, rows), Q).complex.betti_numbers() == (0, 2)
    zero = read_complex(written(tmp_path, {"dimensions": [3, 2]}), GF(3)).complex
    assert zero.betti_numbers() == (3, 2)


def test_entries_keep_their_value_over_every_field(tmp_path: Path) -> None:
    path = written(tmp_path, {"differentials": [[["1/2", -3, "-4/6"]]]})
    exact = read_complex(path, Q).complex.d(0)
    assert exact.tolist() == [[flint.fmpq(1, 2), flint.fmpq(-3), flint.fmpq(-2, 3)]]
    assert read_complex(path, GF(5)).complex.d(0).tolist() == [[3, 2, 1]]
    assert torch.equal(read_complex(path, Floats()).complex.d(0),
                       torch.tensor([[0.5, -3, -2 / 3]], dtype=torch.float64))  # fmt: skip
    large = 10**40 + 1
    assert (
        int(read_complex(written(tmp_path, {"differentials": [[[large]]]}), Q).complex.d(0)[0, 0].p)
        == large
    )
    decimal = read_complex(written(tmp_path, '{"differentials": [[[0.25, 1e-3]]]}'), Floats())
    assert np.allclose(decimal.complex.d(0), [[0.25, 0.001]], rtol=1e-15)


def test_sequences_of_maps_and_of_complexes(tmp_path: Path) -> None:
    maps = {"maps": [[[1], [0]], [[0, 1]]], "names": ["U", "V", "W"]}
    found = read_sequence(written(tmp_path, maps), Q)
    assert isinstance(found, MapSequence)
    assert [m.shape for m in found.maps] == [(2, 1), (1, 2)]
    assert found.names == ("U", "V", "W")
    del maps["names"]
    unnamed = read_sequence(written(tmp_path, maps), Q)
    assert isinstance(unnamed, MapSequence)
    assert unnamed.names == ("V_0", "V_1", "V_2")
    assert isinstance(read_sequence(written(tmp_path, SHORT), Q), ShortExactSequence)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", r"a.json': not JSON \(expecting value, line 1, column 1\)"),
        ("[1, 2]", "the file is a list; allowed: an object with lowest, differentials"),
        ("[" * 100_000, "nested too deeply"),
        ('{"differentials": ' + "[" * 500 + "]" * 500 + "}", r"s\[0\]\[0\]\[0\] is a list"),
        ("{}", "the file has neither 'differentials' nor 'dimensions'"),
        ({"diferentials": []}, "unknown key 'diferentials'; did you mean 'differentials'"),
        ('{"\\u001b[31m": 1}', r"unknown key '\\\\x1b\[31m'"),
        ('{"lowest": 1, "lowest": 2}', "key 'lowest' comes twice; allowed: once"),
        ({"differentials": []}, "list of 1 to 1000 matrices; got 0 of them"),
        ({"differentials": {}}, "matrices; got an object"),
        ({"differentials": [[]]}, r"differentials\[0\] must be a list of rows.*needs 'dimensions'"),
        ({"differentials": [[[1, 2], [3]]]}, r"differentials\[0\]\[1\] has 1 of 2: a row of a 2"),
        ({"differentials": [[[1, 2], 3]]}, r"differentials\[0\]\[1\] is the number 3; allowed: a"),
        ({"differentials": [[[1]], [[1, 2]]]}, r"differentials\[1\] has 2 columns, but .* 1 rows"),
        ({"differentials": [[[1] * 2_001]]}, "1 rows and 2001 columns; allowed: 2,000"),
        ('{"differentials": [[[NaN]]]}', "NaN is no number of JSON; allowed: finite"),
        ('{"differentials": [[[1, -Infinity]]]}', "-Infinity is no number"),
        ({"differentials": [[[True]]]}, r"differentials\[0\]\[0\]\[0\] is true or false"),
        ({"differentials": [[[None]]]}, "is null; allowed over Q: integers and fractions such as"),
        ({"differentials": [[[0.5]]]}, "is the number 0.5; allowed over Q: integers and fractions"),
        ({"differentials": [[["1e9"]]]}, "is '1e9'; allowed over Q"),
        ({"differentials": [[["1/0"]]]}, "is '1/0'; allowed over Q"),
        ({"differentials": [[["9" * 301]]]}, "is '9999999.*; allowed over Q"),
        ('{"differentials": [[[' + "9" * 5_000 + "]]]}", "an integer of 5000 digits; allowed: 300"),
        ({"dimensions": [1, 1], "differentials": [[[1]], [[1]]]}, "dimensions has 2 of 3: one"),
        ({"dimensions": [2, 1], "differentials": [[]]}, r"differentials\[0\] has 0 of 1: the rows"),
        ({"dimensions": [-1]}, r"dimensions\[0\] is the number -1; allowed: an integer from 0"),
        ({"dimensions": [10**9]}, r"dimensions\[0\] is the number 1000000000; allowed"),
        ({"dimensions": [2_000] * 4}, "ask for matrices of 12,000,000 entries"),
        ({"dimensions": 3}, "list of 1 to 1000 dimensions; got the number 3"),
        (CIRCLE | {"lowest": 0.5}, "lowest is the number 0.5; allowed: an integer"),
        (CIRCLE | {"levels": [0]}, "levels is a list; allowed: an object with 0, 1"),
        (CIRCLE | {"levels": {"0": [0]}}, r"levels\['0'\] must have 3 levels.*; got 1 of them"),
        (CIRCLE | {"levels": {"0": 5}}, r"levels\['0'\] must have 3 levels.*; got the number 5"),
        (CIRCLE | {"levels": {"2": [0]}}, "levels has the unknown key '2'"),
        (CIRCLE | {"levels": {"0": [0, "x", 0]}}, r"levels\['0'\]\[1\] is 'x'; allowed: a finite"),
        ('{"dimensions": [1], "levels": {"0": [1e999]}}', "is the number inf; allowed: a finite"),
    ],
)  # fmt: skip
def test_what_is_no_complex_names_key_and_place(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(LerayError, match=words) as caught:
        read_complex(written(tmp_path, content), Q)
    assert "a.json" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_a_field_has_not_is_refused(tmp_path: Path) -> None:
    half = written(tmp_path, {"differentials": [[["1/2"]]]})
    with pytest.raises(LerayError, match=r"a.json': differentials\[0\]: 1/2 has no value in GF\(2"):
        read_complex(half, GF(2))
    for text in ("1e999", "-1e400"):
        path = written(tmp_path, f'{{"differentials": [[[{text}]]]}}')
        with pytest.raises(LerayError, match=r"\[0\]\[0\] is the number -?inf; .* decimals"):
            read_complex(path, Floats())
    path = written(tmp_path, {"differentials": [[[1e300]]]})
    with pytest.raises(LerayError, match="not a finite number"):
        read_complex(path, Floats(dtype=torch.float32))


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ({"map": []}, LerayError, "unknown key 'map'; did you mean 'maps'"),
        ({}, LerayError, "the file has no 'maps'"),
        ({"maps": [[[1]]], "names": ["U"]}, LerayError, "names has 1 of 2: one name a space"),
        ({"maps": [[[1]]], "names": ["U", 5]}, LerayError, r"names\[1\] is the number 5"),
        ({"maps": [[[1]], [[1, 2]]]}, LerayError, r"maps\[1\] has 2 columns"),
        ({k: v for k, v in SHORT.items() if k != "g"}, LerayError, "the file has no 'g'; it needs"),
        (SHORT | {"A": {}}, LerayError, "A has neither"),
        (SHORT | {"A": {"dimensions": ["x"]}}, LerayError, r"A.dimensions\[0\] is 'x'"),
        (SHORT | {"f": [[[1], [0]]]}, LerayError, "f has 1 of 2: one matrix for every degree of B"),
        (SHORT | {"f": [[[1, 0]], []]}, LerayError, r"f\[0\] has 1 of 2: the rows of a 2 × 1"),
        (SHORT | {"g": [[[1, 0]], []]}, NotExactError, "not exact at B.0: the composition is not"),
        (SHORT | {"B": CIRCLE}, LerayError, r"f\[0\] has 2 of 3: the rows of a 3 × 1"),
        (
            {k: {"differentials": [[[1]]]} for k in "AB"}
            | {"C": {"dimensions": [0, 0]}, "f": [[[1]], [[2]]], "g": [[], []]},
            NotACochainMapError,
            "d f.0 and f.1 d differ",
        ),
    ],
)
def test_what_is_no_sequence_names_key_and_place(
    tmp_path: Path, content: Any, kind: type[LerayError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        read_sequence(written(tmp_path, content), Q)
    assert "a.json" in str(caught.value)


def test_what_composes_to_something_is_no_complex(tmp_path: Path) -> None:
    with pytest.raises(NotAComplexError, match=r"a.json': d_1 d_0 is not zero"):
        read_complex(written(tmp_path, {"differentials": [[[1]], [[1]]]}), Q)


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(LerayError, match="cannot read"):
            read_complex(path, Q)
    (tmp_path / "latin").write_bytes(b'{"lowest": "\xe9"}')
    with pytest.raises(LerayError, match="not UTF-8: byte 13"):
        read_complex(tmp_path / "latin", Q)
    (tmp_path / "large").write_bytes(b" " * ((1 << 24) + 1))
    with pytest.raises(LerayError, match="more than 16 MiB"):
        read_complex(tmp_path / "large", Q)

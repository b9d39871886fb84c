"""Complexes and sequences of maps from a JSON file, checked before any mathematics sees them.

A complex, whose matrices act from the left (d_n has dim Cⁿ⁺¹ rows and dim Cⁿ columns)::

    {"lowest": 0, "differentials": [[[-1, 1], ["1/2", 0]], …], "dimensions": [2, 2, …],
     "levels": {"0": [0, 0], "1": [0, 1.5], …}}

Only ``differentials`` or ``dimensions`` must be there. ``lowest`` is the first degree, 0 unless
given. ``dimensions`` says dim Cⁿ for every degree, which a matrix without rows or columns, written
``[]``, needs; where ``differentials`` are left out they are zero. ``levels`` gives every basis
vector its level in a filtration, by degree; degrees of dimension 0 may be left out.

A sequence of maps V_0 → V_1 → …, whose names may be left out, and whose ``dimensions`` may be given
as above::

    {"maps": [[[1, 0]], …], "names": ["U", "V", …]}

A short exact sequence 0 → A → B → C → 0 of complexes, with one matrix of f: A → B and of g: B → C
for every degree of B::

    {"A": {complex}, "B": {complex}, "C": {complex}, "f": [[[1], [0]], …], "g": [[[0, 1]], …]}

A matrix is a list of rows; an entry is an integer, text such as ``"1/2"``, or, over floats only, a
decimal. Places in errors count from 0, as the indices of the JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from leray.algebra.complexes import CochainComplex, CochainMap
from leray.algebra.exact import ShortExactSequence
from leray.algebra.fields import Field, Matrix
from leray.data.reading import decode, is_finite, kind_of, open_bytes
from leray.errors import LerayError, nearest, plain

MOST_BYTES = 1 << 24
MOST_DEGREES = 1_000
LARGEST_DEGREE = 10**6
LARGEST_DIMENSION = 2_000
MOST_ENTRIES = 8_000_000
"""Of all matrices of a complex together, where its dimensions are given."""
MOST_DIGITS = 300
"""Of an integer, and of the two parts of a fraction: about where float64 ends."""

_T = TypeVar("_T")
_FRACTION = re.compile(r"[+-]?[0-9]+(/[0-9]+)?")
_COMPLEX = ("lowest", "differentials", "dimensions", "levels")
_MAPS = ("maps", "names", "dimensions")
_SHORT = ("A", "B", "C", "f", "g")


@dataclass(frozen=True, eq=False)
class LeveledComplex:
    """A complex, and the levels of its basis vectors by degree; None where the file has none."""

    complex: CochainComplex
    levels: dict[int, list[float]] | None


@dataclass(frozen=True, eq=False)
class MapSequence:
    """Maps that follow each other, ``[dim V_{i+1}, dim V_i]``, and the names of all V_i."""

    maps: tuple[Matrix, ...]
    names: tuple[str, ...]


def read_complex(path: Path, field: Field) -> LeveledComplex:
    """Read a complex over ``field``.

    Raises:
        LerayError: The file cannot be read, is not JSON of this shape, or holds no complex. File,
            key and place are named.
    """
    return _read(path, lambda value: _complex(value, "", field))


def read_sequence(path: Path, field: Field) -> MapSequence | ShortExactSequence:
    """Read a sequence of maps, or a short exact sequence of complexes, over ``field``.

    Raises:
        LerayError: As :func:`read_complex`; or the sequence of complexes is not exact.
    """

    def read(value: Any) -> MapSequence | ShortExactSequence:
        if isinstance(value, dict) and "maps" not in value and set(value) & {"A", "B", "C"}:
            return _short(value, field)
        return _sequence(value, field)

    return _read(path, read)


def _read(path: Path, build: Callable[[Any], _T]) -> _T:
    text = _text(path)
    try:
        return build(_parse(text))
    except LerayError as error:
        raise type(error)(f"{str(path)!r}: {error}") from None


def _text(path: Path) -> str:
    with open_bytes(path) as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise LerayError(f"{str(path)!r} has more than {MOST_BYTES >> 20} MiB, too many for dense "
                         "matrices; give a simplicial complex by its facets")  # fmt: skip
    return decode(raw, path)


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_refused, parse_int=_integer
        )
    except RecursionError:
        raise LerayError("nested too deeply; allowed: matrices, lists of rows") from None
    except json.JSONDecodeError as error:
        where = f"{error.msg.lower()}, line {error.lineno}, column {error.colno}"
        raise LerayError(f"not JSON ({where})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(k for i, k in enumerate(keys) if k in keys[:i])
        raise LerayError(f"key {plain(twice)!r:.60} comes twice; allowed: once")
    return found


def _refused(constant: str) -> float:
    raise LerayError(f"{constant} is no number of JSON; allowed: finite numbers")


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise LerayError(f"an integer of {len(text)} digits; allowed: {MOST_DIGITS}")
    return int(text)


def _complex(value: Any, where: str, field: Field) -> LeveledComplex:
    content = _object(value, where or "the file", _COMPLEX)
    lowest = _small(content.get("lowest", 0), f"{where}lowest", -LARGEST_DEGREE, LARGEST_DEGREE)
    if "differentials" in content:
        made = _matrices(content, "differentials", where, field)
    elif "dimensions" in content:
        spaces = _dimensions(content["dimensions"], f"{where}dimensions")
        made = CochainComplex.spaces(spaces, field).differentials
    else:
        raise LerayError(f"{where.rstrip('.') or 'the file'} has neither 'differentials' nor "
                         "'dimensions'; give one of them, or both")  # fmt: skip
    found = CochainComplex(made, field, lowest)
    levels = content.get("levels")
    return LeveledComplex(found, None if levels is None else _levels(levels, where, found))


def _sequence(value: Any, field: Field) -> MapSequence:
    content = _object(value, "the file", _MAPS, required=("maps",))
    maps = _matrices(content, "maps", "", field)
    names = content.get("names", [f"V_{i}" for i in range(len(maps) + 1)])
    _list(names, "names", len(maps) + 1, "one name a space, one more than maps")
    for i, name in enumerate(names):
        if not isinstance(name, str) or not 0 < len(name) <= 60:
            raise LerayError(f"names[{i}] is {_said(name)}; allowed: text of 1 to 60 characters")
    return MapSequence(maps, tuple(plain(name) for name in names))


def _short(value: Any, field: Field) -> ShortExactSequence:
    content = _object(value, "the file", _SHORT, required=_SHORT)
    a, b, c = (_complex(content[k], f"{k}.", field).complex for k in "ABC")
    maps = []
    for key, source, target in (("f", a, b), ("g", b, c)):
        given = _list(content[key], key, len(b.degrees), "one matrix for every degree of B")
        made = {
            n: _matrix(m, f"{key}[{i}]", field, (target.dim(n), source.dim(n)))
            for i, (n, m) in enumerate(zip(b.degrees, given, strict=True))
        }
        maps.append(CochainMap(source, target, made))
    return ShortExactSequence(*maps)


def _levels(value: Any, where: str, c: CochainComplex) -> dict[int, list[float]]:
    allowed = [str(n) for n in c.degrees]
    content = _object(value, f"{where}levels", allowed)
    found = {}
    for n in c.degrees:
        own, place = content.get(str(n), []), f"{where}levels[{str(n)!r}]"
        if not isinstance(own, list) or len(own) != c.dim(n):
            came = f"{len(own)} of them" if isinstance(own, list) else kind_of(own)
            raise LerayError(f"{place} must have {c.dim(n)} levels, one a basis vector; got {came}")
        for i, level in enumerate(own):
            if not is_finite(level):
                raise LerayError(f"{place}[{i}] is {_said(level)}; allowed: a finite number")
        found[n] = [float(level) for level in own]
    return found


def _matrices(content: Mapping[str, Any], key: str, where: str, field: Field) -> tuple[Matrix, ...]:
    """The matrices under a key, each of which begins where the one before it ends."""
    given, place = content[key], f"{where}{key}"
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_DEGREES:
        came = f"{len(given)} of them" if isinstance(given, list) else kind_of(given)
        raise LerayError(f"{place} must be a list of 1 to {MOST_DEGREES} matrices; got {came}")
    if "dimensions" in content:
        dims = _dimensions(content["dimensions"], f"{where}dimensions")
        _list(dims, f"{where}dimensions", len(given) + 1, f"one more than {key}")
        shapes = [(after, before) for before, after in pairwise(dims)]
    else:
        shapes = [_shape(m, f"{place}[{i}]") for i, m in enumerate(given)]
        for i, (first, second) in enumerate(pairwise(shapes)):
            if second[1] != first[0]:
                raise LerayError(
                    f"{place}[{i + 1}] has {second[1]} columns, but {place}[{i}] before it has "
                    f"{first[0]} rows; they must be equal"
                )
    made = zip(given, shapes, strict=True)
    return tuple(_matrix(m, f"{place}[{i}]", field, s) for i, (m, s) in enumerate(made))


def _shape(rows: Any, where: str) -> tuple[int, int]:
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], list) or not rows[0]:
        came = "none" if rows == [] else "an empty row" if rows == [[]] else "something else"
        raise LerayError(
            f"{where} must be a list of rows, each a list of entries; got {came}. A matrix without "
            "rows or columns is [], and needs 'dimensions'"
        )
    if max(len(rows), len(rows[0])) > LARGEST_DIMENSION:
        raise LerayError(f"{where} has {len(rows)} rows and {len(rows[0])} columns; allowed: "
                         f"{LARGEST_DIMENSION:,} of each")  # fmt: skip
    return len(rows), len(rows[0])


def _matrix(rows: Any, where: str, field: Field, shape: tuple[int, int]) -> Matrix:
    num_rows, num_columns = shape
    if 0 in shape and (rows == [] or rows == [[]] * num_rows):
        return field.zeros(*shape)
    _list(rows, where, num_rows, f"the rows of a {num_rows} × {num_columns} matrix")
    out = np.empty(shape, dtype=object)
    for i, row in enumerate(rows):
        _list(row, f"{where}[{i}]", num_columns, f"a row of a {num_rows} × {num_columns} matrix")
        for j, entry in enumerate(row):
            out[i, j] = _entry(entry, f"{where}[{i}][{j}]", field)
    try:
        return field.matrix(out)
    except LerayError as error:
        raise LerayError(f"{where}: {error}") from None


def _entry(entry: Any, where: str, field: Field) -> int | float | Fraction:
    if isinstance(entry, int) and not isinstance(entry, bool):
        return entry
    if isinstance(entry, float) and math.isfinite(entry) and not field.exact:
        return entry
    if isinstance(entry, str) and _FRACTION.fullmatch(entry):
        parts = entry.split("/")
        if all(len(p) <= MOST_DIGITS for p in parts) and (len(parts) == 1 or int(parts[1])):
            return Fraction(entry)
    allowed = 'integers and fractions such as "1/2"' + ("" if field.exact else ", and decimals")
    raise LerayError(f"{where} is {_said(entry)}; allowed over {field.name}: {allowed}")


def _dimensions(value: Any, where: str) -> list[int]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_DEGREES:
        came = f"{len(value)} of them" if isinstance(value, list) else kind_of(value)
        raise LerayError(f"{where} must be a list of 1 to {MOST_DEGREES} dimensions; got {came}")
    dims = [_small(d, f"{where}[{i}]", 0, LARGEST_DIMENSION) for i, d in enumerate(value)]
    entries = sum(a * b for a, b in pairwise(dims))
    if entries > MOST_ENTRIES:
        raise LerayError(f"{where} ask for matrices of {entries:,} entries; allowed: "
                         f"{MOST_ENTRIES:,}")  # fmt: skip
    return dims


def _object(
    value: Any, what: str, known: Sequence[str], *, required: Sequence[str] = ()
) -> dict[str, Any]:
    what = what.rstrip(".")
    if not isinstance(value, dict):
        raise LerayError(f"{what} is {kind_of(value)}; allowed: an object with {_words(known)}")
    for key in value:
        if key not in known:
            raise LerayError(
                f"{what} has the unknown key {plain(key)!r:.60}{nearest(key, known)}; allowed: "
                f"{_words(known)}"
            )
    for key in required:
        if key not in value:
            raise LerayError(f"{what} has no {key!r}; it needs {_words(required)}")
    return value


def _words(keys: Sequence[str]) -> str:
    return ", ".join(keys) if len(keys) <= 8 else f"{keys[0]} … {keys[-1]}"


def _list(value: Any, where: str, length: int, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise LerayError(f"{where} is {kind_of(value)}; allowed: a list, {what}")
    if len(value) != length:
        raise LerayError(f"{where} has {len(value)} of {length}: {what}")
    return value


def _small(value: Any, where: str, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise LerayError(
            f"{where} is {_said(value)}; allowed: an integer from {lowest} to {highest}"
        )
    return value


def _said(value: Any) -> str:
    """What came, for an error; text as far as it is short."""
    return f"{plain(value)!r:.40}" if isinstance(value, str) else kind_of(value)

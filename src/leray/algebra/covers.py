"""Pairs and covers by two: the exact sequences of restriction.

For subcomplexes A and B of their union X, cochains restrict, and

    0 → C(X, A) → C(X) → C(A) → 0,      0 → C(X) → C(A) ⊕ C(B) → C(A ∩ B) → 0

are exact: in the first C(X, A) are the cochains that vanish on A, in the second a cochain of X is a
pair that agrees on A ∩ B. The long exact sequences are those of the pair and of Mayer and Vietoris.

Source: Hatcher, Algebraic Topology (2002), 2.2 and 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leray.algebra.complexes import CochainComplex, CochainMap
from leray.algebra.exact import ShortExactSequence
from leray.algebra.fields import Field, Matrix
from leray.algebra.simplicial import SimplicialComplex
from leray.errors import LerayError

_Face = tuple[int, ...]


def pair_sequence(
    space: SimplicialComplex, inside: SimplicialComplex, field: Field
) -> ShortExactSequence:
    """0 → C(X, A) → C(X) → C(A) → 0 for a subcomplex A of X.

    Raises:
        LerayError: A has a face that X has not.
    """
    whole, part = _faces(space), _faces(inside)
    for k, faces in enumerate(part):
        extra = set(faces) - set(whole[k] if k < len(whole) else ())
        if extra:
            raise LerayError(f"face {min(extra)} of the subcomplex is no face of the complex")
    outside = [[f for f in faces if f not in set(_at(part, k))] for k, faces in enumerate(whole)]
    c = _cochains(space, field, len(whole))
    kept = {k: _selection(whole[k], outside[k], field) for k in range(len(whole))}
    relative = CochainComplex(
        tuple(field.mul(kept[k + 1], field.mul(c.d(k), kept[k].T)) for k in range(len(whole) - 1))
        or (field.zeros(0, len(outside[0])),),
        field,
    )
    restricted = {k: _selection(whole[k], _at(part, k), field) for k in range(len(whole))}
    into = CochainMap(relative, c, {k: m.T for k, m in kept.items()})
    return ShortExactSequence(into, CochainMap(c, _cochains(inside, field, len(whole)), restricted))


def mayer_vietoris(a: SimplicialComplex, b: SimplicialComplex, field: Field) -> ShortExactSequence:
    """0 → C(A ∪ B) → C(A) ⊕ C(B) → C(A ∩ B) → 0, by x ↦ (x|A, x|B) and (x, y) ↦ x|A∩B − y|A∩B."""
    first, second = _faces(a), _faces(b)
    length = max(len(first), len(second))
    union = [sorted({*_at(first, k), *_at(second, k)}) for k in range(length)]
    both = [sorted({*_at(first, k)} & {*_at(second, k)}) for k in range(length)]
    whole = SimplicialComplex.of([f for faces in union for f in faces])
    x = _cochains(whole, field, length)
    middle = _cochains(a, field, length) + _cochains(b, field, length)
    shared = _of_faces(both, field)
    into, onto = {}, {}
    for k in range(length):
        parts = [_selection(union[k], _at(part, k), field) for part in (first, second)]
        into[k] = field.cat(parts, 0)
        left, right = (_selection(_at(part, k), both[k], field) for part in (first, second))
        onto[k] = field.cat([left, field.scale(-1, right)], 1)
    return ShortExactSequence(CochainMap(x, middle, into), CochainMap(middle, shared, onto))


def _faces(space: SimplicialComplex) -> list[list[_Face]]:
    return [list(map(tuple, faces.tolist())) for faces in space.faces]


def _at(faces: Sequence[list[_Face]], k: int) -> list[_Face]:
    return faces[k] if k < len(faces) else []


def _cochains(space: SimplicialComplex, field: Field, length: int) -> CochainComplex:
    """The cochains, in ``length`` degrees."""
    c = space.cochains(field)
    return CochainComplex(tuple(c.d(k) for k in range(max(length - 1, 1))), field)


def _of_faces(faces: Sequence[list[_Face]], field: Field) -> CochainComplex:
    """The cochains of a subcomplex that may be empty."""
    if not faces[0]:
        return CochainComplex.spaces([0] * max(len(faces), 2), field)
    space = SimplicialComplex.of([f for row in faces for f in row])
    return _cochains(space, field, len(faces))


def _selection(rows: Sequence[_Face], wanted: Sequence[_Face], field: Field) -> Matrix:
    """The matrix that restricts a cochain on ``rows`` to ``wanted``, ``[wanted, rows]``."""
    place = {face: k for k, face in enumerate(rows)}
    out = np.zeros((len(wanted), len(rows)), dtype=np.int64)
    for k, face in enumerate(wanted):
        out[k, place[face]] = 1
    return field.matrix(out)

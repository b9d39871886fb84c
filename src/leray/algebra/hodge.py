"""The Hodge decomposition of a complex over floats: exact, harmonic and coexact parts.

With lengths and angles Cⁿ = im d_{n−1} ⊕ (ker d_n ∩ ker d_{n−1}ᵀ) ⊕ im d_nᵀ, three spaces at right
angles, and the harmonic one in the middle represents Hⁿ.

Source: Eckmann, Harmonische Funktionen und Randwertaufgaben in einem Komplex (Comment. Math. Helv.
1944).
"""

from __future__ import annotations

from dataclasses import dataclass

from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import Field, Matrix
from leray.errors import LerayError


@dataclass(frozen=True)
class Hodge:
    """Orthonormal bases of the three parts of Cⁿ = im d_{n−1} ⊕ harmonic ⊕ im d_nᵀ."""

    exact: Matrix
    harmonic: Matrix
    coexact: Matrix


def hodge_decomposition(c: CochainComplex, n: int) -> Hodge:
    """The three orthogonal parts of Cⁿ, over floats.

    Raises:
        LerayError: The field is not one of floats, where lengths and angles mean nothing.
    """
    f = _with_angles(c)
    exact, coexact = f.image(c.d(n - 1)), f.image(c.d(n).T)
    return Hodge(exact, c.cohomology(n).basis, coexact)


def harmonic_projection(c: CochainComplex, n: int) -> Matrix:
    """The orthogonal projection of Cⁿ onto ker d_n ∩ ker d_{n−1}ᵀ, ``[dim Cⁿ, dim Cⁿ]``."""
    basis = hodge_decomposition(c, n).harmonic
    return basis @ basis.T


def _with_angles(c: CochainComplex) -> Field:
    if c.field.exact:
        raise LerayError(
            f"the Hodge decomposition needs lengths, which {c.field.name} has not; "
            "give the complex over float64"
        )
    return c.field

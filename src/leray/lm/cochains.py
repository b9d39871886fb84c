"""Sections over short runs of tokens: learned cochains on the complex of a vocabulary.

The vocabulary spans a complex whose p-simplices are its words of p + 1 tokens (the singular chains
of the complete graph, de Bruijn's graph in degree 1), and a text is a path in it. The token
embedding is a 0-cochain read along the path. Here a text reads cochains of degree 1, …, n beside
it:

    e_t = E⁰(x_t) + Σ_{p=1}^{n} P_p E^p(x_{t−p}, …, x_t),

E^p a table of r columns and P_p a matrix, 0 at the start. In degree 1 a cochain is exact, E¹ = δE⁰,
where E¹(a, b) = E⁰(b) − E⁰(a): that is the coboundary of :mod:`leray.lm.coboundary`, for which no
table is needed; what tables add is all that is not exact.

Tables have fewer rows than there are words, so a fixed hash names a word's row and words of one row
share their value: the cochains are those that are constant on the hash's classes. Of language
models this is the hashed n-gram embedding, and we claim no more for it than the name of what it
is.

Source: Pagnoni et al., Byte latent transformer (arXiv 2412.09871), §3.2.1, for hashed n-grams;
Huang et al., Over-tokenized transformer (arXiv 2501.16975).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

MULTIPLIERS = (0x5851F42D, 0x45D9F3B)
"""Of the hash: odd, and below 2³¹ so that products of numbers below 2³² fit into 63 bits."""
MODULUS = 2**32


class Cochains(nn.Module):
    """The values of degree 1 to ``degree`` along a text.

    Args:
        rows: Of every table.
        inner: r, of a row.

    Cost: ``degree · inner · (rows + width)`` weights, and ``degree · inner · width``
    multiplications a token.
    """

    def __init__(self, degree: int, rows: int, inner: int, width: int) -> None:
        super().__init__()
        self.num_rows = rows
        self.tables = nn.ModuleList(nn.Embedding(rows, inner) for _ in range(degree))
        self.maps = nn.ModuleList(nn.Linear(inner, width, bias=False) for _ in range(degree))

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t width"]:
        read = zip(self.maps, self.tables, self.rows_of(tokens), strict=True)
        return torch.stack([into(table(rows)) for into, table, rows in read]).sum(0)

    def rows_of(self, tokens: Int[Tensor, "b t"]) -> list[Int[Tensor, "b t"]]:
        """Which row of each table is read; before the text is a token of its own."""
        word, found = tokens.long(), []
        for p in range(1, 1 + len(self.tables)):
            before = nn.functional.pad(tokens.long() + 1, (p, 0))[:, : tokens.shape[1]]
            word = (word * MULTIPLIERS[0] + before) % MODULUS
            found.append(scattered(word) % self.num_rows)
        return found


def scattered(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A number below 2³² whose low digits depend on all of ``word``'s."""
    word = ((word ^ (word >> 16)) * MULTIPLIERS[1]) % MODULUS
    return word ^ (word >> 16)

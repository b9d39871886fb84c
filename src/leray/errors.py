"""What a user can cause and mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LerayError(ValueError):
    """Something a user can cause, shown as one line and without a traceback.

    Its message says what failed, what came, what was allowed and how to mend it.
    """


def check_seed(seed: int, bits: int = 63) -> int:
    """The seed, where every generator takes it.

    Raises:
        LerayError: It is below 0, or has more bits.
    """
    if not 0 <= seed < 2**bits:
        raise LerayError(f"seed must be 0 to 2^{bits} − 1; got {seed}")
    return seed


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that names the known word nearest to ``name``, or nothing.

    >>> nearest("speeker", ["speaker", "text"])
    "; did you mean 'speaker'?"
    """
    found = get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def plain(text: str) -> str:
    """Text of others as one line in which every control character is an escape that can be read.

    >>> plain("a\\x1b[31m\\u202eb\\nc")
    'a\\\\x1b[31m\\\\u202eb c'
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)

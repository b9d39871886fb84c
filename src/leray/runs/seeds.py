"""Randomness by name: every draw comes from one root seed and the name of its place.

A key is a path of names, such as ``(7, "bootstrap", 0, 12)``: root seed, computation, shard, step.
Its stream is a function of the path alone, so that one worker and many draw the same numbers.
"""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Key:
    """A place in the tree of random streams.

    Args:
        path: The root seed, then the names of the children that lead here.

    >>> Key.root(7).child("bootstrap").child(0)
    Key(path=(7, 'bootstrap', 0))
    """

    path: tuple[int | str, ...]

    @classmethod
    def root(cls, seed: int) -> Key:
        """The key of one root seed (any integer)."""
        return cls((operator.index(seed),))

    def child(self, name: int | str) -> Key:
        """The key below this one; ``child(1)`` and ``child("1")`` are different."""
        return Key((*self.path, name if isinstance(name, str) else operator.index(name)))

    def digest(self) -> bytes:
        """SHA-256 of the path, 32 bytes.

        Each name enters with its type and its length, so that no two paths give the same text:
        ``("a", "bc")`` and ``("ab", "c")`` differ before they are hashed.
        """
        parts = []
        for name in self.path:
            text = str(name).encode()
            kind = b"s" if isinstance(name, str) else b"i"
            parts += [kind, len(text).to_bytes(8, "little"), text]
        return hashlib.sha256(b"".join(parts)).digest()

    def generator(self) -> np.random.Generator:
        """A fresh generator of this key's stream: PCG64 seeded by the digest.

        Called twice, it starts twice from the beginning: draw all that a step needs from one.
        """
        seed = np.random.SeedSequence(int.from_bytes(self.digest(), "little"))
        return np.random.Generator(np.random.PCG64(seed))

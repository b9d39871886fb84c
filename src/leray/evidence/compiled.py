"""One decorator for the loops that are compiled to machine code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

# Sums may be reordered (so that they vectorise), but NaN and infinity keep their meaning.
_SAFE_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def compiled(function: F) -> F:
    """Compile ``function`` with numba, cached on disk, without the interpreter lock.

    A shape checker that wraps every function (as the test run does) is looked through, since
    numba compiles the source of the function itself.
    """
    original = inspect.unwrap(function)
    return numba.njit(cache=True, nogil=True, fastmath=_SAFE_FASTMATH)(original)  # pyright: ignore[reportReturnType]

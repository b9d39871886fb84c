"""One decorator for the loops that are compiled to machine code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

# Sums may be reordered (so that they vectorise), but NaN and infinity keep their meaning.
_SAFE_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def compiled(function: F) -> F:
    """Compile ``function`` with numba, cached on disk, without the interpreter lock.

    A shape checker that wraps every function (as the test run does) is looked through, since
    numba compiles the source of the function itself.
    """
    return _compile(function)


def inlined(function: F) -> F:
    """:func:`compiled`, and copied into the compiled functions that call it.

    A large function that is called has two machine codes, with sums in different orders: its own,
    which the process that compiles calls, and the copy stored with the caller, which processes
    that load the caller from disk call. Copied in before it is compiled, it has one.
    """
    return _compile(function, inline="always")


def _compile(function: F, **options: Any) -> F:
    original = inspect.unwrap(function)
    return numba.njit(cache=True, nogil=True, fastmath=_SAFE_FASTMATH, **options)(original)  # pyright: ignore[reportReturnType]

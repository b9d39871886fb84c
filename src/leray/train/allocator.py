"""Memory that a training step frees is kept for the next one, where the C library is glibc's.

By default glibc gives large freed blocks back to the system and asks for them again at once, which
costs thousands of page faults a step at the size of the shipped models. The contenders of
`benchmarks/lm.py` all run with memory kept.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30
"""Blocks below this many bytes stay with the process."""


@cache
def keep_freed_memory() -> bool:
    """Ask the allocator of this process once; False where it cannot be asked."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))

"""Freed memory stays: a second pass over large tensors asks the system for nothing."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from leray.train.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
for k in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(2**20) for _ in range(20)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_page_faults_end_where_memory_is_kept():
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("keep", "give back")
    }
    pages = 20 * 2**22 // resource.getpagesize()
    assert faults["keep"] < pages / 8  # one of the tensors or two may find their place split
    assert faults["give back"] > 5 * faults["keep"]

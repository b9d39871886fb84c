"""The hand-written result that the figures are tested with."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_WRITTEN = runpy.run_path(str(Path(__file__).parents[1] / "figures" / "written.py"))


@pytest.fixture(scope="session")
def written_result() -> Callable[..., dict[str, Any]]:
    return _WRITTEN["written_result"]


@pytest.fixture(scope="session")
def written_details() -> Callable[..., dict[str, Any]]:
    return _WRITTEN["written_details"]

"""Leray turns a claim about a learning machine into a verdict, on one computer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leray.integrations.recall import Memory, Ranked
    from leray.memory.conversations import Turn
    from leray.memory.importance import ImportanceModel
    from leray.memory.weights import LinearWeights

__all__ = ["ImportanceModel", "LinearWeights", "Memory", "Ranked", "Turn"]

_HOME = {
    "ImportanceModel": "leray.memory.importance",
    "LinearWeights": "leray.memory.weights",
    "Memory": "leray.integrations.recall",
    "Ranked": "leray.integrations.recall",
    "Turn": "leray.memory.conversations",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import leray`` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'leray' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

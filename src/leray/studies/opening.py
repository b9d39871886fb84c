"""How a study's command begins: its own options, or those of the run that goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from leray.errors import LerayError, nearest
from leray.runs.folder import RunFolder

Request = TypeVar("Request")
Size = TypeVar("Size")


def reopened(study: str, request: Request, resume: Path) -> tuple[RunFolder, Request]:
    """The folder of a run that goes on, and what it was asked for.

    Args:
        request: Of the kind that wrote the run's ``config.toml``; all fields are texts or numbers.

    Raises:
        LerayError: No run of this study, or a setting that is missing or of another kind.
    """
    folder = RunFolder.resume(resume)
    if folder.study != study:
        raise LerayError(
            f"{resume} holds a run of {folder.study!r:.60}, not {study!r}: go on with it by the "
            "command that began it"
        )
    return folder, _request_of(type(request), folder.config, resume / "config.toml")


def _request_of(kind: type[Request], config: Mapping[str, Any], where: Path) -> Request:
    hints = get_type_hints(kind)
    for name, own in hints.items():
        if type(config.get(name)) is not own:
            raise LerayError(f"{where}: {name} must be {own.__name__}; start a new run")
    return kind(**{name: config[name] for name in hints})


def settings(request: Any) -> dict[str, Any]:
    """What a run's ``config.toml`` keeps of a request."""
    return {f.name: getattr(request, f.name) for f in fields(request)}


def num_processes(workers: int | None) -> int:
    """As asked for, or one a core.

    Raises:
        LerayError: Fewer than one.
    """
    if workers is not None and workers < 1:
        raise LerayError(f"{workers} workers cannot do anything: ask for 1 or more")
    return workers or len(os.sched_getaffinity(0))


def size_of_preset(sizes: Mapping[str, Size], preset: str) -> Size:
    """The sizes of a preset.

    Raises:
        LerayError: There is no such preset.
    """
    if preset not in sizes:
        raise LerayError(
            f"preset must be one of {', '.join(sizes)}; got {preset!r:.40}{nearest(preset, sizes)}"
        )
    return sizes[preset]

"""Runs: the one driver of long computations, and the folder that keeps what they yield."""

from leray.runs.computation import Computation, Samples, State
from leray.runs.driver import Interrupted, drive
from leray.runs.events import read_events
from leray.runs.files import atomic_write
from leray.runs.folder import RunFolder
from leray.runs.progress import Progress, no_progress, progress_line
from leray.runs.seeds import Key
from leray.runs.store import FolderStore, MemoryStore, Store

__all__ = [
    "Computation",
    "FolderStore",
    "Interrupted",
    "Key",
    "MemoryStore",
    "Progress",
    "RunFolder",
    "Samples",
    "State",
    "Store",
    "atomic_write",
    "drive",
    "no_progress",
    "progress_line",
    "read_events",
]

"""Files that are written whole or not at all, and the manifest that proves it."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from leray.errors import LerayError

MENDS = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up: free some space or choose another folder",
    errno.EROFS: "it is on a read-only file system: choose another folder",
    errno.EACCES: "you may not write there: choose another folder",
    errno.EPERM: "you may not write there: choose another folder",
}

MANIFEST = "MANIFEST.sha256"


def cannot_write(path: Path, error: OSError) -> LerayError:
    """The one line that a user sees when a path cannot be written."""
    reason = MENDS.get(error.errno or 0, f"{error.strerror}: choose another folder")
    return LerayError(f"cannot write {path}: {reason}")


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all, and keep it through a power cut.

    Raises:
        LerayError: The disk is full, the folder is read-only, or the like; nothing is left behind.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece that gets its name when it is whole, or never.

    The content goes to a temporary file beside it, to the disk, and only then to its name.

    Raises:
        LerayError: The disk is full, the folder is read-only, or the like; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Create a folder and those above it.

    Raises:
        LerayError: It cannot be created, or a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def sync_folder(path: Path) -> None:
    """Bring a folder's list of names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file below a folder, as ``sha256sum -c`` reads it.

    Written last: what comes later is not in it.
    """
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    atomic_write(folder / MANIFEST, "".join(lines))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""One archive of many files: written with the same bytes each time, read as a stranger's.

An archive is a zip of regular files and ``MANIFEST.sha256``, which names every other file with its
SHA-256 as ``sha256sum -c`` reads it. Names are sorted and times fixed, so equal files give equal
archives. What is read is untrusted: nothing leaves the folder it is unpacked into, nothing is
unpickled, everything has a limit, and every file is checked before the first one is used.

The manifest shows damage and later changes; it is no signature, and anyone can write another one.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from leray.errors import LerayError, plain
from leray.runs.files import MANIFEST, cannot_write, make_folder, sync_folder

Content = bytes | Path
"""What goes into an archive: bytes, or a file that is read when its turn comes."""

MIB = 1 << 20
COMPRESSED = frozenset({".parquet", ".nc", ".zip", ".gz", ".png", ".safetensors"})
"""Endings of files that are stored as they are, since they hardly become smaller."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can hold
_MODE = (stat.S_IFREG | 0o644) << 16
_END = struct.Struct("<4s4H2LH")  # the record that ends a zip: counts, size and place of its list
_CHUNK = MIB
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_LIST_BYTES = 8 * MIB


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much an archive may hold; writers keep them too.

    Args:
        files: How many files.
        file_bytes: Unpacked bytes of one file.
        total_bytes: Unpacked bytes of all; below 2 GiB, so that no archive needs zip64.
        ratio: Unpacked by packed bytes of one file, over 1 MiB unpacked.
    """

    files: int = 10_000
    file_bytes: int = 1024 * MIB
    total_bytes: int = 2000 * MIB
    ratio: float = 100.0


LIMITS = Limits()


def write_archive(out: Path, parts: Mapping[str, Content], *, limits: Limits = LIMITS) -> None:
    """Write an archive whole or not at all; the manifest is made here.

    Args:
        out: A file that does not exist yet.
        parts: Contents by name, such as ``run/result.json``.

    Raises:
        LerayError: The file exists or cannot be written, or a part is beyond the limits.
    """
    if out.exists():
        raise LerayError(f"{out} exists already: give --out another name, or remove it first")
    _require_names(parts)
    sizes = {n: len(c) if isinstance(c, bytes) else c.stat().st_size for n, c in parts.items()}
    _require_sizes(sizes, limits, out)
    make_folder(out.parent)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                _write(file, parts)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(out)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(out.parent)
    except OSError as error:
        raise cannot_write(out, error) from error


def read_archive(path: Path, into: Path, *, limits: Limits = LIMITS) -> dict[str, str]:
    """Unpack an untrusted archive below an empty folder; returns the SHA-256 of each file.

    Refused are names that leave the folder, links, devices, folders, encryption, two names for one
    file, contents that the manifest does not name or names otherwise, and whatever is beyond the
    limits. Where it fails, what is in the folder is not to be used.

    Raises:
        LerayError: One line that says what is wrong with the archive.

    Cost: one pass over the unpacked bytes, in constant memory.
    """
    try:
        with path.open("rb") as file:
            _require_plain_end(file, path, limits)
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, path, limits)
                manifest = _manifest(archive, members, path)
                for name, expected in manifest.items():
                    _unpack(archive, members[name], into / name, expected, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError) as error:
        raise _bad(path, f"it is damaged ({printable(str(error))})") from None
    except (RuntimeError, UnicodeDecodeError) as error:
        raise _bad(path, f"it cannot be unpacked ({printable(str(error))})") from None
    except OSError as error:
        raise LerayError(f"cannot unpack {path}: {error.strerror or error}") from None
    return manifest


def printable(text: str, length: int = 100) -> str:
    """A stranger's text as `leray.errors.plain` shows it, at most ``length`` characters."""
    shown = plain(text[: 4 * length])
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def manifest_text(digests: Mapping[str, str]) -> str:
    """The manifest as it stands in an archive."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _write(file: BinaryIO, parts: Mapping[str, Content]) -> None:
    digests = {}
    with zipfile.ZipFile(file, "w", allowZip64=False) as archive:
        for name in sorted(parts):
            digests[name] = _add(archive, name, parts[name])
        _add(archive, MANIFEST, manifest_text(digests).encode())


def _add(archive: zipfile.ZipFile, name: str, content: Content) -> str:
    """Add a file; deflated unless that is in vain, or so good that a reader would refuse it."""
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr, info.create_system = _MODE, 3
    info.compress_type = zipfile.ZIP_DEFLATED
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if Path(name).suffix in COMPRESSED or _ratio(content, size) > LIMITS.ratio / 2:
        info.compress_type = zipfile.ZIP_STORED
    info.file_size = size
    digest = hashlib.sha256()
    with archive.open(info, "w") as member:
        for chunk in _chunks(content):
            digest.update(chunk)
            member.write(chunk)
    return digest.hexdigest()


def _ratio(content: Content, size: int) -> float:
    if size <= MIB:
        return 1.0
    deflate = zlib.compressobj()
    packed = sum(len(deflate.compress(chunk)) for chunk in _chunks(content)) + len(deflate.flush())
    return size / packed


def _chunks(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _require_plain_end(file: BinaryIO, path: Path, limits: Limits) -> None:
    """Read the last record before `zipfile` trusts it: its list of files is read as a whole."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise _bad(path, "it is no regular file")
    size = status.st_size
    if size < _END.size:
        raise _bad(path, "it is no zip archive")
    file.seek(max(0, size - _END.size - 20))
    tail = file.read()
    mark, *_, count, list_bytes, place, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\5\6" or comment:
        raise _bad(path, "it is no zip archive, or not one that leray bundle wrote")
    if tail[:4] == b"PK\6\7" or count > limits.files + 1 or list_bytes > _LIST_BYTES:
        raise _bad(path, f"it lists more than {limits.files:,} files")
    if place + list_bytes + _END.size != size:
        raise _bad(path, "its list of files is not where it should be")
    file.seek(0)


def _members(archive: zipfile.ZipFile, path: Path, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    for info in infos:
        _require_plain_member(info, path, limits)
    try:
        _require_names([i.filename for i in infos])
        _require_sizes({i.filename: i.file_size for i in infos}, limits, path)
    except LerayError as error:
        raise _bad(path, str(error)) from None
    # Members that share bytes would unpack to more than they take.
    if sum(i.compress_size for i in infos) > path.stat().st_size:
        raise _bad(path, "its files overlap")
    return {i.filename: i for i in infos}


def _require_plain_member(info: zipfile.ZipInfo, path: Path, limits: Limits) -> None:
    name = printable(info.orig_filename)
    if info.orig_filename != info.filename:
        raise _bad(path, f"the name {name!r} is not one of a file")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
        raise _bad(path, f"{name!r} is a link, a folder or a device; only files are allowed")
    if info.flag_bits & 1:
        raise _bad(path, f"{name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _bad(path, f"{name!r} is packed in a way that is not allowed")
    if info.file_size > max(MIB, limits.ratio * info.compress_size):
        raise _bad(path, f"{name!r} unpacks to more than {limits.ratio:g} times its size")


def _require_names(names: Mapping[str, Content] | list[str]) -> None:
    """Names of files below a folder, on any system: relative, plain, and each its own file."""
    for name in names:
        pieces = name.split("/")
        plain = name.isprintable() and not set(name) & set('\\:*?"<>|') and len(name) <= 200
        if not plain or any(p in ("", ".", "..") for p in pieces):
            raise LerayError(f"the name {printable(name)!r} could leave the folder")
    folded = [name.casefold() for name in names]
    folders = {"/".join(n.split("/")[:k]) for n in folded for k in range(1, n.count("/") + 1)}
    if len(set(folded)) < len(folded) or folders & set(folded):
        raise LerayError("two files have one name")


def _require_sizes(sizes: Mapping[str, int], limits: Limits, path: Path) -> None:
    if len(sizes) > limits.files + 1:
        raise LerayError(f"{path} holds {len(sizes):,} files; allowed: {limits.files:,}")
    for name, size in sizes.items():
        if size > limits.file_bytes:
            raise LerayError(
                f"{printable(name)!r} has {size:,} bytes; allowed: {limits.file_bytes:,} a file"
            )
    total = sum(sizes.values())
    if total > limits.total_bytes:
        raise LerayError(f"all files have {total:,} bytes; allowed: {limits.total_bytes:,}")


def _manifest(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], path: Path
) -> dict[str, str]:
    if MANIFEST not in members:
        raise _bad(path, f"it has no {MANIFEST}: it is no bundle")
    if members[MANIFEST].file_size > _LIST_BYTES:
        raise _bad(path, f"its {MANIFEST} is too long")
    lines = archive.read(members[MANIFEST]).decode().splitlines()
    found = [_LINE.fullmatch(line) for line in lines]
    manifest = {m[2]: m[1] for m in found if m}
    if len(manifest) != len(lines) or set(manifest) != set(members) - {MANIFEST}:
        raise _bad(path, f"its {MANIFEST} does not name the files that it holds")
    return manifest


def _unpack(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, to: Path, expected: str, path: Path
) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), info.file_size
    with archive.open(info) as member, to.open("xb") as file:
        while chunk := member.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _bad(path, f"{printable(info.filename)!r} is longer than it says")
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != expected:
        raise _bad(
            path, f"{printable(info.filename)!r} is not what {MANIFEST} says: it was changed"
        )


def _bad(path: Path, what: str) -> LerayError:
    return LerayError(
        f"{path} is refused: {what}; ask whoever made it for a bundle written by 'leray bundle'"
    )

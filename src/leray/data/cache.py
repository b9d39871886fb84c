"""Where caches live, and a cache of vectors that outlives crashes.

`VectorCache` is one SQLite file in write-ahead mode: a batch of vectors is stored whole or not at
all whenever the process dies, readers and writers of several processes do not disturb each other,
and every vector carries a checksum, so that damage is found and never used. What cannot be read is
computed again; what cannot be written is only not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from leray.errors import LerayError

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes may then do the same work twice
    fcntl = None

FILE = "embeddings.sqlite"
KEYS_A_QUERY = 500  # below the 999 that old SQLite builds allow
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
PATIENCE_S = 60.0  # how long a writer waits for another

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, checksum INTEGER, vector BLOB);
CREATE TABLE IF NOT EXISTS fingerprints (state TEXT PRIMARY KEY, fingerprint TEXT);
"""


def cache_home() -> Path:
    """The folder of all caches: ``$LERAY_HOME``, else ``$XDG_CACHE_HOME/leray``, else the user's.

    The last is ``~/.cache/leray``. The folder need not exist.
    """
    own = os.environ.get("LERAY_HOME")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "leray"


class VectorCache:
    """Vectors by key on disk: float32, found again bit for bit.

    A damaged file is moved aside (``embeddings.sqlite.damaged``) and a new one begun, with a
    warning; a damaged vector is forgotten, with a warning. Where the folder cannot be written, the
    cache keeps nothing and says so once; vectors already there are still read.

    Args:
        folder: Made if absent; several processes may use it at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writable = True
        self._db = self._open()

    def load(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors of those keys that are stored (float32 ``[dim]``, read-only).

        Cost: 22,000 vectors of 384 numbers in about 0.2 s.
        """
        found: dict[bytes, np.ndarray] = {}
        num_damaged = 0
        try:
            for key, checksum, vector in self._rows(keys):
                if isinstance(vector, bytes) and _checksum(key, vector) == checksum:
                    found[key] = np.frombuffer(vector, dtype="<f4")
                else:
                    num_damaged += 1
        except sqlite3.DatabaseError as e:
            self._recover(e)
            return found
        if num_damaged:
            warnings.warn(
                f"{num_damaged} vectors in {self._folder / FILE} are damaged and computed again",
                stacklevel=2,
            )
        return found

    def store(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep the vectors, all or none; one already there is replaced.

        Raises:
            LerayError: The disk is full; what was stored before is safe.
        """
        if self._db is None or not self._writable:
            return
        rows = []
        for key, vector in vectors.items():
            content = np.ascontiguousarray(vector, dtype="<f4").tobytes()
            rows.append((key, _checksum(key, content), content))
        self._write("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def fingerprint(self, state: str) -> str | None:
        """The fingerprint remembered for files in this state, if any."""
        if self._db is None:
            return None
        try:
            query = "SELECT fingerprint FROM fingerprints WHERE state = ?"
            row = self._db.execute(query, (state,)).fetchone()
        except sqlite3.DatabaseError as e:
            self._recover(e)
            return None
        return row[0] if row else None

    def remember_fingerprint(self, state: str, fingerprint: str) -> None:
        """Keep the fingerprint of files in this state."""
        if self._db is not None and self._writable:
            self._write("INSERT OR REPLACE INTO fingerprints VALUES (?, ?)", [(state, fingerprint)])

    @contextlib.contextmanager
    def working_on(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Hold these keys (as one set) against other processes; the lock dies with the process.

        A second process waits here, and finds the vectors when it looks afterwards.
        """
        if self._db is None or not self._writable:
            yield
            return
        name = hashlib.sha256(b"".join(keys)).digest()
        with self._locked(1 + int.from_bytes(name[:7], "big")):
            yield

    def close(self) -> None:
        """Close the file; what was stored stays."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _rows(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
        if self._db is None:
            return
        for i in range(0, len(keys), KEYS_A_QUERY):
            some = keys[i : i + KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, checksum, vector FROM vectors WHERE key IN ({marks})"
            yield from self._db.execute(query, some)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        assert self._db is not None
        try:
            with self._db:
                self._db.executemany(statement, rows)
        except sqlite3.DatabaseError as e:
            kind = _kind(e)
            if kind == "SQLITE_FULL" or (
                kind.startswith("SQLITE_IOERR") and _is_full(self._folder)
            ):
                raise LerayError(
                    f"no space left for the embeddings in {self._folder}: free some, or name "
                    "another folder with LERAY_HOME; everything stored so far is safe"
                ) from e
            if kind in DAMAGED:
                self._recover(e)
                if self._db is not None and self._writable:
                    with self._db:
                        self._db.executemany(statement, rows)
            else:
                self._give_up_writing(e)

    def _open(self) -> sqlite3.Connection | None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked(0):  # two processes that begin a file at once trip over each other
                return self._connect()
        except sqlite3.DatabaseError as e:
            if _kind(e) in DAMAGED:
                return self._rebuild(e)
            return self._open_read_only(e)
        except OSError as e:
            return self._open_read_only(e)

    def _connect(self) -> sqlite3.Connection:
        # A thread at a time uses the connection, not always the one that opened it.
        db = sqlite3.connect(self._folder / FILE, timeout=PATIENCE_S, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
            db.execute("PRAGMA user_version = 1")  # a real write: finds out what is read-only
        except BaseException:
            db.close()
            raise
        return db

    def _open_read_only(self, cause: Exception) -> sqlite3.Connection | None:
        self._give_up_writing(cause)
        uri = (self._folder / FILE).absolute().as_uri()
        for mode in ("mode=ro", "immutable=1"):  # the second needs no files beside it
            try:
                db = sqlite3.connect(f"{uri}?{mode}", uri=True, check_same_thread=False)
                db.execute("SELECT count(*) FROM vectors WHERE key = x''").fetchone()
            except sqlite3.DatabaseError:
                continue
            return db
        return None

    def _give_up_writing(self, cause: Exception) -> None:
        self._writable = False
        warnings.warn(
            f"embeddings are not kept, since {self._folder} cannot be written ({cause}); name a "
            "folder that can with LERAY_HOME",
            stacklevel=2,
        )

    def _recover(self, cause: sqlite3.DatabaseError) -> None:
        """After an error in reading: begin anew where the file is damaged, else read no more."""
        if self._db is not None:
            self._db.close()
        if _kind(cause) in DAMAGED and self._writable:
            self._db = self._rebuild(cause)
        else:
            self._db = None
            self._give_up_writing(cause)

    def _rebuild(self, cause: Exception) -> sqlite3.Connection | None:
        """Move the damaged file aside and begin a new one; one process at a time."""
        file = self._folder / FILE
        try:
            with self._locked(0):
                if _is_damaged(file):  # else another process has begun anew already
                    warnings.warn(
                        f"{file} is damaged ({cause}); it is now {file.name}.damaged, and its "
                        "embeddings are computed again",
                        stacklevel=2,
                    )
                    os.replace(file, file.with_name(f"{FILE}.damaged"))
                    for ending in ("-wal", "-shm"):
                        file.with_name(FILE + ending).unlink(missing_ok=True)
                return self._connect()
        except (OSError, sqlite3.DatabaseError) as e:
            self._give_up_writing(e)
            return None

    @contextlib.contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        """Hold one byte of the lock file; each purpose and each set of keys has its own."""
        if fcntl is None:
            yield
            return
        with (self._folder / "embeddings.lock").open("ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, byte)
            yield


def _checksum(key: bytes, vector: bytes) -> int:
    """Of the key too, so that a vector under another's key is found out."""
    return zlib.crc32(vector, zlib.crc32(key))


def _kind(error: sqlite3.Error) -> str:
    """SQLite's name of the error, such as SQLITE_FULL; empty where Python raised it."""
    return getattr(error, "sqlite_errorname", "")


def _is_full(folder: Path) -> bool:
    disk = os.statvfs(folder) if hasattr(os, "statvfs") else None
    return disk is not None and disk.f_bavail * disk.f_frsize < 1 << 20


def _is_damaged(file: Path) -> bool:
    """Whether SQLite's own check finds the file broken (it reads all of it)."""
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as db:
            return db.execute("PRAGMA quick_check").fetchone()[0] != "ok"
    except sqlite3.DatabaseError as e:
        return _kind(e) in DAMAGED

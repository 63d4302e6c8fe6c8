"""How far each log file was read and acknowledged; survives `kill -9`.

A file is known by its beginning, not by its name or inode: rotation renames it, compression gives it another inode, and
inodes are used again.  Container log lines hold a time in nanoseconds, so first lines differ.  SQLite in WAL mode
keeps a committed offset through a killed process; through a power loss the last ones may be forgotten, and their lines
are then read again.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

# The first line, with its time (Docker writes it at the end of the line), up to this many bytes.
HEAD_BYTES = 128 * 1024


class Position(msgspec.Struct, frozen=True):
    """A file by its beginning, and the offset (uncompressed bytes) up to which it was acknowledged."""

    head_size: int
    head: str
    offset: int
    name: str = ""


def head_of(beginning: bytes) -> str:
    """The digest by which a beginning is known."""
    return hashlib.blake2b(beginning, digest_size=16).hexdigest()


class StoreUnavailable(OSError):
    """Positions cannot be read or kept now (disk full, damaged file)."""


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(str(error)) from error


class CheckpointStore:
    """One table; all methods block briefly, may be called from any thread, and raise StoreUnavailable."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS positions (container TEXT, head_size INTEGER, head TEXT, offset INTEGER,"
            " name TEXT, PRIMARY KEY (container, head_size, head)) WITHOUT ROWID"
        )

    def positions(self, container: str) -> list[Position]:
        """All files of a container that were read before, those with the longest known beginning first."""
        with self._lock, _told():
            rows = self._database.execute(
                "SELECT head_size, head, offset, name FROM positions WHERE container = ? ORDER BY head_size DESC",
                (container,),
            ).fetchall()
        return [Position(*row) for row in rows]

    def commit(self, container: str, positions: Sequence[Position]) -> None:
        """Remember offsets, all or none."""
        with self._lock, _told():
            self._database.execute("BEGIN")
            try:
                self._database.executemany(
                    "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                    " SET offset = excluded.offset, name = excluded.name",
                    [(container, one.head_size, one.head, one.offset, one.name) for one in positions],
                )
                self._database.execute("COMMIT")
            except sqlite3.Error:
                self._database.execute("ROLLBACK")
                raise

    def forget(self, container: str, keep: Sequence[tuple[int, str]]) -> None:
        """Drop a container's files that are gone, all but `keep` (head size and head)."""
        kept = set(keep)
        gone = [one for one in self.positions(container) if (one.head_size, one.head) not in kept]
        with self._lock, _told():
            self._database.executemany(
                "DELETE FROM positions WHERE container = ? AND head_size = ? AND head = ?",
                [(container, one.head_size, one.head) for one in gone],
            )

    def containers(self) -> list[str]:
        with self._lock, _told():
            return [row[0] for row in self._database.execute("SELECT DISTINCT container FROM positions")]

    def close(self) -> None:
        with self._lock:
            self._database.close()

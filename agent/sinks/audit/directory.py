"""An audit log on disk: segments, checkpoints, keys, and what to do after a crash.

    audit-000001.jsonl ...   records, one per line
    checkpoints.jsonl        signed notes, one JSON string per line
    public.key               the key the notes are signed with (raw, base64); trust the copy you keep elsewhere

A torn last line (power loss, full disk) is cut off and recorded.  A log that does not fit its own checkpoint is never
continued: it is set aside, and a new one begins by saying so.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agent.audit import (
    Checkpoint,
    CheckpointError,
    CompactRange,
    Entry,
    Line,
    decoded,
    encoded,
    leaf_hash,
    record_of,
    signed_note,
    verified_note,
)

_CHECKPOINTS = "checkpoints.jsonl"
_PUBLIC = "public.key"


class AuditDirectoryError(Exception):
    """The directory cannot be used; the text says what to do."""


def segments_of(directory: Path) -> list[Path]:
    """Segment files in order."""
    return sorted(directory.glob("audit-*.jsonl"))


def lines_of(directory: Path) -> Iterator[Line]:
    """All lines of all segments, a last line without line break too."""
    for segment in segments_of(directory):
        with segment.open("rb") as file:
            for number, content in enumerate(file, 1):
                yield Line(segment.name, number, content.rstrip(b"\n"))


def notes_of(directory: Path) -> list[str]:
    """The checkpoint notes in order.  Raises AuditDirectoryError if the file is damaged."""
    path = directory / _CHECKPOINTS
    notes: list[str] = []
    if path.exists():
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                note = json.loads(line)
            except ValueError:
                note = None
            if not isinstance(note, str):
                raise AuditDirectoryError(f"{path}:{number} holds no checkpoint")
            notes.append(note)
    return notes


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The signing key of a file (PEM), made with mode 0600 if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key
    loaded = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(loaded, Ed25519PrivateKey):
        raise AuditDirectoryError(f"{path} holds no Ed25519 key")
    return loaded


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The key of a `public.key` file: 32 raw bytes in base64.  Raises AuditDirectoryError."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(path.read_text().strip(), validate=True))
    except (OSError, ValueError) as error:
        raise AuditDirectoryError(f"{path} holds no public key: {type(error).__name__}") from error


class AuditDirectory:
    """Appends entries to a log.  One writer; all methods block, call them from a thread."""

    def __init__(self, directory: Path, origin: str, key: Ed25519PrivateKey, *, segment_bytes: int, fsync: str) -> None:
        self._directory = directory
        self._origin = origin
        self._key = key
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._tree = CompactRange()
        self._last = bytes(32)
        self._descriptor = -1
        self._segment = 0
        self._offset = 0
        self._covered = 0
        self._lock = threading.Lock()  # a write that was cancelled goes on in its thread
        self.recovered = ""

    @property
    def size(self) -> int:
        return self._tree.size

    @property
    def uncovered(self) -> int:
        """Records written since the newest checkpoint."""
        return self._tree.size - self._covered

    def open(self) -> None:
        """Continue the log in the directory, or begin one.  `recovered` says what had to be mended."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        damage = self._continue()
        if damage:
            aside = self._set_aside()
            self.recovered = f"{damage}; the old log was set aside as {aside.name}"
            self._tree, self._last, self._segment, self._offset, self._covered = CompactRange(), bytes(32), 0, 0, 0
        (self._directory / _PUBLIC).write_text(
            base64.b64encode(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode() + "\n"
        )
        self._open_segment()

    def _continue(self) -> str:
        """Bring tree and offsets to the end of what is on disk; a text if the log does not fit its checkpoint."""
        segments = segments_of(self._directory)
        notes_path = self._directory / _CHECKPOINTS
        if notes_path.exists() and self._cut_torn_line(notes_path):
            self.recovered = "a torn last checkpoint was cut off"
        try:
            notes = notes_of(self._directory)
            newest = verified_note(notes[-1], self._key.public_key()) if notes else None
        except (AuditDirectoryError, CheckpointError) as error:
            return f"the newest checkpoint {error}"
        if not segments:
            return "the segments are gone" if newest and newest.size else ""
        torn = self._cut_torn_line(segments[-1])
        for segment in segments:
            with segment.open("rb") as file:
                for content in file:
                    record = decoded(content.rstrip(b"\n"))
                    if record is None or record.number != self._tree.size + 1 or record.previous != self._last.hex():
                        return f"record {self._tree.size + 1} ({segment.name}) does not follow the one before"
                    self._last = leaf_hash(content.rstrip(b"\n"))
                    self._tree.append(self._last)
                    if newest and self._tree.size == newest.size and self._tree.root() != newest.root:
                        return "the records are not those the newest checkpoint was signed for"
        if newest and self._tree.size < newest.size:
            return f"{newest.size - self._tree.size} records are missing at the end"
        self._covered = newest.size if newest else 0
        self._segment = int(segments[-1].stem.rpartition("-")[2])
        self._offset = segments[-1].stat().st_size
        if torn:
            self.recovered = f"a torn last line of {torn} bytes was cut off"
        return ""

    @staticmethod
    def _cut_torn_line(segment: Path) -> int:
        """Cut what follows the last line break; how many bytes that were."""
        content = segment.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(segment, whole)
        return len(content) - whole

    def _set_aside(self) -> Path:
        number = 1
        while (aside := self._directory / f"damaged-{number:03}").exists():
            number += 1
        aside.mkdir()
        for path in (*segments_of(self._directory), self._directory / _CHECKPOINTS):
            if path.exists():
                path.rename(aside / path.name)
        return aside

    def _open_segment(self) -> None:
        if self._segment == 0:
            self._segment = 1
        path = self._directory / f"audit-{self._segment:06}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._sync_directory()

    def _rotate(self) -> None:
        """Go on in the next segment.  Raises OSError with the log as it was, if there can be none."""
        path = self._directory / f"audit-{self._segment + 1:06}.jsonl"
        if self._fsync != "never":
            os.fdatasync(self._descriptor)
        following = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._close_descriptor()
        self._descriptor, self._segment, self._offset = following, self._segment + 1, 0
        self._sync_directory()

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries as records, all or none.  Raises OSError (disk full ...); the log is then as it was before."""
        with self._lock:
            self._append(entries)

    def _append(self, entries: Sequence[Entry]) -> None:
        if self._offset >= self._segment_bytes:
            self._rotate()
        tree, last = self._tree.copy(), self._last
        lines: list[bytes] = []
        for entry in entries:
            line, leaf = encoded(record_of(entry, tree.size + 1, last))
            tree.append(leaf)
            last = leaf
            lines.append(line + b"\n")
        block = b"".join(lines)
        try:
            self._write(block)
            if self._fsync == "always":
                os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._offset)
            raise
        self._tree, self._last = tree, last
        self._offset += len(block)

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def checkpoint(self) -> str:
        """Sign the tree as it stands; the note, also appended to the log's own.  Raises OSError."""
        with self._lock:
            return self._checkpoint()

    def _checkpoint(self) -> str:
        if self._fsync != "never":
            os.fdatasync(self._descriptor)
        note = signed_note(Checkpoint(self._origin, self._tree.size, self._tree.root()), self._key)
        path = self._directory / _CHECKPOINTS
        before = path.stat().st_size if path.exists() else 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            line = json.dumps(note).encode() + b"\n"
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, before)
                raise OSError(28, "no space for a checkpoint")
            if self._fsync != "never":
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._covered = self._tree.size
        return note

    def close(self) -> None:
        with self._lock:
            self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _sync_directory(self) -> None:
        if self._fsync == "never":
            return
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

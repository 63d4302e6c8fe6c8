"""One container's log files, read in the order they were written.

Rotation renames the live file and begins another; the open file is read to its end before the next one, so that a
record that straddles both is put together.  Compressed files are read like plain ones: offsets count uncompressed
bytes.  Positions run on over all files, so that one number tells from where to read again.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from agent.model import DecodeError, Event, LogRecord, Sensitive, event_id
from agent.sources.containerlogs.assembly import Assembly
from agent.sources.containerlogs.decode import LIMIT_BYTES, Record
from agent.sources.containerlogs.paths import LogPath, parse_path
from agent.sources.containerlogs.store import HEAD_BYTES, Position, head_of

# A line without an end beyond this is no line of a container runtime; it is skipped up to the next line break.
_LINE_LIMIT = 2 * LIMIT_BYTES


@dataclass(slots=True)
class _File:
    """An opened file.  `base + offset` is its reading place in the container's running positions."""

    name: str
    path: LogPath
    handle: BinaryIO
    inode: tuple[int, int]
    base: int
    offset: int
    head_size: int = 0
    head: str = ""

    @property
    def end(self) -> int:
        return self.base + self.offset


@dataclass(slots=True)
class Turn:
    """What one turn of reading gave.  `position` is where to read again if these events are acknowledged."""

    events: list[Event] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    position: int = 0
    has_more: bool = False


def _beginning(path: Path, size: int, *, is_compressed: bool) -> bytes:
    try:
        with gzip.open(path) if is_compressed else path.open("rb") as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error):
        return b""


class ContainerTail:
    """Reads one directory of log files.  Not for several threads at once."""

    def __init__(self, directory: Path, node: str, known: list[Position], *, start_at_end: bool = False) -> None:
        self.directory = directory
        self._node = node
        self._known = {(one.head_size, one.head): one.offset for one in known}
        self._start_at_end = start_at_end and not known
        self._files: list[_File] = []  # opened ones, oldest first; only the last is still read
        self._assembly: Assembly | None = None
        self._rest = b""
        self._is_skipping = False
        self.last_read = time.monotonic()

    def close(self) -> None:
        for file in self._files:
            file.handle.close()
        self._files.clear()

    @property
    def is_waiting(self) -> bool:
        """Whether lines wait for a successor or an end."""
        return self._assembly is not None and self._assembly.oldest_mark is not None

    # -- which file

    def _listing(self) -> list[tuple[LogPath, Path, os.stat_result]]:
        """The container's files from oldest to newest; of a plain and a compressed copy only the plain one."""
        found: dict[tuple[int, int, str], tuple[LogPath, Path, os.stat_result]] = {}
        try:
            entries = list(os.scandir(self.directory))
        except OSError:
            return []
        for entry in entries:
            place = parse_path(entry.path, self._node)
            if place is None:
                continue
            try:
                status = entry.stat()
            except OSError:
                continue
            if place.order not in found or not place.is_compressed:
                found[place.order] = (place, Path(entry.path), status)
        return [found[order] for order in sorted(found)]

    def _known_offset(self, path: Path, place: LogPath) -> tuple[int, int, str]:
        """(offset, head size, head) of a file that was read before, whatever it is called now; zeros if it was not."""
        known = dict(self._known)
        known.update({(file.head_size, file.head): file.offset for file in self._files if file.head})
        sizes = sorted({size for size, _ in known}, reverse=True)
        beginning = _beginning(path, sizes[0], is_compressed=place.is_compressed) if sizes else b""
        for size in sizes:
            head = head_of(beginning[:size])
            if len(beginning) >= size and (size, head) in known:
                return known[size, head], size, head
        return 0, 0, ""

    def _next(self) -> _File | None:
        """The oldest file after the current one that has something unread, opened; None if there is none."""
        current = self._files[-1] if self._files else None
        listing = self._listing()
        if current is not None:
            self._learn_head(current, current.offset)
            order = next((place.order for place, _, status in listing if _inode(status) == current.inode), None)
            opened = {file.inode for file in self._files}
            listing = [
                entry
                for entry in listing
                if _inode(entry[2]) not in opened and (order is None or entry[0].order > order)
            ]
        for index, (place, path, status) in enumerate(listing):
            is_live = index == len(listing) - 1
            offset, head_size, head = self._known_offset(path, place)
            if current is not None and head and head == current.head:
                continue  # the current file under another name, compressed
            if not place.is_compressed and offset > status.st_size:
                offset = 0  # cut in place; what is there now is new
            if not place.is_compressed and offset == status.st_size and not is_live:
                continue
            if self._start_at_end and current is None:
                if not is_live:
                    continue
                offset = status.st_size
            try:
                handle = cast(BinaryIO, gzip.open(path)) if place.is_compressed else path.open("rb")
                handle.seek(offset)
            except (OSError, EOFError, zlib.error):
                continue
            base = (current.end if current else 0) - offset
            return _File(path.name, place, handle, _inode(status), base, offset, head_size, head)
        return None

    def _switch(self, after: _File, turn: Turn) -> None:
        """Go on with another file.  What waits goes along, but not into another run of the container."""
        before = self._files[-1] if self._files else None
        if self._assembly is None:
            self._assembly = Assembly(after.path.log_format)
        elif before is not None:
            if self._rest:
                self._feed_line(self._rest, before.end - len(self._rest), before, turn)
            if before.path.restart != after.path.restart:
                turn.events += [self._event(record, before.path) for record in self._assembly.flush()]
                self._assembly = Assembly(after.path.log_format)
        self._rest, self._is_skipping = b"", False
        self._files.append(after)

    # -- reading

    def read(self, limit_bytes: int) -> Turn:
        """Read up to a limit; at most one file is changed in a turn."""
        turn = Turn()
        chunk = self._chunk(limit_bytes) if self._files else b""
        if not chunk:
            after = self._next()
            # The runtime may have written to the renamed file until it opened the new one: look once more.
            chunk = self._chunk(limit_bytes) if after is not None and self._files else b""
            if after is not None and not chunk:
                self._switch(after, turn)
                chunk = self._chunk(limit_bytes)
                turn.has_more = True
            elif after is not None:
                after.handle.close()
        if not self._files:
            return turn
        if chunk:
            self.last_read = time.monotonic()
            self._feed(chunk, self._files[-1], turn)
            turn.has_more = True
        turn.position = self._safe_position()
        return turn

    def _chunk(self, limit_bytes: int) -> bytes:
        file = self._files[-1]
        try:
            chunk = file.handle.read(limit_bytes)
            if not chunk and not file.path.is_compressed and os.fstat(file.handle.fileno()).st_size < file.offset:
                # Cut in place: begin again, at a new running position.
                file.base, file.offset, file.head_size, file.head = file.end, 0, 0, ""
                self._rest = b""
                file.handle.seek(0)
                chunk = file.handle.read(limit_bytes)
        except (OSError, EOFError, zlib.error):
            return b""
        return chunk

    def _feed(self, chunk: bytes, file: _File, turn: Turn) -> None:
        at = file.end - len(self._rest)
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        file.offset += len(chunk)
        for line in lines:
            if self._is_skipping:
                self._is_skipping = False
            else:
                self._feed_line(line, at, file, turn)
            at += len(line) + 1
        if len(self._rest) > _LINE_LIMIT:
            turn.errors["line_too_long"] += not self._is_skipping
            turn.lines += not self._is_skipping
            self._rest, self._is_skipping = b"", True

    def _feed_line(self, line: bytes, at: int, file: _File, turn: Turn) -> None:
        assert self._assembly is not None
        turn.lines += 1
        groups = self._assembly.feed(line, at, time.monotonic())
        if isinstance(groups, DecodeError):
            turn.errors[groups.name] += 1
        else:
            turn.events += [self._event(record, file.path) for record in groups]

    def add_late(self, turn: Turn, group_seconds: float, part_seconds: float) -> None:
        """Add to a turn what waited long enough: groups, and records that never got their end."""
        if self._assembly is not None and self._files:
            records = self._assembly.flush_late(time.monotonic(), group_seconds, part_seconds)
            turn.events += [self._event(record, self._files[-1].path) for record in records]
            turn.position = self._safe_position()

    @property
    def is_gone(self) -> bool:
        """Whether the file that is read was removed."""
        return bool(self._files) and os.fstat(_descriptor(self._files[-1])).st_nlink == 0

    def known_now(self) -> list[tuple[int, str]]:
        """Head sizes and heads of the files that are there, for forgetting the rest."""
        present = [self._known_offset(path, place)[1:] for place, path, _ in self._listing()]
        self._known = {key: offset for key, offset in self._known.items() if key in present}
        return present

    @property
    def known_count(self) -> int:
        return len(self._known)

    # -- what may be committed

    def _safe_position(self) -> int:
        unread = self._files[-1].end - len(self._rest)
        waiting = self._assembly.oldest_mark if self._assembly is not None else None
        return unread if waiting is None else min(waiting, unread)

    def _learn_head(self, file: _File, offset: int) -> None:
        """Know a file by its beginning, once a whole line of it was read."""
        if file.head or offset <= 0:
            return
        size = min(HEAD_BYTES, offset)
        if file.path.is_compressed:
            beginning = _beginning(self.directory / file.name, size, is_compressed=True)
        else:
            beginning = os.pread(file.handle.fileno(), size, 0)
        first_line = beginning.find(b"\n") + 1 or len(beginning)
        if len(beginning) == size:
            file.head_size, file.head = first_line, head_of(beginning[:first_line])

    def positions(self, position: int) -> list[Position]:
        """What to commit once everything before `position` is acknowledged."""
        commits: list[Position] = []
        for file in self._files:
            offset = min(position - file.base, file.offset)
            self._learn_head(file, offset)
            if file.head and offset > self._known.get((file.head_size, file.head), 0):
                commits.append(Position(file.head_size, file.head, offset, file.name))
        return commits

    def acknowledged(self, position: int, commits: list[Position]) -> None:
        """Everything before `position` is committed; finished files before it are let go."""
        for one in commits:
            self._known[one.head_size, one.head] = one.offset
        while len(self._files) > 1 and self._files[0].end <= position:
            self._files.pop(0).handle.close()

    def _event(self, record: Record, path: LogPath) -> Event:
        resource = path.resource
        text = record.text
        identity = f"{resource.place}/{resource.pod_uid}{resource.container_id}/{path.restart}/{record.stream}"
        return Event(
            id=event_id(b"containerlogs", identity.encode(), str(record.time_unix_nano).encode(), record.content),
            source="containerlogs",
            body=LogRecord(
                text=Sensitive(text) if text else "",
                stream=record.stream,
                line_count=len(record.marks),
                is_truncated=record.is_truncated,
            ),
            resource=resource,
            time_unix_nano=record.time_unix_nano,
            observed_time_unix_nano=time.time_ns(),
        )


def _descriptor(file: _File) -> int:
    return file.handle.fileno()


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino

"""Container runtime log lines to whole records.

The runtime cuts long lines at 16 KiB of bytes, inside characters and inside card numbers, and the streams of one
container interleave; only here are they put together again.  Pure: bytes in, records out, unfinished parts kept in
`Joiner`.  Files are `tail.py`'s, lines that belong together `grouping.py`'s.
Formats: Kubernetes' CRI logging and Docker's json-file driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from agent.model import DecodeError
from agent.sources.protojson import decoded, time_unix_nano

# A record longer than this is cut and said to be cut: 1 MiB holds 64 of the runtime's parts.
LIMIT_BYTES = 1024 * 1024

_CRI = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([A-Z](?::[^ ]*)?) ?"
)


class Part(msgspec.Struct, frozen=True):
    """One physical line: content bytes, and whether more of the same record follows."""

    time_unix_nano: int
    stream: str
    content: bytes
    is_partial: bool


def parse_cri(line: bytes) -> Part | DecodeError:
    """One line of a CRI log file, without its line break."""
    match = _CRI.match(line)
    if match is None:
        return DecodeError(name="empty_line" if not line.strip() else "not_cri")
    stamp, stream, tags = match.groups()
    return Part(time_unix_nano(stamp.decode()), stream.decode(), line[match.end() :], tags[:1] == b"P")


class _DockerLine(msgspec.Struct):
    log: str
    stream: str = "stdout"
    time: str = ""


def parse_docker(line: bytes) -> Part | DecodeError:
    """One line of Docker's json-file log.  Only a record's last part ends with a line break."""
    if not line.strip():
        return DecodeError(name="empty_line")
    try:
        entry = msgspec.convert(decoded(line), _DockerLine)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return DecodeError(name="not_docker")
    content = entry.log.encode("utf-8", "replace")
    is_partial = not content.endswith(b"\n")
    return Part(time_unix_nano(entry.time), entry.stream, content.removesuffix(b"\n"), is_partial)


@dataclass(slots=True)
class Record:
    """A whole record.  `marks` are (offset in `content`, the caller's mark of the part that begins there)."""

    stream: str
    content: bytes
    time_unix_nano: int
    marks: list[tuple[int, int]]
    is_truncated: bool = False

    @property
    def first_mark(self) -> int:
        return self.marks[0][1]

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


@dataclass(slots=True)
class _Unfinished:
    time_unix_nano: int
    chunks: list[bytes] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0


class Joiner:
    """Parts to records, for each stream on its own; holds at most `limit_bytes` per stream."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._unfinished: dict[str, _Unfinished] = {}

    def feed(self, part: Part, mark: int) -> Record | None:
        """The record this part completes, if it does; one that grows past the limit is cut there."""
        open_part = self._unfinished.get(part.stream)
        if open_part is None:
            if not part.is_partial and len(part.content) <= self._limit:
                return Record(part.stream, part.content, part.time_unix_nano, [(0, mark)])
            open_part = self._unfinished[part.stream] = _Unfinished(part.time_unix_nano)
        open_part.marks.append((open_part.size, mark))
        open_part.chunks.append(part.content)
        open_part.size += len(part.content)
        if open_part.size > self._limit:
            return self._take(part.stream, is_truncated=True)
        return None if part.is_partial else self._take(part.stream)

    def _take(self, stream: str, *, is_truncated: bool = False) -> Record:
        whole = self._unfinished.pop(stream)
        return Record(stream, b"".join(whole.chunks), whole.time_unix_nano, whole.marks, is_truncated)

    def flush(self, stream: str | None = None) -> list[Record]:
        """What waits for an end that does not come (container killed, file gone), of one stream or all, as cut."""
        streams = [one for one in self._unfinished if stream in (None, one)]
        return [self._take(one, is_truncated=True) for one in streams]

    @property
    def oldest_mark(self) -> int | None:
        """The mark of the first unfinished part; None if nothing waits."""
        return min((part.marks[0][1] for part in self._unfinished.values()), default=None)

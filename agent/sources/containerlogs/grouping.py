"""Records that belong together as one text: stack traces, PEM blocks, pretty-printed JSON.

A key's lines say nothing each for itself, and a name in a traceback needs its message.  The rules are few and cheap;
what is not recognised stays a record of its own.  Bounded in lines and bytes.  Pure; time is the caller's (`flush`).
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from agent.sources.containerlogs.decode import Record

# A 4096-bit PEM key is 52 lines; Java traces of 200 lines are common, the rest is repetition.
LIMIT_LINES = 500
LIMIT_BYTES = 256 * 1024

_Mode: TypeAlias = Literal["line", "pem", "json", "traceback"]

_PEM_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----")
_PEM_END = re.compile(rb"-----END [A-Z0-9 ]+-----")
_JSON_OPEN = re.compile(rb"(?:^|[=:\s])[{\[]\s*$")
_BRACE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}\[\]]')  # possessive: linear on any line
_CONTINUATION = re.compile(rb"[ \t]|Caused by: |\.\.\. \d+ more|During handling of |The above exception ")


def _depth(line: bytes) -> int:
    """Braces and brackets opened less those closed, outside of strings."""
    depth = 0
    for match in _BRACE.finditer(line):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
    return depth


class Grouper:
    """Records of one stream to groups; a record waits for its successor, so the caller flushes what has waited."""

    def __init__(self, limit_lines: int = LIMIT_LINES, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_lines = limit_lines
        self._limit_bytes = limit_bytes
        self._records: list[Record] = []
        self._size = 0
        self._mode: _Mode = "line"
        self._depth = 0

    def feed(self, record: Record) -> list[Record]:
        """The groups that this record completes (none, one or two)."""
        done: list[Record] = []
        if self._records and not self._belongs(record.content):
            done += self.flush()
        if not self._records:
            self._begin(record.content)
        self._records.append(record)
        self._size += len(record.content)
        if self._is_complete(record.content):
            done += self.flush()
        return done

    def _begin(self, line: bytes) -> None:
        self._mode, self._depth = "line", 0
        if _PEM_BEGIN.search(line) and not _PEM_END.search(line):
            self._mode = "pem"
        elif line.startswith(b"Traceback (most recent call last)"):
            self._mode = "traceback"
        elif _JSON_OPEN.search(line):
            self._mode = "json"

    def _belongs(self, line: bytes) -> bool:
        if len(self._records) >= self._limit_lines or self._size + len(line) > self._limit_bytes:
            return False
        if self._mode in ("pem", "json", "traceback"):
            return True
        return bool(_CONTINUATION.match(line))

    def _is_complete(self, line: bytes) -> bool:
        match self._mode:
            case "pem":
                return bool(_PEM_END.search(line))
            case "json":
                self._depth += _depth(line)
                return self._depth <= 0
            case "traceback":
                # The exception's own line is the first one that is not indented; more may follow ("During handling").
                if len(self._records) > 1 and not _CONTINUATION.match(line):
                    self._mode = "line"
                return False
            case "line":
                return False

    def flush(self) -> list[Record]:
        """The group that waits, if any."""
        if not self._records:
            return []
        records, self._records, self._size = self._records, [], 0
        if len(records) == 1:
            return records
        marks: list[tuple[int, int]] = []
        offset = 0
        for record in records:
            marks.extend((offset + at, mark) for at, mark in record.marks)
            offset += len(record.content) + 1
        return [
            Record(
                records[0].stream,
                b"\n".join(record.content for record in records),
                records[0].time_unix_nano,
                marks,
                any(record.is_truncated for record in records),
            )
        ]

    @property
    def oldest_mark(self) -> int | None:
        """The mark of the first waiting part; None if nothing waits."""
        return self._records[0].first_mark if self._records else None

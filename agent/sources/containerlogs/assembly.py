"""One container's lines to groups: parse, join, group, for each stream.  Pure; `tail.py` and `replay` feed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from agent.model import DecodeError
from agent.sources.containerlogs.decode import Joiner, Part, Record, parse_cri, parse_docker
from agent.sources.containerlogs.grouping import Grouper

LogFormat: TypeAlias = Literal["cri", "docker"]

PARSERS: dict[LogFormat, Callable[[bytes], Part | DecodeError]] = {"cri": parse_cri, "docker": parse_docker}


class Assembly:
    """Lines in, complete groups out.  `safe_mark` tells from where to read again to lose nothing that still waits."""

    def __init__(self, log_format: LogFormat) -> None:
        self._parse = PARSERS[log_format]
        self._joiner = Joiner()
        self._groupers: dict[str, Grouper] = {}
        self._fed_at: dict[str, float] = {}

    def feed(self, line: bytes, mark: int, now: float = 0.0) -> list[Record] | DecodeError:
        """The groups that a line (without line break) completes.

        `mark` is the caller's name for the line, `now` the caller's clock in seconds, for `flush_late`.
        """
        part = self._parse(line)
        if isinstance(part, DecodeError):
            return part
        self._fed_at[part.stream] = now
        record = self._joiner.feed(part, mark)
        if record is None:
            return []
        return self._grouper(record.stream).feed(record)

    def flush_groups(self) -> list[Record]:
        """Groups that wait only for a successor; unfinished parts stay."""
        return [group for grouper in self._groupers.values() for group in grouper.flush()]

    def flush_late(self, now: float, group_seconds: float, part_seconds: float) -> list[Record]:
        """What waited too long, each stream by its own clock: a busy stream does not hold a quiet one back."""
        late: list[Record] = []
        for stream, fed_at in self._fed_at.items():
            if now - fed_at >= part_seconds:
                for record in self._joiner.flush(stream):
                    late += self._grouper(stream).feed(record)
            if now - fed_at >= group_seconds and stream in self._groupers:
                late += self._groupers[stream].flush()
        return late

    def flush(self) -> list[Record]:
        """Everything that waits, unfinished parts as cut records.  The container or the file has ended."""
        groups = self.flush_groups()
        for record in self._joiner.flush():
            groups += self._grouper(record.stream).feed(record)
        return groups + self.flush_groups()

    def _grouper(self, stream: str) -> Grouper:
        grouper = self._groupers.get(stream)
        if grouper is None:
            grouper = self._groupers[stream] = Grouper()
        return grouper

    @property
    def oldest_mark(self) -> int | None:
        """The mark of the first line that something still waits for; None if nothing waits."""
        marks = [self._joiner.oldest_mark, *(grouper.oldest_mark for grouper in self._groupers.values())]
        return min((mark for mark in marks if mark is not None), default=None)

    @property
    def has_unfinished_parts(self) -> bool:
        return self._joiner.oldest_mark is not None

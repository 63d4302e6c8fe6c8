"""Recorded events, logs and prompts from a file or standard input, through the decoders that live streams use."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from agent.model import DecodeError, Event, LogRecord, Resource, Sensitive, event_id
from agent.pipeline import Output, Receipt
from agent.plugins import Surroundings
from agent.sources.containerlogs.assembly import Assembly
from agent.sources.containerlogs.decode import Record
from agent.sources.containerlogs.paths import parse_path
from agent.sources.hubble import event_from_json as hubble_event
from agent.sources.replay.config import ReplayConfig
from agent.sources.replay.prompts import event_from_line as prompt_event
from agent.sources.tetragon import event_from_json as tetragon_event

Decoded = list[Event | DecodeError]

_OPENERS: dict[str, Callable[[str], object]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
# Longer lines are no recorded event; what is read of one is bounded by this.
_LINE_BYTES = 16 * 1024 * 1024


def _open_plain(path: str) -> BinaryIO:
    return open(path, "rb")


def open_input(path: str) -> BinaryIO:
    """A file, compressed by its ending, or standard input for `-`.  Raises OSError."""
    if path == "-":
        return sys.stdin.buffer
    return cast(BinaryIO, _OPENERS.get(Path(path).suffix, _open_plain)(path))


class _Lines:
    """Lines to events; container logs keep what waits for more lines."""

    def __init__(self, config: ReplayConfig) -> None:
        self._owner = config.owner
        self._kind = config.kind
        self._number = 0
        self._assembly: Assembly | None = None
        if config.kind in ("cri", "docker"):
            self._assembly = Assembly(config.kind)
            place = parse_path(config.path)
            if place is not None and not config.resource:
                self._owner = place.resource

    def feed(self, line: bytes) -> Decoded:
        self._number += 1
        now = time.time_ns()
        if self._assembly is not None:
            groups = self._assembly.feed(line.rstrip(b"\r\n"), self._number)
            return [groups] if isinstance(groups, DecodeError) else [self._log_event(group) for group in groups]
        match self._kind:
            case "tetragon":
                return [tetragon_event(line, now)]
            case "hubble":
                return [hubble_event(line, now)]
            case _:
                owner = self._owner if self._owner != Resource() else None
                return [prompt_event(line, now, owner)]

    def end(self) -> Decoded:
        return [self._log_event(group) for group in self._assembly.flush()] if self._assembly is not None else []

    def _log_event(self, record: Record) -> Event:
        text = record.text
        return Event(
            id=event_id(b"replay", self._kind.encode(), str(record.first_mark).encode(), record.content),
            source=self._kind,
            body=LogRecord(
                text=Sensitive(text) if text else "",
                stream=record.stream,
                line_count=len(record.marks),
                is_truncated=record.is_truncated,
            ),
            resource=self._owner,
            time_unix_nano=record.time_unix_nano,
            observed_time_unix_nano=time.time_ns(),
        )


class ReplaySource:
    """Ends when its input does."""

    def __init__(self, config: ReplayConfig, name: str) -> None:
        self.name = name
        self._config = config
        self._is_stopping = False
        self._previous_nano = 0

    async def stop(self) -> None:
        self._is_stopping = True

    async def run(self, out: Output) -> None:
        lines = _Lines(self._config)
        receipts: list[Receipt] = []
        with await asyncio.to_thread(open_input, self._config.path) as file:
            chunks = self._chunks(file)
            while not self._is_stopping:
                chunk = await asyncio.to_thread(next, chunks, None)
                if chunk is None:
                    receipts.append(await self._send(lines.end(), out))
                    break
                out.read(len(chunk))
                decoded = [one for line in chunk for one in lines.feed(line)]
                receipts.append(await self._send(decoded, out))
                receipts = [receipt for receipt in receipts if not receipt.is_settled]
        for receipt in receipts:
            await receipt

    def _chunks(self, file: BinaryIO) -> Iterator[list[bytes]]:
        size = 1 if self._config.speed == "recorded" else self._config.batch_lines
        chunk: list[bytes] = []
        while line := file.readline(_LINE_BYTES):
            chunk.append(line)
            if len(chunk) >= size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def _send(self, decoded: Decoded, out: Output) -> Receipt:
        events: list[Event] = []
        for one in decoded:
            if isinstance(one, DecodeError):
                out.decode_error(one.name)
            else:
                events.append(one)
        if self._config.speed == "recorded" and events:
            await self._wait_for(events[0].time_unix_nano)
        return await out.send(events)

    async def _wait_for(self, time_unix_nano: int) -> None:
        if self._previous_nano and time_unix_nano > self._previous_nano:
            wait = (time_unix_nano - self._previous_nano) / 1e9
            await asyncio.sleep(min(wait, self._config.longest_wait_seconds))
        self._previous_nano = max(self._previous_nano, time_unix_nano)


def build(config: ReplayConfig, name: str, surroundings: Surroundings) -> ReplaySource:
    del surroundings
    return ReplaySource(config, name)

"""One direction of an HTTP/2 connection, read passively: hyperframe's frames, hpack's headers.

A connection that is met in its middle is said to be so and not guessed at: its header table is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import hpack
import hyperframe.exceptions
import msgspec
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
)

from agent.sources.exchanges.exchange import Headers, Trouble

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9
_TABLE_SIZE = 1  # SETTINGS_HEADER_TABLE_SIZE
# RFC 9113 allows frames up to 16 MiB when agreed on; nobody agrees on more than this.
_LARGEST_FRAME = 2 * 1024 * 1024
_KNOWN_TYPES = 0x10


class StreamHead(msgspec.Struct, frozen=True):
    stream: int
    headers: Headers


class StreamData(msgspec.Struct, frozen=True):
    stream: int
    content: bytes


class StreamEnd(msgspec.Struct, frozen=True):
    stream: int
    is_reset: bool = False


class TableSize(msgspec.Struct, frozen=True):
    """The sender allows the other side's header table to have this size."""

    size: int


StreamPart: TypeAlias = StreamHead | StreamData | StreamEnd | TableSize | Trouble


def is_frame_start(data: bytes) -> bool:
    """Whether these bytes could begin a frame in the middle of a connection."""
    if len(data) < _HEAD:
        return False
    length, kind, stream = int.from_bytes(data[:3], "big"), data[3], int.from_bytes(data[5:9], "big")
    return length <= 2**18 and kind <= 9 and stream < 2**24 and data[5] < 0x80


def may_be_settings(data: bytes) -> bool:
    """Whether a connection may begin so: a server's first SETTINGS can come before the client's preface."""
    head = data[:_HEAD]
    return b"\0\0".startswith(head[:2]) and head[3:4] in (b"", b"\4") and b"\0\0\0\0".startswith(head[5:])


class FrameReader:
    """Frames of one side.  After a trouble it reads no more: everything later would be guessed."""

    def __init__(self, head_limit: int) -> None:
        self._limit = head_limit
        self._buffer = bytearray()
        self._decoder = hpack.Decoder(max_header_list_size=head_limit)
        self._block: bytearray | None = None
        self._block_stream = 0
        self._does_block_end = False
        self._expects_preface = True
        self.is_lost = False

    def without_preface(self) -> None:
        """A server's side has none."""
        self._expects_preface = False

    def allow_table(self, size: int) -> None:
        self._decoder.max_allowed_table_size = max(self._decoder.max_allowed_table_size, min(size, 1024 * 1024))

    def feed(self, data: bytes) -> list[StreamPart]:
        parts: list[StreamPart] = []
        if self.is_lost:
            return parts
        self._buffer += data
        if self._expects_preface:
            if len(self._buffer) < len(PREFACE):
                return parts
            del self._buffer[: len(PREFACE)]
            self._expects_preface = False
        try:
            for frame in self._frames():
                self._take(frame, parts)
        except (hyperframe.exceptions.HyperframeError, hpack.HPACKError, ValueError):
            parts.append(self.lose("http2_malformed"))
        return parts

    def lose(self, name: str) -> Trouble:
        self.is_lost = True
        self._buffer.clear()
        self._block = None
        return Trouble(name)

    def room_in_data(self) -> int:
        """Bytes that still belong to the DATA frame at hand: so many may be missing without harm."""
        if len(self._buffer) < _HEAD or self._buffer[3] != DataFrame.type:
            return 0
        return _HEAD + int.from_bytes(self._buffer[:3], "big") - len(self._buffer)

    def _frames(self) -> Iterator[Frame]:
        while len(self._buffer) >= _HEAD:
            frame, length = Frame.parse_frame_header(memoryview(bytes(self._buffer[:_HEAD])), strict=False)
            if length > _LARGEST_FRAME:
                raise ValueError("a frame larger than anybody sends")
            if len(self._buffer) < _HEAD + length:
                return
            content = bytes(self._buffer[_HEAD : _HEAD + length])
            del self._buffer[: _HEAD + length]
            frame.parse_body(memoryview(content))
            yield frame

    def _take(self, frame: Frame, parts: list[StreamPart]) -> None:
        match frame:
            case HeadersFrame() | PushPromiseFrame():
                # A pushed request's headers change the table, too; the push itself is nobody's exchange.
                self._block = bytearray(frame.data)
                self._block_stream = 0 if isinstance(frame, PushPromiseFrame) else frame.stream_id
                self._does_block_end = "END_STREAM" in frame.flags
                if "END_HEADERS" in frame.flags:
                    self._end_block(parts)
            case ContinuationFrame():
                if self._block is None or len(self._block) + len(frame.data) > self._limit:
                    raise ValueError("a continuation of nothing, or without end")
                self._block += frame.data
                if "END_HEADERS" in frame.flags:
                    self._end_block(parts)
            case DataFrame():
                if frame.data:
                    parts.append(StreamData(frame.stream_id, bytes(frame.data)))
                if "END_STREAM" in frame.flags:
                    parts.append(StreamEnd(frame.stream_id))
            case RstStreamFrame():
                parts.append(StreamEnd(frame.stream_id, is_reset=True))
            case SettingsFrame():
                if (size := frame.settings.get(_TABLE_SIZE)) is not None:
                    parts.append(TableSize(size))
            case GoAwayFrame():
                pass

    def _end_block(self, parts: list[StreamPart]) -> None:
        block, self._block = self._block, None
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._decoder.decode(bytes(block or b""), raw=True)
        )
        if self._block_stream:
            parts.append(StreamHead(self._block_stream, headers))
            if self._does_block_end:
                parts.append(StreamEnd(self._block_stream))

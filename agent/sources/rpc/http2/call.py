"""One gRPC server-streaming call over HTTP/2, without a socket: bytes in, messages and bytes out.

    call = StreamingCall(path=..., authority=..., request=...)
    send(call.outgoing())                  preface, settings, headers, request
    n = receive_into(call.space())         the call owns the buffer
    call.received(n, messages)             raises ProtocolError; then send(call.outgoing()) again
    call.status                            an (code, detail) once the call has ended

Written for the shape of such a stream: one call on one connection, many small messages in, next to nothing out.  RFC
9113, and gRPC's own description of its use of HTTP/2.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import hpack
from hpack.exceptions import HPACKError

from agent.sources.rpc.http2 import frames
from agent.sources.rpc.http2.frames import ErrorCode, ProtocolError
from agent.sources.rpc.http2.messages import PREFIX, MessageAssembly
from agent.sources.rpc.transport import Code

_STREAM = 1
_BUFFER = 512 * 1024
_FRAME = 64 * 1024  # the largest frame we let the peer send
_WINDOW = 8 * 1024 * 1024
_HEADER_BYTES = 64 * 1024  # of one header block, compressed; the list may be four times that
_INFLATED = 64 * 1024 * 1024  # what compressed messages may grow to in one read
# Answers that a peer can make us owe (pings, settings) before we call it an attack.
_OWED = 256 * 1024

# gRPC, "HTTP2 Transport Mapping": what a reset stream stands for.
_OF_RESET = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
# gRPC, "HTTP to gRPC Status Code Mapping": for answers that have no grpc-status.
_OF_HTTP = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    "429": Code.UNAVAILABLE,
    "502": Code.UNAVAILABLE,
    "503": Code.UNAVAILABLE,
    "504": Code.UNAVAILABLE,
}


_RESETS = {int(code): code for code in ErrorCode}
_CODES = {int(code): code for code in Code}


class Status(NamedTuple):
    """How a call ended."""

    code: Code
    detail: str


class StreamingCall:
    """State of one call.  `max_message_bytes` bounds a message, compressed or not; a larger one is skipped."""

    def __init__(
        self, *, path: str, authority: str, request: bytes, scheme: str = "http", max_message_bytes: int
    ) -> None:
        self.status: Status | None = None
        self.headers: dict[str, str] = {}
        self.is_going_away = False
        self._assembly = MessageAssembly(max_message_bytes)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._out = bytearray()
        self._decoder = hpack.Decoder(max_header_list_size=4 * _HEADER_BYTES)
        self._block = bytearray()  # of a header block that is not whole yet
        self._block_flags: int | None = None
        self._has_headers = False
        self._credit = 0
        self._send_window = [frames.DEFAULT_WINDOW, frames.DEFAULT_WINDOW]  # connection, stream
        self._peer_window = frames.DEFAULT_WINDOW
        self._peer_frame = frames.DEFAULT_FRAME
        self._unsent = bytearray()
        self._is_sent = False
        self._pings = 0
        self.pongs = 0
        self._begin(path, authority, scheme, request)

    @property
    def oversized(self) -> int:
        """Messages over the limit that were skipped."""
        return self._assembly.oversized

    # ------------------------------------------------------------------ out

    def _begin(self, path: str, authority: str, scheme: str, request: bytes) -> None:
        self._out += frames.PREFACE
        self._out += frames.settings(
            {
                frames.ENABLE_PUSH: 0,
                frames.INITIAL_WINDOW_SIZE: _WINDOW,
                frames.MAX_FRAME_SIZE: _FRAME,
                frames.MAX_HEADER_LIST_SIZE: 4 * _HEADER_BYTES,
            }
        )
        self._out += frames.window_update(0, _WINDOW - frames.DEFAULT_WINDOW)
        head = hpack.Encoder().encode(
            [
                (":method", "POST"),
                (":scheme", scheme),
                (":path", path),
                (":authority", authority),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-accept-encoding", "identity,gzip,deflate"),
                ("user-agent", "reeve-agent"),
            ]
        )
        self._out += frames.frame(frames.HEADERS, frames.END_HEADERS, _STREAM, head)
        self._unsent += struct.pack(">BI", 0, len(request)) + request
        self._pump()

    def _pump(self) -> None:
        """As much of the request as the peer's windows allow."""
        while not self._is_sent:
            size = min(len(self._unsent), self._peer_frame, *self._send_window)
            if size <= 0:
                return
            piece = bytes(self._unsent[:size])
            del self._unsent[:size]
            self._is_sent = not self._unsent
            self._send_window = [window - size for window in self._send_window]
            self._out += frames.frame(frames.DATA, frames.END_STREAM if self._is_sent else 0, _STREAM, piece)

    def outgoing(self) -> bytes:
        """What must be sent now; empty for nothing."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def ask(self) -> int:
        """Queue a PING; `pongs` reaches the returned number when it is answered."""
        self._pings += 1
        self._out += frames.frame(frames.PING, 0, 0, struct.pack(">Q", self._pings))
        return self._pings

    def cancel(self) -> None:
        """Queue the end of the call from our side."""
        if self.status is None:
            self.status = Status(Code.CANCELLED, "cancelled by us")
            self._out += frames.frame(frames.RST_STREAM, 0, _STREAM, struct.pack(">I", ErrorCode.CANCEL))

    def fail(self, error: ProtocolError) -> None:
        """Queue the farewell after a ProtocolError."""
        self._out += frames.frame(frames.GOAWAY, 0, 0, struct.pack(">II", 0, error.code))
        self.status = self.status or Status(Code.INTERNAL, f"HTTP/2: {error}")

    def hung_up(self) -> None:
        """The connection ended."""
        if self.status is None:
            self.status = Status(Code.UNAVAILABLE, "the connection ended")

    # ------------------------------------------------------------------- in

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._view[self._have :]

    def received(self, count: int, messages: list[bytes]) -> None:
        """`count` bytes came into `space()`: the messages that are whole now are appended.

        Raises ProtocolError, after what came before the mistake was appended.
        """
        self._have += count
        buffer, view, have = self._buffer, self._view, self._have
        self._assembly.budget = _INFLATED
        position = 0
        try:
            while have - position >= frames.HEADER_BYTES:
                length = buffer[position] << 16 | buffer[position + 1] << 8 | buffer[position + 2]
                if length > _FRAME:
                    raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                start = position + frames.HEADER_BYTES
                if have - start < length:
                    break
                kind, flags = buffer[position + 3], buffer[position + 4]
                end = start + length
                if kind == frames.DATA and self._block_flags is None:
                    stream = int.from_bytes(view[position + 5 : start], "big") & 0x7FFFFFFF
                    self._data(start, end, flags, stream, messages)
                else:
                    stream = int.from_bytes(view[position + 5 : start], "big") & 0x7FFFFFFF
                    self._frame(kind, flags, stream, bytes(view[start:end]))
                position = end
        finally:
            left = have - position
            if position:
                view[:left] = bytes(view[position:have])
            self._have = left
        if self._credit >= _WINDOW // 4:
            self._out += frames.window_update(0, self._credit)
            if self.status is None:
                self._out += frames.window_update(_STREAM, self._credit)
            self._credit = 0
        if len(self._out) > _OWED:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that want an answer")

    def _data(self, start: int, end: int, flags: int, stream: int, messages: list[bytes]) -> None:
        self._credit += end - start
        if self._credit > _WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window allows")
        if stream != _STREAM:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"data on stream {stream}")
        if not self._has_headers:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "data before headers")
        if self.status is not None:
            return
        if flags & frames.PADDED:
            padding = self._buffer[start] if end > start else 1
            start += 1
            if padding > end - start:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
            end -= padding
        view, assembly = self._view, self._assembly
        size = end - start - PREFIX
        if (
            assembly.is_between
            and 0 <= size <= assembly.limit
            and not self._buffer[start]
            and int.from_bytes(view[start + 1 : start + PREFIX], "big") == size
        ):
            messages.append(bytes(view[start + PREFIX : end]))  # the usual: one frame, one message
        else:
            assembly.feed(view[start:end], messages)
        if flags & frames.END_STREAM:
            self._end(Status(Code.INTERNAL, "the stream ended without a status"))

    # --------------------------------------------------------- other frames

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block_flags is not None and (kind != frames.CONTINUATION or stream != _STREAM):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block that is interrupted")
        match kind:
            case frames.HEADERS:
                self._on_headers(flags, stream, payload)
            case frames.CONTINUATION:
                if self._block_flags is None:
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
                self._add_block(payload, flags)
            case frames.SETTINGS:
                self._on_settings(flags, stream, payload)
            case frames.PING:
                self._on_ping(flags, stream, payload)
            case frames.WINDOW_UPDATE:
                self._on_window(stream, payload)
            case frames.RST_STREAM:
                self._on_reset(stream, payload)
            case frames.GOAWAY:
                self._on_goaway(stream, payload)
            case frames.PUSH_PROMISE:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a push that was not allowed")
            case frames.PRIORITY if stream == 0 or len(payload) != 5:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a malformed priority")
            # Frames of kinds we do not know are skipped (RFC 9113 §4.1).

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != _STREAM:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"headers on stream {stream}")
        payload = frames.unpadded(payload, flags)
        if flags & frames.PRIORITIZED:
            if len(payload) < 5:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "headers shorter than their priority")
            payload = payload[5:]
        self._block_flags = flags & frames.END_STREAM
        self._add_block(payload, flags)

    def _add_block(self, payload: bytes, flags: int) -> None:
        self._block += payload
        # An empty continuation costs the peer nothing and must not come for ever either.
        if len(self._block) > _HEADER_BYTES or (not payload and not flags & frames.END_HEADERS):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block over the limit")
        if not flags & frames.END_HEADERS:
            return
        block, is_end = bytes(self._block), bool(self._block_flags)
        self._block.clear()
        self._block_flags = None
        try:
            decoded = self._decoder.decode(block)
        except (HPACKError, UnicodeDecodeError, ValueError) as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "headers that do not decode") from error
        self._on_fields({str(name): str(value) for name, value in decoded}, is_end=is_end)

    def _on_fields(self, fields: dict[str, str], *, is_end: bool) -> None:
        if self.status is not None:
            return
        if not self._has_headers:
            http = fields.get(":status", "")
            if http.startswith("1"):
                return
            self._has_headers = True
            self.headers = fields
            self._assembly.encoding = fields.get("grpc-encoding", "identity")
            kind = fields.get("content-type", "")
            if "grpc-status" not in fields and (http != "200" or not kind.startswith("application/grpc")):
                detail = f"the server answered HTTP {http[:3] or 'nothing'} with content type {kind[:40]!r}"
                self._end(Status(_OF_HTTP.get(http, Code.UNKNOWN), f"{detail}; is it a gRPC server?"))
                return
        elif not is_end:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers amid the data")
        if is_end:
            self._end(_status_of(fields))

    def _end(self, status: Status) -> None:
        if self.status is None:
            if status.code is Code.OK and not self._assembly.is_between:
                status = Status(Code.INTERNAL, "the stream ended inside of a message")
            self.status = status

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0 or len(payload) % 6 or (flags & frames.ACK and payload):
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "malformed settings")
        if flags & frames.ACK:
            return
        for key, value in struct.iter_unpack(">HI", payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST_WINDOW:
                    raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window over the largest")
                self._send_window[1] += value - self._peer_window
                self._peer_window = value
            elif key == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME <= value < 1 << 24:
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a largest frame of {value} bytes")
                self._peer_frame = value
        self._out += frames.frame(frames.SETTINGS, frames.ACK, 0)
        self._pump()

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0 or len(payload) != 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a malformed ping")
        if flags & frames.ACK:
            self.pongs = max(self.pongs, min(self._pings, int.from_bytes(payload, "big")))
        else:
            self._out += frames.frame(frames.PING, frames.ACK, 0, payload)

    def _on_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a malformed window update")
        credit = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if not credit:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a window update of nothing")
        if stream in (0, _STREAM):
            self._send_window[stream] += credit
            if self._send_window[stream] > frames.LARGEST_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window over the largest")
            self._pump()

    def _on_reset(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4 or stream == 0:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a malformed reset")
        if stream == _STREAM:
            number = int.from_bytes(payload, "big")
            named = _RESETS.get(number)
            code = _OF_RESET.get(named, Code.INTERNAL) if named is not None else Code.UNKNOWN
            self._end(Status(code, f"the server reset the stream ({named.name if named is not None else number})"))

    def _on_goaway(self, stream: int, payload: bytes) -> None:
        if len(payload) < 8 or stream != 0:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a malformed goaway")
        last, number = struct.unpack(">II", payload[:8])
        self.is_going_away = True
        if last & 0x7FFFFFFF < _STREAM or number != ErrorCode.NO_ERROR:
            reason = payload[8:72].decode("ascii", "replace")
            self._end(Status(Code.UNAVAILABLE, f"the server is going away ({number} {reason})".replace(" )", ")")))


def _status_of(fields: dict[str, str]) -> Status:
    """gRPC's status out of trailers."""
    number = fields.get("grpc-status", "")
    if not number.isascii() or not number.isdigit() or len(number) > 4:
        return Status(Code.UNKNOWN, "the server gave no status")
    code = _CODES.get(int(number), Code.UNKNOWN)
    return Status(code, unquote_to_bytes(fields.get("grpc-message", "")).decode("utf-8", "replace")[:1024])

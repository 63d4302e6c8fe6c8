"""One direction of an HTTP/1.1 connection, read passively with h11.

h11 is an endpoint that talks; here each message gets a parser of its own, and what stands behind a message goes to the
next one's.  A connection that is met in its middle is picked up at the next message.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import h11
import msgspec

from agent.sources.exchanges.exchange import Headers, Trouble

REQUEST_LINE = re.compile(rb"[A-Z]{3,16} [^\x00-\x20\x7f]{1,16384} HTTP/1\.[01]\r?\n")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d\d\d(?: |\r?\n)")
_STARTS = {"request": REQUEST_LINE, "answer": STATUS_LINE}


class RequestHead(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: Headers


class AnswerHead(msgspec.Struct, frozen=True):
    """`is_interim` is a 1xx answer: the real one follows, but for 101."""

    status: int
    headers: Headers
    is_interim: bool


class Data(msgspec.Struct, frozen=True):
    content: bytes


class End(msgspec.Struct, frozen=True):
    """The message is over; `is_whole` tells whether it was all there."""

    is_whole: bool = True


Part: TypeAlias = RequestHead | AnswerHead | Data | End | Trouble


def _headers(raw: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw.headers)


class RequestReader:
    """Requests of a client."""

    def __init__(self, head_limit: int) -> None:
        self._limit = head_limit
        self._reader: h11.Connection | None = None
        self._held = b""  # the beginning of a message that is too short to be told from anything else
        self.switched: bytes | None = None  # after a 101: what came behind it, in another protocol

    def feed(self, data: bytes) -> list[Part]:
        parts: list[Part] = []
        self._feed(data, parts)
        return parts

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a message."""
        return self._reader is None

    def end(self) -> list[Part]:
        is_open, self._reader = self._reader is not None, None
        return [End(is_whole=False)] if is_open else []

    def lose(self) -> list[Part]:
        """Bytes went missing where they could not be spared."""
        return self.end()

    def _start(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self._limit)

    def _is_start(self, data: bytes) -> bool:
        return REQUEST_LINE.match(data) is not None or (len(data) < self._limit and b"\n" not in data)

    def _feed(self, data: bytes, parts: list[Part]) -> None:
        while data:
            if self._reader is None:
                data, self._held = self._held + data, b""
                data = data.lstrip(b"\r\n")  # RFC 9112, 2.2: empty lines before a request
                if not data:
                    return
                if b"\n" not in data[: self._limit]:
                    if len(data) >= self._limit:
                        parts.append(Trouble("http1_out_of_step"))
                    else:
                        self._held = data
                    return
                if not self._is_start(data):
                    parts.append(Trouble("http1_out_of_step"))
                    return
                self._reader = self._start()
            data = self._read(data, parts)

    def _read(self, data: bytes, parts: list[Part]) -> bytes:
        """Feed the reader; what stands behind the message it ended."""
        reader = self._reader
        assert reader is not None
        try:
            reader.receive_data(data)
            while True:
                event = reader.next_event()
                if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                    return b""
                if event is h11.PAUSED:
                    self._reader = None
                    rest = bytes(reader.trailing_data[0])
                    if reader.their_state is h11.SWITCHED_PROTOCOL:
                        self.switched = rest
                        return b""
                    return rest
                if not self._told(event, parts):
                    self._reader = None
                    return bytes(reader.trailing_data[0])
        except (h11.ProtocolError, ValueError):
            self._reader = None
            parts += [End(is_whole=False), Trouble("http1_malformed")]
            return b""

    def _told(self, event: object, parts: list[Part]) -> bool:
        """Note a part; whether the message goes on."""
        match event:
            case h11.Request():
                method, target = event.method.decode("latin-1"), event.target.decode("latin-1")
                parts.append(RequestHead(method, target, _headers(event)))
            case h11.InformationalResponse():
                parts.append(AnswerHead(event.status_code, _headers(event), is_interim=True))
            case h11.Response():
                parts.append(AnswerHead(event.status_code, _headers(event), is_interim=False))
            case h11.Data():
                parts.append(Data(bytes(event.data)))
            case h11.EndOfMessage():
                parts.append(End())
                return False
        return True


class AnswerReader(RequestReader):
    """Answers of a server.  It is told the requests, because an answer's length depends on what was asked."""

    def __init__(self, head_limit: int) -> None:
        super().__init__(head_limit)
        self._asked: list[RequestHead] = []

    def expect(self, request: RequestHead) -> None:
        self._asked.append(request)

    def _is_start(self, data: bytes) -> bool:
        return STATUS_LINE.match(data) is not None

    def _start(self) -> h11.Connection:
        reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limit)
        asked = self._asked.pop(0) if self._asked else None
        method = asked.method if asked is not None else "GET"
        headers = [("host", "seen")]
        if asked is not None and any(name == "upgrade" for name, _ in asked.headers):
            headers += [("connection", "upgrade"), ("upgrade", "websocket")]
        reader.send(h11.Request(method=method, target="*", headers=headers))
        reader.send(h11.EndOfMessage())
        return reader

    def end(self) -> list[Part]:
        """The server closed: an answer without a length is whole now."""
        reader, self._reader = self._reader, None
        if reader is None:
            return []
        parts: list[Part] = []
        try:
            reader.receive_data(b"")
            while isinstance(event := reader.next_event(), h11.Data | h11.EndOfMessage):
                self._told(event, parts)
        except h11.ProtocolError:
            parts.append(End(is_whole=False))
        return parts or [End(is_whole=False)]

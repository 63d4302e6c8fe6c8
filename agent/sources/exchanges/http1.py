"""One direction of an HTTP/1.1 connection, read passively with h11.

h11 is an endpoint that talks; here each message gets a parser of its own, and what stands behind a message goes to the
next one's.  A connection that is met in its middle is picked up at the next message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import TypeAlias

import h11
import msgspec

from agent.sources.exchanges.exchange import Headers, Trouble

REQUEST_LINE = re.compile(rb"[A-Z]{3,16} [^\x00-\x20\x7f]{1,16384} HTTP/1\.[01]\r?\n")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d\d\d(?: |\r?\n)")
# Beginnings that are too short to be told from anything else.  All else is no start: held, it would spoil what follows.
MAYBE_REQUEST = re.compile(rb"[A-Z]{1,16}(?: [^\x00-\x20\x7f]{0,16384}(?: [HTP/1.0]{0,8}\r?)?)?")
MAYBE_STATUS = re.compile(rb"H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01](?: \d{0,3}\r?)?)?)?)?)?)?)?)?")


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

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts one by one: whoever takes them knows each before the next is read."""
        while data:
            if self._reader is None:
                data, self._held = (
                    (self._held + data).lstrip(b"\r\n"),
                    b"",
                )  # RFC 9112, 2.2: empty lines before a request
                if not data:
                    return
                if not self._is_start(data):
                    if self._may_become_start(data):
                        self._held = data
                    else:
                        yield Trouble("http1_out_of_step")
                    return
                self._reader = self._start()
            data = yield from self._read(data)

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a message."""
        return self._reader is None

    def end(self) -> list[Part]:
        is_open, self._reader = self._reader is not None, None
        return [End(is_whole=False)] if is_open else []

    def lose(self) -> list[Part]:
        """Bytes went missing where they could not be spared."""
        self._held = b""
        is_open, self._reader = self._reader is not None, None
        return [End(is_whole=False)] if is_open else []

    def _start(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self._limit)

    def _is_start(self, data: bytes) -> bool:
        return REQUEST_LINE.match(data) is not None

    def _may_become_start(self, data: bytes) -> bool:
        return len(data) < self._limit and MAYBE_REQUEST.fullmatch(data) is not None

    def _read(self, data: bytes) -> Generator[Part, None, bytes]:
        """Feed the reader; what stands behind the message it ended is returned."""
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
                if isinstance(event, h11.EndOfMessage):
                    self._reader = None
                    yield End()
                    return bytes(reader.trailing_data[0])
                yield from _parts_of(event)
        except (h11.ProtocolError, ValueError):
            self._reader = None
        yield End(is_whole=False)
        yield Trouble("http1_malformed")
        return b""


def _parts_of(event: object) -> Iterator[Part]:
    match event:
        case h11.Request():
            yield RequestHead(event.method.decode("latin-1"), event.target.decode("latin-1"), _headers(event))
        case h11.InformationalResponse():
            yield AnswerHead(event.status_code, _headers(event), is_interim=True)
        case h11.Response():
            yield AnswerHead(event.status_code, _headers(event), is_interim=False)
        case h11.Data():
            yield Data(bytes(event.data))


class AnswerReader(RequestReader):
    """Answers of a server.  An answer's length depends on what was asked: `asked` gives the request that is answered
    next, or nothing if none is known."""

    def __init__(self, head_limit: int, asked: Callable[[], tuple[str, Headers] | None]) -> None:
        super().__init__(head_limit)
        self._asked = asked

    def _is_start(self, data: bytes) -> bool:
        return STATUS_LINE.match(data) is not None

    def _may_become_start(self, data: bytes) -> bool:
        return MAYBE_STATUS.fullmatch(data) is not None

    def _start(self) -> h11.Connection:
        reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limit)
        method, asked_headers = self._asked() or ("GET", ())
        headers = [("host", "seen")]
        if any(name == "upgrade" for name, _ in asked_headers):
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
            while isinstance(event := reader.next_event(), h11.Data):
                parts += _parts_of(event)
            parts.append(End(is_whole=isinstance(event, h11.EndOfMessage)))
        except h11.ProtocolError:
            parts.append(End(is_whole=False))
        return parts

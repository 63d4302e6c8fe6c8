"""Requests and answers of an HTTP/2 connection put together, by stream."""

from __future__ import annotations

from agent.sources.exchanges.exchange import Exchange, Headers, Limits, Told, Trouble
from agent.sources.exchanges.http2 import FrameReader, StreamData, StreamEnd, StreamHead, StreamPart, TableSize
from agent.sources.exchanges.pairing import Open, early_of, open_exchange


def _value(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key == name), "")


class Http2Pairing:
    """Streams of one connection; an interim answer (1xx) is skipped, trailers are headers of the end."""

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        self._limits = limits
        self._is_client = is_client
        self._client = FrameReader(limits.head)
        self._server = FrameReader(limits.head)
        self._server.without_preface()
        self._open: dict[int, Open] = {}

    @property
    def is_lost(self) -> bool:
        return self._client.is_lost or self._server.is_lost

    def feed(self, data: bytes, told: list[Told], *, is_from_client: bool) -> bytes | None:
        reader, other = (self._client, self._server) if is_from_client else (self._server, self._client)
        for part in reader.feed(data):
            if isinstance(part, TableSize):
                other.allow_table(part.size)
            elif isinstance(part, Trouble):
                told.append(part)
                self.end(told)
            elif is_from_client:
                self._take_request(part, told)
            else:
                self._take_answer(part, told)
        return None

    def miss(self, missing: int, told: list[Told], *, is_from_client: bool) -> None:
        """Bytes missing inside of a DATA frame cost the body; anywhere else they cost the connection."""
        reader = self._client if is_from_client else self._server
        if missing <= reader.room_in_data():
            for one in self._open.values():
                # Which stream they belong to is told with the frame; it is counted for all that wait, at worst.
                (one.request if is_from_client else one.answer).missing += missing
            self.feed(b" " * missing, told, is_from_client=is_from_client)
            return
        told.append(reader.lose("http2_gap"))
        self.end(told)

    def early(self) -> list[Exchange]:
        return early_of(self._open.values(), self._limits.body)

    def end(self, told: list[Told]) -> None:
        told += [one.settled(self._limits.body, is_complete=False) for one in self._open.values()]
        self._open.clear()

    def _take_request(self, part: StreamPart, told: list[Told]) -> None:
        match part:
            case StreamHead(stream=stream, headers=headers):
                if stream in self._open:
                    return  # trailers
                if len(self._open) >= self._limits.streams:
                    told.append(Trouble("http2_too_many_streams"))
                    oldest = next(iter(self._open))
                    told.append(self._open.pop(oldest).settled(self._limits.body, is_complete=False))
                exchange = Exchange(
                    protocol="h2",
                    is_client=self._is_client,
                    method=_value(headers, ":method"),
                    target=_value(headers, ":path"),
                    host=_value(headers, ":authority") or _value(headers, "host"),
                    headers=tuple(one for one in headers if not one[0].startswith(":")),
                )
                self._open[stream] = open_exchange(exchange, self._limits)
            case StreamData(stream=stream, content=content):
                if stream in self._open:
                    self._open[stream].request.add(content)
            case StreamEnd(stream=stream, is_reset=is_reset):
                if (one := self._open.get(stream)) is None:
                    return
                one.exchange.is_request_whole = not is_reset
                if is_reset or one.is_answer_over:
                    del self._open[stream]
                    told.append(one.settled(self._limits.body, is_complete=not is_reset))

    def _take_answer(self, part: StreamPart, told: list[Told]) -> None:
        match part:
            case StreamHead(stream=stream, headers=headers):
                if (one := self._open.get(stream)) is None:
                    return
                status = _value(headers, ":status")
                if len(status) == 3 and status.isdecimal() and status >= "200":
                    one.exchange.status, one.exchange.answer_headers = int(status), headers
                elif not status:
                    one.exchange.answer_headers = (*one.exchange.answer_headers, *headers)
            case StreamData(stream=stream, content=content):
                if stream in self._open:
                    self._open[stream].answer.add(content)
            case StreamEnd(stream=stream, is_reset=is_reset):
                if (one := self._open.get(stream)) is None:
                    return
                one.is_answer_over = True
                # Seen before the end of its request: the other side's bytes are on their way, unless it was refused.
                if one.exchange.is_request_whole or is_reset:
                    del self._open[stream]
                    told.append(one.settled(self._limits.body, is_complete=not is_reset))

"""Requests and answers of an HTTP/1.1 connection put together."""

from __future__ import annotations

from collections import deque
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from agent.sources.exchanges.encodings import decoded
from agent.sources.exchanges.exchange import Body, Exchange, Headers, Limits, Told, Trouble
from agent.sources.exchanges.http1 import AnswerHead, AnswerReader, Data, End, Part, RequestHead, RequestReader

_FILL = bytes(64 * 1024)
_SWITCHING = 101


class Pairing(Protocol):
    """What a conversation asks of either protocol."""

    @property
    def is_lost(self) -> bool: ...

    def feed(self, data: bytes, told: list[Told], *, is_from_client: bool) -> bytes | None:
        """Take bytes; what follows a switch to another protocol, if there was one."""
        ...

    def miss(self, missing: int, told: list[Told], *, is_from_client: bool) -> None: ...

    def early(self) -> list[Exchange]: ...

    def end(self, told: list[Told]) -> None: ...


class Open(msgspec.Struct):
    """An exchange that is not over."""

    exchange: Exchange
    request: Body
    answer: Body
    is_answered: bool = False
    looks: int = 0  # how often it was asked for early
    is_answer_over: bool = False

    def is_overdue(self) -> bool:
        """Whether the answer is over and the rest of the request did not come: it was refused before its end."""
        if not self.is_answer_over:
            return False
        self.looks += 1
        return self.looks > 1

    def is_late(self) -> bool:
        """Whether the request is whole, was not handed on, and its answer still came at an earlier look."""
        if not self.exchange.is_request_whole or self.exchange.is_prompt_told or self.is_answer_over:
            return False
        self.looks += 1
        return self.looks > 1

    def settled(self, limit: int, *, is_complete: bool) -> Exchange:
        """The exchange with its bodies undone as far as they are there."""
        one = self.exchange
        is_asked = one.is_prompt_told  # its request was handed on before
        body = decoded(b"" if is_asked else self.request.value(), one.header("content-encoding"), limit)
        answer = decoded(self.answer.value(), one.answer_header("content-encoding"), limit)
        one.body, one.answer, one.is_complete = body.body, answer.body, is_complete
        one.undecoded = body.problem or answer.problem
        one.missing = self.answer.missing + answer.missing + (0 if is_asked else self.request.missing + body.missing)
        return one

    def asked(self, limit: int) -> Exchange:
        """The request alone, handed on once."""
        one = self.exchange
        body = decoded(self.request.value(), one.header("content-encoding"), limit)
        early = msgspec.structs.replace(one, body=body.body, undecoded=body.problem)
        early.missing = self.request.missing + body.missing
        one.is_prompt_told = True
        return early


def open_exchange(exchange: Exchange, limits: Limits) -> Open:
    return Open(exchange, Body(limits.body), Body(limits.body))


def _length_of(headers: Headers) -> bool:
    """Whether a body's length is told beforehand."""
    names = {name for name, _ in headers}
    return "content-length" in names and "transfer-encoding" not in names


class Http1Pairing:
    """Answers come in the order of their requests."""

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        self._limits = limits
        self._is_client = is_client
        self._requests = RequestReader(limits.head)
        self._answers = AnswerReader(limits.head)
        self._open: deque[Open] = deque()
        self._asking: Open | None = None
        self._answering: Open | None = None
        self._is_filling = False
        self.is_lost = False

    def feed(self, data: bytes, told: list[Told], *, is_from_client: bool) -> bytes | None:
        if is_from_client:
            for part in self._requests.feed(data):
                self._take_request(part, told)
        else:
            for part in self._answers.feed(data):
                self._take_answer(part, told)
        return self._answers.switched

    def miss(self, missing: int, told: list[Told], *, is_from_client: bool) -> None:
        """Count missing bytes into the body at hand if its length is known; else wait for the next message."""
        reader, at_hand = (self._requests, self._asking) if is_from_client else (self._answers, self._answering)
        if at_hand is not None and not reader.is_between:
            headers = at_hand.exchange.headers if is_from_client else at_hand.exchange.answer_headers
            if _length_of(headers):
                self._is_filling = True
                while missing > 0:
                    self.feed(_FILL[:missing], told, is_from_client=is_from_client)
                    missing -= len(_FILL)
                self._is_filling = False
                return
        told.append(Trouble("http1_gap"))
        if at_hand is not None:
            (at_hand.request if is_from_client else at_hand.answer).missing += missing
        for part in reader.lose():
            if is_from_client:
                self._take_request(part, told)
            else:
                self._take_answer(part, told)

    def early(self) -> list[Exchange]:
        return [one.asked(self._limits.body) for one in self._open if one.is_late()]

    def end(self, told: list[Told]) -> None:
        for part in self._answers.end():
            self._take_answer(part, told)
        for one in self._open:
            told.append(one.settled(self._limits.body, is_complete=False))
        self._open.clear()
        self._asking = self._answering = None

    def _take_request(self, part: Part, told: list[Told]) -> None:
        match part:
            case RequestHead():
                if len(self._open) >= self._limits.pipelined:
                    told.append(Trouble("http1_too_many_waiting"))
                    told.append(self._open.popleft().settled(self._limits.body, is_complete=False))
                host = next((value for name, value in part.headers if name == "host"), "")
                target = part.target
                if "://" in target[:8]:  # to a proxy
                    split = urlsplit(target)
                    host, target = split.netloc or host, target[target.find(split.netloc) + len(split.netloc) :] or "/"
                exchange = Exchange(
                    protocol="http/1.1",
                    is_client=self._is_client,
                    method=part.method,
                    target=target,
                    host=host,
                    headers=part.headers,
                )
                self._asking = open_exchange(exchange, self._limits)
                self._open.append(self._asking)
                self._answers.expect(part)
            case Data():
                self._keep(self._asking.request if self._asking else None, part)
            case End(is_whole=is_whole):
                if self._asking is not None:
                    self._asking.exchange.is_request_whole = is_whole
                self._asking = None
            case Trouble():
                told.append(part)

    def _take_answer(self, part: Part, told: list[Told]) -> None:
        match part:
            case AnswerHead(is_interim=True, status=status):
                if status == _SWITCHING and self._open:
                    one = self._open.popleft()
                    one.exchange.status, one.exchange.answer_headers = part.status, part.headers
                    told.append(one.settled(self._limits.body, is_complete=True))
            case AnswerHead():
                self._answering = next((one for one in self._open if not one.is_answered), None)
                if self._answering is None:
                    told.append(Trouble("http1_answer_to_nothing"))
                    return
                self._answering.is_answered = True
                self._answering.exchange.status = part.status
                self._answering.exchange.answer_headers = part.headers
            case Data():
                self._keep(self._answering.answer if self._answering else None, part)
            case End(is_whole=is_whole):
                if self._answering is not None:
                    self._open.remove(self._answering)
                    told.append(self._answering.settled(self._limits.body, is_complete=is_whole))
                self._answering = None
            case Trouble():
                told.append(part)

    def _keep(self, body: Body | None, part: Data) -> None:
        if body is None:
            return
        if self._is_filling:
            body.missing += len(part.content)
        else:
            body.add(part.content)

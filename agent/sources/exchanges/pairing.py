"""Requests and answers of an HTTP/1.1 connection put together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

import msgspec

from agent.sources.exchanges.encodings import decoded
from agent.sources.exchanges.exchange import Body, Exchange, Headers, Limits, Told, Trouble, split_target
from agent.sources.exchanges.http1 import AnswerHead, AnswerReader, Data, End, Part, RequestHead, RequestReader

_FILL = bytes(64 * 1024)
_SWITCHING = 101
# An answer that still comes is handed on as far as it is there at such looks: the longer it lasts, the more rarely.
_FIRST_PART, _RAREST_PART = 5, 160
_LEAST_GROWTH = 512


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
    looks: int = 0  # how often it was asked for early, and at which of these its answer is handed on
    next_part: int = 0
    answer_told: int = 0  # bytes of the answer that were there then
    is_answer_over: bool = False

    def is_late(self) -> bool:
        """Whether the request is whole, was not handed on, and its answer still came at an earlier look."""
        if not self.exchange.is_request_whole or self.exchange.is_prompt_told or self.is_answer_over:
            return False
        self.looks += 1
        return self.looks > 1

    def is_growing(self) -> bool:
        """Whether its answer still comes, and so much of it came that it is time to hand it on."""
        if not self.exchange.is_prompt_told or not self.exchange.status or self.is_answer_over:
            return False
        self.looks += 1
        self.next_part = self.next_part or self.looks + _FIRST_PART
        if self.looks < self.next_part or self.answer.seen - self.answer_told < _LEAST_GROWTH:
            return False
        self.next_part = self.looks + min(_RAREST_PART, self.looks)
        self.answer_told = self.answer.seen
        return True

    def part(self, limit: int) -> Exchange:
        """The answer as far as it came."""
        one = self.exchange
        answer = decoded(self.answer.value(), one.answer_header("content-encoding"), limit)
        body = decoded(self.request.value(), one.header("content-encoding"), limit)
        return msgspec.structs.replace(one, body=b"", told_body=body.body, answer=answer.body, is_part=True)

    def settled(self, limit: int, *, is_complete: bool) -> Exchange:
        """The exchange with its bodies undone as far as they are there."""
        one = self.exchange
        is_asked = one.is_prompt_told  # its request was handed on before
        body = decoded(self.request.value(), one.header("content-encoding"), limit)
        answer = decoded(self.answer.value(), one.answer_header("content-encoding"), limit)
        one.body, one.told_body = (b"", body.body) if is_asked else (body.body, b"")
        one.answer, one.is_complete = answer.body, is_complete
        one.undecoded = ("" if is_asked else body.problem) or answer.problem
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


def early_of(waiting: Iterable[Open], limit: int) -> list[Exchange]:
    """Requests that wait for their answers, and answers that grow."""
    early: list[Exchange] = []
    for one in waiting:
        if one.is_late():
            early.append(one.asked(limit))
        elif one.is_growing():
            early.append(one.part(limit))
    return early


def _rest_of(headers: Headers, body: Body) -> int:
    """Bytes of a body that still come, if its length was told beforehand."""
    told = {name: value for name, value in headers if name in ("content-length", "transfer-encoding")}
    length = told.get("content-length", "").partition(",")[0].strip()
    if "transfer-encoding" in told or not length.isdecimal():
        return 0
    return max(0, int(length[:18]) - body.seen)


class Http1Pairing:
    """Answers come in the order of their requests."""

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        self._limits = limits
        self._is_client = is_client
        self._requests = RequestReader(limits.head)
        self._answers = AnswerReader(limits.head, self._answered_next)
        self._open: deque[Open] = deque()
        self._asking: Open | None = None
        self._answering: Open | None = None
        self._has_answer_head = False
        self._given_up = 0  # exchanges that were told although their answers still come, before those that are open
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
        """Count missing bytes into the body at hand as far as it goes; what is missing beyond it costs the step."""
        reader, at_hand = (self._requests, self._asking) if is_from_client else (self._answers, self._answering)
        if at_hand is not None and not reader.is_between:
            body = at_hand.request if is_from_client else at_hand.answer
            headers = at_hand.exchange.headers if is_from_client else at_hand.exchange.answer_headers
            fill = min(missing, _rest_of(headers, body))
            missing -= fill
            self._fill(fill, told, is_from_client=is_from_client)
            if not missing:
                return
            if not reader.is_between:
                body.missing += missing
        told.append(Trouble("http1_gap"))
        for part in reader.lose():
            if is_from_client:
                self._take_request(part, told)
            else:
                self._take_answer(part, told)
        if not is_from_client:
            # Which of the open requests were answered in the gap nobody knows; a wrong pair is worse than none.
            self._settle_all(told)

    def early(self) -> list[Exchange]:
        return early_of(self._open, self._limits.body)

    def end(self, told: list[Told]) -> None:
        for part in self._answers.end():
            self._take_answer(part, told)
        self._asking = None
        self._settle_all(told)

    def _fill(self, size: int, told: list[Told], *, is_from_client: bool) -> None:
        self._is_filling = True
        while size > 0:
            self.feed(_FILL[:size], told, is_from_client=is_from_client)
            size -= len(_FILL)
        self._is_filling = False

    def _settle_all(self, told: list[Told]) -> None:
        """Tell what is open; the request at hand stays, since its answer comes after its end."""
        waits = [one for one in self._open if one is self._asking]
        told += [one.settled(self._limits.body, is_complete=False) for one in self._open if one is not self._asking]
        self._open = deque(waits)
        self._answering, self._given_up = None, 0

    def _answered_next(self) -> tuple[str, Headers] | None:
        """The request that the next answer is for."""
        one = None if self._given_up else self._unanswered()
        return (one.exchange.method, one.exchange.headers) if one is not None else None

    def _unanswered(self) -> Open | None:
        return next((one for one in self._open if not one.is_answered), None)

    def _give_up_oldest(self, told: list[Told]) -> None:
        told.append(Trouble("http1_too_many_waiting"))
        if (one := self._unanswered()) is not None:
            self._open.remove(one)
            self._given_up += 1
            told.append(one.settled(self._limits.body, is_complete=False))

    def _take_request(self, part: Part, told: list[Told]) -> None:
        match part:
            case RequestHead():
                if len(self._open) >= self._limits.pipelined:
                    self._give_up_oldest(told)
                host, target = split_target(part.target)
                exchange = Exchange(
                    protocol="http/1.1",
                    is_client=self._is_client,
                    method=part.method,
                    target=target,
                    host=host or next((value for name, value in part.headers if name == "host"), ""),
                    headers=part.headers,
                )
                self._asking = open_exchange(exchange, self._limits)
                self._open.append(self._asking)
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
                self._has_answer_head = True
                self._begin_answer(part, told)
            case Data():
                self._keep(self._answering.answer if self._answering else None, part)
            case End(is_whole=is_whole):
                self._end_answer(told, is_whole=is_whole)
            case Trouble():
                told.append(part)

    def _begin_answer(self, head: AnswerHead, told: list[Told]) -> None:
        if self._given_up:
            self._given_up -= 1
            return
        self._answering = self._unanswered()
        if self._answering is None:
            told.append(Trouble("http1_answer_to_nothing"))
            return
        self._answering.is_answered = True
        self._answering.exchange.status = head.status
        self._answering.exchange.answer_headers = head.headers

    def _end_answer(self, told: list[Told], *, is_whole: bool) -> None:
        """An answer is over; one whose head could not be read was the oldest request's all the same."""
        one = self._answering
        if not self._has_answer_head:
            if self._given_up:
                self._given_up -= 1
            else:
                one = self._unanswered()
        if one is not None:
            self._open.remove(one)
            told.append(one.settled(self._limits.body, is_complete=is_whole))
        self._answering, self._has_answer_head = None, False

    def _keep(self, body: Body | None, part: Data) -> None:
        if body is None:
            return
        if self._is_filling:
            body.missing += len(part.content)
        else:
            body.add(part.content)

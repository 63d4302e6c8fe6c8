"""A server stream that is kept alive: connect, read, watch over silence, connect again.

Every end is a reason to connect again, INTERNAL and a clean OK too: a stream that is followed has no end of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import structlog

from agent.sources.rpc.backoff import Backoff
from agent.sources.rpc.transport import Code, Renewal, RpcError, Stream, Transport

log = structlog.get_logger("reeve.rpc")

# gRPC servers take pings on an idle connection no more often than this (grpc-go's default enforcement policy).
_PING_SECONDS = 310.0
_PING_ANSWER_SECONDS = 10.0
# A connection that held this long was good: the next wait is short again.
_GOOD_SECONDS = 10.0


# How often an outage is told while it lasts.
_MISSING_SECONDS = 20.0
RENEWAL = "renewal"


class Follower(Protocol):
    """What a source does with a stream."""

    def request(self, reason: str) -> bytes:
        """The request of the next connection; `reason` is how the one before ended, empty for the first."""
        ...

    async def connected(self, gap_seconds: float, reason: str) -> None:
        """A stream stands.  `gap_seconds` since the one before ended, 0 for the first; `reason` is how it ended."""
        ...

    async def disconnected(self) -> None:
        """The stream ended."""
        ...

    async def missing(self, seconds: float) -> None:
        """There has been no stream for so long; told again as long as that lasts."""
        ...

    async def take(self, messages: list[bytes], oversized: int) -> None:
        """What came, and how many messages were skipped because of their size."""
        ...

    async def still_there(self) -> None:
        """Asked in silence: raises RpcError if the server cannot be reached or says that the stream is dead."""
        ...


@dataclass(frozen=True, slots=True)
class Watch:
    """How a stream is watched.  `idle_seconds` without a message lead to the question whether it still lives."""

    name: str
    method: str
    idle_seconds: float = 60.0
    is_optional: bool = False  # UNIMPLEMENTED ends it quietly


class Following:
    """One followed stream."""

    def __init__(self, transport: Transport, follower: Follower, watch: Watch, backoff: Backoff) -> None:
        self._transport = transport
        self._follower = follower
        self._watch = watch
        self._backoff = backoff
        self._stream: Stream | None = None
        self._is_stopping = asyncio.Event()
        self._asked = 0.0

    async def stop(self) -> None:
        """Ask `run` to end."""
        self._is_stopping.set()
        if self._stream is not None:
            await self._stream.close()

    async def run(self) -> None:
        """Follow until `stop`, or for ever."""
        loop = asyncio.get_running_loop()
        ended = loop.time()  # of the last stream, or our beginning
        told = ended
        reason = ""
        is_told = False
        while not self._is_stopping.is_set():
            began = loop.time()
            try:
                self._stream = await self._connected(reason)
                if self._stream is None:
                    return
                try:
                    self._asked = 0.0
                    gap = loop.time() - ended
                    await self._follower.connected(gap, reason)
                    if reason and reason != RENEWAL:
                        level = log.debug if is_told else log.info
                        level("A stream stands again.", source=self._watch.name, gap_seconds=round(gap, 3))
                    reason = await self._read(self._stream)
                finally:
                    ended = told = loop.time()
                    await self._stream.close()
                    self._stream = None
                    await self._follower.disconnected()
                    # One that ends at once each time is told once, not each time.
                    is_told = is_told and loop.time() - began < _GOOD_SECONDS
            except RpcError as error:
                reason = RENEWAL if isinstance(error, Renewal) else error.code.name.lower()
                if self._watch.is_optional and error.code is Code.UNIMPLEMENTED:
                    log.info("The server does not offer a stream.", source=self._watch.name, method=self._watch.method)
                    return
                if reason == RENEWAL:
                    log.debug("A stream is set up anew.", source=self._watch.name, why=error.detail)
                    continue
                if not is_told and not self._is_stopping.is_set():
                    log.warning("A stream ended, connecting again.", source=self._watch.name, error=str(error))
                is_told = True
            if self._is_stopping.is_set():
                return
            if loop.time() - told >= _MISSING_SECONDS:
                told = loop.time()
                await self._follower.missing(told - ended)
            if loop.time() - began > _GOOD_SECONDS:
                self._backoff.reset()
            await self._rest(self._backoff.next_seconds())

    async def _connected(self, reason: str) -> Stream | None:
        """A stream; None if `stop` came first.  Raises RpcError."""
        connecting: asyncio.Future[Stream] | None
        connecting = asyncio.ensure_future(self._transport.stream(self._watch.method, self._follower.request(reason)))
        stopping = asyncio.ensure_future(self._is_stopping.wait())
        try:
            await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done() or self._is_stopping.is_set():
                return None
            stream = connecting.result()
            connecting = None
            return stream
        finally:
            stopping.cancel()
            if connecting is not None:
                connecting.cancel()
                for made in await asyncio.gather(connecting, return_exceptions=True):
                    if not isinstance(made, BaseException):
                        await made.close()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._is_stopping.wait()
        except TimeoutError:
            return

    async def _read(self, stream: Stream) -> str:
        """Until the stream ends with OK, of which the word for it is returned.  Raises RpcError."""
        while True:
            try:
                async with asyncio.timeout(self._watch.idle_seconds):
                    messages = await stream.batch()
            except TimeoutError:
                await self._ask(stream)
                continue
            finally:
                oversized = stream.take_oversized()
                if oversized:
                    await self._follower.take([], oversized)
            if messages is None:
                return "ok"
            if messages:
                await self._follower.take(messages, 0)

    async def _ask(self, stream: Stream) -> None:
        """Whether a silent stream still lives.  Raises RpcError if not."""
        await self._follower.still_there()
        now = asyncio.get_running_loop().time()
        if now - self._asked < _PING_SECONDS:
            return
        self._asked = now
        if not await stream.ping(_PING_ANSWER_SECONDS):
            raise RpcError(Code.UNAVAILABLE, "the connection does not answer")

"""The socket of a streaming call: asyncio, unix or TCP, with or without TLS.

Reading is moderated: after a read the socket rests for `batch_seconds`, so that under load one wake-up takes many
messages.  What is not taken is bounded: over the limit nothing more is read, and HTTP/2's window stops the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

from agent.sources.rpc.connection import Connection
from agent.sources.rpc.http2.call import StreamingCall
from agent.sources.rpc.http2.frames import ErrorCode, ProtocolError
from agent.sources.rpc.transport import Code, RpcError, Stream, Transport

# Bytes of messages that wait to be taken; over it reading stops.
_WAITING = 16 * 1024 * 1024
# What a message costs beside its bytes.
_OVERHEAD = 64
# Answers that the peer makes us owe and does not read.
_OWED = 1024 * 1024
# A read of this size says that more is there already: no rest.
_BUSY = 128 * 1024


class _Wire(asyncio.BufferedProtocol):
    """Bytes between a transport and a call."""

    def __init__(self, call: StreamingCall, rest_seconds: float) -> None:
        self.call = call
        self._rest = rest_seconds
        self.messages: list[bytes] = []
        self._bytes = 0
        self.came = asyncio.Event()
        self.is_closed = asyncio.Event()
        self.answered = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._is_resting = False
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self.call.space()

    def buffer_updated(self, nbytes: int) -> None:
        call = self.call
        before, skipped = len(self.messages), call.oversized
        try:
            call.received(nbytes, self.messages)
        except ProtocolError as error:
            call.fail(error)
        if len(self.messages) > before or call.oversized > skipped:
            self._bytes += sum(map(len, self.messages[before:])) + _OVERHEAD * (len(self.messages) - before)
            self.came.set()
        self.flush()
        if call.status is not None:
            self.came.set()
            self.close()
        elif self._bytes > _WAITING:
            self._pause()
        elif self._rest and nbytes < _BUSY:
            self._is_resting = True
            self._pause()
            self._loop.call_later(self._rest, self._rested)
        self.answered.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.call.hung_up()
        self.is_closed.set()
        self.came.set()
        self.answered.set()

    def take(self) -> list[bytes]:
        messages, self.messages, self._bytes = self.messages, [], 0
        if self.call.status is None:
            self.came.clear()
        self._resume()
        return messages

    def flush(self) -> None:
        out = self.call.outgoing()
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(out)
            if self._transport.get_write_buffer_size() > _OWED:
                self.call.fail(ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a peer that asks and does not read"))
                self.came.set()
                self._transport.abort()

    def close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _pause(self) -> None:
        if self._transport is not None and not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def _rested(self) -> None:
        self._is_resting = False
        self._resume()

    def _resume(self) -> None:
        if self._is_paused and not self._is_resting and self._bytes <= _WAITING and self._transport is not None:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()


class Http2Stream:
    """A `Stream` on its own connection."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._told = 0

    @property
    def headers(self) -> dict[str, str]:
        return self._wire.call.headers

    async def batch(self) -> list[bytes] | None:
        wire = self._wire
        await wire.came.wait()
        messages = wire.take()
        if messages or wire.call.oversized > self._told:
            return messages
        status = wire.call.status
        if status is None or status.code is Code.OK:
            return None if status is not None else []
        raise RpcError(status.code, status.detail)

    def take_oversized(self) -> int:
        new, self._told = self._wire.call.oversized - self._told, self._wire.call.oversized
        return new

    async def ping(self, timeout_seconds: float) -> bool:
        wire = self._wire
        wanted = wire.call.ask()
        wire.flush()
        try:
            async with asyncio.timeout(timeout_seconds):
                while wire.call.pongs < wanted and wire.call.status is None:
                    wire.answered.clear()
                    await wire.answered.wait()
        except TimeoutError:
            return False
        return wire.call.pongs >= wanted

    async def close(self) -> None:
        self._wire.call.cancel()
        self._wire.flush()
        self._wire.close()
        self._wire.came.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._wire.is_closed.wait()
        self._wire.abort()


class Http2Transport:
    """Streams over our own reader; unary calls are `rest`'s, which is grpcio."""

    def __init__(self, connection: Connection, rest: Transport) -> None:
        self._connection = connection
        self._rest = rest

    async def unary(self, method: str, request: bytes, timeout_seconds: float) -> bytes:
        return await self._rest.unary(method, request, timeout_seconds)

    async def stream(self, method: str, request: bytes) -> Stream:
        place = self._connection
        context = place.ssl_context()
        call = StreamingCall(
            path=method,
            authority=place.authority,
            request=request,
            scheme="https" if context else "http",
            max_message_bytes=place.config.max_message_bytes,
        )
        wire = _Wire(call, place.config.batch_seconds)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(place.config.connect_seconds):
                if place.path:
                    made = await loop.create_unix_connection(lambda: wire, place.path)
                else:
                    made = await loop.create_connection(
                        lambda: wire,
                        place.host,
                        place.port,
                        ssl=context,
                        server_hostname=place.server_name if context else None,
                    )
        except ssl.SSLError as error:
            raise RpcError(Code.UNAVAILABLE, f"TLS: {error.reason or type(error).__name__}") from error
        except TimeoutError as error:
            seconds = place.config.connect_seconds
            raise RpcError(Code.UNAVAILABLE, f"no connection in {seconds:g} s") from error
        except OSError as error:
            raise RpcError(Code.UNAVAILABLE, f"no connection: {error.strerror or type(error).__name__}") from error
        if context is not None:
            session: ssl.SSLObject = made[0].get_extra_info("ssl_object")
            if session.selected_alpn_protocol() != "h2":
                made[0].abort()
                raise RpcError(Code.UNAVAILABLE, "TLS: the server does not speak HTTP/2 (ALPN)")
        return Http2Stream(wire)

    async def close(self) -> None:
        await self._rest.close()

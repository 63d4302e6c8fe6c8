"""The same calls through grpcio: unary calls always, streams where the configuration asks for it.

One channel for each set of certificate bytes: when the files change, the next call makes a new one.  grpcio itself is
imported with the first call: it is large, and who only reads a recorded file does without.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.sources.rpc.connection import Connection
from agent.sources.rpc.transport import Code, RpcError, Stream

if TYPE_CHECKING:
    import grpc.aio


# What an old channel's calls get to end in, after certificates have changed.
_GRACE_SECONDS = 10.0


def _error(error: Exception) -> RpcError:
    """Ours for an AioRpcError of grpcio; anything else is raised again."""
    code = getattr(error, "code", None)
    if code is None:
        raise error
    return RpcError(Code(code().value[0]), str(getattr(error, "details", str)() or ""))


class GrpcioStream:
    """A `Stream` of grpcio.  Messages are read one by one in the background and taken together."""

    def __init__(self, channel: Any, call: Any, limit: int = 2048) -> None:
        self._channel = channel
        self._call = call
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue(limit)
        self._error: RpcError | None = None
        self._is_over = False
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self._call:
                await self._messages.put(message)
        except asyncio.CancelledError:
            self._error = RpcError(Code.CANCELLED, "cancelled by us")
        except Exception as error:  # noqa: BLE001 - grpcio's errors have no base we may import here
            self._error = _error(error)
        await self._messages.put(None)

    async def batch(self) -> list[bytes] | None:
        messages: list[bytes] = []
        while not self._is_over and (not messages or not self._messages.empty()):
            message = await self._messages.get()
            if message is None:
                self._is_over = True
            else:
                messages.append(message)
        if messages:
            return messages
        if self._error is not None:
            raise self._error
        return None

    def take_oversized(self) -> int:
        return 0  # grpcio ends the stream with RESOURCE_EXHAUSTED instead

    async def ping(self, timeout_seconds: float) -> bool:
        del timeout_seconds
        return not self._call.done()

    async def close(self) -> None:
        self._call.cancel()
        while not self._reading.done():
            while not self._messages.empty():
                self._messages.get_nowait()
            await asyncio.sleep(0)
            await asyncio.wait([self._reading], timeout=0.05)
        self._is_over = True
        self._error = self._error or RpcError(Code.CANCELLED, "cancelled by us")
        await self._channel.close()


class GrpcioTransport:
    """A `Transport` of grpcio.  Unary calls share a channel; a stream has its own, which ends with it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: grpc.aio.Channel | None = None
        self._made_of: object = None
        self._closing: set[asyncio.Task[None]] = set()

    def _made(self, files: tuple[bytes, bytes | None, bytes | None] | None) -> grpc.aio.Channel:
        import grpc.aio

        place = self._connection
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", place.config.max_message_bytes),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),  # a node's own peers are not behind one
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        target = f"unix:{place.path}" if place.path else place.config.address
        if files is None:
            if place.path:
                options.append(("grpc.default_authority", place.authority))
            return grpc.aio.insecure_channel(target, options=options)
        ca, key, certificate = files
        if place.server_name and place.server_name != place.host:
            options.append(("grpc.ssl_target_name_override", place.server_name))
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca, key, certificate), options=options)

    def _current(self) -> grpc.aio.Channel:
        """The channel for unary calls; a new one when certificates have changed.  Calls of the old one may end."""
        files = self._connection.tls_bytes()
        if self._channel is None or files != self._made_of:
            if self._channel is not None:
                self._let_go(self._channel)
            self._channel, self._made_of = self._made(files), files
        return self._channel

    def _let_go(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.ensure_future(channel.close(grace=_GRACE_SECONDS))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def unary(self, method: str, request: bytes, timeout_seconds: float) -> bytes:
        try:
            answer: bytes = await self._current().unary_unary(method)(request, timeout=timeout_seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RpcError(Code.CANCELLED, "the channel was closed") from None
        except RpcError:
            raise
        except Exception as error:
            raise _error(error) from error
        return answer

    async def stream(self, method: str, request: bytes) -> Stream:
        channel = self._made(self._connection.tls_bytes())
        try:
            async with asyncio.timeout(self._connection.config.connect_seconds):
                await channel.channel_ready()
        except TimeoutError as error:
            await channel.close()
            seconds = self._connection.config.connect_seconds
            raise RpcError(Code.UNAVAILABLE, f"no connection in {seconds:g} s") from error
        except BaseException:
            await channel.close()
            raise
        return GrpcioStream(channel, channel.unary_stream(method)(request))

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

"""What a source asks of a gRPC client: one unary call, one server stream.  Messages are bytes; decoding is not its job.

Both transports keep the same contract (`tests/integration/test_transports.py`): they differ in what a message costs.
"""

from __future__ import annotations

import enum
from typing import Protocol


class Code(enum.IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call that did not end with OK.  `detail` is the peer's text or ours; it is shown to people, cut short."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code.name}: {detail[:200]}")
        self.code = code
        self.detail = detail[:200]


class Renewal(RpcError):
    """A stream that we leave of our own will, to be sure; nothing is wrong that we know of."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.UNAVAILABLE, detail)


class Stream(Protocol):
    """A running server stream."""

    async def batch(self) -> list[bytes] | None:
        """Every message that has come and was not taken; None when the stream ended with OK.

        Waits while there is none; empty only if messages were skipped (`take_oversized`).  Raises RpcError when the
        stream ended otherwise, after the last message was taken.
        """
        ...

    def take_oversized(self) -> int:
        """How many messages over the size limit were skipped since the last call."""
        ...

    async def ping(self, timeout_seconds: float) -> bool:
        """Whether the connection itself still answers.  A transport that cannot ask says True."""
        ...

    async def close(self) -> None:
        """End the call.  May be called at any time, more than once."""
        ...


class Transport(Protocol):
    """A way to reach one server."""

    async def unary(self, method: str, request: bytes, timeout_seconds: float) -> bytes:
        """The answer to `request`; `method` is a path like `/package.Service/Method`.  Raises RpcError."""
        ...

    async def stream(self, method: str, request: bytes) -> Stream:
        """Connect and begin a server stream.  Raises RpcError if there is no connection."""
        ...

    async def close(self) -> None:
        """Let go of connections that outlive a call."""
        ...

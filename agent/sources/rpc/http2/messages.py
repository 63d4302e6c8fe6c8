"""gRPC's length-prefixed messages out of the payloads of DATA frames."""

from __future__ import annotations

import zlib

from agent.sources.rpc.http2.frames import ErrorCode, ProtocolError

PREFIX = 5


class MessageAssembly:
    """Puts messages together that begin or end inside of a frame.  One over `limit` bytes is skipped and counted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.oversized = 0
        self.budget = limit  # bytes that compressed messages may still grow to
        self.encoding = "identity"  # of compressed messages, from the response's headers
        self._partial = bytearray()
        self._skip = 0  # bytes left of a message that is too large

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a message."""
        return not self._partial and not self._skip

    def feed(self, piece: memoryview, messages: list[bytes]) -> None:
        """Append the messages that are whole now.  Raises ProtocolError."""
        position = 0
        while position < len(piece):
            if self._skip:
                step = min(self._skip, len(piece) - position)
                self._skip -= step
                position += step
                continue
            step = min(self._wanted() - len(self._partial), len(piece) - position)
            self._partial += piece[position : position + step]
            position += step
            if len(self._partial) == PREFIX:
                self._announced()
            if len(self._partial) >= PREFIX and len(self._partial) == self._wanted():
                self._whole(messages)

    def _wanted(self) -> int:
        """Bytes until the prefix, or the message after it, is whole."""
        return PREFIX + (int.from_bytes(self._partial[1:PREFIX], "big") if len(self._partial) >= PREFIX else 0)

    def _announced(self) -> None:
        """A message's prefix is there: refuse what is no message, skip what is too large."""
        flag, length = self._partial[0], int.from_bytes(self._partial[1:PREFIX], "big")
        if flag > 1:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a message with the flag {flag}")
        if length > self.limit:
            self.oversized += 1
            self._skip = length
            self._partial.clear()

    def _whole(self, messages: list[bytes]) -> None:
        flag, content = self._partial[0], bytes(self._partial[PREFIX:])
        self._partial.clear()
        if flag:
            content = self._inflated(content)
            if len(content) > self.limit:
                self.oversized += 1
                return
        messages.append(content)

    def _inflated(self, content: bytes) -> bytes:
        """A compressed message, at most one byte over the limit of it.  Raises ProtocolError."""
        if self.encoding not in ("gzip", "deflate"):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a compressed message in an encoding that was not agreed on")
        inflater = zlib.decompressobj(31 if self.encoding == "gzip" else 15)
        try:
            inflated = inflater.decompress(content, self.limit + 1)
        except zlib.error as error:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a compressed message that is broken") from error
        self.budget -= len(inflated)
        if self.budget < 0:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "compressed messages that grow beyond measure")
        if len(inflated) <= self.limit and not inflater.eof:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a compressed message that is cut")
        return inflated

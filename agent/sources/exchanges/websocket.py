"""Messages of a WebSocket that was watched from its handshake on: wsproto's frames, inflated where that was agreed.

wsproto's own inflating is for an endpoint that trusts its peer: it has no bound, raises at odd parameters, and forgets
a fragmented message at a Ping.  So the extension (RFC 7692) is read here.
"""

from __future__ import annotations

import zlib
from typing import Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from agent.sources.exchanges.exchange import Trouble, Turn

_DEFLATE = "permessage-deflate"
# RFC 7692, 7.2.1: each message lacks the end of its last block.
_TAIL = b"\0\0\xff\xff"
_STEP = 64 * 1024
# A message is read on behind its limit, since the next one refers to its end; nobody sends a larger one than this.
_LARGEST_MESSAGE = 64 * 1024 * 1024
_LETTER_REST = 3  # bytes of a UTF-8 letter behind its first


class _Inflating(Extension):
    """permessage-deflate of one direction, passing on little more than `limit` bytes of each message.

    What was agreed on windows and contexts does not matter to a reader: the largest window reads all of them.
    """

    name = _DEFLATE

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._is_compressed = False
        self._is_control = False
        self._is_cut = False
        self._size = 0
        self.missing = 0

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        del proto, payload_length  # asked for by wsproto
        # Control frames come between the fragments of a message and leave it as it is.
        self._is_control = opcode.iscontrol()
        if rsv.rsv1 and (self._is_control or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if not self._is_control and opcode is not Opcode.CONTINUATION:
            self._is_compressed, self._is_cut, self._size = rsv.rsv1, False, 0
        return RsvBits(rsv1=True, rsv2=False, rsv3=False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        del proto
        return self._inflated(data) if self._is_compressed and not self._is_control else data

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        del proto
        if not fin or not self._is_compressed or self._is_control:
            return None
        return self._inflated(_TAIL)

    def _inflated(self, data: bytes) -> bytes | CloseReason:
        out = bytearray()
        while data:
            if self._inflater.eof:  # RFC 7692, 7.2.3.4: a last block; what stands behind it is another stream's
                if data == _TAIL:
                    break
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                piece = self._inflater.decompress(data, _STEP)
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            out += self._kept(piece)
            if self._size > _LARGEST_MESSAGE:
                return CloseReason.MESSAGE_TOO_BIG
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
        return bytes(out)

    def _kept(self, piece: bytes) -> bytes:
        """What is passed on of a piece: up to the limit, and to the end of the letter that stands there."""
        start, self._size = self._size, self._size + len(piece)
        if self._is_cut:
            self.missing += len(piece)
            return b""
        end = max(0, self._limit - start)
        while end < min(len(piece), self._limit - start + _LETTER_REST) and piece[end] & 0xC0 == 0x80:
            end += 1
        self._is_cut = end < len(piece)
        self.missing += len(piece[end:])
        return piece[:end]


class SocketReader:
    """One direction.  `agreed` is the answer's `sec-websocket-extensions`."""

    def __init__(self, agreed: str, limit: int, *, is_from_client: bool) -> None:
        names = [offer.partition(";")[0].strip().lower() for offer in agreed.split(",")]
        self._inflating = _Inflating(limit) if _DEFLATE in names else None
        kind = ConnectionType.SERVER if is_from_client else ConnectionType.CLIENT
        self._connection = Connection(kind, [self._inflating] if self._inflating else [])
        self._is_from_client = is_from_client
        self._limit = limit
        self._partial = bytearray()
        self.missing = 0
        self.is_lost = False

    def feed(self, data: bytes) -> list[Turn | Trouble]:
        if self.is_lost:
            return []
        found: list[Turn | Trouble] = []
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, Message):
                    self._take(event, found)
                elif isinstance(event, CloseConnection):
                    self.is_lost = True
                    # wsproto tells its own complaints as a close, too; a peer's close changes the state.
                    if self._connection.state is ConnectionState.OPEN:
                        found.append(Trouble("websocket_malformed"))
                    break
        except (RemoteProtocolError, LocalProtocolError, ValueError):
            self.is_lost = True
            found.append(Trouble("websocket_malformed"))
        if self._inflating is not None:
            self.missing += self._inflating.missing
            self._inflating.missing = 0
        return found

    def _take(self, event: Message[Any], found: list[Turn | Trouble]) -> None:
        if isinstance(event, TextMessage):
            piece = str(event.data).encode("utf-8", "replace")
        elif isinstance(event, BytesMessage):
            piece = bytes(event.data)
        else:
            return
        room = self._limit - len(self._partial)
        self._partial += piece[:room]
        self.missing += max(0, len(piece) - room)
        if event.message_finished:
            found.append(Turn(self._is_from_client, bytes(self._partial)))
            self._partial.clear()

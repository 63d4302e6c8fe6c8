"""Messages of a WebSocket that was watched from its handshake on: wsproto's frames, inflated where that was agreed."""

from __future__ import annotations

from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from agent.sources.exchanges.exchange import Trouble, Turn

_DEFLATE = "permessage-deflate"


class SocketReader:
    """One direction.  `agreed` is the answer's `sec-websocket-extensions`."""

    def __init__(self, agreed: str, limit: int, *, is_from_client: bool) -> None:
        extensions: list[Extension] = []
        if _DEFLATE in agreed:
            deflate = PerMessageDeflate()
            # Both sides' windows are in the answer; the reader of the client's frames is a server and the reverse.
            if is_from_client:
                deflate.accept(agreed)
            else:
                deflate.finalize(agreed)
            extensions.append(deflate)
        kind = ConnectionType.SERVER if is_from_client else ConnectionType.CLIENT
        self._connection = Connection(kind, extensions)
        self._is_from_client = is_from_client
        self._limit = limit
        self._partial = bytearray()
        self._is_text = True
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
                    break
        except (RemoteProtocolError, LocalProtocolError, ValueError):
            self.is_lost = True
            found.append(Trouble("websocket_malformed"))
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

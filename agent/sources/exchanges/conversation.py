"""One connection: which protocol it speaks, and the exchanges on it.

The client is found by what it says first.  A connection that is met in its middle is picked up at the next request
(HTTP/1.1) or given up and said so (HTTP/2).  When both sides have spoken and neither began a message, it is no HTTP.
Nothing here waits: `early` hands on requests whose answers still come, and long answers meanwhile, `end` what is left.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from agent.sources.exchanges.exchange import Exchange, Limits, Told, Trouble, Turn, Way
from agent.sources.exchanges.http1 import MAYBE_REQUEST, MAYBE_STATUS, REQUEST_LINE, STATUS_LINE
from agent.sources.exchanges.http2 import PREFACE, is_frame_start, may_be_settings
from agent.sources.exchanges.pairing import Http1Pairing, Pairing
from agent.sources.exchanges.streams import Http2Pairing
from agent.sources.exchanges.websocket import SocketReader

_Mode: TypeAlias = Literal["unknown", "http1", "http2", "websocket", "opaque"]
_HELD_BYTES = 64 * 1024
_OTHER: dict[Way, Way] = {"sent": "received", "received": "sent"}


class Conversation:
    """Feed it what a process sent and received; it tells exchanges in the order they end."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._mode: _Mode = "unknown"
        self._held: dict[Way, bytes] = {"sent": b"", "received": b""}
        self._strangers: set[Way] = set()  # ways whose last bytes began no message
        self._is_strange_told = False
        self._client: Way = "sent"
        self._pairing: Pairing | None = None
        self._sockets: dict[Way, SocketReader] = {}
        self._turns: list[Turn] = []
        self._upgraded: Exchange | None = None

    @property
    def is_opaque(self) -> bool:
        """Nothing more will come of it."""
        return self._mode == "opaque"

    @property
    def protocol(self) -> str:
        return self._mode

    def feed(self, way: Way, data: bytes, missing: int = 0) -> list[Told]:
        """Take bytes, and behind them `missing` bytes that nobody saw."""
        told: list[Told] = []
        if self.is_opaque:
            return told
        if self._mode == "unknown":
            data = self._decide(way, data, told)
        if data:
            self._read(way, data, told)
        if missing:
            self._miss(way, missing, told)
        return told

    def early(self) -> list[Exchange]:
        """Requests that waited for their answers at the last look already, each once; and WebSocket turns so far."""
        if self._mode == "websocket":
            return self._socket_exchange()
        return self._pairing.early() if self._pairing is not None and not self.is_opaque else []

    def end(self) -> list[Told]:
        """The connection is closed."""
        told: list[Told] = []
        if self._mode == "websocket":
            told += self._socket_exchange()
        elif self._pairing is not None:
            self._pairing.end(told)
        self._mode, self._pairing = "opaque", None
        return told

    # ------------------------------------------------------------ protocol

    def _decide(self, way: Way, data: bytes, told: list[Told]) -> bytes:
        """Find out what this is; the bytes of `way` to read on with."""
        data = self._held[way] + data
        self._held[way] = b""
        if data.startswith(PREFACE):
            self._begin("http2", way)
        elif REQUEST_LINE.match(data):
            self._begin("http1", way)
        elif STATUS_LINE.match(data):
            self._begin("http1", _OTHER[way])
            told.append(Trouble("http1_joined_midway"))
        elif self._may_become_more(data):
            self._held[way] = data
            return b""
        elif is_frame_start(data):
            self._mode = "opaque"
            told.append(Trouble("http2_joined_midway"))
            return b""
        else:
            self._be_strange(way, "not_http", told)
            return b""
        if held := self._held[_OTHER[way]]:
            self._held[_OTHER[way]] = b""
            self._read(_OTHER[way], held, told)
        return data

    def _may_become_more(self, data: bytes) -> bool:
        if len(data) > _HELD_BYTES:
            return False
        is_http1 = MAYBE_STATUS.fullmatch(data) or MAYBE_REQUEST.fullmatch(data)
        return is_http1 is not None or PREFACE.startswith(data) or may_be_settings(data)

    def _be_strange(self, way: Way, name: str, told: list[Told]) -> None:
        """The rest of a body may have been met: the next message is still looked for, until both sides are strange."""
        self._held[way] = b""
        self._strangers.add(way)
        if not self._is_strange_told:
            told.append(Trouble(name))
        self._is_strange_told = True
        if len(self._strangers) == len(_OTHER):
            self._mode = "opaque"

    def _begin(self, mode: Literal["http1", "http2"], client: Way) -> None:
        self._mode, self._client = mode, client
        make = Http1Pairing if mode == "http1" else Http2Pairing
        self._pairing = make(self._limits, is_client=client == "sent")

    def _read(self, way: Way, data: bytes, told: list[Told]) -> None:
        if self._mode == "websocket":
            self._read_socket(way, data, told)
            return
        if self._pairing is None:
            return
        rest = self._pairing.feed(data, told, is_from_client=way == self._client)
        if self._pairing.is_lost:
            self._mode = "opaque"
        if rest is not None:
            self._switch(way, rest, told)

    def _miss(self, way: Way, missing: int, told: list[Told]) -> None:
        if self._mode == "websocket":
            reader = self._sockets[way]
            reader.missing += missing
            if not reader.is_lost:
                told.append(Trouble("websocket_gap"))
            reader.is_lost = True
        elif self._pairing is not None:
            self._pairing.miss(missing, told, is_from_client=way == self._client)
            if self._pairing.is_lost:
                self._mode = "opaque"
        elif self._mode == "unknown":
            self._be_strange(way, "gap_at_start", told)

    # ----------------------------------------------------------- WebSocket

    def _switch(self, way: Way, rest: bytes, told: list[Told]) -> None:
        """A 101 was answered; what follows is a WebSocket, or nothing that is read here."""
        upgraded = next((one for one in reversed(told) if isinstance(one, Exchange)), None)
        if upgraded is None or upgraded.answer_header("upgrade").lower() != "websocket":
            self._mode = "opaque"
            told.append(Trouble("upgraded_to_other"))
            return
        self._mode, self._upgraded, self._pairing = "websocket", upgraded, None
        agreed = upgraded.answer_header("sec-websocket-extensions")
        for one in (self._client, _OTHER[self._client]):
            self._sockets[one] = SocketReader(agreed, self._limits.body, is_from_client=one == self._client)
        if rest:
            self._read_socket(way, rest, told)

    def _read_socket(self, way: Way, data: bytes, told: list[Told]) -> None:
        for one in self._sockets[way].feed(data):
            if isinstance(one, Trouble):
                told.append(one)
            else:
                self._turns.append(one)
        if sum(len(turn.payload) for turn in self._turns) > self._limits.body:
            told += self._socket_exchange()

    def _socket_exchange(self) -> list[Exchange]:
        base = self._upgraded
        if not self._turns or base is None:
            return []
        turns, self._turns = tuple(self._turns), []
        missing = sum(one.missing for one in self._sockets.values())
        for one in self._sockets.values():
            one.missing = 0
        exchange = Exchange(
            protocol="websocket",
            is_client=base.is_client,
            method=base.method,
            target=base.target,
            host=base.host,
            headers=base.headers,
            status=base.status,
            answer_headers=base.answer_headers,
            turns=turns,
            is_request_whole=True,
            is_complete=True,
            missing=missing,
        )
        return [exchange]

"""Pieces of plaintext to conversations, exchanges, and the events they are.

A piece says where in its connection's stream it stands, so what is missing is known exactly and told to the
conversation.  When both ends of a local connection are watched, each part of an exchange is told once.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from agent.model import Body, Endpoint, Event, Generations, HttpActivity, Sensitive, event_id
from agent.sources.dialects import operations_of
from agent.sources.dialects.reading import host_and_port, without_credential
from agent.sources.ebpf.layout import HEAD_BYTES, Head
from agent.sources.ebpf.processes import Known
from agent.sources.exchanges import Conversation, Exchange, Limits, Trouble, Way

_PIECE = struct.Struct("<IIII")
STACKS = {1: "openssl", 2: "gnutls", 3: "go", 4: "socket"}
_REMEMBERED = 8192
# Both ends of an exchange tell it within this time, or the second is another exchange that says the same.
_BOTH_ENDS_NANOSECONDS = 10_000_000_000


class Piece(NamedTuple):
    """Bytes of one call: `place` is where the first stands in its stream, `total` the whole call's length."""

    way: Way
    stack: str
    place: int
    offset: int
    total: int
    data: bytes


def piece_of(head: Head, record: bytes) -> Piece | None:
    """A PLAIN record's piece; None if it is too short to be one."""
    if head.size < _PIECE.size or len(record) < HEAD_BYTES + head.size:
        return None
    is_received, stack, total, offset = _PIECE.unpack_from(record, HEAD_BYTES)
    data = record[HEAD_BYTES + _PIECE.size : HEAD_BYTES + head.size]
    way: Way = "received" if is_received else "sent"
    return Piece(way, STACKS.get(stack, "unknown"), head.b, offset, total, data)


class _Sides(msgspec.Struct):
    """How often clients and servers told one thing, and when last; how many tell its answer in parts, and how many are
    the other ends of those."""

    told: Counter[bool] = msgspec.field(default_factory=Counter)
    parts: Counter[bool] = msgspec.field(default_factory=Counter)
    echoes: Counter[bool] = msgspec.field(default_factory=Counter)
    last: int = 0


class _Connection(msgspec.Struct):
    conversation: Conversation
    known: Known
    number: int
    stack: str
    last: int  # boot time, ns
    due: dict[Way, int]  # the place of the next byte
    count: int = 0


class Plaintext:
    """All connections that are read now."""

    def __init__(self, *, message_bytes: int, connections: int, idle_seconds: float, whole_call: int) -> None:
        self._limits = Limits(body=message_bytes)
        self._most = connections
        self._idle = int(idle_seconds * 1e9)
        self._whole_call = whole_call
        self._connections: dict[tuple[int, int], _Connection] = {}
        self._parts: Generations[bytes, _Sides] = Generations(_REMEMBERED)
        self._made = 0
        self._named = 0
        self.troubles: Counter[str] = Counter()
        self.missing_bytes = 0
        self.exchanges = 0
        self.other_ends = 0

    def __len__(self) -> int:
        return len(self._connections)

    def take(self, head: Head, piece: Piece, known: Known, wall_time: int) -> list[Event]:
        """Events that a piece completes."""
        key = (head.pid, int(head.a))
        connection = self._connections.get(key)
        events: list[Event] = []
        if connection is None:
            events += self._make_room(wall_time)
            self._made += 1
            connection = _Connection(Conversation(self._limits), known, self._made, piece.stack, head.time, {})
            self._connections[key] = connection
        connection.last = head.time
        if connection.conversation.is_opaque:
            return events
        due = connection.due.get(piece.way, piece.place)
        told = []
        if piece.place > due:
            self.missing_bytes += piece.place - due
            told += connection.conversation.feed(piece.way, b"", piece.place - due)
        told += connection.conversation.feed(piece.way, piece.data)
        end = piece.place + len(piece.data)
        if piece.offset + len(piece.data) >= self._whole_call and piece.total > self._whole_call:
            # The rest of this call is over the limit: nobody will send it.
            cut = piece.total - piece.offset - len(piece.data)
            self.missing_bytes += cut
            told += connection.conversation.feed(piece.way, b"", cut)
            end += cut
        connection.due[piece.way] = end
        for one in told:
            if isinstance(one, Trouble):
                self.troubles[one.name] += 1
            else:
                events += self._events(connection, one, wall_time)
        return events

    def closed(self, pid: int, number: int, wall_time: int) -> list[Event]:
        """A connection was closed."""
        connection = self._connections.pop((pid, number), None)
        return list(self._ended(connection, wall_time)) if connection is not None else []

    def process_ended(self, pid: int, wall_time: int) -> list[Event]:
        """All connections of a process are closed."""
        numbers = [number for owner, number in self._connections if owner == pid]
        return [event for number in numbers for event in self.closed(pid, number, wall_time)]

    def look(self, now: int, wall_time: int) -> list[Event]:
        """Requests whose answers take long, and what connections said that are idle now."""
        events: list[Event] = []
        for key, connection in list(self._connections.items()):
            if now - connection.last > self._idle:
                del self._connections[key]
                events += self._ended(connection, wall_time)
                continue
            for one in connection.conversation.early():
                events += self._events(connection, one, wall_time, is_early=not one.is_complete)
        return events

    def end(self, wall_time: int) -> list[Event]:
        """Everything that is open now, as far as it goes."""
        connections, self._connections = self._connections, {}
        return [event for one in connections.values() for event in self._ended(one, wall_time)]

    def _make_room(self, wall_time: int) -> list[Event]:
        if len(self._connections) < self._most:
            return []
        oldest = min(self._connections, key=lambda key: self._connections[key].last)
        self.troubles["too_many_connections"] += 1
        return list(self._ended(self._connections.pop(oldest), wall_time))

    def _ended(self, connection: _Connection, wall_time: int) -> Iterator[Event]:
        for one in connection.conversation.end():
            if isinstance(one, Trouble):
                self.troubles[one.name] += 1
            else:
                yield from self._events(connection, one, wall_time)

    # --------------------------------------------------------------- events

    def _events(
        self, connection: _Connection, exchange: Exchange, wall_time: int, *, is_early: bool = False
    ) -> Iterator[Event]:
        once = self._once(exchange, wall_time)
        if once is None:
            self.other_ends += 1
            return
        exchange = once
        self.exchanges += not exchange.is_part
        bodies: list[Body] = [
            msgspec.structs.replace(
                one, process=connection.known.process, is_open=is_early, exchange_id=self._name_of(exchange, connection)
            )
            for one in operations_of(exchange)
        ]
        if not bodies and exchange.is_complete and not exchange.turns:
            bodies = [_plain_http(exchange, connection.known)]
        for body in bodies:
            connection.count += 1
            where = f"{connection.known.process.exec_id}\0{connection.number}\0{connection.count}\0{wall_time}"
            yield Event(
                id=event_id(b"ebpf", where.encode()),
                source="ebpf",
                body=body,
                resource=connection.known.owner,
                time_unix_nano=wall_time,
                observed_time_unix_nano=wall_time,
            )

    def _name_of(self, exchange: Exchange, connection: _Connection) -> str:
        """A name for an exchange that is told in pieces."""
        if exchange.turns or (exchange.is_complete and not exchange.is_prompt_told):
            return ""
        memory = exchange.memory
        if not memory.name:
            self._named += 1
            where = f"{connection.known.process.exec_id}\0{connection.number}\0{self._named}"
            memory.name = event_id(b"exchange", where.encode())
        return memory.name

    def _once(self, exchange: Exchange, wall_time: int) -> Exchange | None:
        """The exchange without the parts that its other end told; None if nothing is left."""
        if exchange.turns:
            payloads = b"".join(turn.payload for turn in exchange.turns)
            return (
                None
                if self._is_told(b"turns", payloads, is_client=exchange.is_client, wall_time=wall_time)
                else exchange
            )
        if self._is_told_in_parts(exchange, wall_time):
            return None
        if exchange.is_part or exchange.memory.heard:
            return exchange
        head = f"{exchange.method}\0{exchange.target}".encode()
        has_request = not exchange.is_prompt_told
        has_answer = bool(exchange.status)
        is_request_told = has_request and self._is_told(
            head, exchange.body, is_client=exchange.is_client, wall_time=wall_time
        )
        answer_head = head + str(exchange.status).encode()
        is_answer_told = has_answer and self._is_told(
            answer_head, exchange.answer, is_client=exchange.is_client, wall_time=wall_time
        )
        if (is_request_told or not has_request) and (is_answer_told or not has_answer):
            return None
        if is_request_told:
            exchange = msgspec.structs.replace(exchange, body=b"", told_body=exchange.body, is_prompt_told=True)
        if is_answer_told:
            exchange = msgspec.structs.replace(exchange, answer=b"")
        return exchange

    def _is_told_in_parts(self, exchange: Exchange, wall_time: int) -> bool:
        """Whether this is the other end of an exchange whose answer is told part by part: each such has one."""
        if not exchange.is_prompt_told:
            return False
        digest = _digest(f"{exchange.method}\0{exchange.target}".encode(), exchange.told_body)
        sides = self._parts.get(digest)
        if sides is None:
            return bool(exchange.memory.is_echo)
        sides.last = wall_time
        if exchange.memory.is_echo is None:
            here, there = exchange.is_client, not exchange.is_client
            exchange.memory.is_echo = sides.echoes[here] < sides.parts[there]
            sides.echoes[here] += exchange.memory.is_echo
            sides.parts[here] += exchange.is_part and not exchange.memory.is_echo
        return exchange.memory.is_echo

    def _is_told(self, head: bytes, content: bytes, *, is_client: bool, wall_time: int) -> bool:
        """Count a part for its side; whether the other side has told as many."""
        digest = _digest(head, content)
        sides = self._parts.get(digest)
        if sides is None or wall_time - sides.last > _BOTH_ENDS_NANOSECONDS:
            sides = _Sides()
            self._parts.put(digest, sides)
        sides.last = wall_time
        sides.told[is_client] += 1
        return sides.told[is_client] <= sides.told[not is_client]


def _digest(head: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16, key=hashlib.blake2b(head, digest_size=16).digest()).digest()


def _plain_http(exchange: Exchange, known: Known) -> HttpActivity:
    """An exchange that is no call of a model: what was asked of whom, without bodies and credentials."""
    host, port = host_and_port(exchange.host)
    target = without_credential(exchange.target)
    server = Endpoint(names=(host,) if host else (), port=port)
    return HttpActivity(
        method=exchange.method,
        url=Sensitive(f"https://{exchange.host}{target}"),
        host=host,
        path=Sensitive(target.partition("?")[0]),
        protocol=exchange.protocol,
        status_code=exchange.status,
        direction="egress" if exchange.is_client else "ingress",
        destination=server,
        process=known.process,
    )

"""agent.sources.exchanges.websocket, .conversation: WebSockets against wsproto as the peer that talks."""

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from agent.sources.exchanges import Conversation, Limits, Trouble
from agent.sources.exchanges.websocket import SocketReader

ASK = (
    b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: api.openai.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
)
SAY = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n"
)


def peers(agreed: str = "") -> tuple[Connection, Connection]:
    """A client and a server that agreed on the extension."""
    client, server = [], []
    if agreed:
        client, server = [PerMessageDeflate()], [PerMessageDeflate()]
        client[0].finalize(agreed)
        server[0].accept(agreed)
    return Connection(ConnectionType.CLIENT, client), Connection(ConnectionType.SERVER, server)


def begun(agreed: str = "", limits: Limits | None = None) -> Conversation:
    conversation = Conversation(limits)
    conversation.feed("sent", ASK)
    extension = b"Sec-WebSocket-Extensions: " + agreed.encode() + b"\r\n" if agreed else b""
    (exchange,) = conversation.feed("received", SAY + extension + b"\r\n")
    assert exchange.status == 101
    return conversation


def turns(told: list[object]) -> list[tuple[bool, bytes]]:
    return [(turn.is_from_client, turn.payload) for one in told for turn in one.turns]


def test_messages_of_both_sides_are_turns_of_one_exchange():
    conversation, (client, server) = begun(), peers()
    conversation.feed("sent", client.send(TextMessage("question")))
    conversation.feed("received", server.send(TextMessage("answer")) + server.send(BytesMessage(b"\x00\xff")))
    (exchange,) = conversation.end()
    assert (exchange.protocol, exchange.host, exchange.target) == (
        "websocket",
        "api.openai.com",
        "/v1/realtime?model=m",
    )
    assert turns([exchange]) == [(True, b"question"), (False, b"answer"), (False, b"\x00\xff")]
    assert conversation.protocol == "opaque"


def test_a_server_process_sees_the_same():
    conversation, (client, server) = Conversation(), peers()
    conversation.feed("received", ASK)
    conversation.feed("sent", SAY + b"\r\n" + server.send(TextMessage("hello")))
    conversation.feed("received", client.send(TextMessage("question")))
    assert turns(conversation.end()) == [(False, b"hello"), (True, b"question")]


def test_turns_so_far_are_handed_on_once():
    conversation, (client, server) = begun(), peers()
    conversation.feed("sent", client.send(TextMessage("question")))
    assert turns(conversation.early()) == [(True, b"question")]
    assert conversation.early() == []
    conversation.feed("received", server.send(TextMessage("answer")))
    assert turns(conversation.end()) == [(False, b"answer")]


@pytest.mark.parametrize(
    "agreed",
    [
        "permessage-deflate",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
    ],
)
def test_messages_are_inflated(agreed):
    conversation, (client, server) = begun(agreed), peers(agreed)
    for number in range(5):
        conversation.feed("sent", client.send(TextMessage(f"the same question again {number}" * 40)))
        conversation.feed("received", server.send(TextMessage(f"the same answer again {number}" * 40)))
    told = turns(conversation.end())
    assert told[0::2] == [(True, f"the same question again {number}".encode() * 40) for number in range(5)]
    assert told[1::2] == [(False, f"the same answer again {number}".encode() * 40) for number in range(5)]


@pytest.mark.parametrize("agreed", ["", "permessage-deflate"])
def test_fragments_are_one_turn(agreed):
    conversation, (client, _) = begun(agreed), peers(agreed)
    pieces = [TextMessage("My SSN is 5", message_finished=False), TextMessage("36-22-", message_finished=False)]
    sent = b"".join(client.send(one) for one in [*pieces, TextMessage("8714")])
    for at in range(len(sent)):
        conversation.feed("sent", sent[at : at + 1])
    assert turns(conversation.end()) == [(True, b"My SSN is 536-22-8714")]


@pytest.mark.parametrize("agreed", ["", "permessage-deflate"])
def test_a_ping_between_fragments_changes_nothing(agreed):
    conversation, (client, _) = begun(agreed), peers(agreed)
    first = client.send(TextMessage("My SSN is 5", message_finished=False))
    conversation.feed("sent", first + client.send(Ping(b"?")) + client.send(TextMessage("36-22-8714")))
    assert turns(conversation.end()) == [(True, b"My SSN is 536-22-8714")]


@pytest.mark.parametrize(
    "agreed",
    [
        "permessage-deflate; server_max_window_bits=abc",
        'permessage-deflate; client_max_window_bits="10"',
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; client_max_window_bits=99",
        "permessage-deflate; client_max_window_bits",
    ],
)
def test_an_odd_agreement_breaks_nothing(agreed):
    conversation, (client, _) = begun(agreed), peers("permessage-deflate")
    conversation.feed("sent", client.send(TextMessage("question")))
    assert turns(conversation.end()) in ([], [(True, b"question")])


def test_a_letter_may_be_cut_by_fragments():
    conversation = begun()
    whole = "\u00e4\U0001f600".encode()
    frames = b"\x01\x01" + whole[:1] + b"\x00\x03" + whole[1:4] + b"\x80\x02" + whole[4:]
    conversation.feed("received", frames)
    assert turns(conversation.end()) == [(False, whole)]


def test_a_message_over_the_limit_is_cut_and_counted():
    conversation, (client, _) = begun(limits=Limits(body=100)), peers()
    conversation.feed("sent", client.send(TextMessage("x" * 130)))
    (exchange,) = conversation.end()
    assert (turns([exchange]), exchange.missing) == ([(True, b"x" * 100)], 30)


def test_turns_over_the_limit_are_told_at_once():
    conversation, (client, _) = begun(limits=Limits(body=100)), peers()
    assert conversation.feed("sent", client.send(TextMessage("x" * 60))) == []
    assert len(turns(conversation.feed("sent", client.send(TextMessage("y" * 60))))) == 2
    assert conversation.end() == []


def test_a_message_that_grows_stops_at_the_limit():
    agreed = "permessage-deflate"
    reader, (client, _) = SocketReader(agreed, 50_000, is_from_client=True), peers(agreed)
    (turn,) = reader.feed(client.send(BytesMessage(bytes(5_000_000))))
    assert len(turn.payload) == 50_000
    assert reader.missing >= 1


def test_a_gap_ends_that_side_and_is_told():
    conversation, (client, server) = begun(), peers()
    first = client.send(TextMessage("question"))
    assert conversation.feed("sent", first + client.send(TextMessage("lost"))[:4], missing=6) == [
        Trouble("websocket_gap")
    ]
    conversation.feed("sent", client.send(TextMessage("never read")))
    conversation.feed("received", server.send(TextMessage("answer")))
    (exchange,) = conversation.end()
    assert turns([exchange]) == [(True, b"question"), (False, b"answer")]
    assert exchange.missing >= 6


def test_a_close_ends_the_turns():
    conversation, (client, _) = begun(), peers()
    conversation.feed("sent", client.send(TextMessage("question")) + client.send(CloseConnection(1000)) + b"more")
    assert turns(conversation.end()) == [(True, b"question")]


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x05hello",  # a client that does not mask
        b"\xf1\x80\0\0\0\0",  # reserved bits
        b"\x83\x80\0\0\0\0",  # an opcode nobody knows
        b"\x80\x80\0\0\0\0",  # a continuation of nothing
    ],
)
def test_a_malformed_frame_is_told(frame):
    conversation = begun()
    assert conversation.feed("sent", frame) == [Trouble("websocket_malformed")]
    assert conversation.feed("sent", frame) == []
    assert conversation.end() == []


def test_an_empty_socket_is_no_exchange():
    assert begun().end() == []


def test_a_text_that_grows_is_cut_between_its_letters():
    agreed = "permessage-deflate"
    reader, (client, _) = SocketReader(agreed, 1000, is_from_client=True), peers(agreed)
    (turn,) = reader.feed(client.send(TextMessage("\u20ac" * 5000)))
    assert turn.payload == ("\u20ac" * 5000).encode()[:1000]
    assert reader.missing == 14_000
    (turn,) = reader.feed(client.send(TextMessage("\u20ac" * 300)))
    assert turn.payload == ("\u20ac" * 300).encode()


def test_a_message_that_grows_without_end_ends_its_side():
    agreed = "permessage-deflate"
    reader, (client, _) = SocketReader(agreed, 1000, is_from_client=True), peers(agreed)
    assert reader.feed(client.send(BytesMessage(bytes(65 * 1024 * 1024)))) == [Trouble("websocket_malformed")]
    assert reader.is_lost

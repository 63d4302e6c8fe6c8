"""agent.sources.exchanges.http2, .streams: HTTP/2 against a peer made of hyperframe and hpack."""

import hpack
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from agent.sources.exchanges import Conversation, Exchange, Limits, Trouble
from agent.sources.exchanges.http2 import PREFACE

ASKED = [(":method", "POST"), (":scheme", "https"), (":path", "/v1/chat"), (":authority", "a.example")]
SETTINGS = SettingsFrame(0).serialize()


class Peer:
    """One side that talks: its own header table."""

    def __init__(self) -> None:
        self.encoder = hpack.Encoder()

    def head(self, stream: int, headers: list[tuple[str, str]], *flags: str) -> bytes:
        frame = HeadersFrame(stream, self.encoder.encode(headers), flags=["END_HEADERS", *flags])
        return frame.serialize()

    def data(self, stream: int, content: bytes, *flags: str, pad: int = 0) -> bytes:
        frame = DataFrame(stream, content, pad_length=pad, flags=[*flags, *(["PADDED"] if pad else [])])
        return frame.serialize()

    def ask(self, stream: int, body: bytes, path: str = "/v1/chat") -> bytes:
        headers = [(name, path if name == ":path" else value) for name, value in ASKED]
        return self.head(stream, headers) + self.data(stream, body, "END_STREAM")

    def say(self, stream: int, body: bytes) -> bytes:
        return self.head(stream, [(":status", "200")]) + self.data(stream, body, "END_STREAM")


def begun() -> tuple[Conversation, Peer, Peer]:
    conversation = Conversation()
    conversation.feed("sent", PREFACE + SETTINGS)
    conversation.feed("received", SETTINGS)
    return conversation, Peer(), Peer()


def test_a_stream_is_an_exchange():
    conversation, client, server = begun()
    assert conversation.feed("sent", client.ask(1, b"question")) == []
    (exchange,) = conversation.feed("received", server.say(1, b"answer"))
    assert (exchange.protocol, exchange.is_client) == ("h2", True)
    assert (exchange.method, exchange.target, exchange.host) == ("POST", "/v1/chat", "a.example")
    assert (exchange.body, exchange.status, exchange.answer) == (b"question", 200, b"answer")
    assert (exchange.is_request_whole, exchange.is_complete, exchange.missing) == (True, True, 0)
    assert exchange.headers == ()
    assert conversation.end() == []


def test_a_server_sees_the_same():
    conversation = Conversation()
    client, server = Peer(), Peer()
    conversation.feed("received", PREFACE + SETTINGS + client.ask(1, b"question"))
    (exchange,) = conversation.feed("sent", SETTINGS + server.say(1, b"answer"))
    assert (exchange.is_client, exchange.body, exchange.answer) == (False, b"question", b"answer")


def test_streams_may_be_interleaved():
    conversation, client, server = begun()
    streams = list(range(1, 101, 2))
    sent = b"".join(client.head(one, [*ASKED[:2], (":path", f"/{one}"), ASKED[3]]) for one in streams)
    sent += b"".join(client.data(one, b"first %d " % one) for one in streams)
    sent += b"".join(client.data(one, b"second %d" % one, "END_STREAM") for one in reversed(streams))
    assert conversation.feed("sent", sent) == []
    said = b"".join(server.head(one, [(":status", "200"), ("x-of", str(one))]) for one in reversed(streams))
    said += b"".join(server.data(one, b"answer ") for one in streams)
    said += b"".join(server.data(one, b"%d" % one, "END_STREAM") for one in streams)
    told = conversation.feed("received", said)
    assert [(one.target, one.body, one.answer, one.answer_header("x-of")) for one in told] == [
        (f"/{one}", b"first %d second %d" % (one, one), b"answer %d" % one, str(one)) for one in streams
    ]


def test_padding_is_no_content():
    conversation, client, server = begun()
    head = HeadersFrame(1, client.encoder.encode(ASKED), pad_length=11, flags=["END_HEADERS", "PADDED"]).serialize()
    conversation.feed("sent", head + client.data(1, b"question", "END_STREAM", pad=100))
    (exchange,) = conversation.feed("received", server.head(1, [(":status", "200")]) + server.data(1, b"", pad=3))[
        :1
    ] or conversation.feed("received", server.data(1, b"answer", "END_STREAM", pad=200))
    assert (exchange.body, exchange.answer) == (b"question", b"answer")


def test_priorities_in_a_head_are_no_headers():
    conversation, client, server = begun()
    frame = HeadersFrame(1, client.encoder.encode(ASKED), flags=["END_HEADERS", "END_STREAM", "PRIORITY"])
    frame.depends_on, frame.stream_weight, frame.exclusive = 0, 200, True
    conversation.feed("sent", frame.serialize() + PriorityFrame(1, depends_on=0, stream_weight=3).serialize())
    assert [one.target for one in conversation.feed("received", server.say(1, b""))] == ["/v1/chat"]


def test_a_head_may_go_on_in_continuations():
    conversation, client, server = begun()
    block = client.encoder.encode([*ASKED, ("x-long", "y" * 3000)])
    pieces = [block[at : at + 100] for at in range(0, len(block), 100)]
    sent = HeadersFrame(1, pieces[0], flags=["END_STREAM"]).serialize()
    sent += b"".join(ContinuationFrame(1, piece).serialize() for piece in pieces[1:-1])
    sent += ContinuationFrame(1, pieces[-1], flags=["END_HEADERS"]).serialize()
    conversation.feed("sent", sent)
    (exchange,) = conversation.feed("received", server.say(1, b"answer"))
    assert exchange.header("x-long") == "y" * 3000
    assert exchange.is_request_whole


def test_headers_of_the_table_are_known_again():
    conversation, client, server = begun()
    for stream in range(1, 200, 2):
        conversation.feed("sent", client.head(stream, [*ASKED, ("authorization", "Bearer 1")], "END_STREAM"))
        (exchange,) = conversation.feed("received", server.say(stream, b""))
        assert exchange.header("authorization") == "Bearer 1"


def test_old_entries_leave_the_table():
    conversation, client, server = begun()
    for stream in range(1, 200, 2):
        headers = [*ASKED, (f"x-{stream}", "v" * 200)]
        conversation.feed("sent", client.head(stream, headers, "END_STREAM"))
        (exchange,) = conversation.feed("received", server.say(stream, b""))
        assert exchange.header(f"x-{stream}") == "v" * 200


@pytest.mark.parametrize("size", [0, 128, 65536])
def test_a_table_may_change_its_size(size):
    conversation, client, server = begun()
    conversation.feed("sent", client.ask(1, b"before"))
    conversation.feed("received", server.say(1, b"") + SettingsFrame(0, settings={1: size}).serialize())
    client.encoder.header_table_size = size
    conversation.feed("sent", SettingsFrame(0, flags=["ACK"]).serialize())
    for stream in range(3, 103, 2):
        conversation.feed("sent", client.head(stream, [*ASKED, (f"x-{stream % 7}", "v" * 300)], "END_STREAM"))
        (exchange,) = conversation.feed("received", server.say(stream, b""))
        assert exchange.header(f"x-{stream % 7}") == "v" * 300


def test_a_server_may_speak_first():
    conversation = Conversation()
    client, server = Peer(), Peer()
    assert conversation.feed("received", SETTINGS + WindowUpdateFrame(0, window_increment=9).serialize()) == []
    assert conversation.feed("sent", PREFACE + SETTINGS + client.ask(1, b"question")) == []
    assert [one.answer for one in conversation.feed("received", server.say(1, b"answer"))] == [b"answer"]


def test_a_server_that_speaks_first_may_be_cut_anywhere():
    conversation = Conversation()
    client, server = Peer(), Peer()
    told = [one for at in range(len(SETTINGS)) for one in conversation.feed("received", SETTINGS[at : at + 1])]
    assert told == []
    conversation.feed("sent", PREFACE + SETTINGS + client.ask(1, b"question"))
    assert [one.answer for one in conversation.feed("received", server.say(1, b"answer"))] == [b"answer"]


def test_one_byte_at_a_time_gives_the_same():
    conversation, client, server = Conversation(), Peer(), Peer()
    sent = PREFACE + SETTINGS + client.ask(1, b"question") + client.ask(3, b"another")
    assert [one for at in range(len(sent)) for one in conversation.feed("sent", sent[at : at + 1])] == []
    said = SETTINGS + server.say(3, b"second") + server.say(1, b"first")
    told = [one for at in range(len(said)) for one in conversation.feed("received", said[at : at + 1])]
    assert [(one.body, one.answer) for one in told] == [(b"another", b"second"), (b"question", b"first")]


def test_trailers_are_headers_of_the_end():
    conversation, client, server = begun()
    conversation.feed("sent", client.head(1, ASKED) + client.head(1, [("x-sum", "1")], "END_STREAM"))
    said = server.head(1, [(":status", "200"), ("content-type", "application/grpc")]) + server.data(1, b"answer")
    (exchange,) = conversation.feed("received", said + server.head(1, [("grpc-status", "0")], "END_STREAM"))
    assert (exchange.answer, exchange.answer_header("grpc-status")) == (b"answer", "0")
    assert exchange.answer_header("content-type") == "application/grpc"
    assert (exchange.status, exchange.is_request_whole) == (200, True)


def test_an_interim_answer_is_no_answer():
    conversation, client, server = begun()
    conversation.feed("sent", client.ask(1, b"question"))
    assert conversation.feed("received", server.head(1, [(":status", "103"), ("link", "x")])) == []
    (exchange,) = conversation.feed("received", server.say(1, b"answer"))
    assert (exchange.status, exchange.answer, exchange.answer_header("link")) == (200, b"answer", "")


@pytest.mark.parametrize("way", ["sent", "received"])
def test_a_reset_ends_a_stream_early(way):
    conversation, client, server = begun()
    conversation.feed("sent", client.ask(1, b"question") + client.ask(3, b"other"))
    conversation.feed("received", server.head(1, [(":status", "200")]) + server.data(1, b"ans"))
    (exchange,) = conversation.feed(way, RstStreamFrame(1, error_code=8).serialize())
    assert (exchange.body, exchange.answer, exchange.is_complete) == (b"question", b"ans", False)
    assert [one.body for one in conversation.feed("received", server.say(3, b""))] == [b"other"]


def test_a_pushed_answer_is_nobodys_and_its_headers_are_remembered():
    conversation, client, server = begun()
    conversation.feed("sent", client.ask(1, b"question"))
    block = server.encoder.encode([*ASKED[:2], (":path", "/pushed"), ASKED[3], ("x-new", "remembered")])
    push = PushPromiseFrame(1, promised_stream_id=2, data=block, flags=["END_HEADERS"]).serialize()
    assert conversation.feed("received", push + server.say(2, b"pushed")) == []
    said = server.head(1, [(":status", "200"), ("x-new", "remembered")]) + server.data(1, b"answer", "END_STREAM")
    (exchange,) = conversation.feed("received", said)
    assert (exchange.answer, exchange.answer_header("x-new")) == (b"answer", "remembered")


def test_frames_that_say_nothing_change_nothing():
    conversation, client, server = begun()
    unknown = b"\0\0\x03\xbe\0\0\0\0\x01abc"
    noise = PingFrame(0, b"12345678").serialize() + WindowUpdateFrame(0, window_increment=5).serialize() + unknown
    conversation.feed("sent", noise + client.ask(1, b"question") + noise)
    told = conversation.feed("received", noise + GoAwayFrame(0).serialize() + server.say(1, b"answer") + noise)
    assert [one.answer for one in told] == [b"answer"]


def test_a_body_over_the_limit_is_cut_and_counted():
    conversation, client, server = Conversation(Limits(body=10)), Peer(), Peer()
    conversation.feed("sent", PREFACE + SETTINGS + client.ask(1, b"question"))
    (exchange,) = conversation.feed("received", SETTINGS + server.say(1, b"0123456789abc"))
    assert (exchange.answer, exchange.missing) == (b"0123456789", 3)


def test_streams_that_are_open_are_limited():
    conversation, client = Conversation(Limits(streams=2)), Peer()
    told = conversation.feed("sent", PREFACE + SETTINGS + b"".join(client.ask(one, b"%d" % one) for one in (1, 3, 5)))
    assert [one.name for one in told if isinstance(one, Trouble)] == ["http2_too_many_streams"]
    assert [one.body for one in told if isinstance(one, Exchange)] == [b"1"]


def test_a_request_that_waits_is_handed_on_once():
    conversation, client, server = begun()
    conversation.feed("sent", client.ask(1, b"question"))
    assert conversation.early() == []
    assert [one.body for one in conversation.early()] == [b"question"]
    (exchange,) = conversation.feed("received", server.say(1, b"answer"))
    assert (exchange.body, exchange.answer, exchange.is_prompt_told) == (b"", b"answer", True)

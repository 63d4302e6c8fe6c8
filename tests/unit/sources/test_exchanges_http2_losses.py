"""agent.sources.exchanges.http2, .streams, .conversation: HTTP/2 that is broken, incomplete or met in its middle."""

import hpack
import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, SettingsFrame

from agent.sources.exchanges import Conversation, Exchange, Limits, Trouble
from agent.sources.exchanges.http2 import PREFACE, FrameReader, is_frame_start

ASKED = [(":method", "POST"), (":scheme", "https"), (":path", "/v1/chat"), (":authority", "a.example")]
SETTINGS = SettingsFrame(0).serialize()


def asked(stream: int = 1, encoder: hpack.Encoder | None = None) -> bytes:
    block = (encoder or hpack.Encoder()).encode(ASKED)
    return HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"]).serialize()


def begun() -> Conversation:
    conversation = Conversation()
    conversation.feed("sent", PREFACE + SETTINGS + asked())
    conversation.feed("received", SETTINGS + HeadersFrame(1, b"\x88", flags=["END_HEADERS"]).serialize())
    return conversation


def exchanges(told: list[Exchange | Trouble]) -> list[Exchange]:
    return [one for one in told if isinstance(one, Exchange)]


def names(told: list[Exchange | Trouble]) -> list[str]:
    return [one.name for one in told if isinstance(one, Trouble)]


@pytest.mark.parametrize(
    "first",
    [
        DataFrame(7, b"data: {}\n\n" * 20).serialize(),
        HeadersFrame(9, b"\x88\x40\x01a\x01b", flags=["END_HEADERS"]).serialize(),
        DataFrame(7, b"data").serialize()[:9],
        b"\0\0\4\x08\0\0\0\0\7\0\0\1\0",
    ],
)
@pytest.mark.parametrize("way", ["sent", "received"])
def test_a_connection_met_in_its_middle_is_said_so_once(first, way):
    conversation = Conversation()
    assert names(conversation.feed(way, first)) == ["http2_joined_midway"]
    assert conversation.feed(way, first) == []
    assert conversation.is_opaque


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0\4\0\0\0\0", b"\xff\xff\xff\0\0\0\0\0\1", b"hello world", b"\0\0\0\x63" * 3]
)
def test_what_begins_no_frame(data):
    assert not is_frame_start(data)


def test_a_gap_inside_data_costs_only_its_bytes():
    conversation = begun()
    frame = DataFrame(1, b"0123456789", flags=["END_STREAM"]).serialize()
    assert conversation.feed("received", frame[:-6], missing=4) == []
    (exchange,) = conversation.feed("received", frame[-2:])
    assert (exchange.answer[:4], exchange.answer[-2:], exchange.missing) == (b"0123", b"89", 4)
    assert exchange.is_complete


def test_a_gap_up_to_the_end_of_data_costs_only_its_bytes():
    conversation = begun()
    frame = DataFrame(1, b"0123456789", flags=["END_STREAM"]).serialize()
    (exchange,) = conversation.feed("received", frame[:-6], missing=6)
    assert (exchange.answer[:4], exchange.missing) == (b"0123", 6)


@pytest.mark.parametrize("missing", [7, 1000])
def test_a_gap_beyond_data_costs_the_connection(missing):
    conversation = begun()
    told = conversation.feed("received", DataFrame(1, b"0123456789").serialize()[:-6], missing=missing)
    assert names(told) == ["http2_gap"]
    assert [(one.target, one.is_complete) for one in exchanges(told)] == [("/v1/chat", False)]
    assert conversation.is_opaque


def test_a_gap_inside_a_head_costs_the_connection():
    conversation = begun()
    told = conversation.feed("sent", asked(3)[:-4], missing=4)
    assert names(told) == ["http2_gap"]


def test_nothing_comes_of_a_connection_that_was_given_up():
    conversation = begun()
    conversation.feed("received", b"", missing=100)
    assert conversation.is_opaque
    encoder = hpack.Encoder()
    encoder.encode(ASKED)
    assert conversation.feed("sent", asked(3, encoder)) == []
    assert conversation.feed("received", DataFrame(1, b"more").serialize()) == []
    assert conversation.early() + conversation.early() == []
    assert conversation.end() == []


@pytest.mark.parametrize(
    "broken",
    [
        HeadersFrame(3, b"\xff\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]).serialize(),
        HeadersFrame(3, b"\xfe", flags=["END_HEADERS"]).serialize(),  # an entry nobody made
        HeadersFrame(3, b"\x3f\xff\xff\xff\x0f", flags=["END_HEADERS"]).serialize(),  # a table larger than agreed
        ContinuationFrame(3, b"\x88", flags=["END_HEADERS"]).serialize(),
        b"\0\0\1\4\0\0\0\0\0x",  # SETTINGS of one byte
        b"\0\0\2\0\x08\0\0\0\1\xffx",  # more padding than frame
        b"\xff\xff\xff\0\0\0\0\0\1",  # 16 MiB
        b"\0\0\0\4\0\0\0\0\7",  # SETTINGS of a stream
        b"\0\0\1\3\0\0\0\0\1x",  # RST_STREAM of one byte
    ],
)
def test_what_is_malformed_is_said_so_and_open_exchanges_are_told(broken):
    conversation = begun()
    told = conversation.feed("sent", broken)
    assert names(told) == ["http2_malformed"]
    assert [(one.target, one.is_complete) for one in exchanges(told)] == [("/v1/chat", False)]
    assert conversation.is_opaque


def test_continuations_without_end_are_given_up():
    conversation = Conversation(Limits(head=2000))
    told = conversation.feed("sent", PREFACE + SETTINGS + HeadersFrame(1, b"\x88").serialize())
    for _ in range(30):
        told += conversation.feed("sent", ContinuationFrame(1, b"\x88" * 100).serialize())
    assert names(told) == ["http2_malformed"]


def test_headers_that_grow_over_the_limit_are_given_up():
    encoder = hpack.Encoder()
    first = encoder.encode([*ASKED, ("x-big", "v" * 1000)])
    sent = HeadersFrame(1, first, flags=["END_HEADERS"]).serialize()
    sent += HeadersFrame(3, encoder.encode([("x-big", "v" * 1000)]) * 200, flags=["END_HEADERS"]).serialize()
    told = Conversation(Limits(head=8000)).feed("sent", PREFACE + SETTINGS + sent)
    assert names(told) == ["http2_malformed"]


def test_streams_that_were_never_opened_are_no_exchange():
    conversation = begun()
    assert conversation.feed("received", DataFrame(99, b"who?", flags=["END_STREAM"]).serialize()) == []


def test_a_status_that_is_no_number_is_no_status():
    conversation = begun()
    block = hpack.Encoder().encode([(":status", "abc")])
    (exchange,) = conversation.feed("received", HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
    assert exchange.status == 200


def test_a_reader_without_preface_reads_at_once():
    reader = FrameReader(1024)
    reader.without_preface()
    reader.allow_table(10**9)
    assert reader.feed(SettingsFrame(0, settings={1: 0}).serialize())[0].size == 0
    assert reader.room_in_data() == 0

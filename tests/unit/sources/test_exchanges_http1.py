"""agent.sources.exchanges.http1, .pairing, .conversation, .exchange: what HTTP/1.1 gives, however its bytes are cut."""

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.exchanges import Conversation, Exchange, Limits, Trouble
from agent.sources.exchanges.exchange import Body

ASK = b'POST /v1/chat HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\n{"q":"1"}'
SAY = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a":"2"}'
GET = b"GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"


def answered(head: bytes, body: bytes = b"", ask: bytes = GET) -> Exchange:
    conversation = Conversation()
    conversation.feed("sent", ask)
    told = conversation.feed("received", head + b"\r\n\r\n" + body) or conversation.end()
    (exchange,) = told
    assert isinstance(exchange, Exchange)
    return exchange


def facts(told: list[Exchange | Trouble]) -> list[object]:
    return [
        one
        if isinstance(one, Trouble)
        else (one.method, one.target, one.host, one.body, one.status, one.answer, one.is_complete, one.missing)
        for one in told
    ]


def test_a_request_and_its_answer_are_one_exchange():
    conversation = Conversation()
    assert conversation.feed("sent", ASK) == []
    (exchange,) = conversation.feed("received", SAY)
    assert (exchange.protocol, exchange.is_client) == ("http/1.1", True)
    assert (exchange.method, exchange.target, exchange.host) == ("POST", "/v1/chat", "a.example")
    assert (exchange.body, exchange.status, exchange.answer) == (b'{"q":"1"}', 200, b'{"a":"2"}')
    assert exchange.answer_header("content-type") == "application/json"
    assert (exchange.is_request_whole, exchange.is_complete, exchange.missing) == (True, True, 0)
    assert conversation.end() == []


def test_a_process_that_receives_the_request_is_the_server():
    conversation = Conversation()
    conversation.feed("received", ASK)
    (exchange,) = conversation.feed("sent", SAY)
    assert not exchange.is_client
    assert exchange.body == b'{"q":"1"}'


def test_a_connection_is_used_again():
    conversation = Conversation()
    conversation.feed("sent", GET)
    (first,) = conversation.feed("received", SAY)
    conversation.feed("sent", GET.replace(b" /1 ", b" /2 "))
    (second,) = conversation.feed("received", CHUNKED)
    assert (first.target, first.answer) == ("/1", b'{"a":"2"}')
    assert (second.target, second.answer) == ("/2", b"hello world")


def test_pipelined_requests_are_answered_in_their_order():
    conversation = Conversation()
    conversation.feed("sent", GET + ASK + GET.replace(b" /1 ", b" /3 "))
    told = conversation.feed("received", CHUNKED + SAY + b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    assert [(one.target, one.status, one.answer) for one in told] == [
        ("/1", 200, b"hello world"),
        ("/v1/chat", 200, b'{"a":"2"}'),
        ("/3", 404, b""),
    ]


def test_a_chunked_request_is_put_together():
    ask = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert answered(b"HTTP/1.1 200 OK\r\nContent-Length: 0", ask=ask).body == b"abcde"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(b"hello world")),
        (b"x-gzip", gzip.compress(b"hello ") + gzip.compress(b"world")),
        (b"deflate", zlib.compress(b"hello world")),
        (b"deflate", zlib.compress(b"hello world", wbits=-15)),
        (b"br", brotli.compress(b"hello world")),
        (b"zstd", zstandard.compress(b"hello world")),
        (b"GZIP", gzip.compress(b"hello world")),
        (b"gzip, br", brotli.compress(gzip.compress(b"hello world"))),
        (b"identity", b"hello world"),
    ],
)
def test_content_encodings_of_answers_are_undone(encoding, body):
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d" % (encoding, len(body))
    exchange = answered(head, body)
    assert (exchange.answer, exchange.undecoded, exchange.missing) == (b"hello world", "", 0)


def test_the_content_encoding_of_a_request_is_undone():
    body = zstandard.compress(b"hello world")
    ask = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert answered(b"HTTP/1.1 202 OK\r\nContent-Length: 0", ask=ask).body == b"hello world"


def test_a_gzipped_stream_that_was_flushed_and_closed_early_is_read():
    deflater = zlib.compressobj(wbits=31)
    body = deflater.compress(b"data: hello\n\n") + deflater.flush(zlib.Z_SYNC_FLUSH)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked"
    exchange = answered(head, b"%x\r\n%s\r\n" % (len(body), body))
    assert exchange.answer == b"data: hello\n\n"
    assert not exchange.is_complete


def test_an_answer_to_head_has_no_body():
    conversation = Conversation()
    conversation.feed("sent", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    told = conversation.feed("received", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + SAY)
    assert [(one.method, one.answer) for one in told] == [("HEAD", b""), ("GET", b'{"a":"2"}')]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body_end_with_their_head(status):
    conversation = Conversation()
    conversation.feed("sent", GET + GET)
    told = conversation.feed("received", b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n" + SAY)
    assert [one.answer for one in told] == [b"", b'{"a":"2"}']


def test_an_interim_answer_is_no_answer():
    ask = ASK.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    head, _, body = ask.partition(b"\r\n\r\n")
    conversation = Conversation()
    conversation.feed("sent", head + b"\r\n\r\n")
    assert conversation.feed("received", b"HTTP/1.1 100 Continue\r\n\r\n") == []
    conversation.feed("sent", body)
    conversation.feed("received", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    (exchange,) = conversation.feed("received", SAY)
    assert (exchange.status, exchange.body, exchange.answer) == (200, b'{"q":"1"}', b'{"a":"2"}')


def test_a_switch_to_another_protocol_is_told_once():
    conversation = Conversation()
    conversation.feed("sent", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    exchange, trouble = conversation.feed(
        "received", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    assert (exchange.status, trouble) == (101, Trouble("upgraded_to_other"))
    assert conversation.is_opaque
    assert conversation.feed("received", b"\0\0\0\4\0\0\0\0\0") == []
    assert conversation.feed("sent", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == []
    assert conversation.end() == []


def test_an_upgrade_that_is_refused_goes_on_as_http():
    conversation = Conversation()
    conversation.feed("sent", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert [one.status for one in conversation.feed("received", SAY)] == [200]
    conversation.feed("sent", ASK)
    assert [one.body for one in conversation.feed("received", SAY)] == [b'{"q":"1"}']


def test_what_a_connect_tunnel_holds_is_not_read():
    conversation = Conversation()
    conversation.feed("sent", b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
    conversation.feed("received", b"HTTP/1.1 200 Connection established\r\n\r\n")
    assert conversation.is_opaque
    assert conversation.feed("sent", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") == []
    assert [one.method for one in conversation.end()] == ["CONNECT"]


def test_an_answer_without_a_length_ends_with_the_connection():
    conversation = Conversation()
    conversation.feed("sent", GET)
    assert conversation.feed("received", b"HTTP/1.0 200 OK\r\n\r\nhello ") == []
    assert conversation.feed("received", b"world") == []
    (exchange,) = conversation.end()
    assert (exchange.answer, exchange.is_complete) == (b"hello world", True)


def test_a_request_to_a_proxy_names_the_host_in_its_target():
    ask = b"GET http://b.example:8080/x?y=1 HTTP/1.1\r\nHost: proxy\r\n\r\n"
    exchange = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 0", ask=ask)
    assert (exchange.host, exchange.target) == ("b.example:8080", "/x?y=1")


def test_an_answer_that_comes_before_the_request_is_whole_is_told():
    conversation = Conversation()
    conversation.feed("sent", ASK[:-4])
    (exchange,) = conversation.feed("received", SAY)
    assert (exchange.is_request_whole, exchange.answer) == (False, b'{"a":"2"}')


def test_empty_lines_between_messages_are_skipped():
    conversation = Conversation()
    conversation.feed("sent", GET + b"\r\n")
    conversation.feed("received", SAY)
    conversation.feed("sent", ASK)
    assert [one.body for one in conversation.feed("received", SAY)] == [b'{"q":"1"}']


def test_a_request_that_waits_is_handed_on_at_the_second_look_and_once():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    assert conversation.early() == []
    (early,) = conversation.early()
    assert (early.body, early.is_complete, early.is_request_whole) == (b'{"q":"1"}', False, True)
    assert conversation.early() == []
    (exchange,) = conversation.feed("received", SAY)
    assert (exchange.body, exchange.answer, exchange.is_prompt_told) == (b"", b'{"a":"2"}', True)


def test_a_request_that_is_not_whole_is_not_handed_on():
    conversation = Conversation()
    conversation.feed("sent", ASK[:-1])
    assert conversation.early() + conversation.early() == []


def test_a_request_without_an_answer_is_told_at_the_end():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    (exchange,) = conversation.end()
    assert (exchange.body, exchange.status, exchange.is_complete) == (b'{"q":"1"}', 0, False)


STREAM = [("sent", ASK + GET), ("received", b"HTTP/1.1 100 Continue\r\n\r\n" + SAY + CHUNKED), ("sent", ASK)]


def fed(cuts: list[int], limits: Limits | None = None) -> list[object]:
    conversation = Conversation(limits)
    told: list[Exchange | Trouble] = []
    for way, data in STREAM:
        edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
        for start, end in zip(edges, edges[1:], strict=False):
            told += conversation.feed(way, data[start:end])
    return facts([*told, *conversation.end()])


def test_one_byte_at_a_time_gives_the_same_exchanges():
    whole = fed([])
    assert len(whole) == 3
    assert fed(list(range(1, 400))) == whole


@pytest.mark.parametrize("cut", range(1, max(len(data) for _, data in STREAM)))
def test_a_cut_anywhere_changes_nothing(cut):
    assert fed([cut]) == fed([])


@given(st.lists(st.integers(1, 400), max_size=12))
def test_cuts_change_nothing(cuts):
    assert fed(cuts) == fed([])


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 60))
def test_a_body_keeps_the_first_bytes_and_counts_the_others(pieces, limit):
    body = Body(limit)
    for piece in pieces:
        body.add(piece)
    whole = b"".join(pieces)
    assert body.value() == whole[:limit]
    assert body.missing == max(0, len(whole) - limit)

"""agent.sources.exchanges and agent.sources.dialects: no input whatever raises."""

import gzip

import hpack
import pytest
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sources.dialects import operations_of
from agent.sources.dialects.bodies import aws_events, content_of
from agent.sources.dialects.walk import joined, walk
from agent.sources.exchanges import Conversation, Exchange, Limits
from agent.sources.exchanges.encodings import decoded
from agent.sources.exchanges.exchange import Turn
from agent.sources.exchanges.grpc import messages_of, texts_of
from agent.sources.exchanges.http2 import PREFACE
from agent.sources.exchanges.sse import events_of

ASK = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
HTTP1 = st.sampled_from(
    [
        ASK + b"Content-Length: 5\r\n\r\nhello",
        ASK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //[ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=x\r\n\r\n",
        b"HTTP/1.0 204 No\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"hello",
        b"\x81\x05hello",
        b"\xc1\x85\0\0\0\0hello",
    ]
)
HEAD = HeadersFrame(1, hpack.Encoder().encode([(":method", "POST"), (":path", "/v1/messages")]), flags=["END_HEADERS"])
HTTP2 = st.sampled_from(
    [
        PREFACE,
        SettingsFrame(0, settings={1: 100}).serialize(),
        HEAD.serialize(),
        HeadersFrame(1, b"\x88", flags=["END_HEADERS"]).serialize(),
        DataFrame(1, b"hello").serialize(),
        DataFrame(1, b"hello", flags=["END_STREAM"]).serialize(),
        DataFrame(1, b"hello" * 30).serialize()[:40],
    ]
)
WAYS = st.sampled_from(["sent", "received"])
GAPS = st.sampled_from([0, 0, 0, 0, 1, 5, 100, 70_000])


def play(steps: list[tuple[str, bytes, int]]) -> list[Exchange]:
    conversation = Conversation(Limits(head=2000, body=2000, streams=3, pipelined=3))
    told = []
    for way, data, missing in steps:
        told += conversation.feed(way, data, missing)
        told += conversation.early()
    return [one for one in told + conversation.end() if isinstance(one, Exchange)]


@given(st.lists(st.tuples(WAYS, st.binary(max_size=80), GAPS), max_size=8))
def test_bytes_on_a_connection_raise_nothing(steps):
    play(steps)


@settings(max_examples=400)
@given(st.lists(st.tuples(WAYS, HTTP1 | st.binary(max_size=12), GAPS), max_size=12))
def test_http1_in_any_order_raises_nothing(steps):
    for exchange in play([("sent", ASK + b"\r\n", 0), *steps]):
        operations_of(exchange)


@settings(max_examples=400)
@given(st.lists(st.tuples(WAYS, HTTP2 | st.binary(max_size=12), GAPS), max_size=12))
def test_http2_in_any_order_raises_nothing(steps):
    for exchange in play([("sent", PREFACE, 0), *steps]):
        operations_of(exchange)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 8), st.integers(1, 255), st.integers(0, 8))
def test_a_frame_of_any_type_raises_nothing(content, kind, flags, stream):
    frame = len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content
    play([("sent", PREFACE + HEAD.serialize() + frame, 0), ("received", frame, 0)])


KINDS = st.sampled_from(
    [
        "",
        "application/json",
        "text/event-stream",
        "application/x-ndjson",
        "application/vnd.amazon.eventstream",
        "application/grpc",
        "application/grpc+proto",
        "application/x-protobuf",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "multipart/mixed; boundary*=utf-8''x",
        'multipart/form-data; boundary="',
        "text/plain",
        "image/png",
    ]
)
PIECES = st.sampled_from(
    [
        b"--x\r\n",
        b"--x--\r\n",
        b"\r\n\r\n",
        b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n",
        b"Content-Type: ;;=\r\n",
        b"Content-Type: text/plain; charset*=\r\n",
        b"Content-Encoding: zstd\r\n\r\n",
        b"Content-Encoding: =?utf-8?q?\r\n\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\nA",
        b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 666 x\r\n",
        b"Content-Disposition: form-data; name*=\r\n",
        b'{"messages":[{"role":"user","content":"x"}]}',
        b'{"role":',
        b'"\\ud83d"',
        b'"\\u00',
        b"data: ",
        b"\n\n",
        b"[1,2,",
        b"\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\0\0\0\0\x05hello",
        b"&a=%ff",
        b"\xff\xfe",
        b"NaN",
        b"1e999",
    ]
)
BODIES = st.lists(PIECES | st.binary(max_size=30), max_size=10).map(b"".join)


@settings(max_examples=600)
@given(BODIES, KINDS, st.sampled_from(["", "gzip", "zstd", "nobody"]))
def test_a_body_of_any_type_raises_nothing(body, kind, encoding):
    content_of(body, kind, encoding)


@given(st.binary(max_size=300), st.text(max_size=30))
def test_any_content_type_raises_nothing(body, kind):
    content_of(body, kind)
    content_of(body, "multipart/" + kind)


@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing(data):
    aws_events(data)
    texts_of(data)
    messages_of(data, "gzip", 1000)
    events_of(data.decode("latin-1"))
    for name in ("gzip", "deflate", "br", "zstd", "gzip, br, zstd"):
        assert len(decoded(data, name, 100).body) <= 100
    assert len(decoded(gzip.compress(data), "gzip", 100).body) <= 100


KEYS = st.sampled_from(
    ["role", "type", "index", "content", "messages", "model", "usage", "prompt_tokens", "id", "p", "x"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(['{"a":"b"}', "[1]"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.lists(JSON, max_size=4))
def test_any_json_raises_nothing(value, events):
    walk(value, "user")
    joined(events, "assistant")


TARGETS = st.sampled_from(
    ["/v1/chat/completions", "/v1/messages", "//[", "http://[", "/mcp", "/v1/traces", "/v1/realtime", "/generate", ""]
)
HOSTS = st.sampled_from(["api.openai.com", "[", "]:1", "a:99999999", "::1", "api.cohere.com:443", "a:\u0661", ""])


@settings(max_examples=400)
@given(st.data())
def test_any_exchange_raises_nothing(data):
    turns = data.draw(st.lists(st.builds(Turn, st.booleans(), BODIES), max_size=3))
    exchange = Exchange(
        protocol="h2",
        is_client=True,
        method=data.draw(st.sampled_from(["GET", "POST", ""])),
        target=data.draw(TARGETS | st.text(max_size=20)),
        host=data.draw(HOSTS | st.text(max_size=10)),
        headers=(("content-type", data.draw(KINDS)), ("authorization", data.draw(st.text(max_size=5)))),
        body=data.draw(BODIES),
        status=data.draw(st.integers(0, 999)),
        answer_headers=(("content-type", data.draw(KINDS)),),
        answer=data.draw(BODIES),
        turns=turns,
    )
    for operation in operations_of(exchange):
        for message in operation.messages:
            message.text.reveal().encode()  # a text that is no Unicode could not be written down


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"a=1&" * 1200, "application/x-www-form-urlencoded"),
        (b"--x\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 3000, "multipart/form-data; boundary=x"),
        (
            b"".join(
                b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n" % (one, one + 1) for one in range(2000)
            ),
            "multipart/form-data; boundary=0",
        ),
        (b"[" * 100_000, "application/json"),
        (b'{"a":' * 100_000, "application/json"),
        (b"[" * 900 + b"]" * 900, "application/json"),
        (b'{"a":' * 900 + b'"x"' + b"}" * 900, "application/json"),
        (b"9" * 5000, "application/json"),
        (b'"\\' * 5000, "application/json"),
    ],
)
def test_bodies_made_to_break_a_reader_break_nothing(body, kind):
    content_of(body, kind)


@pytest.mark.parametrize(
    "value",
    [
        {"k" * 5000: ["text"] * 500},
        {"type": "t" * 5000, **{f"name{one}": "text" for one in range(500)}},
        {"a": [{"item_id": "i" * 5000, "texts": ["text"] * 500}]},
    ],
)
def test_places_of_texts_take_no_more_room_than_the_body(value):
    assert sum(len(one.path) for one in walk(value, "user")) < 100_000

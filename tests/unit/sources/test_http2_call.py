"""agent.sources.rpc.http2.call, .frames, .messages: the reader without a socket, against a peer made of hpack."""

import gzip
import random
import struct
import zlib

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sources.rpc.http2 import frames
from agent.sources.rpc.http2.call import StreamingCall
from agent.sources.rpc.http2.frames import ErrorCode, ProtocolError, frame
from agent.sources.rpc.http2.messages import MessageAssembly
from agent.sources.rpc.transport import Code

LIMIT = 1 << 20


def call_of(request=b"ask", limit=LIMIT) -> StreamingCall:
    return StreamingCall(path="/a.B/C", authority="host", request=request, max_message_bytes=limit)


def feed(call: StreamingCall, raw: bytes, step: int = 1 << 30) -> list[bytes]:
    messages: list[bytes] = []
    while raw:
        space = call.space()
        size = min(step, len(space), len(raw))
        space[:size] = raw[:size]
        raw = raw[size:]
        call.received(size, messages)
    return messages


def framed(content: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(content)) + content


class Peer:
    """Writes what a server would."""

    def __init__(self) -> None:
        self.encoder = hpack.Encoder()

    def headers(self, end=False, flags=None, **more) -> bytes:
        fields = {
            ":status": "200",
            "content-type": "application/grpc",
            **{k.replace("_", "-"): v for k, v in more.items()},
        }
        block = self.encoder.encode(list(fields.items()))
        return frame(
            frames.HEADERS,
            (frames.END_HEADERS | (frames.END_STREAM if end else 0)) if flags is None else flags,
            1,
            block,
        )

    def trailers(self, status="0", message="") -> bytes:
        block = self.encoder.encode([("grpc-status", status), ("grpc-message", message)])
        return frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, block)

    @staticmethod
    def data(*messages: bytes, flags=0, stream=1) -> bytes:
        return frame(frames.DATA, flags, stream, b"".join(framed(one) for one in messages))


def frames_in(raw: bytes) -> list[tuple[int, int, int, bytes]]:
    if raw.startswith(frames.PREFACE):
        raw = raw[len(frames.PREFACE) :]
    found = []
    while raw:
        length = int.from_bytes(raw[:3], "big")
        found.append((raw[3], raw[4], int.from_bytes(raw[5:9], "big"), raw[9 : 9 + length]))
        raw = raw[9 + length :]
    return found


def test_the_opening_is_a_whole_request():
    out = call_of(b"request").outgoing()
    assert out.startswith(frames.PREFACE)
    kinds = [kind for kind, _, _, _ in frames_in(out)]
    assert kinds == [frames.SETTINGS, frames.WINDOW_UPDATE, frames.HEADERS, frames.DATA]
    _, _, stream, block = frames_in(out)[2]
    fields = dict(hpack.Decoder().decode(block))
    assert (stream, fields[":path"], fields["te"], fields["content-type"]) == (
        1,
        "/a.B/C",
        "trailers",
        "application/grpc",
    )
    assert frames_in(out)[3] == (frames.DATA, frames.END_STREAM, 1, framed(b"request"))


@pytest.mark.parametrize("step", [1, 2, 7, 10, 1 << 30])
def test_messages_come_whole_however_they_are_cut(step):
    chance = random.Random(step)
    wanted = [chance.randbytes(size) for size in (0, 1, 5, 100, 16_000, 40_000, 3)]
    peer = Peer()
    stream = b"".join(framed(one) for one in wanted)
    raw = frame(frames.SETTINGS, 0, 0) + peer.headers()
    while stream:
        size = chance.choice([1, 4, 50, 9000, 16_384])
        raw += frame(frames.DATA, 0, 1, stream[:size])
        stream = stream[size:]
    call = call_of()
    assert feed(call, raw + peer.trailers(), step) == wanted
    assert call.status == (Code.OK, "")


def test_many_messages_in_one_frame_and_padding():
    peer = Peer()
    call = call_of()
    padded = frame(frames.DATA, frames.PADDED, 1, bytes([3]) + framed(b"x") + b"\0\0\0")
    assert feed(call, peer.headers() + peer.data(b"a", b"", b"bc") + padded) == [b"a", b"", b"bc", b"x"]


def test_credit_is_given_back_for_both_windows():
    peer = Peer()
    call = call_of()
    call.outgoing()
    feed(call, peer.headers())
    given_back = 0
    for _ in range(600):
        feed(call, peer.data(b"z" * 16_000))
        for kind, _, stream, payload in frames_in(call.outgoing()):
            assert kind == frames.WINDOW_UPDATE
            if stream == 0:
                given_back += int.from_bytes(payload, "big")
    assert 600 * 16_005 - given_back < 8 * 1024 * 1024 // 4 + 16_005
    assert given_back > 6_000_000


def test_a_server_that_ignores_the_window_is_refused():
    call = call_of()
    peer = Peer()
    feed(call, peer.headers())
    call._credit = 8 * 1024 * 1024 - 10
    with pytest.raises(ProtocolError) as caught:
        feed(call, peer.data(b"z" * 100))
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


def test_a_large_request_waits_for_the_window():
    call = call_of(b"r" * 200_000)
    sent = frames_in(call.outgoing())
    assert sum(len(payload) for kind, _, _, payload in sent if kind == frames.DATA) == 65_535
    feed(call, frame(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, 300_000)))
    assert not [one for one in frames_in(call.outgoing()) if one[0] == frames.DATA]  # the connection's window is empty
    feed(call, frames.window_update(0, 500_000))
    rest = [one for one in frames_in(call.outgoing()) if one[0] == frames.DATA]
    assert sum(len(payload) for *_, payload in rest) == 200_005 - 65_535
    assert rest[-1][1] == frames.END_STREAM
    assert all(len(payload) <= 16_384 for *_, payload in rest)


def test_pings_and_settings_are_answered():
    call = call_of()
    call.outgoing()
    feed(call, frame(frames.PING, 0, 0, b"12345678") + frame(frames.SETTINGS, 0, 0))
    assert frames_in(call.outgoing()) == [(frames.PING, 1, 0, b"12345678"), (frames.SETTINGS, 1, 0, b"")]
    number = call.ask()
    assert call.pongs < number
    [(kind, flags, _, payload)] = frames_in(call.outgoing())
    assert (kind, flags) == (frames.PING, 0)
    feed(call, frame(frames.PING, frames.ACK, 0, payload))
    assert call.pongs == number


def test_a_flood_of_pings_is_refused():
    call = call_of()
    with pytest.raises(ProtocolError) as caught:
        feed(call, frame(frames.PING, 0, 0, b"12345678") * 30_000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_headers_in_pieces_with_priority_and_informational_answers():
    peer = Peer()
    block = peer.encoder.encode([(":status", "100")])
    raw = frame(frames.HEADERS, frames.END_HEADERS, 1, block)
    block = peer.encoder.encode([(":status", "200"), ("content-type", "application/grpc+proto"), ("x", "y" * 300)])
    raw += frame(frames.HEADERS, frames.PRIORITIZED, 1, b"\0\0\0\0\x10" + block[:20])
    raw += frame(frames.CONTINUATION, 0, 1, block[20:40]) + frame(
        frames.CONTINUATION, frames.END_HEADERS, 1, block[40:]
    )
    call = call_of()
    assert feed(call, raw + frame(77, 0, 5, b"unknown kind") + peer.data(b"m")) == [b"m"]
    assert call.headers["x"] == "y" * 300


@pytest.mark.parametrize(
    ("status", "message", "wanted"),
    [
        ("0", "", (Code.OK, "")),
        ("14", "gone%20%E2%9C%93", (Code.UNAVAILABLE, "gone ✓")),
        ("13", "50%", (Code.INTERNAL, "50%")),
        ("99", "", (Code.UNKNOWN, "")),
        ("x", "", (Code.UNKNOWN, "the server gave no status")),
    ],
)
def test_trailers_say_how_it_ended(status, message, wanted):
    peer = Peer()
    call = call_of()
    feed(call, peer.headers() + peer.trailers(status, message))
    assert call.status == wanted


def test_trailers_only_http_errors_and_ends_without_status():
    call = call_of()
    feed(call, Peer().headers(end=True, grpc_status="12", grpc_message="no"))
    assert call.status == (Code.UNIMPLEMENTED, "no")
    call = call_of()
    block = hpack.Encoder().encode([(":status", "503"), ("content-type", "text/html")])
    feed(call, frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    assert call.status is not None
    assert call.status.code is Code.UNAVAILABLE
    call = call_of()
    feed(call, Peer().headers() + Peer.data(b"m", flags=frames.END_STREAM))
    assert call.status == (Code.INTERNAL, "the stream ended without a status")
    call = call_of()
    peer = Peer()
    feed(call, peer.headers() + frame(frames.DATA, 0, 1, framed(b"whole")[:7]) + peer.trailers())
    assert call.status == (Code.INTERNAL, "the stream ended inside of a message")
    call = call_of()
    call.hung_up()
    assert call.status == (Code.UNAVAILABLE, "the connection ended")


def test_resets_and_farewells():
    for number, code in (
        (7, Code.UNAVAILABLE),
        (8, Code.CANCELLED),
        (11, Code.RESOURCE_EXHAUSTED),
        (2, Code.INTERNAL),
        (999, Code.UNKNOWN),
    ):
        call = call_of()
        feed(call, frame(frames.RST_STREAM, 0, 1, struct.pack(">I", number)))
        assert call.status is not None
        assert call.status.code is code
    call = call_of()
    peer = Peer()
    feed(call, peer.headers() + frame(frames.GOAWAY, 0, 0, struct.pack(">II", 2**31 - 1, 0)))
    assert call.is_going_away
    assert call.status is None  # our stream is served to its end
    assert feed(call, peer.data(b"still")) == [b"still"]
    feed(call, frame(frames.GOAWAY, 0, 0, struct.pack(">II", 1, 11) + b"too_many_pings"))
    assert call.status == (Code.UNAVAILABLE, "the server is going away (11 too_many_pings)")
    call = call_of()
    feed(call, frame(frames.GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
    assert call.status is not None
    assert call.status.code is Code.UNAVAILABLE


def test_a_message_over_the_limit_is_skipped_and_counted():
    peer = Peer()
    call = call_of(limit=1000)
    raw = b"".join(framed(one) for one in (b"a", b"b" * 5000, b"c"))
    cut = [raw[i : i + 777] for i in range(0, len(raw), 777)]
    got = feed(call, peer.headers() + b"".join(frame(frames.DATA, 0, 1, one) for one in cut))
    assert (got, call.oversized) == ([b"a", b"c"], 1)


def test_compressed_messages_and_bombs():
    peer = Peer()
    call = call_of(limit=10_000)
    feed(call, peer.headers(grpc_encoding="gzip"))
    squeezed = framed(gzip.compress(b"hello"), 1)
    bomb = framed(gzip.compress(b"\0" * 5_000_000), 1)
    assert feed(call, frame(frames.DATA, 0, 1, squeezed + bomb + squeezed)) == [b"hello", b"hello"]
    assert call.oversized == 1
    call = call_of()
    feed(call, Peer().headers(grpc_encoding="deflate"))
    assert feed(call, frame(frames.DATA, 0, 1, framed(zlib.compress(b"x" * 99), 1))) == [b"x" * 99]
    for encoding, content in (
        ("identity", b"x"),
        ("gzip", b"no gzip"),
        ("snappy", b"x"),
        ("gzip", gzip.compress(b"cut" * 99)[:-12]),
    ):
        call = call_of()
        feed(call, Peer().headers(grpc_encoding=encoding))
        with pytest.raises(ProtocolError):
            feed(call, frame(frames.DATA, 0, 1, framed(content, 1)))


PEER = Peer
BROKEN = {
    "push": lambda: frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2"),
    "data first": lambda: PEER.data(b"x"),
    "data elsewhere": lambda: PEER().headers() + PEER.data(b"x", stream=3),
    "headers elsewhere": lambda: frame(frames.HEADERS, 4, 3, b""),
    "continuation of nothing": lambda: frame(frames.CONTINUATION, 4, 1, b""),
    "interrupted block": lambda: PEER().headers(flags=0) + frame(frames.PING, 0, 0, b"12345678"),
    "data in a block": lambda: PEER().headers(flags=0) + PEER.data(b"x"),
    "endless block": lambda: PEER().headers(flags=0) + frame(frames.CONTINUATION, 0, 1, b"\x82" * 16_000) * 5,
    "empty continuations": lambda: PEER().headers(flags=0) + frame(frames.CONTINUATION, 0, 1, b""),
    "huge frame": lambda: b"\xff\xff\xff\0\0\0\0\0\1",
    "padding": lambda: PEER().headers() + frame(frames.DATA, frames.PADDED, 1, b"\x09x"),
    "padded nothing": lambda: PEER().headers() + frame(frames.DATA, frames.PADDED, 1, b""),
    "header padding": lambda: frame(frames.HEADERS, 4 | frames.PADDED, 1, b"\x09x"),
    "short priority": lambda: frame(frames.HEADERS, 4 | frames.PRIORITIZED, 1, b"\0"),
    "bad hpack": lambda: frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\x0f"),
    "settings size": lambda: frame(frames.SETTINGS, 0, 0, b"12345"),
    "settings stream": lambda: frame(frames.SETTINGS, 0, 1),
    "settings ack with content": lambda: frame(frames.SETTINGS, 1, 0, b"123456"),
    "settings window": lambda: frame(frames.SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),
    "settings frame": lambda: frame(frames.SETTINGS, 0, 0, struct.pack(">HI", 5, 1)),
    "ping size": lambda: frame(frames.PING, 0, 0, b"1"),
    "window size": lambda: frame(frames.WINDOW_UPDATE, 0, 0, b"1"),
    "window of nothing": lambda: frames.window_update(1, 0),
    "window overflow": lambda: frames.window_update(1, 2**31 - 1),
    "reset size": lambda: frame(frames.RST_STREAM, 0, 1, b"1"),
    "goaway size": lambda: frame(frames.GOAWAY, 0, 0, b"1"),
    "priority size": lambda: frame(frames.PRIORITY, 0, 1, b"1"),
    "message flag": lambda: PEER().headers() + frame(frames.DATA, 0, 1, framed(b"x", 7)),
    "http/1.1": lambda: b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_peer_that_breaks_the_protocol_is_told_so(name):
    call = call_of()
    call.outgoing()
    with pytest.raises(ProtocolError) as caught:
        feed(call, BROKEN[name]())
    call.fail(caught.value)
    assert frames_in(call.outgoing())[-1][0] == frames.GOAWAY
    assert call.status is not None
    assert call.status.code is Code.INTERNAL


def test_what_came_whole_before_a_mistake_is_kept():
    call, peer = call_of(), Peer()
    raw = peer.headers() + peer.data(b"a") + peer.data(b"b") + frame(frames.PING, 0, 0, b"short") + peer.data(b"c")
    call.space()[: len(raw)] = raw
    messages: list[bytes] = []
    with pytest.raises(ProtocolError):
        call.received(len(raw), messages)
    assert messages == [b"a", b"b"]


def test_compressed_messages_of_one_read_are_bounded_together():
    call, peer = call_of(limit=1 << 24), Peer()
    feed(call, peer.headers(grpc_encoding="gzip"))
    bomb = framed(gzip.compress(b"\0" * (1 << 24)), 1)
    raw = b"".join(frame(frames.DATA, 0, 1, bomb[i : i + 16_000]) for i in range(0, len(bomb), 16_000)) * 8
    with pytest.raises(ProtocolError) as caught:
        feed(call, raw)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_cancelling_resets_the_stream():
    call = call_of()
    call.outgoing()
    call.cancel()
    assert [one[0] for one in frames_in(call.outgoing())] == [frames.RST_STREAM]
    assert call.status is not None
    assert call.status.code is Code.CANCELLED


# ------------------------------------------------------------------- fuzzing


def survives(raw: bytes, step: int) -> None:
    """Any bytes end in messages, a status or a ProtocolError, and the call stays small."""
    call = call_of(limit=50_000)
    try:
        for message in feed(call, raw, step):
            assert len(message) <= 50_000
    except ProtocolError as error:
        call.fail(error)
    assert len(call.outgoing()) < 600_000
    assert len(call.space()) > 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 400))
def test_random_bytes(raw, step):
    survives(raw, step)


FRAME = st.builds(
    frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 32, 37, 255]),
    st.sampled_from([0, 1, 2, 3]),
    st.binary(max_size=120),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAME, max_size=25), st.integers(1, 400))
def test_random_frames(parts, step):
    survives(b"".join(parts), step)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(1, 900))
def test_a_good_stream_with_wrong_bytes_in_it(seed, wrong, step):
    chance = random.Random(seed)
    peer = Peer()
    raw = bytearray(frame(frames.SETTINGS, 0, 0) + peer.headers(grpc_encoding="gzip"))
    for _ in range(10):
        raw += peer.data(chance.randbytes(chance.randrange(60)))
        raw += frame(frames.DATA, 0, 1, framed(gzip.compress(chance.randbytes(30)), 1))
        raw += frame(frames.PING, 0, 0, chance.randbytes(8))
    raw += peer.trailers("14", "bye")
    for _ in range(wrong):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    survives(bytes(raw), step)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=20), st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_an_assembly_gives_what_was_put_in(wanted, cuts):
    assembly, got = MessageAssembly(1000), []
    raw = b"".join(framed(one) for one in wanted)
    for number in range(len(raw)):
        size = cuts[number % len(cuts)]
        assembly.feed(memoryview(raw[:size]), got)
        raw = raw[size:]
    assert got == wanted
    assert assembly.is_between

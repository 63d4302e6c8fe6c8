"""agent.sources.exchanges.grpc: messages by their prefix, texts of messages of unknown type."""

import gzip
import struct

import pytest
from google.protobuf import struct_pb2

from agent.sources.exchanges.grpc import messages_of, texts_of


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def field(number: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([number << 3 | 2]) + size + content


def test_messages_are_told_by_their_prefix():
    assert messages_of(framed(b"one") + framed(b"") + framed(b"two"), "", 1000) == [b"one", b"", b"two"]


def test_a_compressed_message_is_undone():
    assert messages_of(framed(b"plain") + framed(gzip.compress(b"packed"), 1), "gzip", 1000) == [b"plain", b"packed"]


def test_a_message_that_breaks_off_is_given_as_far_as_it_goes():
    assert messages_of(framed(b"one") + framed(b"second")[:-3], "", 1000) == [b"one", b"sec"]
    assert messages_of(framed(b"one") + b"\0\0", "", 1000) == [b"one"]


def test_what_has_no_prefix_is_no_message():
    assert messages_of(b'{"json": "and no gRPC"}', "", 1000) == []


def test_many_messages_that_grow_stay_within_the_limit():
    bomb = framed(gzip.compress(bytes(100_000)), 1)
    assert sum(len(one) for one in messages_of(bomb * 50, "gzip", 100_000)) <= 200_000


def test_texts_of_nested_messages_are_found_in_order():
    inner = field(1, b"first") + b"\x10\x05" + field(3, "zweit\u00e9".encode())
    message = field(1, inner) + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + field(4, b"last")
    assert texts_of(message) == ["first", "zweit\u00e9", "last"]


def test_texts_of_a_real_message_are_found():
    message = struct_pb2.Struct()
    message.update({"prompt": "My SSN is 536-22-8714", "n": 5, "more": ["one", {"two": "three"}]})
    assert {"prompt", "My SSN is 536-22-8714", "one", "three"} <= set(
        texts_of(message.SerializeToString(deterministic=True))
    )


@pytest.mark.parametrize("length", [3, 9, 10, 13, 32, 48, 57, 65, 100, 126, 127, 128, 200])
def test_the_length_before_a_text_is_no_part_of_it(length):
    text = b"4" * length
    # As OTLP has it: KeyValue { key, value: AnyValue { string_value } }.
    assert texts_of(field(1, b"user.id") + field(2, field(1, text))) == ["user.id", text.decode()]


def test_a_message_that_breaks_off_keeps_its_texts():
    message = field(1, b"first") + field(2, b"second") + field(3, b"the third one")
    assert texts_of(message[:-4])[:2] == ["first", "second"]


def test_a_nested_message_that_breaks_off_keeps_its_texts():
    message = field(1, field(1, b"first") + b"\x10\x05" + field(2, b"\x08\x01" + field(2, b"second")))
    assert texts_of(message[:-3])[:1] == ["first"]


def test_a_message_of_very_many_fields_keeps_the_first_texts():
    assert texts_of(field(1, b"first") + b"\x10\x05" * 30_000)[:1] == ["first"]


def test_bytes_that_are_no_text_are_none():
    assert texts_of(field(1, b"\xff\xfe\x00\x01") + field(2, b"\x00\x01\x02")) == []
    assert texts_of(b"") == []


def test_depth_is_limited():
    message = b"deep"
    for _ in range(60):
        message = b"\x10\x05" + field(1, message)
    assert texts_of(message) in ([], ["deep"])

"""agent.sources.dialects.fragment, .multipart, .vocabulary: what breaks off, what comes in parts, what is no text."""

import base64
import json
import time

import pytest

from agent.sources.dialects.bodies import content_of
from agent.sources.dialects.fragment import completed, strings_of
from agent.sources.dialects.multipart import parts_of
from agent.sources.dialects.vocabulary import is_media, well_formed

VALUE = {"a": [1, -2.5e3, True, None, {"b": 'c\u00fc \\ " \U0001f600'}], "d": {}, "e": [[], ""]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "b', {"a": "b"}),
        ('{"a": "b\\', {"a": "b"}),
        ('{"a": "b\\u00', {"a": "b"}),
        ('{"a": "b\\\\', {"a": "b\\"}),
        ('{"a"', {"a": None}),
        ('{"a', {"a": None}),
        ('{"a":', {"a": None}),
        ('{"a": tr', {"a": None}),
        ('{"a": 1,', {"a": 1}),
        ('[{"a": 1}, ', [{"a": 1}]),
        ('[{"a": "["}', [{"a": "["}]),
        ("[", []),
        ('{"a": 1}', None),
        ('{"a": 1}]', None),
        ('{"a": b, "c', None),
        ("{}{", None),
        ("text", None),
        ("", None),
    ],
)
def test_json_is_completed_as_shortly_as_can_be(text, value):
    assert completed(text) == value


@pytest.mark.parametrize("cut", range(1, len(json.dumps(VALUE)) - 1))
def test_json_cut_anywhere_is_completed(cut):
    assert completed(json.dumps(VALUE)[:cut]) is not None


def test_strings_of_json_that_is_broken_in_its_middle_are_told():
    assert strings_of('{"a": "J\\u00fcrgen", , "b": ["x\\q\\n", "y\\u00') == ["J\u00fcrgen", "x\\q\n", "y"]


@pytest.mark.parametrize(
    "text", ['{"a": "' + "x" * 1_000_000, '{"a": ["b", ' * 80_000, '"\\' * 500_000, '["' * 500_000]
)
def test_large_fragments_are_read_in_time(text):
    start = time.perf_counter()
    content_of(text.encode(), "application/json")
    assert time.perf_counter() - start < 5


BODY = b"--b\r\nX: 1\r\n\r\none\r\n--b\r\n\r\ntwo --b\r\n--b\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n--b--\r\nepilogue"


@pytest.mark.parametrize("kind", ['multipart/mixed; boundary="b"', "multipart/mixed;Boundary=b; charset=x"])
@pytest.mark.parametrize(
    ("encoding", "content"),
    [(b"base64", base64.b64encode(b"three")), (b"quoted-printable", b"thre=65"), (b"", b"three")],
)
def test_parts_are_told_in_order(kind, encoding, content):
    parts = list(parts_of(BODY % (encoding, content), kind))
    assert [part.content for part in parts] == [b"one", b"two --b", b"three"]
    assert parts[0].headers == {"x": "1"}


@pytest.mark.parametrize("kind", ["multipart/mixed", "multipart/mixed; boundary=", "multipart/mixed; boundary=other"])
def test_a_body_without_its_boundary_has_no_parts(kind):
    assert list(parts_of(BODY, kind)) == []


def test_very_many_parts_are_not_all_read():
    start = time.perf_counter()
    assert len(list(parts_of(b"--b\r\n\r\n\r\n" * 150_000, "multipart/mixed; boundary=b"))) == 512
    assert time.perf_counter() - start < 1


def test_parts_within_parts_are_texts():
    body = b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nI am Jane\r\n--c--\r\n--b--"
    (text,) = content_of(body, "multipart/mixed; boundary=b").texts
    assert "I am Jane" in text


@pytest.mark.parametrize(
    ("text", "is_no_text"),
    [
        ("data:image/png;base64,AAAA", True),
        ("data:audio/wav;base64,UklG", True),
        (base64.b64encode(bytes(range(256))).decode(), True),
        (base64.encodebytes(bytes(range(256)) * 4).decode(), True),
        ("data:text/plain;base64,SSBhbSBKYW5l", False),
        ("data:image/png;base64,AAAA and I am Jane", False),
        ("536-22-8714\n" * 40, False),
        ("4111111111111111\n" * 40, False),
        ("GB29NWBK60161331926819\n" * 40, False),
        ("JaneDoe17\n" * 60, False),
        ("4" * 300, False),
        ("AAAA", False),
        ("", False),
    ],
)
def test_what_is_an_image_and_what_a_list(text, is_no_text):
    assert is_media(text) == is_no_text


@pytest.mark.parametrize(
    ("text", "written"),
    [("J\u00fcrgen", "J\u00fcrgen"), ("\ud83d\ude00", "\U0001f600"), ("x\ud83d", "x\ufffd"), ("\ude00", "\ufffd")],
)
def test_every_text_can_be_written(text, written):
    assert well_formed(text) == written

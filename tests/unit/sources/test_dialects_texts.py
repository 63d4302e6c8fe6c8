"""agent.sources.dialects.bodies, .walk: which texts of a body are told, and which are not."""

import base64
import json

import pytest

from agent.sources.dialects.bodies import aws_events, content_of
from agent.sources.dialects.walk import joined, nested_json, walk

SSNS = "\n".join(f"536-22-{number}" for number in range(1000, 1040))


def texts(value: object, role: str = "user") -> list[str]:
    return [one.text for one in walk(value, role)]


def flat(content) -> str:
    values = [one for value in (*content.values, *content.events) for one in texts(value)]
    return "\n".join([*values, *content.texts])


@pytest.mark.parametrize(
    "value",
    [
        {"data": "data:image/png;base64," + "iVBORw0KGgo" * 40},
        {
            "url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        },
        {"data": base64.b64encode(bytes(range(256)) * 4).decode()},
        {"data": base64.encodebytes(bytes(range(256)) * 4).decode()},
        {"embedding": [0.5] * 100},
        {"tokens": list(range(100))},
        {"type": "message", "role": "user", "model": "m", "id": "msg_1", "finish_reason": "stop", "object": "x"},
        {"x": " \n ", "y": "", "z": None, "n": 5, "b": True},
    ],
)
def test_what_is_no_text_is_not_told(value):
    assert texts(value) == []


@pytest.mark.parametrize(
    "value",
    [
        {"content": "hello"},
        {"user": "hello"},
        {"user_id": "hello"},
        {"id": "h@llo"},
        {"anything": {"deep": [[{"x": "hello"}]]}},
        {"arguments": '{"x": ["hello"]}'},
        {"arguments": '{"x": "{\\"y\\": \\"hello\\"}"}'},
        ["hello"],
        "hello",
    ],
)
def test_what_may_be_a_text_is_told_once(value):
    assert [one.replace("@", "e") for one in texts(value)] == ["hello"]


def test_a_list_of_numbers_of_people_is_no_image():
    assert texts({"content": SSNS}) == [SSNS]


@pytest.mark.parametrize("key", ["national_id", "passport_id", "signature", "status", "format", "type", "model", "p"])
@pytest.mark.parametrize("is_text", [True, False])
def test_what_a_tool_is_asked_is_told_whatever_its_name(key, is_text):
    arguments = {"name": "Jane", key: "536-22-8714"}
    as_object = {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": arguments}]}
    as_text = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(arguments)}}]}
    assert "536-22-8714" in "".join(texts(as_text if is_text else as_object))


def test_escapes_are_undone():
    assert (
        flat(content_of(b'{"content": "J\\u00fcrgen \\ud83d\\ude00 \\"x\\""}', "application/json"))
        == 'J\u00fcrgen \U0001f600 "x"'
    )


def test_parts_of_a_stream_are_one_text_and_nested_json_is_decoded():
    events = [{"type": "a.delta", "delta": '{"x": "536'}, {"type": "a.delta", "delta": '-22"}'}]
    assert [(one.role, one.text) for one in joined(events, "assistant")] == [("assistant", "536-22")]


@pytest.mark.parametrize(
    ("text", "value"), [('{"a": 1}', {"a": 1}), (" [1]", [1]), ("{", None), ("{}", None), ("5", None), ('"x"', None)]
)
def test_nested_json(text, value):
    assert nested_json(text) == value


@pytest.mark.parametrize("cut", [40, 60, 75])
def test_json_that_breaks_off_gives_its_texts(cut):
    body = json.dumps(
        {"messages": [{"content": "I am Margaret"}, {"content": "and 536-22-8714 is my number"}]}
    ).encode()
    assert "I am Margaret" in flat(content_of(body[:cut], "application/json"))


def test_json_that_breaks_off_within_an_escape_has_its_escapes_undone():
    assert flat(content_of(b'{"content": "J\\u00fcrgen M\\u00fcl\\u00', "application/json")).startswith(
        "J\u00fcrgen M\u00fcl"
    )


def test_json_that_breaks_off_within_an_image_gives_the_texts_before_it():
    body = b'{"content": [{"text": "I am Margaret"}, {"url": "data:image/png;base64,' + b"iVBORw0KGgo" * 100
    assert flat(content_of(body, "application/json")) == "I am Margaret"


def test_a_plain_text_that_begins_with_a_number_is_whole():
    assert "I am Margaret" in flat(content_of(b"17\nI am Margaret", "text/plain"))


def test_an_event_that_breaks_off_is_told():
    body = b'data: {"delta": {"content": "I am "}}\n\ndata: {"delta": {"content": "Marg'
    assert "Marg" in flat(content_of(body, "text/event-stream"))


def test_events_are_known_without_their_type():
    assert len(content_of(b'data: {"a": "b"}\n\ndata: [DONE]\n\n', "").events) == 1


def test_an_event_has_its_name_as_type_if_it_has_none():
    assert content_of(b'event: ping\ndata: {"a": "b"}\n\n', "text/event-stream").events == [{"type": "ping", "a": "b"}]


def test_forms_give_their_values():
    assert content_of(b"prompt=I+am+J%C3%BCrgen&x=", "application/x-www-form-urlencoded").texts == ["I am J\u00fcrgen"]


@pytest.mark.parametrize("kind", ["image/png", "audio/wav", "video/mp4", "font/woff", "application/octet-stream"])
def test_images_and_sounds_hold_no_text(kind):
    assert flat(content_of(b"I am Margaret", kind)) == ""


def test_sounds_beside_texts_in_a_form_are_left_out():
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nI am Margaret\r\n--b\r\n'
    body += b'Content-Disposition: form-data; name="file"\r\nContent-Type: audio/wav\r\n\r\nRIFF\0\xff\r\n--b--\r\n'
    assert flat(content_of(body, "multipart/form-data; boundary=b")) == "I am Margaret"


@pytest.mark.parametrize(
    "tail", [b"", b"\0\0", b"\0\0\0\x05\0\0\0\0aaaaaaaaaa", b"\xff\xff\xff\xff\xff\xff\xff\xff" * 3]
)
def test_aws_events_stop_where_they_break(tail):
    content = b'{"bytes": "eyJhIjogImIifQ=="}'
    message = (16 + len(content)).to_bytes(4, "big") + bytes(8) + content + bytes(4)
    assert aws_events(message + message + tail) == [{"a": "b"}, {"a": "b"}]


def test_an_aws_event_of_broken_base64_is_left_out():
    content = b'{"bytes": "e"}'
    assert aws_events((16 + len(content)).to_bytes(4, "big") + bytes(8) + content + bytes(4)) == []

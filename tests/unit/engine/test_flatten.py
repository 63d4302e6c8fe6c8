"""agent.engine.flatten: escapes undone where they stand, with the way back."""

import json
import urllib.parse

import pytest

from agent.engine.flatten import MAX_DEPTH, flatten

VALUE = 'Jürgen "x@y.de" 😀\nnew'


@pytest.mark.parametrize(
    "encoded",
    [
        json.dumps({"a": VALUE}),
        json.dumps({"a": VALUE}, ensure_ascii=False),
        json.dumps({"a": json.dumps({"b": VALUE})}),
        json.dumps({"a": json.dumps({"b": json.dumps([VALUE])})}),
        repr({"a": VALUE}),
        json.dumps({"msg": repr([{"role": "user", "content": VALUE}])}),
        "GET /ask?q=" + urllib.parse.quote_plus(VALUE) + "&n=1 HTTP/1.1",
        "GET /ask?q=" + urllib.parse.quote(VALUE) + " HTTP/1.1",
    ],
)
def test_a_value_is_found_in_every_encoding_and_maps_back(encoded):
    flat = flatten(encoded)
    start = flat.text.index("x@y.de")
    first, last = flat.origin(start, start + len("x@y.de"))
    assert urllib.parse.unquote(encoded[first:last]) == "x@y.de"
    assert "Jürgen" in flat.text
    assert "😀" in flat.text


def test_a_span_that_begins_in_an_escape_takes_the_whole_escape():
    encoded = r'{"name": "\u00dcnal"}'
    flat = flatten(encoded)
    start = flat.text.index("Ünal")
    first, last = flat.origin(start, start + 4)
    assert encoded[first:last] == r"\u00dcnal"


def test_text_without_escapes_is_not_copied():
    flat = flatten("nothing to undo here")
    assert flat.starts is None
    assert flat.origin(3, 7) == (3, 7)


@pytest.mark.parametrize(
    ("text", "flat"),
    [
        ("100% sure", "100% sure"),
        ("%ff%fe%41", "\ufffd\ufffdA"),  # octets that are no UTF-8 hide nothing behind them
        ("C:\\new", "C:\new"),  # a path is harmed, but offsets stay true
        ("a+b", "a+b"),  # a plus outside of a query
        ("call +49 30 901820", "call +49 30 901820"),
        (r"\ud800", "\ufffd"),  # half a surrogate
        (r"\U0001F600", "😀"),
        (r"\x41", "A"),
        ("\\", "\\"),
    ],
)
def test_odd_escapes(text, flat):
    assert flatten(text).text == flat


def test_plus_is_a_space_in_a_query():
    assert flatten("/ask?q=a+b%2Bc").text == "/ask?q=a b+c"


def test_nesting_is_bounded():
    text = "x"
    for _ in range(MAX_DEPTH + 3):
        text = json.dumps({"a": text})
    assert "\\" in flatten(text).text

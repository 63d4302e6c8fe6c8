"""agent.engine.mask: values out, form kept."""

import json

import pytest

from agent.engine.mask import masked, merged


def spans(text, *values):
    return [(text.index(value), text.index(value) + len(value), "X") for value in values]


def test_a_value_becomes_its_name():
    assert masked("my card 4111 is", [(8, 12, "CREDIT_CARD")]) == "my card [CREDIT_CARD] is"


def test_no_span_no_change():
    assert masked("as it is", []) == "as it is"


def test_overlapping_spans_take_the_longest_name():
    assert merged([(0, 5, "A"), (3, 20, "B"), (30, 31, "C")]) == [(0, 20, "B"), (30, 31, "C")]


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ('{"n": 536228714}', ["536228714"], {"n": "[X]"}),
        ('{"n": 536228714.25, "m": 1}', ["536228714"], {"n": "[X]", "m": 1}),
        ('{"a": "x 4111 y", "b": "z"}', ["4111"], {"a": "x [X] y", "b": "z"}),
        ('{"a": "one", "b": "two"}', ['one", "b": "tw'], {"a": "[X]", "[X]": "[X]o"}),
        ('["4111", "5555"]', ["4111", "5555"], ["[X]", "[X]"]),
        ('{"a": "\\u00dcnal", "k": "\\"q\\""}', ["\\u00dcnal"], {"a": "[X]", "k": '"q"'}),
    ],
)
def test_json_stays_json(text, values, wanted):
    assert json.loads(masked(text, spans(text, *values))) == wanted


def test_json_inside_a_string_stays_json_too():
    inner = json.dumps({"ssn": 536228714, "name": "Jürgen"})
    text = json.dumps({"arguments": inner})
    clean = json.loads(masked(text, spans(text, "536228714")))
    assert json.loads(clean["arguments"]) == {"ssn": "[X]", "name": "Jürgen"}


def test_two_values_in_one_inner_json_are_both_masked():
    text = json.dumps({"a": json.dumps({"n": 41111111, "m": 55555555})})
    clean = json.loads(masked(text, spans(text, "41111111", "55555555")))
    assert json.loads(clean["a"]) == {"n": "[X]", "m": "[X]"}


def test_broken_json_is_masked_as_text():
    assert masked('{"a": 4111', [(6, 10, "X")]) == '{"a": [X]'

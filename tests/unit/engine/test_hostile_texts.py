"""Texts made to be slow or to break things: every own expression stays linear, and no event is hidden."""

import pytest

from agent.detectors.pii.phone import PhoneShapeRecognizer
from agent.detectors.presidio.validators import jwt
from agent.engine.flatten import flatten
from agent.engine.mask import masked
from agent.sources.containerlogs.grouping import _depth

# A quadratic expression needs minutes for this, and the run ends with a time-out.
SIZE = 256 * 1024


def braces(size):
    _depth(b'{ "' + b'\\"' * size)


def dots(size):
    flatten("." * size + "+=")


def forms(size):
    flatten("a=" * size + "+")


def escapes(size):
    flatten("\\u00" * size)


def percents(size):
    flatten("%ff" * size)


def nested(size):
    text = '{"m":"[' + "ab " * size + '"}'
    masked(text, [(7 + 3 * number, 9 + 3 * number, "X") for number in range(size)])


def quotes(size):
    masked('{"a": "' + '\\"' * size, [(1, 2, "X")])


def phones(size):
    PhoneShapeRecognizer().analyze("+" + "1" * size + "a ", ["PHONE_NUMBER"])


def plusses(size):
    PhoneShapeRecognizer().analyze("+1 " * size, ["PHONE_NUMBER"])


@pytest.mark.parametrize("work", [braces, dots, forms, escapes, percents, nested, quotes, phones, plusses])
def test_a_quarter_of_a_megabyte_is_no_hang(work):
    work(SIZE)


def test_deep_json_in_a_token_is_no_token():
    import base64

    head = base64.urlsafe_b64encode(b'{"a":' + b"[" * 100_000).decode()
    assert jwt(f"{head}.x.y") is False


def test_unicode_digits_do_not_break_the_scan(rules):
    from agent.app.loading import load_detectors, make_engine
    from agent.app.running import settings_from, surroundings_of
    from agent.model import Sensitive

    settings = settings_from(rules=(rules,))
    engine = make_engine(settings, load_detectors(settings, surroundings_of(settings)), None, b"k" * 32)
    text = "RSSMRA\u0668\u0665T10A562S password=vK9-qq71-Lxz0"
    shown, _, _ = engine.scan_text(Sensitive(text), "log")
    assert "vK9-qq71" not in shown

"""agent.engine.stream: nothing is missed, wherever the pieces are cut."""

import pytest

from agent.detectors.pii import PiiConfig, PiiDetector
from agent.detectors.presidio.loading import recognizers_from
from agent.detectors.secrets import SecretsConfig, SecretsDetector
from agent.engine import Engine, TextStream

TEXT = (
    "Hello, my name is Jane Roe. Mail me at jane.roe@example.com or call +1 (415) 555-0132 please.\n"
    "The card is 4111 1111 1111 1111, the IBAN DE89 3704 0044 0532 0130 00; my SSN is 219-09-9999 and that is all.\n"
    '{"first_name": "Thandi", "note": "mail t.nkosi\\u0040example.org", "key": "' + "AKIA" + 'IOSFODNN7EXAMPLQ"}\n'
    "server 10.0.0.7 answered in 12 ms; nothing to see between here and there, only words that fill a line or two.\n"
)


@pytest.fixture(scope="module")
def engine(rules):
    detectors = [
        PiiDetector(PiiConfig(), recognizers_from([rules], "pii")),
        SecretsDetector(SecretsConfig(), recognizers_from([rules], "secrets")),
    ]
    return Engine(text_detectors=detectors, fingerprint_key=b"k" * 32)


def streamed(engine, pieces, **sizes):
    stream = TextStream(lambda text: engine._findings(text, "prompt"), **sizes)
    found = [finding for piece in pieces for finding in stream.feed(piece)] + stream.finish()
    return sorted((one.entity, one.start, one.end, one.fingerprint) for one in found)


def whole(engine, text):
    return sorted((one.entity, one.start, one.end, one.fingerprint) for one in engine._findings(text, "prompt")[0])


def test_the_text_holds_what_this_test_is_about(engine):
    entities = {entity for entity, *_ in whole(engine, TEXT)}
    assert entities >= {
        "PERSON",
        "EMAIL_ADDRESS",
        "PHONE_NUMBER",
        "CREDIT_CARD",
        "IBAN_CODE",
        "US_SSN",
        "AWS_ACCESS_KEY_ID",
    }


@pytest.mark.parametrize("start", range(0, len(TEXT), 40))
def test_cut_at_every_place_finds_what_the_whole_has(engine, start):
    expected = whole(engine, TEXT)
    for at in range(start, min(start + 40, len(TEXT))):
        # Scanned as soon as anything comes, and no more kept than a small window: every cut is a real one.
        assert streamed(engine, [TEXT[:at], TEXT[at:]], lead=160, hold=80, step=1) == expected


@pytest.mark.parametrize("size", [1, 7, 64])
def test_small_pieces_of_a_long_text_find_what_the_whole_has(engine, size):
    text = TEXT * 2
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert streamed(engine, pieces, lead=200, hold=80, step=24) == whole(engine, text)


def test_a_value_longer_than_a_step_is_found(engine):
    begin, end = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"
    text = "x\n" + begin + "\n" + "MIIEowIBAAKCAQEA7\n" * 300 + end + "\ny " * 500
    pieces = [text[at : at + 100] for at in range(0, len(text), 100)]
    found = streamed(engine, pieces)
    assert [one[:3] for one in whole(engine, text)] == [one[:3] for one in found]
    assert found[0][2] - found[0][1] > 5000


def test_findings_are_told_while_the_stream_goes_on(engine):
    stream = engine.stream("completion")
    told = stream.feed("write to jane.roe@example.com " + "and then some more words " * 400)
    assert [one.entity for one in told] == ["EMAIL_ADDRESS"]
    assert stream.settled > 5000
    assert stream.feed("x") == []
    assert stream.finish() == []


def test_memory_is_bounded(engine):
    stream = engine.stream("log")
    for number in range(300):
        stream.feed(f"line {number} of something that goes on and on " * 20)
    assert stream.received > 200_000
    assert len(stream._text) < 40_000


def test_what_was_not_scanned_is_kept(engine):
    stream = TextStream(lambda text: ((), "work_limit"))
    stream.feed("x" * 9000)
    stream.finish()
    assert stream.unscanned == ["work_limit"]

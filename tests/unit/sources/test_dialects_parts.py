"""agent.sources.dialects.parts: nothing of a text that grows is missed or told twice, wherever it is cut."""

import pytest

from agent.detectors.pii import PiiConfig, PiiDetector
from agent.detectors.presidio.loading import recognizers_from
from agent.detectors.secrets import SecretsConfig, SecretsDetector
from agent.engine import Engine
from agent.model import Event, GenAiOperation, Message, Sensitive
from agent.sources.dialects.parts import part_of

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


def evaluated(engine, text, after=0, until=0):
    message = Message(role="assistant", text=Sensitive(text), new_from=after, new_until=until)
    return engine.evaluate(Event(id="0" * 32, source="t", body=GenAiOperation(messages=(message,))))


def findings(engine, text, after=0, until=0):
    return [(one.entity, one.length, one.fingerprint) for one in evaluated(engine, text, after, until).findings]


def told(engine, ends, text, **sizes):
    """What is told of a text of which is there what ends at these places, one after the other, and then all."""
    heard, found = None, []
    for end in [*ends, None]:
        part, heard = part_of(text[:end], heard, is_whole=end is None, **sizes)
        if part is not None:
            found += findings(engine, *part)
    return sorted(found)


def test_the_text_holds_what_this_test_is_about(engine):
    entities = {entity for entity, *_ in findings(engine, TEXT)}
    assert entities >= {
        *("PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "AWS_ACCESS_KEY_ID")
    }


@pytest.mark.parametrize("start", range(0, len(TEXT), 40))
def test_cut_at_every_place_it_is_as_the_whole(engine, start):
    expected = sorted(findings(engine, TEXT))
    for at in range(start, min(start + 40, len(TEXT))):
        assert told(engine, [at], TEXT, lead=160, hold=80) == expected


@pytest.mark.parametrize("size", [7, 64, 200])
def test_in_small_pieces_it_is_as_the_whole(engine, size):
    text = TEXT * 2
    assert told(engine, range(size, len(text), size), text, lead=200, hold=80) == sorted(findings(engine, text))


def test_a_value_longer_than_many_parts_is_told_once(engine):
    begin, end = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"
    text = "x\n" + begin + "\n" + "MIIEowIBAAKCAQEA7\n" * 300 + end + "\ny " * 500
    assert told(engine, range(700, len(text), 700), text) == sorted(findings(engine, text))


def test_a_part_brings_no_more_along_than_a_value_can_be_long():
    text = "word " * 20_000
    _, heard = part_of(text[:90_000], None, is_whole=False)
    part, _ = part_of(text, heard, is_whole=True)
    assert part.new_until == len(part.text) < 10_000 + 256 + 16 * 1024 + 1
    assert part.text[part.new_from :] == text[90_000 - 256 :]


def test_nothing_new_is_no_part():
    part, heard = part_of("a" * 1000, None, is_whole=False)
    assert (len(part.text), part.new_from, part.new_until) == (1000, 0, 744)
    assert part_of("a" * 1000, heard, is_whole=False) == (None, heard)
    assert part_of("a" * 200, None, is_whole=False) == (None, None)
    assert part_of("", None, is_whole=True) == (None, None)


def test_a_text_that_is_another_one_now_is_told_from_its_beginning():
    _, heard = part_of("a" * 1000, None, is_whole=False)
    part, _ = part_of("b" * 1000, heard, is_whole=True)
    assert (part.new_from, part.new_until) == (0, 1000)


def test_what_is_not_new_is_masked_all_the_same(engine):
    done = evaluated(engine, "mail jane.roe@example.com", 25, 26)
    assert done.findings == ()
    assert done.event.body.messages[0].text == "mail [EMAIL_ADDRESS]"

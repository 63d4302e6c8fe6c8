"""agent.detectors.pii: .config, .detector, .phone, .profiles, .registry, .rejections; agent.detectors.presidio: .lean ..."""

import socket
import string
import subprocess
import sys
import zlib

import pytest

from agent.detectors.pii.config import PiiConfig
from agent.detectors.pii.detector import PiiDetector
from agent.detectors.pii.phone import PhoneShapeRecognizer
from agent.detectors.pii.profiles import PROFILES
from agent.detectors.pii.registry import default_english_recognizers, strict_recognizers
from agent.detectors.pii.rejections import RULES, Candidate, has_context, is_epoch, is_no_card_shape, rejection_of
from agent.detectors.presidio import lean
from agent.detectors.presidio.document import DocumentRecognizer, RecognizerDocument, RecognizerFile
from agent.detectors.presidio.loading import recognizers_from
from agent.detectors.presidio.validators import VALIDATORS, jwt, luhn, shannon_bits


@pytest.fixture(scope="module")
def detector(rules):
    return PiiDetector(PiiConfig(), recognizers_from([rules], "pii"))


def found(detector, text, direction="log"):
    return [(match.entity, text[match.start : match.end]) for match in detector.scan(text, direction).matches]


@pytest.mark.parametrize(
    ("text", "entity", "value"),
    [
        ("mail jane.doe@acme.com now", "EMAIL_ADDRESS", "jane.doe@acme.com"),
        ("email=jane.doe@acme.com", "EMAIL_ADDRESS", "jane.doe@acme.com"),
        ("card 4111 1111 1111 1111", "CREDIT_CARD", "4111 1111 1111 1111"),
        ("378282246310005", "CREDIT_CARD", "378282246310005"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
        ("my SSN is 536-22-8714", "US_SSN", "536-22-8714"),
        ("NHS number 943 476 5919", "UK_NHS", "943 476 5919"),
        ("PESEL 44051401359", "PL_PESEL", "44051401359"),
        ("DNI 12345678Z", "ES_NIF", "12345678Z"),
        ("call +1 (415) 555-0132", "PHONE_NUMBER", "+1 (415) 555-0132"),
        ("tel. 06 39 98 14 52", "PHONE_NUMBER", "06 39 98 14 52"),
        ("(212) 555-0187", "PHONE_NUMBER", "(212) 555-0187"),
        ("medicare 1EG4-TE5-MK73", "US_MBI", "1EG4-TE5-MK73"),
    ],
)
def test_personal_data_is_found_in_logs(detector, text, entity, value):
    assert (entity, value) in found(detector, text)


@pytest.mark.parametrize(
    "text",
    [
        "build 4111-2203-8812-0001-7 is ready",
        "order 1234567812345678",
        "4111111111111112",
        "1120969199 2005",
        "service v10.12.34.56",
        "release 1.2.3.4-rc1",
        "pid 536228714",
        "cost 219.099.999 IDR",
        "- 1131566815 2005.11.09",
        "blk_-1608999687919862906",
        "081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "uuid 123e4567-e89b-12d3-a456-426614174000",
        "ISBN 978-3-16-148410-0",
        "at 2024-05-01T12:30:45.123456Z",
        "see user@localhost and the @example decorator",
        "PacketResponder 0 for block blk_38865049064139660 terminating",
        "took 49.497  1702  2633 ms",
        "0000-0000-0000-0000",
        "KB3133977 was installed",
        "gpt-4o-2024-08-06 chat.completion",
        "os.system rpc.py requests.post",
        "10.250.19.102:54106",
        "the phone rang twice in 1999",
        "+1 for this change",
    ],
)
def test_numbers_of_software_are_not_reported_from_logs(detector, text):
    assert found(detector, text) == []


def test_prompts_are_asked_for_more(detector):
    assert ("IP_ADDRESS", "203.0.113.77") in found(detector, "from 203.0.113.77", "prompt")
    assert found(detector, "from 203.0.113.77", "log") == []


def test_the_plain_profile_is_presidios_own():
    plain = PiiDetector(PiiConfig(profiles={"other": "presidio"}))
    assert "URL" in {entity for entity, _ in found(plain, "see https://example.com", "other")}
    names = {type(recognizer).__name__ for recognizer in default_english_recognizers()}
    assert {"CreditCardRecognizer", "PhoneRecognizer", "UrlRecognizer"} <= names
    assert PROFILES["presidio"].threshold == 0


def test_entities_thresholds_countries_and_allow_lists_are_configuration():
    text = "jane.doe@acme.com 4111 1111 1111 1111 PESEL 44051401359"
    only = PiiDetector(PiiConfig(entities=("EMAIL_ADDRESS",)))
    assert found(only, text) == [("EMAIL_ADDRESS", "jane.doe@acme.com")]
    without = PiiDetector(PiiConfig(exclude_entities=("CREDIT_CARD",), countries=("us",)))
    assert found(without, text) == [("EMAIL_ADDRESS", "jane.doe@acme.com")]
    allowed = PiiDetector(PiiConfig(allow_list=("jane.doe@acme.com",), allow_patterns=(r"4111.*",), countries=()))
    assert found(allowed, text) == []
    assert allowed.rejected == {"allow_list": 1, "allow_pattern": 1}
    high = PiiDetector(PiiConfig(thresholds={"PHONE_NUMBER": 0.99}))
    assert found(high, "(212) 555-0187") == []
    with pytest.raises(ValueError, match="no regular expression"):
        PiiConfig(allow_patterns=("(",))


def test_rejections_are_counted_by_name():
    detector = PiiDetector(PiiConfig(entities=("CREDIT_CARD", "UK_NHS")))
    found(detector, "4111-1111-1111-1111-7 and nhs " + "x" * 90 + " 943 476 5919")
    assert detector.rejected["no_context"] == 1
    assert set(detector.rejected) <= {name for name, _, _ in RULES} | {"no_context"}


def candidate(text, value, entity="CREDIT_CARD", context=()):
    start = text.index(value)
    return Candidate(entity, text, start, start + len(value), context)


@pytest.mark.parametrize(
    ("text", "value", "entity", "rule"),
    [
        ("x 4111 1111 11111111 y", "4111 1111 11111111", "CREDIT_CARD", "card_shape"),
        ("1111111111111117", "1111111111111117", "CREDIT_CARD", "card_shape"),
        ("4111111111111111-9", "4111111111111111", "CREDIT_CARD", "part_of_longer"),
        ("a4111111111111111", "4111111111111111", "CREDIT_CARD", "part_of_longer"),
        ("1131566815", "1131566815", "UK_NHS", "epoch"),
        ("4444 4444 4444 4444", "4444 4444 4444 4444", "CREDIT_CARD", "repeated"),
        ('{"trace_id": "4111111111111111"}', "4111111111111111", "CREDIT_CARD", "technical_key"),
        ("order_id=4111111111111111", "4111111111111111", "CREDIT_CARD", "technical_key"),
        ("ssn:219-09-9999/jane", "219-09-9999", "US_SSN", ""),
        ("ssn_219-09-9999", "219-09-9999", "US_SSN", ""),
        ("build-219-09-9999-7", "219-09-9999", "US_SSN", "part_of_longer"),
        ("1-219-09-9999", "219-09-9999", "US_SSN", "part_of_longer"),
        ("imei 490154203237518", "490154203237518", "CREDIT_CARD", "other_number"),
        ("graphics card id 4111111111111111", "4111111111111111", "CREDIT_CARD", "other_number"),
        ("discover 4222222222222222 nodes", "4222222222222222", "CREDIT_CARD", ""),
        ("my card 060426070011", "060426070011", "CREDIT_CARD", "card_shape"),
        ("duration_ns=4111111111111111 ok", "4111111111111111", "CREDIT_CARD", "technical_key"),
        ('{"card": "4111111111111111"}', "4111111111111111", "CREDIT_CARD", ""),
        ("passport: 4111111111111111", "4111111111111111", "CREDIT_CARD", ""),
        ("size -4111111111111111 left", "4111111111111111", "CREDIT_CARD", "signed"),
        ("blk_-4111111111111111", "4111111111111111", "CREDIT_CARD", "part_of_longer"),
        ("081110 020 7946 0958 INFO", "020 7946 0958", "PHONE_NUMBER", "among_numbers"),
        ("call 020 7946 0958 now", "020 7946 0958", "PHONE_NUMBER", ""),
        ("212-555-0187-Office", "212-555-0187", "PHONE_NUMBER", ""),
        ("my card 675984103431.", "675984103431", "CREDIT_CARD", ""),
        ("discover 675984103431 nodes", "675984103431", "CREDIT_CARD", "card_shape"),
        ("v10.0.0.1", "10.0.0.1", "IP_ADDRESS", "version"),
        ("card 4111111111111111.", "4111111111111111", "CREDIT_CARD", ""),
        ("10.0.0.1", "10.0.0.1", "IP_ADDRESS", ""),
    ],
)
def test_each_rejection_rule(text, value, entity, rule):
    assert rejection_of(candidate(text, value, entity)) == rule


def test_every_rejection_rule_has_a_row_above():
    rows = next(mark for mark in test_each_rejection_rule.pytestmark if mark.name == "parametrize").args[1]
    assert {name for name, _, _ in RULES} == {row[-1] for row in rows} - {""}


def test_a_word_beside_a_card_widens_the_ranges():
    near = candidate("my card 675984103431.", "675984103431", context=("card",))
    assert rejection_of(near) == ""


def test_context_may_stand_before_or_shortly_after_but_not_inside_a_word():
    assert has_context(candidate("my nhs number: 943 476 5919", "943 476 5919", context=("nhs",)))
    assert has_context(candidate("943 476 5919 is my NHS number", "943 476 5919", context=("nhs",)))
    assert not has_context(candidate("enhsx 943 476 5919", "943 476 5919", context=("nhs",)))
    assert not has_context(candidate("nhs " + "x" * 90 + " 943 476 5919", "943 476 5919", context=("nhs",)))


def test_epochs_and_card_shapes():
    assert is_epoch(candidate("1700000000", "1700000000"))
    assert not is_epoch(candidate("9434765919", "9434765919"))
    assert not is_no_card_shape(candidate("6011 1111 1111 1117", "6011 1111 1111 1117"))


def test_phone_numbers_need_a_shape():
    spans = PhoneShapeRecognizer().analyze("a +353 20 915 2341 b 4155550132 c", ["PHONE_NUMBER"])
    assert [(one.start, one.end) for one in spans] == [(2, 18)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Phone:\n60-56-85-91\n", "60-56-85-91"),
        ("They're not answering at 78 651 450", "78 651 450"),
        ("my registered 024 971 50 30.", "024 971 50 30"),
        ("781 1704 office", "781 1704"),
        ("Desk: +1-903-140-4508x769", "+1-903-140-4508x769"),
        ("(898)666-3621x0135", "(898)666-3621x0135"),
        ('{"phoneNumber": "5403926876"}', "5403926876"),
        ("0049 89 636 48018", "0049 89 636 48018"),
        ("WhatsApp +5511912345678", "+5511912345678"),
    ],
)
def test_phone_numbers_as_people_write_them(detector, text, value):
    assert ("PHONE_NUMBER", value) in found(detector, text)


@pytest.mark.parametrize(
    "text",
    [
        "called 1234567 times",
        "phone 2024-05-01 rang",
        "call 10.0.0.12 back",
        "00:00:00.272 25746 INFO",
        "office 365",
        "tel aviv 1948",
        "mobile 5.4.3",
        "1-2-3-4-5-6-7-8",
        "message 17 of 2048",
        "desk 12, row 14",
        "desk 12345678 of the table",
        "orders call 2024 2025 2026",
        "cell: 1048576 1048577",
    ],
)
def test_numbers_that_are_no_phones(detector, text):
    assert "PHONE_NUMBER" not in {entity for entity, _ in found(detector, text)}


def test_countries_choose_national_identifiers():
    names = {recognizer.supported_entities[0] for recognizer in strict_recognizers(("pl",), ())}
    assert "PL_PESEL" in names
    assert "ES_NIF" not in names
    assert "EMAIL_ADDRESS" in names
    spoken = {recognizer.supported_entities[0] for recognizer in strict_recognizers((), (), ("ko",))}
    assert "KR_RRN" in spoken
    assert "KR_RRN" not in names


def test_a_pattern_out_of_time_is_told_and_not_passed_over():
    slow = RecognizerDocument.model_validate(
        {
            "name": "slow",
            "supported_entity": "SLOW",
            "patterns": [{"name": "s", "regex": "(?<!c)(a|aa)+$", "score": 0.9}],
        }
    )
    detector = PiiDetector(PiiConfig(entities=("SLOW",)), [slow])
    scan = detector.scan("a" * 60 + "b", "log")
    assert scan.unscanned == "regex_timeout"


OFFLINE = """
import socket, sys
def refuse(*a, **k): raise SystemExit("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from agent.detectors.pii import PiiConfig, PiiDetector
found = PiiDetector(PiiConfig()).scan("jane.doe@acme.co.uk", "log").matches
assert [match.entity for match in found] == ["EMAIL_ADDRESS"]
assert "spacy" not in sys.modules, "spaCy was loaded"
"""


def test_start_and_first_use_need_no_network_and_no_spacy():
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_lean_import_leaves_no_placeholder_behind():
    lean.load()
    assert not [one for one in sys.modules.values() if type(one).__name__ == "_PlaceholderModule"]
    assert socket.socket is not None


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("luhn", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("french_nir", "2 84 05 75 115 001 88", "2 84 05 75 115 001 89"),
        ("french_nir", "1 84 05 2A 115 001 01", "1 84 05 2B 115 001 01"),
        ("iban", "gb42 nawi 0445 4264 7886 19", "gb43 nawi 0445 4264 7886 19"),
        ("iban", "DE89370400440532013000", "DE8937040044053201300"),
        ("irish_ppsn", "1234567FA", "1234567GA"),
        ("dutch_bsn", "111222333", "111222334"),
        ("belgian_national_number", "85.07.30-033.28", "85.07.30-033.29"),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9.e30.x", "eyJhIjoxfQ.e30.x"),
        ("person_name", "Thandi van der Berg", "Payment Service"),
        ("person_name", "McDonald", "ANONYMOUS LOGON"),
        ("person_name", "Li", "HealthChecker"),
        ("not_placeholder", "vK9-qq71-Lxz0", "changeme"),
        ("not_placeholder", "Tr0ub4dor", "${PASSWORD}"),
        ("url_password", "postgres://a:vK9qq@h/db", "postgres://a:password@h/db"),
    ],
)
def test_validators(name, good, bad):
    assert VALIDATORS[name](good)
    assert not VALIDATORS[name](bad)


def test_github_tokens_carry_a_checksum():
    body = "0123456789abcdefghijABCDEFGHIJ"
    number, check = zlib.crc32(body.encode()), ""
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    for _ in range(6):
        number, rest = divmod(number, 62)
        check = alphabet[rest] + check
    assert VALIDATORS["github_checksum"](f"ghp_{body}{check}")
    assert not VALIDATORS["github_checksum"](f"ghp_{body[::-1]}{check}")


def test_entropy_is_in_bits_per_character():
    assert shannon_bits("") == 0
    assert shannon_bits("aaaa") == 0
    assert shannon_bits("abcd") == 2
    assert luhn("") is False
    assert jwt("x") is False


def test_documents_are_checked():
    bad = {
        "recognizers": [
            {"name": "x", "supported_entity": "lower", "patterns": [{"name": "p", "regex": "(", "score": 2}]}
        ]
    }
    with pytest.raises(ValueError, match="supported_entity") as error:
        RecognizerFile.model_validate(bad)
    assert "no regular expression" in str(error.value)
    with pytest.raises(ValueError, match="is no validator"):
        RecognizerDocument.model_validate(
            {"name": "x", "supported_entity": "XY", "deny_list": ["a"], "reeve": {"validator": "magic"}}
        )
    with pytest.raises(ValueError, match="patterns or a deny_list"):
        RecognizerDocument.model_validate({"name": "x", "supported_entity": "XY"})


def test_a_deny_list_is_a_recogniser_too():
    document = RecognizerDocument.model_validate(
        {"name": "codenames", "supported_entity": "CODENAME", "deny_list": ["Bluebird"]}
    )
    (result,) = DocumentRecognizer(document).analyze("about Bluebird today", ["CODENAME"])
    assert (result.start, result.end) == (6, 14)

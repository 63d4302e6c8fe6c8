"""agent.engine.evaluate, .texts, .cache, .fingerprint, .contracts: detect, mask, judge."""

import re

import pytest

from agent.engine.cache import ScanCache, Scanned
from agent.engine.contracts import Scan
from agent.engine.evaluate import OVERLAP_CHARACTERS, PIECE_CHARACTERS, Engine
from agent.engine.fingerprint import fingerprint, normalised
from agent.engine.texts import texts_of, with_texts
from agent.model import (
    Endpoint,
    Event,
    GenAiOperation,
    HttpActivity,
    LogRecord,
    Match,
    Message,
    PolicyResult,
    Process,
    ProcessActivity,
    Resource,
    Sensitive,
)

KEY = b"k" * 32


class Words:
    """Finds words that look like `value-17`, and counts its calls."""

    name = "words"

    def __init__(self, pattern=r"value-\d+", kind="pii", entity="VALUE", score=0.9, unscanned=""):
        self.kind = kind
        self._pattern = re.compile(pattern)
        self._entity = entity
        self._score = score
        self._unscanned = unscanned
        self.calls = 0

    def scan(self, text, direction):
        self.calls += 1
        found = [Match(self._entity, m.start(), m.end(), self._score) for m in self._pattern.finditer(text)]
        return Scan(found, self._unscanned)


class Saying:
    """A judge that fails every event and shows it."""

    digest = "d" * 64

    def __init__(self):
        self.seen = []

    def judge(self, event, findings):
        self.seen.append((event, tuple(findings)))
        return [PolicyResult(policy="p", rule="r", status="fail")]


def engine(*detectors, judge=None, cache=None, limit=1024 * 1024):
    return Engine(
        text_detectors=detectors or (Words(),), judge=judge, fingerprint_key=KEY, cache=cache, limit_characters=limit
    )


def log(text):
    return Event(id="1", source="t", body=LogRecord(text=Sensitive(text)))


def test_what_is_found_is_masked_and_placed():
    evaluation = engine().evaluate(log("a value-17 b"))
    (finding,) = evaluation.findings
    assert evaluation.event.body.text == "a [VALUE] b"
    assert (finding.field, finding.start, finding.end, finding.length) == ("log.text", 2, 10, 8)
    assert finding.direction == "log"


def test_the_judge_sees_masked_text_only():
    judge = Saying()
    engine(judge=judge).evaluate(log("a value-17 b"))
    event, findings = judge.seen[0]
    assert event.body.text == "a [VALUE] b"
    assert findings[0].entity == "VALUE"


def test_an_evaluation_names_the_policy_set():
    assert engine(judge=Saying()).evaluate(log("x")).policy_digest == "d" * 64


def test_an_event_gives_the_same_evaluation_again():
    assert engine().evaluate(log("value-1 value-2")) == engine().evaluate(log("value-1 value-2"))


def test_every_text_of_every_part_is_scanned():
    body = ProcessActivity(
        action="exec",
        process=Process(binary=Sensitive("/bin/value-1"), environment={"KEY": Sensitive("value-2")}),
        parent=Process(arguments=Sensitive("value-3")),
        ancestors=(Process(cwd=Sensitive("/value-4")),),
        arguments=(Sensitive("value-5"), "plain"),
    )
    evaluation = engine().evaluate(Event(id="1", source="t", body=body))
    assert [finding.field for finding in evaluation.findings] == [
        "process.process.binary",
        "process.process.environment[KEY]",
        "process.parent.arguments",
        "process.ancestors[0].cwd",
        "process.arguments[0]",
    ]
    assert not texts_of(evaluation.event.body)


def test_roles_give_the_direction():
    body = GenAiOperation(
        messages=(
            Message(role="user", text=Sensitive("value-1")),
            Message(role="assistant", text=Sensitive("value-2")),
            Message(role="tool", text=Sensitive("value-3")),
        )
    )
    evaluation = engine().evaluate(Event(id="1", source="t", body=body))
    assert [(finding.role, finding.direction) for finding in evaluation.findings] == [
        ("user", "prompt"),
        ("assistant", "completion"),
        ("tool", "prompt"),
    ]


def test_a_headers_name_is_context_for_its_value():
    detector = Words(pattern=r"(?<=authorization: )\S+")
    body = HttpActivity(headers={"authorization": Sensitive("token-1"), "accept": Sensitive("token-1")})
    evaluation = engine(detector).evaluate(Event(id="1", source="t", body=body))
    assert evaluation.event.body.headers == {"authorization": "[VALUE]", "accept": "token-1"}
    assert (evaluation.findings[0].start, evaluation.findings[0].end) == (0, 7)


def test_an_event_without_texts_is_passed_on_as_it_is():
    body = HttpActivity(method="GET", source=Endpoint(address="10.0.0.1"))
    assert with_texts(body, lambda place, text: "") is body


def test_a_value_on_a_piece_border_is_found_once():
    at = PIECE_CHARACTERS - OVERLAP_CHARACTERS - 4
    text = "x" * (at - 1) + " value-1234567 " + "y" * PIECE_CHARACTERS + " value-9"
    findings = engine().evaluate(log(text)).findings
    assert [text[finding.start : finding.end] for finding in findings] == ["value-1234567", "value-9"]


def test_text_over_the_limit_is_cut_out_and_said():
    evaluation = engine(limit=2000).evaluate(log("value-1 " + "a" * 5000 + " value-2"))
    assert evaluation.unscanned == ("text_too_long",)
    assert "value-2" not in evaluation.event.body.text
    assert evaluation.event.body.text.endswith("[UNSCANNED 4040 characters]")


def test_text_that_a_detector_gave_up_on_is_not_passed_on():
    evaluation = engine(Words(unscanned="regex_timeout")).evaluate(log("secret thing"))
    assert evaluation.unscanned == ("regex_timeout",)
    told = [one for one in evaluation.findings if one.kind == "unscanned"]
    assert [(one.entity, one.rule, one.field, one.start, one.end) for one in told] == [
        ("UNSCANNED", "regex_timeout", "log.text", 0, 12)
    ]
    assert told[0].fingerprint == ""
    assert evaluation.event.body.text == "[UNSCANNED]"


def test_personal_data_inside_a_secret_is_the_secret():
    secret = Words(pattern=r"url://\S+", kind="secret", entity="URL")
    findings = engine(secret, Words()).evaluate(log("see url://x:value-1@h now value-2")).findings
    assert [finding.entity for finding in findings] == ["URL", "VALUE"]


def test_equal_values_have_equal_fingerprints_in_every_form():
    findings = engine(Words(pattern=r"\d[\d ]+\d")).evaluate(log("4111 1111 and 41111111 and 4111 1112")).findings
    first, second, third = (finding.fingerprint for finding in findings)
    assert first == second != third


def test_fingerprints_need_the_key():
    assert fingerprint(KEY, "a@b.c", "pii") != fingerprint(b"o" * 32, "a@b.c", "pii")
    assert fingerprint(KEY, "A@b.c", "pii") == fingerprint(KEY, "a@B.C", "pii")
    assert fingerprint(KEY, "Ab", "secret") != fingerprint(KEY, "ab", "secret")


@pytest.mark.parametrize(
    ("value", "plain"),
    [("+1 (415) 555-0132", "14155550132"), ("Jane.Doe@Acme.COM", "jane.doe@acme.com"), ("10.0.0.1", "10001")],
)
def test_personal_data_is_normalised_as_people_compare_it(value, plain):
    assert normalised(value, "pii") == plain


def test_chat_history_is_scanned_once():
    detector = Words()
    cached = engine(detector, cache=ScanCache(b"c" * 32, 1_000_000))
    history = [Message(role="user", text=Sensitive(f"turn {turn} value-{turn}")) for turn in range(10)]
    for turn in range(1, 11):
        body = GenAiOperation(messages=tuple(history[:turn]))
        evaluation = cached.evaluate(Event(id=str(turn), source="t", body=body))
    assert detector.calls == 10
    assert len(evaluation.findings) == 10
    assert cached.cache.hits == 45


def test_the_cache_keeps_field_and_role_apart():
    cached = engine(cache=ScanCache(b"c" * 32, 1_000_000))
    said = (Message(role="user", text=Sensitive("value-1")), Message(role="system", text=Sensitive("value-1")))
    findings = cached.evaluate(Event(id="1", source="t", body=GenAiOperation(messages=said))).findings
    assert [finding.role for finding in findings] == ["user", "system"]


def test_the_cache_is_bounded_in_bytes_and_forgets_the_oldest():
    cache = ScanCache(b"c" * 32, 3000)
    keys = [cache.key_of(f"text {number}", "log") for number in range(10)]
    for key in keys:
        cache.put(key, Scanned("m" * 100, (), ""))
    assert cache.size_bytes <= 3000
    assert cache.get(keys[0]) is None
    assert cache.get(keys[-1]) is not None


def test_the_cache_holds_no_original_text():
    cache = ScanCache(b"c" * 32, 100_000)
    engine(cache=cache).evaluate(log("a value-17 b"))
    held = [entry.masked for entry in cache._entries.values()]
    assert held == ["a [VALUE] b"]


class Breaking:
    """A detector that fails on some texts."""

    name = "breaking"
    kind = "pii"

    def scan(self, text, direction):
        if "boom" in text:
            raise KeyError("a recogniser's own bug")
        return Scan(())


def test_a_detector_that_fails_hides_its_text_and_not_the_event():
    judge = Saying()
    evaluation = engine(Breaking(), Words(), judge=judge).evaluate(log("boom value-1"))
    assert evaluation.unscanned == ("detector_failed",)
    assert evaluation.event.body.text == "[UNSCANNED]"
    assert evaluation.violations


def test_a_value_right_after_a_piece_border_keeps_its_left_context():
    detector = Words(pattern=r"(?<=password=)\S+")
    step = PIECE_CHARACTERS - OVERLAP_CHARACTERS
    for shift in (-3, 0, 3):
        text = "x " * ((step + shift - 9) // 2)
        text += " " * (step + shift - 9 - len(text)) + "password=hunter2-hunter2 " + "y " * step
        assert "hunter2" not in engine(detector).evaluate(log(text)).event.body.text


def test_a_value_cut_by_the_limit_is_not_half_shown():
    evaluation = engine(Words(pattern=r"token-\w{20}"), limit=2000).evaluate(log("a " * 995 + "token-" + "s" * 20))
    assert "token" not in evaluation.event.body.text


def test_a_text_that_looks_like_a_label_has_a_cache_entry_of_its_own():
    cached = engine(Words(pattern=r"(?<=authorization: )\S+"), cache=ScanCache(b"c" * 32, 100_000))
    cached.evaluate(log("authorization\0token-1"))
    body = HttpActivity(headers={"authorization": Sensitive("token-1")})
    assert cached.evaluate(Event(id="1", source="t", body=body)).event.body.headers == {"authorization": "[VALUE]"}


def test_a_maps_key_is_a_text_too_when_it_is_no_plain_name():
    body = HttpActivity(headers={"x-value-1755": Sensitive("a"), "accept": Sensitive("b")})
    evaluation = engine().evaluate(Event(id="1", source="t", body=body))
    assert evaluation.event.body.headers == {"x-[VALUE]": "a", "accept": "b"}
    assert [finding.field for finding in evaluation.findings] == ["http.headers[key]"]


def test_names_that_someone_gave_are_scanned_too():
    body = GenAiOperation(request_model="value-17 model of someone", provider="acme")
    resource = Resource(namespace="value-123456", pod="bot-0", labels={"team": "value-99 and a longer text"})
    evaluation = engine().evaluate(Event(id="1", source="t", body=body, resource=resource))
    assert evaluation.event.body.request_model == "[VALUE] model of someone"
    assert evaluation.event.resource.namespace == "[VALUE]"
    assert evaluation.event.resource.labels == {"team": "[VALUE] and a longer text"}
    assert evaluation.event.body.provider == "acme"

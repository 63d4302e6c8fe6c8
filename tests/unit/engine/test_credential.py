"""agent.engine.evaluate, .texts: a credential is masked for where it stands, and detectors are warm before the first text."""

import re

import pytest

from agent.engine.cache import ScanCache
from agent.engine.contracts import Scan
from agent.engine.evaluate import Engine
from agent.engine.fingerprint import fingerprint
from agent.engine.texts import CREDENTIAL, texts_of
from agent.model import Event, GenAiOperation, Match, Message, Resource, Sensitive

KEY = b"k" * 32


class Recorder:
    """Keeps what it is asked to scan."""

    name, kind = "recorder", "secret"

    def __init__(self, pattern=r"\bsk-\w+", fails=False):
        self.seen = []
        self.prepared = []
        self._pattern = re.compile(pattern)
        self._fails = fails

    def prepare(self, texts):
        self.prepared += texts

    def scan(self, text, direction):
        self.seen.append((text, direction))
        if self._fails:
            raise RuntimeError("hostile text")
        return Scan([Match("KEY", m.start(), m.end(), 0.9) for m in self._pattern.finditer(text)])


class Judge:
    digest = "d"

    def __init__(self):
        self.seen = []

    def judge(self, event, findings):
        self.seen.append((event, tuple(findings)))
        return ()


def engine(detector=None, **more):
    return Engine(text_detectors=[detector or Recorder()], fingerprint_key=KEY, **more)


def operation(credential, *texts):
    messages = tuple(Message(role="user", text=Sensitive(one)) for one in texts)
    body = GenAiOperation(credential=Sensitive(credential), messages=messages)
    return Event(id="1", source="ebpf", body=body, resource=Resource(namespace="rag"))


@pytest.mark.parametrize("value", ["sk-abc", "hello", "x", "Bearer of bad news", "a b", "é" * 10, "x" * 100_000])
def test_a_credential_is_masked_whatever_it_looks_like(value):
    evaluation = engine().evaluate(operation(value))
    (finding,) = evaluation.findings
    assert evaluation.event.body.credential == "[CREDENTIAL]"
    assert (finding.kind, finding.entity, finding.field, finding.direction) == (
        "secret",
        "CREDENTIAL",
        CREDENTIAL,
        "network",
    )
    assert (finding.start, finding.end, finding.length) == (0, len(value), len(value))
    assert finding.fingerprint == fingerprint(KEY, value, "secret")
    assert value not in repr(evaluation) or len(value) < 3


def test_the_judge_sees_the_finding_and_not_the_key():
    judge = Judge()
    engine(judge=judge).evaluate(operation("sk-very-secret"))
    event, findings = judge.seen[0]
    assert event.body.credential == "[CREDENTIAL]"
    assert [one.entity for one in findings] == ["CREDENTIAL"]
    assert texts_of(event.body) == []


def test_no_credential_is_no_finding():
    assert engine().evaluate(Event(id="1", source="t", body=GenAiOperation())).findings == ()


def test_a_credential_is_not_given_to_detectors():
    detector = Recorder()
    engine(detector).evaluate(operation("sk-abc"))
    assert [text for text, _ in detector.seen if "sk-abc" in text] == []


def test_the_same_key_in_a_prompt_has_the_same_fingerprint_and_another_direction():
    evaluation = engine().evaluate(operation("sk-abc", "my key is sk-abc"))
    by_entity = {one.entity: one for one in evaluation.findings}
    assert by_entity["KEY"].direction == "prompt"
    assert by_entity["CREDENTIAL"].direction == "network"
    assert by_entity["KEY"].fingerprint == by_entity["CREDENTIAL"].fingerprint


def test_a_credential_goes_into_no_cache():
    cache = ScanCache(b"c" * 32, 1024 * 1024)
    made = engine(cache=cache)
    first, second = made.evaluate(operation("sk-abc")), made.evaluate(operation("sk-xyz"))
    assert first.findings[0].fingerprint != second.findings[0].fingerprint
    assert first.event.body.credential == second.event.body.credential == "[CREDENTIAL]"


def test_the_field_s_name_elsewhere_is_a_text_like_any_other():
    body = GenAiOperation(messages=(Message(role="user", text=Sensitive("genai.credential")),))
    evaluation = engine().evaluate(Event(id="1", source="t", body=body))
    assert evaluation.event.body.messages[0].text == "genai.credential"


# ---------------------------------------------------------------------- warm


def test_warming_scans_in_every_direction():
    detector = Recorder()
    engine(detector).warm()
    directions = {direction for _, direction in detector.seen}
    assert {"prompt", "completion", "log", "process", "file", "network", "other"} <= directions


def test_warming_a_detector_that_fails_does_not_fail():
    engine(Recorder(fails=True)).warm()


def test_warming_changes_no_evaluation():
    cold, warm = engine(), engine()
    warm.warm()
    warm.warm()
    assert cold.evaluate(operation("sk-abc", "sk-def")) == warm.evaluate(operation("sk-abc", "sk-def"))

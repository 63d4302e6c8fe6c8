"""The nouns: agent.model.sensitive, .event, .body, .evaluation, .finding, .outcome, .resource, .result."""

import copy
import json
import pickle

import pytest

from agent.model.body import EVENT_CLASSES, LogRecord, ProcessActivity, class_of
from agent.model.body import Process as ProcessPart
from agent.model.evaluation import Evaluation, evaluation_json
from agent.model.event import Event, event_id
from agent.model.finding import Finding
from agent.model.generations import Generations
from agent.model.outcome import Outcome, worst
from agent.model.resource import Resource
from agent.model.result import PolicyResult
from agent.model.sensitive import Sensitive

SECRET = "jane.doe@acme.com"


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{!r:>40}".format, lambda value: f"{value}"])
def test_sensitive_text_never_prints(show):
    assert SECRET not in show(Sensitive(SECRET))


def test_sensitive_text_shows_its_length():
    assert repr(Sensitive(SECRET)) == "Sensitive(17 characters)"


def test_sensitive_text_hides_inside_an_event():
    event = Event(id="1", source="x", body=LogRecord(text=Sensitive(SECRET)))
    assert SECRET not in repr(event)


def test_sensitive_text_is_not_pickled_or_deep_copied_away():
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Sensitive(SECRET))
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(Sensitive(SECRET))


def test_sensitive_texts_are_equal_by_content_but_not_to_plain_text():
    assert Sensitive("a") == Sensitive("a")
    assert hash(Sensitive("a")) == hash(Sensitive("a"))
    assert Sensitive("a") != "a"


def test_an_unmasked_evaluation_is_not_written():
    evaluation = Evaluation(event=Event(id="1", source="x", body=LogRecord(text=Sensitive(SECRET))))
    with pytest.raises(TypeError, match="only masked"):
        evaluation_json(evaluation)


def test_a_masked_evaluation_is_written_the_same_each_time():
    evaluation = Evaluation(event=Event(id="1", source="x", body=LogRecord(text="[EMAIL_ADDRESS]")))
    first = evaluation_json(evaluation)
    assert first == evaluation_json(evaluation)
    assert json.loads(first)["event"]["body"] == {"class": "log", "text": "[EMAIL_ADDRESS]"}


def test_every_body_has_its_own_class_name():
    assert len(set(EVENT_CLASSES.values())) == len(EVENT_CLASSES)
    assert class_of(ProcessActivity(action="exec", process=ProcessPart())) == "process"


def test_event_ids_depend_on_every_part_and_its_place():
    assert event_id(b"a", b"b") == event_id(b"a", b"b")
    assert event_id(b"a", b"b") != event_id(b"ab", b"")
    assert len(event_id(b"")) == 32


@pytest.mark.parametrize(
    ("outcomes", "merged"),
    [
        ([], Outcome.DELIVERED),
        ([Outcome.DELIVERED, Outcome.DROPPED], Outcome.DROPPED),
        ([Outcome.REJECTED, Outcome.DROPPED], Outcome.REJECTED),
        ([Outcome.ERRORED, Outcome.REJECTED], Outcome.ERRORED),
    ],
)
def test_outcomes_merge_by_worst_of(outcomes, merged):
    assert worst(outcomes) is merged


def test_only_an_errored_outcome_holds_a_checkpoint():
    assert [outcome for outcome in Outcome if not outcome.may_checkpoint] == [Outcome.ERRORED]


@pytest.mark.parametrize(
    ("resource", "place"),
    [
        (Resource(namespace="n", pod="p", container="c"), "n/p/c"),
        (Resource(node="node-1"), "node-1"),
        (Resource(), "unknown"),
    ],
)
def test_a_resource_says_its_place(resource, place):
    assert resource.place == place


def test_a_pass_alone_is_not_notable():
    event = Event(id="1", source="x", body=LogRecord(text=""))
    passed = PolicyResult(policy="p", rule="r", status="pass")
    failed = PolicyResult(policy="p", rule="r", status="fail")
    found = Finding(kind="pii", entity="X", detector="d", score=1.0)
    assert not Evaluation(event=event, results=(passed,)).is_notable
    assert Evaluation(event=event, results=(failed,)).violations == (failed,)
    assert Evaluation(event=event, findings=(found,)).is_notable
    assert Evaluation(event=event, unscanned=("text_too_long",)).is_notable


def test_generations_forget_what_nobody_asks_for():
    """agent.model.generations"""
    known = Generations(3)
    for number in range(3):
        known.put(number, f"v{number}")
    known.put(0, "again")  # in place: nothing is forgotten by it
    assert (len(known), known.get(0), known.get(1)) == (3, "again", "v1")
    known.put(3, "v3")  # the young ones are old now
    assert known.get(0) == "again"  # asked for: young again
    known.put(4, "v4")
    known.put(5, "v5")
    assert [known.get(number) for number in range(3)] == ["again", None, None]
    for number in range(100, 200):
        known.put(number, "x")
    assert len(known) <= 6

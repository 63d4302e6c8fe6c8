"""agent.engine.memory: a process that comes again is masked once, and its findings are told in each place."""

import pytest

from agent.engine import Engine, Scan
from agent.engine.memory import MaskMemory
from agent.engine.texts import _IDENTIFIERS as IDENTIFIERS
from agent.model import (
    EVENT_CLASSES,
    Endpoint,
    Event,
    FileActivity,
    Match,
    Message,
    Process,
    ProcessActivity,
    Resource,
    Sensitive,
)


class Words:
    name, kind = "words", "pii"

    def __init__(self):
        self.scans = 0

    def scan(self, text, direction):
        self.scans += 1
        at = text.find("jane@example.com")
        return Scan([Match("EMAIL_ADDRESS", at, at + 16, 1.0)] if at >= 0 else [])


def engine():
    words = Words()
    return words, Engine(text_detectors=[words], fingerprint_key=bytes(32))


LEAK = Process(pid=7, binary=Sensitive("/bin/curl"), arguments=Sensitive("-d jane@example.com"))


def test_findings_are_told_where_the_process_stands_each_time():
    words, one = engine()
    shell = Process(pid=8, binary=Sensitive("/bin/sh"))
    first = one.evaluate(Event(id="1", source="s", body=ProcessActivity(action="exec", process=LEAK, parent=shell)))
    scans = words.scans
    second = one.evaluate(
        Event(id="2", source="s", body=ProcessActivity(action="exec", process=shell, parent=LEAK, ancestors=(LEAK,)))
    )
    assert words.scans == scans  # nothing was scanned again
    assert [finding.field for finding in first.findings] == ["process.process.arguments"]
    assert [finding.field for finding in second.findings] == [
        "process.parent.arguments",
        "process.ancestors[0].arguments",
    ]
    assert second.event.body.parent is first.event.body.process
    assert "jane" not in str(second)


def test_another_direction_is_worked_out_anew():
    words, one = engine()
    one.evaluate(Event(id="1", source="s", body=ProcessActivity(action="exec", process=LEAK)))
    scans = words.scans
    found = one.evaluate(Event(id="2", source="s", body=FileActivity(action="read", path="", process=LEAK))).findings
    assert words.scans > scans
    assert [(finding.field, finding.direction) for finding in found] == [("file.process.arguments", "file")]


def test_a_resource_is_remembered_too():
    words, one = engine()
    owner = Resource(namespace="llm", pod="p", labels={"owner": "jane@example.com"})
    for number in range(3):
        evaluation = one.evaluate(
            Event(id=str(number), source="s", body=ProcessActivity(action="exit", process=Process()), resource=owner)
        )
        assert [finding.field for finding in evaluation.findings] == ["resource.labels[*]"]
        assert "jane" not in str(evaluation.event.resource)
    assert words.scans == 1


def test_equal_is_not_the_same_and_memory_is_bounded():
    memory = MaskMemory(most=3)
    made = []
    for number in range(20):
        process = Process(pid=1)
        memory.masked(process, "p", "process", [], lambda own, number=number: made.append(number))
    assert made == list(range(20))
    assert len(memory._known) <= 6


PLANT = "jane@example.com"


def planted(struct):
    """A struct with the plant in every field that may hold a workload's words, and how often it is in there."""
    import typing

    hints = typing.get_type_hints(struct)
    values, count = {}, 0
    for name in struct.__struct_fields__:
        kind = str(hints[name])
        if (name in IDENTIFIERS and "Endpoint" not in kind) or "Literal" in kind:
            continue
        if "Sensitive" in kind and "dict" not in kind:
            values[name], count = ((Sensitive(PLANT),) if "tuple" in kind else Sensitive(PLANT)), count + 1
        elif "dict" in kind:
            values[name], count = {"key": Sensitive(PLANT) if "Sensitive" in kind else PLANT}, count + 1
        elif kind == "<class 'str'>":
            values[name], count = PLANT, count + 1
        elif kind == "tuple[str, ...]":
            values[name], count = (PLANT,), count + 1
        elif kind.endswith("Endpoint'>"):
            values[name], inner = planted(Endpoint)
            count += inner
        elif "body.Process" in kind and "Activity" not in kind:
            one, inner = planted(Process)
            values[name], count = ((one,) if "tuple" in kind else one), count + inner
        elif "body.Message" in kind:
            values[name], count = (Message(role="user", text=Sensitive(PLANT)),), count + 1
    for name in struct.__struct_fields__:
        if name == "action":
            values[name] = "other"
    return struct(**values), count


@pytest.mark.parametrize("name", EVENT_CLASSES)
def test_a_value_in_any_field_of_any_body_is_found_and_masked(name):
    _, one = engine()
    body, count = planted(EVENT_CLASSES[name])
    evaluation = one.evaluate(Event(id="1", source="s", body=body))
    assert PLANT not in str(evaluation.event)
    assert len(evaluation.findings) == count

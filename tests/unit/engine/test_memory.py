"""agent.engine.memory: a process that comes again is masked once, and its findings are told in each place."""

from agent.engine import Engine, Scan
from agent.engine.memory import MaskMemory
from agent.model import Event, FileActivity, Match, Process, ProcessActivity, Resource, Sensitive


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
    assert len(memory._young) + len(memory._old) <= 6

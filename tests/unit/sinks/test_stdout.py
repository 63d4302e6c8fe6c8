"""agent.sinks.stdout: .config, .sink, .table, .ocsf."""

import io
import json

import pytest

from agent.model import Event, Finding, LogRecord, PolicyResult, Resource
from agent.model.evaluation import Evaluation
from agent.plugins import Surroundings
from agent.sinks.stdout import SPEC
from agent.sinks.stdout.config import StdoutConfig
from agent.sinks.stdout.ocsf import ocsf_findings
from agent.sinks.stdout.sink import StdoutSink
from agent.sinks.stdout.table import rows

EVENT = Event(
    id="e" * 32,
    source="cri",
    body=LogRecord(text="[EMAIL_ADDRESS]"),
    resource=Resource(node="n", namespace="ns", pod="p", pod_uid="u", container="c", image="i"),
    time_unix_nano=1_700_000_000_123_000_000,
)
FAILED = PolicyResult(
    policy="pii-in-logs", rule="r", status="fail", message="holds\x1b[31m EMAIL", severity="high", category="C", controls=("GDPR Art.9",)
)  # fmt: skip
PASSED = PolicyResult(policy="p", rule="q", status="pass")
FOUND = Finding(kind="pii", entity="EMAIL_ADDRESS", detector="pii", score=0.9, field="log.text", end=9, fingerprint="f")


def test_a_row_tells_when_how_bad_and_what_and_cannot_steer_the_terminal():
    (row,) = rows(Evaluation(event=EVENT, results=(FAILED, PASSED)), color=False)
    assert row == "22:13:20 high     pii-in-logs/r fail: holds [31m EMAIL"


def test_findings_without_a_result_are_told_too():
    (row,) = rows(Evaluation(event=EVENT, findings=(FOUND, FOUND)), color=False)
    assert row == "22:13:20 finding  log of ns/p/c holds EMAIL_ADDRESS x2"


def test_unscanned_parts_are_told_and_passes_are_not():
    assert (
        "was not scanned: text_too_long" in rows(Evaluation(event=EVENT, unscanned=("text_too_long",)), color=False)[0]
    )
    assert rows(Evaluation(event=EVENT, results=(PASSED,)), color=False) == []


def test_colours_only_on_request():
    (row,) = rows(Evaluation(event=EVENT, results=(FAILED,)), color=True)
    assert "\x1b[1;31mhigh" in row


def test_ocsf_has_what_the_schema_requires():
    (document,) = ocsf_findings(Evaluation(event=EVENT, results=(FAILED, PASSED), findings=(FOUND,)))
    assert document["class_uid"] == 2006
    assert document["type_uid"] == 200601
    assert document["category_uid"] == 2
    assert document["activity_id"] == 1
    assert document["severity_id"] == 4
    assert document["time"] == 1_700_000_000_123
    assert document["metadata"]["version"] == "1.8.0"
    assert document["metadata"]["product"]["name"] == "Reeve"
    assert document["finding_info"]["uid"]
    assert document["evidences"][0]["data"]["fingerprint"] == "f"
    assert document["compliance"]["control"] == "GDPR Art.9"


def test_ocsf_without_data_is_a_detection():
    (document,) = ocsf_findings(Evaluation(event=EVENT, results=(FAILED,)))
    assert document["class_uid"] == 2004
    assert document["evidences"]


def test_equal_violations_have_equal_uids():
    first, second = (ocsf_findings(Evaluation(event=EVENT, results=(FAILED,)))[0] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("output", "every", "count"), [("table", False, 1), ("json", False, 1), ("json", True, 2), ("ocsf", False, 1)]
)
async def test_formats(output, every, count):
    stream = io.StringIO()
    sink = StdoutSink(StdoutConfig(format=output, all=every), "stdout", stream)
    await sink.write([Evaluation(event=EVENT, results=(FAILED,)), Evaluation(event=EVENT, results=(PASSED,))])
    lines = stream.getvalue().splitlines()
    assert len(lines) == count
    if output != "table":
        assert [json.loads(line) for line in lines]


def test_the_plugin_builds_a_sink(tmp_path):
    assert SPEC.build(StdoutConfig(), "out", Surroundings(node="n", state_dir=tmp_path, rules=())).name == "out"

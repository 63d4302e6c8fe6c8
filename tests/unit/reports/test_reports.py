"""agent.reports: .aggregate, .document, .config; checked against the CRD where it is at hand."""

import asyncio
import json
import tarfile

import jsonschema
import pytest
import yaml

from agent.model import Evaluation, Event, Finding, LogRecord, PolicyResult, Resource
from agent.plugins import Surroundings
from agent.reports import SPEC
from agent.reports.aggregate import Aggregate
from agent.reports.config import PolicyReportConfig
from agent.reports.document import FOLDED, report, report_name

POD = Resource(node="n", namespace="ns", pod="p", pod_uid="0a-1b", container="c")
FOUND = Finding(kind="pii", entity="EMAIL_ADDRESS", detector="pii", score=0.9)
SECOND = 1_000_000_000


def evaluation(*results, resource=POD, at=1_700_000_000, findings=(FOUND,), complete=True):
    event = Event(id="1", source="cri", body=LogRecord(text=""), resource=resource, time_unix_nano=at * SECOND + 5)
    return Evaluation(
        event=event, results=results, findings=findings, policy_digest="d" * 64, is_window_complete=complete
    )


def result(status="fail", policy="p", rule="r", severity="high", message="m"):
    return PolicyResult(policy=policy, rule=rule, status=status, severity=severity, message=message, controls=("A",))


def document(*evaluations, limit=256 * 1024):
    aggregate = Aggregate()
    for one in evaluations:
        aggregate.add(one, 0)
    (subject,) = aggregate.subjects.values()
    return report(subject, limit)


def test_results_are_folded_and_counted_with_first_and_last_time():
    made = document(
        evaluation(result(), at=100), evaluation(result(), at=300), evaluation(result(), at=200, complete=False)
    )
    (one,) = made["results"]
    assert one["timestamp"] == {"seconds": 300, "nanos": 5}
    assert one["properties"]["count"] == "3"
    assert one["properties"]["firstSeen"] == "1970-01-01T00:01:40.000000005Z"
    assert one["properties"]["entities"] == "EMAIL_ADDRESS"
    assert one["properties"]["windowComplete"] == "false"
    assert made["summary"] == {"pass": 0, "fail": 1, "warn": 0, "error": 0, "skip": 0}


def test_a_report_is_owned_by_its_pod():
    made = document(evaluation(result()))
    assert made["metadata"]["name"] == "reeve-0a-1b"
    assert made["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "0a-1b"}]
    assert made["scope"]["uid"] == "0a-1b"
    assert made["metadata"]["annotations"]["reeve.dev/policy-digest"] == "d" * 64


def test_what_has_no_pod_is_the_nodes():
    made = document(evaluation(result(), resource=Resource(node="Node_1")))
    assert (made["kind"], made["metadata"]["name"]) == ("ClusterPolicyReport", "reeve-node-node-1")
    assert made["scope"] == {"apiVersion": "v1", "kind": "Node", "name": "Node_1"}


def test_a_pod_without_uid_has_a_stable_name_and_no_owner():
    made = document(evaluation(result(), resource=Resource(namespace="ns", pod="p")))
    assert "ownerReferences" not in made["metadata"]
    assert made["metadata"]["name"].startswith("reeve-")


def test_different_results_have_different_ids_and_equal_ones_the_same():
    first = document(evaluation(result(rule="a"), result(rule="b")))
    ids = [one["properties"]["resultID"] for one in first["results"]]
    again = document(evaluation(result(rule="a"), result(rule="b"), at=9))
    assert len(set(ids)) == 2
    assert ids == [one["properties"]["resultID"] for one in again["results"]]


def test_skips_are_not_kept():
    aggregate = Aggregate()
    aggregate.add(evaluation(result("skip")), 0)
    assert not aggregate.subjects


def test_a_report_is_bounded_in_bytes_and_keeps_what_is_worst():
    low = [result(policy=f"low-{number}", severity="low", message="x" * 600) for number in range(40)]
    made = document(evaluation(*low, result(policy="worst", severity="critical")), limit=8 * 1024)
    assert len(json.dumps(made)) < 8 * 1024 * 1.2
    assert "worst" in [one["policy"] for one in made["results"]]
    (folded,) = [one for one in made["results"] if one["policy"] == FOLDED]
    assert int(folded["properties"]["results"]) == 41 - (len(made["results"]) - 1) == int(folded["properties"]["count"])
    assert made["summary"]["fail"] == 41
    assert max(len(one["message"]) for one in made["results"]) <= 512


def test_subjects_are_bounded():
    aggregate = Aggregate(limit=3)
    for number in range(5):
        aggregate.add(evaluation(result(), resource=Resource(namespace="ns", pod=f"p{number}")), 0)
    assert [key[1] for key in aggregate.subjects] == ["p2", "p3", "p4"]
    assert aggregate.evicted == 2


def test_every_property_is_text():
    for one in document(evaluation(result(), result("pass", rule="q")))["results"]:
        assert all(isinstance(value, str) for value in one["properties"].values())


@pytest.fixture(scope="module")
def crds(shared):
    with tarfile.open(shared / "reports" / "sample-reports.tar.xz") as archive:
        schemas = {}
        for member in archive.getmembers():
            if "crds/wgpolicyk8s" in member.name:
                crd = next(one for one in yaml.safe_load_all(archive.extractfile(member).read()) if one)
                version = next(one for one in crd["spec"]["versions"] if one["name"] == "v1alpha2")
                schemas[crd["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    return schemas


def closed(schema):
    """The schema with unknown fields refused, as the API server prunes them silently."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            closed(value)
    return schema


def test_reports_fit_the_crd(crds):
    pod = document(evaluation(result(), result("pass", rule="q"), result("error", rule="e")))
    node = document(evaluation(result("warn"), resource=Resource(node="n")))
    for made in (pod, node):
        schema = closed(crds[made["kind"]])
        schema["properties"]["metadata"] = {"type": "object"}
        jsonschema.validate(made, schema)


async def test_reports_are_written_whole_and_only_when_changed(tmp_path):
    surroundings = Surroundings(node="n", state_dir=tmp_path, rules=())
    sink = SPEC.build(PolicyReportConfig(flush_seconds=0.05), "policyreport", surroundings)
    await sink.open()
    await sink.write([evaluation(result())])
    await asyncio.sleep(0.2)
    path = tmp_path / "reports" / "ns_reeve-0a-1b.yaml"
    before = path.stat().st_mtime_ns
    await asyncio.sleep(0.2)
    assert path.stat().st_mtime_ns == before
    await sink.write([evaluation(result(rule="more"))])
    await sink.close()
    assert len(yaml.safe_load(path.read_text())["results"]) == 2
    assert not list(path.parent.glob("*.tmp"))


def test_names_are_allowed_by_kubernetes():
    aggregate = Aggregate()
    aggregate.add(evaluation(result(), resource=Resource(namespace="n", pod="p", pod_uid="A_B/../x")), 0)
    (subject,) = aggregate.subjects.values()
    assert report_name(subject) == "reeve-a-b----x"


def test_the_plugin_builds_a_sink(tmp_path):
    built = SPEC.build(SPEC.config(), "policyreport", Surroundings(node="n", state_dir=tmp_path, rules=()))
    assert built.directory == tmp_path / "reports"

"""agent.reports: .sink, .writing, .journal: flushing, failing, adopting, and what a killed agent still tells."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from agent.config import Problems
from agent.model import Evaluation, Event, Finding, LogRecord, PolicyResult, Resource
from agent.plugins import ClusterError, Surroundings
from agent.reports import SPEC
from agent.reports.aggregate import Aggregate
from agent.reports.config import PolicyReportConfig
from agent.reports.document import FOLDED
from agent.reports.journal import Journal, lines_of, replayed

SECRET = "jane.doe@acme.example"


def pod(number=0):
    return Resource(node="n1", namespace="ns", pod=f"p{number}", pod_uid=f"uid-{number}", container="c")


def evaluation(resource=None, status="fail", rule="r", at=1_700_000_000, message="log of ns/p holds [EMAIL_ADDRESS]"):
    found = Finding(kind="pii", entity="EMAIL_ADDRESS", detector="pii", score=0.9)
    event = Event(
        id="1", source="cri", body=LogRecord(text=""), resource=resource or pod(), time_unix_nano=at * 1_000_000_000
    )
    result = PolicyResult(policy="pii", rule=rule, status=status, severity="high", message=message)
    return Evaluation(event=event, results=(result,), findings=(found,), policy_digest="d" * 64)


class Server:
    """An API server that keeps what it is given, or answers with the errors that were laid out for it."""

    def __init__(self):
        self.objects = {}
        self.calls = []
        self.errors = []
        self.refuse = None

    def call(self, method, path, *, query=None, body=None, content_type="application/json"):
        self.calls.append((method, path))
        if self.errors:
            raise self.errors.pop(0)
        if self.refuse and (error := self.refuse(method, path, body)):
            raise error
        if path.startswith("/api/v1/nodes/"):
            return {"metadata": {"uid": "node-uid"}}
        if method == "GET":
            kind = path.rpartition("/")[2]
            return {"items": [one for key, one in self.objects.items() if f"/{kind}/" in key], "metadata": {}}
        assert (method, content_type) == ("PATCH", "application/apply-patch+yaml")
        assert query == {"fieldManager": "reeve", "force": "true"}
        self.objects[path] = json.loads(json.dumps(body))
        return body

    @property
    def patches(self):
        return [path for method, path in self.calls if method == "PATCH"]


def sink_of(tmp_path, server, *, identify=None, **config):
    surroundings = Surroundings(node="n1", state_dir=tmp_path, rules=(), cluster=server, identify=identify)
    settings = PolicyReportConfig(**{"flush_seconds": 0.03, "writes_per_second": 100_000, **config})
    return SPEC.build(settings, "policyreport", surroundings)


async def until(holds):
    for _ in range(300):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


PATH = "/apis/wgpolicyk8s.io/v1alpha2/namespaces/ns/policyreports/reeve-uid-0"


async def test_a_pods_report_is_applied_once_for_many_violations(tmp_path):
    server = Server()
    sink = sink_of(tmp_path, server, flush_seconds=0.2)
    await sink.open()
    for _ in range(500):
        await sink.write([evaluation(pod(number)) for number in range(20)])
    await sink.close()
    assert len(server.patches) <= 40  # one for each pod at the timer, and one at the end
    made = server.objects[PATH]
    assert made["results"][0]["properties"]["count"] == "500"
    assert made["metadata"]["labels"]["reeve.dev/node"] == "n1"
    assert SECRET not in json.dumps(list(server.objects.values()))


async def test_reports_of_openreports_have_their_own_kind_and_source(tmp_path):
    server = Server()
    sink = sink_of(tmp_path, server, api="openreports")
    await sink.open()
    await sink.write([evaluation(), evaluation(Resource(node="n1"))])
    await sink.close()
    made = server.objects["/apis/openreports.io/v1alpha1/namespaces/ns/reports/reeve-uid-0"]
    assert (made["kind"], made["source"]) == ("Report", "reeve")
    node = server.objects["/apis/openreports.io/v1alpha1/clusterreports/reeve-node-n1"]
    assert (node["kind"], node["metadata"]["ownerReferences"][0]["uid"]) == ("ClusterReport", "node-uid")


async def test_a_restart_adopts_the_reports_that_are_there(tmp_path):
    server = Server()
    first = sink_of(tmp_path / "one", server)
    await first.open()
    await first.write([evaluation(), evaluation(rule="other", at=1_600_000_000)])
    await first.close()
    second = sink_of(tmp_path / "two", server)
    await second.open()
    await second.write([evaluation(at=1_800_000_000)])
    await second.close()
    results = {one["rule"]: one["properties"] for one in server.objects[PATH]["results"]}
    assert results["r"]["count"] == "2"
    assert results["r"]["firstSeen"].startswith("2023-11-14")
    assert results["r"]["lastSeen"].startswith("2027")
    assert results["other"]["count"] == "1"


async def test_what_was_folded_before_a_restart_stays_counted(tmp_path):
    server = Server()
    first = sink_of(tmp_path / "one", server, report_bytes=4096)
    await first.open()
    await first.write([evaluation(rule=f"rule-{number:02}") for number in range(30)])
    await first.close()
    second = sink_of(tmp_path / "two", server, report_bytes=4096)
    await second.open()
    await second.write([evaluation(rule="rule-99")])
    await second.close()
    results = server.objects[PATH]["results"]
    folded = [one for one in results if one["policy"] == FOLDED]
    assert sum(int(one["properties"]["results"]) for one in folded) + len(results) - len(folded) == 31
    assert server.objects[PATH]["summary"]["fail"] == 31


async def test_an_agent_that_is_killed_tells_after_its_restart_and_counts_nothing_twice(tmp_path):
    server = Server()
    killed = sink_of(tmp_path, server, flush_seconds=60)
    await killed.open()
    await killed.write([evaluation()] * 3)
    killed._flushing.cancel()  # kill -9: no close
    assert not server.patches
    again = sink_of(tmp_path, server)
    await again.open()
    await until(lambda: server.patches)
    assert server.objects[PATH]["results"][0]["properties"]["count"] == "3"
    await again.close()
    third = sink_of(tmp_path, server)
    await third.open()
    await third.close()
    assert server.objects[PATH]["results"][0]["properties"]["count"] == "3"
    assert not list((tmp_path / "reports").glob("journal*"))


def test_a_journal_is_read_twice_without_harm_and_survives_a_cut_line(tmp_path):
    aggregate = Aggregate()
    told = aggregate.add(evaluation(), 0) + aggregate.add(evaluation(), 0)
    journal = Journal(tmp_path)
    lines = lines_of(told)
    assert lines.count(b"\n") == 1
    assert journal.append(lines)
    journal.begin_flush()
    assert journal.append(lines)
    journal.begin_flush()  # the flush before was not done: both stand together
    assert journal.append(lines + lines[:20])
    read = list(journal.read())
    assert [line.state.count for line in read] == [2, 2, 2]
    restored = Aggregate()
    replayed(read, restored)
    (subject,) = restored.subjects.values()
    assert [state.count for state in subject.results.values()] == [2]
    journal.rewrite(lines)
    assert len(list(journal.read())) == 1


def test_what_runs_saw_before_they_knew_the_reports_is_added_up(tmp_path):
    journal = Journal(tmp_path)
    for run, times in (("", 5), ("b", 2), ("b", 3), ("c", 4)):
        aggregate = Aggregate()
        told = [one for _ in range(times) for one in aggregate.add(evaluation(), 0)]
        assert journal.append(lines_of(told, run))
    restored = Aggregate()
    replayed(journal.read(), restored)
    (subject,) = restored.subjects.values()
    (state,) = subject.results.values()
    assert (state.count, state.told, state.carried) == (5 + 3 + 4, 5, 7)
    # The report that is there says 9: four more than the journal's whole, which it was written after.
    restored.restore(pod(), replace(state, count=9))
    assert state.count == 9 + 3 + 4


def test_a_full_journal_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.reports.journal.MOST_BYTES", 10)
    assert not Journal(tmp_path).append(b"x" * 11)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ClusterError(0, "Unreachable", "https://x: Connection refused"), "down", "Connection refused"),
        (ClusterError(429, "TooManyRequests", "slow down", 0.01), "throttled", "slow down"),
        (ClusterError(403, "Forbidden", "no"), "forbidden", "give the service account"),
        (ClusterError(404, "NotFound", "the server could not find the requested resource"), "missing", "install the"),
        (ClusterError(500, "", "etcdserver: mvcc: database space exceeded"), "down", "etcd is full"),
    ],
)
async def test_a_failure_is_told_once_with_its_remedy_and_survived(tmp_path, error, kind, said, monkeypatch):
    lines = []
    monkeypatch.setattr("agent.reports.sink.log.warning", lambda text, **facts: lines.append(f"{text} {facts['why']}"))
    server = Server()
    sink = sink_of(tmp_path, server)
    await sink.open()
    await sink.write([evaluation()])
    await until(lambda: server.patches)
    server.refuse = lambda method, path, body: error if method == "PATCH" else None
    await sink.write([evaluation()])
    await until(lambda: sink.writes[kind] >= 2)
    server.refuse = None
    sink._wait_until = 0
    await until(lambda: server.objects[PATH]["results"][0]["properties"]["count"] == "2")
    await sink.close()
    (line,) = lines
    assert "cannot be written" in line
    assert said in line


async def test_nothing_is_written_before_the_old_reports_are_adopted(tmp_path):
    server = Server()
    server.errors = [ClusterError(0, "Unreachable", "no")] * 3
    sink = sink_of(tmp_path, server)
    await sink.open()
    await sink.write([evaluation()])
    await until(lambda: not server.errors or server.patches)
    assert not server.patches or not server.errors
    sink._wait_until = 0
    await until(lambda: server.patches)
    await sink.close()


@pytest.mark.parametrize(
    "error",
    [
        ClusterError(413, "RequestEntityTooLarge", "limit is 3145728"),
        ClusterError(500, "", "etcdserver: request is too large"),
        ClusterError(422, "Invalid", "metadata: Too long: must have at most 1572864 bytes"),
    ],
)
async def test_a_report_that_is_too_large_is_halved(tmp_path, error):
    server = Server()
    server.refuse = lambda method, path, body: error if body and len(json.dumps(body)) > 10_000 else None
    sink = sink_of(tmp_path, server, report_bytes=64 * 1024)
    await sink.open()
    await sink.write([evaluation(rule=f"r{number}", message="x" * 400) for number in range(60)])
    await sink.close()
    assert len(json.dumps(server.objects[PATH])) <= 10_000
    assert server.objects[PATH]["summary"]["fail"] == 60


@pytest.mark.parametrize(
    "error",
    [
        ClusterError(404, "NotFound", 'namespaces "ns" not found'),
        ClusterError(403, "Forbidden", "unable to create new content in namespace ns because it is being terminated"),
        ClusterError(422, "Invalid", "spec is wrong"),
    ],
)
async def test_one_report_that_cannot_be_written_does_not_hold_the_others(tmp_path, error):
    server = Server()
    server.refuse = lambda method, path, body: error if path.endswith("uid-0") else None
    sink = sink_of(tmp_path, server)
    await sink.open()
    await sink.write([evaluation(pod(0)), evaluation(pod(1))])
    await sink.close()
    assert [path.rpartition("/")[2] for path in server.objects] == ["reeve-uid-1"]
    assert len([path for path in server.patches if path.endswith("uid-0")]) == 1


async def test_a_conflict_is_tried_again_at_the_next_flush(tmp_path):
    server = Server()
    conflicts = [ClusterError(409, "Conflict", "the object has been modified")] * 2
    server.refuse = lambda method, path, body: conflicts.pop() if conflicts and method == "PATCH" else None
    sink = sink_of(tmp_path, server)
    await sink.open()
    await sink.write([evaluation()])
    await until(lambda: PATH in server.objects)
    await sink.close()
    assert sink.writes == {"conflict": 2, "written": 1}


async def test_a_pod_without_a_name_gets_it_before_its_report_is_written(tmp_path):
    server = Server()
    names = {}
    sink = sink_of(tmp_path, server, identify=lambda resource: names.get(resource.container_id, resource))
    await sink.open()
    unknown = Resource(node="n1", container_id="abc" * 20)
    await sink.write([evaluation(unknown), evaluation(pod())])
    await until(lambda: server.patches)
    assert list(server.objects) == [PATH]
    names["abc" * 20] = pod()
    await until(lambda: server.objects[PATH]["results"][0]["properties"]["count"] == "2")
    await sink.close()
    assert list(server.objects) == [PATH]


async def test_a_pass_seen_again_is_no_reason_to_write(tmp_path):
    server = Server()
    sink = sink_of(tmp_path, server)
    await sink.open()
    await sink.write([evaluation(status="pass")])
    await until(lambda: server.patches)
    for _ in range(5):
        await sink.write([evaluation(status="pass")])
        await asyncio.sleep(0.05)
    assert len(server.patches) == 1
    await sink.close()


def test_a_target_without_a_cluster_is_a_mistake_with_a_remedy(tmp_path):
    with pytest.raises(Problems, match="add `cluster"):
        SPEC.build(
            PolicyReportConfig(target="cluster"), "policyreport", Surroundings(node="n", state_dir=tmp_path, rules=())
        )


async def test_files_are_adopted_too(tmp_path):
    for _ in range(2):
        sink = SPEC.build(PolicyReportConfig(), "policyreport", Surroundings(node="n1", state_dir=tmp_path, rules=()))
        await sink.open()
        await sink.write([evaluation()])
        await sink.close()
    assert "count: '2'" in (tmp_path / "reports" / "ns_reeve-uid-0.yaml").read_text()

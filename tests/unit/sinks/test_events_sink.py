"""agent.sinks.events: .config, .event, .limits, .sink."""

import asyncio
import contextlib
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.config import Problems
from agent.model import Evaluation, Event, Finding, LogRecord, Outcome, PolicyResult, Resource
from agent.pipeline import SinkUnavailable
from agent.plugins import ClusterError, Surroundings
from agent.sinks.events import SPEC
from agent.sinks.events.config import EventsConfig
from agent.sinks.events.event import Involved, Series
from agent.sinks.events.limits import Limits

SECRET = "078-05-1120"
FOUND = Finding(kind="pii", entity="US_SSN", detector="pii", score=0.9)
DELIVERED, REJECTED, ERRORED = Outcome.DELIVERED, Outcome.REJECTED, Outcome.ERRORED


def pod(number=0):
    return Resource(
        node="n1", namespace="llm", pod=f"vllm-{number}", pod_uid=f"uid-{number}", container="app", labels={"n": SECRET}
    )


def evaluation(number=0, *, resource=None, rule="r", severity="high", state="fail", message="log holds [US_SSN]", at=0):
    event = Event(
        id=f"{number:032x}",
        source="cri",
        body=LogRecord(text=SECRET),  # a sink looks at no body, masked or not
        resource=resource or pod(),
        time_unix_nano=int(at * 1e9),
    )
    result = PolicyResult(policy="pii", rule=rule, status=state, severity=severity, message=message)
    return Evaluation(event=event, results=(result,), findings=(FOUND,))


class Server:
    """The events of an API server that answers as the real one, or with what was laid out for it."""

    def __init__(self):
        self.events = {}
        self.calls = []
        self.errors = []
        self.refuse = None

    def call(self, method, path, *, query=None, body=None, content_type="application/json"):
        self.calls.append((method, path, json.loads(json.dumps(body))))
        if self.errors and (error := self.errors.pop(0)):
            raise error
        if self.refuse and (error := self.refuse(method, path)):
            raise error
        assert query is None
        if method == "POST":
            assert re.fullmatch(r"/api/v1/namespaces/[a-z0-9-]+/events", path)
            name = f"{path}/{body['metadata']['name']}"
            if name in self.events:
                raise ClusterError(409, "AlreadyExists", f'events "{name}" already exists')
            self.events[name] = dict(body)
            return body
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        if path not in self.events:
            raise ClusterError(404, "NotFound", f'events "{path}" not found')
        self.events[path] |= body
        return dict(self.events[path])

    @property
    def methods(self):
        return [method for method, _, _ in self.calls]

    @property
    def counts(self):
        return [event["count"] for event in self.events.values()]


@pytest.fixture
def server():
    return Server()


@contextlib.asynccontextmanager
async def running(tmp_path, server, *, node="n1", identify=None, **settings):
    surroundings = Surroundings(node=node, state_dir=tmp_path, rules=(), cluster=server, identify=identify)
    sink = SPEC.build(EventsConfig(**settings), "events", surroundings)
    await sink.open()
    try:
        yield sink
    finally:
        await asyncio.wait_for(sink.close(), 10)


async def until(holds, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.01)


async def test_a_violation_is_a_warning_on_the_pod(tmp_path, server):
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 60))
    async with running(tmp_path, server) as sink:
        assert await sink.write([evaluation(at=now - 60)]) == [DELIVERED]
    (event,) = server.events.values()
    name = event["metadata"].pop("name")
    assert re.fullmatch(r"vllm-0\.[0-9a-f]{16}", name)
    assert event == {
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"namespace": "llm", "labels": {"app.kubernetes.io/managed-by": "reeve"}},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": "llm", "name": "vllm-0", "uid": "uid-0",
            "fieldPath": "spec.containers{app}",
        },
        "type": "Warning", "reason": "PolicyViolation", "count": 1,
        "message": "policy pii/r fail: log holds [US_SSN] (US_SSN)",
        "reportingComponent": "reeve", "reportingInstance": "n1", "source": {"component": "reeve", "host": "n1"},
        "firstTimestamp": stamp, "lastTimestamp": stamp,
    }  # fmt: skip


async def test_without_a_pod_it_is_the_node_s_in_the_namespace_default(tmp_path, server):
    async with running(tmp_path, server) as sink:
        assert await sink.write([evaluation(resource=Resource(container_id="abc"))]) == [DELIVERED]
    ((path, event),) = server.events.items()
    assert path.startswith("/api/v1/namespaces/default/events/n1.")
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1"}


async def test_names_that_became_known_are_used(tmp_path, server):
    async with running(tmp_path, server, identify=lambda resource: pod(7)) as sink:
        await sink.write([evaluation(resource=Resource(pod_uid="uid-7"))])
    assert next(iter(server.events.values()))["involvedObject"]["name"] == "vllm-7"


async def test_without_any_name_there_is_nothing_to_hang_it_on(tmp_path, server):
    async with running(tmp_path, server, node="") as sink:
        assert await sink.write([evaluation(resource=Resource())]) == [REJECTED]
    assert server.calls == []


async def test_repetitions_patch_the_same_event(tmp_path, server):
    now = time.time()
    async with running(tmp_path, server) as sink:
        await sink.write([evaluation(1, at=now - 100), evaluation(2, at=now - 90)])
        await sink.write([evaluation(3, at=now - 5, message="another")])
    assert server.methods == ["POST", "PATCH"]
    (event,) = server.events.values()
    assert event["count"] == 3
    assert event["firstTimestamp"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 100))
    assert event["lastTimestamp"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 5))
    assert event["message"] == "policy pii/r fail: another (US_SSN)"
    assert server.calls[1][2].keys() == {"count", "lastTimestamp", "message"}


async def test_other_rules_containers_and_pods_are_other_series(tmp_path, server):
    other = Resource(node="n1", namespace="llm", pod="vllm-0", pod_uid="uid-0", container="sidecar")
    again = Resource(node="n1", namespace="llm", pod="vllm-0", pod_uid="uid-0-later", container="app")
    async with running(tmp_path, server) as sink:
        await sink.write([evaluation(0), evaluation(1, rule="q"), evaluation(2, resource=other), evaluation(3, resource=again)])  # fmt: skip
    assert server.counts == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "severity", "state", "count"),
    [({}, "high", "fail", 1), ({}, "low", "fail", 0), ({}, "high", "warn", 0), ({"statuses": ["warn"]}, "high", "warn", 1)],
)  # fmt: skip
async def test_what_becomes_an_event(tmp_path, server, settings, severity, state, count):
    async with running(tmp_path, server, **settings) as sink:
        assert await sink.write([evaluation(severity=severity, state=state)]) == [DELIVERED]
    assert len(server.events) == count


async def test_an_event_tried_again_is_counted_once(tmp_path, server):
    server.errors = [ClusterError(0, "Unreachable", "refused")]
    async with running(tmp_path, server) as sink:
        batch = [evaluation(number) for number in range(3)]
        with pytest.raises(SinkUnavailable, match="Unreachable"):
            await sink.write(batch)
        assert await sink.write(batch) == [DELIVERED] * 3
        assert await sink.write(batch) == [DELIVERED] * 3
    assert server.counts == [3]
    assert server.methods == ["POST", "POST"]


async def test_an_event_that_expired_is_made_again_and_counts_on(tmp_path, server):
    async with running(tmp_path, server) as sink:
        await sink.write([evaluation(1)])
        server.events.clear()
        assert await sink.write([evaluation(2)]) == [DELIVERED]
    assert server.methods == ["POST", "PATCH", "POST"]
    assert server.counts == [2]


async def test_a_new_agent_goes_on_with_the_event_that_is_there(tmp_path, server):
    async with running(tmp_path, server) as sink:
        await sink.write([evaluation(number) for number in range(5)])
    first = next(iter(server.events.values()))["firstTimestamp"]
    async with running(tmp_path, server) as sink:
        await sink.write([evaluation(100), evaluation(101)])
        await sink.write([evaluation(102)])
    assert server.counts == [8]
    assert next(iter(server.events.values()))["firstTimestamp"] == first
    assert server.methods == ["POST", "POST", "PATCH", "PATCH", "PATCH"]


async def test_an_event_that_expires_while_it_is_adopted_says_nothing_of_its_namespace(tmp_path, server):
    server.errors = [ClusterError(409, "AlreadyExists", "m"), ClusterError(404, "NotFound", 'events "x" not found')]
    async with running(tmp_path, server) as sink:
        with pytest.raises(SinkUnavailable, match="expired"):
            await sink.write([evaluation()])
        assert await sink.write([evaluation()]) == [DELIVERED]
    assert server.methods == ["POST", "PATCH", "POST"]
    assert server.counts == [1]


@pytest.mark.parametrize(
    ("state", "kind", "reason"),
    [
        ("fail", "Warning", "PolicyViolation"),
        ("warn", "Warning", "PolicyViolation"),
        ("error", "Warning", "PolicyError"),
        ("pass", "Normal", "PolicyApplied"),
        ("skip", "Normal", "PolicySkipped"),
    ],
)
async def test_each_status_has_kyverno_s_reason(tmp_path, server, state, kind, reason):
    async with running(tmp_path, server, statuses=[state]) as sink:
        await sink.write([evaluation(state=state)])
    (event,) = server.events.values()
    assert (event["type"], event["reason"]) == (kind, reason)


async def test_a_namespace_that_is_no_name_reaches_no_other_path(tmp_path, server):
    odd = Resource(node="n1", namespace="../../nodes/n?x=\ud800", pod="p", pod_uid="u")
    server.refuse = lambda method, path: ClusterError(404, "NotFound", "m")
    async with running(tmp_path, server) as sink:
        assert await sink.write([evaluation(resource=odd)]) == [REJECTED]
    ((_, path, _),) = server.calls
    assert path == "/api/v1/namespaces/..%2F..%2Fnodes%2Fn%3Fx%3D%3F/events"


async def test_a_pod_has_a_burst_and_what_is_held_back_is_counted(tmp_path, server):
    async with running(tmp_path, server, pod_burst=5, pod_refill_seconds=0.5) as sink:
        for number in range(200):
            assert await sink.write([evaluation(number)]) == [DELIVERED]
        assert 5 <= len(server.calls) <= 7
        await until(lambda: server.counts == [200])
        assert len(server.calls) <= 9


async def test_the_usual_burst_is_client_go_s(tmp_path, server):
    async with running(tmp_path, server) as sink:
        for number in range(100):
            await sink.write([evaluation(number)])
        assert len(server.calls) == 25
        assert server.counts == [25]
    assert server.counts == [100]


async def test_a_node_has_a_burst_over_all_pods(tmp_path, server):
    async with running(tmp_path, server, node_burst=10, node_refill_seconds=3600) as sink:
        assert await sink.write([evaluation(n, resource=pod(n)) for n in range(40)]) == [DELIVERED] * 40
        assert len(server.calls) == 10
    assert len(server.events) == 20


async def test_what_is_pending_at_the_end_is_written_within_bounds(tmp_path, server):
    async with running(tmp_path, server, pod_burst=1) as sink:
        for number in range(9):
            await sink.write([evaluation(number)])
    assert server.counts == [9]


@pytest.mark.parametrize(
    "error",
    [
        ClusterError(0, "Unreachable", "Connection refused"),
        ClusterError(500, "InternalError", "etcdserver: mvcc: database space exceeded"),
        ClusterError(503, "ServiceUnavailable", "m"),
        ClusterError(429, "TooManyRequests", "m"),
        ClusterError(401, "Unauthorized", "m"),
        ClusterError(409, "Conflict", "m"),
    ],
)
async def test_what_passes_makes_the_sink_unavailable_and_costs_no_token(tmp_path, server, error):
    async with running(tmp_path, server, pod_burst=1, pod_refill_seconds=3600) as sink:
        for _ in range(3):
            server.errors = [error]
            with pytest.raises(SinkUnavailable):
                await sink.write([evaluation()])
        assert await sink.write([evaluation()]) == [DELIVERED]
        assert server.counts == [1]


async def test_a_server_that_asks_for_time_gets_it(tmp_path, server):
    server.errors = [ClusterError(429, "TooManyRequests", "m", retry_after_seconds=1)]
    async with running(tmp_path, server) as sink:
        for _ in range(5):
            with pytest.raises(SinkUnavailable):
                await sink.write([evaluation()])
        assert len(server.calls) == 1
        await asyncio.sleep(1.1)
        assert await sink.write([evaluation()]) == [DELIVERED]


async def test_a_failure_in_the_middle_keeps_what_was_written(tmp_path, server):
    server.errors = [None, None, ClusterError(503, "ServiceUnavailable", "m")]
    async with running(tmp_path, server) as sink:
        batch = [evaluation(number, resource=pod(number)) for number in range(5)]
        outcomes = await sink.write(batch)
        assert outcomes == [DELIVERED, DELIVERED, ERRORED, ERRORED, ERRORED]
        assert len(server.calls) == 3
        assert await sink.write(batch[2:]) == [DELIVERED] * 3
    assert server.counts == [1] * 5


async def test_forbidden_is_rejected_and_said_once_with_the_remedy(tmp_path, server):
    server.refuse = lambda method, path: ClusterError(403, "Forbidden", 'events is forbidden: User "x" cannot create')
    with capture_logs() as logs:
        async with running(tmp_path, server) as sink:
            for number in range(20):
                assert await sink.write([evaluation(number)]) == [REJECTED]
    assert len(server.calls) == 1
    (said,) = logs
    assert said["remedy"] == "give the service account create and patch on events of the core API group"
    assert said["namespace"] == "llm"


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('events is forbidden: User "x" cannot create resource "events"', "give the service account create and patch"),
        ("events is forbidden: exceeded quota: q, requested: count/events=1, used: 5, limited: 5", "ResourceQuota"),
        ('admission webhook "no.example" denied the request', "let admission pass Events"),
    ],
)
async def test_the_remedy_is_the_one_of_who_forbids(tmp_path, server, message, remedy):
    server.refuse = lambda method, path: ClusterError(403, "Forbidden", message)
    with capture_logs() as logs:
        async with running(tmp_path, server) as sink:
            assert await sink.write([evaluation()]) == [REJECTED]
    (said,) = logs
    assert remedy in said["remedy"]


async def test_a_namespace_that_is_allowed_does_not_suffer_from_one_that_is_not(tmp_path, server):
    server.refuse = lambda method, path: ClusterError(403, "Forbidden", "no") if "/kube-system/" in path else None
    system = Resource(node="n1", namespace="kube-system", pod="p", pod_uid="u")
    async with running(tmp_path, server) as sink:
        assert await sink.write([evaluation(1, resource=system), evaluation(2)]) == [REJECTED, DELIVERED]


@pytest.mark.parametrize(
    "error",
    [
        ClusterError(404, "NotFound", 'namespaces "llm" not found'),
        ClusterError(403, "Forbidden", 'unable to create new content in namespace llm because it is being terminated'),
    ],
)  # fmt: skip
async def test_in_a_namespace_that_is_gone_nobody_can_be_told(tmp_path, server, error):
    server.refuse = lambda method, path: error
    with capture_logs() as logs:
        async with running(tmp_path, server) as sink:
            for number in range(10):
                assert await sink.write([evaluation(number)]) == [REJECTED]
    assert len(server.calls) == 1
    assert [entry["log_level"] for entry in logs] == ["info"]


async def test_an_event_the_server_does_not_want_is_rejected(tmp_path, server):
    server.errors = [ClusterError(422, "Invalid", "m"), ClusterError(422, "Invalid", "m")]
    with capture_logs() as logs:
        async with running(tmp_path, server) as sink:
            assert await sink.write([evaluation(1)]) == [REJECTED]
            assert await sink.write([evaluation(2)]) == [REJECTED]
            assert await sink.write([evaluation(3)]) == [DELIVERED]
    assert len(logs) == 1


async def test_memory_is_bounded(tmp_path, server):
    async with running(tmp_path, server, series=50, node_burst=10, node_refill_seconds=3600) as sink:
        for start in range(0, 2000, 100):
            batch = [evaluation(number, resource=pod(number)) for number in range(start, start + 100)]
            assert await sink.write(batch) == [DELIVERED] * 100
        assert len(sink.series) == 50
        assert sink.forgotten + sum(one.pending for one in sink.series.values()) + sum(server.counts) == 2000


async def test_the_limits_are_on_objects_not_on_series(tmp_path, server):
    async with running(tmp_path, server, pod_burst=3, pod_refill_seconds=3600) as sink:
        await sink.write([evaluation(number, rule=f"r{number}") for number in range(10)])
        assert len(server.events) == 3


async def test_no_value_is_written_and_messages_are_short_and_plain(tmp_path, server):
    async with running(tmp_path, server) as sink:
        await sink.write([evaluation(message="\x1b[31m[US_SSN]\n" + "ü" * 5000)])
    sent = json.dumps(server.calls, ensure_ascii=False)
    assert SECRET not in sent
    (event,) = server.events.values()
    assert 1000 < len(event["message"].encode()) <= 1024
    assert event["message"].startswith("policy pii/r fail: [31m[US_SSN] üü")
    assert event["message"].endswith("...")


async def test_times_that_cannot_be_are_now(tmp_path, server):
    async with running(tmp_path, server) as sink:
        await sink.write(
            [evaluation(1, resource=pod(1), at=1.7), evaluation(2, resource=pod(2), at=time.time() + 9999)]
        )
    today = time.strftime("%Y-%m-%dT%H", time.gmtime())
    assert all(event["lastTimestamp"].startswith(today) for event in server.events.values())


async def test_concurrent_writes_are_one_event(tmp_path, server):
    async with running(tmp_path, server) as sink:
        await asyncio.gather(*(sink.write([evaluation(number)]) for number in range(20)))
    assert server.methods.count("POST") == 1
    assert server.counts == [20]


@pytest.mark.parametrize("name", ["Node_1.example.COM", "-.", "x" * 253, "ümlaut", "a..b"])
def test_names_are_allowed_and_stable(name):
    series = Series(Involved("ns", name, "u", is_pod=True), "c", "p", "r", "fail")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", series.name)
    assert len(series.name) <= 253
    assert series.name == Series(Involved("ns", name, "u", is_pod=True), "c", "p", "r", "fail").name


def test_tokens_come_back_with_time_and_not_beyond_the_burst():
    limits = Limits(each=(2, 10.0), together=(3, 1.0), most=100)
    assert [limits.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert [limits.take("b", 0.0) for _ in range(2)] == [True, False]
    assert [limits.take("a", 9.0), limits.take("a", 11.0), limits.take("a", 12.0)] == [False, True, False]
    limits.give_back("a")
    assert limits.take("a", 12.0)
    assert [limits.take("a", 10_000.0) for _ in range(3)] == [True, True, False]


@given(st.text(max_size=300), st.text(max_size=20))
def test_every_name_makes_a_name_that_the_api_takes(name, rule):
    series = Series(Involved("ns", name, "u", is_pod=True), "c", "p", rule, "fail")
    assert len(series.name) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", series.name)


@given(st.text(max_size=3000), st.text(max_size=200))
def test_every_message_is_one_line_within_its_bytes(message, rule):
    series = Series(Involved("ns", "pod", "u", is_pod=True), "c", "p", rule, "fail", message=message)
    assert len(series.text().encode()) <= 1024
    assert series.text().isprintable()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50), st.booleans()), max_size=80),
    st.integers(1, 5),
    st.integers(1, 8),
)
def test_no_more_is_let_through_than_bursts_and_refills(asked, burst, together):
    limits = Limits(each=(burst, 10.0), together=(together, 5.0), most=100)
    now, taken = 0.0, {"a": 0, "b": 0, "c": 0}
    for who, later, is_given_back in asked:
        now += later
        if limits.take(who, now):
            taken[who] += 1
            if is_given_back:
                limits.give_back(who)
                taken[who] -= 1
        assert all(count <= burst + now / 10.0 + 1e-6 for count in taken.values())
        assert sum(taken.values()) <= together + now / 5.0 + 1e-6


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ok", "down", "again"])), max_size=25))
def test_every_violation_is_counted_once_whatever_the_server_does(tmp_path_factory, steps):
    async def run():
        server = Server()
        async with running(tmp_path_factory.getbasetemp(), server, pod_burst=2, pod_refill_seconds=3600) as sink:
            for number, (which, what) in enumerate(steps):
                one = [evaluation(number, resource=pod(which))]
                if what == "down":
                    server.refuse = lambda method, path: ClusterError(503, "ServiceUnavailable", "m")
                with contextlib.suppress(SinkUnavailable):
                    await sink.write(one)
                server.refuse = None
                if what != "ok":
                    assert await sink.write(one) == [DELIVERED]
        assert sum(server.counts) == len(steps)

    asyncio.run(run())


def test_without_a_cluster_it_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(Problems, match=r"need a cluster, and none is configured; add `cluster: \{\}`"):
        SPEC.build(EventsConfig(), "events", Surroundings(node="n", state_dir=tmp_path, rules=()))

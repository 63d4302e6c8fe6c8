"""agent.sinks.events beside real API servers, the oldest supported and the newest: events on pods, as kubectl shows them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cluster import KubernetesClient, configuration_of
from agent.model import Evaluation, Event, Finding, LogRecord, Outcome, PolicyResult, Resource
from agent.plugins import Surroundings
from agent.sinks.events import SPEC
from agent.sinks.events.config import EventsConfig
from tests.peers.kubernetes.building import DEFAULT_VERSION, OLDEST_VERSION
from tests.peers.kubernetes.control_plane import ControlPlane

SECRET = "078-05-1120"
FOUND = Finding(kind="pii", entity="US_SSN", detector="pii", score=0.9)
NAMESPACE = "told"
DELIVERED = Outcome.DELIVERED


class Told:
    """A server with pods, and the sink's way to it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("create", "serviceaccount", "default", "-n", NAMESPACE, check=False)
        self.client = KubernetesClient(configuration_of(plane.kubeconfig))

    def pod(self, name: str) -> Resource:
        """A new pod, and whose events are about it."""
        self.plane.apply(
            f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  nodeName: n1
  automountServiceAccountToken: false
  containers: [{{name: app, image: 'registry.example/vllm:1'}}]
"""
        )
        uid = self.plane.get("pod", name, "-n", NAMESPACE)["metadata"]["uid"]
        return Resource(node="n1", namespace=NAMESPACE, pod=name, pod_uid=uid, container="app", labels={"n": SECRET})

    def events(self, resource: Resource) -> list[dict[str, Any]]:
        chosen = f"--field-selector=involvedObject.uid={resource.pod_uid}"
        return list(self.plane.get("events", "-n", NAMESPACE, chosen)["items"])

    @contextlib.asynccontextmanager
    async def sink(self, folder: Path, **settings: Any) -> AsyncIterator[Any]:
        surroundings = Surroundings(node="n1", state_dir=folder, rules=(), cluster=self.client)
        sink = SPEC.build(EventsConfig(**settings), "events", surroundings)
        await sink.open()
        try:
            yield sink
        finally:
            await sink.close()


@pytest.fixture(scope="module", params=[OLDEST_VERSION, DEFAULT_VERSION])
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    plane: ControlPlane = request.getfixturevalue("control_planes")(request.param)
    made = Told(plane)
    yield made
    made.client.close()
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false", check=False)


def evaluation(number: int, resource: Resource, *, rule: str = "no-personal-data") -> Evaluation:
    event = Event(id=f"{number:032x}", source="cri", body=LogRecord(text=SECRET), resource=resource)
    result = PolicyResult(policy="pii-in-logs", rule=rule, status="fail", severity="high", message="log holds [US_SSN]")
    return Evaluation(event=event, results=(result,), findings=(FOUND,))


async def test_a_violation_is_seen_on_its_pod(told: Told, tmp_path: Path) -> None:
    pod = told.pod("seen")
    async with told.sink(tmp_path) as sink:
        assert await sink.write([evaluation(1, pod)]) == [DELIVERED]
    (event,) = told.events(pod)
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "PolicyViolation", 1)
    assert event["involvedObject"]["fieldPath"] == "spec.containers{app}"
    described = told.plane.kubectl("describe", "pod", "seen", "-n", NAMESPACE)
    assert "PolicyViolation" in described
    assert "policy pii-in-logs/no-personal-data fail" in described


async def test_repetitions_are_one_event_with_a_count(told: Told, tmp_path: Path) -> None:
    pod = told.pod("again")
    async with told.sink(tmp_path) as sink:
        for number in range(5):
            assert await sink.write([evaluation(number, pod)]) == [DELIVERED]
    (event,) = told.events(pod)
    assert event["count"] == 5


async def test_a_flood_is_limited_and_counted(told: Told, tmp_path: Path) -> None:
    pod = told.pod("flood")
    before = told.client.requests.total()
    async with told.sink(tmp_path, pod_burst=3) as sink:
        for number in range(200):
            (outcome,) = await sink.write([evaluation(number, pod)])
            assert outcome is DELIVERED
        assert told.client.requests.total() - before == 3
    # What was held back is in the count when the sink closes.
    (event,) = told.events(pod)
    assert event["count"] == 200


async def test_a_namespace_that_is_gone_is_survived(told: Told, tmp_path: Path) -> None:
    told.plane.kubectl("create", "namespace", "gone")
    told.plane.kubectl("delete", "namespace", "gone", "--wait=false")
    pod, nowhere = told.pod("stays"), Resource(node="n1", namespace="gone", pod="p", pod_uid="u", container="app")
    async with told.sink(tmp_path) as sink:
        outcomes = await sink.write([evaluation(1, nowhere), evaluation(2, pod)])
    assert outcomes == [Outcome.REJECTED, DELIVERED]
    assert len(told.events(pod)) == 1


def test_the_value_is_in_no_event(told: Told) -> None:
    events = told.plane.kubectl("get", "events", "--all-namespaces", "-o", "json")
    assert "PolicyViolation" in events
    assert SECRET not in events

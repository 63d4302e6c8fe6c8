"""agent.cluster beside a real API server: pods, its restart, a compacted history, policies as resources, reports."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.app.clustered import PolicyCheck
from agent.cluster import Identity, KubernetesClient, PodTable, PolicyResources, Watching, configuration_of
from agent.cluster.policies import PATH
from agent.model import Evaluation, Event, Finding, LogRecord, PolicyResult, Resource
from agent.plugins import Surroundings
from agent.reports import SPEC
from agent.reports.config import PolicyReportConfig
from tests.peers.kubernetes.control_plane import ControlPlane

ROOT = Path(__file__).resolve().parents[3]
CRDS = ROOT / "daemonset" / "crds"
REPORT_CRDS = ROOT / "daemonset" / "components" / "policy-report-crds"
PODS = "/api/v1/pods"
NODE = "n1"


@pytest.fixture
def client(control_plane: ControlPlane) -> Iterator[KubernetesClient]:
    made = KubernetesClient(configuration_of(control_plane.kubeconfig))
    yield made
    made.close()


def pod(name: str, uid_labels: str = "app: vllm") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: llm, labels: {{{uid_labels}}}}}
spec:
  nodeName: {NODE}
  serviceAccountName: reader
  automountServiceAccountToken: false
  containers: [{{name: app, image: 'registry.example/vllm:1'}}]
---
"""


@pytest.fixture(scope="module")
def llm(control_plane: ControlPlane) -> ControlPlane:
    """The server with a namespace and a service account."""
    control_plane.kubectl("create", "namespace", "llm")
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", "llm")
    return control_plane


@pytest.fixture(scope="module")
def defined(llm: ControlPlane) -> ControlPlane:
    """The server with our definitions and those of the reports."""
    for folder in (CRDS, REPORT_CRDS):
        for path in sorted(folder.glob("*.yaml")):
            if path.name != "kustomization.yaml":
                llm.apply(path)
    llm.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return llm


@pytest.fixture
def watched(llm: ControlPlane, client: KubernetesClient) -> Iterator[tuple[PodTable, Watching]]:
    table = PodTable()
    watching = Watching(client, PODS, table, query={"fieldSelector": f"spec.nodeName={NODE}"})
    watching.start()
    assert watching.wait_synced(20)
    yield table, watching
    watching.stop()
    llm.kubectl("delete", "pods", "--all", "-n", "llm", "--force", "--grace-period=0", check=False)


def compacted(plane: ControlPlane) -> None:
    """All versions but the newest are gone from etcd, as the API server does every five minutes."""

    def etcd(path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{plane._etcd_ports[0]}/v3/kv/{path}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    revision = etcd("range", {"key": "AA=="})["header"]["revision"]
    etcd("compaction", {"revision": revision, "physical": True})


def test_pods_are_known_as_they_come_and_go(llm: ControlPlane, watched: tuple[PodTable, Watching]) -> None:
    table, _ = watched
    llm.apply(pod("a-1") + pod("a-2"))
    llm.until(lambda: len(table) == 2)
    found = table.by_name("llm", "a-1")
    assert found is not None
    assert (found.service_account, found.labels) == ("reader", {"app": "vllm"})
    status = {
        "status": {
            "podIPs": [{"ip": "10.9.9.9"}],
            "podIP": "10.9.9.9",
            "containerStatuses": [
                {
                    "name": "app",
                    "image": "registry.example/vllm:1",
                    "imageID": "registry.example/vllm@sha256:" + "ab" * 32,
                    "containerID": "containerd://" + "c" * 64,
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {}},
                }
            ],
        }
    }
    llm.kubectl("patch", "pod", "a-1", "-n", "llm", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    llm.until(lambda: table.by_container("c" * 64))
    identity = Identity(table, lambda: True)
    resource = identity.resource(Resource(node=NODE, container_id="c" * 31))
    assert (resource.pod, resource.container, resource.image_digest) == ("a-1", "app", "sha256:" + "ab" * 32)
    assert table.by_address("10.9.9.9") is table.by_name("llm", "a-1")
    llm.kubectl("delete", "pod", "a-1", "-n", "llm", "--force", "--grace-period=0")
    llm.until(lambda: len(table) == 1)
    assert identity.resource(Resource(node=NODE, container_id="c" * 64)).pod == "a-1"  # remembered


def test_a_server_that_was_away_and_a_history_that_is_gone_are_survived(
    llm: ControlPlane, watched: tuple[PodTable, Watching], client: KubernetesClient
) -> None:
    table, watching = watched
    llm.apply(pod("b-1"))
    llm.until(lambda: table.by_name("llm", "b-1"))
    llm.stop_api_server()
    deadline = time.monotonic() + 20
    while client.is_up:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert table.by_name("llm", "b-1") is not None
    llm.start_api_server()
    llm.apply(pod("b-2"))
    llm.until(lambda: table.by_name("llm", "b-2"), 60)
    assert client.is_up
    # A version that was compacted away while nobody watched: the server answers 410, and all is listed again.
    late = PodTable()
    stale = Watching(client, PODS, late, query={"fieldSelector": f"spec.nodeName={NODE}"})
    first = next(iter(client.pages(PODS, {})))["metadata"]["resourceVersion"]
    llm.apply(pod("b-3"))
    llm.stop_api_server()
    compacted(llm)
    llm.start_api_server()  # its own memory of older versions is gone with it
    versions, listed = [first], stale._list
    stale._list = lambda: versions.pop() if versions else listed()  # type: ignore[method-assign]
    stale.start()
    llm.until(lambda: late.by_name("llm", "b-3"), 60)
    assert stale.lists == 1
    stale.stop()
    assert watching.is_synced


POLICY = """
apiVersion: reeve.dev/v1alpha1
kind: RuntimePolicy
metadata: {name: from-the-cluster, annotations: {policies.kyverno.io/severity: high}}
spec:
  rules:
    - name: no-stderr
      match: {any: [{resources: {kinds: [Log]}}]}
      validate:
        message: m
        cel: {expressions: [{expression: 'log.stream != "stderr"'}]}
"""


def test_policies_are_resources_and_a_broken_one_is_visible(
    defined: ControlPlane, client: KubernetesClient, tmp_path: Path
) -> None:
    resources = PolicyResources(client, tmp_path / "kept", PolicyCheck([], tmp_path / "kept"))
    resources.open()
    resources.start()
    watching = Watching(client, PATH, resources)
    watching.start()
    path = tmp_path / "kept" / "from-the-cluster.yaml"
    try:
        defined.apply(POLICY)
        defined.until(path.exists)
        good = path.read_text()
        defined.until(lambda: defined.get("runtimepolicy", "from-the-cluster").get("status", {}).get("rules") == 1)
        defined.apply(POLICY.replace("log.stream", "log.streem"))
        defined.until(lambda: defined.get("runtimepolicy", "from-the-cluster").get("status", {}).get("loadErrors") == 1)
        assert path.read_text() == good
        described = defined.kubectl("describe", "runtimepolicy", "from-the-cluster")
        assert "the last good version stays in force" in described
        assert "streem" in described
        print(defined.kubectl("get", "runtimepolicies"))
        defined.kubectl("delete", "runtimepolicy", "from-the-cluster")
        defined.until(lambda: not path.exists())
    finally:
        watching.stop()
        resources.stop()


PODS_OF_A_NODE, VIOLATIONS_A_SECOND, SECONDS, FLUSH_SECONDS = 110, 1000, 8, 2.0


@pytest.mark.parametrize("api", ["wgpolicyk8s", "openreports"])
async def test_a_full_node_writes_each_report_once_in_a_flush(
    defined: ControlPlane, client: KubernetesClient, tmp_path: Path, api: str
) -> None:
    """110 pods with 1000 violations a second: at most one write per pod per flush interval."""
    surroundings = Surroundings(node=NODE, state_dir=tmp_path, rules=(), cluster=client)
    config = PolicyReportConfig(api=api, flush_seconds=FLUSH_SECONDS, writes_per_second=1000)
    sink = SPEC.build(config, "policyreport", surroundings)
    await sink.open()
    started = time.monotonic()
    sent = 0
    while (spent := time.monotonic() - started) < SECONDS:
        due = int(spent * VIOLATIONS_A_SECOND) - sent
        await sink.write([violation((sent + number) % PODS_OF_A_NODE) for number in range(due)])
        sent += due
        await asyncio.sleep(0.05)
    await sink.close()
    flushes = SECONDS / FLUSH_SECONDS + 1
    writes = client.requests["patch", "success"]
    print(f"{api}: {sent} violations of {PODS_OF_A_NODE} pods in {SECONDS} s: {writes} writes, "
          f"{writes / PODS_OF_A_NODE:.1f} per pod in {flushes:g} flushes")  # fmt: skip
    assert sent > 0.8 * SECONDS * VIOLATIONS_A_SECOND
    assert PODS_OF_A_NODE <= writes <= PODS_OF_A_NODE * (flushes + 1)
    kind = {"wgpolicyk8s": "policyreports.wgpolicyk8s.io", "openreports": "reports.openreports.io"}[api]
    items = defined.get(kind, "-n", "llm", "-l", f"reeve.dev/node={NODE}")["items"]
    assert sum(int(one["properties"]["count"]) for item in items for one in item["results"]) == sent
    print(defined.kubectl("get", kind, "-n", "llm", "-o", "wide").splitlines()[0])
    defined.kubectl("delete", kind, "--all", "-n", "llm")


async def test_a_missing_definition_is_said_and_reports_come_when_it_is_there(
    defined: ControlPlane, client: KubernetesClient, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    crd = "policyreports.wgpolicyk8s.io"
    saved = defined.kubectl("get", "crd", crd, "-o", "json")
    defined.kubectl("delete", "crd", crd)
    surroundings = Surroundings(node=NODE, state_dir=tmp_path, rules=(), cluster=client)
    sink = SPEC.build(PolicyReportConfig(flush_seconds=0.5), "policyreport", surroundings)
    await sink.open()
    await sink.write([violation(1)])
    await asyncio.sleep(2)
    out = capfd.readouterr()
    assert f"install the CustomResourceDefinition {crd}" in out.out + out.err
    definition = json.loads(saved)
    definition["metadata"] = {"name": crd}
    definition.pop("status")
    defined.apply(json.dumps(definition))
    defined.kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=60s")
    for _ in range(100):
        await asyncio.sleep(0.3)
        sink._wait_until = 0.0
        if defined.get(crd, "-n", "llm")["items"]:
            break
    await sink.close()
    assert len(defined.get(crd, "-n", "llm")["items"]) == 1


def violation(number: int) -> Evaluation:
    resource = Resource(node=NODE, namespace="llm", pod=f"p-{number}", pod_uid=f"0000-{number:04}", container="app")
    return Evaluation(
        event=Event(id="1", source="cri", body=LogRecord(text=""), resource=resource, time_unix_nano=time.time_ns()),
        findings=(Finding(kind="pii", entity="US_SSN", detector="pii", score=0.9),),
        results=(
            PolicyResult(policy="pii-in-logs", rule="r", status="fail", severity="high", message="holds [US_SSN]"),
        ),
        policy_digest="d" * 64,
    )

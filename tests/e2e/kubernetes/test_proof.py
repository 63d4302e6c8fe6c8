"""The whole of it on a real node: leaks of real pods come out everywhere with the right names and without the value,
and what is acknowledged survives the agent's death, the API server's absence and a rolling update."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.alertmanaging import PROGRAM, Alertmanager, free_ports
from tests.e2e.certificates import Authority
from tests.e2e.image_room import Image
from tests.e2e.kubernetes import workloads
from tests.e2e.kubernetes.installing import NAMESPACE, Installed
from tests.e2e.kubernetes.workloads import CARD, SSN, deployment
from tests.e2e.saying import said_in
from tests.peers.kubernetes import images
from tests.peers.kubernetes.building import Unavailable
from tests.peers.kubernetes.node import Node
from tests.peers.kubernetes.settings import NODE_ADDRESS
from tests.unit.sinks.listening import Receiver, receiver

pytestmark = pytest.mark.timeout(1800)
TENANT = "shop"
FLUSH_SECONDS = 2
MEMORY_LIMIT = 1 << 30
CANARIES = {"logs", "runtime", "plaintext"}
POLICIES = {
    "billing": {"pii-in-logs"},
    "chat": {"pii-in-prompts"},
    "inference": {"shell-in-inference-pod", "service-account-token-read"},
}


@dataclass
class Proof:
    node: Node
    agent: Installed
    alertmanager: Alertmanager
    hook: Receiver
    said: list[str]
    token: str = field(default="", repr=False)

    def say(self, text: str) -> None:
        self.said.append(text)

    def pod_of(self, app: str) -> dict[str, Any]:
        return self.node.until(
            lambda: next(
                (
                    pod
                    for pod in self.node.get("pods", "-n", TENANT, "-l", f"app={app}")["items"]
                    if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
                ),
                None,
            )
        )

    def run(self, app: str, *command: str) -> str:
        return self.node.run(self.pod_of(app)["metadata"]["name"], *command, namespace=TENANT)


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture(scope="module")
def proof(
    request: pytest.FixtureRequest, kubernetes_node: Node, hook: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proof]:
    give_up = pytest.fail if request.config.getoption("--require-peers") else pytest.skip
    if shutil.which(PROGRAM) is None:
        give_up(f"PEER SKIPPED: {PROGRAM} is not installed (.ci/install-kubernetes)")
    try:
        image = Image("agent-ebpf")
    except Unavailable as reason:
        give_up(f"PEER SKIPPED: {reason}")
    kubernetes_node.import_image(images.archive_of(image.name))
    image.close()
    folder = tmp_path_factory.mktemp("proof")
    manager = Alertmanager(folder / "am", f"{hook.url}/notified", free_ports(1)[0], address=NODE_ADDRESS)
    settings = {
        "canary": {"every_seconds": 20, "within_seconds": 15},
        "sinks": {
            "policyreport": {"flush_seconds": FLUSH_SECONDS},
            "alertmanager": {"urls": [manager.url], "allow_plaintext": True, "repeat_seconds": 5},
        },
    }
    agent = Installed(kubernetes_node, folder, image=image.name, settings=settings)
    said: list[str] = []
    said_in(request.config, "the proof on a real node", said)
    try:
        seconds = agent.apply()
        said.append(f"kubectl apply -k: Ready after {seconds:.1f} s")
        authority = Authority(folder / "ca")
        kubernetes_node.kubectl("create", "namespace", TENANT)
        kubernetes_node.until(lambda: kubernetes_node.kubectl("get", "serviceaccount", "default", "-n", TENANT), 30)
        objects = [
            workloads.scripts(TENANT),
            workloads.service(TENANT),
            workloads.certificate(TENANT, authority.file, *authority.issue("llm")),
            deployment("llm", TENANT, "python3", "/scripts/server.py", needs_certificate=True),
        ]
        kubernetes_node.apply(workloads.manifest(*objects))
        kubernetes_node.rolled_out("deployment/llm", TENANT)
        yield Proof(kubernetes_node, agent, manager, hook, said)
    finally:
        kubernetes_node.kubectl("delete", "namespace", TENANT, "--wait=false", check=False)
        agent.remove()
        manager.stop()


@pytest.fixture(scope="module")
def leaked(proof: Proof) -> dict[str, float]:
    """All three pods have leaked; when each did, in the clock of `time.time`."""
    node, at = proof.node, {}
    node.apply(
        workloads.manifest(
            deployment(
                "chat",
                TENANT,
                "python3",
                "/scripts/client.py",
                labels={"reeve.dev/plaintext": "yes"},
                needs_certificate=True,
            ),
            deployment("inference", TENANT, "sleep", "infinity", labels=workloads.INFERENCE_LABEL),
        )
    )
    node.rolled_out("deployment/chat", TENANT)
    node.rolled_out("deployment/inference", TENANT)
    # The probes stand when the canary's violation has come out of each of its paths.
    node.until(lambda: canaries_up(proof) == CANARIES, 60)
    at["billing"] = time.time()
    node.apply(workloads.manifest(deployment("billing", TENANT, "python3", "/scripts/printer.py", "1000000", "0.2")))
    at["chat"] = time.time()
    proof.run("chat", "touch", "/tmp/ask")
    at["inference"] = time.time()
    proof.token = proof.run("inference", "sh", "-c", "cat /var/run/secrets/kubernetes.io/serviceaccount/token").strip()
    assert proof.token.count(".") == 2
    return at


def canaries_up(proof: Proof) -> set[str]:
    metrics = proof.agent.metrics()
    return {path for path in CANARIES if metrics.value("reeve_canary_up", path=path)}


@pytest.mark.parametrize("app", POLICIES)
def test_a_leak_comes_out_everywhere_with_the_right_names(app: str, proof: Proof, leaked: dict[str, float]) -> None:
    pod = proof.pod_of(app)
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    policies = POLICIES[app]
    (status,) = pod["status"]["containerStatuses"]
    for policy in policies:
        record = proof.node.until(lambda policy=policy: proof.agent.violations(policy, pod=name), 30)[0]
        resource = record["resource"]
        assert (resource["namespace"], resource["pod_uid"], resource["container"]) == (TENANT, uid, "main")
        assert (resource["workload_kind"], resource["workload"]) == ("Deployment", app)
        assert resource["service_account"] == "default"
        if resource.get("container_id"):
            assert status["containerID"].rpartition("/")[2].startswith(resource["container_id"])
        seconds = record["event"]["time_unix_nano"] / 1e9 - leaked[app]
        proof.say(f"{app}: {policy} in the audit log; event {seconds:+.1f} s after the leak was set off")
        assert proof.agent.metrics().value("reeve_policy_results_total", policy=policy, status="fail")

    def reported() -> dict[str, Any] | None:
        report = proof.agent.report(uid, TENANT)
        failed = {one["policy"] for one in (report or {}).get("results", ()) if one["result"] == "fail"}
        return report if report and policies <= failed else None

    report = proof.node.until(reported, 30)
    (owner,) = report["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", name, uid)
    proof.say(
        f"{app}: in PolicyReport {report['metadata']['name']} with its owner {time.time() - leaked[app]:.1f} s after"
    )

    def alerted() -> bool:
        told = [one["labels"] for one in proof.alertmanager.alerts()]
        mine = [one for one in told if one.get("pod") == name and one["namespace"] == TENANT]
        return policies <= {one["policy"] for one in mine if (one["workload"], one["container"]) == (app, "main")}

    proof.node.until(alerted, 30)
    proof.say(f"{app}: alert in Alertmanager {time.time() - leaked[app]:.1f} s after")
    proof.node.until(lambda: any(name.encode() in request.body for request in proof.hook.requests), 30)

    def told_on_the_pod() -> bool:
        events = proof.node.get("events", "-n", TENANT, f"--field-selector=involvedObject.uid={uid}")["items"]
        return any(
            "reeve" in json.dumps(event.get("source", {})) + event.get("reportingComponent", "") for event in events
        )

    proof.node.until(told_on_the_pod, 30)


def test_columns_say_what_matters(proof: Proof, leaked: dict[str, float]) -> None:
    printed = proof.node.kubectl("get", "polr", "-n", TENANT)
    proof.say(printed.rstrip())
    heading, *rows = printed.splitlines()
    assert heading.split() == ["NAME", "KIND", "NAME", "PASS", "FAIL", "WARN", "ERROR", "SKIP", "AGE"]
    assert [row for row in rows if row.split()[1] == "Pod" and row.split()[2].startswith("billing-")]


def test_the_doctor_in_the_pod_is_content(proof: Proof, leaked: dict[str, float]) -> None:
    told = proof.node.run(proof.agent.pod, "reeve", "doctor", "--config", "/etc/reeve/agent.d", namespace=NAMESPACE)
    assert "TLS" in told or "tls" in told
    proof.say(told.rstrip())


def test_under_load_the_pod_stays_below_its_limit(proof: Proof, leaked: dict[str, float]) -> None:
    lines = 20_000
    before = time.time()
    proof.node.apply(
        workloads.manifest(
            deployment("flood", TENANT, "python3", "/scripts/printer.py", str(lines), "0.001"),
            deployment("churn", TENANT, "sh", "-c", "while :; do cat /scripts/server.py >/dev/null; done"),
        )
    )
    flood = proof.pod_of("flood")["metadata"]["name"]
    proof.node.until(lambda: len(proof.agent.violations("pii-in-logs", pod=flood)) == lines, 240, every=2)
    uid = proof.pod_of("flood")["metadata"]["uid"]
    proof.node.until(lambda: proof.agent.report(uid, TENANT), 30)
    proof.node.kubectl("delete", "deployment", "churn", "flood", "-n", TENANT)
    proof.node.until(lambda: proof.agent.report(uid, TENANT) is None, 60)  # it went with its owner
    metrics = proof.agent.metrics()
    peak = proof.agent.memory_peak()
    proof.say(
        f"load: {lines} leaking lines in {time.time() - before:.0f} s beside programs started without end: memory peak "
        f"{peak / 1e6:.0f} MB of {MEMORY_LIMIT / 1e6:.0f} MB"
    )
    (limit,) = {one["resources"]["limits"]["memory"] for one in proof.agent.pod_object()["spec"]["containers"]}
    assert limit == "1Gi"
    assert peak < MEMORY_LIMIT
    assert metrics.value("reeve_ledger_balanced") == 1
    (status,) = proof.agent.pod_object()["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_death_absence_and_update_lose_nothing_that_was_printed(proof: Proof, leaked: dict[str, float]) -> None:
    node, agent = proof.node, proof.agent
    billing = proof.pod_of("billing")["metadata"]["name"]
    seen = len(agent.violations("pii-in-logs", pod=billing))

    os.kill(agent.process(), signal.SIGKILL)
    node.until(
        lambda: agent.pod_object()["status"]["containerStatuses"][0]["restartCount"] == 1 and agent.is_ready(), 90
    )
    gaps = {"killed": away(proof, 1)}

    before = agent.pod
    node.kubectl("delete", "pod", before, "-n", NAMESPACE, "--grace-period=0", "--force")
    node.until(lambda: before not in node.pods("app.kubernetes.io/name=reeve", NAMESPACE) and agent.is_ready(), 90)
    gaps["pod deleted"] = away(proof, 2)

    address = agent.address()
    node.stop_api_server()
    stopped = time.monotonic()
    node_is_down = len(agent.violations("pii-in-logs", pod=billing))
    while time.monotonic() < stopped + 60:
        time.sleep(2)
    assert agent.metrics(address).value("reeve_cluster_up") == 0
    meanwhile = len(agent.violations("pii-in-logs", pod=billing)) - node_is_down
    assert meanwhile > 100  # 5 lines a second were judged all the time
    node.start_api_server()
    node.until(lambda: agent.metrics(address).value("reeve_cluster_up") == 1, 60)
    proof.say(f"API server away for a minute: {meanwhile} violations judged and kept meanwhile")

    node.kubectl("rollout", "restart", "daemonset/reeve", "-n", NAMESPACE)
    node.rolled_out("daemonset/reeve", NAMESPACE)
    gaps["updated"] = away(proof, 3)

    proof.run("billing", "touch", "/tmp/stop")
    printed = int(node.until(lambda: proof.run("billing", "cat", "/tmp/printed"), 30))

    def distinct() -> int:
        return len({one["event"]["id"] for one in agent.violations("pii-in-logs", pod=billing)})

    node.until(lambda: distinct() >= printed, 60)
    assert distinct() == printed
    twice = len(agent.violations("pii-in-logs", pod=billing)) - printed
    told = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in gaps.items())
    proof.say(
        f"{printed} lines printed, {printed} violations in the audit log ({twice} twice; {seen} before); blind: {told}"
    )

    def in_report() -> bool:
        report = agent.report(proof.pod_of("billing")["metadata"]["uid"], TENANT)
        return report is not None and sum_of(report, "pii-in-logs") >= printed

    node.until(in_report, 60)


def away(proof: Proof, times: int) -> float:
    """The seconds of the latest gap, when so many were told: each is a warning in the audit log."""

    def told() -> list[str]:
        records = [one for one in proof.agent.records() if one["event"]["source"] == "agent"]
        results = [result for record in records for result in record["results"] if result["status"] == "warn"]
        messages = [str(one["message"]) for one in results if one["policy"] == "agent-was-away"]
        return messages if len(messages) >= times else []

    messages = proof.node.until(told, 60)
    assert len(messages) == times
    seconds = re.search(r"no agent listened to ebpf on node \S+ for ([\d.]+) s", messages[-1])
    assert seconds, messages[-1]
    return float(seconds[1])


def sum_of(report: dict[str, Any], policy: str) -> int:
    counts = [
        int(one.get("properties", {}).get("count", "1"))
        for one in report["results"]
        if one["policy"] == policy and one["result"] == "fail"
    ]
    return sum(counts)


def test_the_audit_log_is_whole(proof: Proof, leaked: dict[str, float]) -> None:
    command = [
        str(Path(sys.executable).with_name("reeve")),
        "audit",
        "verify",
        "--verbose",
        str(proof.agent.state / "audit"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    proof.say((done.stdout + done.stderr).strip())


def test_no_value_is_written_anywhere(proof: Proof, leaked: dict[str, float]) -> None:
    node, agent = proof.node, proof.agent
    values = [SSN, SSN.replace("-", ""), CARD, "5555 5555 5555 4444", proof.token, proof.token.split(".")[2]]
    written = {str(path): path.read_bytes() for path in agent.state.rglob("*") if path.is_file()}
    assert len(written) > 4
    for kind in ("policyreports", "clusterpolicyreports", "events"):
        written[kind] = node.kubectl("get", kind, "--all-namespaces", "-o", "json").encode()
    written["agent's log"] = node.kubectl("logs", "-n", NAMESPACE, agent.pod, "--tail=-1").encode()
    written["metrics"] = agent.metrics().text.encode()
    written["alerts"] = json.dumps(proof.alertmanager.alerts()).encode()
    written["notifications"] = proof.hook.raw
    assert len(written["agent's log"]) > 1000
    found = [
        (where, number) for where, data in written.items() for number, one in enumerate(values) if one.encode() in data
    ]
    assert found == []
    proof.say(f"planted values searched in {len(written)} places, {sum(map(len, written.values())):,} bytes: none")

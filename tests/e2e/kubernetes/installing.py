"""The agent on a real node as its users install it: an overlay of theirs on ours, `kubectl apply -k`, and what it tells."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.peers.kubernetes.node import Node

DAEMONSET = Path(__file__).resolve().parents[3] / "daemonset"
NAMESPACE = "reeve-system"
SHIPPED_IMAGE = "ghcr.io/reeve-dev/reeve"
_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Installed:
    """The DaemonSet in the cluster; `state` is its directory on the node."""

    def __init__(self, node: Node, folder: Path, *, image: str, settings: dict[str, Any]) -> None:
        self.node = node
        self.state = folder / "state"
        self._overlay = folder / "overlay"
        name, tag = image.rsplit(":", 1)
        self._write(name, tag, settings)

    def _write(self, name: str, tag: str, settings: dict[str, Any]) -> None:
        self._overlay.mkdir(parents=True)
        fragment = {"apiVersion": "reeve.dev/v1alpha1", "kind": "AgentConfig", **settings}
        (self._overlay / "50-mine.yaml").write_text(yaml.safe_dump(fragment))
        # The node's containerd has its socket elsewhere, its state must not be the machine's own, and some sandboxes in
        # which tests run may not give SYS_RESOURCE away (Linux before 5.11 needs it).
        patch = [
            {"op": "test", "path": "/spec/template/spec/volumes/1/name", "value": "runtime"},
            {
                "op": "replace",
                "path": "/spec/template/spec/volumes/1/hostPath/path",
                "value": str(self.node.containerd_socket.parent),
            },
            {"op": "test", "path": "/spec/template/spec/volumes/3/name", "value": "state"},
            {"op": "replace", "path": "/spec/template/spec/volumes/3/hostPath/path", "value": str(self.state)},
            {"op": "replace", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Never"},
            {
                "op": "test",
                "path": "/spec/template/spec/containers/0/securityContext/capabilities/add/3",
                "value": "SYS_RESOURCE",
            },
            {"op": "remove", "path": "/spec/template/spec/containers/0/securityContext/capabilities/add/3"},
        ]
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(DAEMONSET / "overlays" / "ebpf", self._overlay)],
            "images": [{"name": SHIPPED_IMAGE, "newName": name, "newTag": tag}],
            "configMapGenerator": [
                {"name": "reeve-config", "namespace": NAMESPACE, "behavior": "merge", "files": ["50-mine.yaml"]}
            ],
            "patches": [{"target": {"kind": "DaemonSet", "name": "reeve"}, "patch": yaml.safe_dump(patch)}],
        }
        (self._overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))

    def apply(self) -> float:
        """Applies it; the seconds until the DaemonSet is Ready."""
        begun = time.monotonic()
        self.node.kubectl("apply", "--server-side", "-k", str(self._overlay))
        self.node.rolled_out("daemonset/reeve", NAMESPACE, 180)
        return time.monotonic() - begun

    def remove(self) -> None:
        """Takes all of it away, but for the definitions of resources."""
        self.node.kubectl("delete", "-k", str(self._overlay), "--wait=false", "--ignore-not-found")

    @property
    def pod(self) -> str:
        """The name of the agent's pod, as soon as there is one that runs and stays."""
        return self.node.until(lambda: self.node.pods("app.kubernetes.io/name=reeve", NAMESPACE), 60)[0]

    def pod_object(self) -> dict[str, Any]:
        return self.node.get("pod", self.pod, "-n", NAMESPACE)

    def is_ready(self) -> bool:
        conditions = self.pod_object()["status"].get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def address(self) -> str:
        """Where the agent serves; asked while the API server is there, used when it is not."""
        return f"http://{self.pod_object()['status']['podIP']}:9464"

    def metrics(self, address: str = "") -> Metrics:
        with urllib.request.urlopen(f"{address or self.address()}/metrics", timeout=10) as answer:
            return Metrics(answer.read().decode())

    def records(self, **resource: str) -> list[dict[str, Any]]:
        """The audit log's records of evaluations whose resource has these fields."""
        found = []
        for path in sorted((self.state / "audit").glob("audit-*.jsonl")):
            for line in path.read_text().splitlines():
                record = json.loads(line)
                is_one = record["kind"] == "evaluation"
                if is_one and resource.items() <= record.get("resource", {}).items():
                    found.append(record)
        return found

    def violations(self, policy: str, **resource: str) -> list[dict[str, Any]]:
        """Of these, those in which a rule of the policy failed."""
        return [
            record
            for record in self.records(**resource)
            if any(one["policy"] == policy and one["status"] == "fail" for one in record.get("results", ()))
        ]

    def report(self, uid: str, namespace: str) -> dict[str, Any] | None:
        """The PolicyReport that is about the pod with this uid."""
        reports = self.node.get("policyreports", "-n", namespace)["items"]
        return next((one for one in reports if one.get("scope", {}).get("uid") == uid), None)

    def process(self) -> int:
        """The agent's process on the node: the oldest of its container's."""
        (status,) = self.pod_object()["status"]["containerStatuses"]
        container = status["containerID"].rpartition("/")[2]
        pids = []
        for path in Path("/proc").glob("[0-9]*/cgroup"):
            try:
                if container in path.read_text():
                    pids.append(int(path.parent.name))
            except OSError:
                continue
        return min(pids)

    def memory_peak(self) -> int:
        """The most that the agent's container has ever held, in bytes, page cache included."""
        lines = Path(f"/proc/{self.process()}/cgroup").read_text().splitlines()
        groups = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
        if "memory" in groups:
            file = Path("/sys/fs/cgroup/memory") / groups["memory"].lstrip("/") / "memory.max_usage_in_bytes"
        else:
            file = Path("/sys/fs/cgroup") / groups[""].lstrip("/") / "memory.peak"
        return int(file.read_text())


class Metrics:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples with these labels."""
        total = 0.0
        for line in self.text.splitlines():
            sample = _SAMPLE.match(line)
            if (
                sample
                and sample["name"] == name
                and labels.items() <= dict(_LABEL.findall(sample["labels"] or "")).items()
            ):
                total += float(sample["value"])
        return total

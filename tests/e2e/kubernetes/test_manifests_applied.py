"""The manifests before a real API server: taken without a warning, and what they make is of use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.kubernetes.building import DEFAULT_VERSION, OLDEST_VERSION
from tests.peers.kubernetes.control_plane import ControlPlane

DAEMONSET = Path(__file__).resolve().parents[3] / "daemonset"
OVERLAYS = sorted(path.name for path in (DAEMONSET / "overlays").iterdir())
NAMESPACE = "reeve-system"


@pytest.fixture(scope="module", params=[DEFAULT_VERSION, OLDEST_VERSION])
def plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    found: ControlPlane = request.getfixturevalue("control_planes")(request.param)
    yield found
    found.kubectl("delete", "crd", "--all")  # other tests of the session begin without


def applied(plane: ControlPlane, overlay: str) -> list[str]:
    """kubectl's words, line by line; warnings among them."""
    # A conflict would mean that a manifest sets what somebody else set.
    told = plane.kubectl("apply", "--server-side", "-k", str(DAEMONSET / "overlays" / overlay), check=False)
    return told.splitlines()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_objects_are_taken_without_a_warning(overlay: str, plane: ControlPlane) -> None:
    lines = applied(plane, overlay)
    assert len(lines) >= 13
    assert [line for line in lines if not line.endswith("serverside-applied")] == []


def test_applied_again_they_change_nothing(plane: ControlPlane) -> None:
    applied(plane, "full")
    before = plane.get("daemonset", "reeve", "-n", NAMESPACE)["metadata"]["generation"]
    applied(plane, "full")
    assert plane.get("daemonset", "reeve", "-n", NAMESPACE)["metadata"]["generation"] == before


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_is_let_into_its_namespace_without_a_warning(overlay: str, plane: ControlPlane) -> None:
    applied(plane, overlay)
    template = plane.get("daemonset", "reeve", "-n", NAMESPACE)["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "like-the-daemonsets", "namespace": NAMESPACE},
        "spec": template["spec"],
    }
    told = plane.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False)
    assert told == "pod/like-the-daemonsets created (server dry run)\n"


def test_definitions_are_established_and_structural(plane: ControlPlane) -> None:
    applied(plane, "default")
    names = [
        "runtimepolicies.reeve.dev",
        *(f"{name}.wgpolicyk8s.io" for name in ("policyreports", "clusterpolicyreports")),
        *(f"{name}.openreports.io" for name in ("reports", "clusterreports")),
    ]
    plane.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in names), "--timeout=30s")
    for name in names:
        conditions = plane.get("crd", name)["status"]["conditions"]
        assert {one["type"] for one in conditions if one["status"] == "True"} == {"NamesAccepted", "Established"}


def report(api: str, kind: str) -> dict[str, Any]:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "reeve-1", "namespace": "default"},
        "scope": {"apiVersion": "v1", "kind": "Pod", "name": "vllm-0", "namespace": "default", "uid": "1"},
        "summary": {"pass": 3, "fail": 2, "warn": 0, "error": 0, "skip": 0},
        "results": [
            {
                "source": "Reeve",
                "policy": "pii-in-logs",
                "rule": "no-personal-data",
                "result": "fail",
                "severity": "high",
                "scored": True,
                "timestamp": {"seconds": 1795764738, "nanos": 0},
                "properties": {"count": "2"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("api", "kind", "short"),
    [("wgpolicyk8s.io/v1alpha2", "PolicyReport", "polr"), ("openreports.io/v1alpha1", "Report", "reps")],
)
def test_kubectl_shows_who_and_how_many(api: str, kind: str, short: str, plane: ControlPlane) -> None:
    applied(plane, "default")
    given = report(api, kind)
    plane.until(lambda: plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(given)), 30)
    header, line = plane.kubectl("get", short, "-A").splitlines()[:2]
    assert header.split() == ["NAMESPACE", "NAME", "KIND", "NAME", "PASS", "FAIL", "WARN", "ERROR", "SKIP", "AGE"]
    assert line.split()[:9] == ["default", "reeve-1", "Pod", "vllm-0", "3", "2", "0", "0", "0"]
    kept = plane.get(short, "reeve-1", "-n", "default")
    assert kept["results"] == given["results"]


def test_a_report_of_another_shape_is_refused(plane: ControlPlane) -> None:
    applied(plane, "default")
    given = report("wgpolicyk8s.io/v1alpha2", "PolicyReport")
    given["results"][0]["properties"] = {"count": 2}
    told = plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(given), check=False)
    assert "properties.count" in told

"""kustomize and Helm, by their own code, make the same objects of each overlay."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import built

DAEMONSET = Path(__file__).resolve().parents[3] / "daemonset"
CHART = DAEMONSET / "chart"
# The first build compiles Helm and kustomize.
pytestmark = pytest.mark.timeout(900)

Object = dict[str, Any]
Render = Callable[..., list[Object]]

EBPF = {"ebpf": {"enabled": True, "plaintext": True}}
TETRAGON = {"tetragon": {"enabled": True}}
HUBBLE = {"hubble": {"enabled": True}}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "ebpf": EBPF,
    "tetragon": TETRAGON,
    "hubble": HUBBLE,
    "full": {**EBPF, **TETRAGON, **HUBBLE, "alertmanager": {"enabled": True}},
}


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest) -> Path:
    return built("manifests", bool(request.config.getoption("--require-peers")))


@pytest.fixture
def render(program: Path, tmp_path: Path) -> Render:
    """`render("kustomize", folder)` or `render("helm", values)`; raises CalledProcessError with the renderer's words."""

    def run(how: str, what: Path | dict[str, Any]) -> list[Object]:
        arguments = [str(program), how, str(what)]
        if isinstance(what, dict):
            values = tmp_path / "values.yaml"
            values.write_text(yaml.safe_dump(what), encoding="utf-8")
            arguments = [str(program), how, str(CHART), str(values)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    return run


def normalised(found: list[Object]) -> dict[str, Object]:
    """By kind and name, without what each tool adds: labels of Helm, the hash of a ConfigMap, the order of named lists.

    The Namespace is left out: with Helm it must be there before the chart.
    """
    return {
        f"{one['kind']}/{_without_hash(one['metadata']['name'])}": _normal(one)
        for one in found
        if one["kind"] != "Namespace"
    }


def _without_hash(name: str) -> str:
    return re.sub(r"^(reeve-config)-[a-z0-9]{10}$", r"\1", name)


def _normal(value: Any) -> Any:
    match value:
        case dict():
            return {key: _normal(one) for key, one in value.items() if not _is_tools(key, one)}
        case list() if all(isinstance(one, dict) and "name" in one for one in value):
            return sorted((_normal(one) for one in value), key=lambda one: str(one["name"]))
        case list():
            return [_normal(one) for one in value]
        case str():
            return _without_hash(value)
    return value


def _is_tools(key: str, value: Any) -> bool:
    if key in ("app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart", "checksum/config"):
        return True
    if key == "helm.sh/resource-policy":
        return True
    # A map that held nothing but those.
    return key in ("annotations", "labels") and isinstance(value, dict) and not _normal(value)


@pytest.mark.parametrize("overlay", VALUES)
def test_helm_makes_what_kustomize_makes(overlay: str, render: Render) -> None:
    by_kustomize = normalised(render("kustomize", DAEMONSET / "overlays" / overlay))
    by_helm = normalised(render("helm", {"components": VALUES[overlay]}))
    assert by_helm.keys() == by_kustomize.keys()
    for name, one in by_kustomize.items():
        assert by_helm[name] == one, name


def test_every_overlay_is_compared() -> None:
    assert set(VALUES) == {path.name for path in (DAEMONSET / "overlays").iterdir()}


def test_openreports_and_helm(render: Render, tmp_path: Path) -> None:
    folder = tmp_path / "overlay"
    folder.mkdir()
    up = "/".join([".."] * len(folder.resolve().parts[1:])) + str(DAEMONSET)
    text = f"""
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{up}/base]
components: [{up}/components/policy-report-crds, {up}/components/openreports]
"""
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
    values = {"components": {"openreports": {"enabled": True}}}
    by_kustomize = normalised(render("kustomize", folder))
    assert normalised(render("helm", values)) == by_kustomize
    groups = [group for rule in by_kustomize["ClusterRole/reeve"]["rules"] for group in rule["apiGroups"]]
    assert "openreports.io" in groups
    assert "wgpolicyk8s.io" not in groups


def with_tracing_policies(folder: Path) -> Path:
    """An overlay with Tetragon and the policies for it."""
    folder.mkdir()
    up = "/".join([".."] * len(folder.resolve().parts[1:])) + str(DAEMONSET)
    wanted = ", ".join(f"{up}/components/{one}" for one in ("policy-report-crds", "tetragon", "tracing-policies"))
    text = f"{{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization, resources: [{up}/base], components: [{wanted}]}}"
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
    return folder


def traced(**more: Any) -> dict[str, Any]:
    return {"components": {"tetragon": {"enabled": True, "tracingPolicies": {"enabled": True, **more}}}}


def test_tracing_policies_and_helm(render: Render, tmp_path: Path) -> None:
    by_kustomize = normalised(render("kustomize", with_tracing_policies(tmp_path / "overlay")))
    by_helm = normalised(render("helm", traced()))
    assert by_helm == by_kustomize
    assert len([name for name in by_kustomize if name.startswith("TracingPolicy/")]) == 5
    assert "30-tracing-policies.yaml" in by_kustomize["ConfigMap/reeve-config"]["data"]


def test_tracing_policies_may_be_kept_to_namespaces(render: Render) -> None:
    found = [one for one in render("helm", traced(namespaces=["llm-prod"])) if one["kind"] == "TracingPolicy"]
    (which,) = {str(one["spec"]["podSelector"]["matchExpressions"]) for one in found}
    assert yaml.safe_load(which) == [
        {"key": "k8s:io.kubernetes.pod.namespace", "operator": "In", "values": ["llm-prod"]}
    ]


def test_the_patch_that_the_readme_shows_keeps_them_to_namespaces(render: Render, tmp_path: Path) -> None:
    readme = (DAEMONSET / "tracing-policies" / "README.md").read_text(encoding="utf-8")
    folder = with_tracing_policies(tmp_path / "overlay")
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    kustomization |= yaml.safe_load(readme.split("```yaml\n")[1].split("```")[0])
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    found = [one for one in render("kustomize", folder) if one["kind"] == "TracingPolicy"]
    assert [one["spec"]["podSelector"]["matchExpressions"][0]["values"] for one in found] == [["llm-prod", "rag"]] * 5


def test_without_tetragon_there_are_no_tracing_policies(render: Render) -> None:
    values = {"components": {"tetragon": {"enabled": False, "tracingPolicies": {"enabled": True}}}}
    assert not [one for one in render("helm", values) if one["kind"] == "TracingPolicy"]


def test_monitoring_and_helm(render: Render, tmp_path: Path) -> None:
    folder = tmp_path / "overlay"
    folder.mkdir()
    up = "/".join([".."] * len(folder.resolve().parts[1:])) + str(DAEMONSET)
    wanted = f"{up}/components/policy-report-crds, {up}/components/monitoring"
    text = f"{{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization, resources: [{up}/base], components: [{wanted}]}}"
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
    by_kustomize = normalised(render("kustomize", folder))
    by_helm = normalised(render("helm", {"components": {"monitoring": {"enabled": True}}}))
    assert {"PodMonitor/reeve", "PrometheusRule/reeve", "ConfigMap/reeve-dashboard"} <= by_kustomize.keys()
    assert by_helm == by_kustomize
    labelled = render("helm", {"components": {"monitoring": {"enabled": True, "labels": {"release": "prom"}}}})
    kinds = {one["kind"] for one in labelled if one["metadata"].get("labels", {}).get("release") == "prom"}
    assert kinds == {"PodMonitor", "PrometheusRule"}


def configuration(found: list[Object]) -> dict[str, Any]:
    (config,) = [one for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"] != "reeve-dashboard"]
    return {name: yaml.safe_load(text) for name, text in config["data"].items()}


def test_another_configuration_is_a_rolling_update(render: Render) -> None:
    def pod(values: dict[str, Any]) -> Object:
        (daemonset,) = [one for one in render("helm", values) if one["kind"] == "DaemonSet"]
        found: Object = daemonset["spec"]["template"]
        return found

    assert pod({"config": {"canary": {"every_seconds": 60}}}) != pod({})


def test_settings_of_ones_own_come_last(render: Render) -> None:
    found = configuration(render("helm", {"config": {"canary": {"every_seconds": 60}}}))
    assert max(found) == "50-values.yaml"
    assert found["50-values.yaml"] == {
        "apiVersion": "reeve.dev/v1alpha1",
        "kind": "AgentConfig",
        "canary": {"every_seconds": 60},
    }


def test_another_runtime_is_mounted_where_the_agent_looks(render: Render) -> None:
    values = {"components": {"ebpf": {"enabled": True, "runtimeDirectory": "/run/crio"}}}
    (daemonset,) = [one for one in render("helm", values) if one["kind"] == "DaemonSet"]
    pod = daemonset["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "runtime"]
    (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "runtime"]
    assert (volume["hostPath"]["path"], mount["mountPath"]) == ("/run/crio", "/run/crio")


def test_probes_without_plaintext_have_no_sys_admin(render: Render) -> None:
    (daemonset,) = [
        one for one in render("helm", {"components": {"ebpf": {"enabled": True}}}) if one["kind"] == "DaemonSet"
    ]
    added = daemonset["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]
    assert "SYS_PTRACE" in added
    assert "SYS_ADMIN" not in added


def test_tetragon_may_be_elsewhere(render: Render) -> None:
    found = render("helm", {"components": {"tetragon": {"enabled": True, "namespace": "tetragon"}}})
    (service,) = [one for one in found if one["metadata"]["name"] == "reeve-tetragon-metrics"]
    assert service["metadata"]["namespace"] == "tetragon"
    told = configuration(found)["40-chart.yaml"]["sources"]["tetragon"]["metrics_url"]
    assert told == "http://reeve-tetragon-metrics.tetragon.svc:2112/metrics"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"componets": {}}, "componets"),
        ({"components": {"ebpf": {"enabled": "yes"}}}, "boolean"),
        ({"components": {"telemetry": {"enabled": True}}}, "telemetry"),
        ({"components": {"tetragon": {"tracingPolicies": True}}}, "tracingPolicies"),
        ({"priorityClass": {"value": 2000000000}}, "1,000,000,000|1000000000|maximum"),
    ],
)
def test_a_value_that_means_nothing_is_refused(values: dict[str, Any], words: str, render: Render) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render("helm", values)
    assert re.search(words, refused.value.stderr)

"""The manifests fit together and fit the agent: names, ports, times, and configuration that loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from agent.app.canary import enabled_paths
from agent.app.running import load_settings
from agent.cli.root import main
from agent.config import Settings
from tests.unit.daemonset.manifests import (
    COMPONENTS,
    DAEMONSET,
    OVERLAYS,
    documents,
    files,
    fragments,
    objects,
    the,
    walk,
)

CLUSTER_WIDE = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
    "CustomResourceDefinition",
    "TracingPolicy",
}


def gathered(overlay: str, folder: Path, *more: str) -> Path:
    """The directory that an overlay's agent reads."""
    for path in [*fragments(overlay), *(DAEMONSET / "components" / name for name in more)]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def settings_of(overlay: str, folder: Path) -> Settings:
    return load_settings(gathered(overlay, folder), node="node-1")[0]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(DAEMONSET).as_posix())
def test_every_document_says_what_it_is(path: Path) -> None:
    found = documents(path)
    assert found
    assert all(one.get("apiVersion") and one.get("kind") for one in found)


def test_every_object_is_named_and_lies_in_a_namespace_if_it_must() -> None:
    without = [
        one["kind"] for one in objects() if not one["metadata"].get("namespace") and one["kind"] not in CLUSTER_WIDE
    ]
    assert not without
    assert {one["metadata"]["namespace"] for one in objects() if one["kind"] not in CLUSTER_WIDE} == {
        "reeve-system",
        "kube-system",  # where Tetragon's pods are, of which a Service is made
    }


def test_every_component_is_in_the_readme() -> None:
    readme = (DAEMONSET / "README.md").read_text(encoding="utf-8")
    assert not [name for name in COMPONENTS if f"| `{name}` |" not in readme]
    assert not [name for name in OVERLAYS if f"| `{name}` |" not in readme]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_configuration_of_an_overlay_is_good(overlay: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["check", "--config", str(gathered(overlay, tmp_path))])
    assert (done.exit_code, done.output) == (0, done.output)
    assert "good: " in done.output


def test_reports_are_switched_by_one_fragment(tmp_path: Path) -> None:
    folder = gathered("default", tmp_path, "openreports/config/20-openreports.yaml")
    sink = load_settings(folder)[0].sinks["policyreport"]
    assert sink == {"target": "cluster", "api": "openreports", "flush_seconds": 30}


@pytest.mark.parametrize(
    ("overlay", "sources", "paths"),
    [
        ("default", {"containerlogs"}, ("logs",)),
        ("ebpf", {"containerlogs", "ebpf"}, ("logs", "runtime", "plaintext")),
        ("tetragon", {"containerlogs", "tetragon"}, ("logs", "runtime")),
        ("hubble", {"containerlogs", "hubble"}, ("logs",)),
        ("full", {"containerlogs", "ebpf", "tetragon", "hubble"}, ("logs", "runtime", "plaintext")),
    ],
)
def test_an_overlay_switches_on_what_it_says(
    overlay: str, sources: set[str], paths: tuple[str, ...], tmp_path: Path
) -> None:
    settings = settings_of(overlay, tmp_path)
    assert set(settings.sources) == sources
    assert enabled_paths(settings) == paths


def test_nobody_is_read_in_plaintext_who_did_not_ask_for_it(tmp_path: Path) -> None:
    selectors = (settings_of("full", tmp_path).sources["ebpf"] or {})["plaintext"]["select"]
    assert [one["labels"] for one in selectors] == [{"reeve.dev/plaintext": "yes"}]


def test_the_agent_does_not_read_its_own_words(tmp_path: Path) -> None:
    logs = settings_of("default", tmp_path).sources["containerlogs"] or {}
    assert logs["exclude_namespaces"] == [the("Namespace", "reeve-system")["metadata"]["name"]]


def container() -> dict[str, Any]:
    found: list[dict[str, Any]] = the("DaemonSet", "reeve")["spec"]["template"]["spec"]["containers"]
    assert len(found) == 1
    return found[0]


def test_one_port_is_meant_everywhere(tmp_path: Path) -> None:
    settings = settings_of("default", tmp_path)
    assert settings.http is not None
    port = settings.http.address[1]
    assert container()["ports"] == [{"name": "metrics", "containerPort": port, "protocol": "TCP"}]
    assert [one["port"] for one in the("Service", "reeve")["spec"]["ports"]] == [port]
    rules = the("NetworkPolicy", "reeve")["spec"]["ingress"]
    assert [one["port"] for rule in rules for one in rule["ports"]] == [port]


def test_the_pod_may_drain_before_it_is_killed(tmp_path: Path) -> None:
    grace = the("DaemonSet", "reeve")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= settings_of("default", tmp_path).pipeline.drain_seconds + 10


def test_two_agents_never_share_a_state_directory() -> None:
    strategy = the("DaemonSet", "reeve")["spec"]["updateStrategy"]["rollingUpdate"]
    assert "maxSurge" not in strategy


def test_what_is_mounted_is_what_the_configuration_names(tmp_path: Path) -> None:
    mounts = {one["mountPath"] for one in container()["volumeMounts"]}
    settings = settings_of("default", tmp_path)
    logs = settings.sources["containerlogs"] or {}
    assert {str(settings.state_dir), *logs["paths"], container()["args"][-1]} <= mounts


@pytest.mark.parametrize("name", ["tetragon", "hubble"])
def test_the_directory_of_a_socket_is_mounted(name: str) -> None:
    patch = documents(DAEMONSET / "components" / name / "daemonset.yaml")[0]
    (mount,) = [one for part in walk(patch) for one in part.get("volumeMounts", ())]
    fragment = yaml.safe_load((DAEMONSET / "components" / name / "config" / f"20-{name}.yaml").read_text())
    assert fragment["sources"][name]["address"].rpartition("/")[0] == f"unix://{mount['mountPath']}"


def test_all_selectors_mean_the_agents_pods() -> None:
    labels = the("DaemonSet", "reeve")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        the("DaemonSet", "reeve")["spec"]["selector"]["matchLabels"],
        the("Service", "reeve")["spec"]["selector"],
        the("NetworkPolicy", "reeve")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_has_probes_where_they_are_wanted(overlay: str) -> None:
    kustomization = documents(DAEMONSET / "overlays" / overlay / "kustomization.yaml")[0]
    has_probes = any(one.endswith("/ebpf") for one in kustomization["components"])
    assert [one["newTag"].endswith("-ebpf") for one in kustomization["images"]] == [has_probes]


def test_the_chart_has_each_fragment_and_definition_and_no_copy() -> None:
    links = list((DAEMONSET / "chart" / "files").rglob("*.yaml"))
    assert all(path.is_symlink() for path in links)
    meant = {one.resolve() for name in OVERLAYS for one in fragments(name)}
    for fragment in ("openreports/config/20-openreports.yaml", "tracing-policies/config/30-tracing-policies.yaml"):
        meant.add((DAEMONSET / "components" / fragment).resolve())
    assert {one.resolve() for one in links if one.parent.name == "config"} == meant
    assert len([one for one in links if one.parent.name == "crds"]) == 3
    policies = {one.resolve() for one in links if one.parent.name == "tracing-policies"}
    assert policies == {*(DAEMONSET / "tracing-policies").glob("*.yaml")} - {
        DAEMONSET / "tracing-policies" / "kustomization.yaml"
    }


def test_the_sample_asks_where_the_agent_answers() -> None:
    (sample,) = documents(DAEMONSET / "examples" / "canary-checker.yaml")
    assert sample["apiVersion"] == "canaries.flanksource.com/v1"
    assert [one["url"] for one in sample["spec"]["http"]] == ["http://reeve.reeve-system.svc:9464/canary"]

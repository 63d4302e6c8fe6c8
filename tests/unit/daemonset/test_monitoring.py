"""daemonset/monitoring: rules and dashboard name what agents have; alerts have cases and runbooks; nothing is stale."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from agent.telemetry.metrics import METRICS
from tests.unit.daemonset.manifests import DAEMONSET

MONITORING = DAEMONSET / "monitoring"
COMPONENT = DAEMONSET / "components" / "monitoring"
# Of every target, of the Python client, of the recording rules, and of the target itself.
OTHERS = {
    "up": set(),
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
    "node:reeve_violations:increase5m": {"policy", "rule", "severity"},
    "node:reeve_findings:increase5m": {"kind", "entity", "direction"},
}
OF_TARGETS = {"node", "job", "instance", "pod", "le"}
_SELECTOR = re.compile(r"([a-z_:][a-z0-9_:]*)\s*\{([^}]*)\}", re.I)
_LABEL = re.compile(r"\s*([a-z_]\w*)\s*(?:=~|!~|!=|=)", re.I)
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_METRIC = re.compile(r"\b((?:node:)?reeve_\w+(?::\w+)?|process_\w+|up)\b")


def catalogue() -> dict[str, set[str]]:
    """Series that agents have, as Prometheus names them, to their labels."""
    found = dict(OTHERS)
    for row in METRICS:
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[row.kind]
        found |= {row.name + suffix: set(row.labels) for suffix in suffixes}
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]


def dashboard() -> dict[str, Any]:
    return dict(json.loads((COMPONENT / "reeve.json").read_text()))


def targets() -> Iterator[tuple[str, str]]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def expressions() -> list[tuple[str, str]]:
    return [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()] + list(targets())


@pytest.mark.parametrize(("name", "expression"), expressions())
def test_an_expression_names_metrics_and_labels_that_agents_have(name: str, expression: str) -> None:
    known = catalogue()
    without_strings = re.sub(r'"[^"]*"', '""', expression)
    metrics = set(_METRIC.findall(without_strings))
    assert metrics, "no metric in it"
    assert metrics <= known.keys()
    for metric, inside in _SELECTOR.findall(without_strings):
        if metric in known:
            assert set(_LABEL.findall(inside)) <= known[metric] | OF_TARGETS, metric
    grouped = {label.strip() for inside in _GROUPING.findall(without_strings) for label in inside.split(",")}
    assert grouped <= set().union(OF_TARGETS, *(known[metric] for metric in metrics))


def test_every_metric_has_a_panel() -> None:
    shown = {metric for _, expression in targets() for metric in _METRIC.findall(expression)}
    missing = [
        row.name
        for row in METRICS
        if not any(one == row.name or one.removesuffix("_total").removesuffix("_bucket") == row.name for one in shown)
    ]
    assert missing == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: str(one["alert"]))
def test_an_alert_says_what_where_and_what_to_do(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    readme = (MONITORING / "README.md").read_text()
    assert annotations["runbook_url"].endswith(f"monitoring/README.md#{name.lower()}")
    assert f"\n### {name}\n" in readme
    assert f"| [{name}](#{name.lower()}) | {alert['labels']['severity']} | {alert.get('for', 'at once')} |" in readme
    used = set(re.findall(r"\$labels\.(\w+)", "".join(annotations.values())))
    labels = set().union(OF_TARGETS, *(catalogue()[one] for one in set(_METRIC.findall(alert["expr"]))))
    assert used <= labels


@pytest.mark.parametrize("name", [one["alert"] for one in ALERTS])
def test_an_alert_has_a_case_in_which_it_fires_and_a_time_at_which_it_does_not(name: str) -> None:
    cases = yaml.safe_load((MONITORING / "rules.test.yaml").read_text())["tests"]
    (case,) = [one for one in cases if one["name"].startswith(f"{name}: ")]
    silent, firing = case["promql_expr_test"]
    assert name in silent["expr"]
    assert silent["exp_samples"] == []
    assert [f'alertname="{name}"' in one["labels"] for one in firing["exp_samples"]] == [True]


def test_what_is_generated_is_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, str(MONITORING / "generate.py"), "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_file_that_is_stale_is_named(tmp_path: Any) -> None:
    copy = tmp_path / "daemonset" / "monitoring"
    copy.mkdir(parents=True)
    for name in ("generate.py", "rules.yaml", "panels.yaml"):
        (copy / name).write_text((MONITORING / name).read_text())
    done = subprocess.run(
        [sys.executable, str(copy / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "prometheusrule.yaml is not what generate.py makes" in done.stderr


def test_the_rules_are_those_of_the_resource() -> None:
    resource = yaml.safe_load((COMPONENT / "prometheusrule.yaml").read_text())
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"] == yaml.safe_load((MONITORING / "rules.yaml").read_text())


def test_panels_have_room_and_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 40
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", ["components/monitoring/podmonitor.yaml", "examples/servicemonitor.yaml"])
def test_monitors_scrape_the_port_of_the_pod_with_the_node_s_name(path: str) -> None:
    monitor = yaml.safe_load((DAEMONSET / path).read_text())
    daemonset = yaml.safe_load((DAEMONSET / "base" / "daemonset.yaml").read_text())
    service = yaml.safe_load((DAEMONSET / "base" / "service.yaml").read_text())
    ports = {port["name"] for port in daemonset["spec"]["template"]["spec"]["containers"][0]["ports"]}
    (endpoint,) = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
    assert endpoint["port"] in ports & {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["relabelings"] == [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]
    labels = (
        daemonset["spec"]["template"]["metadata"]["labels"]
        if monitor["kind"] == "PodMonitor"
        else service["metadata"]["labels"]
    )
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()

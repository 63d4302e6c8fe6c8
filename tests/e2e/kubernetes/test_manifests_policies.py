"""The definition of RuntimePolicy at a real API server: takes every shipped policy, refuses what the agent would."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.peers.kubernetes.building import DEFAULT_VERSION, OLDEST_VERSION
from tests.peers.kubernetes.control_plane import ControlPlane

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path for path in (ROOT / "policies").rglob("*.yaml") if not path.name.endswith(".test.yaml"))
GOOD: dict[str, Any] = yaml.safe_load("""
apiVersion: reeve.dev/v1alpha1
kind: RuntimePolicy
metadata: {name: made-up, annotations: {policies.kyverno.io/severity: high}}
spec:
  rules:
    - name: first
      match: {any: [{resources: {kinds: [Log], namespaces: ['llm-*'], selector: {matchLabels: {app: bot}}}}]}
      exclude: {all: [{resources: {names: ['canary-*']}}]}
      celPreconditions: [{name: has-text, expression: 'log.text != ""'}]
      validate: {message: 'no', cel: {expressions: [{expression: 'findings.size() == 0'}]}}
    - name: second
      match: {all: [{resources: {kinds: [Process]}}]}
      validate: {pattern: {process: {binary: '!*/bash', deep: {er: [1, {x: y}]}}}}
    - name: third
      match: {all: [{resources: {kinds: ['*']}}]}
      validate: {anyPattern: [{resource: {namespace: a}}, {resource: {namespace: b}}]}
    - name: fourth
      match: {all: [{resources: {}}]}
      validate: {deny: {conditions: {any: [{key: '{{ event.source }}', operator: AnyIn, value: [a, b]}, {key: x, operator: Equals, value: 4}]}}}
""")


@pytest.fixture(scope="module", params=[DEFAULT_VERSION, OLDEST_VERSION])
def plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    found: ControlPlane = request.getfixturevalue("control_planes")(request.param)
    found.kubectl("apply", "--server-side", "-k", str(ROOT / "daemonset" / "crds"))
    found.kubectl("wait", "--for=condition=Established", "crd/runtimepolicies.reeve.dev", "--timeout=30s")
    found.until(
        lambda: "runtimepolicies" in found.kubectl("api-resources", "--api-group=reeve.dev", "--cached=false"), 30
    )
    yield found
    found.kubectl("delete", "crd", "--all")  # other tests of the session begin without


def put(plane: ControlPlane, document: dict[str, Any]) -> str:
    return plane.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(document), check=False)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_policy_is_taken(path: Path, plane: ControlPlane) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert put(plane, document).endswith("created (server dry run)\n")


def test_nothing_of_a_policy_is_pruned(plane: ControlPlane) -> None:
    plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(GOOD))
    kept = plane.get("runtimepolicy", "made-up")
    assert kept["spec"] == GOOD["spec"]
    plane.kubectl("delete", "runtimepolicy", "made-up")


def test_kubectl_shows_rules_state_and_severity(plane: ControlPlane) -> None:
    plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(GOOD))
    condition = {"type": "Loaded", "status": "True", "reason": "Loaded", "message": "4 rules in force"}
    status = {"status": {"rules": 4, "loadErrors": 0, "conditions": [condition]}}
    plane.kubectl("patch", "rtpol", "made-up", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    header, line = plane.kubectl("get", "rtpol").splitlines()
    assert header.split() == ["NAME", "RULES", "LOADED", "SEVERITY", "AGE"]
    assert line.split()[:4] == ["made-up", "4", "True", "high"]
    plane.kubectl("delete", "runtimepolicy", "made-up")


Change = Callable[[dict[str, Any]], object]


def first(policy: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = policy["spec"]["rules"][0]
    return found


BROKEN: dict[str, tuple[Change, str]] = {
    "no rules": (lambda policy: policy["spec"]["rules"].clear(), "spec.rules: Invalid value: 0"),
    "two rules of one name": (lambda policy: policy["spec"]["rules"][1].update(name="first"), "spec.rules[1]: Duplicate value"),
    "neither any nor all": (lambda policy: first(policy).update(match={}), "needs exactly one of any and all"),
    "any and all": (
        lambda policy: first(policy)["match"].update(all=first(policy)["match"]["any"]),
        "needs exactly one of any and all",
    ),
    "any without a filter": (lambda policy: first(policy).update(match={"any": []}), "needs exactly one of any and all"),
    "an exclude of both": (
        lambda policy: first(policy)["exclude"].update(any=first(policy)["match"]["any"]),
        "exclude: Invalid value",
    ),
    "no way to validate": (lambda policy: first(policy)["validate"].pop("cel"), "needs exactly one of cel, pattern, anyPattern and deny"),
    "two ways to validate": (
        lambda policy: first(policy)["validate"].update(pattern={"a": "b"}),
        "needs exactly one of cel, pattern, anyPattern and deny",
    ),
    "a kind that nobody knows": (
        lambda policy: first(policy)["match"]["any"][0]["resources"].update(kinds=["Pods"]),
        'Unsupported value: "Pods": supported values: "Process"',
    ),
    "an operator that nobody knows": (
        lambda policy: policy["spec"]["rules"][3]["validate"]["deny"]["conditions"]["any"][0].update(operator="Matches"),
        'Unsupported value: "Matches"',
    ),
    "conditions that are empty": (
        lambda policy: policy["spec"]["rules"][3]["validate"]["deny"].update(conditions={"any": []}),
        "needs a condition, in any or in all",
    ),
    "enforcement": (lambda policy: policy["spec"].update(failureAction="Enforce"), 'supported values: "Audit"'),
    "a misspelt field": (lambda policy: first(policy).update(valdate={}), 'unknown field "spec.rules[0].valdate"'),
    "an empty expression": (
        lambda policy: first(policy)["validate"].update(cel={"expressions": [{"expression": ""}]}),
        "expression: Invalid value",
    ),
    "no name": (lambda policy: first(policy).pop("name"), "name: Required value"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_policy_is_refused_and_the_message_says_why(mistake: str, plane: ControlPlane) -> None:
    change, words = BROKEN[mistake]
    policy = copy.deepcopy(GOOD)
    change(policy)
    told = put(plane, policy)
    assert "created" not in told
    assert words in told

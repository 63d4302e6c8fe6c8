"""The agent's service account, with its own token, at a real API server: it may what it must, and nothing else."""

from __future__ import annotations

import itertools
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.app.examining import rights_of
from agent.app.running import load_settings
from tests.e2e.saying import said_in
from tests.peers.kubernetes.building import DEFAULT_VERSION, OLDEST_VERSION
from tests.peers.kubernetes.control_plane import ControlPlane

DAEMONSET = Path(__file__).resolve().parents[3] / "daemonset"
NAMESPACE = "reeve-system"
# Those of Kubernetes' authorization documentation, and some that only mean something together.
VERBS = (
    *("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"),
    *("impersonate", "bind", "escalate", "approve", "sign", "attest", "use", "proxy", "*"),
)
GROUPS = ("reeve.dev", "wgpolicyk8s.io", "openreports.io")
REPORTS = ("get", "list", "create", "patch")
NEEDED = {
    *((verb, "", "pods") for verb in ("get", "list", "watch")),
    ("get", "", "nodes"),
    *((verb, "", "events") for verb in ("create", "patch")),
    *((verb, "reeve.dev", "runtimepolicies") for verb in ("get", "list", "watch")),
    ("patch", "reeve.dev", "runtimepolicies/status"),
    *((verb, "wgpolicyk8s.io", kind) for verb in REPORTS for kind in ("policyreports", "clusterpolicyreports")),
}
# What every account may by Kubernetes' own roles: ask about itself (system:basic-user), read public certificates
# (system:cluster-trust-bundle-discovery, of newer versions).
EVERYBODYS = {
    *(("create", "authorization.k8s.io", f"selfsubject{what}reviews") for what in ("access", "rules")),
    ("create", "authentication.k8s.io", "selfsubjectreviews"),
    *((verb, "certificates.k8s.io", "clustertrustbundles") for verb in ("get", "list", "watch")),
}


class Account:
    """Requests with the token of a service account."""

    def __init__(self, plane: ControlPlane) -> None:
        self._url = plane.url
        self._token = plane.token("reeve", NAMESPACE)
        self._tls = ssl.create_default_context(cafile=str(plane.ca_file))

    def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        request = urllib.request.Request(
            f"{self._url}{path}", method=method, data=json.dumps(body).encode() if body else None
        )
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")

    def may(self, verb: str, group: str, resource: str, namespace: str = "") -> bool:
        name, _, subresource = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": name,
            "subresource": subresource,
            "namespace": namespace,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        status, answer = self.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        assert status == 201, answer
        return bool(answer["status"]["allowed"])


class Known(NamedTuple):
    group: str
    resource: str
    is_namespaced: bool


@pytest.fixture(scope="module", params=[DEFAULT_VERSION, OLDEST_VERSION])
def plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    found: ControlPlane = request.getfixturevalue("control_planes")(request.param)
    found.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(DAEMONSET / "overlays" / "default"))
    found.until(lambda: [found.kubectl("get", "--raw", f"/apis/{group}") for group in GROUPS], 30)
    yield found
    found.kubectl("delete", "crd", "--all")  # other tests of the session begin without


@pytest.fixture(scope="module")
def account(plane: ControlPlane) -> Account:
    made = Account(plane)
    # Roles are read by the authoriser a moment after they were written.
    plane.until(lambda: made.may("list", "", "pods"), 30)
    return made


def served(plane: ControlPlane) -> Iterator[Known]:
    """Every resource and subresource that the API server serves."""
    roots = ["/api/v1"]
    for group in json.loads(plane.kubectl("get", "--raw", "/apis"))["groups"]:
        roots += [f"/apis/{version['groupVersion']}" for version in group["versions"]]
    for root in roots:
        group = "" if root == "/api/v1" else root.split("/")[2]
        for one in json.loads(plane.kubectl("get", "--raw", root))["resources"]:
            yield Known(group, one["name"], one["namespaced"])


@pytest.mark.parametrize("right", sorted(NEEDED), ids=" ".join)
def test_it_may_what_it_must(right: tuple[str, str, str], account: Account) -> None:
    assert account.may(*right)


def test_what_it_must_is_what_the_agent_says_it_needs(tmp_path: Path) -> None:
    settings = load_settings(DAEMONSET / "base" / "config")[0]
    needed = {
        (right.verb, right.group, "/".join(part for part in (right.resource, right.subresource) if part))
        for right in rights_of(settings)
    }
    assert needed == NEEDED


@pytest.mark.timeout(300)
@pytest.mark.parametrize("namespace", ["", "kube-system", NAMESPACE])
def test_of_all_that_is_served_it_may_nothing_else(
    namespace: str, plane: ControlPlane, account: Account, request: pytest.FixtureRequest
) -> None:
    resources = {one for one in served(plane) if one.is_namespaced or not namespace}
    assert len(resources) > 40
    asked = {(verb, one.group, one.resource) for verb, one in itertools.product(VERBS, resources)}
    allowed = {one for one in asked if account.may(*one, namespace=namespace)}
    if not namespace:
        table = [
            f"{verb:6} {resource}{'.' + group if group else ''}"
            for verb, group, resource in sorted(allowed - EVERYBODYS)
        ]
        heading = f"{len(asked)} verbs on resources asked of Kubernetes {plane.version}, {len(table)} allowed:"
        said_in(request.config, f"rights of the service account, {plane.version}", [heading, *table])
    assert allowed - EVERYBODYS == {one for one in NEEDED if one in asked}


@pytest.mark.parametrize(
    ("verb", "group", "resource"),
    [
        ("*", "*", "*"),
        ("impersonate", "", "serviceaccounts"),
        ("impersonate", "", "users"),
        ("impersonate", "authentication.k8s.io", "uids"),
        ("create", "", "serviceaccounts/token"),
        ("get", "", "nodes/proxy"),
        ("create", "", "pods/exec"),
        ("create", "", "pods/ephemeralcontainers"),
        ("get", "metrics.k8s.io", "pods"),
        ("use", "security.openshift.io", "securitycontextconstraints"),
    ],
)
def test_what_is_not_served_here_is_refused_as_well(verb: str, group: str, resource: str, account: Account) -> None:
    assert not account.may(verb, group, resource)


def test_its_rules_are_the_roles_and_no_more(account: Account) -> None:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}}
    status, answer = account.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body)
    assert status == 201
    assert not answer["status"]["incomplete"]
    rules = {
        (verb, group, resource)
        for rule in answer["status"]["resourceRules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rules - EVERYBODYS == NEEDED
    # Version, health and discovery are everybody's.
    paths = {path for rule in answer["status"].get("nonResourceRules", ()) for path in rule["nonResourceURLs"]}
    assert not [path for path in paths if path.startswith(("/metrics", "/logs", "/debug", "*"))]


EVENT = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "reeve-1", "namespace": "default"},
    "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "vllm-0", "namespace": "default"},
    "reason": "PolicyViolation",
    "message": "made up",
    "type": "Warning",
}
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


def test_its_work_is_done_with_its_own_token(plane: ControlPlane, account: Account) -> None:
    report = {
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": {"name": "reeve-1", "namespace": "default"},
    }
    query = "fieldManager=reeve&force=true"
    policy = {
        "spec": {"rules": [{"name": "a", "match": {"any": [{"resources": {}}]}, "validate": {"pattern": {"a": "b"}}}]}
    }
    head = {"apiVersion": "reeve.dev/v1alpha1", "kind": "RuntimePolicy", "metadata": {"name": "made-up"}}
    plane.apply(json.dumps({**head, **policy}))
    calls = [
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", None, "application/json", 200),
        ("GET", "/api/v1/nodes/n1", None, "application/json", 404),  # there is none: allowed, and not found
        ("POST", "/api/v1/namespaces/default/events", EVENT, "application/json", 201),
        ("PATCH", "/api/v1/namespaces/default/events/reeve-1", {"count": 2}, MERGE, 200),
        ("PATCH", f"/apis/wgpolicyk8s.io/v1alpha2/namespaces/default/policyreports/reeve-1?{query}", report, APPLY, 201),
        ("PATCH", f"/apis/wgpolicyk8s.io/v1alpha2/namespaces/default/policyreports/reeve-1?{query}", report, APPLY, 200),
        ("GET", "/apis/reeve.dev/v1alpha1/runtimepolicies", None, "application/json", 200),
        ("PATCH", "/apis/reeve.dev/v1alpha1/runtimepolicies/made-up/status", {"status": {"rules": 1}}, MERGE, 200),
    ]  # fmt: skip
    for method, path, body, content_type, wanted in calls:
        status, answer = account.ask(method, path, body, content_type)
        assert status == wanted, (method, path, answer)
    plane.kubectl("delete", "runtimepolicy", "made-up")
    plane.kubectl("delete", "policyreport,event", "reeve-1", "-n", "default")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/secrets", None),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/any", None),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps", None),
        ("GET", "/api/v1/nodes", None),
        ("GET", "/api/v1/nodes/n1/proxy/pods", None),
        ("GET", "/api/v1/events", None),
        ("GET", "/api/v1/namespaces/default/pods/any/log", None),
        ("POST", "/api/v1/namespaces/default/pods/any/exec?command=id", {"a": 1}),
        ("POST", "/api/v1/namespaces/default/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}),
        ("DELETE", "/api/v1/namespaces/default/pods/any", None),
        ("DELETE", "/apis/wgpolicyk8s.io/v1alpha2/namespaces/default/policyreports/any", None),
        ("DELETE", "/apis/wgpolicyk8s.io/v1alpha2/clusterpolicyreports", None),
        ("DELETE", "/apis/reeve.dev/v1alpha1/runtimepolicies/any", None),
        ("POST", "/apis/reeve.dev/v1alpha1/runtimepolicies", {"apiVersion": "reeve.dev/v1alpha1", "kind": "RuntimePolicy", "metadata": {"name": "x"}}),
        ("GET", "/apis/openreports.io/v1alpha1/reports", None),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/reeve/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", None),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "x"}}),
        ("GET", "/metrics", None),
        ("GET", "/logs/", None),
    ],
)  # fmt: skip
def test_a_call_that_is_none_of_its_work_is_refused(method: str, path: str, body: Any, account: Account) -> None:
    status, answer = account.ask(method, path, body)
    assert (status, answer.get("reason")) == (403, "Forbidden"), answer


@pytest.mark.parametrize("name", ["default"])
def test_another_account_of_the_namespace_may_nothing_of_it(name: str, plane: ControlPlane) -> None:
    told = plane.kubectl(
        "auth", "can-i", "list", "pods", "-A", f"--as=system:serviceaccount:{NAMESPACE}:{name}", check=False
    )
    assert told.strip() == "no"

"""What a configuration needs around it, looked at one by one: directories, the API server, rights, definitions.

Rights are asked for with SelfSubjectAccessReview, which every account may; nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.app.loading import plugin_name
from agent.cluster import KubernetesClient, configuration_of
from agent.config import Settings
from agent.plugins import ClusterApi, ClusterError
from agent.reports.document import APIS
from agent.sources.ebpf.examination import Check

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Right(NamedTuple):
    """One thing the service account must be allowed; `why` names what is lost without."""

    verb: str
    group: str
    resource: str
    why: str
    subresource: str = ""

    def __str__(self) -> str:
        name = "/".join(part for part in (self.resource, self.subresource) if part)
        return f"{self.verb} {name}" + (f".{self.group}" if self.group else "")


def rights_of(settings: Settings) -> list[Right]:
    """What the configured parts ask of the API server, and nothing else."""
    if settings.cluster is None:
        return []
    rights: list[Right] = []
    if settings.cluster.identity:
        rights += [Right(verb, "", "pods", "names and labels of pods") for verb in ("get", "list", "watch")]
    if settings.cluster.policies:
        why = "policies kept as resources"
        rights += [Right(verb, "reeve.dev", "runtimepolicies", why) for verb in ("get", "list", "watch")]
        rights.append(Right("patch", "reeve.dev", "runtimepolicies", "load errors shown on them", "status"))
    for name, config in settings.sinks.items():
        match plugin_name(name, config):
            case "policyreport" if (config or {}).get("target", "auto") != "files":
                version, _, _, *collections = APIS[(config or {}).get("api", "wgpolicyk8s")]
                group = version.partition("/")[0]
                for collection in collections:
                    rights += [
                        Right(verb, group, collection, "policy reports") for verb in ("get", "list", "create", "patch")
                    ]
                rights.append(Right("get", "", "nodes", "the node's report goes with the node"))
            case "events":
                rights += [Right(verb, "", "events", "events on pods") for verb in ("create", "patch")]
    return rights


def configuration_checks(settings: Settings) -> list[Check]:
    """All checks of a configuration, in the order in which things would fail."""
    checks = [*_directories(settings)]
    if settings.cluster is None:
        return [*checks, Check("cluster", "API server", "off", "not configured", "add `cluster: {}`")]
    try:
        client = KubernetesClient(configuration_of(settings.cluster.kubeconfig))
    except ValueError as error:
        return [*checks, Check("cluster", "API server", "bad", str(error))]
    try:
        return [*checks, *cluster_checks(client, client.host, settings)]
    finally:
        client.close()


def cluster_checks(api: ClusterApi, host: str, settings: Settings) -> Iterator[Check]:
    """What the API server says of itself, of the account's rights, and of what is installed."""
    try:
        version = api.call("GET", "/version")
    except ClusterError as error:
        remedy = "the agent runs without: identity from paths and control groups, the last good policies"
        yield Check("cluster", "API server", "bad", f"{host}: {error}", remedy)
        return
    yield Check("cluster", "API server", "ok", f"{host} is {version.get('gitVersion', 'of an unknown version')}")
    refused: list[Right] = []
    for right in rights_of(settings):
        try:
            if not _is_allowed(api, right):
                refused.append(right)
        except ClusterError as error:
            yield Check("cluster", "rights", "off", f"cannot be asked for: {error}")
            break
    for right in refused:
        yield Check(
            "cluster", "rights", "bad", f"may not {right}", f"without it: no {right.why}; add it to the ClusterRole"
        )
    if not refused:
        yield Check("cluster", "rights", "ok", f"{len(rights_of(settings))} needed, all given")
    groups = sorted({right.group for right in rights_of(settings) if right.group})
    for group in groups:
        try:
            api.call("GET", f"/apis/{group}")
            yield Check("cluster", "definitions", "ok", group)
        except ClusterError as error:
            remedy = "install the CustomResourceDefinitions of this group"
            yield Check("cluster", "definitions", "bad", f"{group}: {error.reason}", remedy)


def _is_allowed(api: ClusterApi, right: Right) -> bool:
    attributes = {"verb": right.verb, "group": right.group, "resource": right.resource}
    if right.subresource:
        attributes["subresource"] = right.subresource
    if right.resource in ("pods", "events"):
        attributes["namespace"] = ""  # in all of them
    body: Mapping[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = api.call("POST", _REVIEWS, body=body)
    return bool((answer.get("status") or {}).get("allowed"))


def _directories(settings: Settings) -> Iterator[Check]:
    state = settings.state_dir
    if state.is_dir() and os.access(state, os.W_OK):
        yield Check("configuration", "state", "ok", f"{state} can be written")
    else:
        remedy = "mount a writable directory there: keys, checkpoints and the audit log are kept in it"
        yield Check("configuration", "state", "bad", f"{state} cannot be written", remedy)
    for name, config in settings.sources.items():
        if plugin_name(name, config) != "containerlogs":
            continue
        for path in (config or {}).get("paths", ["/var/log/pods"]):
            yield _readable(Path(path))


def _readable(path: Path) -> Check:
    try:
        count = len(os.listdir(path))
    except OSError as error:
        remedy = "mount the node's directory there, readable"
        return Check("configuration", "logs", "bad", f"{path}: {error.strerror}", remedy)
    return Check("configuration", "logs", "ok", f"{path}: {count} pods")

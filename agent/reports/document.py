"""A subject's state as a policy report, and the way back.  Pure.

Two APIs have one shape: wgpolicyk8s.io/v1alpha2 (what Kyverno writes by default) and openreports.io/v1alpha1.  Numbers
in `properties` are text, `timestamp` is seconds and nanos, `resultID` is ours, so that a consumer does not take two
events with one message for one.  Kept by severity, then by recency, within the byte budget; what has no room is folded
into one result per status, with how many there were.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast, get_args

from agent import VERSION
from agent.model import SEVERITIES, STATUSES, PolicyResult, Resource, Severity, Status
from agent.reports.aggregate import ResultState, SubjectState
from agent.reports.config import ReportApi

MANAGED_BY = "reeve"
NODE_LABEL = "reeve.dev/node"
FOLDED = "reeve-folded"
# API version, kind of a namespace's reports, kind of the cluster's, and their names in a path.
APIS: Mapping[ReportApi, tuple[str, str, str, str, str]] = {
    "wgpolicyk8s": (
        "wgpolicyk8s.io/v1alpha2",
        "PolicyReport",
        "ClusterPolicyReport",
        "policyreports",
        "clusterpolicyreports",
    ),
    "openreports": ("openreports.io/v1alpha1", "Report", "ClusterReport", "reports", "clusterreports"),
}
assert set(APIS) == set(get_args(ReportApi))
_MESSAGE_CHARACTERS = 512
# Envelope of a report without results, generous: metadata, labels, annotations, scope, and the folded results.
_ENVELOPE_BYTES = 3072
_ORDER = {status: order for order, status in enumerate(("fail", "error", "warn", "pass", "skip"))}


def _iso(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"


def _nanoseconds(text: str) -> int:
    """What `_iso` wrote.  Raises ValueError."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000_000 + int((rest or "0").ljust(9, "0")[:9])


def report_name(subject: SubjectState) -> str:
    """A name that is stable and allowed: by uid where it is known, else by a digest of the names."""
    resource = subject.resource
    if not resource.is_pod:
        # 200 characters leave room for the prefix and, in a file's name, for namespace and ending (255 bytes).
        node = re.sub(r"[^a-z0-9.-]", "-", (resource.node or "unknown").lower()).strip("-.") or "unknown"
        return f"reeve-node-{node[:180]}"
    if resource.pod_uid:
        uid = re.sub(r"[^a-z0-9-]", "-", resource.pod_uid.lower()).strip("-")
        return f"reeve-{uid[:120]}"
    return "reeve-" + hashlib.sha256(f"{resource.namespace}/{resource.pod}".encode()).hexdigest()[:32]


def node_label(node: str) -> str:
    """A node's name as a label's value, which has at most 63 characters; a longer one by its digest."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", node):
        return node
    return hashlib.sha256(node.encode()).hexdigest()[:32]


def _identifier(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]


def _result(subject: SubjectState, state: ResultState) -> dict[str, Any]:
    result = state.result
    resource = subject.resource
    place = (resource.namespace, resource.pod, resource.pod_uid)
    seconds, nanos = divmod(state.last_unix_nano, 1_000_000_000)
    properties = {
        "resultID": _identifier(*place, state.container, result.policy, result.rule, result.status),
        "count": str(state.count),
        "firstSeen": _iso(state.first_unix_nano),
        "lastSeen": _iso(state.last_unix_nano),
        "windowComplete": "true" if state.is_window_complete else "false",
    }
    if state.container:
        properties["container"] = state.container
    if state.entities:
        properties["entities"] = ", ".join(sorted(state.entities))
    if result.controls:
        properties["controls"] = "; ".join(result.controls)
    document: dict[str, Any] = {
        "source": MANAGED_BY,
        "policy": result.policy,
        "rule": result.rule,
        "result": result.status,
        "severity": result.severity,
        "scored": result.is_scored,
        "timestamp": {"seconds": seconds, "nanos": nanos},
        "properties": properties,
    }
    if result.category:
        document["category"] = result.category
    if result.message:
        document["message"] = result.message[:_MESSAGE_CHARACTERS]
    return document


def _folded(subject: SubjectState, states: list[ResultState]) -> list[dict[str, Any]]:
    """One result per status for all that have no room, and for those that had none in an earlier report."""
    folded = dict(subject.folded)
    for state in states:
        results, count = folded.get(state.result.status, (0, 0))
        folded[state.result.status] = (results + 1, count + state.count)
    resource = subject.resource
    return [
        {
            "source": MANAGED_BY,
            "policy": FOLDED,
            "rule": status,
            "result": status,
            "message": f"{results} more results, seen {count} times, have no room here; the audit log has them all",
            "properties": {
                "resultID": _identifier(resource.namespace, resource.pod, resource.pod_uid, FOLDED, status),
                "results": str(results),
                "count": str(count),
            },
        }
        for status, (results, count) in sorted(folded.items())
    ]


def report(
    subject: SubjectState, limit_bytes: int, api: ReportApi = "wgpolicyk8s", node_uid: str = ""
) -> dict[str, Any]:
    """The report of a subject, at most `limit_bytes` as compact JSON; `summary` counts the folded results too."""
    resource = subject.resource
    ordered = sorted(
        subject.results.values(),
        key=lambda state: (
            _ORDER[state.result.status],
            SEVERITIES.index(state.result.severity),
            -state.last_unix_nano,
            state.result.policy,
        ),
    )
    kept: list[dict[str, Any]] = []
    size = _ENVELOPE_BYTES
    for state in ordered:
        result = _result(subject, state)
        size += len(json.dumps(result, separators=(",", ":")).encode()) + 1
        if size > limit_bytes:
            break
        kept.append(result)
    folded = _folded(subject, ordered[len(kept) :])
    summary = {status: sum(result["result"] == status for result in kept) for status in STATUSES}
    for one in folded:
        summary[one["result"]] += int(one["properties"]["results"])
    metadata: dict[str, Any] = {
        "name": report_name(subject),
        "labels": {"app.kubernetes.io/managed-by": MANAGED_BY, "app.kubernetes.io/version": VERSION},
        "annotations": {"reeve.dev/policy-digest": subject.policy_digest},
    }
    if resource.node:
        metadata["labels"][NODE_LABEL] = node_label(resource.node)
    version, pod_kind, node_kind, _, _ = APIS[api]
    document: dict[str, Any] = {"apiVersion": version, "kind": node_kind, "metadata": metadata}
    scope = {"apiVersion": "v1", "kind": "Node", "name": resource.node or "unknown"}
    uid = node_uid
    if resource.is_pod:
        document["kind"] = pod_kind
        metadata["namespace"] = resource.namespace
        scope = {"apiVersion": "v1", "kind": "Pod", "name": resource.pod, "namespace": resource.namespace}
        uid = resource.pod_uid
    if uid:
        scope["uid"] = uid
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": scope["kind"], "name": scope["name"], "uid": uid}]
    document["scope"] = scope
    if api == "openreports":
        document["source"] = MANAGED_BY
    kept.sort(key=lambda result: (result["policy"], result["rule"], result["result"], result["properties"]["resultID"]))
    document["results"] = kept + folded
    document["summary"] = summary
    return document


def restored(document: Mapping[str, Any], node: str) -> tuple[Resource, list[ResultState], dict[str, tuple[int, int]]]:
    """What a report of ours says: its subject, the states, and what was folded.  What is no result of ours is left
    out; raises ValueError if there is no subject."""
    scope = document.get("scope") or {}
    name = str(scope.get("name") or "")
    if not name:
        raise ValueError("the report has no scope")
    resource = Resource(node=node)
    if scope.get("kind") == "Pod":
        resource = Resource(
            node=node, namespace=str(scope.get("namespace") or ""), pod=name, pod_uid=str(scope.get("uid") or "")
        )
    states: list[ResultState] = []
    folded: dict[str, tuple[int, int]] = {}
    for result in document.get("results") or ():
        properties = result.get("properties") or {}
        try:
            if result["policy"] == FOLDED:
                folded[result["result"]] = (int(properties["results"]), int(properties["count"]))
            else:
                states.append(_state(result, properties))
        except (KeyError, ValueError, TypeError):
            continue
    return resource, states, folded


def _state(result: Mapping[str, Any], properties: Mapping[str, str]) -> ResultState:
    status, severity = result["result"], result.get("severity", "medium")
    if status not in STATUSES or severity not in SEVERITIES:
        raise ValueError("no status or severity")
    return ResultState(
        result=PolicyResult(
            policy=str(result["policy"]),
            rule=str(result.get("rule", "")),
            status=cast(Status, status),
            message=str(result.get("message", "")),
            severity=cast(Severity, severity),
            category=str(result.get("category", "")),
            controls=tuple(one for one in properties.get("controls", "").split("; ") if one),
            is_scored=bool(result.get("scored", True)),
        ),
        container=properties.get("container", ""),
        first_unix_nano=_nanoseconds(properties["firstSeen"]),
        last_unix_nano=_nanoseconds(properties["lastSeen"]),
        count=int(properties["count"]),
        entities={one for one in properties.get("entities", "").split(", ") if one},
        is_window_complete=properties.get("windowComplete") != "false",
    )

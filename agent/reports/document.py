"""A subject's state as a PolicyReport (wgpolicyk8s.io/v1alpha2).  Pure.

Numbers in `properties` are text, `timestamp` is seconds and nanos, `resultID` is ours, so that a consumer does not take
two events with one message for one.  Kept by severity, then by recency, within the byte budget; what was left out is
said in an annotation, never silently.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any

from agent import VERSION
from agent.model import SEVERITIES, STATUSES
from agent.reports.aggregate import ResultState, SubjectState

API_VERSION = "wgpolicyk8s.io/v1alpha2"
MANAGED_BY = "reeve"
_MESSAGE_CHARACTERS = 512
# Envelope of a report without results, generous: metadata, labels, annotations, scope.
_ENVELOPE_BYTES = 2048
_ORDER = {status: order for order, status in enumerate(("fail", "error", "warn", "pass", "skip"))}


def _iso(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"


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


def _result(subject: SubjectState, state: ResultState) -> dict[str, Any]:
    result = state.result
    resource = subject.resource
    whole = "/".join(
        (resource.namespace, resource.pod, resource.pod_uid, state.container, result.policy, result.rule, result.status)
    )
    seconds, nanos = divmod(state.last_unix_nano, 1_000_000_000)
    properties = {
        "resultID": hashlib.sha256(whole.encode()).hexdigest()[:32],
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


def report(subject: SubjectState, limit_bytes: int) -> dict[str, Any]:
    """The report of a subject, at most `limit_bytes` as compact JSON."""
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
    annotations = {"reeve.dev/policy-digest": subject.policy_digest}
    if len(kept) < len(ordered):
        annotations["reeve.dev/results-left-out"] = str(len(ordered) - len(kept))
    summary = {status: sum(result["result"] == status for result in kept) for status in STATUSES}
    metadata: dict[str, Any] = {
        "name": report_name(subject),
        "labels": {"app.kubernetes.io/managed-by": MANAGED_BY, "app.kubernetes.io/version": VERSION},
        "annotations": annotations,
    }
    document: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "ClusterPolicyReport", "metadata": metadata}
    if resource.is_pod:
        document["kind"] = "PolicyReport"
        metadata["namespace"] = resource.namespace
        scope = {"apiVersion": "v1", "kind": "Pod", "name": resource.pod, "namespace": resource.namespace}
        if resource.pod_uid:
            scope["uid"] = resource.pod_uid
            owner = {"apiVersion": "v1", "kind": "Pod", "name": resource.pod, "uid": resource.pod_uid}
            metadata["ownerReferences"] = [owner]
        document["scope"] = scope
    else:
        document["scope"] = {"apiVersion": "v1", "kind": "Node", "name": resource.node or "unknown"}
    kept.sort(key=lambda result: (result["policy"], result["rule"], result["result"], result["properties"]["resultID"]))
    document["results"] = kept
    document["summary"] = summary
    return document

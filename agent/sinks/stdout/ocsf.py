"""Violations as OCSF 1.8 findings.  Pure: an evaluation in, JSON objects out.

Personal data and secrets become Data Security Findings (2006), everything else Detection Findings (2004).  No text of
the event goes along, only what was found where.
"""

from __future__ import annotations

import hashlib
from typing import Any

from agent import VERSION
from agent.model import Evaluation, Finding, PolicyResult, Severity

OCSF_VERSION = "1.8.0"
_CATEGORY_FINDINGS = 2
_DETECTION, _DATA_SECURITY = 2004, 2006
_CREATE = 1
_SEVERITY_IDS: dict[Severity, int] = {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}


def ocsf_findings(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One OCSF object for each violation of an evaluation."""
    return [_finding(evaluation, result) for result in evaluation.violations]


def _finding(evaluation: Evaluation, result: PolicyResult) -> dict[str, Any]:
    event, resource = evaluation.event, evaluation.event.resource
    is_data = any(finding.kind in ("pii", "secret") for finding in evaluation.findings)
    class_uid = _DATA_SECURITY if is_data else _DETECTION
    uid = hashlib.sha256(f"{event.id}/{result.policy}/{result.rule}".encode()).hexdigest()[:32]
    time_ms = (event.time_unix_nano or event.observed_time_unix_nano) // 1_000_000
    document: dict[str, Any] = {
        "activity_id": _CREATE,
        "category_uid": _CATEGORY_FINDINGS,
        "class_uid": class_uid,
        "type_uid": class_uid * 100 + _CREATE,
        "time": time_ms,
        "severity_id": _SEVERITY_IDS[result.severity],
        "severity": result.severity.capitalize(),
        "status_id": 1,
        "message": result.message,
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "Reeve", "vendor_name": "Reeve", "version": VERSION},
            "profiles": ["container"],
            "uid": event.id,
        },
        "finding_info": {
            "uid": uid,
            "title": f"{result.policy}/{result.rule}",
            "created_time": time_ms,
            "analytic": {"name": result.policy, "uid": f"{result.policy}/{result.rule}", "type_id": 1, "type": "Rule"},
            "types": [result.category] if result.category else [],
        },
        "container": {"name": resource.container, "uid": resource.container_id, "image": {"name": resource.image}},
        "device": {"hostname": resource.node, "type_id": 0},
        "resources": [
            {"name": resource.pod or resource.node, "namespace": resource.namespace, "uid": resource.pod_uid}
        ],
        "evidences": [_evidence(finding) for finding in evaluation.findings]
        or [{"data": {"event_class": event.event_class}}],
        "unmapped": {
            "source": event.source,
            "policy_digest": evaluation.policy_digest,
            "window_complete": evaluation.is_window_complete,
        },
    }
    if is_data:
        document["data_security"] = {
            "detection_system_id": 3,
            "data_lifecycle_state_id": 2,
            "policy": {"name": result.policy},
        }
    if result.controls:
        document["compliance"] = {"control": "; ".join(result.controls), "status_id": 3}
    return document


def _evidence(finding: Finding) -> dict[str, Any]:
    return {
        "data": {
            "kind": finding.kind,
            "entity": finding.entity,
            "field": finding.field,
            "start": finding.start,
            "end": finding.end,
            "score": finding.score,
            "direction": finding.direction,
            "fingerprint": finding.fingerprint,
        }
    }

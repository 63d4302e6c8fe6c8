"""A series of equal violations as one Event of the core API.  Pure.

Shape after kubelet's and Kyverno's: `involvedObject` with uid and container, reason `PolicyViolation`, `count` and two
times.  Events of a node lie in the namespace default, with its name as uid, as kubelet has it: `kubectl describe node`
asks for that.  API: kubernetes/api, core/v1/types.go, Event; its checks: pkg/apis/core/validation/events.go.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import quote

from agent.model import Evaluation, PolicyResult, Resource, Status
from agent.sinks.choice import entities_of, listed, one_line

Key: TypeAlias = tuple[str, ...]

# Kyverno's words for them; `kubectl get events --field-selector reason=PolicyViolation` finds violations of both.
REASONS: Mapping[Status, str] = {
    "fail": "PolicyViolation",
    "warn": "PolicyViolation",
    "error": "PolicyError",
    "pass": "PolicyApplied",
    "skip": "PolicySkipped",
}
COMPONENT = "reeve"
MESSAGE_BYTES = 1024
_COUNT_MOST = 2**31 - 1
# The API server keeps an event for an hour; a time longer ago, or to come, is not when it happened as people read it.
_HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Involved:
    """Whose event it is: a pod, or the node where no pod is known."""

    namespace: str
    name: str
    uid: str
    is_pod: bool


def involved_of(resource: Resource, node: str) -> Involved | None:
    """None if neither pod nor node has a name."""
    if resource.pod and resource.namespace:
        return Involved(resource.namespace, resource.pod, resource.pod_uid, is_pod=True)
    name = resource.node or node
    return Involved("default", name, name, is_pod=False) if name else None


@dataclass(slots=True)
class Series:
    """One Event and what of it is not written yet.  `count` is what the API server has."""

    involved: Involved
    container: str
    policy: str
    rule: str
    status: Status
    count: int = 0
    pending: int = 0
    first_unix: float = 0.0
    last_unix: float = 0.0
    message: str = ""
    entities: Counter[str] = field(default_factory=Counter)
    is_created: bool = False

    @property
    def name(self) -> str:
        """The same for the same series, also after a restart of the agent; a name that the API takes."""
        parts = (self.involved.namespace, self.involved.name, self.involved.uid, *self.told)
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]
        # 253 characters are allowed, pods have as many.
        stem = re.sub(r"[^a-z0-9.-]", "-", self.involved.name.lower())[:230]
        stem = ".".join(part.strip("-") for part in stem.split(".") if part.strip("-"))
        return f"{stem or 'unknown'}.{digest}"

    @property
    def told(self) -> Key:
        return (self.container, self.policy, self.rule, self.status)

    @property
    def path(self) -> str:
        """Names come from observers, so that one may be no name at all; then the API server says so."""
        return f"/api/v1/namespaces/{quote(self.involved.namespace, safe='', errors='replace')}/events"

    def text(self) -> str:
        """What was violated, and what was found of which kind."""
        found = listed(self.entities)
        text = f"policy {self.policy}/{self.rule} {self.status}: {self.message}" + (f" ({found})" if found else "")
        text = one_line(text, MESSAGE_BYTES)
        raw = text.encode("utf-8", "replace")
        return text if len(raw) <= MESSAGE_BYTES else raw[: MESSAGE_BYTES - 3].decode("utf-8", "ignore") + "..."

    def document(self, node: str) -> dict[str, Any]:
        """The Event as it is made."""
        involved: dict[str, str] = {
            "apiVersion": "v1",
            "kind": "Pod" if self.involved.is_pod else "Node",
            "name": self.involved.name,
        }
        if self.involved.is_pod:
            involved["namespace"] = self.involved.namespace
            if self.container:
                involved["fieldPath"] = f"spec.containers{{{self.container}}}"
        if self.involved.uid:
            involved["uid"] = self.involved.uid
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": self.name,
                "namespace": self.involved.namespace,
                "labels": {"app.kubernetes.io/managed-by": COMPONENT},
            },
            "involvedObject": involved,
            "type": "Normal" if self.status in ("pass", "skip") else "Warning",
            "reason": REASONS[self.status],
            "reportingComponent": COMPONENT,
            "reportingInstance": node[:128],
            "source": {"component": COMPONENT, "host": node},
            "firstTimestamp": _iso(self.first_unix),
            **self.change(),
        }

    def change(self) -> dict[str, Any]:
        """What changes of the Event with each repetition, as a merge patch."""
        return {
            "count": min(_COUNT_MOST, max(1, self.count + self.pending)),
            "lastTimestamp": _iso(self.last_unix),
            "message": self.text(),
        }

    def adopt(self, existing: dict[str, Any]) -> None:
        """Go on from the Event that is there: an agent before this one made it."""
        count = existing.get("count")
        self.count = count if isinstance(count, int) and count > 0 else 0
        self.is_created = True

    def written(self) -> None:
        self.count, self.pending, self.is_created = self.count + self.pending, 0, True
        self.entities.clear()


def series_key(resource: Resource, involved: Involved, result: PolicyResult) -> Key:
    who = (involved.namespace, involved.name, involved.uid)
    return (*who, resource.container, result.policy, result.rule, result.status)


def add(series: Series, evaluation: Evaluation, result: PolicyResult, now_unix: float) -> None:
    """Count a violation that is not written yet."""
    event = evaluation.event
    seen = (event.time_unix_nano or event.observed_time_unix_nano) / 1e9
    at = seen if now_unix - _HOUR_SECONDS < seen <= now_unix else now_unix
    series.pending += 1
    series.first_unix = min(series.first_unix or at, at)
    series.last_unix = max(series.last_unix, at)
    series.message = result.message[: 4 * MESSAGE_BYTES]  # white space in it may shrink
    series.entities += entities_of(evaluation.findings)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

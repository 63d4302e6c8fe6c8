"""An alert and its life: labels, repetitions, and the document of Alertmanager's API.  Pure: times are given.

Its key is its labels.  The first sighting starts it, repetitions are counted, and it is over when none came for
`quiet` seconds; what comes later is a new one with the same labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from agent.model import Evaluation, PolicyResult, Resource
from agent.sinks.choice import entities_of, listed, one_line

Key: TypeAlias = tuple[tuple[str, str], ...]

_LABEL_CHARACTERS = 256
_DESCRIPTION_CHARACTERS = 1024
_ENTITIES = 64


@dataclass(frozen=True, slots=True)
class Sighting:
    """One result of one event, as far as an alert tells of it."""

    result: PolicyResult
    resource: Resource
    entities: Counter[str]
    seen_unix_nano: int


def sighting(evaluation: Evaluation, result: PolicyResult, resource: Resource, now_unix_nano: int) -> Sighting:
    """`resource` with all names that are known by now; a time that the observer did not give is now."""
    event = evaluation.event
    seen = event.time_unix_nano or event.observed_time_unix_nano or now_unix_nano
    return Sighting(result, resource, entities_of(evaluation.findings), seen)


def labels_of(seen: Sighting, alertname: str, node: str, extra: Mapping[str, str]) -> Key:
    """What tells one alert from another.  Unknown names are left out: an empty label is none to Alertmanager."""
    resource = seen.resource
    return _key(
        _of_rule(seen, alertname, node)
        | {
            "namespace": resource.namespace,
            "pod": resource.pod,
            "container": resource.container,
            "workload": resource.workload,
        },
        extra,
    )


def folded_labels_of(seen: Sighting, alertname: str, node: str, extra: Mapping[str, str], *, by_rule: bool) -> Key:
    """The alert for all that have none of their own: one for each rule, or for each severity where rules are many."""
    labels = _of_rule(seen, alertname, node)
    if not by_rule:
        labels = {name: labels[name] for name in ("alertname", "severity", "node")}
    return _key(labels | {"folded": "true"}, extra)


def _of_rule(seen: Sighting, alertname: str, node: str) -> dict[str, str]:
    result = seen.result
    return {
        "alertname": alertname,
        "policy": result.policy,
        "rule": result.rule,
        "severity": result.severity,
        "category": result.category,
        "node": seen.resource.node or node,
    }


def _key(labels: Mapping[str, str], extra: Mapping[str, str]) -> Key:
    plain = {name: one_line(value, _LABEL_CHARACTERS) for name, value in labels.items()}
    return tuple(sorted((name, value) for name, value in {**extra, **plain}.items() if value))


@dataclass(slots=True)
class Alert:
    """`*_at` are seconds of a clock that only goes forward; `starts_unix` is the time of day."""

    key: Key
    starts_unix: float
    seen_at: float
    is_folded: bool = False
    count: int = 0
    first_unix_nano: int = 0
    last_unix_nano: int = 0
    description: str = ""
    controls: tuple[str, ...] = ()
    entities: Counter[str] = field(default_factory=Counter)
    posted_at: float = 0.0
    posted_ends_at: float = 0.0
    posted_count: int = 0
    refused_until: float = 0.0

    def add(self, seen: Sighting, now: float) -> None:
        """Count a sighting."""
        self.count += 1
        self.seen_at = max(self.seen_at, now)
        self.first_unix_nano = min(self.first_unix_nano or seen.seen_unix_nano, seen.seen_unix_nano)
        if seen.seen_unix_nano >= self.last_unix_nano:
            self.last_unix_nano = seen.seen_unix_nano
            self.description = seen.result.message[: 4 * _DESCRIPTION_CHARACTERS]  # white space in it may shrink
        self.controls = seen.result.controls
        for entity, count in seen.entities.items():
            if entity in self.entities or len(self.entities) < _ENTITIES:
                self.entities[entity] += count

    def is_over(self, now: float, quiet_seconds: float) -> bool:
        return now >= self.seen_at + quiet_seconds

    def is_due(self, now: float, repeat_seconds: float, quiet_seconds: float) -> bool:
        """Whether it is to be posted again: it is time, or it would end at the receiver although it was seen since."""
        if now >= self.posted_at + repeat_seconds:
            return True
        is_extended = self.seen_at + quiet_seconds > self.posted_ends_at
        return is_extended and now >= self.posted_ends_at - min(10.0, quiet_seconds / 4)

    def posted(self, now: float, quiet_seconds: float) -> None:
        self.posted_at, self.posted_count = now, self.count
        self.posted_ends_at = self.seen_at + quiet_seconds

    def document(
        self, ends_unix: float, extra_annotations: Mapping[str, str], generator_url: str = ""
    ) -> dict[str, Any]:
        """The alert as `POST /api/v2/alerts` takes it."""
        labels = dict(self.key)
        annotations = {
            **extra_annotations,
            "summary": self._summary(labels),
            "description": one_line(self.description, _DESCRIPTION_CHARACTERS),
            "entities": listed(self.entities),
            "controls": one_line("; ".join(self.controls), _DESCRIPTION_CHARACTERS),
            "count": str(self.count),
            "first_seen": _iso(self.first_unix_nano / 1e9),
            "last_seen": _iso(self.last_unix_nano / 1e9),
        }
        link = {"generatorURL": generator_url} if generator_url else {}
        return {
            "labels": labels,
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": _iso(self.starts_unix),
            "endsAt": _iso(max(ends_unix, self.starts_unix)),
            **link,
        }

    def _summary(self, labels: Mapping[str, str]) -> str:
        rule = "/".join(labels[name] for name in ("policy", "rule") if name in labels) or "Policies"
        if self.is_folded:
            return f"{rule} is violated in more places than have alerts of their own, on node {labels.get('node', '?')}"
        place = "/".join(labels[name] for name in ("namespace", "pod", "container") if name in labels)
        where = place or f"node {labels.get('node', '?')}"
        return f"{rule} is violated by {where}"


def _iso(seconds: float) -> str:
    """RFC 3339 in UTC; a time that no calendar has is the nearest one that it has."""
    bounded = min(max(seconds, 0.0), 253402300799.0)
    return datetime.fromtimestamp(bounded, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

"""What a webhook is sent: CloudEvents 1.0 and their batches, OCSF findings, and signatures.  Pure.

No text of the event goes along and no label of the pod; only what was found where, and whose it was.
CloudEvents: cloudevents/spec, v1.0.2, JSON format and its batches.  Signatures: standard-webhooks/standard-webhooks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from agent.model import Evaluation, Finding, PolicyResult, Resource
from agent.sinks.choice import one_line
from agent.sinks.stdout.ocsf import ocsf_findings

VIOLATION = "dev.reeve.violation"
RESULT = "dev.reeve.result"  # of another status, where they are wanted
_MESSAGE_CHARACTERS = 2048
_NAME_CHARACTERS = 256
_FINDINGS = 100
# Standard Webhooks asks for 24 to 64 bytes; more does no harm.
_KEY_BYTES = 24
_KEY_PREFIX = b"whsec_"


@dataclass(frozen=True, slots=True)
class Item:
    """One document to send, of the evaluation with this index; `id` is the same whenever it is made again."""

    index: int
    id: str
    content: bytes


def item_id(evaluation: Evaluation, result: PolicyResult) -> str:
    """The name of one result of one event; an OCSF finding has the same."""
    told = f"{evaluation.event.id}/{result.policy}/{result.rule}".encode("utf-8", "replace")
    return hashlib.sha256(told).hexdigest()[:32]


def cloud_event(evaluation: Evaluation, result: PolicyResult, resource: Resource, node: str) -> dict[str, Any]:
    """One result as a CloudEvent.  `severity`, `policy` and `rule` are extension attributes, for filters of brokers."""
    event = evaluation.event
    place = "/".join(name for name in (resource.namespace, resource.pod) if name)
    seen = event.time_unix_nano or event.observed_time_unix_nano
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": item_id(evaluation, result),
        "source": f"/nodes/{quote(resource.node or node or 'unknown', safe='')}",
        "type": VIOLATION if result.is_violation else RESULT,
        "datacontenttype": "application/json",
        "severity": result.severity,
    }
    if place:
        document["subject"] = one_line(place, 2 * _NAME_CHARACTERS)
    if seen and (time := _iso(seen)):
        document["time"] = time
    for name in ("policy", "rule"):
        if value := one_line(getattr(result, name), _NAME_CHARACTERS):
            document[name] = value
    document["data"] = {
        "result": {
            "policy": result.policy,
            "rule": result.rule,
            "status": result.status,
            "severity": result.severity,
            "message": one_line(result.message, _MESSAGE_CHARACTERS),
            "category": result.category,
            "controls": list(result.controls),
        },
        "findings": [_finding(finding) for finding in evaluation.findings],
        "resource": {
            name: getattr(resource, name)
            for name in resource.__struct_fields__
            if name != "labels" and getattr(resource, name)
        },
        "event": {"id": event.id, "source": event.source, "class": event.event_class},
        "policy_digest": evaluation.policy_digest,
        "window_complete": evaluation.is_window_complete,
    }
    if evaluation.unscanned:
        document["data"]["unscanned"] = list(evaluation.unscanned)
    return document


def _finding(finding: Finding) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in finding.__struct_fields__ if getattr(finding, name) != ""}


def _iso(nanoseconds: int) -> str:
    """RFC 3339, or empty for a time no calendar has."""
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (ValueError, OverflowError, OSError):
        return ""


def cloud_events(
    evaluation: Evaluation, results: Sequence[PolicyResult], resource: Resource, node: str, limit: int
) -> Iterator[tuple[str, bytes | None]]:
    """Id and JSON of each result; None where even without findings it is larger than `limit` bytes."""
    for result in results:
        document = cloud_event(evaluation, result, resource, node)
        yield document["id"], _fitted(document, document["data"], "findings", limit)


def ocsf_documents(
    evaluation: Evaluation, results: Sequence[PolicyResult], resource: Resource, limit: int
) -> Iterator[tuple[str, bytes | None]]:
    """As `cloud_events`."""
    event = msgspec.structs.replace(evaluation.event, resource=resource)
    for document in ocsf_findings(msgspec.structs.replace(evaluation, event=event, results=tuple(results))):
        document["message"] = one_line(document["message"], _MESSAGE_CHARACTERS)
        yield document["finding_info"]["uid"], _fitted(document, document, "evidences", limit)


def _fitted(document: dict[str, Any], holder: dict[str, Any], name: str, limit: int) -> bytes | None:
    """The document within `limit` bytes: with fewer entries in one list, and how many were left out."""
    entries: list[Any] = holder[name]
    kept = min(len(entries), _FINDINGS)
    while True:
        holder[name] = entries[:kept]
        if kept < len(entries):
            # OCSF has `unmapped` for what its schema has no place for.
            holder.get("unmapped", holder)[f"{name}_omitted"] = len(entries) - kept
        content = encoded(document)
        if len(content) <= limit:
            return content
        if not kept:
            return None
        kept //= 2


def encoded(document: Any) -> bytes:
    """Compact JSON in UTF-8, also of texts that are no Unicode."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def packed(items: Iterable[Item], most: int, limit: int) -> Iterator[list[Item]]:
    """Items in order, at most `most` in a pack, and `limit` bytes as a JSON list."""
    pack: list[Item] = []
    size = 2
    for item in items:
        if pack and (len(pack) >= most or size + len(item.content) + 1 > limit):
            yield pack
            pack, size = [], 2
        pack.append(item)
        size += len(item.content) + 1
    if pack:
        yield pack


def pack_id(pack: Sequence[Item]) -> str:
    """The name of a request: the same whenever the same items are sent again."""
    if len(pack) == 1:
        return pack[0].id
    return hashlib.sha256("/".join(item.id for item in pack).encode()).hexdigest()[:32]


def keys_of(content: bytes) -> list[bytes]:
    """The keys of a file.  Raises ValueError with fact and remedy, never with a key."""
    keys: list[bytes] = []
    for number, line in enumerate(content.splitlines(), 1):
        line = line.strip()
        if not line:
            continue
        key = line
        if line.startswith(_KEY_PREFIX):
            try:
                key = base64.b64decode(line.removeprefix(_KEY_PREFIX), validate=True)
            except binascii.Error:
                raise ValueError(f"line {number} begins with whsec_ and goes on with no base64") from None
        if len(key) < _KEY_BYTES:
            raise ValueError(
                f"the key on line {number} has {len(key)} bytes, at least {_KEY_BYTES} are needed; "
                "make one by: openssl rand -base64 32 | sed s/^/whsec_/"
            )
        keys.append(key)
    return keys


def signature(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key."""
    content = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)

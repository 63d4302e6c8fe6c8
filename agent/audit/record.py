"""Audit records: one JSON object per line, each with its number and the hash of the one before.  Pure.

A record holds who, when, where, what was found and what was decided: entities, places, lengths, scores and keyed
fingerprints.  It never holds a text, masked or not.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from agent.audit.tree import leaf_hash
from agent.model import Evaluation, Finding, PolicyResult, Resource

RecordKind: TypeAlias = Literal["start", "stop", "reload", "evaluation", "heartbeat", "recovery"]


class EventReference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which event, without what it says."""

    id: str
    source: str
    event_class: str = msgspec.field(name="class")
    time_unix_nano: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry.  `number` counts from 1 over all segments; `previous` is the leaf hash of the record before, in hex.

    `facts` are short words about the agent itself (version, reasons, counters), never data of a workload.
    """

    number: int
    previous: str
    time: str
    kind: RecordKind
    node: str = ""
    policy_digest: str = ""
    event: EventReference | None = None
    resource: Resource | None = None
    findings: tuple[Finding, ...] = ()
    results: tuple[PolicyResult, ...] = ()
    unscanned: tuple[str, ...] = ()
    is_window_complete: bool = True
    facts: dict[str, str] = {}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded, before it has a number."""

    kind: RecordKind
    time: str
    node: str = ""
    policy_digest: str = ""
    evaluation: Evaluation | None = None
    facts: dict[str, str] = {}


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Record)


def record_of(entry: Entry, number: int, previous: bytes) -> Record:
    """The numbered record of an entry; `previous` is the leaf hash (32 bytes) of the record before."""
    evaluation = entry.evaluation
    if evaluation is None:
        return Record(
            number=number,
            previous=previous.hex(),
            time=entry.time,
            kind=entry.kind,
            node=entry.node,
            policy_digest=entry.policy_digest,
            facts=entry.facts,
        )
    event = evaluation.event
    return Record(
        number=number,
        previous=previous.hex(),
        time=entry.time,
        kind=entry.kind,
        node=entry.node,
        policy_digest=evaluation.policy_digest,
        event=EventReference(
            id=event.id, source=event.source, event_class=event.event_class, time_unix_nano=event.time_unix_nano
        ),
        resource=event.resource,
        findings=evaluation.findings,
        results=tuple(result for result in evaluation.results if result.status != "skip"),
        unscanned=evaluation.unscanned,
        is_window_complete=evaluation.is_window_complete,
        facts=entry.facts,
    )


def encoded(record: Record) -> tuple[bytes, bytes]:
    """The record's line without line break, and its leaf hash."""
    line = _ENCODER.encode(record)
    return line, leaf_hash(line)


def decoded(line: bytes) -> Record | None:
    """The record of a line; None if it is none."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None

"""The one event type: an envelope and one body.  Envelope after the OTel log data model."""

from __future__ import annotations

import hashlib

import msgspec

from agent.model.body import Body, class_of
from agent.model.resource import Resource


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One observed fact.

    `id` is the same whenever the same bytes from the same place are decoded again: a resent event is recognised.
    Times are nanoseconds since 1970 in UTC; `time_unix_nano` is 0 when the observer gave none.
    """

    id: str
    source: str
    body: Body
    resource: Resource = Resource()
    time_unix_nano: int = 0
    observed_time_unix_nano: int = 0

    @property
    def event_class(self) -> str:
        return class_of(self.body)


class DecodeError(msgspec.Struct, frozen=True, kw_only=True):
    """Why bytes became no event.  `name` is from a short list per source (a metric label)."""

    name: str


def event_id(*parts: bytes) -> str:
    """A 128-bit name for the place and bytes an event came from (32 hexadecimal digits)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()

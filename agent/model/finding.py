"""What a detector noticed.  Never the value itself: places, length, score and a keyed fingerprint."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

FindingKind: TypeAlias = Literal["pii", "secret", "threat", "unscanned"]
"""`unscanned`: a text a part of which was not looked at; `rule` says why, and start and end are the text's."""
Direction: TypeAlias = Literal["prompt", "completion", "log", "process", "file", "network", "other"]


class Match(msgspec.Struct, frozen=True):
    """A detector's answer about one text: `text[start:end]` (characters) is an `entity`."""

    entity: str
    start: int
    end: int
    score: float


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A match put in its place in an event.

    `start` and `end` are character offsets in the unmasked text of `field`.  `fingerprint` is an HMAC of the
    normalised value: equal values of one installation have equal fingerprints, and nothing else can be told from it.
    """

    kind: FindingKind
    entity: str
    detector: str
    score: float
    field: str = ""
    start: int = 0
    end: int = 0
    length: int = 0
    direction: Direction = "other"
    role: str = ""
    fingerprint: str = ""
    rule: str = ""

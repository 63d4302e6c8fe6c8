"""What the engine asks of a detector and of a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

from agent.model import Direction, Event, Finding, FindingKind, Match, PolicyResult


class Scan(NamedTuple):
    """A detector's answer about one text.  `unscanned` names why a part was not looked at, empty if all was."""

    matches: Sequence[Match]
    unscanned: str = ""


class TextDetector(Protocol):
    """Text to matches.  Pure as seen from outside: the same text and direction give the same answer."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> FindingKind: ...

    def scan(self, text: str, direction: Direction) -> Scan:
        """Matches in `text` (offsets in characters).  Raises nothing for any text; a limit is told as `unscanned`."""
        ...


class EventDetector(Protocol):
    """Masked event to findings (Sigma rules and the like)."""

    @property
    def name(self) -> str: ...

    def examine(self, event: Event) -> Sequence[Finding]: ...


Detector: TypeAlias = TextDetector | EventDetector


def by_kind(detectors: Sequence[Detector]) -> tuple[list[TextDetector], list[EventDetector]]:
    """Those that look at texts and those that look at events; one that does both is in both."""
    texts = [cast(TextDetector, one) for one in detectors if hasattr(one, "scan")]
    events = [cast(EventDetector, one) for one in detectors if hasattr(one, "examine")]
    return texts, events


class Judge(Protocol):
    """Masked event and findings to results; knows every policy, evaluates those that concern the event."""

    @property
    def digest(self) -> str:
        """Names the policy set (64 hexadecimal digits), empty for none."""
        ...

    def judge(self, event: Event, findings: Sequence[Finding]) -> Sequence[PolicyResult]: ...

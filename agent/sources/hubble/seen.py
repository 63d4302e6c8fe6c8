"""What was seen already: flows sent again after a resume, and the second flow of one refused packet."""

from __future__ import annotations

from typing import Literal, TypeAlias

from agent.model import Event
from agent.resolve import RefusedPackets

_FLOWS = 16_384

Verdict: TypeAlias = Literal["new", "duplicate", "same_packet"]


class Seen:
    """Bounded memory of ids, in two generations, and of refused packets."""

    def __init__(self, flows: int = _FLOWS) -> None:
        self._limit = flows
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._refused = RefusedPackets()

    def look(self, event: Event) -> Verdict:
        """Whether an event tells something new; it is remembered."""
        if event.id in self._young or event.id in self._old:
            return "duplicate"
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, set()
        self._young.add(event.id)
        return "same_packet" if self._refused.is_second(event) else "new"

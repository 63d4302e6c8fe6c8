"""What was seen already: flows sent again after a resume, and the second flow of one refused packet."""

from __future__ import annotations

from typing import Literal, TypeAlias

from agent.model import Event, Generations
from agent.resolve import RefusedPackets

_FLOWS = 16_384

Verdict: TypeAlias = Literal["new", "duplicate", "same_packet"]


class Seen:
    """Bounded memory of ids and of refused packets."""

    def __init__(self, flows: int = _FLOWS) -> None:
        self._ids: Generations[str, bool] = Generations(flows)
        self._refused = RefusedPackets()

    def look(self, event: Event) -> Verdict:
        """Whether an event tells something new; it is remembered."""
        if self._ids.get(event.id):
            return "duplicate"
        self._ids.put(event.id, True)
        return "same_packet" if self._refused.is_second(event) else "new"

"""What was seen already: flows sent again after a resume, and the two flows of one denied packet."""

from __future__ import annotations

from typing import Literal, TypeAlias

from agent.model import Event, NetworkActivity

_FLOWS = 16_384
_PACKETS = 8192
# A policy verdict and the drop that follows it (facts: hubble §3).
_SAME_PACKET_NANOSECONDS = 1_000_000_000

Verdict: TypeAlias = Literal["new", "duplicate", "same_packet"]


class Seen:
    """Bounded memory of ids and of denied packets."""

    def __init__(self, flows: int = _FLOWS, packets: int = _PACKETS) -> None:
        self._limit = flows
        self._packets_limit = packets
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._denied: dict[tuple[object, ...], tuple[int, str]] = {}

    def look(self, event: Event) -> Verdict:
        """Whether an event tells something new; it is remembered."""
        if event.id in self._young or event.id in self._old:
            return "duplicate"
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, set()
        self._young.add(event.id)
        body = event.body
        if isinstance(body, NetworkActivity) and body.verdict == "dropped" and self._is_second(event, body):
            return "same_packet"
        return "new"

    def _is_second(self, event: Event, body: NetworkActivity) -> bool:
        """Whether the other flow of this packet was there: same ends, another kind of sighting, within a second.

        A retry of the same kind is a packet of its own, and waits for its own second.
        """
        source, destination = body.source, body.destination
        key = (
            event.resource.node,
            source.address,
            source.port,
            destination.address,
            destination.port,
            body.protocol,
        )
        first = self._denied.pop(key, None)
        if first is not None:
            when, observation = first
            if observation != body.observation and abs(event.time_unix_nano - when) <= _SAME_PACKET_NANOSECONDS:
                return True
        if len(self._denied) >= self._packets_limit:
            del self._denied[next(iter(self._denied))]
        self._denied[key] = event.time_unix_nano, body.observation
        return False

"""The two flows of one refused packet: Hubble tells a policy verdict and the drop that follows it."""

from __future__ import annotations

from agent.model import Event, NetworkActivity

_PACKETS = 8192
_SAME_PACKET_NANOSECONDS = 1_000_000_000


class RefusedPackets:
    """Bounded memory of refused packets."""

    def __init__(self, packets: int = _PACKETS) -> None:
        self._limit = packets
        self._first: dict[tuple[object, ...], tuple[int, str]] = {}

    def is_second(self, event: Event) -> bool:
        """Whether the other flow of this packet was there: same ends, another kind of sighting, within a second.

        A retry of the same kind is a packet of its own, and waits for its own second.
        """
        body = event.body
        if not isinstance(body, NetworkActivity) or body.verdict != "dropped":
            return False
        source, destination = body.source, body.destination
        key = (
            event.resource.node,
            source.address,
            source.port,
            destination.address,
            destination.port,
            body.protocol,
        )
        first = self._first.pop(key, None)
        if first is not None:
            when, observation = first
            if observation != body.observation and abs(event.time_unix_nano - when) <= _SAME_PACKET_NANOSECONDS:
                return True
        if len(self._first) >= self._limit:
            del self._first[next(iter(self._first))]
        self._first[key] = event.time_unix_nano, body.observation
        return False

"""The two flows of one refused packet: Hubble tells a policy verdict and the drop that follows it."""

from __future__ import annotations

from agent.model import Event, NetworkActivity

_PACKETS = 8192
_SAME_PACKET_NANOSECONDS = 1_000_000_000
_SAME_CONNECTION_NANOSECONDS = 10_000_000_000


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


class Connections:
    """Connections told in the last seconds.  A verdict, the packets traced at several points, and the redirection to a
    proxy are sightings of one connection."""

    def __init__(self, connections: int = _PACKETS) -> None:
        self._limit = connections
        self._told: dict[tuple[object, ...], int] = {}

    def is_repeat(self, event: Event, body: NetworkActivity) -> bool:
        """Whether the same observer saw the same ends within ten seconds, with the same verdict for or against.

        Only a sighting of the beginning makes later ones repeats: another says less.
        """
        source, destination = body.source, body.destination
        if not source.port or not event.time_unix_nano:
            return False
        is_refused = body.verdict == "dropped"
        ends = source.address, source.port, destination.address, destination.port
        key = (event.source, *ends, body.protocol, is_refused)
        is_beginning = body.is_opening or body.action == "connect" or body.observation == "policy-verdict" or is_refused
        if not is_beginning:
            before = self._told.get(key)
            return before is not None and abs(event.time_unix_nano - before) <= _SAME_CONNECTION_NANOSECONDS
        before = self._told.pop(key, None)
        if len(self._told) >= self._limit:
            del self._told[next(iter(self._told))]
        self._told[key] = event.time_unix_nano
        return before is not None and abs(event.time_unix_nano - before) <= _SAME_CONNECTION_NANOSECONDS

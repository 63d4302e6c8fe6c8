"""How often a client was refused in the last two minutes, and by how many destinations.

One refusal is a policy at work; many, or many different ones, are a broken rollout or a scan.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import NamedTuple

WINDOW_SECONDS = 120
_CLIENTS = 4096
_DENIALS = 2048  # of one client; more than this is as bad as this


class Denial(NamedTuple):
    """Refusals and distinct destinations in the window, and whether either is the most it has been.

    A peak holds until the count has fallen below half of it: a client that is refused steadily peaks once.
    """

    refusals: int
    destinations: int
    is_count_peak: bool
    is_destination_peak: bool


class _Peak:
    __slots__ = ("most",)

    def __init__(self) -> None:
        self.most = 0

    def is_new(self, value: int) -> bool:
        if value * 2 < self.most:
            self.most = value - 1
        is_new = value > self.most
        self.most = max(self.most, value)
        return is_new


class _Client:
    __slots__ = ("count_peak", "destination_peak", "destinations", "times")

    def __init__(self) -> None:
        self.times: deque[tuple[int, str]] = deque()
        self.destinations: Counter[str] = Counter()
        self.count_peak, self.destination_peak = _Peak(), _Peak()


class DenialWindow:
    """Counts by client; the clients refused longest ago are forgotten first."""

    def __init__(self, window_seconds: int = WINDOW_SECONDS, clients: int = _CLIENTS) -> None:
        self.window_seconds = window_seconds
        self._limit = clients
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def add(self, client: str, destination: str, time_unix_nano: int) -> Denial:
        """The client's refusals in the window that ends now, this one included."""
        known = self._clients.pop(client, None) or _Client()
        self._clients[client] = known
        if len(self._clients) > self._limit:
            self._clients.popitem(last=False)
        known.times.append((time_unix_nano, destination))
        known.destinations[destination] += 1
        oldest = time_unix_nano - self.window_seconds * 1_000_000_000
        while known.times[0][0] < oldest or len(known.times) > _DENIALS:
            _, gone = known.times.popleft()
            known.destinations[gone] -= 1
            if not known.destinations[gone]:
                del known.destinations[gone]
        count, destinations = len(known.times), len(known.destinations)
        return Denial(count, destinations, known.count_peak.is_new(count), known.destination_peak.is_new(destinations))

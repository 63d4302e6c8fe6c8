"""How often a client was refused in the last two minutes, and by how many destinations.

One refusal is a policy at work; many, or many different ones, are a broken rollout or a scan.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

WINDOW_SECONDS = 120
_CLIENTS = 4096
_DENIALS = 2048  # of one client; more than this is as bad as this


class _Client:
    __slots__ = ("destinations", "times")

    def __init__(self) -> None:
        self.times: deque[tuple[int, str]] = deque()
        self.destinations: Counter[str] = Counter()


class DenialWindow:
    """Counts by client; the clients refused longest ago are forgotten first."""

    def __init__(self, window_seconds: int = WINDOW_SECONDS, clients: int = _CLIENTS) -> None:
        self.window_seconds = window_seconds
        self._limit = clients
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def add(self, client: str, destination: str, time_unix_nano: int) -> tuple[int, int]:
        """Refusals and distinct destinations of the client in the window that ends now, this one included."""
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
        return len(known.times), len(known.destinations)

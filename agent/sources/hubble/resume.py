"""Where to go on after a break, and whether anything was missed: for each node by its own clock.

A node's stream is whole if a flow of it that we have comes again before one that is newer than all we had.
"""

from __future__ import annotations

from collections import OrderedDict

_NODES = 1024
# A node that sent nothing for so long does not hold the others back.
_ACTIVE_NANOSECONDS = 600 * 1_000_000_000


class Resume:
    """The newest flow of each node, and the breaks that are not closed yet."""

    def __init__(self) -> None:
        self._began = 0
        self._latest: OrderedDict[str, tuple[int, int]] = OrderedDict()  # node -> newest flow's time, when it came
        self._open: dict[str, tuple[float, int]] = {}  # node -> seconds of the break, newest flow's time before it

    @property
    def has_flows(self) -> bool:
        return bool(self._latest)

    def stood(self, now_unix_nano: int) -> None:
        """A stream stands.  Whatever came since the first one did is ours to see."""
        self._began = self._began or now_unix_nano

    def since(self, now_unix_nano: int) -> int:
        """The time to ask from, never in the future: that of the active node which is furthest behind, else of the
        newest flow, else of the first connection; 0 before it."""
        active = [time for time, came in self._latest.values() if came > now_unix_nano - _ACTIVE_NANOSECONDS]
        if active:
            return min(*active, now_unix_nano)
        newest = max((time for time, _ in self._latest.values()), default=self._began)
        return min(newest, now_unix_nano)

    def broke(self, seconds: float) -> None:
        """The stream was away for so long."""
        for node in self._latest or ("",):
            before, newest = self._open.get(node, (0.0, self._latest.get(node, (0, 0))[0]))
            self._open[node] = before + seconds, newest

    def saw(self, node: str, time_unix_nano: int, now_unix_nano: int, *, is_duplicate: bool) -> float | None:
        """A flow came: the seconds of a break that is over without proof that nothing was missed, else None."""
        missed: float | None = None
        for name in (node, "") if self._open else ():
            seconds, newest = self._open.get(name, (0.0, 0))
            if name in self._open and (is_duplicate or time_unix_nano > newest):
                del self._open[name]
                missed = None if is_duplicate else seconds
        newest = self._latest.pop(node, (0, 0))[0]
        self._latest[node] = max(newest, time_unix_nano), now_unix_nano
        if len(self._latest) > _NODES:
            self._open.pop(self._latest.popitem(last=False)[0], None)
        return missed

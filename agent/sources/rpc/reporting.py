"""Events that a stream's source makes itself: what was lost, and in what state its peer is."""

from __future__ import annotations

import time

from agent.model import Body, Event, LossReport, Resource, event_id
from agent.pipeline import Output


class Reporter:
    """A source's output, and its own reports on it."""

    def __init__(self, source: str, node: str) -> None:
        self._source = source
        self._node = node
        self._output: Output | None = None
        self._count = 0

    def attach(self, out: Output) -> None:
        """The output of this run."""
        self._output = out

    @property
    def out(self) -> Output:
        assert self._output is not None, "a source sends only while it runs"
        return self._output

    def read(self, messages: int, oversized: int) -> None:
        """Count what came, and what was skipped because of its size."""
        self.out.read(messages + oversized)
        if oversized:
            self.out.decode_error("message_too_large", oversized)

    async def report(self, body: Body, node: str = "") -> None:
        """Send an event of our own; it is counted as reported, not as read."""
        self._count += 1
        now = time.time_ns()
        node = node or self._node
        event = Event(
            id=event_id(b"report", self._source.encode(), node.encode(), f"{now}:{self._count}".encode()),
            source=self._source,
            body=body,
            resource=Resource(node=node),
            time_unix_nano=now,
            observed_time_unix_nano=now,
        )
        await self.out.send([event], must_wait=True)
        self.out.reported()


def gap(origin: str, seconds: float) -> LossReport:
    """A break that is over, of which nobody knows what it hid."""
    return LossReport(
        origin=origin, reason="reconnect_gap", is_lower_bound=True, gap_seconds=max(0.001, round(seconds, 3))
    )


def outage(origin: str, seconds: float) -> LossReport:
    """A break that lasts: what is judged now is judged without this observer."""
    return LossReport(origin=origin, reason="not_connected", is_lower_bound=True, gap_seconds=round(seconds, 3))

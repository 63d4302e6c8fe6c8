"""Whether the agent lives, by its ledger: events that were admitted must end, and the loop must turn.

A restart helps an agent that is stuck, not one whose sink is away: that one gives a batch up and goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from agent.pipeline import Ledger

# The loop of a node under full load is late by a second or two; model loading holds it for ten.
LOOP_SECONDS = 60.0
# A batch is given up after 300 s (pipeline.retry), so that twice as long without an end is no sink's doing.
STUCK_SECONDS = 600.0
_BEAT_SECONDS = 1.0


class Pulse:
    """Told by the loop, asked by the thread that serves `/healthz`."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._beat = clock()
        self._ended = -1
        self._moved = clock()

    async def run(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(_BEAT_SECONDS)

    def beat(self) -> None:
        """The loop turns; whether events end is noted."""
        now = self._clock()
        self._beat = now
        accounts = list(self._ledger.sources.values())
        ended = sum(one.admitted - one.in_flight for one in accounts)
        if ended != self._ended or not any(one.in_flight for one in accounts):
            self._ended, self._moved = ended, now

    def beats(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and what is not."""
        now = self._clock()
        loop, stuck = now - self._beat, now - self._moved
        problems = []
        if loop > LOOP_SECONDS:
            problems.append(f"the loop has not turned for {loop:.0f} s")
        if stuck > STUCK_SECONDS:
            problems.append(f"events are in flight and none has ended for {stuck:.0f} s")
        return not problems, {"alive": not problems, "problems": problems}

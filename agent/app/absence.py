"""The time nobody watched: from the last sign of life of the agent before to the start of this one.

Container logs are read again from where they were; what kernel and peers told meanwhile is gone.  That is said once, as
an event like any other loss, so that a policy judges it and the results of that time are marked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import structlog

from agent.app.loading import plugin_name
from agent.config import Settings
from agent.model import Event, LossReport, Resource, event_id
from agent.pipeline import Output

log = structlog.get_logger("reeve.agent")

# What these miss cannot be read again.
_STREAMS = ("ebpf", "hubble", "tetragon")
_BEAT_SECONDS = 1.0
# Shorter is how long the file's own time may be old.
_LEAST_SECONDS = 2 * _BEAT_SECONDS


class Absence:
    """A source with one event at most; its file's time is the sign of life."""

    name = "agent"

    def __init__(self, settings: Settings) -> None:
        self._file = settings.state_dir / "alive"
        self._node = settings.node
        kinds = [plugin_name(name, config) for name, config in settings.sources.items()]
        self.streams = tuple(kind for kind in dict.fromkeys(kinds) if kind in _STREAMS)
        self._stop = asyncio.Event()

    async def run(self, out: Output) -> None:
        since = await asyncio.to_thread(_time_of, self._file)
        gap = time.time() - since if since else 0.0
        if self.streams and gap >= _LEAST_SECONDS:
            log.warning("Nobody watched for a while.", seconds=round(gap, 1), streams=self.streams)
            now = time.time_ns()
            body = LossReport(
                origin=", ".join(self.streams), reason="agent_was_away", is_lower_bound=True, gap_seconds=round(gap, 3)
            )
            event = Event(
                id=event_id(b"absence", str(since).encode()),
                source=self.name,
                body=body,
                resource=Resource(node=self._node),
                time_unix_nano=now,
                observed_time_unix_nano=now,
            )
            out.reported()
            await out.send([event], must_wait=True)
        while not self._stop.is_set():
            with contextlib.suppress(OSError):  # a full disk is the audit log's to tell
                await asyncio.to_thread(self._file.touch, 0o600)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _BEAT_SECONDS)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._file.touch, 0o600)

    async def stop(self) -> None:
        self._stop.set()


def _time_of(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0

"""The time nobody watched: from when a stream last stood under the agent before, to when it stands under this one.

Container logs are read again from where they were; what kernel and peers told meanwhile is gone.  That is said once for
each stream, as an event like any other loss, so that a policy judges it and the results of that time are marked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import structlog

from agent.app.loading import plugin_name
from agent.config import Settings
from agent.model import LossReport
from agent.pipeline import Ledger, Output
from agent.sources.rpc.reporting import Reporter

log = structlog.get_logger("reeve.agent")

# What these miss cannot be read again.
_STREAMS = ("ebpf", "hubble", "tetragon")
_LOOK_SECONDS = 0.2
_BEAT_SECONDS = 1.0
# A shorter time may be the age of what was written last.
_LEAST_SECONDS = 2 * _BEAT_SECONDS
_LARGEST_FILE = 65_536


class Absence:
    """A source with one event at most for each stream.  The file `alive` says when each of them last stood."""

    name = "agent"

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._file = settings.state_dir / "alive"
        self._reporter = Reporter(self.name, settings.node)
        self._ledger = ledger
        self.streams = tuple(name for name, config in settings.sources.items() if plugin_name(name, config) in _STREAMS)
        self._stop = asyncio.Event()

    async def run(self, out: Output) -> None:
        self._reporter.attach(out)
        stood = await asyncio.to_thread(_read, self._file)
        waited_for = {name: stood[name] for name in self.streams if name in stood}
        beat = 0.0
        while not self._stop.is_set():
            standing = [name for name in self.streams if self._ledger.source(name).is_connected]
            for name in standing:
                if (since := waited_for.pop(name, None)) is not None:
                    await self._tell(name, time.time() - since)
            if time.monotonic() - beat >= _BEAT_SECONDS:
                beat = time.monotonic()
                stood.update((name, time.time()) for name in standing)
                with contextlib.suppress(OSError):  # a full disk is the audit log's to tell
                    await asyncio.to_thread(_write, self._file, stood)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _LOOK_SECONDS)

    async def _tell(self, stream: str, seconds: float) -> None:
        if seconds < _LEAST_SECONDS:
            return
        log.warning("Nobody watched for a while.", stream=stream, seconds=round(seconds, 1))
        await self._reporter.report(
            LossReport(origin=stream, reason="agent_was_away", is_lower_bound=True, gap_seconds=round(seconds, 1))
        )

    async def stop(self) -> None:
        self._stop.set()


def _read(file: Path) -> dict[str, float]:
    """When each stream last stood, in Unix time; what cannot be read is as if it was never written."""
    try:
        with file.open("rb") as opened:
            held = json.loads(opened.read(_LARGEST_FILE))
        return {str(name): float(at) for name, at in held.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, stood: dict[str, float]) -> None:
    new = file.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        json.dump(stood, opened)
    os.replace(new, file)

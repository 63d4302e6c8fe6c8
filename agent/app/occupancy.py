"""One agent for each state directory: two at once would be two writers of one audit log.

A pod that is deleted by force may run on for seconds beside its successor; the successor waits for its end.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

import structlog

log = structlog.get_logger("reeve.agent")

_LOOK_SECONDS = 0.1


class Occupied(OSError):
    """Another agent holds the directory."""


class Occupancy:
    """The lock on a state directory; it ends with the process, however that ends."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "lock"
        self._descriptor: int | None = None

    async def take(self, wait_seconds: float, stop: asyncio.Event) -> bool:
        """Wait for the lock; false if `stop` was set meanwhile.  Raises Occupied, and OSError if it cannot be made."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_seconds
        is_told = False
        while not stop.is_set():
            try:
                # A record lock: it is this process's alone, whatever its children hold open.
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except (BlockingIOError, PermissionError):
                pass
            if time.monotonic() >= deadline:
                self.release()
                raise Occupied(
                    f"{self._file.parent}: another agent still runs with this state directory "
                    f"after {wait_seconds:g} s; stop it, or give this one a `state_dir` of its own"
                )
            if not is_told:
                is_told = True
                log.warning(
                    "Another agent runs with this state directory; waiting for its end.",
                    directory=str(self._file.parent),
                    seconds=wait_seconds,
                )
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def release(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

"""What a source does beside its stream, again and again until it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger("reeve.rpc")


async def again_and_again(
    source: str, seconds: float, stop: asyncio.Event, what: Callable[[], Awaitable[None]]
) -> None:
    """Do `what` at once and then every so often, until `stop`.  A failure is logged, and the next turn comes."""
    while not stop.is_set():
        try:
            await what()
        except Exception as error:  # noqa: BLE001 - a task boundary: one failed turn must not be the last
            log.error("A watch failed; it goes on.", source=source, watch=what.__name__, error=type(error).__name__)
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            continue

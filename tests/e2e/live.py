"""What the tests of both live sources ask of an output."""

import asyncio

from agent.model import LossReport


async def until(holds, seconds=20.0):
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def explained(out):
    """What was read and made up against what went out, was refused or put aside."""
    return out.lines_read + out.events_reported == len(out.events) + out.decode_errors.total() + out.aside.total()


def losses(out):
    return [event.body for event in out.events if isinstance(event.body, LossReport)]

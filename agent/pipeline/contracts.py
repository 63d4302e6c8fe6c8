"""What a source, a sink and the line between them promise each other.

A source sends batches and gets a receipt for each; a receipt's outcome is how the batch ended, worst-of over its
events.  A source that can read again (a file) moves its checkpoint only after an outcome that may be checkpointed.  A
source that cannot wait (a kernel ring) ignores receipts; what does not fit is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeAlias

from agent.model import Evaluation, Event, Outcome

Batch: TypeAlias = Sequence[Event]


class Receipt:
    """The promise of an outcome.  `outcome = await receipt`; settled exactly once, by the pipeline."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, None, Outcome]:
        return asyncio.shield(self._future).__await__()

    @property
    def is_settled(self) -> bool:
        return self._future.done()

    def settle(self, outcome: Outcome) -> None:
        """Fulfil the promise.  Raises RuntimeError if it already was: an event ends once."""
        if self._future.done():
            raise RuntimeError("a receipt is settled once")
        self._future.set_result(outcome)


class Output(Protocol):
    """Where a source sends to.  Upstream loss is sent as an event with a `LossReport`."""

    async def send(self, events: Batch, *, must_wait: bool = False) -> Receipt:
        """Admit a batch.  Waits while the queue is full (`block`) or drops the batch at once (`drop_newest`).

        With `must_wait` it waits in any case: for what a source has to say of itself, which is rare and not to be lost.
        """
        ...

    def decode_error(self, name: str, count: int = 1) -> None:
        """Count input that became no event; `name` is from the source's short list."""
        ...

    def read(self, count: int = 1) -> None:
        """Count units of input read (lines, messages), whatever became of them."""
        ...

    def set_aside(self, reason: str, count: int = 1) -> None:
        """Count input that became no event of its own: seen before, folded into another, not asked for."""
        ...

    def reported(self, count: int = 1) -> None:
        """Count events that the source made itself and did not read: losses, states of its peer."""
        ...

    def connected(self, is_up: bool) -> None:
        """Tell whether the peer is reachable, for a source that has one."""
        ...


class Source(Protocol):
    """An adapter that makes events.

    A source may have an attribute `when_full` (`block` or `drop_newest`): what it wants where the configuration says
    nothing.
    """

    @property
    def name(self) -> str: ...

    async def run(self, out: Output) -> None:
        """Send until the input ends or `stop` is called; cancelled only after the drain deadline."""
        ...

    async def stop(self) -> None:
        """Ask `run` to send no more, settle its checkpoints and return."""
        ...


class SinkUnavailable(Exception):
    """A sink cannot take anything now; the batch is tried again after a wait."""


class Sink(Protocol):
    """An adapter that hands evaluations on."""

    @property
    def name(self) -> str: ...

    async def open(self) -> None:
        """Get ready.  Raises with a message for people if the configuration can never work."""
        ...

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        """Take a batch; one outcome each, in order.

        Raises SinkUnavailable (or OSError) when the whole batch may be tried again.  May be called again with the same
        evaluations after a failure: delivery is at least once, and `event.id` tells a repetition.
        """
        ...

    async def close(self) -> None:
        """Flush and let go.  Called once, also after a failed `open`."""
        ...

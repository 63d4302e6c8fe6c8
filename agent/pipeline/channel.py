"""The bounded line from the sources to the engine.

Bounded in events.  `block` makes the source wait; `drop_newest` settles the batch at once as dropped.  After `close`
nothing more is admitted: such a batch is dropped with reason `shutting_down`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agent.model import DropReason, Outcome
from agent.pipeline.contracts import Batch, Receipt
from agent.pipeline.ledger import Ledger

WhenFull: TypeAlias = Literal["block", "drop_newest"]


@dataclass(slots=True)
class Parcel:
    """A batch on its way, with whose it is and the promise made for it."""

    source: str
    events: Batch
    receipt: Receipt


class Channel:
    """First in, first out; at most `capacity` events, or one batch of any size when empty."""

    def __init__(self, capacity: int, ledger: Ledger) -> None:
        if capacity < 1:
            raise ValueError("a channel holds at least one event")
        self._capacity = capacity
        self._ledger = ledger
        self._parcels: deque[Parcel] = deque()
        self._events = 0
        self._changed = asyncio.Condition()
        self._is_closed = False

    @property
    def depth(self) -> int:
        """Events waiting."""
        return self._events

    def _has_room(self, count: int) -> bool:
        return self._events == 0 or self._events + count <= self._capacity

    async def put(self, source: str, events: Batch, when_full: WhenFull) -> Receipt:
        receipt = Receipt()
        if not events:
            receipt.settle(Outcome.DELIVERED)
            return receipt
        async with self._changed:
            if when_full == "block":
                await self._changed.wait_for(lambda: self._is_closed or self._has_room(len(events)))
            self._ledger.admit(source, len(events))
            refusal: DropReason | None = None
            if self._is_closed:
                refusal = "shutting_down"
            elif not self._has_room(len(events)):
                refusal = "queue_full"
            if refusal is not None:
                self._ledger.settle(source, Outcome.DROPPED, len(events), refusal)
                # A batch refused at shutdown may be read again by a source with a checkpoint: it did not end well.
                receipt.settle(Outcome.ERRORED if refusal == "shutting_down" else Outcome.DROPPED)
                return receipt
            self._parcels.append(Parcel(source, events, receipt))
            self._events += len(events)
            self._changed.notify_all()
        return receipt

    async def get(self) -> Parcel | None:
        """The next parcel; None once the channel is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._parcels or self._is_closed)
            if not self._parcels:
                return None
            parcel = self._parcels.popleft()
            self._events -= len(parcel.events)
            self._changed.notify_all()
            return parcel

    async def close(self) -> None:
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Port:
    """A source's own end of the channel: an `Output`."""

    def __init__(self, source: str, channel: Channel, ledger: Ledger, when_full: WhenFull) -> None:
        self._source = source
        self._channel = channel
        self._ledger = ledger
        self._when_full: WhenFull = when_full

    async def send(self, events: Batch, *, must_wait: bool = False) -> Receipt:
        return await self._channel.put(self._source, events, "block" if must_wait else self._when_full)

    def decode_error(self, name: str, count: int = 1) -> None:
        self._ledger.source(self._source).decode_errors[name] += count

    def read(self, count: int = 1) -> None:
        self._ledger.source(self._source).read += count

    def set_aside(self, reason: str, count: int = 1) -> None:
        self._ledger.source(self._source).set_aside[reason] += count

    def reported(self, count: int = 1) -> None:
        self._ledger.source(self._source).reported += count

    def connected(self, is_up: bool) -> None:
        account = self._ledger.source(self._source)
        account.connections += is_up
        account.is_connected = is_up

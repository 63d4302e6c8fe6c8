"""Parts that stand in for the rest of the agent; real implementations of the contracts, kept in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from agent.model import Evaluation, Event, Finding, LogRecord, Outcome, PolicyResult, Resource, Sensitive
from agent.pipeline import Batch, Output, Receipt


def log_event(text: str, number: int = 0, **resource: str) -> Event:
    """A log event with an id made of its number."""
    owner = Resource(**(resource or {"namespace": "ns", "pod": "pod", "container": "app"}))  # type: ignore[arg-type]
    return Event(id=f"{number:032x}", source="test", body=LogRecord(text=Sensitive(text)), resource=owner)


def evaluation_of(event: Event, *results: PolicyResult, findings: Sequence[Finding] = ()) -> Evaluation:
    """An evaluation as sinks get it: the event's text replaced by its length."""
    masked = LogRecord(text=f"[{event.event_class}]")
    clean = Event(id=event.id, source=event.source, body=masked, resource=event.resource, time_unix_nano=1_700_000_000)
    return Evaluation(event=clean, results=results, findings=tuple(findings), policy_digest="0" * 64)


class MemoryOutput:
    """An `Output` that keeps what it is sent and settles each batch as it is told to.

    `decide` gives the outcome of the nth batch; `pause` is waited for before a batch is settled.
    """

    def __init__(self, decide: Callable[[int], Outcome] | None = None, pause_seconds: float = 0.0) -> None:
        self.batches: list[Batch] = []
        self.settled: list[tuple[Batch, Outcome]] = []
        self.decode_errors: Counter[str] = Counter()
        self.lines_read = 0
        self.aside: Counter[str] = Counter()
        self.connections = 0
        self.events_reported = 0
        self.is_connected = False
        self.most_unsettled = 0
        self._decide = decide or (lambda _: Outcome.DELIVERED)
        self._pause_seconds = pause_seconds
        self._unsettled = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def events(self) -> list[Event]:
        """All events sent, resent ones too."""
        return [event for batch in self.batches for event in batch]

    @property
    def acknowledged(self) -> list[Event]:
        """Events whose batch ended in a way that may be checkpointed."""
        return [event for batch, outcome in self.settled if outcome.may_checkpoint for event in batch]

    async def send(self, events: Batch, *, must_wait: bool = False) -> Receipt:
        del must_wait
        receipt = Receipt()
        if not events:
            receipt.settle(Outcome.DELIVERED)
            return receipt
        number = len(self.batches)
        self.batches.append(tuple(events))
        self._unsettled += 1
        self.most_unsettled = max(self.most_unsettled, self._unsettled)

        async def settle() -> None:
            await asyncio.sleep(self._pause_seconds)
            outcome = self._decide(number)
            self.settled.append((events, outcome))
            self._unsettled -= 1
            receipt.settle(outcome)

        task = asyncio.create_task(settle())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return receipt

    def decode_error(self, name: str, count: int = 1) -> None:
        self.decode_errors[name] += count

    def read(self, count: int = 1) -> None:
        self.lines_read += count

    def set_aside(self, reason: str, count: int = 1) -> None:
        self.aside[reason] += count

    def reported(self, count: int = 1) -> None:
        self.events_reported += count

    def connected(self, is_up: bool) -> None:
        self.connections += is_up
        self.is_connected = is_up


class ListSource:
    """Sends the events it was given in batches, waits for their outcomes, and ends."""

    def __init__(self, events: Sequence[Event], name: str = "list", batch: int = 1) -> None:
        self.name = name
        self.outcomes: list[Outcome] = []
        self._events = list(events)
        self._batch = batch
        self._is_stopping = False

    async def run(self, out: Output) -> None:
        receipts: list[Receipt] = []
        for start in range(0, len(self._events), self._batch):
            if self._is_stopping:
                break
            receipts.append(await out.send(self._events[start : start + self._batch]))
        for receipt in receipts:
            self.outcomes.append(await receipt)

    async def stop(self) -> None:
        self._is_stopping = True


class MemorySink:
    """Keeps evaluations; `decide` may raise or give outcomes for the nth write."""

    def __init__(
        self, name: str = "memory", decide: Callable[[int, Sequence[Evaluation]], Sequence[Outcome]] | None = None
    ) -> None:
        self.name = name
        self.written: list[Evaluation] = []
        self.writes = 0
        self.is_open = False
        self.is_closed = False
        self._decide = decide

    async def open(self) -> None:
        self.is_open = True

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        number = self.writes
        self.writes += 1
        outcomes = self._decide(number, evaluations) if self._decide else [Outcome.DELIVERED] * len(evaluations)
        taken = zip(evaluations, outcomes, strict=True)
        self.written += [evaluation for evaluation, outcome in taken if outcome is Outcome.DELIVERED]
        return outcomes

    async def close(self) -> None:
        self.is_closed = True

"""The line itself: sources, channel, engine, deliveries; started from the end, stopped from the beginning.

Start: sinks, then the engine's worker, then sources.  Stop: sources first, then the channel runs empty, then sinks are
flushed, all before the drain deadline; what is left after it ends as errored, so that a source with a checkpoint reads
it again.  This room never opens a body.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import msgspec
import structlog

from agent.model import DropReason, Evaluation, Event, LossReport, Outcome, worst
from agent.pipeline.channel import Channel, Parcel, Port, WhenFull
from agent.pipeline.contracts import Sink, Source
from agent.pipeline.delivery import Delivery, RetryPolicy
from agent.pipeline.ledger import Ledger

log = structlog.get_logger("reeve.pipeline")


class Evaluator(Protocol):
    """What the line asks of the engine."""

    def evaluate(self, event: Event, *, is_window_complete: bool = True) -> Evaluation: ...


Answer: TypeAlias = tuple[Evaluation | str, float]
"""What became of an event: its evaluation, or the name of the error that kept it from one; and the seconds it took."""

REPEATED: Final = "told_by_other_source"
_REPEATED_ANSWER: Answer = (REPEATED, 0.0)


class BatchEvaluator(Protocol):
    """An evaluator that works on several batches at once, keeping the order of events within a pod."""

    @property
    def parcels_at_once(self) -> int: ...

    async def evaluate_batch(self, items: Sequence[tuple[Event, bool]]) -> list[Answer]: ...


Resolve = Callable[[Event], Event | None]
"""The event, with what earlier events tell about it; None if another source has told the same fact."""


class Observer(Protocol):
    """Told of each evaluation and of engine errors, for counting only."""

    def evaluated(self, evaluation: Evaluation, seconds: float) -> None: ...

    def engine_error(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LineSettings:
    """Sizes are in events, times in seconds."""

    queue_events: int = 10_000
    when_full: Mapping[str, WhenFull] = field(default_factory=dict)  # by source; a source not named blocks
    sink_queue_batches: int = 16
    sink_when_full: Mapping[str, WhenFull] = field(default_factory=dict)
    drain_seconds: float = 25.0
    retry: RetryPolicy = RetryPolicy()
    incomplete_seconds: float = 60.0


class Line:
    """One run of the pipeline."""

    def __init__(
        self,
        *,
        sources: Sequence[Source],
        sinks: Sequence[Sink],
        evaluator: Evaluator | BatchEvaluator,
        ledger: Ledger,
        observer: Observer | None = None,
        resolve: Resolve | None = None,
        settings: LineSettings | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._settings = settings or LineSettings()
        self._sources = tuple(sources)
        self.evaluator = evaluator  # swapped by a reload, between two events
        self.ledger = ledger
        self._observer = observer
        self._resolve = resolve
        self._channel = Channel(self._settings.queue_events, ledger)
        chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._deliveries = [
            Delivery(
                sink,
                ledger.sink(sink.name),
                capacity=self._settings.sink_queue_batches,
                when_full=self._settings.sink_when_full.get(sink.name, "block"),
                retry=self._settings.retry,
                chance=chance,
            )
            for sink in sinks
        ]
        self._incomplete_until = 0.0
        self._losses: dict[str, deque[tuple[float, int]]] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self.is_running = False

    @property
    def sinks_down(self) -> tuple[str, ...]:
        return tuple(delivery.sink.name for delivery in self._deliveries if delivery.is_down)

    @property
    def depth(self) -> int:
        return self._channel.depth

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Run until every source has ended or `stop` is set, then drain.  Raises the first error of an `open`."""
        stop = stop or asyncio.Event()
        opened: list[Delivery] = []
        try:
            for delivery in self._deliveries:
                opened.append(delivery)
                await delivery.sink.open()
            await self._run_open(stop)
        finally:
            self.is_running = False
            for delivery in reversed(opened):
                await delivery.sink.close()

    async def _run_open(self, stop: asyncio.Event) -> None:
        delivering = [asyncio.create_task(delivery.run()) for delivery in self._deliveries]
        worker = asyncio.create_task(self._work())
        reading = [asyncio.create_task(self._read(source)) for source in self._sources]
        stopping = asyncio.create_task(stop.wait())
        self.is_running = True
        try:
            ended = asyncio.create_task(_all(reading))
            done, _ = await asyncio.wait([stopping, ended, worker, *delivering], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            for task in done & {worker, *delivering}:
                task.result()  # neither ends before it is told to: raise what ended it
        finally:
            stopping.cancel()
            await self._drain(reading, worker, delivering)

    async def _drain(
        self, reading: list[asyncio.Task[None]], worker: asyncio.Task[None], delivering: list[asyncio.Task[None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain_seconds

        async def in_time(tasks: Sequence[asyncio.Task[None]]) -> bool:
            if tasks:
                await asyncio.wait(tasks, timeout=max(0.0, deadline - loop.time()))
            return all(task.done() for task in tasks)

        for source in self._sources:
            await source.stop()
        is_done = await in_time(reading)
        await self._channel.close()
        is_done = await in_time([worker]) and is_done
        is_done = await in_time(list(self._settling)) and is_done
        if is_done:
            for delivery in self._deliveries:
                await delivery.finish()
            is_done = await in_time(delivering)
        if not is_done:
            log.warning("The drain deadline passed; what is left will be read again where its source can.")
        for task in (*reading, worker, *delivering):
            task.cancel()
        await asyncio.gather(*reading, worker, *delivering, return_exceptions=True)
        for delivery in self._deliveries:
            delivery.abandon()
        while (parcel := await self._channel.get()) is not None:
            self._end(parcel, [Outcome.ERRORED] * len(parcel.events))
        if self._settling:
            await asyncio.wait(self._settling)

    async def _read(self, source: Source) -> None:
        wanted: WhenFull = getattr(source, "when_full", "block")
        port = Port(source.name, self._channel, self.ledger, self._settings.when_full.get(source.name, wanted))
        try:
            await source.run(port)
        except Exception as error:  # noqa: BLE001 - a task boundary: one source's bug does not stop the others
            log.error("A source failed and has ended.", source=source.name, error=f"{type(error).__name__}: {error}")
            self.ledger.source(source.name).decode_errors["source_failed"] += 1

    async def _work(self) -> None:
        """Evaluate parcels, several at once where the evaluator can; they are handed on in the order they came."""
        slots = asyncio.Semaphore(getattr(self.evaluator, "parcels_at_once", 1))
        ahead: asyncio.Queue[tuple[Parcel, asyncio.Task[list[Answer]]] | None] = asyncio.Queue()
        handing = asyncio.create_task(self._hand_all(ahead, slots))
        getting: asyncio.Task[Parcel | None] | None = None
        try:
            while True:
                await slots.acquire()
                getting = asyncio.create_task(self._channel.get())
                await asyncio.wait({getting, handing}, return_when=asyncio.FIRST_COMPLETED)
                if handing.done():
                    break
                parcel = getting.result()
                getting = None
                if parcel is None:
                    break
                ahead.put_nowait((parcel, asyncio.create_task(self._evaluate(parcel))))
            ahead.put_nowait(None)
            await handing
        finally:
            handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)
            if getting is not None:
                getting.cancel()
                for lost in await asyncio.gather(getting, return_exceptions=True):
                    if isinstance(lost, Parcel):
                        self._end(lost, [Outcome.ERRORED] * len(lost.events))
            while not ahead.empty():
                if (left := ahead.get_nowait()) is not None:
                    left[1].cancel()
                    self._end(left[0], [Outcome.ERRORED] * len(left[0].events))

    async def _hand_all(
        self, ahead: asyncio.Queue[tuple[Parcel, asyncio.Task[list[Answer]]] | None], slots: asyncio.Semaphore
    ) -> None:
        while (one := await ahead.get()) is not None:
            parcel, task = one
            try:
                await self._hand_on(parcel, task)
            except BaseException:
                task.cancel()
                self._end(parcel, [Outcome.ERRORED] * len(parcel.events))
                raise
            finally:
                slots.release()

    async def _hand_on(self, parcel: Parcel, task: asyncio.Task[list[Answer]]) -> None:
        evaluations: list[Evaluation] = []
        outcomes: list[Outcome] = []
        repeated = 0
        for answer, seconds in await task:
            if answer is REPEATED:
                outcomes.append(Outcome.DROPPED)
                repeated += 1
                continue
            if isinstance(answer, str):
                if self._observer is not None:
                    self._observer.engine_error(answer)
                log.error("An event could not be evaluated.", source=parcel.source, error=answer)
                # Rejected, not errored: the same event would fail again, and must not hold its source's checkpoint.
                outcomes.append(Outcome.REJECTED)
                continue
            if self._observer is not None:
                self._observer.evaluated(answer, seconds)
            evaluations.append(answer)
            outcomes.append(Outcome.DELIVERED)
        offers = [await delivery.offer(evaluations) for delivery in self._deliveries] if evaluations else []
        settling = asyncio.create_task(self._settle(parcel, outcomes, offers, repeated))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    async def _evaluate(self, parcel: Parcel) -> list[Answer]:
        """An answer for each event of the parcel."""
        evaluator = self.evaluator
        noted = [self._noted(parcel.source, event) for event in parcel.events]
        if hasattr(evaluator, "evaluate_batch"):
            resolved = [(self._resolved_or_answer(event), whole) for event, whole in noted]
            kept = [(event, whole) for event, whole in resolved if isinstance(event, Event)]
            answers = iter(await evaluator.evaluate_batch(kept) if kept else [])
            return [next(answers) if isinstance(event, Event) else event for event, _ in resolved]
        return await asyncio.to_thread(self._evaluate_here, evaluator, noted)

    def _resolved_or_answer(self, event: Event) -> Event | Answer:
        try:
            return self._resolved(event) or _REPEATED_ANSWER
        except Exception as error:  # noqa: BLE001 - a task boundary: it becomes an outcome and a count
            return type(error).__name__, 0.0

    def _resolved(self, event: Event) -> Event | None:
        return event if self._resolve is None else self._resolve(event)

    def _evaluate_here(self, evaluator: Evaluator, noted: Sequence[tuple[Event, bool]]) -> list[Answer]:
        answers: list[Answer] = []
        for one, is_complete in noted:
            started = time.perf_counter()
            try:
                event = self._resolved(one)
                if event is None:
                    answers.append(_REPEATED_ANSWER)
                    continue
                evaluation = evaluator.evaluate(event, is_window_complete=is_complete)
                answers.append((evaluation, time.perf_counter() - started))
            except Exception as error:  # noqa: BLE001 - a task boundary: it becomes an outcome and a count
                answers.append((type(error).__name__, 0.0))
        return answers

    def _noted(self, source: str, event: Event) -> tuple[Event, bool]:
        """The event, a loss report with its window's total filled in; and whether the event's window is complete."""
        now = time.monotonic()
        window = self._settings.incomplete_seconds
        if isinstance(event.body, LossReport):
            self.ledger.lose(source, event.body)
            losses = self._losses.setdefault(source, deque())
            losses.append((now, event.body.count))
            while losses and losses[0][0] < now - window:
                losses.popleft()
            self._incomplete_until = now + window
            body = msgspec.structs.replace(
                event.body, window_count=sum(count for _, count in losses), window_seconds=int(window)
            )
            event = msgspec.structs.replace(event, body=body)
        return event, now >= self._incomplete_until

    async def _settle(
        self,
        parcel: Parcel,
        outcomes: list[Outcome],
        offers: list[asyncio.Future[Sequence[Outcome]]],
        repeated: int,
    ) -> None:
        answers = [await offer for offer in offers]
        evaluated = [index for index, outcome in enumerate(outcomes) if outcome is Outcome.DELIVERED]
        for position, index in enumerate(evaluated):
            outcomes[index] = worst(answer[position] for answer in answers)
        self._end(parcel, outcomes, repeated)

    def _end(self, parcel: Parcel, outcomes: Sequence[Outcome], repeated: int = 0) -> None:
        if repeated:
            self.ledger.settle(parcel.source, Outcome.DROPPED, repeated, REPEATED)
        for outcome in Outcome:
            count = sum(one is outcome for one in outcomes) - (repeated if outcome is Outcome.DROPPED else 0)
            if count:
                reason: DropReason | None = "sink_queue_full" if outcome is Outcome.DROPPED else None
                self.ledger.settle(parcel.source, outcome, count, reason)
        parcel.receipt.settle(worst(outcomes))


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)

"""One sink's queue and its retries.

A sink that is down does not lose what it was given: the batch is tried again with growing, jittered waits until
`give_up_seconds` have passed, then it is dead-lettered: counted, settled as errored, and never silently forgotten.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from agent.model import Evaluation, Outcome
from agent.pipeline.channel import WhenFull
from agent.pipeline.contracts import Sink, SinkUnavailable
from agent.pipeline.ledger import SinkAccount

log = structlog.get_logger("reeve.pipeline")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Full jitter: each wait is drawn from 0 to min(longest, first * 2**tries) seconds."""

    first_seconds: float = 0.1
    longest_seconds: float = 30.0
    give_up_seconds: float = 300.0

    def wait(self, tries: int, chance: random.Random) -> float:
        return chance.uniform(0, min(self.longest_seconds, self.first_seconds * 2 ** min(tries, 20)))


class Delivery:
    """Runs one sink: `offer` queues a batch, the future gives one outcome for each evaluation."""

    def __init__(
        self,
        sink: Sink,
        account: SinkAccount,
        *,
        capacity: int,
        when_full: WhenFull = "block",
        retry: RetryPolicy,
        chance: random.Random,
    ) -> None:
        self.sink = sink
        self._account = account
        self._queue: asyncio.Queue[tuple[Sequence[Evaluation], asyncio.Future[Sequence[Outcome]]] | None]
        self._queue = asyncio.Queue(maxsize=capacity)
        self._when_full: WhenFull = when_full
        self._retry = retry
        self._chance = chance
        self.is_down = False

    async def offer(self, evaluations: Sequence[Evaluation]) -> asyncio.Future[Sequence[Outcome]]:
        done: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        if self._when_full == "drop_newest" and self._queue.full():
            self._account.dropped += len(evaluations)
            done.set_result([Outcome.DROPPED] * len(evaluations))
            return done
        await self._queue.put((evaluations, done))
        self._account.queued += len(evaluations)
        return done

    async def finish(self) -> None:
        """No more offers; `run` returns once the queue is empty."""
        await self._queue.put(None)

    async def run(self) -> None:
        while (item := await self._queue.get()) is not None:
            evaluations, done = item
            try:
                outcomes = await self._write(evaluations)
            except asyncio.CancelledError:
                outcomes = [Outcome.ERRORED] * len(evaluations)
                self._settle(evaluations, outcomes, done)
                raise
            self._settle(evaluations, outcomes, done)

    def abandon(self) -> None:
        """After the drain deadline: whatever still waits ends as errored."""
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if item is not None:
                evaluations, done = item
                self._settle(evaluations, [Outcome.ERRORED] * len(evaluations), done)

    def _settle(
        self,
        evaluations: Sequence[Evaluation],
        outcomes: Sequence[Outcome],
        done: asyncio.Future[Sequence[Outcome]],
    ) -> None:
        account = self._account
        account.queued -= len(evaluations)
        account.delivered += sum(outcome is Outcome.DELIVERED for outcome in outcomes)
        account.rejected += sum(outcome is Outcome.REJECTED for outcome in outcomes)
        account.dropped += sum(outcome is Outcome.DROPPED for outcome in outcomes)
        account.dead_lettered += sum(outcome is Outcome.ERRORED for outcome in outcomes)
        if not done.done():
            done.set_result(outcomes)

    async def _write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        """Outcomes of a batch: the whole batch is tried again while the sink is unavailable, else only what errored."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcomes: list[Outcome] = [Outcome.ERRORED] * len(evaluations)
        waiting = list(range(len(evaluations)))
        tries = 0
        while True:
            problem = ""
            try:
                answers = await self.sink.write([evaluations[index] for index in waiting])
                if len(answers) != len(waiting):
                    raise RuntimeError(
                        f"sink {self.sink.name} gave {len(answers)} outcomes for {len(waiting)} evaluations"
                    )
                for index, outcome in zip(waiting, answers, strict=True):
                    outcomes[index] = outcome
                waiting = [index for index in waiting if outcomes[index] is Outcome.ERRORED]
            except (SinkUnavailable, OSError, TimeoutError) as error:
                problem = f"{type(error).__name__}: {error}"
            except Exception as error:  # noqa: BLE001 - a task boundary: a sink's bug ends as an outcome and a count
                log.error("A sink failed and its batch is given up.", sink=self.sink.name, error=type(error).__name__)
                return outcomes
            if not waiting and not problem:
                if self.is_down:
                    log.info("A sink takes events again.", sink=self.sink.name, tries=tries)
                self.is_down = False
                return outcomes
            elapsed = loop.time() - started
            if elapsed >= self._retry.give_up_seconds:
                log.error("A batch is given up.", sink=self.sink.name, evaluations=len(waiting), tries=tries)
                return outcomes
            wait = self._retry.wait(tries, self._chance)
            if not self.is_down:
                log.warning("A sink is not available, trying again.", sink=self.sink.name, error=problem or "errored")
            self.is_down = True
            tries += 1
            self._account.retries += 1
            await asyncio.sleep(min(wait, max(0.0, self._retry.give_up_seconds - elapsed)))

"""agent.pipeline.line, .channel, .delivery, .ledger, .contracts: nothing admitted is lost, and the ledger adds up."""

import asyncio
import random

import msgspec
import pytest

from agent.model import Evaluation, Event, LogRecord, LossReport, Outcome, Resource
from agent.pipeline.channel import Channel, Port
from agent.pipeline.contracts import Receipt, SinkUnavailable
from agent.pipeline.delivery import Delivery, RetryPolicy
from agent.pipeline.ledger import Ledger, SinkAccount
from agent.pipeline.line import Line, LineSettings
from agent.testing import ListSource, MemorySink, log_event

QUICK = RetryPolicy(first_seconds=0.001, longest_seconds=0.01, give_up_seconds=5.0)


class Plain:
    """An evaluator that passes everything on, and fails where it is told to."""

    def __init__(self, bad=()):
        self.bad = set(bad)
        self.incomplete = []

    def evaluate(self, event, *, is_window_complete=True):
        if event.id in self.bad:
            raise RuntimeError("the engine has a bug")
        if not is_window_complete:
            self.incomplete.append(event.id)
        return Evaluation(event=event, is_window_complete=is_window_complete)


def events(count, start=0):
    return [
        Event(id=f"{number:032x}", source="list", body=LogRecord(text="masked"))
        for number in range(start, start + count)
    ]


async def run(source, *sinks, evaluator=None, **settings):
    line = Line(
        sources=[source] if not isinstance(source, list) else source,
        sinks=sinks,
        evaluator=evaluator or Plain(),
        ledger=Ledger(),
        settings=LineSettings(**{"retry": QUICK, **settings}),
        chance=random.Random(1),
    )
    await asyncio.wait_for(line.run(), 30)
    assert line.ledger.is_balanced
    return line


async def test_everything_is_delivered_to_every_sink_and_in_order():
    source, first, second = ListSource(events(100), batch=7), MemorySink("first"), MemorySink("second")
    line = await run(source, first, second)
    assert [one.event.id for one in first.written] == [event.id for event in events(100)]
    assert len(second.written) == 100
    assert set(source.outcomes) == {Outcome.DELIVERED}
    assert line.ledger.source("list").delivered == 100


async def test_sinks_are_opened_before_and_closed_after():
    sink = MemorySink()
    await run(ListSource(events(1)), sink)
    assert (sink.is_open, sink.is_closed) == (True, True)


async def test_a_sink_that_cannot_open_stops_the_start_and_is_closed():
    class Broken(MemorySink):
        async def open(self):
            raise OSError("no such directory")

    first, broken = MemorySink("first"), Broken("broken")
    with pytest.raises(OSError, match="no such directory"):
        await run(ListSource(events(1)), first, broken)
    assert first.is_closed
    assert broken.is_closed


async def test_random_rejections_end_as_rejected():
    chance = random.Random(3)
    sink = MemorySink(decide=lambda _, batch: [chance.choice([Outcome.DELIVERED, Outcome.REJECTED]) for _ in batch])
    line = await run(ListSource(events(200), batch=10), sink)
    account = line.ledger.source("list")
    assert account.rejected > 0
    assert account.delivered + account.rejected == 200
    assert line.ledger.sink("memory").rejected == account.rejected


async def test_a_sink_that_is_down_for_a_while_loses_nothing():
    def down(number, batch):
        if number < 5:
            raise SinkUnavailable("connection refused")
        return [Outcome.DELIVERED] * len(batch)

    sink = MemorySink(decide=down)
    line = await run(ListSource(events(50), batch=10), sink)
    assert [one.event.id for one in sink.written] == [event.id for event in events(50)]
    assert line.ledger.sink("memory").retries == 5
    assert line.sinks_down == ()


async def test_only_what_errored_is_tried_again():
    def half(number, batch):
        if number == 0:
            return [Outcome.DELIVERED if index % 2 else Outcome.ERRORED for index in range(len(batch))]
        return [Outcome.DELIVERED] * len(batch)

    sink = MemorySink(decide=half)
    await run(ListSource(events(10), batch=10), sink)
    assert len(sink.written) == 10
    assert sink.writes == 2


async def test_a_sink_that_stays_down_is_dead_lettered_and_told_as_errored():
    def never(number, batch):
        raise SinkUnavailable("gone for good")

    source = ListSource(events(6), batch=2)
    line = await run(source, MemorySink(decide=never), retry=RetryPolicy(0.001, 0.002, give_up_seconds=0.05))
    assert line.ledger.source("list").errored == 6
    assert line.ledger.sink("memory").dead_lettered == 6
    assert set(source.outcomes) == {Outcome.ERRORED}
    assert line.sinks_down == ("memory",)


async def test_a_sinks_bug_ends_as_errored_and_does_not_stop_the_line():
    def bug(number, batch):
        if number == 0:
            raise ValueError("a bug")
        return [Outcome.DELIVERED] * len(batch)

    line = await run(ListSource(events(4), batch=2), MemorySink(decide=bug))
    assert (line.ledger.source("list").errored, line.ledger.source("list").delivered) == (2, 2)


async def test_an_event_the_engine_fails_on_is_rejected_and_the_rest_goes_on():
    bad = events(1)[0].id
    sink = MemorySink()
    line = await run(ListSource(events(5), batch=5), sink, evaluator=Plain(bad=[bad]))
    account = line.ledger.source("list")
    assert (account.rejected, account.delivered) == (1, 4)
    assert bad not in [one.event.id for one in sink.written]


async def test_a_source_that_fails_is_told_and_does_not_stop_the_others():
    class Failing(ListSource):
        async def run(self, out):
            raise RuntimeError("a bug")

    line = await run([Failing([], name="failing"), ListSource(events(3))], MemorySink())
    assert line.ledger.source("failing").decode_errors == {"source_failed": 1}
    assert line.ledger.source("list").delivered == 3


async def test_blocking_makes_the_source_wait_and_drops_nothing():
    class Slow(MemorySink):
        async def write(self, evaluations):
            await asyncio.sleep(0.002)
            return await super().write(evaluations)

    sink = Slow()
    line = await run(ListSource(events(60), batch=5), sink, queue_events=10, sink_queue_batches=1)
    assert len(sink.written) == 60
    assert line.ledger.source("list").dropped.total() == 0


async def test_a_storm_beyond_capacity_drops_with_a_reason():
    ledger = Ledger()
    channel = Channel(10, ledger)
    port = Port("storm", channel, ledger, "drop_newest")
    receipts = [await port.send(events(4, start)) for start in range(0, 40, 4)]
    outcomes = [receipt.is_settled and await receipt for receipt in receipts]
    assert outcomes.count(Outcome.DROPPED) == 8
    assert ledger.source("storm").dropped == {"queue_full": 32}
    assert ledger.source("storm").in_flight == 8
    assert ledger.is_balanced


async def test_a_storm_through_the_whole_line_adds_up():
    class Slow(MemorySink):
        async def write(self, evaluations):
            await asyncio.sleep(0.01)
            return await super().write(evaluations)

    sink = Slow()
    source = ListSource(events(2000), batch=10)
    line = await run(
        source, sink, queue_events=50, when_full={"list": "drop_newest"}, sink_queue_batches=1, drain_seconds=20
    )
    account = line.ledger.source("list")
    assert account.admitted == 2000
    assert account.dropped["queue_full"] > 0
    assert account.delivered == len(sink.written) == 2000 - account.dropped["queue_full"]


async def test_a_full_sink_queue_may_drop_without_holding_the_others():
    gate = asyncio.Event()

    class Stuck(MemorySink):
        async def write(self, evaluations):
            await gate.wait()
            return await super().write(evaluations)

    fast, stuck = MemorySink("fast"), Stuck("stuck")

    async def open_gate():
        while len(fast.written) < 40:
            await asyncio.sleep(0.005)
        gate.set()

    opening = asyncio.create_task(open_gate())
    line = await run(
        ListSource(events(40), batch=4), fast, stuck, sink_queue_batches=1, sink_when_full={"stuck": "drop_newest"}
    )
    await opening
    assert len(fast.written) == 40
    assert line.ledger.sink("stuck").dropped > 0
    assert line.ledger.source("list").dropped["sink_queue_full"] == line.ledger.sink("stuck").dropped


class Endless:
    """Sends until it is stopped."""

    name = "endless"

    def __init__(self):
        self.receipts = []
        self._stop = asyncio.Event()

    async def run(self, out):
        number = 0
        while not self._stop.is_set():
            self.receipts.append(await out.send(events(5, number)))
            number += 5
            await asyncio.sleep(0)
        for receipt in self.receipts:
            await receipt

    async def stop(self):
        self._stop.set()


async def test_stopping_loses_nothing_that_was_admitted():
    source, sink, stop = Endless(), MemorySink(), asyncio.Event()
    line = Line(
        sources=[source], sinks=[sink], evaluator=Plain(), ledger=Ledger(), settings=LineSettings(queue_events=100)
    )
    asyncio.get_running_loop().call_later(0.2, stop.set)
    await asyncio.wait_for(line.run(stop), 20)
    account = line.ledger.source("endless")
    assert account.delivered == account.admitted == len(sink.written) > 0
    assert line.ledger.is_balanced


async def test_after_the_drain_deadline_the_rest_is_errored_not_forgotten():
    class Hanging(MemorySink):
        async def write(self, evaluations):
            await asyncio.sleep(3600)
            return []

    source, stop = Endless(), asyncio.Event()
    line = Line(
        sources=[source],
        sinks=[Hanging()],
        evaluator=Plain(),
        ledger=Ledger(),
        settings=LineSettings(queue_events=20, drain_seconds=0.2, sink_queue_batches=1),
    )
    asyncio.get_running_loop().call_later(0.1, stop.set)
    await asyncio.wait_for(line.run(stop), 20)
    account = line.ledger.source("endless")
    assert account.errored > 0
    assert account.in_flight == 0
    assert line.ledger.is_balanced


async def test_the_evaluator_is_swapped_between_two_events():
    first, second = Plain(), Plain()
    stop = asyncio.Event()
    line = Line(
        sources=[Endless()],
        sinks=[MemorySink()],
        evaluator=first,
        ledger=Ledger(),
        settings=LineSettings(queue_events=10),
    )

    def swap():
        line.evaluator = second
        asyncio.get_running_loop().call_later(0.1, stop.set)

    asyncio.get_running_loop().call_later(0.05, swap)
    await asyncio.wait_for(line.run(stop), 20)
    assert line.ledger.is_balanced


async def test_loss_marks_the_coming_window_and_sums_it_up():
    evaluator, sink = Plain(), MemorySink()
    lost = [
        Event(id=f"{n:032x}", source="list", body=LossReport(origin="hubble", reason="ring", count=n)) for n in (40, 80)
    ]
    line = await run(ListSource([*lost, *events(2)]), sink, evaluator=evaluator)
    assert line.ledger.source("list").lost == {"ring": 120}
    assert [one.event.body.window_count for one in sink.written[:2]] == [40, 120]
    assert len(evaluator.incomplete) == 4


async def test_resolving_fills_in_who_it_is():
    sink = MemorySink()
    line = Line(
        sources=[ListSource(events(1))],
        sinks=[sink],
        evaluator=Plain(),
        ledger=Ledger(),
        resolve=lambda event: msgspec.structs.replace(event, resource=Resource(namespace="found")),
    )
    await line.run()
    assert sink.written[0].event.resource.namespace == "found"


def test_waits_grow_and_are_jittered_within_bounds():
    policy = RetryPolicy(first_seconds=1.0, longest_seconds=8.0)
    chance = random.Random(1)
    waits = [[policy.wait(tries, chance) for _ in range(200)] for tries in range(6)]
    assert [max(row) <= bound for row, bound in zip(waits, [1, 2, 4, 8, 8, 8], strict=True)] == [True] * 6
    assert min(waits[5]) < 1.0


def test_a_drop_without_a_reason_is_a_mistake():
    ledger = Ledger()
    ledger.admit("s", 1)
    with pytest.raises(ValueError, match="reason"):
        ledger.settle("s", Outcome.DROPPED)


async def test_a_receipt_may_be_awaited_by_many():
    receipt = Receipt()
    waiting = [asyncio.create_task(_await(receipt)) for _ in range(3)]
    await asyncio.sleep(0)
    receipt.settle(Outcome.REJECTED)
    assert await asyncio.gather(*waiting) == [Outcome.REJECTED] * 3


async def _await(receipt):
    return await receipt


async def test_a_closed_channel_refuses_so_that_a_file_is_read_again():
    ledger = Ledger()
    channel = Channel(10, ledger)
    await channel.close()
    receipt = await channel.put("s", events(2), "block")
    assert await receipt is Outcome.ERRORED
    assert ledger.source("s").dropped == {"shutting_down": 2}
    assert await channel.get() is None


async def test_a_delivery_wants_an_outcome_for_each_evaluation():
    class Short(MemorySink):
        async def write(self, evaluations):
            return []

    delivery = Delivery(Short(), SinkAccount(), capacity=1, retry=QUICK, chance=random.Random(1))
    running = asyncio.create_task(delivery.run())
    done = await delivery.offer([Evaluation(event=log_event("x"))])
    assert await done == [Outcome.ERRORED]
    await delivery.finish()
    await running


async def test_a_worker_that_dies_ends_the_run_instead_of_blocking_it(monkeypatch):
    def broken(self, source, event):
        raise RuntimeError("a bug outside of the engine")

    monkeypatch.setattr(Line, "_noted", broken)
    line = Line(
        sources=[Endless()],
        sinks=[MemorySink()],
        evaluator=Plain(),
        ledger=Ledger(),
        settings=LineSettings(queue_events=10, drain_seconds=0.2),
    )
    with pytest.raises(RuntimeError, match="outside of the engine"):
        await asyncio.wait_for(line.run(), 20)
    assert line.ledger.is_balanced


async def test_what_a_source_says_of_itself_waits_for_room():
    """`drop_newest` is for the stream; a loss report that was dropped would be a loss that nobody hears of."""
    ledger = Ledger()
    channel = Channel(1, ledger)
    port = Port("s", channel, ledger, "drop_newest")
    await port.send(events(1))
    assert await (await port.send(events(1))) is Outcome.DROPPED
    waiting = asyncio.create_task(port.send(events(1), must_wait=True))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await channel.get()
    await asyncio.wait_for(waiting, 1)
    assert channel.depth == 1

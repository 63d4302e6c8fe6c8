"""agent.pipeline.line, agent.resolve.twins: an event that another source told is dropped with its reason; books add up."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Evaluation, Event, LogRecord, Outcome, Process, ProcessActivity, Sensitive
from agent.pipeline.delivery import RetryPolicy
from agent.pipeline.ledger import Ledger
from agent.pipeline.line import REPEATED, Line, LineSettings
from agent.resolve import Resolver
from agent.testing import ListSource, MemorySink


class OneByOne:
    def evaluate(self, event, *, is_window_complete=True):
        if event.id.endswith("bad"):
            raise RuntimeError("a bug")
        return Evaluation(event=event, is_window_complete=is_window_complete)


class Batches:
    parcels_at_once = 3

    def __init__(self):
        self.sizes = []

    async def evaluate_batch(self, items):
        self.sizes.append(len(items))
        return [
            ("RuntimeError", 0.0) if event.id.endswith("bad") else (Evaluation(event=event), 0.0) for event, _ in items
        ]


def events(*names):
    return [Event(id=name, source="list", body=LogRecord(text="x")) for name in names]


def without(*names):
    return lambda event: None if event.id in names else event


async def run(sources, sink, evaluator=None, resolve=None):
    line = Line(
        sources=sources,
        sinks=[sink],
        evaluator=evaluator or OneByOne(),
        ledger=Ledger(),
        resolve=resolve,
        settings=LineSettings(retry=RetryPolicy(first_seconds=0.001, longest_seconds=0.01, give_up_seconds=5.0)),
        chance=random.Random(1),
    )
    await asyncio.wait_for(line.run(), 30)
    assert line.ledger.is_balanced
    return line


@pytest.mark.parametrize("evaluator", [OneByOne, Batches])
async def test_an_event_that_was_told_is_dropped_with_its_reason(evaluator):
    source, sink = ListSource(events("a", "twin", "b"), batch=3), MemorySink()
    line = await run([source], sink, evaluator(), without("twin"))
    account = line.ledger.source("list")
    assert [one.event.id for one in sink.written] == ["a", "b"]
    assert (account.admitted, account.delivered, dict(account.dropped)) == (3, 2, {REPEATED: 1})
    assert source.outcomes == [Outcome.DROPPED]


@pytest.mark.parametrize("evaluator", [OneByOne, Batches])
async def test_a_batch_of_twins_reaches_no_sink_and_ends(evaluator):
    source, sink = ListSource(events("t1", "t2"), batch=2), MemorySink()
    line = await run([source], sink, evaluator(), without("t1", "t2"))
    assert sink.writes == 0
    assert dict(line.ledger.source("list").dropped) == {"told_by_other_source": 2}
    assert source.outcomes == [Outcome.DROPPED]


async def test_twins_are_not_given_to_the_evaluator():
    evaluator = Batches()
    await run([ListSource(events("a", "t", "b", "t"), batch=4)], MemorySink(), evaluator, without("t"))
    assert evaluator.sizes == [2]


@pytest.mark.parametrize("evaluator", [OneByOne, Batches])
async def test_a_twin_beside_an_event_that_fails_keeps_each_outcome_apart(evaluator):
    source = ListSource(events("t", "bad", "a", "t"), batch=4)
    line = await run([source], MemorySink(), evaluator(), without("t"))
    account = line.ledger.source("list")
    assert (account.delivered, account.rejected, dict(account.dropped)) == (1, 1, {REPEATED: 2})
    assert source.outcomes == [Outcome.REJECTED]


async def test_a_full_sink_s_drops_are_not_taken_for_twins():
    sink = MemorySink(decide=lambda _, batch: [Outcome.DROPPED] * len(batch))
    line = await run([ListSource(events("a", "t", "b"), batch=3)], sink, None, without("t"))
    assert dict(line.ledger.source("list").dropped) == {REPEATED: 1, "sink_queue_full": 2}


@pytest.mark.parametrize("evaluator", [OneByOne, Batches])
async def test_a_resolver_that_fails_costs_its_event_and_not_the_agent(evaluator):
    def resolve(event):
        if event.id == "odd":
            raise ValueError("a bug")
        return event

    sink = MemorySink()
    line = await run([ListSource(events("a", "odd", "b"), batch=3)], sink, evaluator(), resolve)
    assert [one.event.id for one in sink.written] == ["a", "b"]
    assert line.ledger.source("list").rejected == 1


async def test_two_sources_that_see_one_node_are_judged_once():
    def told(source):
        return [
            Event(
                id=f"{source}-{pid}",
                source=source,
                body=ProcessActivity(action="exec", process=Process(pid=pid, binary=Sensitive("/bin/sh"))),
            )
            for pid in range(1, 21)
        ]

    sources = [ListSource(told("tetragon"), "tetragon", 5), ListSource(told("ebpf"), "ebpf", 5)]
    sink = MemorySink()
    line = await run(sources, sink, None, Resolver())
    accounts = line.ledger.sources.values()
    assert len({one.event.body.process.pid for one in sink.written}) == len(sink.written) == 20
    assert sum(one.dropped[REPEATED] for one in accounts) == 20


@given(
    st.lists(st.sampled_from(["a", "t", "bad"]), max_size=30), st.integers(1, 7), st.sampled_from([OneByOne, Batches])
)
def test_any_mixture_adds_up(names, batch, evaluator):
    source, sink = ListSource(events(*names), batch=batch), MemorySink()
    line = asyncio.run(run([source], sink, evaluator(), without("t")))
    account = line.ledger.source("list")
    assert (account.delivered, account.rejected, account.dropped.total()) == (
        names.count("a"),
        names.count("bad"),
        names.count("t"),
    )

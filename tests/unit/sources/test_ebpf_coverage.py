"""agent.sources.ebpf.coverage: processes whose words cannot be read are told, once, and never passed over."""

import asyncio
import contextlib
import os
import time

import pytest

from agent.model import Endpoint, LossReport, NetworkActivity, Process, Resource, Sensitive, StatusReport
from agent.sources.ebpf import coverage as module
from agent.sources.ebpf.attachments import Coverage
from agent.sources.ebpf.coverage import CoverageWatch
from agent.sources.ebpf.processes import Known
from agent.sources.rpc.reporting import Reporter
from agent.testing import MemoryOutput

PID = os.getpid()


class Watched:
    """Processes that are known, and read."""

    def __init__(self, *pids):
        self.content = set(pids)
        started = time.time_ns() - 2_000_000_000
        process = Process(pid=PID, binary=Sensitive("/app"), start_time_unix_nano=started)
        self.known = {pid: Known(process, 0, Resource(namespace="rag", pod="api-0"), "/app") for pid in pids}
        self.table = self

    def get(self, pid):
        return self.known.get(pid)


class Kernel:
    def stand(self, path, point):
        return 0

    def fall(self, event):
        pass

    def listens(self, pid, descriptor):
        pass


@contextlib.asynccontextmanager
async def watch(*found, looks=(0.0,), pids=(PID,), monkeypatch):
    """A watch whose looks find these coverages, one after the other; what it reports."""
    monkeypatch.setattr(module, "_LOOKS", looks)
    out = MemoryOutput()
    reporter = Reporter("ebpf", "n")
    reporter.attach(out)
    watched = Watched(*pids)
    made = CoverageWatch(Kernel(), watched, reporter, does_host=False)
    answers, looked = list(found), asyncio.Event()

    def cover(pid, program):
        answer = answers.pop(0) if answers else found[-1]
        if not answers:
            made._loop.call_soon_threadsafe(looked.set)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(made, "_cover", cover)
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    made.bodies = lambda kind: [event.body for event in out.events if isinstance(event.body, kind)]

    async def looked_at():
        await asyncio.wait_for(looked.wait(), 10)
        for _ in range(20):
            await asyncio.sleep(0.001)

    made.looked_at, made.watched = looked_at, watched
    try:
        yield made
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_a_process_that_is_read_is_told_as_nothing(monkeypatch):
    async with watch(Coverage(("openssl",), (), False, False), monkeypatch=monkeypatch) as made:
        made.watch(PID)
        await made.looked_at()
        assert made.of(PID).stacks == ("openssl",)
        assert made.bodies(LossReport) == made.bodies(StatusReport) == []


async def test_what_was_said_before_probes_stood_is_lost_and_told(monkeypatch):
    async with watch(Coverage(("openssl",), (), True, False), monkeypatch=monkeypatch) as made:
        made.watch(PID)
        await made.looked_at()
        (loss,) = made.bodies(LossReport)
        assert (loss.reason, loss.is_lower_bound) == ("attached_late", True)
        assert loss.gap_seconds >= 2.0


async def test_a_blind_stack_is_told_once_for_a_place_and_program(monkeypatch):
    blind = Coverage((), ("rustls",), False, False)
    async with watch(blind, blind, blind, looks=(0.0, 0.0, 0.0), monkeypatch=monkeypatch) as made:
        made.watch(PID)
        await made.looked_at()
        (status,) = made.bodies(StatusReport)
        assert (status.state, status.subject, status.detail) == ("tls_blind", "rag/api-0", Sensitive("/app: rustls"))


async def test_a_process_that_ended_before_it_was_looked_at_is_told(monkeypatch):
    async with watch(Coverage((), (), False, True), monkeypatch=monkeypatch) as made:
        made.watch(PID)
        await made.looked_at()
        assert [one.reason for one in made.bodies(LossReport)] == ["ended_before_covered"]
        assert made.of(PID) is None


async def test_an_odd_process_does_not_blind_the_others(monkeypatch):
    async with watch(
        RuntimeError("odd"), Coverage(("go",), (), False, False), looks=(0.0, 0.0), monkeypatch=monkeypatch
    ) as made:
        made.watch(PID)
        await made.looked_at()
        assert made.of(PID).stacks == ("go",)


async def test_a_process_that_is_not_read_is_not_looked_at(monkeypatch):
    async with watch(Coverage(("go",), (), False, False), monkeypatch=monkeypatch) as made:
        made.watched.content.clear()
        made.watch(PID)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert made.of(PID) is None


async def test_a_process_that_ended_is_forgotten(monkeypatch):
    async with watch(Coverage(("go",), (), False, False), monkeypatch=monkeypatch) as made:
        made.watch(PID)
        await made.looked_at()
        made.forget(PID)
        assert made.of(PID) is None


@pytest.mark.parametrize(("port", "told"), [(443, 1), (8443, 1), (5432, 0)])
async def test_who_connects_to_a_port_of_tls_without_a_stack_that_is_known_is_blind(monkeypatch, port, told):
    nothing = Coverage((), (), False, False)
    async with watch(nothing, monkeypatch=monkeypatch) as made:
        body = NetworkActivity(action="connect", source=Endpoint(), destination=Endpoint(port=port))
        made.connected(PID, body)
        made._due[:] = [(0.0, pid, number) for _, pid, number in made._due] or [(0.0, PID, 0)]
        await made.looked_at()
        assert len(made.bodies(StatusReport)) == told

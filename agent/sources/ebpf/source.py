"""The node's own eyes: probes loaded, records read, events made, losses and blindness told."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable

import structlog

from agent.model import Event, LossReport, StatusReport
from agent.pipeline import Output, WhenFull
from agent.plugins import Surroundings
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.coverage import CoverageWatch
from agent.sources.ebpf.kernel import Kernel
from agent.sources.ebpf.meaning import Answer, Meaning
from agent.sources.ebpf.owners import Owners
from agent.sources.ebpf.reader import Item, Reader
from agent.sources.ebpf.runtime import PodList, runtime_socket
from agent.sources.rpc.beside import again_and_again
from agent.sources.rpc.reporting import Reporter

log = structlog.get_logger("reeve.ebpf")

_PARCEL = 256
# Handed on and not taken yet: about 60 MB of small records, never reached by a loop that runs.
_MOST_WAITING = 200_000
_LOOK_SECONDS = 0.2


class EbpfSource:
    """Nothing can be read again: what finds no room is dropped, and counted where it was dropped."""

    when_full: WhenFull = "drop_newest"

    def __init__(self, config: EbpfConfig, name: str, node: str) -> None:
        self.name = name
        self._config = config
        self.kernel = Kernel(config)
        self._owners = Owners(node)
        self.meaning = Meaning(config, node, self._owners, self.kernel)
        self._reporter = Reporter("ebpf", node)
        self._waiting: deque[Item] = deque()
        self._told_refused = 0
        self._has_news = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self.reader: Reader | None = None

    async def run(self, out: Output) -> None:
        self._reporter.attach(out)
        out.connected(False)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self.kernel.load)
            await self._tell_what_is_off()
            await self._follow(out, loop)
        finally:
            out.connected(False)
            await asyncio.to_thread(self.kernel.close)

    async def _follow(self, out: Output, loop: asyncio.AbstractEventLoop) -> None:
        def hand_on(items: list[Item]) -> int:
            room = max(0, _MOST_WAITING - len(self._waiting))
            self._waiting.extend(items[:room])
            loop.call_soon_threadsafe(self._has_news.set)
            return room

        self.reader = Reader(
            self.kernel.ring,
            self.kernel.accounting,
            hand_on,
            poll_seconds=self._config.poll_seconds,
            fold_seconds=self._config.fold_seconds,
            is_realtime=self._config.is_realtime,
            is_woken=self._config.reads_plaintext,
        )
        coverage = None
        if self._config.reads_plaintext:
            does_host = any(not (one.namespaces or one.pods) for one in self._config.plaintext.select)
            ports = self._config.plaintext.http_ports
            coverage = CoverageWatch(self.kernel, self.meaning, self._reporter, does_host=does_host, ports=ports)
        self.meaning.coverage = coverage
        self.meaning.table.hears_moves = any(probe.function == "attach_cgroup" for probe in self.kernel.on)
        await asyncio.to_thread(self.meaning.scan)
        self.reader.start()
        out.connected(True)
        log.info("Probes stand.", source=self.name, probes=len(self.kernel.on), off=len(self.kernel.off))
        looking = asyncio.create_task(again_and_again(self.name, _LOOK_SECONDS, self._is_stopping, self._look))
        listing = self._list_pods()
        covering = asyncio.create_task(coverage.run(self._is_stopping)) if coverage is not None else None
        try:
            while not self._is_stopping.is_set():
                if not self._waiting:
                    await self._has_news.wait()
                self._has_news.clear()
                await self._take_waiting(out)
        finally:
            self._is_stopping.set()
            if listing is not None:
                listing.cancel()  # it waits for the runtime, and has nothing to lose
            tasks = [task for task in (looking, covering, listing) if task is not None]
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self.kernel.detach)
            if not await asyncio.to_thread(self.reader.stop):
                log.error("The ring's reader did not end; its memory is left to the process's end.", source=self.name)
                self.kernel.abandon_ring()
            await self._take_waiting(out)
            await self._send_made(out, self.meaning.end())
            await self._tell_losses()

    async def _tell_what_is_off(self) -> None:
        """One line for people, and a status event for each probe."""
        by_reason: dict[str, list[str]] = {}
        for probe, reason in self.kernel.off:
            by_reason.setdefault(reason, []).append(probe.tracepoint)
            await self._reporter.report(
                StatusReport(component="ebpf", state="probe_off", subject=probe.tracepoint, detail=reason)
            )
        for reason, tracepoints in by_reason.items():
            log.warning("Probes are off.", source=self.name, reason=reason, tracepoints=tracepoints)

    def _list_pods(self) -> asyncio.Task[None] | None:
        socket = runtime_socket(self._config.runtime_socket)
        if not socket:
            return None
        pods = PodList(socket, self.meaning.learn)
        self._owners.want = pods.want
        return asyncio.create_task(pods.run(self._is_stopping))

    async def stop(self) -> None:
        self._is_stopping.set()
        self._has_news.set()

    async def _take_waiting(self, out: Output) -> None:
        """Take what waits now; what comes meanwhile is taken at the next turn."""
        events: list[Event] = []
        for number in range(1, len(self._waiting) + 1):
            record, count = self._waiting.popleft()
            out.read(count)
            answer = self._meant(record, count)
            if number % _PARCEL == 0:
                await asyncio.sleep(0)  # records that make no event wait for nothing: let others run
            if answer.error:
                out.decode_error(answer.error, count)
            elif answer.event is None:
                out.set_aside(answer.aside, count)
            else:
                events.append(answer.event)
                if count > 1:
                    out.set_aside("folded", count - 1)
            if answer.made:
                await self._send_made(out, answer.made)
            if len(events) >= _PARCEL:
                await out.send(events)
                events = []
        if events:
            await out.send(events)

    def _meant(self, record: bytes, count: int) -> Answer:
        """What a record means; a bug of ours costs that record, not the node's eyes."""
        try:
            return self.meaning.take(record, count)
        except Exception as error:  # noqa: BLE001 - a task boundary: it becomes a count
            log.error("A record could not be understood.", source=self.name, error=type(error).__name__)
            return Answer(error="meaning_failed")

    async def _send_made(self, out: Output, events: Iterable[Event]) -> None:
        """Send events that are no single record: exchanges, put together from many."""
        made = list(events)
        for start in range(0, len(made), _PARCEL):
            parcel = made[start : start + _PARCEL]
            out.reported(len(parcel))
            await out.send(parcel)

    async def _look(self) -> None:
        """What is told by the clock: exchanges that take long, connections that are idle, losses."""
        out = self._reporter.out
        await self._send_made(out, self.meaning.look(time.time_ns()))
        for name, count in self.meaning.troubles().items():
            out.read(count)
            out.decode_error(name, count)
        await self._tell_losses()

    async def _tell_losses(self) -> None:
        lost = self.kernel.accounting.newly_dropped()
        if lost:
            log.warning("The ring was full.", source=self.name, **lost)
            await self._reporter.report(LossReport(origin="ebpf", reason="ring_full", count=sum(lost.values())))
        refused = self.reader.refused - self._told_refused if self.reader is not None else 0
        if refused:
            self._told_refused += refused
            self._reporter.out.read(refused)
            self._reporter.out.set_aside("loop_too_slow", refused)
            await self._reporter.report(LossReport(origin="ebpf", reason="loop_too_slow", count=refused))


def build(config: EbpfConfig, name: str, surroundings: Surroundings) -> EbpfSource:
    return EbpfSource(config, name, surroundings.node)

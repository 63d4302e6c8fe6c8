"""Which switched-on processes can be read, and which cannot: a stack without probes is told, never passed over.

Libraries are loaded late (an `import ssl` in the first request), so a process is looked at again for a while.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Collection
from typing import Protocol

import structlog

from agent.model import LossReport, NetworkActivity, Sensitive, StatusReport
from agent.sources.ebpf.attachments import Attachments, Coverage, root_of
from agent.sources.ebpf.listeners import listeners_of
from agent.sources.ebpf.processes import Known, ProcessTable
from agent.sources.ebpf.stacks import Point
from agent.sources.rpc.reporting import Reporter

log = structlog.get_logger("reeve.ebpf")

_LOOKS = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
# Where TLS is spoken for certain; what connects there and has no known stack is blind.
_TLS_PORTS = frozenset({443, 8443, 6443, 4443, 9443})
_TOLD = 4096


class Standing(Protocol):
    """The kernel's side of probes in files."""

    def stand(self, path: str, point: Point) -> int: ...

    def fall(self, event: int) -> None: ...

    def listens(self, pid: int, descriptor: int) -> None: ...


class Watched(Protocol):
    """The processes that are known, and those whose plaintext is read."""

    @property
    def table(self) -> ProcessTable: ...

    @property
    def content(self) -> set[int]: ...


class CoverageWatch:
    """Looks at processes in a thread, one after the other."""

    def __init__(
        self, kernel: Standing, watched: Watched, reporter: Reporter, *, does_host: bool, ports: Collection[int] = ()
    ) -> None:
        self._kernel = kernel
        self._ports = frozenset(ports)
        self._does_host = does_host
        self.attachments = Attachments(kernel.stand, kernel.fall)
        self._watched = watched
        self._reporter = reporter
        self._due: list[tuple[float, int, int]] = []  # (when, process, which look); a first look is due at 0
        self._covered: dict[int, Coverage] = {}
        self._spoke: set[int] = set()  # connected to a TLS port
        self._told: set[tuple[str, str, str]] = set()
        self._programs: dict[int, str] = {}  # of processes that ended before they were looked at
        self._has_news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def watch(self, pid: int) -> None:
        """A process is switched on: look at it now, and again."""
        now = time.monotonic()
        for number, wait in enumerate(_LOOKS):
            heapq.heappush(self._due, (now + wait if number else 0.0, pid, number))
        self._loop.call_soon_threadsafe(self._has_news.set)

    def forget(self, pid: int) -> None:
        """A process has ended."""
        if pid not in self._covered:
            known = self._watched.table.get(pid)
            if known is not None and not known.owner.pod_uid and not known.owner.container_id:
                self._programs[pid] = known.binary
                if len(self._programs) > _TOLD:
                    self._programs.pop(next(iter(self._programs)))
        self._covered.pop(pid, None)
        self._spoke.discard(pid)

    def connected(self, pid: int, body: NetworkActivity) -> None:
        """A switched-on process connects somewhere."""
        if body.action == "connect" and body.destination.port in _TLS_PORTS and pid not in self._spoke:
            self._spoke.add(pid)
            heapq.heappush(self._due, (time.monotonic() + 1.0, pid, len(_LOOKS)))

    def of(self, pid: int) -> Coverage | None:
        return self._covered.get(pid)

    async def run(self, stop: asyncio.Event) -> None:
        if self._does_host:
            await asyncio.to_thread(self.attachments.prepare, root_of(1))
        while not stop.is_set():
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 0.5
            if wait > 0:
                try:
                    async with asyncio.timeout(min(wait, 0.5)):
                        await self._has_news.wait()
                except TimeoutError:
                    pass
                self._has_news.clear()
                continue
            _, pid, number = heapq.heappop(self._due)
            if pid not in self._watched.content and pid not in self._programs:
                continue
            try:
                known = self._watched.table.get(pid)
                on_host = known is not None and not known.owner.pod_uid and not known.owner.container_id
                program = known.binary if known is not None and on_host else self._programs.pop(pid, "")
                coverage = await asyncio.to_thread(self._cover, pid, program)
            except Exception as error:  # noqa: BLE001 - a task boundary: one odd process must not blind the others
                log.error("A process could not be looked at.", error=type(error).__name__)
                continue
            if coverage.is_new or (coverage.is_gone and not number):
                await self._tell_late(pid, known, coverage)
            if coverage.is_gone:
                continue
            self._covered[pid] = coverage
            if known is not None:
                await self._tell(pid, known, coverage, is_late=number >= len(_LOOKS) - 2)
        await asyncio.to_thread(self.attachments.close)

    def _cover(self, pid: int, program: str) -> Coverage:
        if self._ports:
            for descriptor in listeners_of(pid, self._ports):
                self._kernel.listens(pid, descriptor)
        return self.attachments.cover(pid, program)

    async def _tell_late(self, pid: int, known: Known | None, coverage: Coverage) -> None:
        """The first process with a new file, or one that was too short: what it said until now, nobody saw."""
        started = known.process.start_time_unix_nano if known is not None else 0
        seconds = round(max(0.001, (time.time_ns() - started) / 1e9), 3) if started else 0.0
        reason = "ended_before_covered" if coverage.is_gone else "attached_late"
        log.info("What a process said before its probes stood was not seen.", pid=pid, reason=reason, seconds=seconds)
        await self._reporter.report(LossReport(origin="ebpf", reason=reason, is_lower_bound=True, gap_seconds=seconds))

    async def _tell(self, pid: int, known: Known, coverage: Coverage, *, is_late: bool) -> None:
        reasons = coverage.blind
        if not coverage.stacks and not reasons and is_late and pid in self._spoke:
            reasons = ("no TLS library that is known",)
        if coverage.stacks:
            # A second stack beside one that is read (a library's own, for another feature) is told if it may speak.
            reasons = reasons if pid in self._spoke and is_late else ()
        for reason in reasons:
            key = (known.owner.place, known.binary, reason)
            if key in self._told or len(self._told) >= _TOLD:
                continue
            self._told.add(key)
            place = known.owner.place
            log.warning("The TLS of a process cannot be read.", place=place, pid=pid, reason=reason)
            await self._reporter.report(
                StatusReport(
                    component="ebpf", state="tls_blind", subject=place, detail=Sensitive(f"{known.binary}: {reason}")
                )
            )

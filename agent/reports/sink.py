"""Policy reports: state, aggregated in memory, flushed on a timer and at the end; never a write for an event.

At the start the reports that are there are adopted, then what the journal holds of an agent that was killed.  One
report per pod has one writer, the agent of its node, so that nobody's results are overwritten.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence

import structlog

from agent.config import Problem, Problems
from agent.model import Evaluation, Outcome, Resource
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.reports.aggregate import Aggregate, SubjectState, key_of
from agent.reports.config import PolicyReportConfig
from agent.reports.document import report, restored
from agent.reports.journal import Journal, lines_of, replayed
from agent.reports.writing import ClusterWriter, FileWriter, WriteFailed, Writer

log = structlog.get_logger("reeve.reports")

# The API server did not want a report of this size: try half, down to what one result needs.
_SMALLEST_BYTES = 4096
_LONGEST_WAIT_SECONDS = 300.0
_CLOSE_SECONDS = 10.0


class PolicyReportSink:
    """Folds evaluations and flushes changed reports."""

    def __init__(self, config: PolicyReportConfig, name: str, surroundings: Surroundings, writer: Writer) -> None:
        self.name = name
        self._config = config
        self._node = surroundings.node
        self._identify = surroundings.identify
        self._writer = writer
        self.directory = config.directory or surroundings.state_dir / "reports"
        self.aggregate = Aggregate(config.subjects)
        self.writes: Counter[str] = Counter()  # outcome -> attempts
        self._journal = Journal(self.directory)
        self._lock = asyncio.Lock()
        self._limits: dict[str, int] = {}  # report name -> bytes, where the server wanted less
        self._flushing: asyncio.Task[None] | None = None
        self._is_adopted = False
        self._run = uuid.uuid4().hex
        self._node_uid = ""
        self._wait_until = 0.0
        self._failures = 0
        self._told = ""

    async def open(self) -> None:
        await asyncio.to_thread(self.directory.mkdir, parents=True, exist_ok=True)
        replayed(await asyncio.to_thread(lambda: list(self._journal.read())), self.aggregate)
        self._flushing = asyncio.create_task(self._tick())

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        now = time.time_ns()
        told = [one for evaluation in evaluations for one in self.aggregate.add(evaluation, now)]
        lines = lines_of(told, "" if self._is_adopted else self._run)
        if lines:
            try:
                async with self._lock:
                    if not await asyncio.to_thread(self._journal.append, lines):
                        changed = [one for one in self.aggregate.subjects.values() if one.is_changed]
                        states = [(one, state) for one in changed for state in one.results.values()]
                        for _, state in states:
                            state.carried = 0  # the lines that said so go
                        whole = lines_of(states, "" if self._is_adopted else self._run)
                        await asyncio.to_thread(self._journal.rewrite, whole)
            except OSError as error:
                # What is counted is counted; a batch that is tried again is counted again, which is said in the README.
                raise SinkUnavailable(f"{self.directory}: the journal cannot be written: {error.strerror}") from error
        return [Outcome.DELIVERED] * len(evaluations)

    async def _tick(self) -> None:
        await self._adopt()
        while True:
            # A tenth of jitter: agents that were started together do not write together.
            await asyncio.sleep(self._config.flush_seconds * random.uniform(0.95, 1.05))  # noqa: S311
            if time.monotonic() < self._wait_until:
                continue
            try:
                await self._flush()
            except Exception as error:  # noqa: BLE001 - a task's boundary: the next flush must still come
                log.error("A flush of policy reports failed.", error=type(error).__name__)

    async def _flush(self) -> None:
        if not await self._adopt():
            return
        if self._identify is not None:
            self.aggregate.name(self._identify, time.time_ns())
        changed = [subject for subject in self.aggregate.subjects.values() if subject.is_changed]
        changed = [subject for subject in changed if not subject.is_unnamed]
        async with self._lock:
            await asyncio.to_thread(self._journal.begin_flush)
        again = False
        for subject in changed:
            started = time.monotonic()
            if not await self._written(subject):
                return
            again = again or subject.is_changed  # a conflict, or a newer result, which is in the newer journal
            spent = time.monotonic() - started
            await asyncio.sleep(max(0.0, 1 / self._config.writes_per_second - spent))
        if not again and not any(subject.is_unnamed for subject in self.aggregate.subjects.values()):
            async with self._lock:
                await asyncio.to_thread(self._journal.end_flush)

    async def _adopt(self) -> bool:
        """Take over the reports that are there, once; whether that is done."""
        if self._is_adopted:
            return True
        try:
            existing = await asyncio.to_thread(self._writer.existing)
            self._node_uid = await asyncio.to_thread(self._writer.node_uid)
        except WriteFailed as failure:
            if failure.kind != "gone":
                self._failed(failure)
                return False
            existing = []
        for document in existing:
            try:
                resource, states, folded = restored(document, self._node)
            except ValueError:
                continue
            known = (self._identify or _same)(resource)
            is_new = key_of(known) not in self.aggregate.subjects
            for state in states:
                subject = self.aggregate.restore(known, state)
                subject.folded = folded
                subject.is_changed = subject.is_changed and not is_new  # it is there as it stands
        self._is_adopted = True
        if existing:
            log.info("Policy reports of an earlier run are adopted.", reports=len(existing))
        return True

    async def _written(self, subject: SubjectState) -> bool:
        """Write one report; False if the flush must stop here."""
        subject.is_changed = False
        while True:
            document = report(subject, self._config.report_bytes, self._config.api, self._node_uid)
            name = document["metadata"]["name"]
            if name in self._limits:
                document = report(subject, self._limits[name], self._config.api, self._node_uid)
            try:
                await asyncio.to_thread(self._writer.write, document)
            except WriteFailed as failure:
                self.writes[failure.kind] += 1
                match failure.kind:
                    case "gone":
                        return True  # nobody will look for it
                    case "refused":
                        log.error(
                            "A policy report is refused; what it would say is in the audit log.", why=str(failure)
                        )
                        return True
                    case "too_large":
                        smaller = self._limits.get(name, self._config.report_bytes) // 2
                        if smaller >= _SMALLEST_BYTES:
                            self._limits[name] = smaller
                            continue
                        log.error("A policy report is too large even when it is short.", why=str(failure))
                        return True
                    case "conflict":
                        subject.is_changed = True
                        return True
                    case _:
                        subject.is_changed = True
                        self._failed(failure)
                        return False
            self.writes["written"] += 1
            self._failures = 0
            if self._told:
                log.info("Policy reports are written again.")
                self._told = ""
            return True

    def _failed(self, failure: WriteFailed) -> None:
        """Wait before the next flush, longer each time, and say why once."""
        self._failures += 1
        seconds = min(_LONGEST_WAIT_SECONDS, self._config.flush_seconds * 2 ** min(self._failures - 1, 8))
        self._wait_until = time.monotonic() + max(failure.retry_after_seconds, seconds * random.uniform(0.5, 1))  # noqa: S311
        if self._told != failure.kind:
            log.warning(
                "Policy reports cannot be written, trying again.", why=str(failure), wait_seconds=round(seconds)
            )
            self._told = failure.kind

    async def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
            try:
                await asyncio.wait_for(self._flush(), _CLOSE_SECONDS)
            except (TimeoutError, OSError) as error:
                log.warning("The last reports were not written; the journal keeps them.", error=type(error).__name__)


def _same(resource: Resource) -> Resource:
    return resource


def build(config: PolicyReportConfig, name: str, surroundings: Surroundings) -> PolicyReportSink:
    """Raises Problems if reports shall go to a cluster that is not configured."""
    if config.target == "cluster" and surroundings.cluster is None:
        remedy = "add `cluster: {}` to the configuration, or set target: files"
        raise Problems([Problem("", 0, "target", "there is no cluster to write reports to", remedy)])
    writer: Writer
    if surroundings.cluster is not None and config.target != "files":
        writer = ClusterWriter(surroundings.cluster, config.api, surroundings.node)
    else:
        writer = FileWriter(config.directory or surroundings.state_dir / "reports")
    return PolicyReportSink(config, name, surroundings, writer)

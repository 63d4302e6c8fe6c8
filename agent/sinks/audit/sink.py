"""The audit log as a sink: which evaluations are recorded, when a checkpoint is signed, and the heartbeat.

A full or broken disk makes the sink unavailable, so that the line tries again; what was written before stays whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from agent import VERSION
from agent.audit import Entry
from agent.model import Evaluation, Outcome
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.audit.config import AuditConfig
from agent.sinks.audit.directory import AuditDirectory, load_private_key

log = structlog.get_logger("reeve.audit")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class AuditSink:
    """Writes evaluations to an `AuditDirectory`, in a thread."""

    def __init__(self, config: AuditConfig, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self._config = config
        self._node = surroundings.node
        self.directory = config.directory or surroundings.state_dir / "audit"
        self._key_file = config.key_file or surroundings.state_dir / "keys" / "audit.pem"
        self._log: AuditDirectory | None = None
        self._lock = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None
        self._policy_digest = ""
        self._last_record = 0.0
        self._last_checkpoint = 0.0

    async def open(self) -> None:
        key = await asyncio.to_thread(load_private_key, self._key_file)
        opened = AuditDirectory(
            self.directory,
            f"reeve.dev/audit/{self._node or 'node'}",
            key,
            segment_bytes=self._config.segment_bytes,
            fsync=self._config.fsync,
        )
        await asyncio.to_thread(opened.open)
        self._log = opened
        if opened.recovered:
            log.error("The audit log had to be mended.", what=opened.recovered, directory=str(self.directory))
            await self._append([self._entry("recovery", what=opened.recovered)])
        await self._append([self._entry("start", version=VERSION, boot_id=_boot_id())])
        await self._checkpoint()
        self._ticking = asyncio.create_task(self._tick())

    def _entry(self, kind: str, **facts: str) -> Entry:
        return Entry(kind=kind, time=_now(), node=self._node, policy_digest=self._policy_digest, facts=facts)  # type: ignore[arg-type]

    def _is_recorded(self, evaluation: Evaluation) -> bool:
        match self._config.record:
            case "all":
                return True
            case "notable":
                return evaluation.is_notable
            case "violations":
                return bool(evaluation.violations)

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        entries: list[Entry] = []
        digest = self._policy_digest
        for evaluation in evaluations:
            if evaluation.policy_digest != digest:
                change = self._entry("reload", policy_digest_before=digest)
                digest = evaluation.policy_digest
                entries.append(msgspec.structs.replace(change, policy_digest=digest))
            if self._is_recorded(evaluation):
                entries.append(Entry(kind="evaluation", time=_now(), node=self._node, evaluation=evaluation))
        if entries:
            await self._append(entries)
            self._policy_digest = digest
            await self._checkpoint_if_due()
        return [Outcome.DELIVERED] * len(evaluations)

    async def _append(self, entries: Sequence[Entry]) -> None:
        assert self._log is not None, "write before open"
        async with self._lock:
            try:
                await asyncio.to_thread(self._log.append, entries)
            except OSError as error:
                raise SinkUnavailable(f"the audit log cannot be written: {error.strerror}") from error
        self._last_record = time.monotonic()

    async def _checkpoint_if_due(self) -> None:
        """A checkpoint after so many records.  If none can be written the records stand, chained but not yet signed."""
        assert self._log is not None
        if self._log.uncovered >= self._config.checkpoint_records:
            try:
                await self._checkpoint()
            except SinkUnavailable as error:
                log.warning("No checkpoint can be written.", error=str(error))

    async def _checkpoint(self) -> None:
        assert self._log is not None
        async with self._lock:
            try:
                await asyncio.to_thread(self._log.checkpoint)
            except OSError as error:
                raise SinkUnavailable(f"no checkpoint can be written: {error.strerror}") from error
        self._last_checkpoint = time.monotonic()

    async def _tick(self) -> None:
        """A checkpoint when records wait for one, a heartbeat when nothing happened."""
        assert self._log is not None
        while True:
            await asyncio.sleep(min(1.0, self._config.checkpoint_seconds, self._config.heartbeat_seconds))
            now = time.monotonic()
            try:
                if now - self._last_record >= self._config.heartbeat_seconds:
                    await self._append([self._entry("heartbeat")])
                if self._log.uncovered and now - self._last_checkpoint >= self._config.checkpoint_seconds:
                    await self._checkpoint()
            except SinkUnavailable as error:
                log.warning("The audit log cannot be written.", error=str(error))

    async def close(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        if self._log is None:
            return
        try:
            await self._append([self._entry("stop")])
            await self._checkpoint()
        except SinkUnavailable as error:
            log.error("The audit log could not be closed with a checkpoint.", error=str(error))
        await asyncio.to_thread(self._log.close)


def build(config: AuditConfig, name: str, surroundings: Surroundings) -> AuditSink:
    return AuditSink(config, name, surroundings)

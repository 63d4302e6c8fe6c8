"""Policy reports as files: one YAML file per report, written when it changed, on a timer and at the end.

State, not history: a restart begins anew, and the audit log keeps what was.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
import yaml

from agent.model import Evaluation, Outcome
from agent.plugins import Surroundings
from agent.reports.aggregate import Aggregate
from agent.reports.config import PolicyReportConfig
from agent.reports.document import report

log = structlog.get_logger("reeve.reports")
_DUMPER: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class PolicyReportSink:
    """Folds evaluations and flushes changed reports."""

    def __init__(self, config: PolicyReportConfig, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self._config = config
        self.directory = config.directory or surroundings.state_dir / "reports"
        self.aggregate = Aggregate(config.subjects)
        self._flushing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await asyncio.to_thread(self.directory.mkdir, parents=True, exist_ok=True)
        self._flushing = asyncio.create_task(self._tick())

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        now = time.time_ns()
        for evaluation in evaluations:
            self.aggregate.add(evaluation, now)
        return [Outcome.DELIVERED] * len(evaluations)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._config.flush_seconds)
            await self._flush()

    async def _flush(self) -> None:
        changed = [subject for subject in self.aggregate.subjects.values() if subject.is_changed]
        for subject in changed:
            subject.is_changed = False
            document = report(subject, self._config.report_bytes)
            metadata = document["metadata"]
            path = self.directory / f"{metadata.get('namespace', '_cluster')}_{metadata['name']}.yaml"
            try:
                await asyncio.to_thread(
                    _write, path, yaml.dump(document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
                )
            except OSError as error:
                subject.is_changed = True
                log.warning("A policy report cannot be written.", path=str(path), error=error.strerror)

    async def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
            await self._flush()


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a report."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def build(config: PolicyReportConfig, name: str, surroundings: Surroundings) -> PolicyReportSink:
    return PolicyReportSink(config, name, surroundings)

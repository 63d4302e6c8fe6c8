"""One recorded input through the whole line: what `reeve replay` and the tests run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from agent.app.loading import load_detectors, load_judge, make_engine
from agent.app.running import line_settings, resolver_of, surroundings_of
from agent.config import Settings
from agent.model import Evaluation, Outcome
from agent.pipeline import Ledger, Line, Sink
from agent.sources.replay.config import ReplayConfig
from agent.sources.replay.source import ReplaySource
from agent.telemetry import Tally


class Counting:
    """A sink that counts; the totals of a replay."""

    def __init__(self) -> None:
        self.name = "totals"
        self.evaluations = 0
        self.violations = 0
        self.findings: Counter[str] = Counter()
        self.results: Counter[str] = Counter()

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        for evaluation in evaluations:
            self.evaluations += 1
            self.violations += len(evaluation.violations)
            self.findings.update(finding.entity for finding in evaluation.findings)
            self.results.update(result.status for result in evaluation.results)
        return [Outcome.DELIVERED] * len(evaluations)

    async def close(self) -> None:
        """Nothing to let go."""


class Replay:
    """A replay, ready to run.  Raises Problems if rules or policies are broken."""

    def __init__(self, settings: Settings, config: ReplayConfig, sinks: Sequence[Sink], fingerprint_key: bytes) -> None:
        self.ledger = Ledger()
        self.tally = Tally()
        self.totals = Counting()
        detectors = load_detectors(settings, surroundings_of(settings))
        engine = make_engine(settings, detectors, load_judge(settings.policies), fingerprint_key)
        self._source = ReplaySource(config, config.kind)
        self._line = Line(
            sources=[self._source],
            sinks=[*sinks, self.totals],
            evaluator=engine,
            ledger=self.ledger,
            observer=self.tally,
            resolve=resolver_of(settings),
            settings=line_settings(settings),
        )

    async def run(self) -> None:
        await self._line.run()

    def totals_json(self) -> dict[str, Any]:
        """What was read, and what became of it; `events` are those that decoding gave."""
        account = self.ledger.source(self._source.name)
        return {
            "read": account.read,
            "events": account.admitted,
            "decode_errors": dict(account.decode_errors),
            "evaluations": self.totals.evaluations,
            "violations": self.totals.violations,
            "findings": dict(self.totals.findings),
            "results": dict(self.totals.results),
            "delivered": account.delivered,
            "dropped": dict(account.dropped),
            "rejected": account.rejected,
            "errored": account.errored,
            "in_flight": account.in_flight,
            "lost": dict(account.lost),
            "balanced": account.is_balanced,
        }

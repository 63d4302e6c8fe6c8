"""Counts of what the engine did, kept as plain numbers; `metrics.py` reads them at scrape time.

Label sets are bounded: entities and rules come from documents, directions, statuses and severities are closed lists.
"""

from __future__ import annotations

import bisect
from collections import Counter

from agent.model import Evaluation

# Seconds.  From a cached text (0.1 ms) to a long prompt (1 s); issue-sized steps of about 2.5.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Tally:
    """An `Observer` of the pipeline."""

    def __init__(self) -> None:
        self.findings: Counter[tuple[str, str, str]] = Counter()  # kind, entity, direction
        self.results: Counter[tuple[str, str, str, str]] = Counter()  # policy, rule, status, severity
        self.events: Counter[tuple[str, str]] = Counter()  # source, event class
        self.unscanned: Counter[str] = Counter()
        self.engine_errors: Counter[str] = Counter()
        self.reloads: Counter[tuple[str, str]] = Counter()  # what, outcome
        self.latency_counts = [0] * (len(BUCKETS) + 1)
        self.latency_sum = 0.0

    def evaluated(self, evaluation: Evaluation, seconds: float) -> None:
        self.latency_counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.latency_sum += seconds
        event = evaluation.event
        self.events[event.source, event.event_class] += 1
        for finding in evaluation.findings:
            self.findings[finding.kind, finding.entity, finding.direction] += 1
        for result in evaluation.results:
            self.results[result.policy, result.rule, result.status, result.severity] += 1
        for reason in evaluation.unscanned:
            self.unscanned[reason] += 1

    def engine_error(self, name: str) -> None:
        self.engine_errors[name] += 1

    def reloaded(self, what: str, *, is_good: bool) -> None:
        self.reloads[what, "success" if is_good else "failure"] += 1

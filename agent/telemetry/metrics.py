"""Every metric, in one table, and the collector that reads the ledger and the tally when Prometheus asks.

No pod, path, pid or text of a workload is ever a label.  README.md beside this file explains each metric; a test holds
the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent import VERSION
from agent.pipeline import Ledger
from agent.telemetry.tally import BUCKETS, Tally


class MetricRow(NamedTuple):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


METRICS: tuple[MetricRow, ...] = (
    MetricRow("reeve_build_info", "gauge", ("version", "node"), "1, with the version of the agent."),
    MetricRow("reeve_source_read", "counter", ("source",), "Lines or messages read, whatever became of them."),
    MetricRow(
        "reeve_decode_errors", "counter", ("source", "error"), "Input that became no event, by the error's name."
    ),
    MetricRow(
        "reeve_source_set_aside",
        "counter",
        ("source", "reason"),
        "Input that became no event of its own: duplicates, folded repetitions, what was not asked for.",
    ),
    MetricRow(
        "reeve_source_reported", "counter", ("source",), "Events the source made itself: losses, states of its peer."
    ),
    MetricRow("reeve_source_connected", "gauge", ("source",), "1 while the source's stream stands."),
    MetricRow("reeve_source_connections", "counter", ("source",), "Times the source's stream was set up."),
    MetricRow("reeve_events_admitted", "counter", ("source",), "Events that a source handed to the pipeline."),
    MetricRow(
        "reeve_events_ended", "counter", ("source", "outcome"), "Events by outcome: delivered, rejected, errored."
    ),
    MetricRow("reeve_events_dropped", "counter", ("source", "reason"), "Events that were let go, by reason."),
    MetricRow("reeve_events_in_flight", "gauge", ("source",), "Events admitted that have not ended."),
    MetricRow("reeve_events_lost", "counter", ("source", "reason"), "Events lost upstream, before the agent had them."),
    MetricRow("reeve_events_evaluated", "counter", ("source", "class"), "Events evaluated, by event class."),
    MetricRow("reeve_queue_events", "gauge", (), "Events waiting for the engine."),
    MetricRow("reeve_ledger_balanced", "gauge", (), "1 if admitted = ended + in flight for every source."),
    MetricRow("reeve_findings", "counter", ("kind", "entity", "direction"), "What detectors found, by entity."),
    MetricRow(
        "reeve_rejected_matches",
        "counter",
        ("detector", "rule"),
        "Matches that were not reported, by the rule that said no.",
    ),
    MetricRow("reeve_texts_unscanned", "counter", ("reason",), "Texts a part of which was not scanned."),
    MetricRow("reeve_policy_results", "counter", ("policy", "rule", "status", "severity"), "Results of policy rules."),
    MetricRow("reeve_policy_info", "gauge", ("digest",), "1, with the digest of the policy set in force."),
    MetricRow("reeve_policy_rules", "gauge", (), "Policy rules in force."),
    MetricRow("reeve_reloads", "counter", ("what", "outcome"), "Reloads of rules and policies, by outcome."),
    MetricRow(
        "reeve_reload_broken", "gauge", ("what",), "1 while files on disk are broken and the last good set is in force."
    ),
    MetricRow("reeve_evaluation_seconds", "histogram", (), "Time to detect, mask and judge one event."),
    MetricRow("reeve_engine_errors", "counter", ("error",), "Events the engine failed on, by exception type."),
    MetricRow("reeve_worker_deaths", "counter", (), "Scanning processes that died; their events were scanned again."),
    MetricRow("reeve_scan_cache_lookups", "counter", ("result",), "Look-ups of scanned texts: hit or miss."),
    MetricRow("reeve_scan_cache_bytes", "gauge", (), "Size of the cache of scanned texts."),
    MetricRow("reeve_sink_evaluations", "counter", ("sink", "outcome"), "Evaluations by sink and outcome."),
    MetricRow("reeve_sink_retries", "counter", ("sink",), "Times a sink was tried again."),
    MetricRow("reeve_sink_queued", "gauge", ("sink",), "Evaluations waiting for a sink."),
    MetricRow("reeve_sink_up", "gauge", ("sink",), "0 while a sink takes nothing."),
    MetricRow("reeve_report_writes", "counter", ("sink", "outcome"), "Attempts to write a policy report, by outcome."),
    MetricRow("reeve_cluster_up", "gauge", (), "1 while the API server answers."),
    MetricRow("reeve_cluster_requests", "counter", ("verb", "outcome"), "Requests to the API server, by outcome."),
    MetricRow("reeve_pods_known", "gauge", ("state",), "Pods whose identity is known: live, or gone and remembered."),
    MetricRow("reeve_identity_unknown", "counter", ("reason",), "Events of a pod that the agent does not know."),
    MetricRow(
        "reeve_cluster_policies", "gauge", ("state",), "RuntimePolicy resources: all, and those that are broken."
    ),
    MetricRow("reeve_canary_up", "gauge", ("path",), "1 while the canary's violation comes out of the path in time."),
    MetricRow("reeve_canary_seconds", "gauge", ("path",), "Time from leak to violation in the last good run."),
    MetricRow(
        "reeve_canary_last_success_timestamp_seconds", "gauge", ("path",), "When the last good run was, in Unix time."
    ),
    MetricRow("reeve_canary_runs", "counter", ("path", "outcome"), "Runs of the canary, by outcome."),
)
_ROWS = {row.name: row for row in METRICS}

Samples = Iterable[tuple[Sequence[str], float]]


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """How it stands with the API server and with what is known from it."""

    is_up: bool
    requests: Mapping[tuple[str, str], int]  # verb, outcome
    pods: int
    pods_gone: int
    unknown: Mapping[str, int]  # reason
    policies: int
    policies_broken: int


@dataclass(frozen=True, slots=True)
class CanaryCounts:
    """How the canary's paths fared."""

    runs: Mapping[tuple[str, str], int]  # path, outcome
    up: Mapping[str, bool]
    seconds: Mapping[str, float]
    last_success: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is asked of the running agent at scrape time."""

    node: str
    queue_events: Callable[[], int]
    sinks_down: Callable[[], Sequence[str]]
    rejected: Callable[[], Mapping[str, Mapping[str, int]]]  # detector -> rule -> count
    policy_digest: Callable[[], str]
    policy_rules: Callable[[], int]
    broken: Callable[[], Mapping[str, bool]]  # rules, policies -> whether the files on disk are broken
    cache: Callable[[], tuple[int, int, int]]  # hits, misses, bytes
    worker_deaths: Callable[[], int]
    cluster: Callable[[], ClusterCounts] | None = None
    canary: Callable[[], CanaryCounts] | None = None
    report_writes: Callable[[], Mapping[str, Mapping[str, int]]] = dict  # sink -> outcome -> attempts


class AgentCollector(Collector):
    """Reads everything when scraped."""

    def __init__(self, ledger: Ledger, tally: Tally, gauges: Gauges) -> None:
        self._ledger = ledger
        self._tally = tally
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        samples = {
            **self._ledger_samples(),
            **self._tally_samples(),
            **self._gauge_samples(),
            **self._cluster_samples(),
        }
        for row in METRICS:
            if row.kind == "histogram":
                yield self._latency(row)
            else:
                yield _family(row, samples.get(row.name, ()))

    def _ledger_samples(self) -> dict[str, Samples]:
        sources = dict(self._ledger.sources)
        sinks = dict(self._ledger.sinks)
        return {
            "reeve_source_read": [((name,), one.read) for name, one in sources.items()],
            "reeve_decode_errors": [
                ((name, error), count)
                for name, one in sources.items()
                for error, count in list(one.decode_errors.items())
            ],
            "reeve_source_set_aside": [
                ((name, reason), count)
                for name, one in sources.items()
                for reason, count in list(one.set_aside.items())
            ],
            "reeve_source_reported": [((name,), one.reported) for name, one in sources.items() if one.reported],
            "reeve_source_connected": [
                ((name,), float(one.is_connected)) for name, one in sources.items() if one.is_connected is not None
            ],
            "reeve_source_connections": [
                ((name,), one.connections) for name, one in sources.items() if one.is_connected is not None
            ],
            "reeve_events_admitted": [((name,), one.admitted) for name, one in sources.items()],
            "reeve_events_ended": [
                ((name, outcome), getattr(one, outcome))
                for name, one in sources.items()
                for outcome in ("delivered", "rejected", "errored")
            ],
            "reeve_events_dropped": [
                ((name, reason), count) for name, one in sources.items() for reason, count in list(one.dropped.items())
            ],
            "reeve_events_in_flight": [((name,), one.in_flight) for name, one in sources.items()],
            "reeve_events_lost": [
                ((name, reason), count) for name, one in sources.items() for reason, count in list(one.lost.items())
            ],
            "reeve_ledger_balanced": [((), float(self._ledger.is_balanced))],
            "reeve_sink_evaluations": [
                ((name, outcome), getattr(one, outcome))
                for name, one in sinks.items()
                for outcome in ("delivered", "dropped", "rejected", "dead_lettered")
            ],
            "reeve_sink_retries": [((name,), one.retries) for name, one in sinks.items()],
            "reeve_sink_queued": [((name,), one.queued) for name, one in sinks.items()],
        }

    def _tally_samples(self) -> dict[str, Samples]:
        tally = self._tally
        return {
            "reeve_events_evaluated": list(tally.events.items()),
            "reeve_findings": list(tally.findings.items()),
            "reeve_texts_unscanned": [((reason,), count) for reason, count in list(tally.unscanned.items())],
            "reeve_policy_results": list(tally.results.items()),
            "reeve_reloads": list(tally.reloads.items()),
            "reeve_engine_errors": [((name,), count) for name, count in list(tally.engine_errors.items())],
        }

    def _gauge_samples(self) -> dict[str, Samples]:
        gauges = self._gauges
        down = set(gauges.sinks_down())
        hits, misses, size = gauges.cache()
        return {
            "reeve_build_info": [((VERSION, gauges.node), 1.0)],
            "reeve_queue_events": [((), gauges.queue_events())],
            "reeve_worker_deaths": [((), gauges.worker_deaths())],
            "reeve_rejected_matches": [
                ((detector, rule), count)
                for detector, rules in gauges.rejected().items()
                for rule, count in list(rules.items())
            ],
            "reeve_policy_info": [((gauges.policy_digest(),), 1.0)],
            "reeve_policy_rules": [((), gauges.policy_rules())],
            "reeve_reload_broken": [((what,), float(broken)) for what, broken in gauges.broken().items()],
            "reeve_scan_cache_lookups": [(("hit",), hits), (("miss",), misses)],
            "reeve_scan_cache_bytes": [((), size)],
            "reeve_sink_up": [((name,), float(name not in down)) for name in self._ledger.sinks],
        }

    def _cluster_samples(self) -> dict[str, Samples]:
        samples: dict[str, Samples] = {
            "reeve_report_writes": [
                ((sink, outcome), count)
                for sink, outcomes in self._gauges.report_writes().items()
                for outcome, count in outcomes.items()
            ]
        }
        if self._gauges.cluster is not None:
            counts = self._gauges.cluster()
            samples |= {
                "reeve_cluster_up": [((), float(counts.is_up))],
                "reeve_cluster_requests": list(counts.requests.items()),
                "reeve_pods_known": [(("live",), counts.pods), (("gone",), counts.pods_gone)],
                "reeve_identity_unknown": [((reason,), count) for reason, count in counts.unknown.items()],
                "reeve_cluster_policies": [(("all",), counts.policies), (("broken",), counts.policies_broken)],
            }
        if self._gauges.canary is not None:
            canary = self._gauges.canary()
            samples |= {
                "reeve_canary_up": [((path,), float(is_up)) for path, is_up in canary.up.items()],
                "reeve_canary_seconds": [((path,), seconds) for path, seconds in canary.seconds.items()],
                "reeve_canary_last_success_timestamp_seconds": [
                    ((path,), when) for path, when in canary.last_success.items()
                ],
                "reeve_canary_runs": list(canary.runs.items()),
            }
        return samples

    def _latency(self, row: MetricRow) -> Metric:
        family = HistogramMetricFamily(row.name, row.help)
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), list(self._tally.latency_counts), strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([], buckets, self._tally.latency_sum)
        return family


def _family(row: MetricRow, samples: Samples) -> Metric:
    kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    family = kind(row.name, row.help, labels=row.labels)
    for labels, value in samples:
        family.add_metric(list(labels), value)
    return family

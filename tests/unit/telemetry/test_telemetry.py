"""agent.telemetry: .tally, .metrics, .http, .logs; counts in, metrics out, nothing of a workload in a label."""

import json
import urllib.error
import urllib.request
from collections import Counter

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from agent.model import Evaluation, Event, Finding, LogRecord, LossReport, Outcome, PolicyResult, Resource, Sensitive
from agent.pipeline import Ledger
from agent.telemetry.http import HttpServer
from agent.telemetry.logs import configure
from agent.telemetry.metrics import METRICS, AgentCollector, Gauges
from agent.telemetry.tally import BUCKETS, Tally

GAUGES = Gauges(
    node="n",
    queue_events=lambda: 3,
    sinks_down=lambda: ("audit",),
    rejected=lambda: {"pii": Counter(epoch=4)},
    policy_digest=lambda: "abc",
    policy_rules=lambda: 12,
    broken=lambda: {"policies": True, "rules": False},
    worker_deaths=lambda: 0,
    cache=lambda: (5, 6, 7),
)


def evaluation():
    resource = Resource(namespace="secret-ns", pod="secret-pod")
    event = Event(id="1", source="cri", body=LogRecord(text="[X]"), resource=resource)
    found = Finding(kind="pii", entity="EMAIL_ADDRESS", detector="pii", score=0.9, direction="log")
    failed = PolicyResult(policy="p", rule="r", status="fail", severity="high", message="secret message")
    return Evaluation(event=event, findings=(found,), results=(failed,), unscanned=("text_too_long",))


def scraped(ledger=None, tally=None):
    registry = CollectorRegistry()
    registry.register(AgentCollector(ledger or Ledger(), tally or Tally(), GAUGES))
    return generate_latest(registry).decode()


def test_what_was_counted_is_exposed():
    ledger, tally = Ledger(), Tally()
    ledger.admit("cri", 5)
    ledger.settle("cri", Outcome.DELIVERED, 2)
    ledger.settle("cri", Outcome.DROPPED, 1, "queue_full")
    ledger.lose("cri", LossReport(origin="o", reason="ring", count=9))
    ledger.source("cri").decode_errors["not_cri"] += 1
    ledger.sink("audit").retries = 2
    tally.evaluated(evaluation(), 0.002)
    tally.engine_error("ValueError")
    tally.reloaded("policies", is_good=False)
    text = scraped(ledger, tally)
    for line in (
        'reeve_events_admitted_total{source="cri"} 5.0',
        'reeve_events_dropped_total{reason="queue_full",source="cri"} 1.0',
        'reeve_events_in_flight{source="cri"} 2.0',
        'reeve_events_lost_total{reason="ring",source="cri"} 9.0',
        'reeve_decode_errors_total{error="not_cri",source="cri"} 1.0',
        'reeve_findings_total{direction="log",entity="EMAIL_ADDRESS",kind="pii"} 1.0',
        'reeve_policy_results_total{policy="p",rule="r",severity="high",status="fail"} 1.0',
        'reeve_texts_unscanned_total{reason="text_too_long"} 1.0',
        'reeve_engine_errors_total{error="ValueError"} 1.0',
        'reeve_reloads_total{outcome="failure",what="policies"} 1.0',
        'reeve_reload_broken{what="policies"} 1.0',
        'reeve_rejected_matches_total{detector="pii",rule="epoch"} 4.0',
        'reeve_sink_up{sink="audit"} 0.0',
        'reeve_sink_retries_total{sink="audit"} 2.0',
        "reeve_ledger_balanced 1.0",
        'reeve_scan_cache_lookups_total{result="hit"} 5.0',
        'reeve_policy_info{digest="abc"} 1.0',
    ):
        assert line in text
    assert "secret" not in text


def test_latency_is_a_cumulative_histogram():
    tally = Tally()
    for seconds in (0.00005, 0.002, 100.0):
        tally.evaluated(evaluation(), seconds)
    text = scraped(tally=tally)
    assert 'reeve_evaluation_seconds_bucket{le="0.0001"} 1.0' in text
    assert 'reeve_evaluation_seconds_bucket{le="0.0025"} 2.0' in text
    assert 'reeve_evaluation_seconds_bucket{le="+Inf"} 3.0' in text
    assert len(tally.latency_counts) == len(BUCKETS) + 1


def test_no_metric_has_a_pod_or_path_label():
    labels = {label for row in METRICS for label in row.labels if not row.name.startswith("reeve_canary_")}
    assert not labels & {"pod", "namespace", "container", "path", "binary", "pid", "user"}


@pytest.fixture
def server():
    registry = CollectorRegistry()
    registry.register(AgentCollector(Ledger(), Tally(), GAUGES))
    running = HttpServer(
        ("127.0.0.1", 0),
        registry,
        alive=lambda: (True, {"alive": True}),
        ready=lambda: (False, {"ready": False, "broken": {"x": "y"}}),
    )
    yield f"http://127.0.0.1:{running.port}"
    running.close()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_three_paths_are_served(server):
    status, text = get(f"{server}/metrics")
    assert status == 200
    assert "reeve_build_info" in text
    assert get(f"{server}/healthz") == (200, '{"alive": true}\n')
    status, text = get(f"{server}/readyz?verbose")
    assert status == 503
    assert json.loads(text)["broken"] == {"x": "y"}
    assert get(f"{server}/etc/passwd")[0] == 404
    assert get(f"{server}/canary") == (404, '{"problem": "no canary is configured"}\n')


def test_the_log_is_json_and_shows_no_sensitive_text(capsys):
    configure("info", "json")
    structlog.get_logger("x").info("Something.", value=Sensitive("hunter2"), count=3)
    structlog.get_logger("x").debug("Not shown.")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["count"], line["value"]) == ("Something.", 3, "Sensitive(7 characters)")

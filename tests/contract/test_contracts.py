"""Every source, sink and detector keeps its contract: agent.testing.contract, agent.testing.parts."""

import pytest

from agent.detectors import pii, secrets
from agent.model import Finding, PolicyResult
from agent.plugins import Surroundings
from agent.reports.config import PolicyReportConfig
from agent.reports.sink import build as build_reports
from agent.sinks import alertmanager, events, webhook
from agent.sinks.audit.config import AuditConfig
from agent.sinks.audit.sink import AuditSink
from agent.sinks.stdout.config import StdoutConfig
from agent.sinks.stdout.sink import StdoutSink
from agent.sources.containerlogs.config import ContainerLogsConfig
from agent.sources.containerlogs.source import ContainerLogsSource
from agent.sources.replay.config import ReplayConfig
from agent.sources.replay.source import ReplaySource
from agent.testing import (
    ListSource,
    MemorySink,
    check_detector,
    check_sink,
    check_source,
    evaluation_of,
    log_event,
)
from tests.unit.sinks.listening import receiver

EVENTS = [log_event(f"line {number}", number) for number in range(24)]
FAILED = PolicyResult(policy="p", rule="r", status="fail", message="m", severity="high")
FOUND = Finding(kind="pii", entity="EMAIL_ADDRESS", detector="pii", score=1.0, field="log.text", end=5, length=5)
EVALUATIONS = [evaluation_of(event, FAILED, findings=[FOUND]) for event in EVENTS]


async def test_a_list_is_a_source():
    await check_source(lambda: ListSource(EVENTS, batch=5), len(EVENTS), reads_again=False)


async def test_replay_keeps_the_contract(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "number {number}"}}\n' for number in range(50)))
    config = ReplayConfig(kind="prompts", path=str(path), batch_lines=7)
    await check_source(lambda: ReplaySource(config, "replay"), 50, reads_again=False)


async def test_container_logs_keep_the_contract(tmp_path):
    directory = tmp_path / "pods" / "ns_pod_uid" / "app"
    directory.mkdir(parents=True)
    for run in range(3):
        lines = [f"2026-11-23T10:00:0{run}.{number:09}Z stdout F {run}-{number}\n" for number in range(40)]
        (directory / f"{run}.log").write_text("".join(lines))
    config = ContainerLogsConfig(paths=(tmp_path / "pods",), group_seconds=0.05, read_bytes=4096)
    fresh = iter(range(1000))

    def make():
        surroundings = Surroundings(node="n", state_dir=tmp_path / f"state-{next(fresh)}", rules=())
        return ContainerLogsSource(config, "containerlogs", surroundings)

    await check_source(make, 120, reads_again=True)


async def test_memory_is_a_sink():
    await check_sink(MemorySink, EVALUATIONS)


@pytest.mark.parametrize("output", ["table", "ocsf", "json"])
async def test_standard_output_keeps_the_contract(output, capsys):
    await check_sink(lambda: StdoutSink(StdoutConfig(format=output, all=True), "stdout"), EVALUATIONS)
    assert "line 3" not in capsys.readouterr().out


async def test_the_audit_log_keeps_the_contract(tmp_path):
    surroundings = Surroundings(node="n", state_dir=tmp_path, rules=())
    await check_sink(lambda: AuditSink(AuditConfig(), "audit", surroundings), EVALUATIONS)


async def test_policy_reports_keep_the_contract(tmp_path):
    surroundings = Surroundings(node="n", state_dir=tmp_path, rules=())
    await check_sink(lambda: build_reports(PolicyReportConfig(), "policyreport", surroundings), EVALUATIONS)


@pytest.mark.parametrize("mode", ["structured", "batched", "ocsf"])
async def test_webhooks_keep_the_contract(mode, tmp_path):
    surroundings = Surroundings(node="n", state_dir=tmp_path, rules=())
    with receiver() as peer:
        settings = {"format": "ocsf"} if mode == "ocsf" else {"mode": mode}
        config = webhook.SPEC.config(url=peer.url, **settings)
        await check_sink(lambda: webhook.SPEC.build(config, "webhook", surroundings), EVALUATIONS)
        assert peer.requests
        assert b"line 3" not in peer.raw


async def test_alerts_keep_the_contract(tmp_path):
    surroundings = Surroundings(node="n", state_dir=tmp_path, rules=())
    with receiver() as peer:
        config = alertmanager.SPEC.config(urls=[peer.url])
        await check_sink(lambda: alertmanager.SPEC.build(config, "alertmanager", surroundings), EVALUATIONS)
        assert peer.requests
        assert b"line 3" not in peer.raw


class Written:
    """An API server that takes all."""

    def __init__(self):
        self.bodies = []

    def call(self, method, path, *, query=None, body=None, content_type="application/json"):
        self.bodies.append(body)
        return dict(body)


async def test_kubernetes_events_keep_the_contract(tmp_path):
    cluster = Written()
    surroundings = Surroundings(node="n", state_dir=tmp_path, rules=(), cluster=cluster)
    await check_sink(lambda: events.SPEC.build(events.SPEC.config(), "events", surroundings), EVALUATIONS)
    assert cluster.bodies
    assert "line 3" not in str(cluster.bodies)


TEXTS = ("jane.doe@acme.com", "4111 1111 1111 1111", "export DB_PASSWORD=vK9-qq71-Lxz0", "a.a.a." * 50)


@pytest.mark.parametrize("spec", [pii.SPEC, secrets.SPEC], ids=lambda spec: spec.name)
def test_detectors_keep_the_contract(spec, rules, tmp_path):
    detector = spec.build(spec.config(), spec.name, Surroundings(node="n", state_dir=tmp_path, rules=[rules]))
    check_detector(detector, TEXTS, ["log", "prompt", "network"])

"""agent.app: .canary, .canary_client: a leak goes in, its violation comes out, and nobody else is told."""

import asyncio
import json
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from agent.app import canary_client
from agent.app.canary import Canary, CountedWithoutCanaries, WithoutCanaries, card_number, enabled_paths, with_canary
from agent.app.running import Agent, load_settings, settings_from
from agent.cli.canary import canary as command
from agent.model import (
    Evaluation,
    Event,
    Finding,
    GenAiOperation,
    LogRecord,
    Message,
    Outcome,
    PolicyResult,
    Process,
    ProcessActivity,
    Resource,
)

LOGS = {"containerlogs": {"paths": ["/nowhere"]}}
EBPF = {"ebpf": {"plaintext": {"select": [{"namespaces": ["llm"]}]}}}


def settings(tmp_path, sources, **canary):
    return settings_from(state_dir=tmp_path, sources=sources, canary=canary)


@pytest.mark.parametrize(
    ("sources", "canary", "expected"),
    [
        (LOGS, {}, ("logs",)),
        (LOGS | EBPF, {}, ("logs", "runtime", "plaintext")),
        ({"ebpf": None}, {}, ("runtime",)),
        ({"ebpf": {"scope": ["llm"]}}, {}, ()),
        ({"tetragon": {}, "ebpf": {}}, {}, ("runtime",)),
        ({"mine": {"type": "containerlogs"}}, {}, ("logs",)),
        (LOGS | EBPF, {"paths": ["plaintext"]}, ("plaintext",)),
        ({"hubble": {}}, {}, ()),
    ],
)
def test_the_paths_are_those_of_the_sources(tmp_path, sources, canary, expected):
    assert enabled_paths(settings(tmp_path, sources, **canary)) == expected


def test_the_sources_watch_the_canarys_places_too(tmp_path):
    made = with_canary(settings(tmp_path, {"containerlogs": {"include_namespaces": ["llm-*"]}} | EBPF)).sources
    assert made["containerlogs"]["paths"] == ["/var/log/pods", str(tmp_path / "canary" / "pods")]
    assert made["containerlogs"]["include_namespaces"] == ["llm-*", "reeve-canary"]
    assert made["ebpf"]["plaintext"]["select"][-1] == {"binaries": ["*/reeve-canary-client"]}
    assert with_canary(settings(tmp_path, {"ebpf": {}})).sources["ebpf"] == {}


def test_card_numbers_are_right_and_never_the_same():
    numbers = {card_number() for _ in range(200)}
    assert len(numbers) == 200
    for number in numbers:
        digits = [int(digit) for digit in number.replace(" ", "")][::-1]
        assert sum(d if i % 2 == 0 else sum(divmod(d * 2, 10)) for i, d in enumerate(digits)) % 10 == 0


async def agent_of(tmp_path, **more):
    path = tmp_path / "config.yaml"
    document = {
        "apiVersion": "reeve.dev/v1alpha1",
        "kind": "AgentConfig",
        "state_dir": str(tmp_path / "state"),
        "http": {"listen": "127.0.0.1:0"},
        "sources": {"containerlogs": {"paths": [str(tmp_path / "pods")]}},
        "sinks": {"stdout": {"format": "json"}, "audit": {}, "policyreport": {"flush_seconds": 1}},
        "canary": {"every_seconds": 60, "within_seconds": 20},
        **more,
    }
    path.write_text(yaml.safe_dump(document))
    (tmp_path / "pods").mkdir(exist_ok=True)
    return Agent(*load_settings(path))


async def test_a_leak_comes_out_of_a_running_agent_and_goes_to_the_audit_log_alone(tmp_path, capsys):
    agent = await agent_of(tmp_path)
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    while agent.http is None or not agent.line.is_running:
        await asyncio.sleep(0.05)
    url = f"http://127.0.0.1:{agent.http.port}"
    result = await asyncio.to_thread(CliRunner().invoke, command, ["--url", url])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("logs       out after")
    with await asyncio.to_thread(urllib.request.urlopen, f"{url}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'reeve_canary_up{path="logs"} 1.0' in metrics
    assert 'reeve_canary_runs_total{outcome="success",path="logs"} 1.0' in metrics
    assert 'reeve_events_evaluated_total{class="log",source="containerlogs"} 1.0' in metrics
    assert "reeve_findings_total{" not in metrics
    assert "reeve_policy_results_total{" not in metrics
    stop.set()
    await running
    assert "canary" not in capsys.readouterr().out
    assert not list((tmp_path / "state" / "reports").glob("*.yaml"))
    audit = b"".join(path.read_bytes() for path in (tmp_path / "state" / "audit").rglob("*.jsonl"))
    assert audit.count(b'"kind":"evaluation"') == 1


async def test_a_detector_that_finds_nothing_is_found_out(tmp_path):
    agent = await agent_of(tmp_path, detectors={"secrets": {}}, canary={"every_seconds": 60, "within_seconds": 1.5})
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    while agent.http is None or not agent.line.is_running:
        await asyncio.sleep(0.05)
    url = f"http://127.0.0.1:{agent.http.port}"
    result = await asyncio.to_thread(CliRunner().invoke, command, ["--url", url])
    stop.set()
    await running
    assert result.exit_code == 1
    assert "FAILED: no violation came out within 1.5 s" in result.output
    assert agent.canary.counts().up == {"logs": False}
    assert agent.canary.runs["logs", "failure"] == 1


def test_no_agent_is_said_with_what_to_do():
    result = CliRunner().invoke(command, ["--url", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "no canary answers" in result.output


def test_an_address_that_is_none_is_refused():
    result = CliRunner().invoke(command, ["--url", "file:///etc/passwd"])
    assert result.exit_code == 2


CARD = Finding(kind="pii", entity="CREDIT_CARD", detector="pii", score=1.0)


def evaluation(body, *, policy="pii", resource=None):
    result = PolicyResult(policy=policy, rule="r", status="fail")
    event = Event(id="1", source="x", body=body, resource=resource or Resource(node="n"))
    return Evaluation(event=event, findings=(CARD,), results=(result,))


def process(arguments):
    return ProcessActivity(action="exec", process=Process(pid=1, binary="/bin/true", arguments=arguments))


@pytest.fixture
def canary(tmp_path):
    made = Canary(settings(tmp_path, LOGS | EBPF))
    for path in made.paths:
        made._tokens[path] = (f"reeve-canary-{path}", asyncio.Event())
    return made


async def test_only_its_own_leaks_are_the_canarys(canary):
    mine = Resource(namespace="reeve-canary", pod="reeve-canary", pod_uid=canary._uid)
    forged = Resource(namespace="reeve-canary", pod="reeve-canary", pod_uid="another")
    said = GenAiOperation(operation="chat", messages=(Message(role="user", text="reeve-canary-plaintext a card"),))
    cases = [
        (evaluation(LogRecord(text="reeve-canary-logs"), resource=mine), "logs"),
        (evaluation(LogRecord(text="reeve-canary-logs"), resource=forged), None),
        (evaluation(said), "plaintext"),
        (evaluation(process("reeve-canary-runtime"), policy="agent-canary"), "runtime"),
        # Its arguments are there for all to see: what else they are found to do is told.
        (evaluation(process("reeve-canary-runtime; nc"), policy="shell-in-inference-pod"), None),
        (evaluation(process("reeve-canary-other"), policy="agent-canary"), None),
        (evaluation(LogRecord(text="reeve-canary-plaintext")), None),
    ]
    for one, path in cases:
        assert canary.path_of(one) == path
    await canary.write([one for one, _ in cases])
    assert all(came.is_set() for _, came in canary._tokens.values())


async def test_a_leak_without_a_violation_has_not_come_out(canary):
    mine = Resource(pod="reeve-canary", pod_uid=canary._uid)
    quiet = evaluation(LogRecord(text="reeve-canary-logs"), resource=mine)
    await canary.write([Evaluation(event=quiet.event, findings=quiet.findings)])
    await canary.write([evaluation(LogRecord(text="an older leak"), resource=mine)])
    assert not canary._tokens["logs"][1].is_set()


class Sink:
    name = "s"

    def __init__(self):
        self.took = []

    async def open(self):
        self.is_open = True

    async def close(self):
        self.is_open = False

    async def write(self, evaluations):
        self.took += evaluations
        return [Outcome.REJECTED] * len(evaluations)


async def test_other_sinks_and_counts_never_see_them(canary):
    mine = evaluation(process("reeve-canary-runtime"), policy="agent-canary")
    other = evaluation(LogRecord(text="x"))
    sink = Sink()
    wrapped = WithoutCanaries(sink, canary)
    await wrapped.open()
    assert await wrapped.write([other, mine, other]) == [Outcome.REJECTED, Outcome.DELIVERED, Outcome.REJECTED]
    assert await wrapped.write([mine]) == [Outcome.DELIVERED]
    assert await wrapped.write([other]) == [Outcome.REJECTED]
    await wrapped.close()
    assert sink.took == [other] * 3
    assert not sink.is_open

    class Observer:
        def __init__(self):
            self.seen = []

        def evaluated(self, evaluation, seconds):
            self.seen.append(evaluation)

        def engine_error(self, name):
            self.seen.append(name)

    observer = Observer()
    counted = CountedWithoutCanaries(observer, canary)
    counted.evaluated(mine, 0.1)
    counted.evaluated(other, 0.1)
    counted.engine_error("ValueError")
    assert observer.seen == [Evaluation(event=mine.event), other, "ValueError"]


async def test_a_leak_that_cannot_be_planted_is_a_failure_with_its_reason(tmp_path, monkeypatch):
    made = Canary(settings(tmp_path, LOGS, within_seconds=1, every_seconds=60))
    await made.run()  # nothing is prepared
    assert "no leak could be planted: FileNotFoundError" in made.states["logs"].problem
    is_good, detail = made.detail()
    assert not is_good
    assert detail["paths"]["logs"]["up"] is False


def test_the_client_says_its_prompt_over_tls(tmp_path):
    script = Path(canary_client.__file__)
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-IS", str(script)], input=b"hello", capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert time.monotonic() - started >= canary_client._FIRST_WAIT_SECONDS


def test_the_clients_server_refuses_nothing_but_what_is_no_tls():
    context = canary_client._context(ssl.PROTOCOL_TLS_CLIENT)
    assert context.verify_mode == ssl.CERT_NONE
    assert json.dumps("x")

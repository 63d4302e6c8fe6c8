"""agent.sinks.alertmanager against Debian's real Alertmanager: what it takes, groups, notifies of, and resolves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import time

import pytest
from alertmanaging import PROGRAM, Alertmanager, free_ports
from certificates import Authority

from agent.model import Evaluation, Event, Finding, LogRecord, Outcome, PolicyResult, Resource
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.alertmanager import SPEC
from agent.sinks.alertmanager.config import AlertmanagerConfig
from tests.unit.sinks.listening import receiver

SECRET = "078-05-1120"
FOUND = Finding(kind="pii", entity="US_SSN", detector="pii", score=0.9)
DELIVERED = Outcome.DELIVERED
# bcrypt of "open sesame".
BCRYPT = "$2b$04$8Nc0fk/1QVQBgquwLbPV0OQQz/CcjAmShbCWFJnNbf9Ra.KoOPz.2"


def evaluation(number=0, *, pod="vllm-0", rule="r", severity="high"):
    resource = Resource(node="n1", namespace="llm", pod=pod, container="app", workload="vllm", labels={"n": SECRET})
    event = Event(id=f"{number:032x}", source="cri", body=LogRecord(text=SECRET), resource=resource)
    result = PolicyResult(policy="pii", rule=rule, status="fail", severity=severity, message="log holds [US_SSN]")
    return Evaluation(event=event, results=(result,), findings=(FOUND,))


@pytest.fixture
def hook():
    with receiver() as made:
        yield made


@pytest.fixture
def start(request, tmp_path, hook):
    """Starts Alertmanagers: `start("a")`; they notify `hook`."""
    if shutil.which(PROGRAM) is None:
        give_up = pytest.fail if request.config.getoption("--require-peers") else pytest.skip
        give_up(f"PEER SKIPPED: {PROGRAM} is not installed (Debian's package of that name; .ci/install-kubernetes)")
    running = []

    def make(name, *arguments, port=0, **more):
        made = Alertmanager(tmp_path / name, f"{hook.url}/notified", port or free_ports(1)[0], *arguments, **more)
        running.append(made)
        return made

    yield make
    for one in running:
        one.stop()


@contextlib.asynccontextmanager
async def alerting(tmp_path, *managers, **settings):
    config = AlertmanagerConfig(urls=[one.url for one in managers], **settings)
    sink = SPEC.build(config, "alertmanager", Surroundings(node="n1", state_dir=tmp_path, rules=()))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.05)


def notified(hook, state=""):
    return [request.json for request in hook.requests if not state or request.json["status"] == state]


async def test_an_alert_arrives_with_its_labels_and_is_notified_of_by_group(start, hook, tmp_path):
    manager = start("a")
    async with alerting(tmp_path, manager, extra_labels={"cluster": "c1"}) as sink:
        batch = [evaluation(n, pod=f"vllm-{n}") for n in range(3)]
        assert await sink.write(batch) == [DELIVERED] * 3
        alerts = await asyncio.to_thread(manager.alerts)
        assert {alert["labels"]["pod"] for alert in alerts} == {"vllm-0", "vllm-1", "vllm-2"}
        assert alerts[0]["labels"] | {"pod": ""} == {
            "alertname": "ReevePolicyViolation", "policy": "pii", "rule": "r", "severity": "high", "namespace": "llm",
            "pod": "", "container": "app", "workload": "vllm", "node": "n1", "cluster": "c1",
        }  # fmt: skip
        assert alerts[0]["annotations"]["description"] == "log holds [US_SSN]"
        await until(lambda: notified(hook))
        (group,) = await asyncio.to_thread(manager.groups)
    (told,) = notified(hook)
    assert group["labels"] == told["groupLabels"]
    assert told["groupLabels"] == {"policy": "pii", "namespace": "llm"}
    assert len(told["alerts"]) == 3
    assert SECRET.encode() not in hook.raw + json.dumps(alerts).encode()


async def test_repetitions_are_one_alert_and_one_notification(start, hook, tmp_path):
    manager = start("a")
    async with alerting(tmp_path, manager, repeat_seconds=0.5, quiet_seconds=60) as sink:
        for number in range(60):
            assert await sink.write([evaluation(number)]) == [DELIVERED]
            await asyncio.sleep(0.05)
        await until(lambda: [alert["annotations"]["count"] for alert in manager.alerts()] == ["60"])
        await asyncio.sleep(2)
        (alert,) = await asyncio.to_thread(manager.alerts)
    assert alert["startsAt"] < alert["updatedAt"]
    assert [len(told["alerts"]) for told in notified(hook)] == [1]


async def test_quiet_resolves_and_a_later_violation_fires_anew(start, hook, tmp_path):
    manager = start("a")
    async with alerting(tmp_path, manager, repeat_seconds=1, quiet_seconds=3) as sink:
        await sink.write([evaluation(1)])
        await until(lambda: notified(hook, "firing"))
        began = time.monotonic()
        await until(lambda: not manager.alerts())
        assert time.monotonic() - began < 5
        await until(lambda: notified(hook, "resolved"))
        await sink.write([evaluation(2)])
        await until(lambda: len(notified(hook, "firing")) == 2)
    first, resolved = notified(hook, "firing")[0], notified(hook, "resolved")[0]
    assert resolved["alerts"][0]["fingerprint"] == first["alerts"][0]["fingerprint"]
    again = notified(hook, "firing")[1]["alerts"][0]
    assert again["fingerprint"] == first["alerts"][0]["fingerprint"]
    assert again["startsAt"] > first["alerts"][0]["startsAt"]


async def test_an_alert_that_goes_on_never_flaps(start, hook, tmp_path):
    manager = start("a")
    async with alerting(tmp_path, manager, repeat_seconds=30, quiet_seconds=2) as sink:
        for number in range(50):
            await sink.write([evaluation(number)])
            assert len(await asyncio.to_thread(manager.alerts)) == 1
            await asyncio.sleep(0.1)
        assert [told["status"] for told in notified(hook)] == ["firing"]


async def test_an_agent_that_dies_leaves_alerts_that_end(start, hook, tmp_path):
    manager = start("a")
    async with alerting(tmp_path, manager, quiet_seconds=3) as sink:
        await sink.write([evaluation()])
        await until(lambda: notified(hook, "firing"))
    assert len(manager.alerts()) == 1
    await until(lambda: notified(hook, "resolved"))


async def test_an_alertmanager_that_was_restarted_learns_again(start, hook, tmp_path):
    manager = start("a")
    async with alerting(tmp_path, manager, repeat_seconds=1, quiet_seconds=60) as sink:
        await sink.write([evaluation(1)])
        await asyncio.to_thread(manager.stop)
        assert await sink.write([evaluation(2)]) == [DELIVERED]
        with pytest.raises(SinkUnavailable, match="Connection refused"):
            await sink.write([evaluation(3, rule="new")])
        await asyncio.to_thread(manager.start)
        await until(lambda: [alert["labels"]["rule"] for alert in manager.alerts()] == ["r"])
        assert await sink.write([evaluation(3, rule="new")]) == [DELIVERED]


async def test_two_instances_know_all_and_notify_once(start, hook, tmp_path):
    ports = free_ports(4)
    common = ["--cluster.peer-timeout=3s", "--cluster.settle-timeout=2s", "--cluster.pushpull-interval=1s"]

    def arguments(own, other):
        address = f"127.0.0.1:{own}"
        return [f"--cluster.listen-address={address}", f"--cluster.advertise-address={address}", f"--cluster.peer=127.0.0.1:{other}", *common]  # fmt: skip

    first = start("a", *arguments(ports[2], ports[3]), port=ports[0])
    second = start("b", *arguments(ports[3], ports[2]), port=ports[1])
    await until(lambda: len(json.loads(first.get("/api/v2/status"))["cluster"].get("peers", [])) == 2)
    await until(lambda: json.loads(first.get("/api/v2/status"))["cluster"]["status"] == "ready")
    await until(lambda: json.loads(second.get("/api/v2/status"))["cluster"]["status"] == "ready")
    async with alerting(tmp_path, first, second, repeat_seconds=1, quiet_seconds=60) as sink:
        await sink.write([evaluation(1)])
        assert [len(await asyncio.to_thread(one.alerts)) for one in (first, second)] == [1, 1]
        await until(lambda: notified(hook))
        await asyncio.sleep(6)
        assert len(notified(hook)) == 1
        await asyncio.to_thread(first.stop)
        assert await sink.write([evaluation(2, rule="q")]) == [DELIVERED]
        await until(lambda: any(len(told["alerts"]) == 2 for told in notified(hook)))
        await asyncio.to_thread(first.start)
        await until(lambda: {alert["labels"]["rule"] for alert in first.alerts()} == {"q", "r"}, 40)


async def test_tls_with_client_certificate_and_password(start, tmp_path):
    authority = Authority(tmp_path / "ca")
    server, client = authority.issue("localhost"), authority.issue("agent")
    tls = {"cert_file": str(server[0]), "key_file": str(server[1]), "client_ca_file": str(authority.file)}
    web = {
        "tls_server_config": {**tls, "client_auth_type": "RequireAndVerifyClientCert"},
        "basic_auth_users": {"reeve": BCRYPT},
    }
    (tmp_path / "web.yml").write_text(json.dumps(web))
    (tmp_path / "auth").write_text("reeve:open sesame\n")
    (tmp_path / "wrong").write_text("reeve:open barley\n")
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(*client)
    manager = start(
        "a",
        f"--web.config.file={tmp_path}/web.yml",
        "--cluster.listen-address=",
        context=context,
        credentials="Basic cmVldmU6b3BlbiBzZXNhbWU=",
    )
    files = {"ca_file": authority.file, "certificate_file": client[0], "key_file": client[1]}
    async with alerting(tmp_path, manager, **files, basic_auth_file=tmp_path / "auth") as sink:
        assert await sink.write([evaluation()]) == [DELIVERED]
        assert len(await asyncio.to_thread(manager.alerts)) == 1
    async with alerting(tmp_path, manager, **files, basic_auth_file=tmp_path / "wrong") as sink:
        assert await sink.write([evaluation()]) == [Outcome.REJECTED]
    async with alerting(tmp_path, manager, ca_file=authority.file) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.write([evaluation()])

"""agent.sinks.alertmanager: .config, .alert, .sink; agent.sinks: .http, .deadline, .receiver, .choice under bad peers."""

import asyncio
import contextlib
import json
import ssl
import threading
import time

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening import (
    Receiver,
    dripping_body,
    dripping_headers,
    garbage,
    huge,
    many_headers,
    receiver,
    reset,
    silent,
    status,
)
from structlog.testing import capture_logs

from agent.model import Evaluation, Event, Finding, LogRecord, Outcome, PolicyResult, Resource
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.alertmanager import SPEC
from agent.sinks.alertmanager.alert import Alert, folded_labels_of, labels_of, sighting
from agent.sinks.alertmanager.config import AlertmanagerConfig
from agent.sinks.choice import ChoiceConfig, listed, one_line
from agent.sinks.deadline import Deadline
from agent.sinks.http import Endpoint, _seconds
from agent.sinks.receiver import HttpConfig, checked_url
from tests.e2e.certificates import Authority

SECRET = "jane.doe@acme.example"
POD = Resource(
    node="n1",
    namespace="llm",
    pod="vllm-0",
    pod_uid="u",
    container="app",
    workload="vllm",
    workload_kind="StatefulSet",
    labels={"note": SECRET},
)
FOUND = Finding(kind="pii", entity="EMAIL_ADDRESS", detector="pii", score=0.9, fingerprint="f")
DELIVERED, REJECTED, ERRORED = Outcome.DELIVERED, Outcome.REJECTED, Outcome.ERRORED


def evaluation(number=0, *, resource=POD, rule="r", severity="high", state="fail", message="log holds [EMAIL_ADDRESS]"):
    event = Event(
        id=f"{number:032x}",
        source="cri",
        body=LogRecord(text=SECRET),  # a sink looks at no body, masked or not
        resource=resource,
        time_unix_nano=1_700_000_000_000_000_000,
    )
    result = PolicyResult(
        policy="pii", rule=rule, status=state, severity=severity, message=message, category="PII", controls=("GDPR 9",)
    )
    return Evaluation(event=event, results=(result,), findings=(FOUND,))


def pods(count):
    return [
        evaluation(number, resource=Resource(node="n1", namespace="llm", pod=f"p{number}")) for number in range(count)
    ]


@pytest.fixture
def peer():
    with receiver() as made:
        yield made


@contextlib.asynccontextmanager
async def running(tmp_path, *peers, identify=None, **settings):
    config = AlertmanagerConfig(urls=[peer.url for peer in peers], **settings)
    sink = SPEC.build(config, "alertmanager", Surroundings(node="n1", state_dir=tmp_path, rules=(), identify=identify))
    await sink.open()
    try:
        yield sink
    finally:
        await asyncio.wait_for(sink.close(), 10)


async def until(holds, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.01)


def alerts(peer):
    return [alert for request in peer.requests for alert in request.json]


async def test_a_violation_is_an_alert_with_labels_and_annotations(tmp_path, peer):
    more = {"cluster": "c1"}, {"runbook_url": "https://x"}, "http://grafana/d/reeve#alerts"
    async with running(tmp_path, peer, extra_labels=more[0], extra_annotations=more[1], generator_url=more[2]) as sink:
        assert await sink.write([evaluation()]) == [DELIVERED]
    (request,) = peer.requests
    (alert,) = request.json
    assert request.path == "/api/v2/alerts"
    assert request.headers["Content-Type"] == "application/json"
    assert alert["labels"] == {
        "alertname": "ReevePolicyViolation", "policy": "pii", "rule": "r", "severity": "high", "category": "PII",
        "namespace": "llm", "pod": "vllm-0", "container": "app", "workload": "vllm", "node": "n1", "cluster": "c1",
    }  # fmt: skip
    assert alert["annotations"] == {
        "summary": "pii/r is violated by llm/vllm-0/app", "description": "log holds [EMAIL_ADDRESS]",
        "entities": "EMAIL_ADDRESS", "controls": "GDPR 9", "count": "1", "runbook_url": "https://x",
        "first_seen": "2023-11-14T22:13:20.000000Z", "last_seen": "2023-11-14T22:13:20.000000Z",
    }  # fmt: skip
    assert alert["startsAt"] < alert["endsAt"]
    assert alert["generatorURL"] == "http://grafana/d/reeve#alerts"


async def test_names_that_are_unknown_are_no_labels_and_later_ones_are_asked_for(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        await sink.write([evaluation(resource=Resource())])
    assert alerts(peer)[0]["labels"].keys() == {"alertname", "policy", "rule", "severity", "category", "node"}
    async with running(tmp_path, peer, identify=lambda resource: POD) as sink:
        await sink.write([evaluation(resource=Resource(pod_uid="u"))])
    assert alerts(peer)[-1]["labels"]["pod"] == "vllm-0"


@pytest.mark.parametrize(
    ("settings", "severity", "state", "count"),
    [
        ({}, "high", "fail", 1),
        ({}, "medium", "fail", 1),
        ({}, "low", "fail", 0),
        ({}, "critical", "warn", 0),
        ({}, "critical", "pass", 0),
        ({"minimum_severity": "info"}, "info", "fail", 1),
        ({"minimum_severity": "critical"}, "high", "fail", 0),
        ({"statuses": ["fail", "warn"]}, "high", "warn", 1),
    ],
)
async def test_what_becomes_an_alert(tmp_path, peer, settings, severity, state, count):
    async with running(tmp_path, peer, **settings) as sink:
        assert await sink.write([evaluation(severity=severity, state=state)]) == [DELIVERED]
    assert len(alerts(peer)) == count


async def test_repetitions_are_counted_without_a_post_and_told_with_the_next(tmp_path, peer):
    async with running(tmp_path, peer, repeat_seconds=0.3, quiet_seconds=30) as sink:
        for number in range(50):
            assert await sink.write([evaluation(number)]) == [DELIVERED]
        assert len(peer.requests) == 1
        await until(lambda: len(peer.requests) >= 2)
    first, second = alerts(peer)[:2]
    assert (first["annotations"]["count"], second["annotations"]["count"]) == ("1", "50")
    assert first["labels"] == second["labels"]
    assert first["startsAt"] == second["startsAt"]


async def test_many_of_one_batch_are_one_post(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        assert await sink.write([*pods(100), *pods(100)]) == [DELIVERED] * 200
    assert [len(request.json) for request in peer.requests] == [100]
    assert {alert["annotations"]["count"] for alert in alerts(peer)} == {"2"}


async def test_a_quiet_alert_is_resolved_once_and_begins_anew(tmp_path, peer):
    async with running(tmp_path, peer, repeat_seconds=60, quiet_seconds=0.4) as sink:
        await sink.write([evaluation(1)])
        await until(lambda: not sink.alerts)
        ended = alerts(peer)[-1]
        await asyncio.sleep(0.3)
        assert len(peer.requests) == 2
        await sink.write([evaluation(2)])
        again = alerts(peer)[-1]
    assert ended["startsAt"] == alerts(peer)[0]["startsAt"]
    assert ended["endsAt"] < again["startsAt"]
    assert again["annotations"]["count"] == "1"


async def test_an_alert_that_goes_on_is_extended_before_it_ends(tmp_path, peer):
    async with running(tmp_path, peer, repeat_seconds=60, quiet_seconds=0.6) as sink:
        for number in range(12):
            await sink.write([evaluation(number)])
            await asyncio.sleep(0.1)
        assert len(sink.alerts) == 1
        posted = alerts(peer)
    assert len({alert["startsAt"] for alert in posted}) == 1
    assert len(posted) >= 2
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 1))
    assert posted[-1]["endsAt"] > now


async def test_the_last_count_is_told_at_the_end_and_the_alert_stays_to_expire(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        await sink.write([evaluation(1)])
        await sink.write([evaluation(2)])
    assert alerts(peer)[-1]["annotations"]["count"] == "2"
    assert alerts(peer)[-1]["endsAt"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 200))


async def test_too_many_alerts_fold_by_rule_and_are_counted(tmp_path, peer):
    with capture_logs() as logs:
        async with running(tmp_path, peer, limit=10) as sink:
            assert await sink.write(pods(50)) == [DELIVERED] * 50
            assert await sink.write(pods(50)) == [DELIVERED] * 50
            assert (len(sink.alerts), len(sink.folded), sink.sightings_folded) == (10, 1, 80)
    folded = [alert for alert in alerts(peer) if "folded" in alert["labels"]]
    assert folded[0]["labels"].keys() == {"alertname", "policy", "rule", "severity", "category", "node", "folded"}
    assert folded[-1]["annotations"]["count"] == "80"
    assert len([entry for entry in logs if "limit" in entry]) == 1


async def test_rules_without_number_fold_by_severity(tmp_path, peer):
    async with running(tmp_path, peer, limit=5) as sink:
        await sink.write([evaluation(number, rule=f"r{number}") for number in range(5000)])
        assert len(sink.alerts) + len(sink.folded) <= 15
        assert sum(alert.count for alert in (*sink.alerts.values(), *sink.folded.values())) == 5000


@pytest.mark.parametrize("hostile", [status(500), status(503), status(429), status(408), reset, silent, garbage, dripping_headers, many_headers])  # fmt: skip
async def test_a_receiver_that_cannot_take_it_is_tried_again(tmp_path, peer, hostile):
    peer.answers = [hostile]
    async with running(tmp_path, peer, timeout_seconds=0.5) as sink:
        started = time.monotonic()
        with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1"):
            await sink.write([evaluation()])
        assert time.monotonic() - started < 2
        assert not sink.alerts
        assert await sink.write([evaluation()]) == [DELIVERED]
        assert await sink.write([evaluation()]) == [DELIVERED]
    assert alerts(peer)[1]["annotations"]["count"] == "1"


@pytest.mark.parametrize("hostile", [huge, dripping_body, status(200, b"x" * 10_000_000)])
async def test_an_answer_that_says_yes_and_goes_on_is_taken_and_left(tmp_path, peer, hostile):
    peer.answers = [hostile]
    async with running(tmp_path, peer, timeout_seconds=0.5) as sink:
        started = time.monotonic()
        assert await sink.write([evaluation()]) == [DELIVERED]
        assert time.monotonic() - started < 2
    assert getattr(peer, "written", 0) < 50_000_000


async def test_no_thread_is_left_with_a_slow_receiver(tmp_path, peer):
    peer.usual = dripping_headers
    before = threading.active_count()
    async with running(tmp_path, peer, timeout_seconds=0.2) as sink:
        for _ in range(5):
            with pytest.raises(SinkUnavailable, match="no answer within"):
                await sink.write([evaluation()])
    asking = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert not asking
    assert threading.active_count() - before < 12


async def test_nobody_there(tmp_path, peer):
    peer.stop()
    async with running(tmp_path, peer) as sink:
        with pytest.raises(SinkUnavailable, match="Connection refused"):
            await sink.write([evaluation()])
        peer.start()
        assert await sink.write([evaluation()]) == [DELIVERED]


async def test_a_receiver_that_asks_for_time_gets_it(tmp_path, peer):
    peer.answers = [status(429, Retry_After="1")]
    async with running(tmp_path, peer) as sink:
        for _ in range(5):
            with pytest.raises(SinkUnavailable):
                await sink.write([evaluation()])
        assert len(peer.requests) == 1
        await asyncio.sleep(1.1)
        assert await sink.write([evaluation()]) == [DELIVERED]


async def test_a_refusal_is_rejected_said_once_and_not_hammered(tmp_path, peer):
    peer.usual = status(401, b"who are you?\x1b[31m")
    with capture_logs() as logs:
        async with running(tmp_path, peer, repeat_seconds=0.5) as sink:
            for number in range(10):
                assert await sink.write([evaluation(number)]) == [REJECTED]
            assert len(peer.requests) == 1
            peer.usual = status(200)
            await asyncio.sleep(0.6)
            assert await sink.write([evaluation(11)]) == [DELIVERED]
    (refused,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (refused["status"], refused["answer"]) == (401, "who are you? [31m")
    assert "token_file" in refused["remedy"]
    assert [entry["event"] for entry in logs][-1] == "A receiver takes what it is sent again."


async def test_one_bad_alert_does_not_take_the_others_along(tmp_path, peer):
    def picky(handler):
        is_bad = any(alert["labels"]["pod"] == "p3" for alert in peer.requests[-1].json)
        status(400 if is_bad else 200)(handler)

    peer.usual = picky
    async with running(tmp_path, peer) as sink:
        outcomes = await sink.write(pods(10))
    assert outcomes == [REJECTED if number == 3 else DELIVERED for number in range(10)]


async def test_what_was_not_reached_of_a_batch_is_tried_alone(tmp_path, peer):
    peer.answers = [status(200), status(503)]
    async with running(tmp_path, peer) as sink:
        outcomes = await sink.write(pods(250))
        assert outcomes == [DELIVERED] * 100 + [ERRORED] * 150
        assert len(sink.alerts) == 100


async def test_what_was_told_in_part_and_is_tried_again_is_counted_once(tmp_path, peer):
    """The last of 100 alerts in the first post, and the first of the second, are of one evaluation."""
    others = [evaluation(number, rule=f"r{number}") for number in range(99)]
    results = (*evaluation(rule="a").results, *evaluation(rule="z").results)
    both = msgspec.structs.replace(evaluation(100), results=results)
    peer.answers = [status(200), status(503)]
    async with running(tmp_path, peer) as sink:
        assert await sink.write([*others, both]) == [DELIVERED] * 99 + [ERRORED]
        assert len(sink.alerts) == 100
        assert await sink.write([both]) == [DELIVERED]
        assert {alert.count for alert in sink.alerts.values()} == {1}
        assert len(sink.alerts) == 101


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([200, 400, 503])), max_size=30))
def test_every_violation_that_was_delivered_is_counted_once(tmp_path_factory, steps):
    async def run():
        with receiver() as peer:
            async with running(tmp_path_factory.getbasetemp(), peer, limit=3, repeat_seconds=3600) as sink:
                delivered = 0
                for number, (place, code) in enumerate(steps):
                    peer.usual = status(code)
                    with contextlib.suppress(SinkUnavailable):
                        one = evaluation(number, resource=Resource(namespace="llm", pod=f"p{place}"))
                        delivered += await sink.write([one]) == [DELIVERED]
                known = [*sink.alerts.values(), *sink.folded.values()]
                assert sum(alert.count for alert in known if not alert.refused_until) == delivered
                assert len(sink.alerts) <= 3
                assert len(sink.folded) <= 1
                peer.usual = status(200)

    asyncio.run(run())


async def test_every_address_gets_it_and_one_is_enough(tmp_path, peer):
    with receiver() as other:
        async with running(tmp_path, peer, other, repeat_seconds=0.3) as sink:
            await sink.write([evaluation(1)])
            assert (len(alerts(peer)), len(alerts(other))) == (1, 1)
            other.stop()
            assert await sink.write([evaluation(2, rule="q")]) == [DELIVERED]
            other.start()
            await until(lambda: {alert["labels"]["rule"] for alert in alerts(other)} == {"q", "r"})


async def test_a_slow_address_does_not_slow_each_post(tmp_path, peer):
    with receiver() as slow:
        slow.usual = silent
        async with running(tmp_path, peer, slow, timeout_seconds=0.5) as sink:
            await sink.write([evaluation(rule="r0")])
            started = time.monotonic()
            for number in range(1, 6):
                assert await sink.write([evaluation(rule=f"r{number}")]) == [DELIVERED]
            assert time.monotonic() - started < 1.5


async def test_an_alertmanager_that_forgot_learns_again(tmp_path, peer):
    async with running(tmp_path, peer, repeat_seconds=0.2) as sink:
        await sink.write([evaluation()])
        peer.requests.clear()
        await until(lambda: alerts(peer))


async def test_concurrent_writes_post_an_alert_once(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        assert await asyncio.gather(*(sink.write([evaluation(number)]) for number in range(30))) == [[DELIVERED]] * 30
        assert len(peer.requests) == 1
        assert next(iter(sink.alerts.values())).count == 30


async def test_no_value_and_no_credential_goes_where_it_must_not(tmp_path, peer):
    (tmp_path / "token").write_text("s3cr3t-token\n")
    peer.usual = status(403, b"Bearer s3cr3t-token is unknown here")
    with capture_logs() as logs:
        async with running(tmp_path, peer, token_file=tmp_path / "token") as sink:
            masked = evaluation(message="log of llm/vllm-0 holds [EMAIL_ADDRESS]")
            await sink.write([masked])
    assert peer.requests[0].headers["Authorization"] == "Bearer s3cr3t-token"
    assert "s3cr3t" not in json.dumps(logs, default=str)
    assert SECRET.encode() not in peer.raw
    assert b"[EMAIL_ADDRESS]" in peer.raw


async def test_texts_that_are_no_unicode_or_steer_a_terminal_are_plain(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        odd = Resource(node="n", namespace="a\ud800b", pod="p\x1b[2J" + "x" * 400)
        assert await sink.write([evaluation(resource=odd, message="one\ntwo\u202e" + "y" * 5000)]) == [DELIVERED]
    (alert,) = alerts(peer)
    assert alert["labels"]["namespace"] == "a b"
    assert len(alert["labels"]["pod"]) == 256
    assert len(alert["annotations"]["description"]) == 1024
    assert alert["annotations"]["description"].startswith("one two ")


def context_of(authority, name="localhost", client=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name, file=f"server-{name}"))
    if client is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client.file)
    return context


async def test_tls_with_an_authority_of_ones_own_and_a_client_certificate(tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("agent")
    with receiver(context_of(authority, client=authority)) as peer:
        settings = {"ca_file": authority.file, "certificate_file": certificate, "key_file": key}
        async with running(tmp_path, peer, **settings) as sink:
            assert await sink.write([evaluation()]) == [DELIVERED]
        async with running(tmp_path, peer, ca_file=authority.file) as sink:
            with pytest.raises(SinkUnavailable, match="localhost"):
                await sink.write([evaluation()])


@pytest.mark.parametrize("what", ["unknown authority", "other name", "expired"])
async def test_a_certificate_that_does_not_fit_is_not_trusted(tmp_path, what):
    authority = Authority(tmp_path / "ca")
    context = context_of(authority, "elsewhere" if what == "other name" else "localhost")
    if what == "expired":
        context.load_cert_chain(*authority.issue("localhost", days=-1))
    trusted = Authority(tmp_path / "other") if what == "unknown authority" else authority
    with receiver(context) as peer:
        async with running(tmp_path, peer, ca_file=trusted.file) as sink:
            with pytest.raises(SinkUnavailable, match="its certificate is not trusted"):
                await sink.write([evaluation()])
    assert not peer.requests


async def test_certificates_and_tokens_are_read_again_when_they_change(tmp_path):
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    (tmp_path / "ca.crt").write_bytes(old.file.read_bytes())
    (tmp_path / "auth").write_text("user:one")
    with receiver(context_of(new)) as peer:
        async with running(tmp_path, peer, ca_file=tmp_path / "ca.crt", basic_auth_file=tmp_path / "auth") as sink:
            with pytest.raises(SinkUnavailable, match="not trusted"):
                await sink.write([evaluation()])
            (tmp_path / "ca.crt").write_text("in the middle of being written")
            with pytest.raises(SinkUnavailable, match="not trusted"):
                await sink.write([evaluation()])
            (tmp_path / "ca.crt").write_bytes(new.file.read_bytes())
            assert await sink.write([evaluation()]) == [DELIVERED]
            (tmp_path / "auth").write_text("user:two")
            assert await sink.write([evaluation(rule="q")]) == [DELIVERED]
            (tmp_path / "auth").unlink()
            with pytest.raises(SinkUnavailable, match="auth: cannot be read"):
                await sink.write([evaluation(rule="p")])
            (tmp_path / "auth").write_text("user:two")
    assert [request.headers["Authorization"] for request in peer.requests][:2] == ["Basic dXNlcjpvbmU=", "Basic dXNlcjp0d28="]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"token_file": "none"}, "none: cannot be read: No such file"),
        ({"token_file": "empty"}, "is empty"),
        ({"token_file": "lines"}, "no header may hold"),
        ({"basic_auth_file": "plain"}, "no user:password"),
        ({"ca_file": "plain"}, "cannot be used for TLS"),
        ({"ca_file": "none"}, "none: cannot be used for TLS: No such file"),
        ({"certificate_file": "plain", "key_file": "plain"}, "cannot be used for TLS"),
        ({"header_files": {"X-Key": "lines"}}, "no header may hold"),
    ],
)
async def test_files_that_cannot_work_stop_the_start_without_their_content(tmp_path, peer, settings, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("empty", " \n"), ("lines", "hush\nhush"), ("plain", "hush")):
        (tmp_path / name).write_text(content)
    with pytest.raises(OSError, match=said) as error:
        async with running(tmp_path, peer, **settings):
            pass
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"urls": []}, "at least 1 item"),
        ({"urls": ["http://alertmanager:9093"]}, "alertmanager would be reached without TLS; use https, or set allow_plaintext: true"),
        ({"urls": ["ftp://x"]}, "no http or https URL"),
        ({"urls": ["https://"]}, "no http or https URL"),
        ({"urls": ["https://x:99999"]}, "is no URL"),
        ({"urls": ["https://user:pass@x"]}, "holds a user or a password"),
        ({"urls": ["https://x/a b"]}, "a space or a control character"),
        ({"urls": ["https://x/api/v2/alerts"]}, "without /api/v2/alerts"),
        ({"urls": ["https://x", "https://x/"]}, "stands twice"),
        ({"extra_labels": {"pod": "x"}}, "the label pod is the agent's own"),
        ({"extra_labels": {"a-b": "x"}}, "is no name of a label"),
        ({"extra_labels": {"a": ""}}, "empty"),
        ({"extra_annotations": {"count": "1"}}, "the agent's own"),
        ({"headers": {"Host": "x"}}, "the agent's own"),
        ({"headers": {"X": "a\r\nb"}}, "what no header may hold"),
        ({"headers": {"X y": "a"}}, "no name of a header"),
        ({"headers": {"X": "a"}, "header_files": {"x": "f"}}, "stands twice"),
        ({"token_file": "a", "basic_auth_file": "b"}, "keep one"),
        ({"token_file": "a", "headers": {"authorization": "b"}}, "keep one"),
        ({"key_file": "a"}, "without certificate_file"),
        ({"statuses": []}, "at least 1 item"),
        ({"generator_url": "grafana/d/reeve"}, "no http or https URL"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(settings, said):
    with pytest.raises(pydantic.ValidationError, match=said):
        AlertmanagerConfig(**{"urls": ["https://x"], **settings})


@pytest.mark.parametrize("url", ["http://127.0.0.1:9093", "http://[::1]:1/x/", "http://localhost", "http://127.8.9.1"])
def test_loopback_needs_no_tls(url):
    assert checked_url(url, allow_plaintext=False) == url.rstrip("/")
    assert checked_url("http://am.monitoring:9093/am/", allow_plaintext=True) == "http://am.monitoring:9093/am"


async def test_a_redirect_is_not_followed(peer):
    peer.usual = status(307, Location="http://169.254.169.254/latest?token=hush")
    endpoint = Endpoint(f"{peer.url}/hook?key=hush", HttpConfig(), "webhook")
    with capture_logs() as logs:
        reply = await endpoint.send(b"x", {})
    assert (reply.kind, len(peer.requests)) == ("refused", 1)
    assert "http://169.254.169.254" in logs[0]["remedy"]
    assert "hush" not in json.dumps(logs) + reply.why
    endpoint.close()


async def test_a_connection_is_used_again_and_its_loss_is_no_harm(tmp_path):
    peer = Receiver()
    endpoint = Endpoint(peer.url, HttpConfig(timeout_seconds=2), "webhook")
    for _ in range(5):
        assert (await endpoint.send(b"x", {})).kind == "taken"
    peer.answers = [dripping_headers]
    assert (await endpoint.send(b"x", {})).kind == "later"
    assert (await endpoint.send(b"x", {})).kind == "taken"
    endpoint.close()
    peer.stop()


def test_a_deadline_that_is_over_ends_what_begins_after_it():
    import socket

    ours, theirs = socket.socketpair()
    with Deadline(0.01) as deadline:
        time.sleep(0.1)
        deadline.watch(ours)
        assert ours.recv(1) == b""
    ours.close()
    theirs.close()


def test_retry_after_may_be_a_date_and_has_an_end():
    from email.utils import formatdate

    assert 25 < _seconds(formatdate(time.time() + 30, usegmt=True)) <= 30
    assert [_seconds(text) for text in ("7", "9999999999999", "-3", "soon", None, "")] == [7, 120, 0, 0, 0, 0]


@given(st.text(max_size=400), st.integers(4, 80))
def test_a_line_is_printable_and_bounded_and_stays_as_it_is(text, limit):
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert one_line(line, limit) == line


@given(st.text(max_size=100) | st.from_regex(r"https?://[^ ]{0,40}", fullmatch=True), st.booleans())
def test_every_text_is_a_url_or_refused(text, is_allowed):
    with contextlib.suppress(ValueError):
        assert checked_url(text, allow_plaintext=is_allowed).lower().startswith("http")


@given(st.text(max_size=80))
def test_every_retry_after_is_within_bounds(text):
    assert 0 <= _seconds(text) <= 120


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_labels_are_what_alertmanager_takes(namespace, pod, rule):
    one = evaluation(rule=rule, resource=Resource(namespace=namespace, pod=pod))
    seen = sighting(one, one.results[0], one.event.resource, 5)
    for labels in (dict(labels_of(seen, "A", "n1", {})), dict(folded_labels_of(seen, "A", "n1", {}, by_rule=False))):
        assert labels["alertname"] == "A"
        assert all(0 < len(value) <= 256 and value.isprintable() for value in labels.values())


def test_what_is_chosen_and_how_it_reads():
    assert ChoiceConfig().chosen(evaluation(severity="low")) == []
    assert one_line("a\n\tb\x00c" + "d" * 100, 10) == "a b cdd..."
    assert listed({"A": 1, "B": 3}) == "B x3, A"


def test_an_alert_knows_its_life():
    seen = sighting(evaluation(), evaluation().results[0], POD, 5)
    alert = Alert(labels_of(seen, "A", "n1", {}), 1000.0, 10.0)
    alert.add(seen, 10.0)
    alert.posted(10.0, 300)
    assert [alert.is_due(at, 60, 300) for at in (10, 69, 70)] == [False, False, True]
    assert [alert.is_over(at, 300) for at in (309, 310)] == [False, True]
    alert.add(seen, 200.0)
    assert [alert.is_due(at, 1000, 300) for at in (299, 300)] == [False, True]
    assert dict(alert.key)["alertname"] == "A"


async def test_a_violation_after_an_end_that_could_not_be_told_is_a_new_alert(tmp_path, peer):
    async with running(tmp_path, peer, repeat_seconds=60, quiet_seconds=1) as sink:
        await sink.write([evaluation(1)])
        peer.usual = status(503)
        await asyncio.sleep(1.4)
        assert sink.alerts, "it is kept until its end is told, for as long again"
        peer.usual = status(200)
        assert await sink.write([evaluation(2)]) == [DELIVERED]
        first, last = alerts(peer)[0], alerts(peer)[-1]
    assert last["startsAt"] > first["endsAt"]
    assert last["annotations"]["count"] == "1"

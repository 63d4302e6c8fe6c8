"""agent.sinks.webhook: .config, .message, .sink."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import time
from pathlib import Path

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening import dripping_headers, garbage, huge, receiver, reset, silent, status
from structlog.testing import capture_logs

from agent.model import Evaluation, Event, Finding, LogRecord, Outcome, PolicyResult, Resource
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.webhook import SPEC
from agent.sinks.webhook.config import WebhookConfig
from agent.sinks.webhook.message import Item, keys_of, pack_id, packed, signature

SECRET = "4111 1111 1111 1111"
POD = Resource(
    node="n 1", namespace="llm", pod="vllm-0", pod_uid="u", container="app", image="i", labels={"note": SECRET}
)
FOUND = Finding(
    kind="pii", entity="CREDIT_CARD", detector="pii", score=0.9, field="log.text", start=4, end=23, fingerprint="f1"
)
DELIVERED, REJECTED, ERRORED = Outcome.DELIVERED, Outcome.REJECTED, Outcome.ERRORED


def evaluation(
    number=0, *, rules=("r",), severity="high", state="fail", findings=(FOUND,), message="holds [CREDIT_CARD]"
):
    event = Event(
        id=f"{number:032x}",
        source="cri",
        body=LogRecord(text=SECRET),  # a sink looks at no body, masked or not
        resource=POD,
        time_unix_nano=1_700_000_000_000_000_000,
    )
    results = [
        PolicyResult(policy="pii", rule=rule, status=state, severity=severity, message=message, controls=("PCI 3.4",))
        for rule in rules
    ]
    return Evaluation(event=event, results=tuple(results), findings=tuple(findings), policy_digest="d")


@pytest.fixture
def peer():
    with receiver() as made:
        yield made


@contextlib.asynccontextmanager
async def running(tmp_path, peer, *, path="/hook", **settings):
    config = WebhookConfig(url=peer.url + path, **settings)
    sink = SPEC.build(config, "webhook", Surroundings(node="n1", state_dir=tmp_path, rules=()))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def test_a_violation_is_a_cloud_event(tmp_path, peer):
    async with running(tmp_path, peer, mode="structured") as sink:
        assert await sink.write([evaluation()]) == [DELIVERED]
    (request,) = peer.requests
    assert request.path == "/hook"
    assert request.headers["Content-Type"] == "application/cloudevents+json; charset=UTF-8"
    event = request.json
    assert re.fullmatch("[0-9a-f]{32}", event.pop("id"))
    assert event == {
        "specversion": "1.0", "source": "/nodes/n%201", "type": "dev.reeve.violation", "subject": "llm/vllm-0",
        "time": "2023-11-14T22:13:20.000000Z", "datacontenttype": "application/json",
        "severity": "high", "policy": "pii", "rule": "r",
        "data": {
            "result": {
                "policy": "pii", "rule": "r", "status": "fail", "severity": "high", "message": "holds [CREDIT_CARD]",
                "category": "", "controls": ["PCI 3.4"],
            },
            "findings": [{
                "kind": "pii", "entity": "CREDIT_CARD", "detector": "pii", "score": 0.9, "field": "log.text",
                "start": 4, "end": 23, "length": 0, "direction": "other", "fingerprint": "f1",
            }],
            "resource": {"node": "n 1", "namespace": "llm", "pod": "vllm-0", "pod_uid": "u", "container": "app", "image": "i"},
            "event": {"id": "0" * 32, "source": "cri", "class": "log"},
            "policy_digest": "d", "window_complete": True,
        },
    }  # fmt: skip


async def test_attributes_keep_to_the_specification(tmp_path, peer):
    """CloudEvents 1.0.2: names are lower-case letters and digits, at most 20; id, source, specversion and type are there."""
    bare = Evaluation(
        event=Event(id="1", source="s", body=LogRecord(text="")), results=evaluation().results, unscanned=("too_long",)
    )
    async with running(tmp_path, peer) as sink:
        await sink.write([bare])
    (event,) = peer.requests[0].json
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)
    assert {"id", "source", "specversion", "type"} <= event.keys()
    assert not {"subject", "time"} & event.keys()
    assert all(isinstance(value, str) and value for name, value in event.items() if name != "data")
    assert event["source"] == "/nodes/n1"
    assert event["data"]["unscanned"] == ["too_long"]


async def test_many_are_a_batch_and_their_ids_are_stable(tmp_path, peer):
    async with running(tmp_path, peer, batch_events=4) as sink:
        await sink.write([evaluation(number, rules=("a", "b")) for number in range(5)])
        await sink.write([evaluation(number, rules=("a", "b")) for number in range(5)])
    assert peer.requests[0].headers["Content-Type"] == "application/cloudevents-batch+json; charset=UTF-8"
    assert [len(request.json) for request in peer.requests] == [4, 4, 2, 4, 4, 2]
    ids = [event["id"] for request in peer.requests for event in request.json]
    assert len(set(ids)) == 10
    assert ids[:10] == ids[10:]
    names = [request.headers["webhook-id"] for request in peer.requests]
    assert names[:3] == names[3:]
    assert len(set(names)) == 3


async def test_ocsf_is_a_list_of_findings_with_the_same_ids(tmp_path, peer):
    async with running(tmp_path, peer, format="ocsf", minimum_severity="high") as sink:
        mixed = msgspec.structs.replace(
            evaluation(), results=(*evaluation().results, *evaluation(rules=("low",), severity="low").results)
        )
        assert await sink.write([mixed]) == [DELIVERED]
    async with running(tmp_path, peer) as sink:
        await sink.write([evaluation()])
    findings, events = (request.json for request in peer.requests)
    assert peer.requests[0].headers["Content-Type"] == "application/json"
    assert [finding["class_uid"] for finding in findings] == [2006]
    assert findings[0]["finding_info"]["uid"] == events[0]["id"]


@pytest.mark.parametrize(
    ("settings", "severity", "state", "kind"),
    [
        ({}, "high", "fail", "dev.reeve.violation"),
        ({}, "low", "fail", None),
        ({}, "high", "warn", None),
        ({"statuses": ["warn"]}, "high", "warn", "dev.reeve.result"),
        ({"minimum_severity": "info"}, "info", "fail", "dev.reeve.violation"),
    ],
)
async def test_what_is_sent(tmp_path, peer, settings, severity, state, kind):
    async with running(tmp_path, peer, **settings) as sink:
        assert await sink.write([evaluation(severity=severity, state=state)]) == [DELIVERED]
    assert [event["type"] for request in peer.requests for event in request.json] == ([kind] if kind else [])


def test_the_signature_is_the_one_of_the_specification():
    """The example of Standard Webhooks' own libraries."""
    keys = keys_of(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_requests_are_signed_with_each_key_of_the_file_as_it_is_now(tmp_path, peer):
    old, new = b"o" * 32, b"n" * 24
    file = tmp_path / "keys"
    file.write_bytes(old + b"\n")
    async with running(tmp_path, peer, hmac_key_file=file) as sink:
        await sink.write([evaluation(1)])
        file.write_bytes(b"whsec_" + base64.b64encode(new) + b"\n\n" + old + b"\n")
        await sink.write([evaluation(2)])
        file.unlink()
        with pytest.raises(SinkUnavailable, match="keys: cannot be read"):
            await sink.write([evaluation(3)])
    for request, keys in zip(peer.requests, ([old], [new, old]), strict=True):
        stamp = request.headers["webhook-timestamp"]
        assert abs(int(stamp) - time.time()) < 5
        content = f"{request.headers['webhook-id']}.{stamp}.".encode() + request.body
        wanted = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
        assert request.headers["webhook-signature"] == " ".join(f"v1,{one}" for one in wanted)


async def test_without_a_key_there_is_no_signature(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        await sink.write([evaluation()])
    assert "webhook-signature" not in peer.requests[0].headers
    assert "webhook-id" in peer.requests[0].headers


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"short", "the key on line 1 has 5 bytes, at least 24 are needed"),
        (b"k" * 32 + b"\nwhsec_no*base64", "line 2 begins with whsec_"),
        (b"\n", "is empty"),
    ],
)
async def test_keys_that_cannot_work_stop_the_start(tmp_path, peer, content, said):
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(OSError, match=said) as error:
        async with running(tmp_path, peer, hmac_key_file=tmp_path / "keys"):
            pass
    assert "no*base64" not in str(error.value)
    assert "kkkk" not in str(error.value)


@pytest.mark.parametrize("hostile", [status(500), status(502), status(408), status(425), status(429), reset, silent, garbage, dripping_headers])  # fmt: skip
async def test_what_may_be_tried_again_is_unavailable(tmp_path, peer, hostile):
    peer.answers = [hostile]
    async with running(tmp_path, peer, timeout_seconds=0.5) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.write([evaluation()])
        assert await sink.write([evaluation()]) == [DELIVERED]
    first, second = peer.requests
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


async def test_retry_after_is_honoured(tmp_path, peer):
    peer.answers = [status(503, Retry_After="1")]
    async with running(tmp_path, peer) as sink:
        for _ in range(10):
            with pytest.raises(SinkUnavailable):
                await sink.write([evaluation()])
        assert len(peer.requests) == 1
        await asyncio.sleep(1.1)
        assert await sink.write([evaluation()]) == [DELIVERED]


@pytest.mark.parametrize("code", [301, 307, 400, 401, 403, 404, 410, 413, 422])
async def test_other_refusals_are_for_ever_and_said_once(tmp_path, peer, code):
    peer.usual = status(code, Location=peer.url + "/elsewhere")
    with capture_logs() as logs:
        async with running(tmp_path, peer, path="/hush/hook") as sink:
            for number in range(5):
                assert await sink.write([evaluation(number)]) == [REJECTED]
    assert len(peer.requests) == 5
    (said,) = logs
    assert (said["status"], said["log_level"]) == (code, "error")
    assert "hush" not in json.dumps(said)


async def test_an_endless_answer_to_a_delivery_is_a_delivery(tmp_path, peer):
    peer.usual = huge
    async with running(tmp_path, peer, timeout_seconds=1) as sink:
        started = time.monotonic()
        assert await sink.write([evaluation()]) == [DELIVERED]
        assert time.monotonic() - started < 2


async def test_what_was_sent_before_a_failure_is_not_sent_again(tmp_path, peer):
    peer.answers = [status(200), status(400), status(503)]
    async with running(tmp_path, peer, batch_events=2) as sink:
        batch = [evaluation(number) for number in range(8)]
        outcomes = await sink.write(batch)
        assert outcomes == [DELIVERED] * 2 + [REJECTED] * 2 + [ERRORED] * 4
        assert len(peer.requests) == 3
        assert await sink.write(batch[4:]) == [DELIVERED] * 4
    assert peer.requests[2].headers["webhook-id"] == peer.requests[3].headers["webhook-id"]


async def test_evaluations_with_nothing_to_tell_are_delivered_without_a_request(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        assert await sink.write([evaluation(severity="low")] * 3) == [DELIVERED] * 3
    assert peer.requests == []


async def test_a_receiver_that_wants_less_gets_less(tmp_path, peer):
    def small(handler):
        status(413 if len(peer.requests[-1].body) > 3000 else 200)(handler)

    peer.usual = small
    async with running(tmp_path, peer) as sink:
        assert await sink.write([evaluation(number) for number in range(16)]) == [DELIVERED] * 16
    taken = [request for request in peer.requests if len(request.body) <= 3000]
    assert sum(len(request.json) for request in taken) == 16


@pytest.mark.parametrize(("form", "part"), [("cloudevents", "findings"), ("ocsf", "evidences")])
async def test_bodies_stay_within_their_bytes_and_say_what_they_left_out(tmp_path, peer, form, part):
    many = [msgspec.structs.replace(FOUND, start=number, fingerprint="f" * 64) for number in range(5000)]
    async with running(tmp_path, peer, format=form, batch_bytes=8192) as sink:
        outcomes = await sink.write([evaluation(number, findings=many) for number in range(6)])
    assert outcomes == [DELIVERED] * 6
    assert max(len(request.body) for request in peer.requests) <= 8192
    (document, *_) = peer.requests[0].json
    holder, omitted = (
        (document["data"], document["data"]) if form == "cloudevents" else (document, document["unmapped"])
    )
    assert len(holder[part]) + omitted[f"{part}_omitted"] == 5000


async def test_what_fits_no_request_is_rejected(tmp_path, peer):
    with capture_logs() as logs:
        async with running(tmp_path, peer, batch_bytes=8192) as sink:
            monster = evaluation(rules=("r" * 20_000,))
            assert await sink.write([evaluation(1), monster]) == [DELIVERED, REJECTED]
    assert [entry["event"] for entry in logs] == ["A violation is larger than batch_bytes and is not sent."]


def test_packs_keep_order_and_bounds():
    items = [Item(number, str(number), b"x" * 10) for number in range(7)]
    assert [[item.index for item in pack] for pack in packed(items, 3, 1000)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [len(pack) for pack in packed(items, 100, 24)] == [2, 2, 2, 1]
    assert list(packed([], 3, 100)) == []
    assert pack_id(items[:1]) == "0"
    assert pack_id(items) != pack_id(items[:2])


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 9), st.integers(64, 300))
def test_packs_hold_everything_once_in_order_and_within_bounds(sizes, most, limit):
    items = [Item(number, str(number), b"x" * size) for number, size in enumerate(sizes)]
    packs = list(packed(items, most, limit))
    assert [item for pack in packs for item in pack] == items
    for pack in packs:
        assert 1 <= len(pack) <= most
        assert len(b"[" + b",".join(item.content for item in pack) + b"]") <= limit


@given(st.binary(max_size=200))
def test_keys_of_any_file_are_long_enough_or_refused(content):
    with contextlib.suppress(ValueError):
        assert all(len(key) >= 24 for key in keys_of(content))


@given(st.lists(st.binary(min_size=24, max_size=70), min_size=1, max_size=3), st.binary(max_size=500))
def test_every_key_of_a_file_verifies_the_signature(keys, body):
    file = b"\n".join(b"whsec_" + base64.b64encode(key) for key in keys)
    given_ones = signature(keys_of(file), "id", 7, body).split(" ")
    for key, one in zip(keys, given_ones, strict=True):
        assert one == "v1," + base64.b64encode(hmac.digest(key, b"id.7." + body, hashlib.sha256)).decode()


@given(st.lists(st.sampled_from([200, 400, 503]), max_size=8), st.integers(1, 5))
def test_each_evaluation_ends_as_its_request_ended(codes, batch_events):
    async def run():
        with receiver() as peer:
            peer.answers = [status(code) for code in codes]
            config = WebhookConfig(url=peer.url, batch_events=batch_events)
            sink = SPEC.build(config, "webhook", Surroundings(node="n1", state_dir=Path(), rules=()))
            await sink.open()
            batch = [evaluation(number) for number in range(12)]
            waiting = list(batch)
            while waiting:
                try:
                    outcomes = await sink.write(waiting)
                except SinkUnavailable:
                    continue
                waiting = [one for one, end in zip(waiting, outcomes, strict=True) if end is ERRORED]
            await sink.close()
            taken = [
                event["data"]["event"]["id"]
                for request, code in zip(peer.requests, [*codes, *[200] * len(peer.requests)], strict=False)
                for event in request.json
                if code != 503
            ]
        assert taken == [one.event.id for one in batch]

    asyncio.run(run())


async def test_a_receiver_that_takes_and_refuses_by_turns_is_told_of_once(tmp_path, peer):
    peer.answers = [status(code) for code in (422, 200, 422, 200, 500, 200, 422, 200, 500)]
    with capture_logs() as logs:
        async with running(tmp_path, peer) as sink:
            for number in range(9):
                with contextlib.suppress(SinkUnavailable):
                    await sink.write([evaluation(number)])
    assert [entry["log_level"] for entry in logs] == ["error", "info", "warning", "info"]


async def test_an_evaluation_ends_as_the_worst_of_its_results(tmp_path, peer):
    peer.answers = [status(400), status(200), status(200), status(503)]
    async with running(tmp_path, peer, batch_events=1, batch_bytes=8192) as sink:
        assert await sink.write([evaluation(1, rules=("a", "b"))]) == [REJECTED]
        partly = evaluation(3, rules=("a", "b", "too large" * 2000))
        assert await sink.write([evaluation(2), partly]) == [DELIVERED, ERRORED]
        assert await sink.write([partly]) == [REJECTED]


async def test_no_value_leaves_and_headers_come_from_files(tmp_path, peer):
    (tmp_path / "key").write_text("hush-hush\n")
    with capture_logs() as logs:
        peer.answers = [status(400, b"bad key hush-hush")]
        async with running(
            tmp_path, peer, header_files={"X-Api-Key": tmp_path / "key"}, headers={"X-Tenant": "t"}
        ) as sink:
            await sink.write([evaluation()])
    assert peer.requests[0].headers["X-Api-Key"] == "hush-hush"
    assert peer.requests[0].headers["X-Tenant"] == "t"
    assert SECRET.encode() not in peer.raw
    assert "hush" not in json.dumps(logs)


async def test_texts_that_are_no_unicode_are_sent_as_json_all_the_same(tmp_path, peer):
    async with running(tmp_path, peer) as sink:
        assert await sink.write([evaluation(message="a\ud800b\n\x1b[31m", rules=("\ud800",))]) == [DELIVERED]
    (event,) = peer.requests[0].json
    assert event["data"]["result"]["message"] == "a b [31m"
    peer.requests[0].body.decode("utf-8")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "http://hooks.example.com/x"}, "would be reached without TLS"),
        ({"url": "hooks.example.com"}, "no http or https URL"),
        ({"format": "ocsf", "statuses": ["warn"]}, "OCSF findings are violations"),
        ({"headers": {"webhook-signature": "v1,x"}}, "the agent's own"),
        ({"batch_bytes": 1}, "greater than or equal"),
        ({"format": "xml"}, "cloudevents"),
    ],
)
def test_settings_that_cannot_work(settings, said):
    with pytest.raises(pydantic.ValidationError, match=said):
        WebhookConfig(**{"url": "https://x", **settings})

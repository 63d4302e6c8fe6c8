"""agent.sources.hubble.decode: flows, losses and states; replies name the client first."""

import copy
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import DecodeError, DnsActivity, HttpActivity, LossReport, NetworkActivity, StatusReport
from agent.sources.hubble.decode import event_from_json

CLIENT = {"namespace": "apps", "pod_name": "bot-0", "labels": ["k8s:app=bot", "k8s:tag=a=b"], "identity": 4711}
WORLD = {"identity": 2, "labels": ["reserved:world"]}


def flow(**members):
    base = {
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "1.2.3.4"},
        "l4": {"TCP": {"source_port": 4711, "destination_port": 443}},
        "source": CLIENT,
        "destination": WORLD,
        "traffic_direction": "EGRESS",
        "is_reply": False,
    }
    return {**base, **members}


def decode(member, **envelope):
    line = json.dumps({**member, "node_name": "prod/node-1", "time": "2026-11-23T10:00:00Z", **envelope})
    return event_from_json(line.encode())


def test_a_flow_names_both_ends_and_whose_it_is():
    event = decode({"flow": flow(destination_names=["api.openai.com."])})
    body = event.body
    assert isinstance(body, NetworkActivity)
    assert (body.source.pod, body.source.port, body.destination.names) == ("bot-0", 4711, ("api.openai.com",))
    assert body.destination.is_world
    assert (event.resource.namespace, event.resource.pod, event.resource.node) == ("apps", "bot-0", "node-1")


def test_label_values_may_hold_an_equals_sign():
    assert decode({"flow": flow()}).body.source.labels == {"app": "bot", "tag": "a=b"}


def test_a_reply_is_turned_so_that_the_client_comes_first():
    reply = flow(
        source=WORLD,
        destination=CLIENT,
        IP={"source": "1.2.3.4", "destination": "10.0.0.1"},
        l4={"TCP": {"source_port": 443, "destination_port": 4711}},
        source_names=["api.openai.com"],
        is_reply=True,
    )
    body = decode({"flow": reply}).body
    assert (body.source.pod, body.destination.port, body.destination.names) == ("bot-0", 443, ("api.openai.com",))


def test_the_deprecated_reply_field_counts_where_the_new_one_is_missing():
    old = flow(source=WORLD, destination=CLIENT, reply=True)
    del old["is_reply"]
    assert decode({"flow": old}).body.source.pod == "bot-0"


def test_http_keeps_url_and_headers_as_sensitive():
    http = {
        "method": "POST",
        "url": "http://h:80/v1/chat?key=AIza",
        "headers": [{"key": "Authorization", "value": "Bearer x"}],
    }
    body = decode({"flow": flow(l7={"type": "REQUEST", "http": http})}).body
    assert isinstance(body, HttpActivity)
    assert (body.host, body.path.reveal(), body.headers["authorization"].reveal()) == ("h", "/v1/chat", "Bearer x")
    assert "AIza" not in repr(body)


def test_dns_answers_carry_addresses():
    dns = {"query": "api.openai.com.", "ips": ["1.2.3.4"], "ttl": 4294967295, "rcode": 3}
    answer = flow(source=WORLD, destination=CLIENT, is_reply=True, l7={"type": "RESPONSE", "dns": dns})
    body = decode({"flow": answer}).body
    assert isinstance(body, DnsActivity)
    assert (body.query.reveal(), body.addresses, body.is_response) == ("api.openai.com", ("1.2.3.4",), True)
    assert body.source.pod == "bot-0"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"drop_reason_desc": "POLICY_DENIED"}, "policy_denied"),
        ({"drop_reason_desc": 206}, "206"),
        ({"drop_reason": 133}, "133"),
        ({}, ""),
    ],
)
def test_drop_reasons_keep_unknown_numbers(members, reason):
    assert decode({"flow": flow(verdict="DROPPED", **members)}).body.drop_reason == reason


def test_losses_and_states():
    assert decode({"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "12"}}).body == LossReport(
        origin="hubble", reason="hubble_ring_buffer", count=12, is_lower_bound=True
    )
    status = decode({"node_status": {"state_change": "NODE_UNAVAILABLE", "node_names": ["n"]}}).body
    assert isinstance(status, StatusReport)
    assert status.state == "node_unavailable"
    assert decode({"agent_event": {"type": "POLICY_UPDATED"}}).body.component == "cilium"


def test_a_bare_flow_of_old_clients_is_read():
    assert isinstance(event_from_json(json.dumps(flow()).encode()).body, NetworkActivity)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"", "empty_line"),
        (b"x", "not_json"),
        (b"{}", "no_event"),
        (b'{"new": 1}', "unknown_member"),
        (b"3", "not_an_object"),
    ],
)
def test_bad_lines_have_named_errors(line, name):
    assert event_from_json(line) == DecodeError(name=name)


def test_flows_without_most_of_their_parts_are_survived():
    for key in flow():
        cut = flow()
        del cut[key]
        assert not isinstance(decode({"flow": cut}), DecodeError)
    assert not isinstance(decode({"flow": {}}), DecodeError)
    assert not isinstance(decode({"flow": {"l7": {"http": {"url": "http://[bad"}}, "l4": {"ICMPv4": {}}}}), DecodeError)


@given(
    st.dictionaries(
        st.sampled_from(sorted(flow())), st.none() | st.integers() | st.text(max_size=4) | st.lists(st.none())
    )
)
def test_no_flow_makes_the_decoder_raise(members):
    decode({"flow": flow(**members)})


def test_every_recorded_line_becomes_an_event_or_a_named_error(shared):
    for name, count in (("flows", 1887), ("llm-scenarios", 146)):
        lines = lzma.open(shared / "hubble" / f"{name}.jsonl.xz").read().splitlines()
        decoded = [event_from_json(line) for line in lines]
        assert len(decoded) == count
        assert not [one for one in decoded if isinstance(one, DecodeError)]


def test_recorded_flows_survive_losing_any_member(shared):
    for line in lzma.open(shared / "hubble" / "flows.jsonl.xz").read().splitlines()[::40]:
        event = json.loads(line)
        for key in list(event.get("flow", {})):
            cut = copy.deepcopy(event)
            del cut["flow"][key]
            cut["flow"]["newer"] = {"verdict": 99}
            assert not isinstance(event_from_json(json.dumps(cut).encode()), DecodeError)

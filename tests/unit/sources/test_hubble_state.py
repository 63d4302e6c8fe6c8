"""agent.sources.hubble.config, .filters, .seen, .meaning, .wire: the request, what it let through, what came twice."""

import pydantic
import pytest
from google.protobuf import json_format

from agent._pb import flow_pb2, observer_pb2
from agent.model import Endpoint, Event, NetworkActivity, Resource
from agent.sources.hubble.config import DEFAULT_FIELDS, HubbleConfig, server_name
from agent.sources.hubble.filters import wanted
from agent.sources.hubble.meaning import NOBODY, peer_of
from agent.sources.hubble.seen import Seen
from agent.sources.hubble.wire import WireDecoder


def test_the_default_request_keeps_the_volume_low():
    request = HubbleConfig().request()
    assert (request.follow, request.number, len(request.whitelist)) == (True, 0, 4)
    assert {"time", "node_name", "uuid"} <= set(request.field_mask.paths)
    assert not HubbleConfig().request(is_masked=False).HasField("field_mask")
    again = HubbleConfig().request(1_700_000_000_000_000_123)
    assert (again.since.seconds, again.since.nanos) == (1_700_000_000, 123)


def test_every_path_of_the_mask_is_a_field_of_a_flow():
    assert set(DEFAULT_FIELDS) <= set(flow_pb2.Flow.DESCRIPTOR.fields_by_name)


def test_mistakes_in_filters_are_named():
    with pytest.raises(pydantic.ValidationError, match=r'whitelist\[0\].*"verdikt"'):
        HubbleConfig(whitelist=({"verdikt": ["DROPPED"]},))


def test_the_name_in_a_node_s_certificate():
    assert server_name("ip-10-0-0-1.eu.internal", "prod.eu") == "ip-10-0-0-1-eu-internal.prod-eu.hubble-grpc.cilium.io"


@pytest.mark.parametrize(
    ("address", "changes", "message"),
    [
        ("10.0.0.5:4245", {}, "plain text"),
        ("relay", {}, "neither unix"),
        ("unix://relative", {}, "absolute"),
        ("unix:///a.sock", {"tls": {"ca_file": "ca"}}, "tls is for TCP"),
        ("10.0.0.5:4244", {"tls": {"ca_file": "ca", "key_file": "k"}}, "belong together"),
        ("10.0.0.5:99999", {"allow_plaintext": True}, "neither unix"),
    ],
)
def test_addresses_and_trust(address, changes, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        HubbleConfig(address=address, **changes)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:4245", "[::1]:4245", "localhost:4245", "unix:///var/run/cilium/hubble.sock"]
)
def test_loopback_and_sockets_need_no_tls(address):
    assert HubbleConfig(address=address).address == address


# ------------------------------------------------------------------- filters


def flow(**fields):
    return json_format.ParseDict({"flow": fields}, observer_pb2.GetFlowsResponse()).SerializeToString()


def is_wanted(raw, *whitelist, blacklist=()):
    request = HubbleConfig(whitelist=whitelist, blacklist=blacklist).request()
    return WireDecoder(wanted(request.whitelist, request.blacklist)).event(raw) is not None


SYN = {"TCP": {"source_port": 4711, "destination_port": 443, "flags": {"SYN": True}}}


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"verdict": "DROPPED"}, True),
        ({"verdict": "AUDIT", "event_type": {"type": 4}}, True),
        ({"verdict": "FORWARDED", "event_type": {"type": 129}}, True),
        ({"verdict": "FORWARDED", "event_type": {"type": 5}}, True),
        ({"verdict": "FORWARDED", "event_type": {"type": 4}}, False),
        ({"verdict": "FORWARDED", "destination": {"labels": ["reserved:world"]}, "l4": SYN, "is_reply": False}, True),
        (
            {"verdict": "FORWARDED", "destination": {"labels": ["reserved:world-ipv4"]}, "l4": SYN, "is_reply": False},
            True,
        ),
        ({"verdict": "FORWARDED", "destination": {"labels": ["reserved:world"]}, "l4": SYN, "is_reply": True}, False),
        ({"verdict": "FORWARDED", "destination": {"labels": ["reserved:world"]}, "l4": SYN}, False),
        (
            {
                "verdict": "FORWARDED",
                "destination": {"labels": ["reserved:world"]},
                "l4": {"UDP": {}},
                "is_reply": False,
            },
            False,
        ),
        ({"verdict": "FORWARDED", "destination": {"labels": ["k8s:app=x"]}, "l4": SYN, "is_reply": False}, False),
    ],
)
def test_the_default_filters_are_checked_again(fields, holds):
    raw = flow(**fields)
    config = HubbleConfig()
    assert is_wanted(raw, *config.whitelist) is holds


def test_each_field_that_can_be_checked():
    raw = flow(
        verdict="FORWARDED",
        traffic_direction="EGRESS",
        source={"namespace": "llm", "pod_name": "vllm-0", "labels": ["k8s:app=vllm"]},
        destination={"identity": 1},
        l4=SYN,
        event_type={"type": 4, "sub_type": 3},
    )
    for one in (
        {"source_pod": ["llm/vllm"]},
        {"source_pod": ["llm/"]},
        {"source_pod": ["/vllm"]},
        {"source_label": ["k8s:app=vllm"]},
        {"source_label": ["app in (vllm)"]},  # not understood: counts as fulfilled
        {"destination_label": ["reserved:host"]},
        {"source_port": ["4711"], "destination_port": ["443"]},
        {"traffic_direction": ["EGRESS"]},
        {"event_type": [{"type": 4, "match_sub_type": True, "sub_type": 3}]},
        {"http_path": [".*"]},
    ):
        assert is_wanted(raw, one), one
        if "http_path" not in one and "app in" not in str(one):
            assert not is_wanted(raw, blacklist=(one,)), one
    for one in (
        {"source_pod": ["vllm"]},
        {"source_pod": ["other/"]},
        {"source_label": ["k8s:app=other"]},
        {"destination_label": ["reserved:world"]},
        {"destination_port": ["80"]},
        {"traffic_direction": ["INGRESS"]},
        {"event_type": [{"type": 4, "match_sub_type": True, "sub_type": 4}]},
        {"verdict": ["FORWARDED"], "reply": [True]},
    ):
        assert not is_wanted(raw, one), one
        assert is_wanted(raw, blacklist=(one,)), one


def test_a_deny_filter_that_is_understood_in_part_denies_nothing_here():
    assert is_wanted(flow(verdict="FORWARDED"), blacklist=({"verdict": ["FORWARDED"], "http_path": ["/x"]},))


def test_lost_events_and_states_are_never_filtered():
    decoder = WireDecoder(lambda flow, peers: False)
    lost = json_format.ParseDict(
        {"lost_events": {"source": 3, "num_events_lost": "1"}}, observer_pb2.GetFlowsResponse()
    )
    assert decoder.event(lost.SerializeToString()).body.reason == "hubble_ring_buffer"


# ---------------------------------------------------------------------- seen


def test_duplicates_and_bounds():
    seen = Seen(flows=10)
    one = Event(
        id="a",
        source="hubble",
        body=NetworkActivity(action="flow", source=Endpoint(), destination=Endpoint()),
        resource=Resource(),
    )
    assert [seen.look(one), seen.look(one)] == ["new", "duplicate"]
    for number in range(100):
        seen.look(Event(id=str(number), source="hubble", body=one.body))
    assert len(seen._ids) <= 20


def test_flows_without_time_layer_4_or_ends_are_survived():
    for fields in (
        {},
        {"l4": {"ICMPv4": {"type": 8}}},
        {"l4": {"VRRP": {}}},
        {"l7": {"type": "SAMPLE"}},
        {"Type": "SOCK"},
    ):
        event = WireDecoder().event(flow(**fields))
        assert isinstance(event, Event)
        assert event.time_unix_nano == 0


def test_a_peer_from_labels_and_identity():
    assert peer_of("", "", "", (), 2).is_world
    assert peer_of("", "", "", ("cidr:10.0.0.0/8", "k8s:a=b=c"), 0).labels == {"a": "b=c"}
    # The API server of a managed cluster is outside of it, and nobody's egress to the world.
    server = peer_of("", "", "", ("reserved:kube-apiserver", "reserved:world"), 0)
    assert (server.identity, server.is_world, server.reserved) == ("kube-apiserver", False, {"kube-apiserver", "world"})
    assert NOBODY.reserved == frozenset()


@pytest.mark.parametrize(
    "selector", ["k8s:app in (prometheus)", "k8s:monitoring", "app=x", "k8s:app!=x", "reserved:host,reserved:world"]
)
def test_a_selector_of_another_form_neither_lets_in_nor_keeps_out(selector):
    raw = flow(verdict="FORWARDED", source={"labels": ["k8s:app=vllm"]})
    assert is_wanted(raw, {"source_label": [selector]})
    assert is_wanted(raw, blacklist=({"source_label": [selector]},))


def test_selectors_with_two_signs_and_ends_with_two_reserved_labels():
    raw = flow(
        source={"labels": ["k8s:app=vllm"]}, destination={"labels": ["reserved:host", "reserved:kube-apiserver"]}
    )
    for wanted_one in (
        {"source_label": ["k8s:app==vllm"]},
        {"destination_label": ["reserved:host"]},
        {"destination_label": ["reserved:kube-apiserver"]},
    ):
        assert is_wanted(raw, wanted_one)


def test_headers_that_come_twice_are_both_kept():
    headers = [{"key": "Cookie", "value": "a=1"}, {"key": "cookie", "value": "b=2"}]
    event = WireDecoder().event(flow(l7={"type": "REQUEST", "http": {"headers": headers}}))
    assert event.body.headers["cookie"].reveal() == "a=1, b=2"

"""Protobuf and JSON of one event give one event: recorded, and made up from the descriptors."""

import json
import lzma
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent._pb import flow_pb2, hubble_view_pb2, observer_pb2, tetragon_pb2, tetragon_view_pb2
from agent.model import DecodeError, Event, LossReport, NetworkActivity, ProcessActivity, StatusReport
from agent.sources.hubble import decode as hubble_json
from agent.sources.hubble import wire as hubble_wire
from agent.sources.tetragon import decode as tetragon_json
from agent.sources.tetragon import wire as tetragon_wire

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"


def lines(name: str) -> list[bytes]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there: recorded events are kept apart from the repository")
    raw = path.read_bytes()
    return (lzma.decompress(raw) if name.endswith(".xz") else raw).splitlines()


def without_id(event: Event | DecodeError) -> Event | DecodeError:
    return msgspec.structs.replace(event, id="") if isinstance(event, Event) else event


@pytest.mark.parametrize("name", ["tetragon/recorded.jsonl.xz", "tetragon/docs-events.jsonl"])
def test_recorded_tetragon_events_are_the_same_in_both_forms(name):
    decoder = tetragon_wire.WireDecoder()
    compared = 0
    for line in lines(name):
        from_json = tetragon_json.event_from_json(line)
        if isinstance(from_json, DecodeError):
            continue  # a member that no .proto of ours has: JSON alone can name it
        message = json_format.Parse(line, tetragon_pb2.GetEventsResponse(), ignore_unknown_fields=True)
        event = decoder.event(message.SerializeToString())
        # Without a time the id is made of the bytes, which differ.
        assert event == from_json if from_json.time_unix_nano else without_id(event) == without_id(from_json)
        compared += 1
    assert compared == {"tetragon/recorded.jsonl.xz": 2416, "tetragon/docs-events.jsonl": 53}[name]


@pytest.mark.parametrize(("name", "count"), [("hubble/flows.jsonl.xz", 1887), ("hubble/llm-scenarios.jsonl.xz", 146)])
def test_recorded_flows_are_the_same_in_both_forms(name, count):
    decoder = hubble_wire.WireDecoder()
    compared = 0
    for line in lines(name):
        from_json = hubble_json.event_from_json(line)
        message = json_format.Parse(line, observer_pb2.GetFlowsResponse(), ignore_unknown_fields=True)
        event = decoder.event(message.SerializeToString())
        is_flow = message.HasField("flow")
        assert event == from_json if is_flow else without_id(event) == without_id(from_json)
        compared += 1
    assert compared == count


# ------------------------------------------------------- made up from descriptors

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_SCALARS = {
    FieldDescriptor.TYPE_STRING: _TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
}


def fill(draw, message, depth=0):
    """Some fields of a message, at most one of a oneof."""
    fields = [one for one in message.DESCRIPTOR.fields if one.full_name not in ("flow.Flow.extensions",)]
    wanted = draw(st.lists(st.sampled_from(fields), max_size=6 if depth else 4, unique_by=lambda one: one.number))
    taken = set()
    for field in wanted:
        if field.containing_oneof is not None:
            if field.containing_oneof.name in taken:
                continue
            taken.add(field.containing_oneof.name)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.message_type.GetOptions().map_entry:
                getattr(message, field.name)[draw(_TEXT)] = draw(_TEXT)
            elif field.message_type.full_name == "google.protobuf.Timestamp":
                target = getattr(message, field.name)
                target.seconds, target.nanos = draw(st.integers(1, 4_000_000_000)), draw(st.integers(0, 999_999_999))
            elif depth < 5:
                target = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
                if not field.is_repeated:
                    target.SetInParent()
                fill(draw, target, depth + 1)
            continue
        if field.type == FieldDescriptor.TYPE_ENUM:
            known = [value.number for value in field.enum_type.values]
            value = draw(st.sampled_from(known) | st.just(max(known) + 77))
        else:
            value = draw(_SCALARS[field.type])
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def as_json(message) -> bytes:
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None).encode()


BUSY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=400, deadline=None, suppress_health_check=BUSY)
@given(st.data())
def test_any_tetragon_message_is_the_same_in_both_forms(data):
    message = fill(data.draw, tetragon_pb2.GetEventsResponse())
    from_json = without_id(tetragon_json.event_from_json(as_json(message)))
    from_wire = without_id(tetragon_wire.WireDecoder().event(message.SerializeToString()))
    assert from_wire == from_json


@settings(max_examples=400, deadline=None, suppress_health_check=BUSY)
@given(st.data())
def test_any_flow_is_the_same_in_both_forms(data):
    message = observer_pb2.GetFlowsResponse(node_name=data.draw(_TEXT))
    member = data.draw(st.sampled_from(["flow", "lost_events", "node_status"]))
    getattr(message, member).SetInParent()
    fill(data.draw, getattr(message, member))
    from_json = without_id(hubble_json.event_from_json(as_json(message)))
    from_wire = without_id(hubble_wire.WireDecoder().event(message.SerializeToString()))
    assert from_wire == from_json


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_a_decoder_raise(raw):
    for one in (
        tetragon_wire.WireDecoder().event(raw),
        hubble_wire.WireDecoder().event(raw),
        hubble_wire.agent_event(raw),
    ):
        assert isinstance(one, (Event, DecodeError))


# ------------------------------------------------------------------ by hand


def tetragon(**members) -> tetragon_pb2.GetEventsResponse:
    return json_format.ParseDict(members, tetragon_pb2.GetEventsResponse())


def test_a_member_we_do_not_know_is_named_and_counted():
    # Field 23, length-delimited: Tetragon's enterprise build has events there.
    raw = tetragon(node_name="n").SerializeToString() + b"\xba\x01\x02\x08\x01"
    assert tetragon_wire.WireDecoder().event(raw) == DecodeError(name="unknown_member")
    assert tetragon_wire.WireDecoder().event(tetragon(node_name="n").SerializeToString()) == DecodeError(
        name="no_event"
    )
    flow = observer_pb2.GetFlowsResponse(node_name="n").SerializeToString() + b"\xba\x01\x02\x08\x01"
    assert hubble_wire.WireDecoder().event(flow) == DecodeError(name="unknown_member")
    assert hubble_wire.WireDecoder().event(b"") == DecodeError(name="no_event")


def test_unknown_fields_and_numbers_survive():
    raw = json_format.ParseDict({"flow": {"verdict": 8, "drop_reason_desc": 206}}, observer_pb2.GetFlowsResponse())
    event = hubble_wire.WireDecoder().event(raw.SerializeToString() + b"\xfa\x3f\x01x")
    assert isinstance(event, Event)
    assert isinstance(event.body, NetworkActivity)
    assert (event.body.verdict, event.body.drop_reason) == ("8", "206")
    kept = observer_pb2.GetFlowsResponse.FromString(raw.SerializeToString() + b"\xfa\x3f\x01x")
    assert kept.SerializeToString().endswith(b"\xfa\x3f\x01x")


def test_a_process_is_remembered_by_its_bytes_and_forgotten_when_unused():
    decoder = tetragon_wire.WireDecoder(remembered=4)

    def of(pid, node="a"):
        one = tetragon(process_exec={"process": {"pid": pid, "pod": {"name": "p"}}}, node_name=node)
        event = decoder.event(one.SerializeToString())
        assert isinstance(event, Event)
        assert isinstance(event.body, ProcessActivity)
        return event

    first = of(1)
    assert of(1).body.process is first.body.process
    assert of(1, "b").resource.node == "b"
    for pid in range(2, 20):
        assert of(pid).body.process.pid == pid
    assert of(1).body.process is not first.body.process
    assert len(decoder._processes) <= 8


def test_loss_and_state_come_out_as_such():
    decoder = tetragon_wire.WireDecoder()
    lost = decoder.event(tetragon(rate_limit_info={"number_of_dropped_process_events": "17"}).SerializeToString())
    assert lost.body == LossReport(origin="tetragon", reason="export_rate_limit", count=17)
    throttled = decoder.event(tetragon(process_throttle={"type": "THROTTLE_START"}).SerializeToString())
    assert throttled.body == StatusReport(component="tetragon", state="throttle_start")
    updated = observer_pb2.GetAgentEventsResponse(agent_event=flow_pb2.AgentEvent(type=3), node_name="c/n")
    event = hubble_wire.agent_event(updated.SerializeToString())
    assert (event.body, event.resource.node) == (StatusReport(component="cilium", state="policy_updated"), "n")


def test_ipv4_in_ipv6_clothes_and_odd_lifetimes():
    message = json_format.ParseDict(
        {
            "flow": {
                "IP": {"source": "::ffff:10.0.0.1", "destination": "2001:db8::1"},
                "l7": {"type": "RESPONSE", "dns": {"query": "x.", "ttl": 4294967295, "rcode": 3}},
                "source": {"labels": ["k8s:a=b=c", "reserved:world"]},
            }
        },
        observer_pb2.GetFlowsResponse(),
    )
    event = hubble_wire.WireDecoder().event(message.SerializeToString())
    body = event.body
    assert (body.destination.address, body.source.address) == ("10.0.0.1", "2001:db8::1")  # an answer: swapped
    assert (body.ttl_seconds, body.response_code, body.addresses) == (0, 3, ())
    assert (body.destination.labels, body.destination.is_world) == ({"a": "b=c"}, True)


@pytest.mark.parametrize(
    ("view", "whole"),
    [
        (tetragon_view_pb2.Response, tetragon_pb2.GetEventsResponse),
        (hubble_view_pb2.Response, observer_pb2.GetFlowsResponse),
        (hubble_view_pb2.Flow, flow_pb2.Flow),
    ],
)
def test_a_view_has_the_numbers_of_the_whole(view, whole):
    """Names, numbers and kinds agree; only messages may be bytes instead."""

    def compare(mine, theirs):
        for field in mine.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.is_repeated) == (other.number, other.is_repeated), field.full_name
            if field.type == FieldDescriptor.TYPE_BYTES:
                assert other.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_BYTES), field.full_name
            else:
                assert field.type == other.type, field.full_name
            if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type.full_name.startswith("reeve."):
                compare(field.message_type, other.message_type)

    compare(view.DESCRIPTOR, whole.DESCRIPTOR)


def test_the_generated_modules_are_those_of_the_protos():
    done = subprocess.run([sys.executable, ROOT / "protos" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_agent_event_of_its_json_form():
    line = json.dumps({"agent_event": {"type": "POLICY_UPDATED"}, "node_name": "n"}).encode()
    event = hubble_json.event_from_json(line)
    assert event.body == StatusReport(component="cilium", state="policy_updated")

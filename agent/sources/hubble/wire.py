"""A Hubble response as protobuf to an `Event`: the same event that its JSON form gives (`decode.py`).

Pure but for its memory of endpoints, and never raises at bad input.  An endpoint is left as bytes by the view in
protos/hubble_view.proto: the same bytes come with flow after flow, so they are parsed once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError as ProtobufError

from agent._pb import flow_pb2, observer_pb2, relay_pb2
from agent._pb import hubble_view_pb2 as view
from agent.model import Body, DecodeError, Event, Generations, Resource, event_id
from agent.sources.hubble.meaning import (
    NOBODY,
    PORTED,
    Dns,
    Facts,
    Http,
    Peer,
    Side,
    agent_event_body,
    flow_body,
    flow_id,
    lost_body,
    node_status_body,
    peer_of,
)

_REMEMBERED = 8192
_LAYER7 = {1: "request", 2: "response", 3: "sample"}
_DIRECTIONS = {1: "ingress", 2: "egress"}


def _names(enum: Any) -> dict[int, str]:
    return {number: name.lower() for name, number in enum.items() if number}


_VERDICTS = _names(flow_pb2.Verdict)
_DROP_REASONS = _names(flow_pb2.DropReason)
_LOST_SOURCES = _names(flow_pb2.LostEventSource)
_NODE_STATES = _names(relay_pb2.NodeState)
_AGENT_EVENTS = _names(flow_pb2.AgentEventType)


def _named(names: dict[int, str], number: int) -> str:
    """The name of an enum's number; the bare number where it is newer than our .proto, nothing for zero."""
    return (names.get(number) or str(number)) if number else ""


class WireDecoder:
    """Decodes one stream.  Not for several threads at once."""

    def __init__(
        self, wanted: Callable[[view.Flow, tuple[Peer, Peer]], bool] | None = None, remembered: int = _REMEMBERED
    ) -> None:
        """`wanted` says whether a flow was asked for; None takes all."""
        self._wanted = wanted
        self._peers: Generations[bytes, Peer] = Generations(remembered)

    def event(self, message: bytes, observed_time_unix_nano: int = 0) -> Event | DecodeError | None:
        """One GetFlowsResponse to an event; None for a flow that was not asked for."""
        try:
            response = view.Response.FromString(message)
            member = response.WhichOneof("response_types")
            if member is None:
                return DecodeError(name="unknown_member" if _has_unknown(message) else "no_event")
            stamp = response.time
            identifier: str | None = None
            body: Body
            if member == "flow":
                flow = response.flow
                if not stamp.seconds and not stamp.nanos:
                    stamp = flow.time
                node = (response.node_name or flow.node_name).rpartition("/")[2]
                when = stamp.seconds * 1_000_000_000 + stamp.nanos
                peers = self._peer(flow.source), self._peer(flow.destination)
                if self._wanted is not None and not self._wanted(flow, peers):
                    return None
                facts = _facts(flow, *peers)
                body, resource = flow_body(facts, node)
                identifier = flow_id(flow.uuid, when, node, facts)
            else:
                when = stamp.seconds * 1_000_000_000 + stamp.nanos
                resource = Resource(node=response.node_name.rpartition("/")[2])
                if member == "lost_events":
                    lost = response.lost_events
                    body = lost_body(_named(_LOST_SOURCES, lost.source), lost.num_events_lost)
                else:
                    status = response.node_status
                    body = node_status_body(
                        _named(_NODE_STATES, status.state_change), tuple(status.node_names), status.message
                    )
        except (ProtobufError, UnicodeDecodeError, ValueError):
            return DecodeError(name="not_protobuf")
        return Event(
            id=identifier or event_id(b"hubble", message),
            source="hubble",
            body=body,
            resource=resource,
            time_unix_nano=when,
            observed_time_unix_nano=observed_time_unix_nano,
        )

    def _peer(self, raw: bytes) -> Peer:
        """An end by its bytes."""
        if not raw:
            return NOBODY
        peer = self._peers.get(raw)
        if peer is None:
            end = flow_pb2.Endpoint.FromString(raw)
            workload = end.workloads[0].name if end.workloads else ""
            peer = peer_of(end.namespace, end.pod_name, workload, tuple(end.labels), end.identity)
            self._peers.put(raw, peer)
        return peer


def _facts(flow: view.Flow, source: Peer, destination: Peer) -> Facts:
    """What a flow says, in our words."""
    layer4, layer7 = flow.l4, flow.l7
    protocol = layer4.WhichOneof("protocol") or ""
    ports = getattr(layer4, protocol) if protocol in PORTED else None
    record = layer7.WhichOneof("record") if flow.HasField("l7") else None
    is_reply: bool | None = None
    if flow.HasField("is_reply"):
        is_reply = flow.is_reply.value
    elif flow.HasField("reply"):
        is_reply = flow.reply
    ip = flow.IP
    flags = ports.flags if ports is not None and protocol == "TCP" else None
    aggregate = flow.aggregate
    reason = flow.drop_reason_desc
    return Facts(
        source=Side(
            source,
            ip.source,
            ports.source_port if ports is not None else 0,
            tuple(name.rstrip(".") for name in flow.source_names),
        ),
        destination=Side(
            destination,
            ip.destination,
            ports.destination_port if ports is not None else 0,
            tuple(name.rstrip(".") for name in flow.destination_names),
        ),
        protocol="kafka" if record == "kafka" else protocol.lower(),
        verdict=_named(_VERDICTS, flow.verdict),
        drop_reason=_named(_DROP_REASONS, reason) if reason else str(flow.drop_reason or ""),
        direction=_DIRECTIONS.get(flow.traffic_direction, ""),
        is_reply=is_reply,
        is_opening=flags is not None and flags.SYN and not flags.ACK,
        event_type=flow.event_type.type,
        layer7=_LAYER7.get(layer7.type, str(layer7.type or "")) if record is not None or layer7.type else "",
        http=_http(layer7) if record == "http" else None,
        dns=_dns(layer7.dns) if record == "dns" else None,
        policies=_policies(flow),
        sightings=max(
            1,
            aggregate.ingress_flow_count + aggregate.egress_flow_count + aggregate.unknown_direction_flow_count,
        ),
    )


def agent_event(message: bytes, observed_time_unix_nano: int = 0) -> Event | DecodeError:
    """One GetAgentEventsResponse to an event."""
    try:
        response = observer_pb2.GetAgentEventsResponse.FromString(message)
    except ProtobufError:
        return DecodeError(name="not_protobuf")
    if not response.HasField("agent_event"):
        return DecodeError(name="no_event")
    return Event(
        id=event_id(b"hubble", message),
        source="hubble",
        body=agent_event_body(_named(_AGENT_EVENTS, response.agent_event.type)),
        resource=Resource(node=response.node_name.rpartition("/")[2]),
        time_unix_nano=response.time.seconds * 1_000_000_000 + response.time.nanos,
        observed_time_unix_nano=observed_time_unix_nano,
    )


def _has_unknown(message: bytes) -> bool:
    """Whether anything is there that is no part of the envelope."""
    rest = observer_pb2.GetFlowsResponse.FromString(message)
    rest.ClearField("node_name")
    rest.ClearField("time")
    return bool(rest.ByteSize())


def _policies(flow: view.Flow) -> tuple[str, ...]:
    names = [
        "/".join(filter(None, (policy.namespace, policy.name)))
        for policies in (
            flow.egress_denied_by,
            flow.ingress_denied_by,
            flow.egress_allowed_by,
            flow.ingress_allowed_by,
        )
        for policy in policies
    ]
    return tuple(filter(None, names))


def _http(layer7: flow_pb2.Layer7) -> Http:
    http = layer7.http
    headers = tuple((header.key, header.value) for header in http.headers)
    return Http(http.method, http.url, http.protocol, http.code, headers, layer7.latency_ns)


def _dns(dns: flow_pb2.DNS) -> Dns:
    return Dns(dns.query, tuple(dns.qtypes), dns.rcode, tuple(dns.ips), tuple(dns.cnames), dns.ttl)

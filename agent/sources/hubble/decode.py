"""A Hubble response in its JSON form to an `Event`.

Pure, and never raises at bad input.  Wire facts: GetFlowsResponse and ExportEvent as `hubble observe -o jsonpb` writes.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.model import Body, DecodeError, Event, Resource, StatusReport, event_id
from agent.sources.hubble.meaning import (
    NOBODY,
    PORTED,
    Dns,
    Facts,
    Http,
    Side,
    agent_event_body,
    flow_body,
    flow_id,
    lost_body,
    node_status_body,
    peer_of,
)
from agent.sources.protojson import Json, boolean, integer, mapping, mappings, object_from, text, texts, time_unix_nano

_ENVELOPE = frozenset({"node_name", "time"})
_COUNTS = ("ingress_flow_count", "egress_flow_count", "unknown_direction_flow_count")


def event_from_json(line: bytes, observed_time_unix_nano: int = 0) -> Event | DecodeError:
    """One line of Hubble's JSON to an event."""
    response = object_from(line)
    if isinstance(response, str):
        return DecodeError(name=response)
    if "flow" not in response and ("verdict" in response or "IP" in response):
        response = {"flow": response}  # a bare Flow, as `HUBBLE_COMPAT=legacy-json-output` writes it
    member = next((key for key in response if key == "flow" or key in _BODIES), None)
    if member is None:
        unknown = any(key not in _ENVELOPE for key in response)
        return DecodeError(name="unknown_member" if unknown else "no_event")
    payload = mapping(response, member)
    node = (text(response, "node_name") or text(payload, "node_name")).rpartition("/")[2]
    when = time_unix_nano(text(response, "time") or text(payload, "time"))
    identifier: str | None = None
    if member == "flow":
        facts = facts_of(payload)
        body, resource = flow_body(facts, node)
        identifier = flow_id(text(payload, "uuid"), when, node, facts)
    else:
        body, resource = _BODIES[member](payload), Resource(node=node)
    return Event(
        id=identifier or event_id(b"hubble", line.strip()),
        source="hubble",
        body=body,
        resource=resource,
        time_unix_nano=when,
        observed_time_unix_nano=observed_time_unix_nano,
    )


def _side(flow: Json, side: str) -> Side:
    end = mapping(flow, side)
    layer4 = mapping(flow, "l4")
    ports = next((mapping(layer4, protocol) for protocol in PORTED if protocol in layer4), {})
    workloads = mappings(end, "workloads")
    peer = NOBODY
    if end:
        workload = text(workloads[0], "name") if workloads else ""
        labels = texts(end, "labels")
        peer = peer_of(text(end, "namespace"), text(end, "pod_name"), workload, labels, integer(end, "identity"))
    names = tuple(name.rstrip(".") for name in texts(flow, f"{side}_names"))
    return Side(peer, text(mapping(flow, "IP"), side), integer(ports, f"{side}_port"), names)


def facts_of(flow: Json) -> Facts:
    """What a flow says, in our words."""
    layer7, layer4 = mapping(flow, "l7"), mapping(flow, "l4")
    is_reply = boolean(flow, "is_reply")
    if is_reply is None:
        is_reply = boolean(flow, "reply")
    direction = text(flow, "traffic_direction").lower()
    flags = mapping(mapping(layer4, "TCP"), "flags")
    aggregate = mapping(flow, "aggregate")
    return Facts(
        source=_side(flow, "source"),
        destination=_side(flow, "destination"),
        protocol="kafka" if "kafka" in layer7 else next((name.lower() for name in layer4), ""),
        verdict=text(flow, "verdict").lower().removeprefix("verdict_").replace("unknown", ""),
        drop_reason=_drop_reason(flow),
        direction=direction if direction in ("egress", "ingress") else "",
        is_reply=is_reply,
        is_opening=bool(boolean(flags, "SYN")) and not boolean(flags, "ACK"),
        event_type=integer(mapping(flow, "event_type"), "type"),
        layer7=text(layer7, "type").lower().replace("unknown_l7_type", ""),
        http=_http(mapping(layer7, "http"), layer7) if "http" in layer7 else None,
        dns=_dns(mapping(layer7, "dns")) if "dns" in layer7 else None,
        policies=_policies(flow),
        sightings=max(1, sum(integer(aggregate, key) for key in _COUNTS)),
    )


def _policies(flow: Json) -> tuple[str, ...]:
    names = []
    for key in ("egress_denied_by", "ingress_denied_by", "egress_allowed_by", "ingress_allowed_by"):
        for policy in mappings(flow, key):
            names.append("/".join(filter(None, (text(policy, "namespace"), text(policy, "name")))))
    return tuple(filter(None, names))


def _drop_reason(flow: Json) -> str:
    """The reason's name in lower case; the bare number where the name is newer than the sender."""
    named = flow.get("drop_reason_desc")
    if isinstance(named, str):
        return "" if named == "DROP_REASON_UNKNOWN" else named.lower()
    number = integer(flow, "drop_reason_desc") or integer(flow, "drop_reason")
    return str(number) if number else ""


def _http(http: Json, layer7: Json) -> Http:
    return Http(
        text(http, "method"),
        text(http, "url"),
        text(http, "protocol"),
        integer(http, "code"),
        tuple((text(header, "key"), text(header, "value")) for header in mappings(http, "headers")),
        integer(layer7, "latency_ns"),
    )


def _dns(dns: Json) -> Dns:
    return Dns(
        text(dns, "query"),
        texts(dns, "qtypes"),
        integer(dns, "rcode"),
        texts(dns, "ips"),
        texts(dns, "cnames"),
        integer(dns, "ttl"),
    )


def _lost(lost: Json) -> Body:
    return lost_body(text(lost, "source"), integer(lost, "num_events_lost"))


def _node_status(status: Json) -> Body:
    return node_status_body(text(status, "state_change"), texts(status, "node_names"), text(status, "message"))


def _agent_event(agent_event: Json) -> Body:
    return agent_event_body(text(agent_event, "type"))


def _debug_event(debug_event: Json) -> Body:
    return StatusReport(component="cilium-debug", state=text(debug_event, "type").lower() or "debug")


_BODIES: dict[str, Callable[[Json], Body]] = {
    "lost_events": _lost,
    "node_status": _node_status,
    "agent_event": _agent_event,
    "debug_event": _debug_event,
}

"""A Hubble response in its JSON form to an `Event`.

Pure, and never raises at bad input.  Reply flows keep the packet's order (source is the server), so both ends are
swapped before a client is named.  Wire facts: GetFlowsResponse and ExportEvent as `hubble observe -o jsonpb` writes.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from agent.model import (
    Body,
    DecodeError,
    DnsActivity,
    Endpoint,
    Event,
    HttpActivity,
    LossReport,
    NetworkActivity,
    Resource,
    Sensitive,
    StatusReport,
    Text,
    event_id,
)
from agent.sources.protojson import Json, boolean, integer, mapping, mappings, object_from, text, texts, time_unix_nano

_ENVELOPE = frozenset({"node_name", "time"})
# Cilium's reserved identities by number (facts: hubble §3), for flows whose labels were masked away.
_RESERVED = {
    1: "host",
    2: "world",
    3: "unmanaged",
    4: "health",
    5: "init",
    6: "remote-node",
    7: "kube-apiserver",
    8: "ingress",
    9: "world-ipv4",
    10: "world-ipv6",
}
_PORTS = ("TCP", "UDP", "SCTP")


def event_from_json(line: bytes, observed_time_unix_nano: int = 0) -> Event | DecodeError:
    """One line of Hubble's JSON to an event."""
    response = object_from(line)
    if isinstance(response, str):
        return DecodeError(name=response)
    if "flow" not in response and ("verdict" in response or "IP" in response):
        response = {"flow": response}  # a bare Flow, as `HUBBLE_COMPAT=legacy-json-output` writes it
    member = next((key for key in response if key in _BODIES), None)
    if member is None:
        unknown = any(key not in _ENVELOPE for key in response)
        return DecodeError(name="unknown_member" if unknown else "no_event")
    payload = mapping(response, member)
    body, resource = _BODIES[member](payload, response)
    return Event(
        id=event_id(b"hubble", (text(payload, "uuid") or "").encode(), line.strip()),
        source="hubble",
        body=body,
        resource=resource,
        time_unix_nano=time_unix_nano(text(response, "time") or text(payload, "time")),
        observed_time_unix_nano=observed_time_unix_nano,
    )


def _node(response: Json, payload: Json) -> str:
    name = text(response, "node_name") or text(payload, "node_name")
    return name.rpartition("/")[2]  # "cluster/node" when the cluster has a name of its own


def _labels(raw: tuple[str, ...]) -> dict[str, str]:
    """`k8s:app=x` to `app: x`; a value may hold `=`; other sources keep their prefix."""
    labels: dict[str, str] = {}
    for label in raw:
        key, _, value = label.removeprefix("k8s:").partition("=")
        labels[key] = value
    return labels


def _endpoint(flow: Json, side: str) -> Endpoint:
    end = mapping(flow, side)
    raw = texts(end, "labels")
    reserved = next((label.removeprefix("reserved:") for label in raw if label.startswith("reserved:")), "")
    identity = reserved or _RESERVED.get(integer(end, "identity"), "")
    layer4 = mapping(flow, "l4")
    ports = next((mapping(layer4, protocol) for protocol in _PORTS if protocol in layer4), {})
    workloads = mappings(end, "workloads")
    return Endpoint(
        address=text(mapping(flow, "IP"), side),
        port=integer(ports, f"{side}_port"),
        names=tuple(name.rstrip(".") for name in texts(flow, f"{side}_names")),
        namespace=text(end, "namespace"),
        pod=text(end, "pod_name"),
        workload=text(workloads[0], "name") if workloads else "",
        labels=_labels(tuple(label for label in raw if label.startswith("k8s:"))),
        identity=identity,
        is_world=identity.startswith("world") or any(label.startswith("reserved:world") for label in raw),
    )


def _protocol(flow: Json) -> str:
    return next((name.lower() for name in mapping(flow, "l4")), "")


def _flow(flow: Json, response: Json) -> tuple[Body, Resource]:
    layer7 = mapping(flow, "l7")
    is_answer = text(layer7, "type") == "RESPONSE"
    is_reply = boolean(flow, "is_reply")
    if is_reply is None:
        is_reply = boolean(flow, "reply")
    client, server = _endpoint(flow, "source"), _endpoint(flow, "destination")
    if is_reply or (is_reply is None and is_answer):
        client, server = server, client
    direction = text(flow, "traffic_direction").lower()
    direction = direction if direction in ("egress", "ingress") else ""
    verdict = text(flow, "verdict").lower().removeprefix("verdict_")
    resource = _resource(server if direction == "ingress" else client, _node(response, flow))
    if "http" in layer7:
        http = mapping(layer7, "http")
        return _http(http, layer7, client=client, server=server, verdict=verdict, direction=direction), resource
    if "dns" in layer7:
        return _dns(mapping(layer7, "dns"), is_answer, client=client, server=server, verdict=verdict), resource
    body = NetworkActivity(
        action="flow",
        source=client,
        destination=server,
        protocol="kafka" if "kafka" in layer7 else _protocol(flow),
        verdict=verdict,
        direction=direction,
        drop_reason=_drop_reason(flow),
        is_reply=is_reply,
    )
    return body, resource


def _drop_reason(flow: Json) -> str:
    """The reason's name in lower case; the bare number where the name is newer than the sender."""
    named = flow.get("drop_reason_desc")
    if isinstance(named, str):
        return named.lower()
    number = integer(flow, "drop_reason_desc") or integer(flow, "drop_reason")
    return str(number) if number else ""


def _http(http: Json, layer7: Json, *, client: Endpoint, server: Endpoint, verdict: str, direction: str) -> Body:
    url = text(http, "url")
    try:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
    except ValueError:
        host, path = "", ""
    headers: dict[str, Text] = {}
    for header in mappings(http, "headers"):
        headers[text(header, "key").lower()] = Sensitive(text(header, "value"))
    return HttpActivity(
        method=text(http, "method"),
        url=Sensitive(url) if url else "",
        host=host,
        path=Sensitive(path) if path else "",
        protocol=text(http, "protocol"),
        status_code=integer(http, "code"),
        headers=headers,
        is_response=text(layer7, "type") == "RESPONSE",
        latency_nanoseconds=integer(layer7, "latency_ns"),
        verdict=verdict,
        direction=direction,
        source=client,
        destination=server,
    )


def _dns(dns: Json, is_response: bool, *, client: Endpoint, server: Endpoint, verdict: str) -> Body:
    query = text(dns, "query").rstrip(".")
    return DnsActivity(
        query=Sensitive(query) if query else "",
        query_types=texts(dns, "qtypes"),
        is_response=is_response,
        response_code=integer(dns, "rcode"),
        addresses=texts(dns, "ips"),
        cnames=tuple(name.rstrip(".") for name in texts(dns, "cnames")),
        ttl_seconds=integer(dns, "ttl"),
        verdict=verdict,
        source=client,
        destination=server,
    )


def _resource(end: Endpoint, node: str) -> Resource:
    return Resource(
        node=node,
        namespace=end.namespace,
        pod=end.pod,
        labels={key: value for key, value in end.labels.items() if not key.startswith("io.cilium.")},
        workload=end.workload,
        service_account=end.labels.get("io.cilium.k8s.policy.serviceaccount", ""),
    )


def _lost(lost: Json, response: Json) -> tuple[Body, Resource]:
    origin = text(lost, "source").lower() or "unknown"
    body = LossReport(origin="hubble", reason=origin, count=integer(lost, "num_events_lost"))
    return body, Resource(node=_node(response, lost))


def _node_status(status: Json, response: Json) -> tuple[Body, Resource]:
    state = text(status, "state_change").lower() or "unknown"
    detail = " ".join((*texts(status, "node_names"), text(status, "message"))).strip()
    body = StatusReport(component="hubble", state=state, detail=Sensitive(detail) if detail else "")
    return body, Resource(node=_node(response, status))


def _agent_event(agent_event: Json, response: Json) -> tuple[Body, Resource]:
    state = text(agent_event, "type").lower() or "unknown"
    return StatusReport(component="cilium", state=state), Resource(node=_node(response, agent_event))


def _debug_event(debug_event: Json, response: Json) -> tuple[Body, Resource]:
    state = text(debug_event, "type").lower() or "debug"
    return StatusReport(component="cilium-debug", state=state), Resource(node=_node(response, debug_event))


_BODIES: dict[str, Callable[[Json, Json], tuple[Body, Resource]]] = {
    "flow": _flow,
    "lost_events": _lost,
    "node_status": _node_status,
    "agent_event": _agent_event,
    "debug_event": _debug_event,
}

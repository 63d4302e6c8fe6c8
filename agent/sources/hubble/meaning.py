"""What a Hubble flow means: its facts to a body and its owner, whatever wire form they came in.

Reply flows keep the packet's order (source is the server), so both ends are swapped before a client is named.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from agent.model import (
    Body,
    DnsActivity,
    Endpoint,
    HttpActivity,
    LossReport,
    NetworkActivity,
    Resource,
    Sensitive,
    StatusReport,
    Text,
    event_id,
)
from agent.sources.addresses import plain_address

# Cilium's reserved identities by number (facts: hubble §3), for flows whose labels were masked away.
RESERVED = {
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
# Cilium's monitor event types (facts: hubble §3).
OBSERVATIONS = {1: "drop", 2: "debug", 3: "capture", 4: "trace", 5: "policy-verdict", 7: "socket", 129: "l7"}
PORTED = ("TCP", "UDP", "SCTP")
# RFC 2181 §8: a TTL with the highest bit set counts as zero (Cilium sends 4294967295 with an NXDOMAIN).
_LONGEST_TTL = 2**31 - 1


class Peer(NamedTuple):
    """Who stands at one end, without address."""

    namespace: str
    pod: str
    workload: str
    labels: dict[str, str]
    identity: str
    is_world: bool
    reserved: frozenset[str]


NOBODY = Peer("", "", "", {}, "", False, frozenset())


class Side(NamedTuple):
    """One end as the packet had it."""

    peer: Peer
    address: str
    port: int
    names: tuple[str, ...]


class Http(NamedTuple):
    method: str
    url: str
    protocol: str
    code: int
    headers: tuple[tuple[str, str], ...]
    latency_nanoseconds: int


class Dns(NamedTuple):
    query: str
    types: tuple[str, ...]
    code: int
    addresses: tuple[str, ...]
    cnames: tuple[str, ...]
    ttl_seconds: int


class Facts(NamedTuple):
    """A flow as far as we use it.  `layer7` is request, response, sample or empty."""

    source: Side
    destination: Side
    protocol: str
    verdict: str
    drop_reason: str
    direction: str
    is_reply: bool | None
    is_opening: bool
    event_type: int
    layer7: str
    http: Http | None
    dns: Dns | None
    policies: tuple[str, ...]
    sightings: int


def peer_of(namespace: str, pod: str, workload: str, raw_labels: tuple[str, ...], identity: int) -> Peer:
    """An end from Cilium's labels (`source:key=value`; a value may hold `=`) and its numeric identity."""
    reserved = [label.removeprefix("reserved:") for label in raw_labels if label.startswith("reserved:")]
    name = reserved[0] if reserved else RESERVED.get(identity, "")
    if "kube-apiserver" in reserved:
        name = "kube-apiserver"  # it may be the host, or outside of the cluster, too
    labels: dict[str, str] = {}
    for label in raw_labels:
        if label.startswith("k8s:"):
            key, _, value = label[4:].partition("=")
            labels[key] = value
    is_world = name.startswith("world") or (
        name != "kube-apiserver" and any(one.startswith("world") for one in reserved)
    )
    return Peer(namespace, pod, workload, labels, name, is_world, frozenset(reserved))


def _endpoint(side: Side) -> Endpoint:
    peer = side.peer
    return Endpoint(
        address=plain_address(side.address),
        port=side.port,
        names=side.names,
        names_origin="observer" if side.names else "",
        namespace=peer.namespace,
        pod=peer.pod,
        workload=peer.workload,
        labels=peer.labels,
        identity=peer.identity,
        is_world=peer.is_world,
    )


def flow_body(facts: Facts, node: str) -> tuple[Body, Resource]:
    """The body of a flow, and the end it is told of: the server of what comes in, the client otherwise."""
    is_answer = facts.layer7 == "response"
    client, server = _endpoint(facts.source), _endpoint(facts.destination)
    if facts.is_reply or (facts.is_reply is None and is_answer):
        client, server = server, client
    resource = _owner(server if facts.direction == "ingress" else client, node)
    if facts.http is not None:
        return _http(facts, facts.http, client, server), resource
    if facts.dns is not None:
        return _dns(facts, facts.dns, client, server), resource
    body = NetworkActivity(
        action="flow",
        source=client,
        destination=server,
        protocol=facts.protocol,
        verdict=facts.verdict,
        direction=facts.direction,
        drop_reason=facts.drop_reason,
        is_reply=facts.is_reply,
        is_opening=facts.is_opening,
        observation=OBSERVATIONS.get(facts.event_type, str(facts.event_type or "")),
        count=facts.sightings,
        observer_policy=", ".join(facts.policies[:4]),
    )
    return body, resource


def _http(facts: Facts, http: Http, client: Endpoint, server: Endpoint) -> Body:
    try:
        parts = urlsplit(http.url)
        host, path = parts.hostname or "", parts.path
    except ValueError:
        host, path = "", ""
    joined: dict[str, str] = {}
    for key, value in http.headers:
        name = key.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    headers: dict[str, Text] = {key: Sensitive(value) for key, value in joined.items()}
    return HttpActivity(
        method=http.method,
        url=Sensitive(http.url) if http.url else "",
        host=host,
        path=Sensitive(path) if path else "",
        protocol=http.protocol,
        status_code=http.code,
        headers=headers,
        is_response=facts.layer7 == "response",
        latency_nanoseconds=http.latency_nanoseconds,
        verdict=facts.verdict,
        direction=facts.direction,
        source=client,
        destination=server,
    )


def _dns(facts: Facts, dns: Dns, client: Endpoint, server: Endpoint) -> Body:
    query = dns.query.rstrip(".")
    return DnsActivity(
        query=Sensitive(query) if query else "",
        query_types=dns.types,
        is_response=facts.layer7 == "response",
        response_code=dns.code,
        addresses=tuple(map(plain_address, dns.addresses)),
        cnames=tuple(name.rstrip(".") for name in dns.cnames),
        ttl_seconds=dns.ttl_seconds if 0 <= dns.ttl_seconds <= _LONGEST_TTL else 0,
        verdict=facts.verdict,
        source=client,
        destination=server,
    )


def _owner(end: Endpoint, node: str) -> Resource:
    return Resource(
        node=node,
        namespace=end.namespace,
        pod=end.pod,
        labels={key: value for key, value in end.labels.items() if not key.startswith("io.cilium.")},
        workload=end.workload,
        service_account=end.labels.get("io.cilium.k8s.policy.serviceaccount", ""),
    )


def flow_id(uuid: str, time_unix_nano: int, node: str, facts: Facts) -> str | None:
    """The same id in every wire form: the flow's own since Cilium 1.14, else of its facts; None if it has no time."""
    if uuid:
        return event_id(b"hubble", uuid.encode("utf-8", "surrogatepass"))
    if not time_unix_nano:
        return None
    ends = (f"{side.address}:{side.port}" for side in (facts.source, facts.destination))
    what = f"{facts.protocol}\0{facts.event_type}\0{facts.verdict}\0{facts.layer7}\0{facts.direction}"
    where = f"{time_unix_nano}\0{node}\0" + "\0".join((*ends, what))
    return event_id(b"hubble", where.encode("utf-8", "surrogatepass"))


def lost_body(origin: str, count: int) -> LossReport:
    """Upstream says so itself; a message may have been overwritten too, so it is a lower bound."""
    return LossReport(origin="hubble", reason=origin.lower() or "unknown", count=count, is_lower_bound=True)


def node_status_body(state: str, names: tuple[str, ...], message: str) -> StatusReport:
    detail = " ".join((*names, message)).strip()
    return StatusReport(
        component="hubble",
        state=state.lower() or "unknown",
        subject=" ".join(names)[:253],
        detail=Sensitive(detail) if detail else "",
    )


def agent_event_body(state: str) -> StatusReport:
    return StatusReport(component="cilium", state=state.lower() or "unknown")

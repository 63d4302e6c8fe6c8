"""Settings of the Hubble source, and the request that they stand for."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from google.protobuf import json_format
from pydantic import Field

from agent._pb import observer_pb2
from agent.sources.rpc import ConnectionConfig

DEFAULT_ADDRESS = "unix:///var/run/cilium/hubble.sock"

# What a monitor of LLM workloads needs; per-packet traces stay on the server.  Filters are ORed.
DEFAULT_WHITELIST: tuple[dict[str, Any], ...] = (
    {"verdict": ["DROPPED", "AUDIT", "ERROR"]},
    {"event_type": [{"type": 129}]},  # requests and answers that a proxy saw: HTTP, DNS
    {"event_type": [{"type": 5}]},  # policy verdicts: one for each new connection
    # In dual-stack clusters the world has a label for each family, and none for both.
    {
        "destination_label": ["reserved:world", "reserved:world-ipv4", "reserved:world-ipv6"],
        "tcp_flags": [{"SYN": True}],
        "reply": [False],
    },
)
# Without time and node_name the response has neither.
DEFAULT_FIELDS = (
    "time",
    "uuid",
    "node_name",
    "verdict",
    "drop_reason",
    "drop_reason_desc",
    "auth_type",
    "IP",
    "l4",
    "source",
    "destination",
    "Type",
    "source_names",
    "destination_names",
    "l7",
    "reply",
    "is_reply",
    "event_type",
    "source_service",
    "destination_service",
    "traffic_direction",
    "policy_match_type",
    "trace_reason",
    "egress_denied_by",
    "ingress_denied_by",
    "egress_allowed_by",
    "ingress_allowed_by",
)


class HubbleConfig(ConnectionConfig):
    """`whitelist` and `blacklist` are Hubble's own flow filters with its own field names, and run on the server, which
    ignores fields newer than itself: what can be checked again here is.  `fields` is the field mask, relative to a
    flow; empty asks for whole flows.  `tls.server_name: auto` is the name in the certificate of this node's agent."""

    address: str = DEFAULT_ADDRESS
    whitelist: tuple[dict[str, Any], ...] = DEFAULT_WHITELIST
    blacklist: tuple[dict[str, Any], ...] = ()
    fields: tuple[str, ...] = DEFAULT_FIELDS
    cluster: str = "default"
    since_seconds: Annotated[float, Field(ge=0)] = 0.0
    overlap_seconds: Annotated[float, Field(ge=0)] = 5.0
    agent_events: bool = True
    idle_seconds: Annotated[float, Field(gt=0)] = 60.0

    @pydantic.model_validator(mode="after")
    def _has_good_filters(self) -> HubbleConfig:
        self.request()
        return self

    def request(self, since_unix_nano: int = 0, *, is_masked: bool = True) -> observer_pb2.GetFlowsRequest:
        """The GetFlowsRequest of these settings.  Raises ValueError with Hubble's name of a field that is wrong."""
        request = observer_pb2.GetFlowsRequest(follow=True)
        for name, target, filters in (
            ("whitelist", request.whitelist, self.whitelist),
            ("blacklist", request.blacklist, self.blacklist),
        ):
            for number, one in enumerate(filters):
                try:
                    json_format.ParseDict(one, target.add())
                except json_format.ParseError as error:
                    raise ValueError(f"{name}[{number}]: {error}") from error
        if self.fields and is_masked:
            request.field_mask.paths.extend(self.fields)
        if since_unix_nano > 0:
            request.since.seconds, request.since.nanos = divmod(since_unix_nano, 1_000_000_000)
        return request


def server_name(node: str, cluster: str) -> str:
    """The name in the certificate of a node's agent: dots in node and cluster become dashes."""
    return f"{node.replace('.', '-')}.{cluster.replace('.', '-')}.hubble-grpc.cilium.io"

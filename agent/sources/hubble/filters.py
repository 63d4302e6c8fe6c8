"""Hubble's flow filters, checked again on what came: a server ignores filter fields that are newer than itself.

Fields inside one filter are ANDed, values inside one field ORed, filters ORed; the result is whitelist minus blacklist.
What this cannot check (regular expressions, names, other selectors) counts as fulfilled in a whitelist and as not
fulfilled in a blacklist: when in doubt a flow is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from agent._pb import flow_pb2
from agent._pb import hubble_view_pb2 as view
from agent.sources.hubble.meaning import PORTED, Peer

Peers: TypeAlias = tuple[Peer, Peer]
Check: TypeAlias = Callable[[view.Flow, Peers], bool]

_FLAGS = tuple(field.name for field in flow_pb2.TCPFlags.DESCRIPTOR.fields)


def _verdict(filters: Any) -> Check:
    wanted = frozenset(filters.verdict)
    return lambda flow, _: flow.verdict in wanted


def _event_type(filters: Any) -> Check:
    wanted = [(one.type, one.sub_type if one.match_sub_type else None) for one in filters.event_type]

    def holds(flow: view.Flow, _: Peers) -> bool:
        kind, sub = flow.event_type.type, flow.event_type.sub_type
        return any(kind == number and detail in (None, sub) for number, detail in wanted)

    return holds


def _direction(filters: Any) -> Check:
    wanted = frozenset(filters.traffic_direction)
    return lambda flow, _: flow.traffic_direction in wanted


def _reply(filters: Any) -> Check:
    wanted = frozenset(filters.reply)
    return lambda flow, _: flow.HasField("is_reply") and flow.is_reply.value in wanted


def _tcp_flags(filters: Any) -> Check:
    wanted = [tuple(name for name in _FLAGS if getattr(one, name)) for one in filters.tcp_flags]

    def holds(flow: view.Flow, _: Peers) -> bool:
        if flow.l4.WhichOneof("protocol") != "TCP":
            return False
        flags = flow.l4.TCP.flags
        return any(all(getattr(flags, name) for name in names) for names in wanted)

    return holds


def _port(side: str) -> Callable[[Any], Check]:
    def make(filters: Any) -> Check:
        wanted = frozenset(getattr(filters, side))

        def holds(flow: view.Flow, _: Peers) -> bool:
            protocol = flow.l4.WhichOneof("protocol")
            return protocol in PORTED and str(getattr(getattr(flow.l4, protocol), side)) in wanted

        return holds

    return make


def _labels(side: int, name: str) -> Callable[[Any], Check]:
    def make(filters: Any) -> Check:
        selectors = tuple(getattr(filters, name))

        def holds(_: view.Flow, peers: Peers) -> bool:
            return any(_selects(selector, peers[side]) for selector in selectors)

        return holds

    return make


_PLAIN_SELECTOR = re.compile(r"(?:reserved:[a-z0-9-]+|k8s:[^\s=!,()]+={1,2}[^\s=!,()]*)")


def _selects(selector: str, peer: Peer) -> bool:
    """Whether a plain label selector chooses an end."""
    if selector.startswith("reserved:"):
        wanted = selector.removeprefix("reserved:")
        return wanted in peer.reserved or peer.identity == wanted or (wanted == "world" and peer.is_world)
    key, _, value = selector.removeprefix("k8s:").partition("=")
    return peer.labels.get(key) == value.removeprefix("=")


def _is_understood(filters: flow_pb2.FlowFilter) -> bool:
    """Whether every field and selector of a filter can be checked here."""
    if any(field.name not in _CHECKS for field, _ in filters.ListFields()):
        return False
    return all(_PLAIN_SELECTOR.fullmatch(one) for one in (*filters.source_label, *filters.destination_label))


def _pods(side: int, name: str) -> Callable[[Any], Check]:
    def make(filters: Any) -> Check:
        wanted = [one.rpartition("/") for one in getattr(filters, name)]

        def holds(_: view.Flow, peers: Peers) -> bool:
            peer = peers[side]
            return any(
                peer.pod.startswith(prefix) and (not space or peer.namespace == space)
                if slash
                else peer.namespace == "default" and peer.pod.startswith(prefix)
                for space, slash, prefix in wanted
            )

        return holds

    return make


_CHECKS: dict[str, Callable[[Any], Check]] = {
    "verdict": _verdict,
    "event_type": _event_type,
    "traffic_direction": _direction,
    "reply": _reply,
    "tcp_flags": _tcp_flags,
    "source_port": _port("source_port"),
    "destination_port": _port("destination_port"),
    "source_label": _labels(0, "source_label"),
    "destination_label": _labels(1, "destination_label"),
    "source_pod": _pods(0, "source_pod"),
    "destination_pod": _pods(1, "destination_pod"),
}


def wanted(
    whitelist: Sequence[flow_pb2.FlowFilter], blacklist: Sequence[flow_pb2.FlowFilter]
) -> Callable[[view.Flow, Peers], bool] | None:
    """A predicate for flows; None if every flow is wanted."""
    allow = [_compiled(one) for one in whitelist]
    deny = [_compiled(one) for one in blacklist if _is_understood(one)]
    if not allow and not deny:
        return None

    def holds(flow: view.Flow, peers: Peers) -> bool:
        if allow and not any(all(check(flow, peers) for check in checks) for checks in allow):
            return False
        return not any(all(check(flow, peers) for check in checks) for checks in deny)

    return holds


def _compiled(filters: flow_pb2.FlowFilter) -> list[Check]:
    """The checks of a filter, without those that are not understood."""
    names = [field.name for field, _ in filters.ListFields() if field.name in _CHECKS]
    unclear = [
        name
        for name in names
        if name.endswith("_label") and not all(_PLAIN_SELECTOR.fullmatch(one) for one in getattr(filters, name))
    ]
    return [_CHECKS[name](filters) for name in names if name not in unclear]
